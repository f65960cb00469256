"""The rules of the contract that one look decides: the shape of a view, an empty store, the file at its path.

Each raises `SetUpError`, whose rule is a section of ``docs/contract.md``; `contract` says when they are applied.
"""

import contextlib
import inspect
import pickle
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tornpage import faults
from tornpage.faults.sqlite_library import sqlite3
from tornpage.faults.vfs.passed_by import is_database
from tornpage.faults.vfs.shared_files import shared
from tornpage.scenarios.model.target import Configuration, SetUpError, Target, View

LOCKED_OUT: Final = (
    "the store keeps every other reader out of its database between its calls, although no transaction is open: "
    "tornpage looks at the file after each call. With PRAGMA locking_mode = EXCLUSIVE a connection never lets go of "
    "its lock; let `make` return a store whose locking_mode is NORMAL (set it before journal_mode = WAL, or, with a "
    "rollback journal, after opening, and read something)"
)

# Other libraries that bring their own SQLite.
_OTHER_LIBRARIES: Final = ("apsw", "pysqlite3", "sqlcipher3", "sqlean", "turso", "libsql", "duckdb")


def require_mapping(name: str, which: str, found: object) -> None:
    """Require of the target `name` that its view, or its rows, map text to values that can be compared."""
    if inspect.isawaitable(found):
        _forget(found)
        raise SetUpError(name, "calls-are-not-async", f"`{which}` is async, and nothing awaits it")
    rule = "view-and-rows-are-one-mapping"
    if not isinstance(found, Mapping) or not all(isinstance(key, str) for key in found):
        raise SetUpError(name, rule, f"`{which}` is a mapping from text to plain values, not {found!r:.200}")
    for key, value in found.items():
        if not _equals_a_copy(value):
            what = f"{key!r} in `{which}` has the value {value!r:.100}, which does not equal a copy of itself, so no "
            what += "two views would be equal: show plain values (None for a NaN, the fields of an object)"
            raise SetUpError(name, rule, what)


def _equals_a_copy(value: object) -> bool:
    """Whether two readers that get this value can find it equal: not so for a NaN, and for an object without `==`."""
    if isinstance(value, str | int | None):
        return True
    try:
        copied: object = pickle.loads(pickle.dumps(value))  # noqa: S301 - of this process
    except Exception:  # noqa: BLE001 - what can't be copied says nothing of what it equals
        return bool(value == value)  # noqa: PLR0124 - a NaN does not equal itself
    return bool(copied == value)


class NotEmptyError(SetUpError):
    """A store in an empty directory, or one that `is_upgraded`, that shows something: `view`."""

    def __init__(self, name: str, view: View, *, is_upgraded: bool) -> None:
        self.view = view
        what = f"a store that was just created in an empty directory shows {some(view)}; absent is not zero, and "
        what += "what opening itself writes (a version, defaults) is left out of view and rows"
        if is_upgraded:
            what = (
                f"the store has upgraded `older_file`, and shows {some(view)}, unlike `upgraded`: give there all that "
            )
            what += "it shows then"
        super().__init__(name, "an-empty-store-shows-an-empty-view", what)


def require_empty(name: str, view: View, *, is_upgraded: bool) -> None:
    """Require that a store in an empty directory shows nothing, or, if it `is_upgraded`, nothing beyond that."""
    if view:
        raise NotEmptyError(name, view, is_upgraded=is_upgraded)


def require_file(target: Target, configuration: Configuration, directory: Path) -> None:
    """Require the store's file where the target says, in the directory that the store was given."""
    if configuration.journal_mode == "file":
        return
    expected = target.database(directory)
    if target.files_view is not None:
        if expected.exists() and not is_database(expected) and not faults.shims().has_opened(expected):
            raise SetUpError(
                target.name,
                "declarations",
                f"{expected.name} is no database, and the target has `files_view` and the configuration "
                f"{configuration}: a store of plain files declares configurations = (Configuration('file', 'FULL'),)",
            )
        return
    if not expected.resolve().is_relative_to(directory.resolve()):
        raise SetUpError(
            target.name,
            "the-store-uses-its-path",
            f"the database of the target (for a SimpleTarget: `file`) is {expected}, outside the directory that the "
            "store is given; name a file below it",
        )
    if expected.exists():
        return
    there = sorted(path.name for path in directory.iterdir())
    hint = (
        f"the directory has {', '.join(there)}" if there else "the directory is empty: does the store use the path "
        "that it is given, and is it not ':memory:'?"
    )  # fmt: skip
    raise SetUpError(
        target.name,
        "the-store-uses-its-path",
        f"all calls were made, and there is no {expected.name} in the directory that the store was given; {hint}",
    )


def missing_table(target: Target, directory: Path) -> str:
    """The missing table that `rows` reads, in words; "" if that is not the error."""
    rows = getattr(target, "rows", None)
    database = target.database(directory)
    if not callable(rows) or not database.is_file():
        return ""
    with contextlib.closing(faults.connect_unwatched(database)) as connection:
        try:
            rows(connection)
        except sqlite3.OperationalError as error:
            found = connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')").fetchall()
            names = ", ".join(sorted(str(one) for (one,) in found)) or "no table at all"
            return f"`rows` fails with {error}, after all calls; the file has {names}"
        except Exception:  # noqa: BLE001 - other errors have another message
            return ""
    return ""


def another_library(name: str) -> SetUpError:
    """The error of a store whose file changes without any operation in the library that faults reach."""
    loaded = [one for one in _OTHER_LIBRARIES if one in sys.modules]
    which = f" (loaded: {', '.join(loaded)})" if loaded else ""
    return SetUpError(
        name,
        "the-store-runs-on-a-library-that-can-be-reached",
        "the store's file has changed, and no operation went through the SQLite of Python's sqlite3: it uses "
        f"another library{which}, where no fault would reach it",
    )


@contextlib.contextmanager
def require_one_library(name: str, what: str) -> Iterator[None]:
    """Require that `what`, made in this scope, opens no file that another library has open, whatever it raises."""
    with shared() as files:
        try:
            yield
        finally:
            if files:
                raise SetUpError(name, "one-library-per-file", f"{what}: {files[0]}")


def some(view: View) -> str:
    """The first items of a view, in words."""
    shown = ", ".join(f"{key!r}: {value!r:.60}" for key, value in list(view.items())[:2])
    return shown + (f" and {len(view) - 2} more" if len(view) > 2 else "")


def _forget(awaitable: object) -> None:
    """Close a dropped coroutine, which would warn."""
    close = getattr(awaitable, "close", None)
    if callable(close):
        close()
