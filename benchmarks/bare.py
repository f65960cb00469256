"""The bare steps of a fault point on the ledger and on SQLite, without the harness.

Straight-line code on the ledger's own methods: no target, no session protocol, no trial, no oracle, no shim, no fault,
no comparisons. The data that it reads is discarded. The harness's own function restores the files, so that a slower
implementation here does not favour the harness.

The same steps as a cold point: restore the files; open; one call; read the files' bytes; read the rows on a fresh
connection; read all of the ledger; if the point under test opened a crash copy: place it, open, read all, close,
integrity_check; the heartbeat call; integrity_check and the rows on a fresh connection; read all; close. To read all
includes the inputs of the reference's own checks.

The shortest point, cold: restore, open, one call, the rows on a fresh connection, close. Warm: the connection kept
open, one call, the rows on a fresh connection, and the rows put back.
"""

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any, Self

from tornpage.ledger import IllegalTransition, Ledger, NotFound, UsageError
from tornpage.ledger.rules.indexes import Indexes
from tornpage.ledger.workers import Workers
from tornpage.scenarios.execution.snapshots import Files, place
from tornpage.scenarios.model.target import Action, Configuration

_TABLES = ("tasks", "task_delivery_state", "task_history", "agent_sessions", "message_outbox")


def rows(connection: sqlite3.Connection) -> list[Any]:
    """The rows of the tables that a view is made of."""
    return [connection.execute(f"SELECT * FROM {table}").fetchall() for table in _TABLES]


def connect(directory: Path) -> sqlite3.Connection:
    """A fresh plain connection."""
    return sqlite3.connect(directory / "ledger.sqlite", isolation_level=None)


def perform(ledger: Ledger, action: Action, ids: list[str]) -> None:
    """One call of the measured workload (``tasks.METHOD``); a refusal is an answer."""
    args = dict(action.args)
    if action.name == "tasks.create":
        ids[0] = args.pop("id")
    with contextlib.suppress(IllegalTransition, NotFound, UsageError):
        getattr(ledger.tasks, action.name.removeprefix("tasks."))(**args)


def ask(ledger: Ledger) -> list[Any]:
    """All tasks, delivery states, runs, sessions and messages."""
    tasks = [(task, ledger.tasks.get_delivery(task.task_id)) for task in ledger.tasks.list()]
    return [tasks, ledger.history.list(), ledger.history.list_sessions(), ledger.outbox.list()]


def look(ledger: Ledger, directory: Path) -> list[Any]:
    """All contents, and the inputs of the reference's own checks: its rebuilt indexes, its audit, its files' modes."""
    memory = ledger.tasks.view()
    found: list[Any] = [ask(ledger), Indexes.rebuild(memory.tasks.values()), ledger.audit(severity="error")]
    for name in ("", "ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm", "ledger.sqlite-journal"):
        with contextlib.suppress(FileNotFoundError):
            found.append((directory / name).stat())
    return found


class Bare:
    """One ledger in its own directory, at one configuration."""

    def __init__(self, configuration: Configuration, directory: Path, heartbeat: Action) -> None:
        self.configuration = configuration
        self.directory = directory
        self.heartbeat = heartbeat
        self.now_ms = 0
        self._ids = [""]
        self._crash = directory.with_name(directory.name + "-crash")

    def open(self, directory: Path) -> Ledger:
        """Open the ledger there."""
        return Ledger.open(
            directory,
            journal_mode=self.configuration.journal_mode,
            synchronous=self.configuration.synchronous.lower(),
            clock=lambda: self.now_ms,
            new_id=lambda: self._ids[0],
            workers=Workers(None, new_id=lambda: "unnamed"),
        )

    def call(self, ledger: Ledger, action: Action) -> None:
        """One call."""
        perform(ledger, action, self._ids)

    def shortest_cold(self, files: Files, action: Action) -> None:
        """Restore the files, open, one call, fresh read, close."""
        place(files, self.directory)
        ledger = self.open(self.directory)
        self.call(ledger, action)
        with contextlib.closing(connect(self.directory)) as fresh:
            rows(fresh)
        ledger.close()

    def same_cold(self, files: Files, action: Action, *, crash: bool) -> None:
        """Every step that a cold fault point makes; `crash` says whether it opened a crash copy."""
        place(files, self.directory)
        ledger = self.open(self.directory)
        self.call(ledger, action)
        copy, descriptors = self.copy()
        with contextlib.closing(connect(self.directory)) as fresh:
            rows(fresh)
        look(ledger, self.directory)
        if crash:
            self.reopen(copy)
        self.call(ledger, self.heartbeat)
        with contextlib.closing(connect(self.directory)) as fresh:
            fresh.execute("PRAGMA integrity_check").fetchall()
            rows(fresh)
        look(ledger, self.directory)
        ledger.close()
        for descriptor in descriptors:
            os.close(descriptor)

    def copy(self) -> tuple[Files, list[int]]:
        """The files' bytes, and the descriptors to close once no connection is open: closing one drops all locks."""
        copy, descriptors = {}, []
        for entry in os.scandir(self.directory):
            if not entry.name.endswith("-shm"):
                descriptor = os.open(entry.path, os.O_RDONLY)
                copy[entry.name] = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
                descriptors.append(descriptor)
        return copy, descriptors

    def reopen(self, copy: Files) -> None:
        """Open a copy as after a crash."""
        place(copy, self._crash)
        ledger = self.open(self._crash)
        ask(ledger)
        ledger.close()
        with contextlib.closing(connect(self._crash)) as fresh:
            fresh.execute("PRAGMA integrity_check").fetchall()


class KeptOpen:
    """The warm steps: one ledger kept open on the files that a call starts from. A context manager."""

    def __init__(self, bare: Bare, files: Files, action: Action) -> None:
        self.bare = bare
        self.action = action
        shutil.rmtree(bare.directory, ignore_errors=True)
        place(files, bare.directory)

    def __enter__(self) -> Self:
        self.ledger = self.bare.open(self.bare.directory)
        self._descriptors: list[int] = []
        with contextlib.closing(connect(self.bare.directory)) as fresh:
            found = fresh.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            self._tables = [row[0] for row in found]
            self._kept = {name: self._read(fresh, name) for name in self._tables}
        return self

    def __exit__(self, *_: object) -> None:
        self.ledger.close()
        for descriptor in self._descriptors:
            os.close(descriptor)

    @staticmethod
    def _read(connection: sqlite3.Connection, table: str) -> dict[int, tuple[Any, ...]]:
        return {row[0]: row for row in connection.execute(f"SELECT rowid, * FROM {table}")}

    def _undo(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        for table in self._tables:
            found, kept = self._read(connection, table), self._kept[table]
            if found == kept:
                continue
            for rowid in found:
                if kept.get(rowid) != found[rowid]:
                    connection.execute(f"DELETE FROM {table} WHERE rowid = ?", (rowid,))
            missing = [row for rowid, row in kept.items() if found.get(rowid) != row]
            if missing:
                names = [column[1] for column in connection.execute(f"PRAGMA table_info({table})")]
                marks = ", ".join("?" * len(missing[0]))
                connection.executemany(f"INSERT INTO {table} (rowid, {', '.join(names)}) VALUES ({marks})", missing)
        connection.execute("COMMIT")

    def shortest(self) -> None:
        """One call, fresh read, undo, and the ledger noticing it."""
        self.bare.call(self.ledger, self.action)
        with contextlib.closing(connect(self.bare.directory)) as fresh:
            rows(fresh)
            self._undo(fresh)
        ask(self.ledger)

    def same(self, *, crash: bool) -> None:
        """Every step that a warm fault point makes."""
        bare = self.bare
        bare.call(self.ledger, self.action)
        copy, descriptors = bare.copy()
        self._descriptors += descriptors
        with contextlib.closing(connect(bare.directory)) as fresh:
            rows(fresh)
        look(self.ledger, bare.directory)
        if crash:
            bare.reopen(copy)
        bare.call(self.ledger, bare.heartbeat)
        with contextlib.closing(connect(bare.directory)) as fresh:
            fresh.execute("PRAGMA integrity_check").fetchall()
            rows(fresh)
            look(self.ledger, bare.directory)
            self._undo(fresh)
            rows(fresh)
        ask(self.ledger)
        self._descriptors += bare.copy()[1]
