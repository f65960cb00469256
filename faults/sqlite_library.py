"""The SQLite that Python's ``sqlite3`` runs on: the one it was linked to, or the one that ``TORNPAGE_SQLITE`` names.

The variable holds the name of a package that contains a build of SQLite (``pysqlite3``), or the path of a shared
library. That library is loaded globally (RTLD_GLOBAL) before ``sqlite3``: the dynamic linker then binds ``sqlite3`` to
it, and the unmodified code under test runs on it, with all error codes that Python knows. So ``faults`` imports this
module first. Child processes inherit the variable.

All code of this package and of the harness takes `sqlite3` from this module: Python's own, even if a program has
replaced it by another binding (``sys.modules["sqlite3"] = pysqlite3``), before or after this import.

Not covered: systems whose linker looks up a function in one named library (macOS, Windows), and a Python with SQLite
built in. There, and if ``sqlite3`` was imported earlier, an ImportError is raised.
"""

import ctypes
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

VARIABLE: Final = "TORNPAGE_SQLITE"


def choose(name: str) -> None:
    """Make ``sqlite3`` run on this package's or library's SQLite; raises ImportError with the reason if it can't."""
    if "_sqlite3" not in sys.modules:
        library = ctypes.CDLL(str(_file_of(name)), mode=ctypes.RTLD_GLOBAL)
    else:
        # The program may have chosen the same library before it imported sqlite3.
        library = ctypes.CDLL(None)
    try:
        version = library.sqlite3_libversion
    except AttributeError:
        raise ImportError(
            f"{VARIABLE} is {name!r}, and sqlite3 was imported before it could be heeded: import tornpage.faults first"
            if "_sqlite3" in sys.modules
            else f"{VARIABLE} is {name!r}, which does not export SQLite's functions"
        ) from None
    version.restype = ctypes.c_char_p
    found = importlib.import_module("sqlite3").sqlite_version
    if found != version().decode():
        raise ImportError(f"{VARIABLE} is {name!r}, but sqlite3 stays with SQLite {found}: it can't be rebound here")


def _file_of(name: str) -> Path:
    """The shared library: the path itself, or the extension module of a package."""
    if os.sep in name:
        return Path(name)
    found = importlib.util.find_spec(name)
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        for file in sorted(Path(folder).glob("_sqlite3*.so")):
            return file
    raise ImportError(f"{VARIABLE} is {name!r}: no package of this name with a SQLite of its own is installed")


if name := os.environ.get(VARIABLE):
    choose(name)


def _own() -> ModuleType:
    """Python's own module, even if `sys.modules` has another one under its name."""
    mine = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "sqlite3"}
    if all(getattr(module, "__name__", name) == name for name, module in mine.items()):
        return importlib.import_module("sqlite3")
    for name in mine:
        del sys.modules[name]
    try:
        return importlib.import_module("sqlite3")
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "sqlite3"]:
            del sys.modules[name]
        sys.modules.update(mine)


if TYPE_CHECKING:
    import sqlite3 as sqlite3  # noqa: PLC0414 - for the others
else:
    sqlite3 = _own()
