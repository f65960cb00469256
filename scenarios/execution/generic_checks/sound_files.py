"""The databases in which SQLite's own checks have just found nothing: equal bytes are not checked again.

Most faults in one call leave one of a few states, and a step that changes nothing leaves the state that was checked
after the one before. SQLite's checks depend on what a reader sees: the database, its log, and how much of the log is
valid, which the header in the shared memory says. All of that is compared, byte for byte.

Not remembered: damage, files above a mebibyte, and files beside a journal with content, which SQLite rolls back or not
depending on locks.
"""

import os
from pathlib import Path
from typing import Final

from tornpage.scenarios.execution.snapshots import Holder

# Database, log, and the header of the shared memory.
Content = tuple[bytes, bytes, bytes]

_MOST_BYTES: Final = 2**20
_MOST_REMEMBERED: Final = 32
# The database's header holds the change counter, which tells most states apart.
_HEADER_BYTES: Final = 100
# Two copies of the header of the shared memory, and the number of pages that are in the database already.
_SHARED_BYTES: Final = 100


class SoundFiles:
    """The last few contents without damage, found by what tells them apart."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, bytes, int, bytes], Content] = {}

    def __contains__(self, content: Content) -> bool:
        """Whether SQLite's checks found nothing in these bytes."""
        return self._known.get(_key(content)) == content

    def add(self, content: Content) -> None:
        """Remember that they found nothing."""
        key = _key(content)
        self._known.pop(key, None)
        if len(self._known) >= _MOST_REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[key] = content


def _key(content: Content) -> tuple[int, bytes, int, bytes]:
    """A short key: to hash all bytes would cost as much as SQLite's checks."""
    database, log, shared = content
    return len(database), database[:_HEADER_BYTES], len(log), shared


def content_of(database: Path, holder: Holder) -> Content | None:
    """What a reader sees of a database that a session has open; None if that does not depend on these bytes alone."""
    path = os.fspath(database)
    # As SQLite decides it: one whose first byte is zero is not rolled back.
    if holder.read(path + "-journal", 1).strip(b"\0"):
        return None
    content = holder.read(path), holder.read(path + "-wal"), holder.read(path + "-shm", _SHARED_BYTES)
    return content if content[0] and len(content[0]) + len(content[1]) <= _MOST_BYTES else None
