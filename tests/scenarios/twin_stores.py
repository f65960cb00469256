"""Stores with one defect each, and their sound twin: `TWINS` names them, as ``--target twin_stores:Name`` does.

A finding on one of these has to replay on that one, and must not on its shadow. They are written as users write them: a
path, methods, plain `sqlite3`; what differs is how the defect comes about.
"""

import contextlib
import json
import os
import sqlite3
from pathlib import Path
from typing import Any, ClassVar

from tornpage.scenarios.model.simple_target import SimpleTarget
from tornpage.scenarios.model.target import Action, Configuration, Environment, Refused, View

ALL_MODES = tuple(
    Configuration(mode, level)
    for mode, level in (("wal", "FULL"), ("delete", "EXTRA"), ("truncate", "EXTRA"), ("persist", "EXTRA"))
)


def put(name: str, text: str = "x") -> Action:
    return Action("put", {"name": name, "text": text})


class Notes:
    """Right: a call is one transaction, memory is changed after it, and a connection that has failed is given up."""

    def __init__(self, path: Path, configuration: Configuration, environment: Environment) -> None:
        self.path, self.configuration, self.environment = path, configuration, environment
        self.connection: sqlite3.Connection | None = None
        self.load()

    @property
    def db(self) -> sqlite3.Connection:
        if self.connection is None:
            self.connection = self.connect()
        return self.connection

    def connect(self) -> sqlite3.Connection:
        db = self.environment.connect(self.path, isolation_level=None)
        try:
            (mode,) = db.execute(f"PRAGMA journal_mode = {self.configuration.journal_mode}").fetchone()
            self.require(mode)
            db.execute(f"PRAGMA synchronous = {self.configuration.synchronous}")
            db.execute("CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, text TEXT)")
        except BaseException:
            db.close()
            raise
        return db

    def require(self, mode: str) -> None:
        """Where the WAL's shared memory can't be had, SQLite stays in the old mode and says so in this row only."""
        if mode != self.configuration.journal_mode:
            raise sqlite3.OperationalError(f"the journal mode is {mode}")

    def load(self) -> None:
        try:
            self.notes = dict(self.db.execute("SELECT name, text FROM note").fetchall())
        except BaseException:
            self.close()
            raise
        self.stale = False

    def known(self) -> dict[str, str]:
        """What memory has, read anew where a call has failed: a COMMIT that has raised may have happened."""
        if self.stale:
            self.load()
        return self.notes

    def transact(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        try:
            self.db.execute("BEGIN IMMEDIATE")
            for statement in statements:
                self.db.execute(*statement)
            self.db.execute("COMMIT")
        except BaseException:
            self.stale = True
            self.undo()
            raise

    def undo(self) -> None:
        """Not even a ROLLBACK can be relied on where there is no memory; to close the connection can."""
        self.close()

    def put(self, name: str, text: str) -> None:
        self.known()
        self.transact(("INSERT OR REPLACE INTO note VALUES (?, ?)", (name, text)))
        self.notes[name] = text

    def rename(self, name: str, to: str) -> None:
        if name not in self.known():
            raise Refused(f"no note {name}")
        text = self.notes[name]
        self.transact(
            ("INSERT OR REPLACE INTO note VALUES (?, ?)", (to, text)), ("DELETE FROM note WHERE name = ?", (name,))
        )
        del self.notes[name]
        self.notes[to] = text

    def remove(self, name: str) -> None:
        if name not in self.known():
            raise Refused(f"no note {name}")
        self.transact(("DELETE FROM note WHERE name = ?", (name,)))
        del self.notes[name]

    def view(self) -> View:
        return self.known()

    def close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()


class Sound(SimpleTarget):
    """The shadow of all that only have another store."""

    name = "twin_stores:Sound"
    title = "notes"
    configurations = ALL_MODES
    depths = ("vfs", "statement")
    unpromised: ClassVar[dict[str, str]] = {
        "waits-for-a-short-lock": "SQLite does not wait where a new file becomes one with a WAL"
    }
    store: ClassVar[type[Notes]] = Notes
    calls = (
        put("a", "one"),
        put("a", "two"),
        Action("rename", {"name": "a", "to": "b"}),
        put("c"),
        Action("remove", {"name": "b"}),
    )
    beat = put("beat")

    def __init_subclass__(cls) -> None:
        cls.name = f"twin_stores:{cls.__name__}"

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Notes:
        return self.store(path, configuration, environment)

    def view(self, store: Notes) -> View:
        return dict(store.view())

    def rows(self, connection: sqlite3.Connection) -> View:
        return dict(connection.execute("SELECT name, text FROM note").fetchall())


# -- memory and file -----------------------------------------------------------------------------------------


class NeverMends(Notes):
    """Memory is not read anew after a failure."""

    def known(self) -> dict[str, str]:
        return self.notes


class MemoryFirstNotes(NeverMends):
    def put(self, name: str, text: str) -> None:
        self.notes[name] = text
        super().put(name, text)


class MemoryFirst(Sound):
    """memory-equals-disk: openclaw 88007."""

    store = MemoryFirstNotes


class ForgetsFirstNotes(NeverMends):
    def remove(self, name: str) -> None:
        if self.notes.pop(name, None) is None:
            raise Refused(f"no note {name}")
        self.transact(("DELETE FROM note WHERE name = ?", (name,)))


class ForgetsFirst(Sound):
    """memory-equals-disk: a delete."""

    store = ForgetsFirstNotes


class SwallowsNotes(Notes):
    def transact(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        with contextlib.suppress(sqlite3.Error, MemoryError):
            super().transact(*statements)


class TrustsRaised(Sound):
    """memory-equals-disk, where a COMMIT raised and had happened."""

    store = NeverMends


class Swallows(Sound):
    """acknowledged-is-durable: an error is kept back."""

    store = SwallowsNotes


class SwallowsFullNotes(Notes):
    def transact(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        try:
            super().transact(*statements)
        except sqlite3.OperationalError as error:
            if "full" not in str(error):
                raise


class SwallowsFull(Sound):
    """acknowledged-is-durable: one error is kept back."""

    store = SwallowsFullNotes


# -- transactions --------------------------------------------------------------------------------------------


class TwoTransactionsNotes(Notes):
    def transact(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        for statement in statements:
            super().transact(statement)


class TwoTransactions(Sound):
    """all-or-nothing: a call in two transactions."""

    store = TwoTransactionsNotes


class LeavesOpenNotes(Notes):
    def undo(self) -> None:
        pass


class LeavesOpen(Sound):
    """still-usable-after-the-fault: nobody rolls back."""

    store = LeavesOpenNotes


class BlindRollbackNotes(Notes):
    def undo(self) -> None:
        self.db.execute("ROLLBACK")


class BlindRollback(Sound):
    """error-is-not-hidden, and a transaction that stays open where there was no memory for the ROLLBACK."""

    store = BlindRollbackNotes


class NoWaitNotes(Notes):
    def connect(self) -> sqlite3.Connection:
        db = super().connect()
        db.execute("PRAGMA busy_timeout = 0")
        return db


class NoWait(Sound):
    """waits-for-a-short-lock."""

    configurations = ALL_MODES[1:]
    unpromised: ClassVar[dict[str, str]] = {}
    store = NoWaitNotes


# -- connections that come and go ----------------------------------------------------------------------------


class EachNotes(Notes):
    """A connection for each call."""

    def load(self) -> None:
        super().load()
        self.close()

    def transact(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        try:
            super().transact(*statements)
        finally:
            self.close()


class Each(Sound):
    """Right; the shadow of the next."""

    store = EachNotes


class EachMemoryFirstNotes(EachNotes):
    known = NeverMends.known

    def put(self, name: str, text: str) -> None:
        self.notes[name] = text
        super().put(name, text)


class EachMemoryFirst(Sound):
    """memory-equals-disk, with a connection for each call."""

    store = EachMemoryFirstNotes


class HealsLateNotes(Notes):
    """Memory is changed first; what it has is read anew, but not before the next call."""

    def put(self, name: str, text: str) -> None:
        self.known()[name] = text
        super().put(name, text)

    def view(self) -> View:
        return self.notes


class HealsLate(Sound):
    """memory-equals-disk until the next write."""

    store = HealsLateNotes


class HealsOnLookNotes(HealsLateNotes):
    """The same, but a look that can't reach the file says what memory has."""

    def view(self) -> View:
        try:
            return self.known()
        except (sqlite3.Error, MemoryError):
            return self.notes


class HealsOnLook(Sound):
    """memory-equals-disk while the fault lasts."""

    store = HealsOnLookNotes


class StartsAnewNotes(Notes):
    """A file that can't be read is taken for a damaged one, and thrown away."""

    def __init__(self, path: Path, configuration: Configuration, environment: Environment) -> None:
        if path.exists() and self.is_damaged(path):
            for end in ("", "-wal", "-shm", "-journal"):
                Path(f"{path}{end}").unlink(missing_ok=True)
        super().__init__(path, configuration, environment)

    def is_damaged(self, path: Path) -> bool:
        with contextlib.closing(sqlite3.connect(path)) as probe:
            try:
                probe.execute("SELECT count(*) FROM sqlite_master").fetchone()
            except sqlite3.DatabaseError:
                return True
        return False


class StartsAnew(Sound):
    """acknowledged-is-durable: an error that passes costs all data."""

    store = StartsAnewNotes


class LeaksNotes(Notes):
    def connect(self) -> sqlite3.Connection:
        db = self.environment.connect(self.path, isolation_level=None)
        try:
            db.execute(f"PRAGMA journal_mode = {self.configuration.journal_mode}").fetchone()
            db.execute(f"PRAGMA synchronous = {self.configuration.synchronous}")
            db.execute("CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, text TEXT)")
        except BaseException:
            _LEAKED.append(db)
            raise
        return db


_LEAKED: list[sqlite3.Connection] = []


class Leaks(Sound):
    """still-usable-after-the-fault: an opening that fails leaves a connection behind."""

    store = LeaksNotes


# -- what else a store remembers -----------------------------------------------------------------------------


class CountsNotes(Notes):
    """Names come from a counter in memory, which runs on where the write has failed."""

    def load(self) -> None:
        super().load()
        self.number = len(self.notes)

    def add(self, text: str) -> None:
        self.number += 1
        self.put(f"n{self.number}", text)


class Counts(Sound):
    """Right: the counter is set only after the write."""

    calls = (Action("add", {"text": "x"}), Action("add", {"text": "y"}), Action("add", {"text": "z"}))
    beat = Action("add", {"text": "beat"})

    class RightNotes(CountsNotes):
        def add(self, text: str) -> None:
            self.put(f"n{self.number + 1}", text)
            self.number += 1

    store = RightNotes


class CountsOn(Counts):
    """Nothing is wrong with this one, as far as views tell: a number is left out after a failure."""

    store = CountsNotes


class StampsNotes(Notes):
    """Each note says when it was put; each third minute is that of a tidy-up, which takes another way."""

    def put(self, name: str, text: str) -> None:
        minute = self.environment.now_ms // 60_000
        if minute % 3 == 0:
            self.tidied(name, str(minute))
        else:
            super().put(name, str(minute))

    def tidied(self, name: str, text: str) -> None:
        super().put(name, text)


class Stamps(Sound):
    """Right; the shadow of the next."""

    store = StampsNotes
    calls = (put("a"), put("b"), put("c"), put("d"), put("e"), put("f"))


class StampsFirstNotes(StampsNotes):
    def tidied(self, name: str, text: str) -> None:
        self.notes[name] = text
        super().tidied(name, text)

    known = NeverMends.known


class StampsFirst(Stamps):
    """memory-equals-disk, where the clock says so."""

    store = StampsFirstNotes


_OPEN: dict[str, dict[str, str]] = {}


class SharedNotes(Notes):
    """What was read once is kept for the whole process, by path, until the store is closed in good order."""

    def load(self) -> None:
        key = os.fspath(self.path)
        if key not in _OPEN or getattr(self, "stale", False):
            super().load()
            _OPEN[key] = self.notes
        self.notes, self.stale = _OPEN[key], False

    def close(self) -> None:
        super().close()
        _OPEN.pop(os.fspath(self.path), None)


class SharedFirstNotes(SharedNotes):
    known = NeverMends.known

    def put(self, name: str, text: str) -> None:
        self.notes[name] = text
        super().put(name, text)


class Shared(Sound):
    """Right; the shadow of the next."""

    store = SharedNotes


class SharedFirst(Sound):
    """memory-equals-disk, with memory that outlives a store that was not closed."""

    store = SharedFirstNotes


class RefusesNotes(Notes):
    """Whatever fails is told as a refusal."""

    def put(self, name: str, text: str) -> None:
        try:
            super().put(name, text)
        except sqlite3.Error as error:
            raise Refused(f"not now: {error}") from error


class Refuses(Sound):
    """error-is-not-hidden: a fault is told as a refusal."""

    store = RefusesNotes


class SideFileNotes(Notes):
    """Beside the database lies a list of names, which is written after the commit and believed at the next start."""

    def load(self) -> None:
        super().load()
        side = self.path.with_suffix(".names")
        if side.exists():
            names = json.loads(side.read_text())
            self.notes = {name: text for name, text in self.notes.items() if name in names}

    def put(self, name: str, text: str) -> None:
        super().put(name, text)
        self.path.with_suffix(".names").write_text(json.dumps(sorted(self.notes)))

    def remove(self, name: str) -> None:
        super().remove(name)
        self.path.with_suffix(".names").write_text(json.dumps(sorted(self.notes)))

    def rename(self, name: str, to: str) -> None:
        super().rename(name, to)
        self.path.with_suffix(".names").write_text(json.dumps(sorted(self.notes)))


class SideFile(Sound):
    """memory-equals-disk: a death between two files."""

    store = SideFileNotes


# -- power ---------------------------------------------------------------------------------------------------


class NotSyncedNotes(Notes):
    def connect(self) -> sqlite3.Connection:
        db = super().connect()
        db.execute("PRAGMA synchronous = OFF")
        return db


class NotSynced(Sound):
    """acknowledged-is-durable: synchronous=OFF behind a promise of FULL."""

    store = NotSyncedNotes


class BehindNotes(Notes):
    """What was acknowledged is committed with the next call, or when the store is closed."""

    def transact(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        if self.db.in_transaction:
            self.db.execute("COMMIT")
        self.db.execute("BEGIN IMMEDIATE")
        for statement in statements:
            self.db.execute(*statement)

    def close(self) -> None:
        if self.db.in_transaction:
            self.db.execute("COMMIT")
        super().close()


class Behind(Sound):
    """acknowledged-is-durable without any fault."""

    store = BehindNotes


class BehindOneNotes(Notes):
    """One kind of call is acknowledged from memory, and written with the next."""

    def __init__(self, path: Path, configuration: Configuration, environment: Environment) -> None:
        self.behind: list[tuple[str, tuple[Any, ...]]] = []
        super().__init__(path, configuration, environment)

    def remove(self, name: str) -> None:
        if self.notes.pop(name, None) is None:
            raise Refused(f"no note {name}")
        self.behind.append(("DELETE FROM note WHERE name = ?", (name,)))

    def transact(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        super().transact(*self.behind, *statements)
        self.behind.clear()


class BehindOne(Sound):
    """no-resurrection without any fault."""

    store = BehindOneNotes


# -- which is whose twin -------------------------------------------------------------------------------------

TWINS: dict[str, str] = {
    **dict.fromkeys(
        (
            "MemoryFirst", "ForgetsFirst", "TrustsRaised", "Swallows", "SwallowsFull", "TwoTransactions", "LeavesOpen",
            "BlindRollback", "NoWait", "HealsLate", "HealsOnLook", "StartsAnew", "Leaks", "Refuses", "SideFile",
            "NotSynced", "Behind", "BehindOne",
        ),
        "Sound",
    ),
    "EachMemoryFirst": "Each",

    "CountsOn": "Counts",
    "StampsFirst": "Stamps",
    "SharedFirst": "Shared",
}  # fmt: skip
