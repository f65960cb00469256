"""Reaching a SQLite: proved before anything is written, whether it shows its functions or not; else a plain word."""

import contextlib
import ctypes
import mmap
import os
import sqlite3
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from tornpage import faults
from tornpage.faults.errors import ShimUnavailableError
from tornpage.faults.reach import library, proof
from tornpage.faults.reach.bindings import BINDINGS
from tornpage.faults.reach.library import Library, immortal, reach
from tornpage.faults.reach.proof import Found, Memory, Vfs, handle_at, handle_of, list_of
from tornpage.faults.vfs.slots import Place

Child = Callable[..., subprocess.CompletedProcess[str]]
OWN = BINDINGS[0]
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs the memory map that Linux tells")


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> Library:
    """Python's own library as it is where none of its functions can be found by name."""
    reach(sqlite3)  # What the process remembers is the library as it is.
    load = ctypes.CDLL
    extension = getattr(sys.modules["_ctypes"], "__file__", None)
    if extension is None:
        pytest.skip("this Python has ctypes built in")
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: load(extension))
    return Library(OWN)


@linux
def test_a_library_that_hides_its_functions_is_reached_and_what_is_out_of_reach_is_named(hidden: Library) -> None:
    assert not hidden.shows_functions
    assert hidden.vfss == reach(sqlite3).vfss
    assert hidden.out_of_reach == ("failing the nth allocation", "seeding its random generator anew")
    hidden.reset_randomness()
    with pytest.raises(ShimUnavailableError, match=r"sqlite3_shutdown can't be called: .* exports none of SQLite's"):
        hidden.function("sqlite3_shutdown", ctypes.c_int)


def test_a_library_that_shows_its_functions_has_nothing_out_of_reach() -> None:
    library = reach(sqlite3)
    assert library.shows_functions
    assert library.out_of_reach == ()
    assert library.version == sqlite3.sqlite_version
    assert library.source_id[:4].isdigit()
    assert library.vfss[0].name == "unix"


def test_the_memory_map_is_read_when_the_connection_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    # A new object may be in memory that is mapped only for it: an older map has no such address.
    seen: list[str] = []
    opened, read = library.open_memory, library.Memory
    monkeypatch.setattr(library, "open_memory", lambda code: (seen.append("connection"), opened(code))[1])
    monkeypatch.setattr(library, "Memory", lambda: (seen.append("map"), read())[1])
    library.Library(OWN)
    assert seen[:2] == ["connection", "map"]


@pytest.mark.parametrize("binding", ["pysqlite3", "sqlean"])
def test_where_no_single_allocation_can_be_failed_the_facts_say_so(binding: str) -> None:
    module = pytest.importorskip(binding)
    library = faults.shim_for(module).library
    assert library.shows_functions
    assert not faults.can_fail_allocations(library)
    assert library.out_of_reach == ("failing the nth allocation",)
    with faults.install() as shims:
        notes = shims.notes()
    assert any(note.startswith(binding) and note.endswith("out of reach: failing the nth allocation") for note in notes)


def test_another_copy_of_sqlite_is_not_taken_for_the_modules_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its functions can be called by name, and lead to VFSs of its own."""
    other = pytest.importorskip("pysqlite3")
    load, file = ctypes.CDLL, sys.modules[f"{other.__name__}._sqlite3"].__file__
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: load(file))
    library = Library(OWN)
    assert not library.shows_functions
    with pytest.raises(ShimUnavailableError, match="exports another copy of SQLite than the one sqlite3 uses"):
        library.function("sqlite3_shutdown", ctypes.c_int)


def test_a_module_that_is_no_known_binding_is_refused_with_those_that_are() -> None:
    with pytest.raises(ShimUnavailableError, match="json is no known binding of SQLite; known are sqlite3, pysqlite3"):
        faults.shim_for(types.ModuleType("json"))


def test_the_statement_depth_is_named_as_the_way_out_and_works(tmp_path: Path) -> None:
    with pytest.raises(ShimUnavailableError, match="--depth statement"):
        faults.shim_for(types.ModuleType("json"))
    depth = faults.StatementDepth()
    connection = depth.connect(tmp_path / "a.db")
    with depth.arm("commit@1=FULL"), pytest.raises(sqlite3.OperationalError, match="full"), connection:
        connection.execute("BEGIN")
    connection.close()


# -- connections ---------------------------------------------------------------------------------------------


class _Subclass(sqlite3.Connection):
    __slots__ = ("mine",)


@pytest.mark.parametrize("made", [object(), "text", 7, None, ctypes.c_int(1)], ids=lambda made: type(made).__name__)
def test_an_object_that_is_no_connection_is_refused(made: object) -> None:
    with pytest.raises(ShimUnavailableError, match=r"is not sqlite3\.Connection itself"):
        handle_of(made, sqlite3.Connection, Memory())


def test_a_subclass_is_refused_since_nobody_knows_its_layout() -> None:
    with (
        contextlib.closing(_Subclass(":memory:")) as connection,
        pytest.raises(ShimUnavailableError, match=r"_Subclass is not sqlite3\.Connection itself"),
    ):
        handle_of(connection, sqlite3.Connection, Memory())


def test_a_closed_connection_is_refused() -> None:
    connection = sqlite3.connect(":memory:")
    connection.close()
    with pytest.raises(ShimUnavailableError, match="the connection is closed"):
        handle_of(connection, sqlite3.Connection, Memory())


@linux
def test_a_head_of_another_length_is_asked_and_a_wrong_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a free-threaded build, where the head is longer."""
    memory = Memory()
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        handle = handle_of(connection, sqlite3.Connection, memory)
        longer = ctypes.create_string_buffer(bytes(32) + handle.to_bytes(8, sys.byteorder) + bytes(64))
        memory = Memory()
        assert handle_at(ctypes.addressof(longer), 32, memory) == handle
        with pytest.raises(ShimUnavailableError, match="is closed"):
            handle_at(ctypes.addressof(longer), 16, memory)
        monkeypatch.setattr(proof, "head_bytes", lambda: object.__basicsize__ + 16)
        with pytest.raises(ShimUnavailableError):
            list_of(handle_of(connection, sqlite3.Connection, memory), memory)


# -- structures ----------------------------------------------------------------------------------------------


def _copy(**changed: int) -> tuple[int, bytes]:
    """A copy of SQLite's own VFS, alone in its list, with some of its members changed; its address and its bytes."""
    base = reach(sqlite3).vfss[0]
    address = immortal(ctypes.string_at(base.address, ctypes.sizeof(Vfs)))
    vfs = Vfs.from_address(address)
    vfs.pNext = None
    for name, value in changed.items():
        setattr(vfs, name, value)
    return address, ctypes.string_at(address, ctypes.sizeof(Vfs))


def _handle_on(vfs: int) -> int:
    """What a handle with this VFS looks like."""
    return immortal(vfs.to_bytes(8, sys.byteorder) + bytes(56))


def test_a_structure_that_is_as_it_should_be_is_found() -> None:
    address, _ = _copy()
    assert list_of(_handle_on(address), Memory()) == [Found(address, "unix", of_the_system=True)]


@linux
@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"iVersion": 4}, "its version is 4, newer than the latest known, 3"),
        ({"iVersion": 0}, "its version is 0"),
        ({"iVersion": -1}, "its version is -1"),
        ({"szOsFile": 0}, "its files have 0 bytes"),
        ({"szOsFile": 1 << 30}, "its files have"),
        ({"mxPathname": 3}, "its paths have at most 3 bytes"),
        ({"xOpen": 0}, "xOpen is not in code"),
        ({"xDelete": 8}, "xDelete is not in code"),
        ({"xSleep": ctypes.addressof(ctypes.create_string_buffer(64))}, "xSleep is not in code"),
        ({"xAccess": ctypes.cast(ctypes.pythonapi.Py_IncRef, ctypes.c_void_p).value or 0}, "its functions are in 2"),
        ({"zName": 0}, "a VFS has no name"),
        ({"zName": immortal(b"\x01\x02\0")}, "a VFS is called"),
        ({"zName": immortal(b"u" * 200 + b"\0")}, "a VFS is called"),
        ({"pNext": 8}, "not in readable memory"),
    ],
    # Addresses differ between the processes of one run.
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)  # fmt: skip
def test_a_structure_with_any_doubt_is_refused_and_left_as_it_is(changed: dict[str, int], reason: str) -> None:
    address, before = _copy(**changed)
    with pytest.raises(ShimUnavailableError, match=reason):
        list_of(_handle_on(address), Memory())
    assert ctypes.string_at(address, ctypes.sizeof(Vfs)) == before


@linux
@pytest.mark.parametrize("address", [8, 1 << 46, (1 << 64) - 64])
def test_an_address_that_leads_nowhere_is_refused(address: int) -> None:
    for handle in (address, _handle_on(address)):
        with pytest.raises(ShimUnavailableError, match="not in readable memory"):
            list_of(handle, Memory())


@linux
def test_a_structure_that_cannot_be_written_to_is_refused() -> None:
    page = mmap.mmap(-1, mmap.PAGESIZE)
    page.write(_copy()[1])
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    protect = ctypes.CDLL(None).mprotect
    protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    assert protect(address, mmap.PAGESIZE, mmap.PROT_READ) == 0
    with pytest.raises(ShimUnavailableError, match="it can't be written to"):
        list_of(_handle_on(address), Memory())


def test_a_list_that_leads_back_into_itself_comes_to_an_end() -> None:
    address, _ = _copy()
    Vfs.from_address(address).pNext = address
    assert len(list_of(_handle_on(address), Memory())) == 1


def test_vfss_that_are_not_the_systems_are_named_and_not_looked_into() -> None:
    address, _ = _copy(zName=immortal(b"mine\0"), xOpen=0)
    assert list_of(_handle_on(address), Memory()) == [Found(address, "mine", of_the_system=False)]


def test_a_library_that_does_not_call_what_was_put_in_place_is_refused_and_left_as_it_was(
    monkeypatch: pytest.MonkeyPatch, hidden: Library
) -> None:
    before = [ctypes.string_at(one.address, ctypes.sizeof(Vfs)) for one in hidden.vfss]
    shim = faults.Shim(hidden)
    monkeypatch.setattr(Place, "take", lambda _self, _field: None)
    with pytest.raises(ShimUnavailableError, match="does not call the function that was put into its VFS unix"):
        shim.installed().__enter__()
    assert not shim.is_installed
    assert [ctypes.string_at(one.address, ctypes.sizeof(Vfs)) for one in hidden.vfss] == before


@linux
def test_a_library_that_was_unloaded_is_noticed(child: Child) -> None:
    pytest.importorskip("pysqlite3")
    done = child("""
        import _ctypes, ctypes, os, sys
        import pysqlite3
        from tornpage import faults
        with faults.install(pysqlite3):
            pass
        file = sys.modules["pysqlite3._sqlite3"].__file__
        library = ctypes.CDLL(file)
        for _ in range(9):
            if file not in open("/proc/self/maps").read():
                break
            _ctypes.dlclose(library._handle)
        else:
            print("it stays"); os._exit(0)
        try:
            faults.install(pysqlite3).__enter__()
        except faults.ShimUnavailableError as error:
            print(error.reason)
        sys.stdout.flush()
        os._exit(0)
    """)
    assert done.returncode == 0, done.stderr
    if done.stdout == "it stays\n":
        pytest.skip("this linker unloads nothing")
    assert "its VFS unix is gone (was it unloaded?)" in done.stdout


# -- the real thing ------------------------------------------------------------------------------------------

_ON_HIDDEN = """
    import ctypes, _sqlite3, sqlite3
    from tornpage import faults
    assert not hasattr(ctypes.CDLL(_sqlite3.__file__), "sqlite3_vfs_find")
    with faults.install() as shims, faults.arm("write:wal@1=FULL;sync:wal@1=IOERR_FSYNC") as armed:
        connection = sqlite3.connect("a.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode=wal")
        for _ in range(3):
            try:
                connection.execute("CREATE TABLE t(a)")
            except sqlite3.OperationalError as error:
                print(error.sqlite_errorname)
        reader = faults.connect_unwatched("a.db")
        print(armed.fired, reader.execute("SELECT count(*) FROM t").fetchone()[0])
        reader.close()
        connection.close()
        for facts in shims.facts():
            print(facts)
    try:
        faults.exact_allocations().__enter__()
    except faults.ShimUnavailableError as error:
        print(error.reason)
"""


@pytest.mark.slow
@linux
def test_faults_fire_in_a_sqlite_that_shows_none_of_its_functions(
    hidden_sqlite: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = f"{hidden_sqlite}{os.pathsep}{Path(faults.__file__).parents[2]}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(_ON_HIDDEN)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    told, synced, counted, facts, reason = done.stdout.splitlines()
    assert (told, synced, counted) == ("SQLITE_FULL", "SQLITE_IOERR_FSYNC", "2 0")
    assert "out of reach: failing the nth allocation; seeding its random generator anew" in facts
    assert "sqlite3_shutdown can't be called" in reason


def test_the_shim_of_a_module_is_always_the_same() -> None:
    assert faults.shim_for() is faults.shim_for(sqlite3)


def test_a_second_sqlite_has_a_shim_of_its_own(tmp_path: Path) -> None:
    """`pysqlite3` brings its own libsqlite3; what is armed for one module is unknown to the other."""
    other = pytest.importorskip("pysqlite3")
    mine = sqlite3.connect(tmp_path / "mine.db")
    mine.execute("CREATE TABLE t(a)")
    with faults.install(other) as shim, faults.arm("write@1=FULL;sync@1..=IOERR_FSYNC", module=other) as armed:
        assert shim is not faults.shim_for()
        mine.execute("INSERT INTO t VALUES(1)")
        mine.commit()
        assert armed.fired == 0
        theirs = other.connect(tmp_path / "theirs.db")
        with pytest.raises(other.OperationalError, match="database or disk is full") as raised:
            theirs.execute("CREATE TABLE t(a)")
        assert armed.saw(raised.value)
        assert armed.surfaced == 1
        with pytest.raises(other.OperationalError, match="disk I/O error"):
            theirs.execute("CREATE TABLE t(a)")
        assert armed.fired == 2
    theirs.execute("CREATE TABLE t(a)")
    theirs.close()
    mine.close()


@pytest.mark.parametrize("mode", ["delete", "truncate", "wal"])
def test_the_second_sqlite_survives_every_fault_at_every_place(mode: str, tmp_path: Path) -> None:
    other = pytest.importorskip("pysqlite3")
    with faults.install(other):
        theirs = other.connect(str(tmp_path / "a.db"), isolation_level=None)
        theirs.execute(f"PRAGMA journal_mode={mode}")
        theirs.execute("CREATE TABLE t(a)")
        fired = 0
        for kind in faults.VFS_KINDS:
            for timing, effect in faults.effects_of(kind, "any"):
                for ordinal in (1, 2, 3):
                    suffix = "" if timing == "before" else f"/{timing}"
                    plan = f"{kind}@{ordinal}{suffix}={effect}"
                    with contextlib.suppress(other.Error), faults.arm(plan, module=other) as armed:
                        theirs.execute("INSERT INTO t VALUES(zeroblob(5000))")
                    fired += armed.fired
                    assert not theirs.in_transaction
                    theirs.execute("DELETE FROM t")
        assert fired > 20
        assert theirs.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        theirs.close()


def test_deterministic_runs_of_the_second_sqlite_are_equal_too(tmp_path: Path) -> None:
    other = pytest.importorskip("pysqlite3")
    files = []
    for run in ("one", "two"):
        with faults.install(other) as shim, shim.deterministic(3):
            theirs = other.connect(str(tmp_path / run), isolation_level=None)
            theirs.execute("PRAGMA journal_mode=wal")
            theirs.execute("CREATE TABLE t(a DEFAULT (random()))")
            theirs.execute("INSERT INTO t DEFAULT VALUES")
            files.append((tmp_path / run).read_bytes() + (tmp_path / f"{run}-wal").read_bytes())
            theirs.close()
    assert files[0] == files[1]
