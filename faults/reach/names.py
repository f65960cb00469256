"""Detects which journals and logs belong to a database that was opened under the shim, by SQLite's own name pointers.

SQLite's pager keeps the names of a database, its journal and its log in one block of memory, one after the other, with
the URI parameters in between (``pager.c``, `sqlite3PagerOpen`). It passes these same pointers to the VFS at each call
(``sqlite3_uri_parameter`` relies on that in an ``xOpen``). So the pointers of the journal and the log are known as soon
as the database is opened.

Not distinguished: files without a name, and super-journals, whose names are stored elsewhere. If the journal's name
does not follow the database's (a VFS that copies names), the paths decide; so they do for a journal whose own name
was copied (`OpenFiles.is_ours`).
"""

import ctypes
import os
from typing import Final

# No URI has more parameters than this; the search for the journal's name needs a limit.
_MOST_STRINGS: Final = 64
_SUFFIXES: Final = ("-journal", "-wal")


class Names:
    """The name pointers of the journals and logs of all open databases."""

    def __init__(self) -> None:
        self._beside: dict[int, int] = {}
        self._of_file: dict[int, tuple[int, ...]] = {}
        # Databases whose journal pointers are unknown: how many connections have each path open.
        self._by_path: dict[str, int] = {}
        self._path_of_file: dict[int, str] = {}

    def opened(self, file: int, name: int | None) -> None:
        """A database was opened under this name."""
        if name is None:
            return
        found = _beside(name)
        if found:
            self._of_file[file] = found
            for address in found:
                self._beside[address] = file
        else:
            path = os.fsdecode(ctypes.string_at(name))
            self._path_of_file[file] = path
            self._by_path[path] = self._by_path.get(path, 0) + 1

    def closed(self, file: int) -> None:
        """A file was closed; it need not be a database."""
        for address in self._of_file.pop(file, ()):
            if self._beside.get(address) == file:
                del self._beside[address]
        path = self._path_of_file.pop(file, None)
        if path is not None:
            self._by_path[path] -= 1
            if not self._by_path[path]:
                del self._by_path[path]

    def belongs(self, name: int | None, path: str | None) -> bool:
        """Whether a journal or a log belongs to an open database."""
        if name in self._beside:
            return True
        return path is not None and any(path.removesuffix(one) in self._by_path for one in _SUFFIXES)


def _beside(name: int) -> tuple[int, ...]:
    """The addresses of the names of a database's journal and log; empty if they don't follow the database's name."""
    database = ctypes.string_at(name)
    address = name + len(database) + 1
    for _ in range(_MOST_STRINGS):
        # Read no further than the journal's name: the memory behind it may hold anything.
        found = ctypes.string_at(address)
        if found == database + b"-journal":
            return address, address + len(found) + 1
        address += len(found) + 1
    return ()
