"""The registry of targets: those that ship, by name.

``module:attribute`` names a target of your own, ``command:PROGRAM ARGUMENT …`` a program that speaks JSON lines; they
are imported, or started, only at the request of the command line, never of a file.
"""

import functools
import importlib
import importlib.util
import operator
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from tornpage.scenarios.model.target import Target, TargetError, completed
from tornpage.scenarios.targets.declaration import what_is_wrong
from tornpage.scenarios.targets.names import BUG_PREFIX, COMMAND_PREFIX, SOUND, UnknownTargetError, is_imported

_PLACES: Final[Mapping[str, tuple[str, str]]] = {
    "reference": ("reference.target", "Reference"),
    "diskcache": ("libraries.disk_cache", "DiskCache"),
    "json-file": ("libraries.json_file", "JsonFile"),
    "apscheduler": ("libraries.ap_scheduler", "APScheduler"),
    "dbm-sqlite3": ("libraries.dbm_sqlite3", "DbmSqlite3"),
    "huey": ("libraries.huey_storage", "Huey"),
    "langgraph": ("libraries.langgraph_saver", "Checkpoints"),
    "litequeue": ("libraries.lite_queue", "LiteQueue"),
    "peewee": ("libraries.peewee_model", "PeeweeModel"),
    "sqlalchemy": ("libraries.sql_alchemy", "SQLAlchemyPool"),
    "sqlitedict": ("libraries.sqlite_dict", "SqliteDict"),
    "sqlitedict-autocommit": ("libraries.sqlite_dict", "SqliteDictAutocommit"),
}


def _shipped(name: str) -> Target:
    """Import it when it is asked for, so that a missing extra matters only to its users."""
    if name == "dbm-sqlite3" and importlib.util.find_spec("dbm.sqlite3") is None:
        raise UnknownTargetError("target 'dbm-sqlite3' is Python's own dbm.sqlite3, which exists from Python 3.13 on")
    module, attribute = _PLACES[name]
    target: Target = getattr(importlib.import_module(f"tornpage.scenarios.targets.{module}"), attribute)()
    return target


_PARTS: Final = (
    "title", "configurations", "depths", "unpromised", "workload", "heartbeat", "database", "open", "fresh_view",
)  # fmt: skip

SHIPPED: Final[Mapping[str, Callable[[], Target]]] = {name: functools.partial(_shipped, name) for name in _PLACES}

# A description of each, in the usual search terms for its kind.
CLASSES: Final[Mapping[str, str]] = {
    "reference": "store", "diskcache": "cache", "json-file": "store",
    "apscheduler": "scheduler", "dbm-sqlite3": "dictionary", "huey": "queue", "langgraph": "agent state",
    "litequeue": "queue", "peewee": "ORM", "sqlalchemy": "ORM",
    "sqlitedict": "dictionary", "sqlitedict-autocommit": "dictionary",
}  # fmt: skip

# An extra has the name of its target, unless two share one.
_EXTRAS: Final = {"sqlitedict-autocommit": "sqlitedict"}


def find(name: str) -> Target:
    """The target of that name; raises `UnknownTargetError`."""
    if name in SHIPPED:
        try:
            return SHIPPED[name]()
        except ImportError as error:
            raise UnknownTargetError(
                f"target {name!r} needs a package that is not installed ({error}); install it: "
                f"pip install 'tornpage[{_EXTRAS.get(name, name)}]'"
            ) from error
    if name.startswith(BUG_PREFIX):
        from tornpage.scenarios.targets.known_bugs import find_bug  # noqa: PLC0415 - with them comes the ledger

        bug = find_bug(name.removeprefix(BUG_PREFIX).removesuffix(SOUND))
        found = bug.twin() if name.endswith(SOUND) else bug.target()
        if found is None:
            raise UnknownTargetError(f"{name!r} has no store of its own: its sound twin is the reference")
        return found
    raise UnknownTargetError(
        f"unknown target {name!r}; known: {', '.join(SHIPPED)}, bug:NAME (see tornpage bugs), "
        "module:attribute of your own, or command:PROGRAM ARGUMENT ..."
    )


def find_or_import(name: str) -> Target:
    """Like `find`, and imports ``module:attribute``, from the working directory too; raises `UnknownTargetError`.

    The imported target takes that name, so that a replay line can name it again.
    """
    if not is_imported(name):
        return find(name)
    if name.startswith(COMMAND_PREFIX):
        return _program(name)
    module, _, attribute = name.partition(":")
    try:
        found = imported(module, attribute)
        made = found() if callable(found) else found
    except Exception as error:
        # The user's module is imported, and may fail in any way.
        raise UnknownTargetError(
            f"cannot import target {name!r}: {type(error).__name__}: {error}{hint_for(error)}"
        ) from error
    missing = sorted(one for one in _PARTS if not hasattr(made, one))
    if missing:
        raise UnknownTargetError(f"{name!r} is not a target: it lacks {', '.join(missing)}")
    if wrong := what_is_wrong(made):
        raise UnknownTargetError(f"{name!r}: {wrong}")
    target: Target = completed(made)
    target.name = name
    return target


def imported(module: str, attribute: str) -> Any:
    """An attribute of a module, "" for itself; it may lie in the working directory. Raises what the import raises."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    found = importlib.import_module(module)
    return operator.attrgetter(attribute)(found) if attribute else found


def hint_for(error: Exception) -> str:
    """What to do about a module that was not found and lies in the project's ``src``; empty otherwise."""
    root = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if root and any(Path("src", one).exists() for one in (root, f"{root}.py")):
        return f"; src has {root}, and is not on Python's path: pip install -e . or set PYTHONPATH=src"
    return ""


def _program(name: str) -> Target:
    """Start the program of a command line, without a shell; raises `UnknownTargetError`."""
    from tornpage.scenarios.targets.process import ProcessTarget  # noqa: PLC0415 - needed only if one is named

    try:
        command = tuple(shlex.split(name.removeprefix(COMMAND_PREFIX)))
    except ValueError as error:
        raise UnknownTargetError(f"cannot read target {name!r} as a command line: {error}") from error
    if not command:
        raise UnknownTargetError(f"target {name!r} names no program; write command:PROGRAM ARGUMENT ...")
    try:
        return ProcessTarget(command, name)
    except TargetError as error:
        raise UnknownTargetError(f"cannot use target {name!r}: {error}") from error
