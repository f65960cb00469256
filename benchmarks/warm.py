"""Warm fault points: a session that stays open over many faults of one call, with an undo in between.

Method. The session is opened once on the files from which the call starts. For each point: arm, call, disarm; read the
disk without the shim, memory, and the target's own checks; if the call has changed the files, open a copy as after a
crash; check with the heartbeat that the session still works. Then a second, plain connection restores the rows that
differ, in one transaction, and disk and memory must both show the initial state again. So every check of a cold point
is made; only opening and closing are saved.

It needs more of a target than a cold point: its sessions must detect commits of another connection, as the reference's
do (``PRAGMA data_version``). It misses the operations of a cold start, so it can't replace cold points. If a point
leaves changes that can't be undone (`NotUndoneError`), the session can't be used any more.

The sweep does not use it. Most of a point's time is its observations, which are the same in both procedures, and the
time saved by not opening is largely spent on the undo: docs/performance.md has the figures. It stays here as a
benchmark.

Not covered: tables without row ids, virtual tables, triggers, generated columns, changes of the schema: `Rows` refuses
them. The WAL grows with every point, so a session can be used for some dozens of points, until SQLite would checkpoint.
"""

import contextlib
import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tornpage import faults
from tornpage.scenarios.execution.reopen import Reopened, require_integrity
from tornpage.scenarios.execution.snapshots import Files, place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.oracle import Answer, Oracle
from tornpage.scenarios.model.target import Action, Configuration, Target, View

_TABLES: Final = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' OR name = 'sqlite_sequence'"


class NotUndoneError(Exception):
    """The start could not be restored in an open session; nothing is wrong with the target."""


class Rows:
    """All rows of a database at one moment, and the way back to them."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        try:
            self._schema = connection.execute(_TABLES).fetchall()
            self._refuse_what_cannot_be_undone()
            self._tables = {name: _rows_of(connection, name) for kind, name, _ in self._schema if kind == "table"}
        except sqlite3.Error as error:
            raise NotUndoneError(f"the rows can't be kept: {error}") from error

    def _refuse_what_cannot_be_undone(self) -> None:
        for kind, name, sql in self._schema:
            if kind == "trigger" or str(sql).upper().startswith("CREATE VIRTUAL"):
                raise NotUndoneError(f"{name} is a {'trigger' if kind == 'trigger' else 'virtual table'}")

    def restore(self, connection: sqlite3.Connection) -> None:
        """Put back every row that differs, in one transaction; raises `NotUndoneError`."""
        try:
            connection.execute("BEGIN IMMEDIATE")
            if connection.execute(_TABLES).fetchall() != self._schema:
                raise NotUndoneError("the schema has changed")
            for name, wanted in self._tables.items():
                _restore_table(connection, name, wanted)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise NotUndoneError(f"the rows can't be put back: {error}") from error


def _rows_of(connection: sqlite3.Connection, table: str) -> dict[int, tuple[Any, ...]]:
    return {row[0]: row for row in connection.execute(f'SELECT rowid, * FROM "{table}"')}


def _restore_table(connection: sqlite3.Connection, table: str, wanted: dict[int, tuple[Any, ...]]) -> None:
    found = _rows_of(connection, table)
    if found == wanted:
        return
    # All that is wrong goes first: a row that comes back may need a unique value that another one has taken.
    for rowid in [rowid for rowid, row in found.items() if wanted.get(rowid) != row]:
        connection.execute(f'DELETE FROM "{table}" WHERE rowid = ?', (rowid,))
    missing = [row for rowid, row in wanted.items() if found.get(rowid) != row]
    if missing:
        names = [column[1] for column in connection.execute(f'PRAGMA table_info("{table}")')]
        columns = ", ".join(f'"{name}"' for name in names)
        marks = ", ".join("?" * (len(names) + 1))
        insert = f'INSERT INTO "{table}" (rowid, {columns}) VALUES ({marks})'
        connection.executemany(insert, missing)


class WarmTrial:
    """One session on the files that a call starts from, for many faults in that call. A context manager."""

    def __init__(
        self,
        target: Target,
        configuration: Configuration,
        directory: Path,
        files: Files,
        before: View,
        step: int,
        depth: str = "vfs",
    ) -> None:
        place(files, directory)
        self.trial = Trial(target, configuration, directory, before)
        self.depth = depth
        self._before = before
        self.trial.at_step(step)
        if depth == "statement":
            self.trial.watch_statements()

    def __enter__(self) -> Self:
        self.trial.open()
        with self._plain() as connection:
            self._rows = Rows(connection)
        self._require_start()
        self._files = self.trial.crash_copy()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.trial.close()

    def _plain(self) -> contextlib.closing[sqlite3.Connection]:
        return contextlib.closing(faults.connect_unwatched(self.trial.target.database(self.trial.directory)))

    def play(self, plan: str, action: Action, after: View, reopened: Reopened) -> faults.Armed:
        """Try one fault and put everything back; raises `Violation`, `NotUndoneError`."""
        trial = self.trial
        trial.oracle = Oracle(trial.oracle.configuration, self._before)
        with trial.armed(plan, self.depth) as armed:
            answer = trial.call(action, after)
            if answer.kind == "raised" and answer.error is not None:
                armed.saw(answer.error)
            files = trial.crash_copy()
        trial.look(integrity=False)
        if files != self._files:
            trial.look_after_crash(files, reopened)
        self._heartbeat_and_undo()
        self._files = trial.crash_copy()
        return armed

    def _heartbeat_and_undo(self) -> None:
        trial = self.trial
        before = trial.oracle.settled
        trial.beat()
        with self._plain() as connection:
            require_integrity(connection, trial.target)
            trial.judge_heartbeat(before, trial.target.fresh_view(connection))
            self._rows.restore(connection)
            trial.oracle.heard(Answer("done"), self._before)
            trial.oracle.saw_disk(trial.target.fresh_view(connection))
        self._require_start()

    def _require_start(self) -> None:
        """Memory has to show the start; the disk was looked at when it was put back."""
        if self.trial.live_view() != self._before:
            raise NotUndoneError("the session does not show what another connection has put back")
