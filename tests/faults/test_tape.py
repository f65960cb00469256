"""The tape is faithful: made again from the tape, the directory is the one that is there, byte for byte."""

import contextlib
import ctypes
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tornpage import faults
from tornpage.faults import CrashStates, Operation, Tape

pytestmark = pytest.mark.usefixtures("shim")

Prepare = Callable[[str, Path], Callable[[], list[BaseException]]]


def files_below(directory: Path) -> dict[str, bytes]:
    return {
        os.fspath(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.name.endswith("-shm")
    }


def require_faithful(base: dict[str, bytes], tape: Tape, directory: Path) -> None:
    assert dict(CrashStates(base, tape.operations).process(len(tape)).files) == files_below(directory)


def of_kind(tape: Tape, kind: str) -> list[str]:
    return [str(operation) for operation in tape.operations if operation.kind == kind]


@contextlib.contextmanager
def opened(path: Path, *pragmas: str) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
        yield connection


@pytest.mark.parametrize("name", ["delete", "truncate", "wal", "super", "super-recovery", "temp"])
def test_the_directory_is_made_again_from_the_tape_after_every_kind_of_workload(
    prepare: Prepare, tmp_path: Path, name: str
) -> None:
    home = tmp_path / "store"
    run = prepare(name, home)
    base = files_below(home)
    with faults.record(home) as tape:
        assert run() == []
    # What is temporary has no name, and is nobody's after a crash.
    assert {"write", "sync"} <= {operation.kind for operation in tape.operations} or name == "temp"
    require_faithful(base, tape, home)


@pytest.mark.parametrize("mode", ["wal", "delete", "truncate", "persist"])
@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL", "FULL", "EXTRA"])
def test_the_files_are_faithful_at_every_moment(tmp_path: Path, mode: str, synchronous: str) -> None:
    with faults.record(tmp_path) as tape:
        with opened(tmp_path / "a.db", f"synchronous={synchronous}", f"journal_mode={mode}") as connection:
            connection.execute("CREATE TABLE t(a)")
            for number in range(5):
                connection.execute("INSERT INTO t VALUES(?)", (bytes(3000 * number),))
                # Copying closes descriptors, which would drop the locks of the process: nothing is locked now.
                require_faithful({}, tape, tmp_path)
            connection.execute("DELETE FROM t WHERE length(a) > 3000")
            connection.execute("VACUUM")
            require_faithful({}, tape, tmp_path)
        require_faithful({}, tape, tmp_path)
    assert bool(of_kind(tape, "sync")) == (synchronous != "OFF")


@pytest.mark.parametrize("mode", ["wal", "delete", "persist"])
def test_of_a_write_that_failed_half_way_the_half_is_on_the_tape(tmp_path: Path, mode: str) -> None:
    role = "wal" if mode == "wal" else "db"
    with faults.record(tmp_path) as tape, opened(tmp_path / "a.db", f"journal_mode={mode}") as connection:
        connection.execute("CREATE TABLE t(a)")
        before = len(tape)
        with (
            faults.arm(f"write:{role}@1/half=IOERR_WRITE", tmp_path) as armed,
            pytest.raises(sqlite3.OperationalError),
        ):
            connection.execute("INSERT INTO t VALUES(1)")
        assert armed.fired
        writes = [one for one in tape.operations[before:] if one.kind == "write" and one.path.endswith((".db", "-wal"))]
        assert len(writes[0].data) in (12, 2048), "a half of a WAL frame's header, or of a page"
        require_faithful({}, tape, tmp_path)


@pytest.mark.parametrize(
    "plan", ["write:wal@1=IOERR_WRITE", "write:wal@1=FULL", "sync:wal@1=IOERR_FSYNC"], ids=lambda plan: plan
)
def test_what_never_reached_the_system_is_not_on_the_tape(tmp_path: Path, plan: str) -> None:
    with faults.record(tmp_path) as tape, opened(tmp_path / "a.db", "journal_mode=wal") as connection:
        connection.execute("CREATE TABLE t(a)")
        before = of_kind(tape, "sync")
        with faults.arm(plan, tmp_path) as armed, pytest.raises(sqlite3.OperationalError):
            connection.execute("INSERT INTO t VALUES(1)")
        assert armed.fired
        assert of_kind(tape, "sync") == before
        require_faithful({}, tape, tmp_path)


def test_two_connections_and_two_databases_stand_on_one_tape_in_order(tmp_path: Path) -> None:
    with faults.record(tmp_path) as tape:
        with opened(tmp_path / "a.db", "journal_mode=wal") as one, opened(tmp_path / "b.db") as two:
            one.execute("CREATE TABLE t(a)")
            two.execute("CREATE TABLE t(a)")
            with opened(tmp_path / "a.db") as third:
                third.execute("INSERT INTO t VALUES(1)")
                two.execute("INSERT INTO t VALUES(2)")
                one.execute("INSERT INTO t VALUES(3)")
        require_faithful({}, tape, tmp_path)
    created = [operation.path for operation in tape.operations if operation.kind == "create"]
    assert created[0] == "a.db"
    assert {"a.db-wal", "b.db", "b.db-journal"} <= set(created)


def test_the_deleted_super_journal_is_durable_and_the_deleted_journals_are_not(
    prepare: Prepare, tmp_path: Path
) -> None:
    home = tmp_path / "store"
    run = prepare("super", home)
    with faults.record(home) as tape:
        run()
    deleted = {
        operation.path: tape.operations[index + 1].kind == "syncdir"
        for index, operation in enumerate(tape.operations[:-1])
        if operation.kind == "delete"
    }
    supers = [name for name in deleted if "-mj" in name]
    assert supers, deleted
    assert all(deleted[name] for name in supers), "sqlite3OsDelete(pVfs, zSuper, 1)"
    assert not deleted["a.db-journal"], "at FULL nobody syncs the directory after the journal's unlink"


@pytest.mark.parametrize(("synchronous", "durable"), [("FULL", False), ("EXTRA", True)])
def test_the_journals_unlink_is_made_durable_at_extra_only(tmp_path: Path, synchronous: str, durable: bool) -> None:
    with faults.record(tmp_path) as tape, opened(tmp_path / "a.db", f"synchronous={synchronous}") as connection:
        connection.execute("CREATE TABLE t(a)")
    kinds = [operation.kind for operation in tape.operations]
    after = kinds[kinds.index("delete") + 1 :]
    assert ("syncdir" in after) is durable


def test_only_the_first_sync_of_a_new_journal_or_wal_makes_names_durable(tmp_path: Path) -> None:
    with faults.record(tmp_path) as tape, opened(tmp_path / "a.db", "journal_mode=wal") as connection:
        connection.execute("CREATE TABLE t(a)")
        before = len(tape)
        for number in range(3):
            connection.execute("INSERT INTO t VALUES(?)", (number,))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert len(of_kind(tape, "sync")) > 4
        assert "syncdir" not in {operation.kind for operation in tape.operations[before:]}
    directories = [index for index, operation in enumerate(tape.operations) if operation.kind == "syncdir"]
    assert [tape.operations[index - 1].path for index in directories] == ["a.db-journal", "a.db-wal"]


def test_files_of_somebody_else_are_not_on_the_tape(tmp_path: Path) -> None:
    home, other = tmp_path / "store", tmp_path / "store-2"
    home.mkdir()
    other.mkdir()
    with faults.record(home) as tape, opened(other / "a.db") as connection:
        connection.execute("CREATE TABLE t(a)")
        (other / "plain").write_text("x")
    assert len(tape) == 0


def test_after_the_scope_nothing_is_written_down(tmp_path: Path) -> None:
    with faults.record(tmp_path) as tape:
        pass
    with opened(tmp_path / "a.db") as connection:
        connection.execute("CREATE TABLE t(a)")
    (tmp_path / "plain").write_text("x")
    assert len(tape) == 0


def test_the_recorder_changes_no_byte(tmp_path: Path, shim: faults.Shim) -> None:
    def bytes_of(name: str, *, recorded: bool) -> dict[str, bytes]:
        home = tmp_path / name
        home.mkdir()
        with shim.deterministic(7), faults.record(home) if recorded else contextlib.nullcontext():
            connection = sqlite3.connect(home / "a.db", isolation_level=None)
            connection.execute("PRAGMA journal_mode=wal")
            connection.execute("CREATE TABLE t(a)")
            connection.execute("INSERT INTO t VALUES(randomblob(100))")
            files = files_below(home)
            connection.close()
        return files

    assert bytes_of("with", recorded=True) == bytes_of("without", recorded=False)


def test_an_operation_says_what_it_did() -> None:
    assert str(Operation("write", "a.db", 4096, b"xyz")) == "write 3 bytes of a.db at 4096"
    assert str(Operation("truncate", "a.db", size=0)) == "truncate a.db to 0 bytes"
    assert str(Operation("rename", "new", other="old")) == "rename new to old"
    assert str(Operation("syncdir", "")) == "syncdir the directory"


@pytest.mark.parametrize("is_first", [True, False])
def test_a_file_is_created_before_another_thread_writes_it(is_first: bool, tmp_path: Path) -> None:
    tape, path, data = Tape(tmp_path), f"{tmp_path}/a-wal", ctypes.create_string_buffer(b"abcd")
    tape.opening(path, 4, existed=False)
    # The other thread has opened the file that exists now.
    tape.opening(path, 4, existed=True)
    if is_first:
        tape.performed("write", path, (0, data, 4, 0))
    tape.opened(path, "wal", 1, 4)
    if not is_first:
        tape.performed("write", path, (0, data, 4, 0))
    assert [one.kind for one in tape.operations] == ["create", "write"]
