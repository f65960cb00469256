"""Workloads that between them reach every kind of operation on every kind of file beneath SQLite."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tornpage import faults


class Steps:
    """Runs steps one after the other; an error ends its step only and is kept."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []

    def __call__(self, step: Callable[[], object]) -> None:
        try:
            step()
        except (sqlite3.Error, MemoryError) as error:
            self.errors.append(error)

    @contextlib.contextmanager
    def keeping(self) -> Iterator[None]:
        """Keep what opening a connection raised; its steps fall away."""
        try:
            yield
        except sqlite3.Error as error:
            self.errors.append(error)


def _finish(steps: Steps, connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        steps(connection.rollback)
    connection.close()


def _filled(steps: Steps, connection: sqlite3.Connection) -> None:
    steps(lambda: connection.execute("CREATE TABLE IF NOT EXISTS t(a INTEGER PRIMARY KEY, b)").fetchall())
    for key in range(3):
        steps(lambda key=key: connection.execute("INSERT INTO t VALUES(?, ?)", (key, bytes(6000))).fetchall())
        steps(connection.commit)


def rollback_journal(directory: Path, steps: Steps, mode: str = "delete") -> None:
    """Transactions in a rollback-journal mode, a second reader, and a VACUUM that shrinks the file."""
    with steps.keeping():
        connection = sqlite3.connect(directory / "a.db")
        steps(lambda: connection.execute(f"PRAGMA journal_mode={mode}").fetchall())
        _filled(steps, connection)
        # A savepoint in the middle makes ROLLBACK TO read the journal, a small cache makes the transaction spill.
        steps(lambda: connection.execute("PRAGMA cache_size=2").fetchall())
        steps(lambda: connection.execute("BEGIN IMMEDIATE").fetchall())
        steps(lambda: connection.execute("UPDATE t SET b = ?", (bytes(30000),)).fetchall())
        steps(lambda: connection.execute("SAVEPOINT s").fetchall())
        steps(lambda: connection.execute("UPDATE t SET b = ?", (b"x" * 30000,)).fetchall())
        steps(lambda: connection.execute("ROLLBACK TO s").fetchall())
        steps(connection.rollback)
        steps(lambda: connection.execute("DELETE FROM t WHERE a > 0").fetchall())
        steps(connection.commit)
        steps(lambda: connection.execute("VACUUM").fetchall())
        steps(lambda: connection.execute("SELECT * FROM t").fetchall())
        _finish(steps, connection)


def truncated_journal(directory: Path, steps: Steps) -> None:
    rollback_journal(directory, steps, "truncate")


def write_ahead_log(directory: Path, steps: Steps) -> None:
    """Transactions in WAL mode, a reader with an empty cache, checkpoints, and a close that deletes the WAL."""
    with steps.keeping():
        connection = sqlite3.connect(directory / "a.db")
        steps(lambda: connection.execute("PRAGMA journal_mode=wal").fetchall())
        _filled(steps, connection)
        steps(lambda: connection.execute("PRAGMA cache_size=2").fetchall())
        steps(lambda: connection.execute("SELECT * FROM t").fetchall())
        with steps.keeping():
            reader = sqlite3.connect(directory / "a.db")
            steps(lambda: reader.execute("SELECT * FROM t").fetchall())
            reader.close()
        steps(lambda: connection.execute("PRAGMA wal_checkpoint(FULL)").fetchall())
        steps(lambda: connection.execute("INSERT INTO t VALUES(9, 9)").fetchall())
        steps(connection.commit)
        steps(lambda: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        steps(lambda: connection.execute("DELETE FROM t").fetchall())
        steps(connection.commit)
        steps(lambda: connection.execute("VACUUM").fetchall())
        _finish(steps, connection)
        # A WAL beside a database that is not in WAL mode any more is deleted when it is met.
        (directory / "b.db-wal").write_bytes(b"stray")
        stray = sqlite3.connect(directory / "b.db")
        steps(lambda: stray.execute("CREATE TABLE t(a)").fetchall())
        _finish(steps, stray)


def _two_databases(directory: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(directory / "a.db", isolation_level=None)
    try:
        connection.execute("ATTACH ? AS other", (str(directory / "b.db"),))
    except sqlite3.Error:
        connection.close()
        raise
    return connection


class _CopyAtSuperDelete:
    """Keeps a copy of the directory as it is when the super-journal is about to be deleted."""

    kinds = frozenset({"delete"})

    def __init__(self, directory: Path, copy: Path) -> None:
        self._directory, self._copy = directory, copy

    def decide(self, kind: str, role: str, path: str | None) -> None:
        if role == "super" and not self._copy.exists():
            shutil.copytree(self._directory, self._copy)


def super_journal(directory: Path, steps: Steps) -> None:
    """One transaction over two databases, then the recovery of one that a crash cut short."""
    with steps.keeping():
        connection = _two_databases(directory)
        for schema in ("main", "other"):
            steps(lambda schema=schema: connection.execute(f"CREATE TABLE IF NOT EXISTS {schema}.t(a)").fetchall())
        steps(lambda: connection.execute("BEGIN").fetchall())
        steps(lambda: connection.execute("INSERT INTO main.t VALUES(1)").fetchall())
        steps(lambda: connection.execute("INSERT INTO other.t VALUES(1)").fetchall())
        steps(lambda: connection.execute("COMMIT").fetchall())
        _finish(steps, connection)


def super_recovery(directory: Path, steps: Steps) -> None:
    """The recovery of a transaction over two databases; `prepare_super_recovery` has to have run before."""
    with steps.keeping():
        connection = _two_databases(directory)
        steps(lambda: connection.execute("SELECT * FROM main.t").fetchall())
        steps(lambda: connection.execute("SELECT * FROM other.t").fetchall())
        _finish(steps, connection)


def prepare_super_recovery(directory: Path) -> None:
    """Leave behind what a crash leaves just before the super-journal is deleted."""
    copy = directory.with_name(directory.name + "-copy")
    with faults.install() as shim, shim.watching(_CopyAtSuperDelete(directory, copy)):
        super_journal(directory, Steps())
    shutil.rmtree(directory)
    copy.rename(directory)


def temporary_files(directory: Path, steps: Steps) -> None:
    """A temporary table that outgrows its cache, sorted, changed and undone: files without a name."""
    with steps.keeping():
        connection = sqlite3.connect(directory / "a.db", isolation_level=None)
        for pragma in ("temp_store=file", "temp.cache_size=2", "cache_size=2"):
            steps(lambda pragma=pragma: connection.execute(f"PRAGMA {pragma}").fetchall())
        steps(lambda: connection.execute("CREATE TEMP TABLE t(a INTEGER PRIMARY KEY, b)").fetchall())
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)"
        steps(lambda: connection.execute(f"{numbers} INSERT INTO t SELECT i, zeroblob(1500) FROM n").fetchall())
        steps(lambda: connection.execute("BEGIN").fetchall())
        steps(lambda: connection.execute("UPDATE t SET b = randomblob(1500)").fetchall())
        steps(lambda: connection.execute("SAVEPOINT s").fetchall())
        steps(lambda: connection.execute("UPDATE t SET b = zeroblob(1501)").fetchall())
        steps(lambda: connection.execute("ROLLBACK TO s").fetchall())
        steps(lambda: connection.execute("COMMIT").fetchall())
        steps(lambda: connection.execute("SELECT b, a FROM t ORDER BY b DESC, a").fetchall())
        steps(lambda: connection.execute("DELETE FROM t WHERE a > 10").fetchall())
        steps(lambda: connection.execute("PRAGMA temp.incremental_vacuum").fetchall())
        _finish(steps, connection)


WORKLOADS: dict[str, Callable[[Path, Steps], None]] = {
    "delete": rollback_journal,
    "truncate": truncated_journal,
    "wal": write_ahead_log,
    "super": super_journal,
    "super-recovery": super_recovery,
    "temp": temporary_files,
}


def _prepare(name: str, directory: Path) -> Callable[[], list[BaseException]]:
    """Empty a directory for a workload; returns the call that runs it and gives the errors that reached the caller."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    if name == "super-recovery":
        prepare_super_recovery(directory)

    def run() -> list[BaseException]:
        steps = Steps()
        WORKLOADS[name](directory, steps)
        return steps.errors

    return run


@pytest.fixture
def prepare() -> Callable[[str, Path], Callable[[], list[BaseException]]]:
    """The function that prepares one of `WORKLOADS`, by its name, in a directory."""
    return _prepare


@pytest.fixture
def shim() -> Iterator[faults.Shims]:
    """The shims, installed for the test."""
    with faults.install() as installed:
        yield installed


class Child:
    """Runs Python code in a process of its own, with this project on its path and warnings as errors."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __call__(
        self, code: str, *arguments: object, timeout_s: int = 120, ignoring: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run it; `ignoring` names a warning that the code is there to cause."""
        warnings = ["-W", "error", *(["-W", f"ignore::{ignoring}"] if ignoring else [])]
        project = Path(faults.__file__).parents[2]
        environment = {**os.environ, "PYTHONPATH": str(project), "PYTHONFAULTHANDLER": "1"}
        return subprocess.run(
            [sys.executable, *warnings, "-c", textwrap.dedent(code), *map(str, arguments)],
            cwd=self._directory, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip


@pytest.fixture
def child(tmp_path: Path) -> Child:
    """Runs code in a child process whose working directory is the test's own."""
    return Child(tmp_path)
