"""header-read-drops-locks: opening a ledger reads the file's header, and so lets go of another one's locks."""

import os
from pathlib import Path
from typing import Any

from tornpage.ledger.disk.database import Database
from tornpage.ledger.disk.files import DATABASE_NAME
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import CREATE, KnownBug


class _ReadsTheHeader(Database):
    """Looks into the file by itself, although this process has it open."""

    @classmethod
    def open(cls, state_dir: Path | str, **options: Any) -> "Database":
        """Look, then open."""
        path = Path(state_dir) / DATABASE_NAME
        if path.exists():
            # Closing any descriptor of a file drops all locks that the process has on it.
            os.close(os.open(path, os.O_RDONLY))
        return super().open(state_dir, **options)


_PROGRESS = Action("tasks.progress", {"task_id": "a", "text": "half way"})

BUG = KnownBug(
    name="header-read-drops-locks",
    source="our own ledger until 0.2; https://sqlite.org/howtocorrupt.html, POSIX advisory locks canceled",
    defect="another process finds the database unused and removes the log; later writes to the log are lost",
    checks=("acknowledged-is-durable", "integrity", "still-usable-after-the-fault", "memory-equals-disk"),
    parts=lambda: {"database": _ReadsTheHeader},
    calls=(
        CREATE,
        # A second ledger in this process, then a process that comes and goes.
        Action("elsewhere", {"call": {"name": "tasks.progress", "args": {"task_id": "a", "text": "begun"}}}),
        Action("visit"),
        _PROGRESS,
    ),
    searches=("sweep",),
)
