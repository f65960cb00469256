"""The files that a library has open, as its shim sees them: by SQLite's address, with their paths, roles and owners."""

import contextlib
import os
from collections.abc import Callable
from typing import Final

from tornpage.faults.reach.names import Names

_OPEN_ROLES: Final = (
    (0x100, "db"), (0x80000, "wal"), (0x800, "journal"), (0x4000, "super"), (0x7600, "temp"),
)  # fmt: skip
_SUFFIX_ROLES: Final = (("-wal", "wal"), ("-journal", "journal"))
# Files beside a database, which belong to the connection that has it open.
BESIDE: Final = frozenset({"wal", "journal"})


def role_of_flags(flags: int) -> str:
    """The role of a file that SQLite opens, by the flags of ``xOpen``."""
    for flag, role in _OPEN_ROLES:
        if flags & flag:
            return role
    return "temp"


def role_of_path(path: str | None) -> str:
    """The role of a file that SQLite deletes or looks up by name only."""
    if path is None:
        return "temp"
    for suffix, role in _SUFFIX_ROLES:
        if path.endswith(suffix):
            return role
    return "super" if "-mj" in path.rsplit(os.sep, 1)[-1] else "db"


class OpenFiles:
    """The open files of one library.

    Attributes: `paths`, by SQLite's address; `handles`, the addresses of the databases among them; `databases`, every
    one that was ever opened, with its VFS.
    """

    def __init__(self) -> None:
        self.paths: dict[int, str | None] = {}
        self.databases: dict[str, str] = {}
        # Device and inode of each open database, by the same address: another file can take over its path.
        self._identities: dict[int, tuple[int, int]] = {}
        self._names = Names()
        self._supers: set[int] = set()
        self.handles: set[int] = set()

    def opened(self, file: int, name: int | None, path: str | None, role: str, vfs_name: str) -> tuple[int, int] | None:
        """Record a file that was opened; return a database's device and inode."""
        self.paths[file] = path
        if role == "super":
            self._supers.add(file)
        elif role == "db":
            self._names.opened(file, name)
            if path is not None:
                self.databases[path] = vfs_name
                self.handles.add(file)
                with contextlib.suppress(OSError):
                    status = os.stat(path)  # noqa: PTH116 - on a hot path
                    self._identities[file] = status.st_dev, status.st_ino
        return self._identities.get(file)

    def closed(self, file: int) -> None:
        """Forget a file: SQLite reuses addresses."""
        self.paths.pop(file, None)
        self._identities.pop(file, None)
        self._supers.discard(file)
        self.handles.discard(file)
        self._names.closed(file)

    def is_ours(self, name: int | None, path: str | None, are_copied: Callable[[], bool]) -> bool:
        """Whether a journal or a log belongs to a connection that was opened under this shim.

        While a super-journal is open here, SQLite deletes journals by names that it read from it: they count as ours.
        If a VFS of the program may have copied the name (`are_copied`), the path decides.
        """
        if self._supers or self._names.belongs(name, path):
            return True
        beside = {f"{one}{suffix}" for one in self.open_databases() for suffix, _ in _SUFFIX_ROLES}
        return path in beside and are_copied()

    def has(self, identity: tuple[int, int]) -> bool:
        """Whether a database of this device and inode is open."""
        return identity in self._identities.values()

    def open_databases(self) -> set[str]:
        """The paths of the databases that are open."""
        return {path for file in tuple(self.handles) if (path := self.paths.get(file)) is not None}
