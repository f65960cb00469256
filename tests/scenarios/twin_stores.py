"""Stores with one defect each, and their sound twin: `TWINS` names them, as ``--target twin_stores:Name`` does.

A finding on one of these has to replay on that one, and must not on its shadow. They are written as users write them: a
path, methods, plain `sqlite3`; what differs is how the defect comes about.
"""

import contextlib
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


# -- what else a store remembers -----------------------------------------------------------------------------


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


class MoodyNotes(MemoryFirstNotes):
    """Keeps memory and file apart only where it lies in some directories: nobody sees it anywhere else."""

    def put(self, name: str, text: str) -> None:
        if "minimise" in self.path.parts:
            Notes.put(self, name, text)
        else:
            super().put(name, text)

    def known(self) -> dict[str, str]:
        return Notes.known(self) if "minimise" in self.path.parts else self.notes


class Moody(Sound):
    """memory-equals-disk, and not where a scenario of it is played again."""

    store = MoodyNotes


# -- which is whose twin -------------------------------------------------------------------------------------

TWINS: dict[str, str] = {
    **dict.fromkeys(
        (
            "MemoryFirst", "ForgetsFirst", "TrustsRaised", "Swallows", "SwallowsFull", "TwoTransactions", "LeavesOpen",
            "BlindRollback", "NoWait", "HealsLate", "StartsAnew", "Refuses",
        ),
        "Sound",
    ),
    "StampsFirst": "Stamps",
}  # fmt: skip
