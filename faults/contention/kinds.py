"""The kinds of rival: for each the SQL that it runs, the point where it pauses, and the lock that it then holds.

A rival is another user of the same database. A rival that pauses between two statements holds the locks of its open
transaction. A rival that pauses *inside* a statement (before one of its own file operations) holds the locks that
SQLite holds there: in the middle of a commit, a checkpoint or a recovery. No lock is simulated: SQLite takes them all.

A rival that changes the database sets ``PRAGMA user_version`` to its current value: a real commit with a new page 1,
but without any change that a reader could see.
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

    The rival runs `statements` in order. It pauses before the first operation that is in `stops_before`, pairs of
    (operation, role); if that is empty, it pauses after the last statement. `journal` says in which journal modes the
    rival makes sense: "wal", "rollback" or "any". `shuts_readers_out`: in some journal mode no other connection can
    read while the rival pauses.
    """

    name: str
    holds: str
    statements: tuple[str, ...]
    stops_before: frozenset[tuple[str, str]] = frozenset()
    journal: Literal["wal", "rollback", "any"] = "any"
    shuts_readers_out: bool = False

    @property
    def places(self) -> tuple[RivalPlace, ...]:
        """Where it can run: a rival that pauses inside a statement needs a separate process."""
        return ("process",) if self.stops_before else ("connection", "process")

    @property
    def keeps_a_lock(self) -> bool:
        """Whether it holds a lock while it pauses; after a commit it holds none."""
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
    """Run a rival's statements; SQLite's errors pass through, `sqlite3.OperationalError` if a lock is not available."""
    if journal_mode in ("truncate", "persist"):
        # Unlike WAL, these modes are set per connection; all connections of one store use the same.
        connection.execute(f"PRAGMA journal_mode = {journal_mode}").fetchall()
    for statement in kind.statements:
        if statement == CHANGE:
            ((version,),) = connection.execute("PRAGMA user_version").fetchall()
            connection.execute(f"PRAGMA user_version = {version}")
        else:
            connection.execute(statement).fetchall()
