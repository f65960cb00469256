"""The Python bindings of SQLite that are known: what each is imported as, and the module that is its C code.

A binding is known by its C code (``_sqlite3``, ``pysqlite3._sqlite3``, ``apsw``), which stays where it is when
``sys.modules["sqlite3"]`` is exchanged for another binding. The layout that `faults.reach.proof` reads is the one of
CPython's ``_sqlite3``, of which all but apsw are descendants; apsw's ``Connection`` begins the same way. Each may bring
a SQLite of its own, or share one.
"""

import importlib
import sys
from types import ModuleType
from typing import Any, Final, NamedTuple

from tornpage.faults.errors import ShimUnavailableError


class Binding(NamedTuple):
    """One binding: the name it is imported by, the module that is its C code, and whether it is of the DB-API's kind.

    `is_dbapi`: it is used as ``sqlite3`` is, so that the statement depth and limits can stand in for its ``connect``.
    """

    name: str
    extension: str
    is_dbapi: bool = True


BINDINGS: Final = (
    Binding("sqlite3", "_sqlite3"),
    Binding("pysqlite3", "pysqlite3._sqlite3"),
    Binding("sqlean", "sqlean._sqlite3"),
    Binding("sqlcipher3", "sqlcipher3._sqlite3"),
    Binding("pysqlcipher3", "pysqlcipher3._sqlite3"),
    Binding("apsw", "apsw", is_dbapi=False),
)
_BY_NAME: Final = {one.name: one for one in BINDINGS}


def binding_of(module: ModuleType) -> Binding:
    """The binding that a module is, by its own name; raises `ShimUnavailableError` for one that is not known."""
    name = (getattr(module, "__name__", None) or repr(module)).partition(".")[0]
    name = "sqlite3" if name == "_sqlite3" else name
    if name not in _BY_NAME:
        raise ShimUnavailableError(f"{name} is no known binding of SQLite; known are {', '.join(_BY_NAME)}")
    return _BY_NAME[name]


def code_of(binding: Binding) -> ModuleType:
    """The module that is the C code of a binding, imported if need be; raises `ShimUnavailableError` without one."""
    # Not by import_module at once: that would bring back a package that was taken out of sys.modules on purpose.
    try:
        return sys.modules.get(binding.extension) or importlib.import_module(binding.extension)
    except ImportError as error:
        raise ShimUnavailableError(f"{binding.extension} can't be imported ({error})") from None


def imported() -> list[Binding]:
    """Every known binding whose C code this process has loaded."""
    return [one for one in BINDINGS if hasattr(sys.modules.get(one.extension), "Connection")]


def open_memory(code: ModuleType) -> Any:
    """A new connection to a database in memory, of the class that the C code itself defines."""
    return code.Connection(":memory:")


def sqlite_errors() -> tuple[type[BaseException], ...]:
    """The base class of the errors of each binding that is loaded."""
    return tuple(code_of(one).Error for one in imported())


def errors_of_the_code() -> tuple[type[BaseException], ...]:
    """Those that come of what a caller asked for, and not of what happened beneath SQLite."""
    names = ("IntegrityError", "ProgrammingError", "InterfaceError", "NotSupportedError", "DataError")
    return tuple(getattr(code_of(one), name) for one in imported() if one.is_dbapi for name in names)


def result_code(error: BaseException) -> int | None:
    """The (extended) result code that an error of any binding carries; None where it has none."""
    # apsw calls it extendedresult; before Python 3.11 and in old pysqlite3 there is none.
    for name in ("sqlite_errorcode", "extendedresult"):
        code = getattr(error, name, None)
        if isinstance(code, int):
            return code
    return None
