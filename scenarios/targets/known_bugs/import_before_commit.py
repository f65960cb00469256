"""import-before-commit: a file of the old queue is removed before its message is committed."""

from pathlib import Path

from tornpage.ledger.outbox import Outbox, legacy
from tornpage.ledger.outbox.outbox import ImportProblem
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug


class _RemovesFirst(Outbox):
    """Removes a file as soon as it has been read."""

    def _import_file(self, path: Path, counts: dict[str, int]) -> ImportProblem | None:
        file = legacy.read(path, now=self._clock())
        problem = self._remove_imported(file)
        counts["removed"] += problem is None
        verdict = self._store_imported(file)
        if verdict != "conflict":
            counts[verdict] += 1
        return problem


BUG = KnownBug(
    name="import-before-commit",
    source="openclaw PR 29998, review",
    defect="the commit fails, and the message is neither in a file nor in the outbox",
    # The import that is made again finds no file, and is acknowledged without the message.
    checks=("no-lost-message", "acknowledged-is-durable"),
    parts=lambda: {"outbox": _RemovesFirst},
    calls=(
        Action("legacy_file", {"name": "old.json", "content": {"id": "old", "channel": "mail", "to": "you"}}),
        Action("outbox.import_legacy"),
    ),
)
