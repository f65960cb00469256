"""import-into-memory: the files of the old queue are taken over into a database that ends with the process."""

from tornpage.ledger.outbox import Outbox
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug


class _ImportsAnywhere(Outbox):
    """Imports into whatever there is."""

    def _refuse_import_in_memory(self) -> None:
        """Refuse nothing."""


BUG = KnownBug(
    name="import-into-memory",
    source="openclaw PR 29998, review",
    defect="the files are removed though the database is in memory: with the process all messages are gone",
    checks=("no-lost-message",),
    parts=lambda: {"outbox": _ImportsAnywhere},
    calls=(
        Action("legacy_file", {"name": "old.json", "content": {"id": "old", "channel": "mail", "to": "you"}}),
        Action("memory.import_legacy"),
    ),
    searches=("sweep",),
)
