"""The shim leaves nothing behind, and nothing that goes on beside it can make it crash the interpreter."""

import contextlib
import ctypes
import gc
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tornpage import faults
from tornpage.faults.injector import SHM_RELEASE
from tornpage.faults.plan import VFS_KINDS
from tornpage.faults.reach.library import SIGNATURES
from tornpage.faults.reach.proof import Vfs


def _work(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS t(a)")
    connection.execute("INSERT INTO t VALUES(1)")
    connection.commit()
    assert connection.execute("SELECT count(*) FROM t").fetchone()[0] > 0


def _bytes(shim: faults.Shim) -> list[bytes]:
    """The VFSs of the operating system, as they stand in the library's memory."""
    return [ctypes.string_at(one.address, ctypes.sizeof(Vfs)) for one in shim.library.vfss]


def _foreign_slots(shim: faults.Shims | faults.Shim) -> set[str]:
    """The watched slots that lead to our code, xClose aside."""
    members = shim.members if isinstance(shim, faults.Shims) else [shim]
    return {slot.field for one in members for slot in one._slots if slot.cell.value != slot.base}


class _Raising:
    """Raises from its answer to one kind of operation."""

    def __init__(self, kind: str, error: BaseException) -> None:
        self.kinds = frozenset({kind})
        self._error = error
        self.times = 0

    def decide(self, kind: str, role: str, path: str | None) -> None:
        self.times += 1
        if self.times == 1:
            raise self._error


@pytest.fixture
def connection(shim: faults.Shims, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(tmp_path / "a.db")
    yield opened
    opened.close()


def test_the_vfs_is_byte_for_byte_what_it_was_and_every_slot_is_the_bases_again(tmp_path: Path) -> None:
    shim = faults.shim_for()
    before = _bytes(shim)
    with faults.install(), faults.arm("any@*=IOERR"), contextlib.suppress(sqlite3.Error):
        sqlite3.connect(tmp_path / "a.db")
    with faults.install(), faults.arm("any@1000000=IOERR"), shim.deterministic():
        connection = sqlite3.connect(tmp_path / "a.db")
        _work(connection)
        assert _bytes(shim) != before
        assert _foreign_slots(shim)
    assert _bytes(shim) == before
    assert not _foreign_slots(shim)
    assert not shim.is_installed
    connection.close()
    assert not shim.paths


def test_with_nothing_armed_no_slot_is_ours(shim: faults.Shims, connection: sqlite3.Connection) -> None:
    _work(connection)
    assert not _foreign_slots(shim)
    with faults.arm("sync:wal@1=IOERR_FSYNC"):
        assert _foreign_slots(shim) == {"xSync"}
    assert not _foreign_slots(shim)


def test_what_somebody_else_puts_in_a_slots_place_meanwhile_stays_there(tmp_path: Path) -> None:
    """Another tool may have taken our function for SQLite's own: it still leads to SQLite when we are gone."""
    shim = faults.shim_for()
    place = shim.places[0]
    with faults.install():
        ours = place.vfs.xOpen
        callback = SIGNATURES["xOpen"](SIGNATURES["xOpen"](ours))
        place.vfs.xOpen = other = ctypes.cast(callback, ctypes.c_void_p).value
        assert other != ours
    try:
        assert place.vfs.xOpen == other
        with contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as connection:
            _work(connection)
        assert not shim.paths
    finally:
        place.vfs.xOpen = place.base["xOpen"]


def test_scopes_nest_and_only_the_outermost_takes_the_shim_away(tmp_path: Path) -> None:
    shim = faults.shim_for()
    before = _bytes(shim)
    with faults.install() as outer:
        with faults.install() as inner:
            assert inner is outer
        assert _bytes(shim) != before
        connection = sqlite3.connect(tmp_path / "a.db")
        with faults.arm("write@1=FULL") as armed, pytest.raises(sqlite3.OperationalError):
            _work(connection)
        assert armed.surfaced == 0  # It was caught inside the scope, and nobody told of it.
        assert armed.fired == 1
        connection.close()
    assert _bytes(shim) == before


def test_arms_nest_and_each_counts_what_the_outer_ones_let_pass(connection: sqlite3.Connection) -> None:
    with faults.arm("write@1000=FULL") as outer:
        with faults.arm("write@1000=IOERR_WRITE") as inner:
            _work(connection)
        seen = inner.injector.matches[0]
        _work(connection)
    assert 0 < seen < outer.injector.matches[0]


def test_one_injector_may_watch_in_two_scopes(shim: faults.Shims, connection: sqlite3.Connection) -> None:
    counter = faults.OperationCounter()
    with shim.watching(counter):
        with shim.watching(counter):
            pass
        _work(connection)
    assert counter.counts
    with_one = sum(counter.counts.values())
    _work(connection)
    assert sum(counter.counts.values()) == with_one


def test_an_injector_is_asked_about_its_kinds_only(shim: faults.Shims, tmp_path: Path) -> None:
    asked: set[str] = set()

    class OnlyDelete:
        kinds = frozenset({"delete"})

        def decide(self, kind: str, role: str, path: str | None) -> None:
            asked.add(kind)

    with shim.watching(OnlyDelete()), faults.arm("any@1000000=IOERR"):
        connection = sqlite3.connect(tmp_path / "a.db")
        _work(connection)
        connection.close()
    assert asked == {"delete"}


def test_arming_outside_an_install_scope_is_misuse() -> None:
    with pytest.raises(faults.NotInstalledError), faults.arm("write@1=FULL"):
        pass


def test_a_connection_from_before_the_scope_is_out_of_reach_and_unharmed(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "a.db")
    _work(connection)
    with faults.install(), faults.arm("any@*=IOERR") as armed:
        connection.execute("INSERT INTO t VALUES(1)")
        connection.commit()
    assert armed.fired == 0
    connection.close()


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_connection_that_outlives_the_scope_goes_on_unwatched_and_is_watched_in_the_next(
    mode: str, tmp_path: Path
) -> None:
    with faults.install():
        connection = sqlite3.connect(tmp_path / "a.db")
        connection.execute(f"PRAGMA journal_mode={mode}")
        with faults.arm("sync@1000=IOERR_FSYNC"):
            _work(connection)
    gc.collect()
    for _ in range(3):
        _work(connection)
        gc.collect()
    with faults.install(), faults.arm("write@1=FULL") as armed:
        with pytest.raises(sqlite3.OperationalError, match="full"):
            _work(connection)
        assert armed.fired == 1
    _work(connection)
    connection.close()
    assert not faults.shim_for().paths


def test_a_collection_in_the_middle_of_an_operation_harms_nothing(shim: faults.Shims, tmp_path: Path) -> None:
    class Collecting:
        kinds = frozenset((*VFS_KINDS, SHM_RELEASE))

        def decide(self, kind: str, role: str, path: str | None) -> None:
            gc.collect(0)

    with shim.watching(Collecting()):
        connection = sqlite3.connect(tmp_path / "a.db")
        connection.execute("PRAGMA journal_mode=wal")
        for _ in range(5):
            _work(connection)
        connection.close()


@pytest.mark.parametrize("mode", ["delete", "truncate", "wal"])
@pytest.mark.parametrize("uncommitted", [True, False])
def test_close_under_a_fault_never_raises_and_the_data_is_there_afterwards(
    mode: str, uncommitted: bool, tmp_path: Path
) -> None:
    for plan in ("any@*=IOERR", "any@*/after=IOERR", "write@*/half=FULL", "delete@*=IOERR_DELETE", "lock@*=BUSY"):
        path = tmp_path / f"{plan.replace('/', '-')}.db"
        with faults.install():
            connection = sqlite3.connect(path)
            connection.execute(f"PRAGMA journal_mode={mode}")
            _work(connection)
            if uncommitted:
                connection.execute("INSERT INTO t VALUES(2)")
            with faults.arm(plan):
                connection.close()
        again = sqlite3.connect(path)
        assert again.execute("SELECT a FROM t").fetchall() == [(1,)]
        again.close()
    assert not faults.shim_for().paths


# From Python 3.15 on, sqlite3 says of a cursor that could not be reset that it was ignored.
@pytest.mark.filterwarnings("ignore:Exception ignored in cursor_clear:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", sorted({*VFS_KINDS, SHM_RELEASE}))
@pytest.mark.parametrize("error", [ValueError("in the injector"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_an_exception_inside_an_injector_surfaces_in_the_harness(
    kind: str, error: BaseException, tmp_path: Path
) -> None:
    injector = _Raising(kind, error)

    def run() -> None:
        connection = sqlite3.connect(tmp_path / "a.db")
        try:
            connection.execute("PRAGMA journal_mode=wal" if kind != "delete" else "PRAGMA journal_mode=delete")
            _work(connection)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()

    with pytest.raises(BaseException) as raised, faults.install() as shim, shim.watching(injector):  # noqa: PT011 - three kinds
        run()
    assert injector.times
    if isinstance(error, Exception) and raised.value is not error:
        # SQLite made an error of it that was already on its way; the real one is told as a note.
        assert any("in the injector" in note for note in raised.value.__notes__)
    else:
        assert raised.value is error
    assert not faults.shim_for().kept
    assert not faults.shim_for().paths
    with faults.install():
        run()


def test_an_exception_that_sqlite_absorbed_is_told_at_the_end_of_the_scope(tmp_path: Path) -> None:
    """A callback that fails inside ROLLBACK or close() makes no error of SQLite's."""
    error = ValueError("nobody would know")

    def run() -> None:
        with faults.install() as shim:
            connection = sqlite3.connect(tmp_path / "a.db")
            connection.execute("PRAGMA journal_mode=wal")
            _work(connection)
            with shim.watching(_Raising("delete", error)):
                connection.close()

    with pytest.raises(ValueError, match="nobody would know") as raised:
        run()
    assert raised.value is error


def test_several_exceptions_are_all_told(tmp_path: Path) -> None:
    class Always:
        kinds = frozenset({"read"})

        def decide(self, kind: str, role: str, path: str | None) -> None:
            raise ValueError(f"about {kind}")

    def run() -> None:
        with faults.install() as shim, shim.watching(Always()):
            for _ in range(3):
                with contextlib.suppress(sqlite3.Error):
                    sqlite3.connect(tmp_path / "a.db")

    with pytest.raises(ValueError, match="about read") as raised:
        run()
    assert len(raised.value.__notes__) == 2


def test_an_injector_may_use_sqlite_itself(shim: faults.Shims, tmp_path: Path) -> None:
    class Asking:
        kinds = frozenset({"sync"})
        asleep = False
        answers: list[int]

        def __init__(self) -> None:
            self.answers = []

        def decide(self, kind: str, role: str, path: str | None) -> None:
            if self.asleep:
                return
            self.asleep = True
            memory = sqlite3.connect(tmp_path / "other.db")
            _work(memory)
            self.answers.append(memory.execute("SELECT count(*) FROM t").fetchone()[0])
            memory.close()
            self.asleep = False

    asking = Asking()
    with shim.watching(asking):
        connection = sqlite3.connect(tmp_path / "a.db")
        _work(connection)
        connection.close()
    assert asking.answers == list(range(1, len(asking.answers) + 1))
    assert asking.answers


def test_an_injector_may_arm_and_disarm_in_the_middle_of_an_operation(shim: faults.Shims, tmp_path: Path) -> None:
    class Arming:
        kinds = frozenset({"write"})
        stack = contextlib.ExitStack()

        def decide(self, kind: str, role: str, path: str | None) -> None:
            self.stack.close()
            self.stack.enter_context(shim.watching(faults.OperationCounter()))

    with shim.watching(arming := Arming()):
        connection = sqlite3.connect(tmp_path / "a.db")
        _work(connection)
        connection.close()
        arming.stack.close()
    assert not _foreign_slots(shim)


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_two_threads_on_two_connections_under_fault(mode: str, shim: faults.Shims, tmp_path: Path) -> None:
    """Each thread has its own file and plan; neither sees the other's faults."""
    outcomes: dict[str, list[str]] = {}
    barrier = threading.Barrier(2)

    def run(name: str, plan: str) -> None:
        path = tmp_path / name
        told = outcomes.setdefault(name, [])
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.execute("CREATE TABLE t(a)")
        with faults.arm(plan, path) as armed:
            barrier.wait()
            for number in range(100):
                try:
                    connection.execute("INSERT INTO t VALUES(?)", (number,))
                except sqlite3.OperationalError as error:
                    told.append(error.sqlite_errorname)
        assert armed.fired == 1
        assert len(told) == 100 - connection.execute("SELECT count(*) FROM t").fetchone()[0]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()
        told.append("done")

    threads = [
        threading.Thread(target=run, args=("one.db", "write@10..30=FULL")),
        threading.Thread(target=run, args=("two.db", "sync@5..20=IOERR_FSYNC")),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(outcomes["one.db"]) == {"SQLITE_FULL", "done"}
    assert set(outcomes["two.db"]) == {"SQLITE_IOERR_FSYNC", "done"}


def test_threads_that_install_and_leave_while_others_work(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def run(number: int) -> None:
        try:
            for turn in range(30):
                with faults.install(), faults.arm("sync@1=IOERR_FSYNC", tmp_path / str(number)):
                    connection = sqlite3.connect(tmp_path / f"{number}.db")
                    _work(connection)
                    connection.close()
                assert not turn or (tmp_path / f"{number}.db").exists()
        except BaseException as error:  # noqa: BLE001 - it is told to the test
            failed.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    shim = faults.shim_for()
    assert not shim.is_installed
    assert not _foreign_slots(shim)
    for place in shim.places:
        assert all(getattr(place.vfs, field) == address for field, address in place.base.items())


@pytest.mark.parametrize("name", ["plain.db", "with space.db", "per%20cent?.db", "ünïcödé.db", "a#b&c=d.db"])
def test_any_file_name_is_reached_by_its_path(name: str, shim: faults.Shims, tmp_path: Path) -> None:
    path = tmp_path / name
    connection = sqlite3.connect(path)
    with faults.arm("sync@1=IOERR_FSYNC", path) as armed, contextlib.suppress(sqlite3.OperationalError):
        _work(connection)
    assert armed.firings[0].path is not None
    assert armed.firings[0].path.startswith(os.path.realpath(path))
    _work(connection)
    connection.close()
    reader = faults.connect_unwatched(path)
    with faults.arm("any@*=IOERR"):
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (1,)
    reader.close()


def test_a_name_that_is_no_text_is_passed_on_as_it_is(shim: faults.Shims, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe.db"
    connection = sqlite3.connect(path)
    with faults.arm("sync@1=IOERR_FSYNC", os.fsdecode(path)) as armed, pytest.raises(sqlite3.OperationalError):
        _work(connection)
    assert armed.fired == 1
    connection.close()
    assert Path(os.fsdecode(path)).exists()


@pytest.mark.parametrize("name", ["unix", "unix-dotfile", "unix-excl", "unix-none"])
def test_a_connection_is_within_reach_whatever_vfs_it_asks_for_by_name(
    name: str, shim: faults.Shims, tmp_path: Path
) -> None:
    unwatched = faults.connect_unwatched(_made(tmp_path / "b.db"))
    connection = sqlite3.connect(f"file:{tmp_path / 'a.db'}?vfs={name}", uri=True)
    with faults.arm("write@*=FULL") as armed:
        unwatched.execute("INSERT INTO t VALUES(1)")
        assert armed.fired == 0
        with pytest.raises(sqlite3.OperationalError):
            _work(connection)
    connection.close()
    unwatched.close()


def _made(path: Path) -> Path:
    connection = sqlite3.connect(path)
    _work(connection)
    connection.close()
    return path


def test_backup_attach_blob_and_exclusive_locking_run_through_the_shim(shim: faults.Shims, tmp_path: Path) -> None:
    source = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    source.execute("PRAGMA journal_mode=wal")
    source.execute("PRAGMA locking_mode=exclusive")
    source.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
    source.execute("INSERT INTO t VALUES(1, zeroblob(9000))")
    target = sqlite3.connect(tmp_path / "b.db")
    with faults.arm("write@3=FULL", tmp_path / "b.db") as armed, pytest.raises(sqlite3.OperationalError):
        source.backup(target)
    assert armed.fired == 1
    source.backup(target)
    assert target.execute("SELECT length(b) FROM t").fetchone() == (9000,)
    with faults.arm("write:wal@1=FULL") as armed:
        # The COMMIT comes with the close, and CPython drops what sqlite3_blob_close answers.
        blob = source.blobopen("t", "b", 1)
        blob.write(b"x")
        blob.close()
    assert armed.fired == 1
    assert source.execute("SELECT substr(b, 1, 1) FROM t").fetchone() == (b"\0",)
    source.execute("ATTACH ? AS c", (str(tmp_path / "c.db"),))
    with faults.arm("write@1=FULL", tmp_path / "c.db") as armed, pytest.raises(sqlite3.OperationalError):
        source.execute("CREATE TABLE c.t(a)")
    assert armed.fired == 1
    target.close()
    source.close()


def test_a_reader_that_only_reads_recovers_a_wal_and_leaves_the_database_alone(
    shim: faults.Shims, tmp_path: Path
) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = wal").fetchall()
        connection.execute("CREATE TABLE t(a)")
        connection.execute("INSERT INTO t VALUES(1)")
        left = {name: (tmp_path / name).read_bytes() for name in ("a.db", "a.db-wal")}
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for name, content in left.items():
        (crashed / name).write_bytes(content)
    with contextlib.closing(faults.connect_unwatched(crashed / "a.db", read_only=True)) as reader:
        assert reader.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert reader.execute("SELECT a FROM t").fetchall() == [(1,)]
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.execute("INSERT INTO t VALUES(2)")
    assert {name: (crashed / name).read_bytes() for name in left} == left
