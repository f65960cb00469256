"""json-rename-without-fsync: the new file is renamed over the old one before anybody has synced it."""

import tempfile
from pathlib import Path

from tornpage.ledger.stores.json_snapshot import JsonSnapshotStore
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.libraries.json_file import JsonFile


class _Unsynced(JsonSnapshotStore):
    """Writes beside, renames, and leaves the rest to luck."""

    def _replace(self, content: bytes) -> None:
        with tempfile.NamedTemporaryFile(dir=self.path.parent, delete=False) as file:
            file.write(content)
        Path(file.name).replace(self.path)


BUG = KnownBug(
    name="json-rename-without-fsync",
    source="the zero-length files of ext4's delayed allocation: https://lwn.net/Articles/322823/",
    defect="after a power cut the file is the old one, or an empty one: acknowledged tasks are gone",
    checks=("acknowledged-is-durable", "integrity"),
    make=lambda name: JsonFile(name, _Unsynced),
    searches=("crash",),
)
