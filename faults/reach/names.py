"""Which files belong to a database that was opened here: by the pointers that SQLite itself uses as their names.

SQLite's pager keeps the names of a database, its journal and its log in one piece of memory, one after the other, with
the parameters of the URI in between (``pager.c``, `sqlite3PagerOpen`), and hands these very pointers to the VFS each
time (that is what ``sqlite3_uri_parameter`` relies on in an ``xOpen``). So the pointers of the journal and of the log
are known as soon as the database is opened.

Not told apart: files without a name, and super-journals, which have a name of their own. Where the journal's name does
not follow the database's (a VFS that copies names), the paths decide.
"""

import ctypes
import os
from typing import Final

# More parameters than this has no URI; the search for the journal's name must have an end.
_MOST_STRINGS: Final = 64
_SUFFIXES: Final = ("-journal", "-wal")


class Names:
    """The names of the databases that are open, with those of their journals and logs."""

    def __init__(self) -> None:
        self._beside: dict[int, int] = {}
        self._of_file: dict[int, tuple[int, ...]] = {}
        # The journals and logs of databases of which only the path is known, by how many have it open.
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
        """A file was closed; not every one is a database."""
        for address in self._of_file.pop(file, ()):
            if self._beside.get(address) == file:
                del self._beside[address]
        path = self._path_of_file.pop(file, None)
        if path is not None:
            self._by_path[path] -= 1
            if not self._by_path[path]:
                del self._by_path[path]

    def belongs(self, name: int | None, path: str | None) -> bool:
        """Whether a journal or a log is one of a database that is open."""
        if name in self._beside:
            return True
        return path is not None and any(path.removesuffix(one) in self._by_path for one in _SUFFIXES)


def _beside(name: int) -> tuple[int, ...]:
    """The addresses of the names of a database's journal and log; none where they don't follow its own."""
    database = ctypes.string_at(name)
    address = name + len(database) + 1
    for _ in range(_MOST_STRINGS):
        # No further than the name that is looked for: what lies behind it may be anything.
        found = ctypes.string_at(address)
        if found == database + b"-journal":
            return address, address + len(found) + 1
        address += len(found) + 1
    return ()
