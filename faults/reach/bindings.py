"""The known Python bindings of SQLite: the import name of each, and its C extension module.

A binding is identified by its extension (``_sqlite3``, ``pysqlite3._sqlite3``, ``apsw``), which stays the same when
``sys.modules["sqlite3"]`` is replaced by another binding. The layout that `faults.reach.proof` reads is that of
CPython's ``_sqlite3``; all but apsw are derived from it, and apsw's ``Connection`` begins the same way. A binding may
contain its own copy of SQLite, or share one.
"""

import importlib
import sys
from types import ModuleType
from typing import Any, Final, NamedTuple

from tornpage.faults.errors import ShimUnavailableError


class Binding(NamedTuple):
    """One binding: its import name, its C extension, and whether it follows the DB-API.

    `is_dbapi`: it is used as ``sqlite3`` is, so the statement depth and limits can replace its ``connect``.
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
    """The binding of a module, by the module's name; raises `ShimUnavailableError` for an unknown one."""
    name = (getattr(module, "__name__", None) or repr(module)).partition(".")[0]
    name = "sqlite3" if name == "_sqlite3" else name
    if name not in _BY_NAME:
        raise ShimUnavailableError(f"{name} is no known binding of SQLite; known are {', '.join(_BY_NAME)}")
    return _BY_NAME[name]


def code_of(binding: Binding) -> ModuleType:
    """The C extension of a binding, imported if necessary; raises `ShimUnavailableError` if that fails."""
    # Try sys.modules first: import_module would reimport a package that was removed from sys.modules on purpose.
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


def connection_classes() -> tuple[type, ...]:
    """The class of the connections of each binding that is loaded."""
    return tuple(code_of(one).Connection for one in imported())


def sqlite_errors() -> tuple[type[BaseException], ...]:
    """The base class of the errors of each binding that is loaded."""
    return tuple(code_of(one).Error for one in imported())


def errors_of_the_code() -> tuple[type[BaseException], ...]:
    """The error classes that a caller's request causes, and not a failure beneath SQLite."""
    names = ("IntegrityError", "ProgrammingError", "InterfaceError", "NotSupportedError", "DataError")
    return tuple(getattr(code_of(one), name) for one in imported() if one.is_dbapi for name in names)


def result_code(error: BaseException) -> int | None:
    """The (extended) result code of an error of any binding; None if it has none."""
    # apsw names it extendedresult; before Python 3.11 and in old pysqlite3 there is none.
    for name in ("sqlite_errorcode", "extendedresult"):
        code = getattr(error, name, None)
        if isinstance(code, int):
            return code
    return None
