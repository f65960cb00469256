"""given-up-is-imported: an import takes over the directories below the old queue, too."""

import os
from pathlib import Path

from tornpage.ledger.outbox import ImportReport, Outbox
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug


class _GoesDeeper(Outbox):
    """Imports each directory that it comes to."""

    def import_legacy(self, directory: str | os.PathLike[str]) -> ImportReport:
        for below in sorted(one for one in Path(directory).iterdir() if one.is_dir()):
            super().import_legacy(below)
        return super().import_legacy(directory)


BUG = KnownBug(
    name="given-up-is-imported",
    source="a reviewer of this project",
    defect="messages that the old queue had given up long ago are sent after the upgrade",
    checks=("as-specified",),
    parts=lambda: {"outbox": _GoesDeeper},
    calls=(
        Action(
            "legacy_file",
            {"name": "old.json", "content": {"id": "old", "channel": "mail", "to": "you"}, "kind": "below"},
        ),
        Action("outbox.import_legacy", {}),
    ),
    searches=("sweep",),
)
