"""Reaching the libsqlite3 that serves a module: proved where it works, plainly said where it does not."""

import contextlib
import ctypes
import sqlite3
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from tornpage import faults
from tornpage.faults.errors import ShimUnavailableError
from tornpage.faults.vfs.library import Library, reach


def _module(monkeypatch: pytest.MonkeyPatch, name: str, file: str | None) -> types.ModuleType:
    made = types.ModuleType(name)
    made.connect = sqlite3.connect  # type: ignore[attr-defined] # a module made by hand
    made.OperationalError = sqlite3.OperationalError  # type: ignore[attr-defined] # as above
    if file is not None:
        made.__file__ = file
    monkeypatch.setitem(sys.modules, name, made)
    return made


@pytest.fixture
def nothing_in_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program itself offers no SQLite either, as on a Python that hides its symbols."""
    load = ctypes.CDLL

    def hidden(name: str | None) -> ctypes.CDLL:
        return load(_another_library() if name is None else name)

    monkeypatch.setattr(ctypes, "CDLL", hidden)


def _another_library() -> str:
    """An extension module that is no SQLite and needs none: ctypes' own."""
    extension = sys.modules["_ctypes"]
    file: str | None = getattr(extension, "__file__", None)
    if file is None:
        pytest.skip("this Python has ctypes built in")
    return file


@pytest.mark.usefixtures("nothing_in_the_program")
def test_a_library_without_the_symbols_is_named_with_the_statement_depth_as_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = _module(monkeypatch, "hidden_sqlite", _another_library())
    with pytest.raises(ShimUnavailableError) as raised:
        reach(module)
    message = str(raised.value)
    assert "hidden_sqlite does not export sqlite3_vfs_find" in message
    assert _another_library() in message
    assert "statement depth" in message
    assert "faulting_connect" in message
    assert raised.value.reason in message


@pytest.mark.usefixtures("nothing_in_the_program")
def test_a_module_that_is_no_loadable_file_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    module = _module(monkeypatch, "text_sqlite", __file__)
    with pytest.raises(ShimUnavailableError, match="can't be loaded"), faults.install(module):
        pass


@pytest.mark.usefixtures("nothing_in_the_program")
def test_the_statement_depth_works_where_the_shim_does_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ShimUnavailableError):
        faults.shim_for(_module(monkeypatch, "unreachable_sqlite", _another_library()))
    depth = faults.StatementDepth()
    connection = depth.connect(tmp_path / "a.db")
    with depth.arm("commit@1=FULL"), pytest.raises(sqlite3.OperationalError, match="full"), connection:
        connection.execute("BEGIN")
    connection.close()


def test_another_copy_of_sqlite_than_the_modules_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions are there but serve somebody else: a VFS registered through them is unknown to the module."""
    module = _module(monkeypatch, "other_sqlite", reach(sqlite3)._handle._name)

    def refuses(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("no such vfs: tornpage-probe")

    module.connect = refuses  # type: ignore[attr-defined] # a module made by hand
    with pytest.raises(ShimUnavailableError, match="leads to another copy of SQLite than the one other_sqlite uses"):
        reach(module)


def test_the_probe_leaves_no_vfs_behind() -> None:
    reach.cache_clear()
    assert isinstance(reach(sqlite3), Library)
    with pytest.raises(sqlite3.OperationalError, match="no such vfs"):
        sqlite3.connect("file:x?mode=memory&vfs=tornpage-probe", uri=True)


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


def test_reaching_costs_one_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    connect: Callable[..., object] = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **named: calls.append(given) or connect(*given, **named))
    reach(sqlite3)
    reach(sqlite3)
    assert len(calls) <= 1
