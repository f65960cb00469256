"""Rivals: real locks at the nth lock operation, measured evidence, virtual waiting, and nothing left behind."""

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tornpage import faults
from tornpage.faults.contention.process import RivalLostError, RivalProcess
from tornpage.faults.errors import FaultError

Open = Callable[..., sqlite3.Connection]


@pytest.fixture
def store(tmp_path: Path, shim: faults.Shim) -> Iterator[Open]:
    """Opens a database with one table in a journal mode; its busy timeout is one second."""
    opened: list[sqlite3.Connection] = []

    def made(journal_mode: str = "wal", timeout: float = 1.0) -> sqlite3.Connection:
        connection = sqlite3.connect(tmp_path / "a.db", isolation_level=None, timeout=timeout)
        opened.append(connection)
        connection.execute(f"PRAGMA journal_mode={journal_mode}").fetchall()
        connection.execute("CREATE TABLE IF NOT EXISTS t(a)")
        write(connection)
        return connection

    yield made
    for connection in opened:
        connection.close()


def write(connection: sqlite3.Connection) -> str:
    """One transaction; "" or the name of SQLite's error, after which nothing is left open."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO t VALUES(1)")
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        return error.sqlite_errorname
    return ""


def count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])


# Who blocks a writer: journal mode, kind, operation.
BLOCKS = [
    ("wal", "writer", "shmlock"),
    ("wal", "committer", "shmlock"),
    ("wal", "truncator", "shmlock"),
    ("delete", "reader", "lock"),
    ("delete", "writer", "lock"),
    ("delete", "exclusive", "lock"),
    ("delete", "committer", "lock"),
    ("truncate", "committer", "lock"),
    ("persist", "committer", "lock"),
]
PLACED = [(*row, place) for row in BLOCKS for place in faults.RIVAL_KINDS[row[1]].places]


@pytest.mark.parametrize(("mode", "kind", "operation", "place"), PLACED)
def test_a_lock_that_is_held_for_good_is_busy_after_the_whole_timeout_in_virtual_time(
    mode: str, kind: str, operation: str, place: faults.RivalPlace, store: Open, shim: faults.Shim, tmp_path: Path
) -> None:
    connection = store(mode)
    before = count(connection)
    with faults.shared_rival_process():
        before_us = shim.slept_us
        with faults.contend(kind, operation, 1, tmp_path, place=place, journal_mode=mode) as rival:
            assert write(connection) == "SQLITE_BUSY"
        # The shim took the whole sleep upon itself, and what it takes takes no time.
        assert (shim.slept_us - before_us) / 1000 == pytest.approx(1000, abs=5)
    assert rival.contended
    assert rival.refused >= 10
    assert rival.waited_ms == pytest.approx(1000, abs=5)
    assert count(connection) == before
    assert write(connection) == ""


@pytest.mark.parametrize(("mode", "kind", "operation", "place"), PLACED)
def test_a_lock_that_is_held_for_50_ms_is_waited_for(
    mode: str, kind: str, operation: str, place: faults.RivalPlace, store: Open, tmp_path: Path
) -> None:
    connection = store(mode)
    with faults.contend(kind, operation, 1, tmp_path, place=place, held_ms=50, journal_mode=mode) as rival:
        assert write(connection) == ""
        assert not rival.holds
    assert rival.contended
    assert 50 <= rival.waited_ms < 100
    assert rival.refused > 0


def test_a_store_without_a_busy_timeout_fails_while_the_rival_is_still_there(store: Open, tmp_path: Path) -> None:
    connection = store(timeout=0)
    with faults.contend("writer", "shmlock", 1, tmp_path, held_ms=50) as rival:
        assert write(connection) == "SQLITE_BUSY"
        assert rival.holds
        assert rival.waited_ms == 0
    assert rival.contended
    assert not rival.holds


@pytest.mark.parametrize("place", ["connection", "process"])
def test_a_commit_between_a_read_and_the_write_after_it_is_busy_snapshot(
    place: faults.RivalPlace, store: Open, tmp_path: Path
) -> None:
    connection = store()
    connection.execute("BEGIN")
    before = count(connection)
    with faults.contend("overtaker", "shmlock", 1, tmp_path, place=place) as rival:
        with pytest.raises(sqlite3.OperationalError) as raised:
            connection.execute("INSERT INTO t VALUES(1)")
        assert rival.saw(raised.value)
    assert raised.value.sqlite_errorname == "SQLITE_BUSY_SNAPSHOT"
    connection.execute("ROLLBACK")
    assert rival.contended
    assert count(connection) == before


def test_a_reader_keeps_a_checkpoint_from_its_end_and_a_checkpointer_keeps_others_from_beginning(
    store: Open, tmp_path: Path
) -> None:
    connection = store(timeout=0)
    with faults.contend("reader", "shmlock", 1, tmp_path) as reader:
        write(connection)
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 1
    write(connection)
    with faults.contend("checkpointer", "shmlock", 1, tmp_path, place="process") as checkpointer:
        assert connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[0] == 1
    assert reader.contended
    assert checkpointer.contended
    assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)


def test_a_process_in_the_middle_of_recovery_is_busy_recovery(store: Open, tmp_path: Path) -> None:
    first = store()
    left = {path: path.read_bytes() for path in tmp_path.iterdir() if not path.name.endswith("-shm")}
    first.close()
    for path, content in left.items():
        path.write_bytes(content)
    with faults.contend("recoverer", "shmlock", 1, tmp_path, place="process", journal_mode="wal") as rival:
        again = sqlite3.connect(tmp_path / "a.db", timeout=0)
        with pytest.raises(sqlite3.OperationalError) as raised:
            count(again)
        assert rival.holds
        rival.make_way()
        assert not rival.holds
        assert count(again) == 1
    again.close()
    assert raised.value.sqlite_errorname == "SQLITE_BUSY_RECOVERY"


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_rival_leaves_no_trace_in_what_the_store_shows(mode: str, store: Open, tmp_path: Path) -> None:
    connection = store(mode)
    connection.execute("PRAGMA user_version = 7")

    def dump() -> list[object]:
        return [*connection.iterdump(), connection.execute("PRAGMA user_version").fetchone()]

    shown = dump()
    with faults.contend("committer", "shmlock" if mode == "wal" else "lock", 1, tmp_path, place="process") as rival:
        write(connection)
        rival.let_go()
        assert dump() == shown
    assert rival.was_held


def test_a_rival_that_cannot_have_its_lock_has_missed_and_is_no_evidence(store: Open, tmp_path: Path) -> None:
    connection, other = store("delete"), sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for place in ("connection", "process"):
        with faults.contend("writer", "lock", 1, tmp_path, place=place) as rival:
            count(connection)
        assert "locked" in str(rival.missed)
        assert not rival.was_held
        assert not rival.contended
    other.execute("ROLLBACK")
    other.close()


def test_a_rival_that_is_in_nobodys_way_is_no_evidence(store: Open, tmp_path: Path) -> None:
    connection = store()
    # The first read after a commit also sets a read mark, and who reads at the same mark keeps it from that.
    count(connection)
    with faults.contend("writer", "shmlock", 1, tmp_path) as rival:
        count(connection)
    assert rival.was_held
    assert not rival.contended
    assert not rival.saw(sqlite3.OperationalError("no such table"))


def test_a_rival_comes_at_its_operation_on_its_files_and_not_while_it_is_paused(store: Open, tmp_path: Path) -> None:
    connection = store()
    with faults.contend("writer", "shmlock", 3, tmp_path / "elsewhere") as elsewhere:
        write(connection)
    count(connection)
    with faults.contend("writer", "shmlock", 3, tmp_path) as third:
        count(connection)
        assert not third.was_held
        with third.paused():
            assert write(connection) == ""
        assert third.seen == 1
        assert write(connection) == "SQLITE_BUSY"
    assert not elsewhere.was_held


def test_waiting_in_python_is_virtual_too_and_lets_the_rival_go(store: Open, tmp_path: Path) -> None:
    connection = store(timeout=0)
    with faults.contend("writer", "shmlock", 1, tmp_path, held_ms=3_600_000) as rival:
        deadline_s = time.monotonic() + 2 * 3600
        while write(connection) and time.monotonic() < deadline_s:
            time.sleep(60)
    assert rival.waited_ms == pytest.approx(3_600_000)
    assert not rival.holds


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_process_is_shared_by_scopes_and_gone_after_the_outermost(shim: faults.Shim) -> None:
    with faults.shared_rival_process() as outer:
        with faults.shared_rival_process() as inner:
            assert inner is outer
        assert is_alive(outer.pid)
    assert not is_alive(outer.pid)


def test_a_process_that_is_kept_is_started_by_the_first_rival_and_ends_with_the_scope(
    store: Open, tmp_path: Path, rivals_started: list[int]
) -> None:
    connection = store(timeout=0)
    with faults.kept_rival_process():
        assert rivals_started == []
        for _ in range(2):
            with faults.contend("writer", "shmlock", 1, tmp_path, place="process"), contextlib.suppress(sqlite3.Error):
                write(connection)
        (pid,) = rivals_started
        assert is_alive(pid)
    assert not is_alive(pid)


def test_a_process_that_stands_still_in_mid_commit_ends_with_its_pipe_and_its_locks_with_it(
    store: Open, tmp_path: Path
) -> None:
    connection = store("delete", timeout=0)
    with RivalProcess() as process:
        assert process.take(faults.RIVAL_KINDS["committer"], str(tmp_path / "a.db")) == ""
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            count(connection)
    assert not is_alive(process.pid)
    # It died with a hot journal: the next reader rolls its half commit back.
    assert (tmp_path / "a.db-journal").exists()
    assert count(connection) == 1
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_process_that_is_gone_is_said_to_be(store: Open, tmp_path: Path) -> None:
    connection = store()
    with faults.shared_rival_process() as process:
        os.kill(process.pid, 9)
        with (
            pytest.raises(RivalLostError, match=str(process.pid)),
            faults.contend("writer", "shmlock", 1, tmp_path, place="process"),
        ):
            write(connection)


@pytest.mark.parametrize(
    ("kind", "operation", "ordinal", "place"),
    [("nobody", "lock", 1, "process"), ("writer", "read", 1, "process"), ("writer", "lock", 0, "process"),
     ("committer", "lock", 1, "connection")],
)  # fmt: skip
def test_a_rival_that_there_cannot_be_is_refused_and_the_others_are_named(
    kind: str, operation: str, ordinal: int, place: faults.RivalPlace, shim: faults.Shim, tmp_path: Path
) -> None:
    with (
        pytest.raises(FaultError, match=r"reader \(connection or process\).*committer \(process\)"),
        faults.contend(kind, operation, ordinal, tmp_path, place=place),
    ):
        pass


def test_without_the_shim_there_are_no_rivals(tmp_path: Path) -> None:
    with pytest.raises(faults.NotInstalledError), faults.contend("writer", "lock", 1, tmp_path):
        pass


def test_a_rival_in_a_process_without_memory_is_missed_and_ends_nothing(store: Open, tmp_path: Path) -> None:
    """Its MemoryError reached the harness, which took it for an error of its own."""
    connection = store("delete")
    with faults.contend("writer", "lock", 1, tmp_path, place="connection", journal_mode="delete") as rival:
        with faults.HeapLimit(0).in_force():
            connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    assert rival.missed is not None
    assert not rival.was_held
    assert write(connection) == ""
