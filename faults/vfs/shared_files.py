"""Databases that two SQLite libraries of this process have open at once.

The system grants POSIX locks to a process, and a library that closes a file releases them all: each of the two takes
away the other one's locks, and what they read or write then is wrong without any fault. `opened` is called with every
database that a library opens; `shared` collects those that another library had open at that moment.

Not covered: connections past the shim, which the harness opens in the holder's own VFS.
"""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple


class SharedFile(NamedTuple):
    """A database, the library that had it open, and the one that opened it beside that."""

    path: str
    holder: str
    opener: str

    def __str__(self) -> str:
        return (
            f"{self.path.rpartition('/')[2]} was opened with {self.opener} while {self.holder} had it open: two copies "
            "of SQLite in one process release each other's locks; open it with one of them everywhere"
        )


_collecting: list[list[SharedFile]] = []


@contextlib.contextmanager
def shared() -> Iterator[list[SharedFile]]:
    """Collect the files that two libraries have open at once, inside this scope."""
    found: list[SharedFile] = []
    _collecting.append(found)
    try:
        yield found
    finally:
        # By identity: two scopes that found the same are equal.
        _collecting[:] = [one for one in _collecting if one is not found]


def opened(path: str, opener: str, holders: Iterator[str]) -> None:
    """Take in a database that a library has opened, and the other libraries that had it open."""
    for holder in holders if _collecting else ():
        for found in _collecting:
            found.append(SharedFile(path, holder, opener))
