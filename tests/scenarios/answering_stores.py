"""Notes whose calls return something: right, with defects in what they answer, and with answers that are no data."""

import contextlib
import itertools
import sqlite3
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tornpage import NOT_COMPARED, Action, Configuration, Environment, SimpleTarget, View


class Notes:
    """Every note is read from the file; each call is one statement."""

    mode = "WAL"

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None, timeout=1)
        try:
            self.db.execute(f"PRAGMA journal_mode = {self.mode}")
            self.db.execute("CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, text TEXT)")
        except BaseException:
            self.db.close()
            raise

    def put(self, name: str, text: str) -> Any:
        self.db.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (name, text))
        return self.receipt()

    def receipt(self) -> Any:
        return True

    def get(self, name: str) -> Any:
        rows = self.db.execute("SELECT text FROM note WHERE name = ?", (name,)).fetchall()
        return rows[0][0] if rows else None

    def close(self) -> None:
        self.db.close()


class Swallows(Notes):
    """A read that fails answers that there is nothing."""

    def get(self, name: str) -> Any:
        try:
            return super().get(name)
        except (sqlite3.Error, MemoryError):
            return None


class SwallowsWithJournal(Swallows):
    mode = "DELETE"


class Counts(Notes):
    """A count that fails is zero: another store of the same kind."""

    def get(self, name: str) -> Any:
        try:
            return {"rows": [list(row) for row in self.db.execute("SELECT count(*) FROM note").fetchall()]}
        except sqlite3.OperationalError:
            return {"rows": [[0]]}


class WithCursor(Notes):
    def put(self, name: str, text: str) -> Any:
        return self.db.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (name, text))


class WithId(Notes):
    def receipt(self) -> Any:
        return uuid.uuid4()


class WithTime(Notes):
    def receipt(self) -> Any:
        return {"at": time.time_ns() // 1_000_000_000}


class Fluent(Notes):
    def receipt(self) -> Any:
        return self


class Numbers(Notes):
    """Numbers its receipts in memory, and gives a number to calls that fail, too."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.numbers = itertools.count()

    def put(self, name: str, text: str) -> Any:
        number = next(self.numbers)
        super().put(name, text)
        return number


class Yields(Notes):
    """A read that its caller iterates."""

    def get(self, name: str) -> Any:
        for (text,) in self.db.execute("SELECT text FROM note WHERE name = ?", (name,)):
            yield text


class YieldsLess(Notes):
    """The same, which ends at an error as if there were no more."""

    def get(self, name: str) -> Any:
        with contextlib.suppress(sqlite3.Error, MemoryError):
            for (text,) in self.db.execute("SELECT text FROM note WHERE name = ?", (name,)):
                yield text


@dataclass
class Result:
    ok: bool
    error: str = ""


class Reports(Notes):
    """Raises nothing where it fails to write, and returns the failure."""

    def put(self, name: str, text: str) -> Any:
        try:
            super().put(name, text)
        except (sqlite3.Error, MemoryError) as error:
            return Result(ok=False, error=str(error) or "no memory")
        return Result(ok=True)


class ReportsWithoutWhy(Reports):
    """Says neither what went wrong."""

    def put(self, name: str, text: str) -> Any:
        return Result(super().put(name, text).ok)


class NotesTarget(SimpleTarget):
    title = "notes that answer"
    kind: type[Notes] = Notes
    calls = (
        Action("put", {"name": "a", "text": "1"}),
        Action("get", {"name": "a"}),
        Action("put", {"name": "a", "text": "2"}),
        Action("get", {"name": "a"}),
    )
    beat = Action("put", {"name": "heartbeat", "text": "b"})
    unpromised: Mapping[str, str] = {"waits-for-a-short-lock": "WAL on a new file waits for no lock"}

    def __init__(self) -> None:
        self.name = f"{type(self).__module__}:{type(self).__qualname__}"

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Notes:
        return self.kind(path)

    def view(self, store: Notes) -> View:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> View:
        return dict(connection.execute("SELECT name, text FROM note").fetchall())


class YieldsTarget(NotesTarget):
    kind = Yields


class YieldsLessTarget(NotesTarget):
    kind = YieldsLess


class RaisesNothingTarget(NotesTarget):
    kind = Reports


class ReportsTarget(NotesTarget):
    """A failure that the store returns is the call's failure."""

    kind = Reports

    def answer(self, action: Action, returned: Any) -> Any:
        if isinstance(returned, Result) and not returned.ok:
            raise RuntimeError(returned.error)
        return super().answer(action, returned)


class ReportsWithoutWhyTarget(ReportsTarget):
    kind = ReportsWithoutWhy


class SwallowsTarget(NotesTarget):
    kind = Swallows


class JournalTarget(NotesTarget):
    kind = SwallowsWithJournal
    configurations = (Configuration("delete", "FULL"),)


class CountsTarget(NotesTarget):
    kind = Counts


class CursorTarget(NotesTarget):
    kind = WithCursor


class IdTarget(NotesTarget):
    kind = WithId


class TimeTarget(NotesTarget):
    kind = WithTime


class FluentTarget(NotesTarget):
    kind = Fluent


class NumbersTarget(NotesTarget):
    kind = Numbers


class DroppedTarget(SwallowsTarget):
    """The target says which answers count: none."""

    def answer(self, action: Action, returned: Any) -> Any:
        return NOT_COMPARED


class CursorSession:
    """A session of the user's own that hands on what can't be compared."""

    def __init__(self, inner: Any, store: Notes) -> None:
        self.inner, self.store = inner, store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def call(self, action: Action) -> Any:
        return getattr(self.store, action.name)(**action.args)


class OwnSessionTarget(CursorTarget):
    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> Any:
        inner: Any = super().open(directory, configuration, environment)
        return CursorSession(inner, inner._store)
