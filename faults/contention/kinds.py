"""What rivals there are: for each kind the SQL it runs, where it stops, and which lock it then holds.

A rival is another user of the same database. One that stands still between two statements holds what its open
transaction holds. One that stands still *inside* a statement (before its own nth operation on a file) holds what SQLite
holds there: the middle of a commit, of a checkpoint, of a recovery. No lock is imitated: SQLite takes all of them.

A rival's own change is ``PRAGMA user_version`` set to what it is: a commit like any other, with a new page 1, that no
reader can see the contents of.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from tornpage.faults.sqlite_library import sqlite3

RivalPlace = Literal["connection", "process"]

CHANGE: Final = "a change that changes nothing"


@dataclass(frozen=True, slots=True)
class RivalKind:
    """One kind of rival.

    `statements` are run in order; `stops_before` are the (operation, role) of which the first stops it in the middle of
    a statement, none if it stops after the last one. `journal` is where it makes sense: "wal", "rollback" or "any".
    `shuts_readers_out` says that in some journal mode nobody else can even read while it stands still.
    """

    name: str
    holds: str
    statements: tuple[str, ...]
    stops_before: frozenset[tuple[str, str]] = frozenset()
    journal: Literal["wal", "rollback", "any"] = "any"
    shuts_readers_out: bool = False

    @property
    def places(self) -> tuple[RivalPlace, ...]:
        """Where it can live: who stands still in mid-statement needs a process of its own."""
        return ("process",) if self.stops_before else ("connection", "process")

    @property
    def keeps_a_lock(self) -> bool:
        """Whether it holds a lock once it stands still; what has only committed holds none."""
        return bool(self.stops_before) or CHANGE not in self.statements

    def fits(self, journal_mode: str) -> bool:
        """Whether it makes sense in a journal mode."""
        return self.journal == "any" or (self.journal == "wal") == (journal_mode == "wal")


RIVAL_KINDS: Final[Mapping[str, RivalKind]] = {
    kind.name: kind
    for kind in (
        RivalKind(
            "reader",
            "the lock of an open read transaction: no COMMIT of a rollback journal, no complete checkpoint of a WAL",
            ("BEGIN", "SELECT count(*) FROM sqlite_master"),
        ),
        RivalKind("writer", "the write lock of an open BEGIN IMMEDIATE", ("BEGIN IMMEDIATE",)),
        RivalKind(
            "exclusive",
            "the whole file, by an open BEGIN EXCLUSIVE",
            ("BEGIN EXCLUSIVE",),
            journal="rollback",
            shuts_readers_out=True,
        ),
        RivalKind(
            "committer",
            "what is held in the middle of a COMMIT: written, and not yet synced",
            (CHANGE,),
            stops_before=frozenset({("sync", "db"), ("sync", "wal")}),
            shuts_readers_out=True,
        ),
        RivalKind(
            "checkpointer",
            "the checkpoint lock of a WAL, in the middle of a checkpoint",
            ("PRAGMA wal_checkpoint(PASSIVE)",),
            stops_before=frozenset({("write", "db")}),
            journal="wal",
        ),
        RivalKind(
            "truncator",
            "all locks of a WAL but one, in a TRUNCATE checkpoint that is about to empty it",
            ("PRAGMA wal_checkpoint(TRUNCATE)",),
            stops_before=frozenset({("truncate", "wal")}),
            journal="wal",
        ),
        RivalKind(
            "recoverer",
            "the recovery locks of a WAL that it found after a crash (BUSY_RECOVERY)",
            ("SELECT count(*) FROM sqlite_master",),
            stops_before=frozenset({("read", "wal")}),
            journal="wal",
            shuts_readers_out=True,
        ),
        RivalKind(
            "overtaker",
            "nothing: it commits between a read and the write that follows it (BUSY_SNAPSHOT)",
            (CHANGE,),
            journal="wal",
        ),
    )
}


def perform(connection: sqlite3.Connection, kind: RivalKind, journal_mode: str | None) -> None:
    """Run a rival's statements; raises what SQLite raises, `sqlite3.OperationalError` for a lock it can't have."""
    if journal_mode in ("truncate", "persist"):
        # Unlike WAL these are a matter of each connection; users of one store have the same.
        connection.execute(f"PRAGMA journal_mode = {journal_mode}").fetchall()
    for statement in kind.statements:
        if statement == CHANGE:
            ((version,),) = connection.execute("PRAGMA user_version").fetchall()
            connection.execute(f"PRAGMA user_version = {version}")
        else:
            connection.execute(statement).fetchall()
