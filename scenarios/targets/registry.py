"""The registry of targets: those that ship, by name.

``module:attribute`` names a target of your own, ``command:PROGRAM ARGUMENT …`` a program that speaks JSON lines; they
are imported, or started, only at the request of the command line, never of a file.
"""

import importlib
import importlib.util
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tornpage.scenarios.model.target import Target, TargetError, completed
from tornpage.scenarios.targets.declaration import what_is_wrong
from tornpage.scenarios.targets.names import BUG_PREFIX, COMMAND_PREFIX, SOUND, UnknownTargetError, is_imported


def _reference() -> Target:
    from tornpage.scenarios.targets.reference.target import Reference  # noqa: PLC0415 - imported on use

    return Reference()


def _diskcache() -> Target:
    from tornpage.scenarios.targets.libraries.disk_cache import DiskCache  # noqa: PLC0415 - needs the extra

    return DiskCache()


def _json_file() -> Target:
    from tornpage.scenarios.targets.libraries.json_file import JsonFile  # noqa: PLC0415 - imported on use

    return JsonFile()


def _apscheduler() -> Target:
    from tornpage.scenarios.targets.libraries.ap_scheduler import APScheduler  # noqa: PLC0415 - needs the extra

    return APScheduler()


def _dbm_sqlite3() -> Target:
    if importlib.util.find_spec("dbm.sqlite3") is None:
        raise UnknownTargetError("target 'dbm-sqlite3' is Python's own dbm.sqlite3, which exists from Python 3.13 on")
    from tornpage.scenarios.targets.libraries.dbm_sqlite3 import DbmSqlite3  # noqa: PLC0415 - imported on use

    return DbmSqlite3()


def _huey() -> Target:
    from tornpage.scenarios.targets.libraries.huey_storage import Huey  # noqa: PLC0415 - needs the extra

    return Huey()


def _langgraph() -> Target:
    from tornpage.scenarios.targets.libraries.langgraph_saver import Checkpoints  # noqa: PLC0415 - needs the extra

    return Checkpoints()


def _litequeue() -> Target:
    from tornpage.scenarios.targets.libraries.lite_queue import LiteQueue  # noqa: PLC0415 - needs the extra

    return LiteQueue()


def _peewee() -> Target:
    from tornpage.scenarios.targets.libraries.peewee_model import PeeweeModel  # noqa: PLC0415 - needs the extra

    return PeeweeModel()


def _sqlalchemy() -> Target:
    from tornpage.scenarios.targets.libraries.sql_alchemy import SQLAlchemyPool  # noqa: PLC0415 - needs the extra

    return SQLAlchemyPool()


def _sqlitedict() -> Target:
    from tornpage.scenarios.targets.libraries.sqlite_dict import SqliteDict  # noqa: PLC0415 - needs the extra

    return SqliteDict()


def _sqlitedict_autocommit() -> Target:
    from tornpage.scenarios.targets.libraries.sqlite_dict import SqliteDictAutocommit  # noqa: PLC0415 - needs the extra

    return SqliteDictAutocommit()


_PARTS: Final = (
    "title", "configurations", "depths", "unpromised", "workload", "heartbeat", "database", "open", "fresh_view",
)  # fmt: skip

# Each is created by its own function, so that a missing extra matters only to its users.
SHIPPED: Final[Mapping[str, Callable[[], Target]]] = {
    "reference": _reference, "diskcache": _diskcache, "json-file": _json_file,
    "apscheduler": _apscheduler, "dbm-sqlite3": _dbm_sqlite3, "huey": _huey, "langgraph": _langgraph,
    "litequeue": _litequeue, "peewee": _peewee, "sqlalchemy": _sqlalchemy,
    "sqlitedict": _sqlitedict, "sqlitedict-autocommit": _sqlitedict_autocommit,
}  # fmt: skip

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
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), attribute)
        made = found() if callable(found) else found
    except Exception as error:
        # The user's module is imported, and may fail in any way.
        raise UnknownTargetError(f"cannot import target {name!r}: {type(error).__name__}: {error}") from error
    missing = sorted(one for one in _PARTS if not hasattr(made, one))
    if missing:
        raise UnknownTargetError(f"{name!r} is not a target: it lacks {', '.join(missing)}")
    if wrong := what_is_wrong(made):
        raise UnknownTargetError(f"{name!r}: {wrong}")
    target: Target = completed(made)
    target.name = name
    return target


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
