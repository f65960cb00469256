"""Every line of the catalogue at the vfs depth really fires, and what surfaces is raised by SQLite itself.

Cover: each (kind, role, timing, effect) of the table, through the workloads of `conftest`, at each place in turn until
one surfaces. The death of the process is in `test_shim_kill`.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tornpage import faults
from tornpage.faults import Fault, FaultPlan, When
from tornpage.faults.catalogue import POSSIBILITIES

_PLACES = 40  # Later ones repeat the earlier ones.

_CASES = [
    pytest.param(Fault(line.kind, effect, role, timing=line.timing), id=f"{line.kind}-{role}-{line.timing}-{effect}")
    for line in POSSIBILITIES
    if line.kind in (*faults.VFS_KINDS, "any")
    for role in line.roles
    for effect in line.effects
]

# SQLite tries again, or has nothing left to undo: these are never seen by a caller.
_ABSORBED = {("shmlock", "before", "BUSY"), ("shmlock", "after", "IOERR_SHMLOCK")}

# What SQLite makes of a code, where that is not the code itself.
_TRANSLATED = {
    "IOERR_CORRUPTFS": {sqlite3.SQLITE_IOERR_CORRUPTFS, sqlite3.SQLITE_CORRUPT},
    # A VFS without details: the code stays, except where the caller of the VFS has its own.
    "IOERR": {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN},
}

with contextlib.closing(sqlite3.connect(":memory:")) as _connection:
    # Such a build has no temporary files at all.
    _TEMPORARY_IN_MEMORY = ("TEMP_STORE=3",) in _connection.execute("PRAGMA compile_options").fetchall()

Prepare = Callable[[str, Path], Callable[[], list[BaseException]]]


def _workloads(fault: Fault) -> tuple[str, ...]:
    if fault.kind in {"shmmap", "shmlock"} or fault.role == "wal":
        return ("wal",)
    if fault.role == "super":
        return ("super", "super-recovery")
    if fault.role == "temp":
        return ("temp",)
    if (fault.kind, fault.role) == ("truncate", "journal"):
        return ("truncate",)
    return ("delete", "wal")


def _runs(prepare: Prepare, directory: Path, fault: Fault) -> Iterator[tuple[int, list[BaseException]]]:
    """The number of firings and the errors of runs in which the fault comes at the 1st, 2nd, 3rd … match."""
    for name in _workloads(fault):
        for ordinal in range(1, _PLACES + 1):
            run = prepare(name, directory)
            with faults.install(), faults.arm(FaultPlan((fault.at(When(ordinal, ordinal)),))) as armed:
                errors = run()
            if not armed.firings:
                break
            assert [firing.ordinal for firing in armed.firings] == [ordinal]
            assert fault.role in ("any", armed.firings[0].role)
            yield len(armed.firings), errors


@pytest.mark.parametrize("fault", _CASES)
def test_each_catalogue_line_fires_and_surfaces_as_its_code(fault: Fault, prepare: Prepare, tmp_path: Path) -> None:
    if fault.role == "temp" and _TEMPORARY_IN_MEMORY:
        pytest.skip("this SQLite was built to keep whatever is temporary in memory")
    fired = 0
    surfaced: list[BaseException] = []
    for count, errors in _runs(prepare, tmp_path / "run", fault):
        fired += count
        surfaced = errors
        if errors:
            break
    assert fired, "the fault was never reached by its workloads"
    if (fault.kind, fault.timing, fault.effect) in _ABSORBED:
        assert not surfaced
        return
    assert surfaced, "it fired everywhere and was absorbed everywhere"
    error = surfaced[0]
    assert isinstance(error, sqlite3.DatabaseError)
    assert error.sqlite_errorcode in _TRANSLATED.get(fault.effect, {fault.code})
    if error.sqlite_errorcode == fault.code:
        assert error.sqlite_errorname == f"SQLITE_{fault.effect}"
        assert type(error) is sqlite3.OperationalError
    else:
        assert type(error) in {sqlite3.DatabaseError, sqlite3.OperationalError}


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("write@1=FULL", "database or disk is full"),
        ("write@1=IOERR_WRITE", "disk I/O error"),
        ("lock@1..=BUSY", "database is locked"),
        ("open@1=CANTOPEN", "unable to open database file"),
        ("lock@1=PERM", "access permission denied"),
    ],
)
def test_the_message_is_sqlites_own(plan: str, message: str, shim: faults.Shim, tmp_path: Path) -> None:
    with faults.arm(plan) as armed:
        connection = None
        try:
            connection = sqlite3.connect(tmp_path / "a.db", timeout=0)
            with pytest.raises(sqlite3.OperationalError) as raised:
                connection.execute("CREATE TABLE t(a)")
            error = raised.value
        except sqlite3.OperationalError as failed:
            error = failed
        finally:
            if connection is not None:
                connection.close()
    assert str(error) == message
    assert armed.firings


def test_a_store_works_again_after_each_one_shot_fault(prepare: Prepare, tmp_path: Path) -> None:
    """The same connection, at once: a release that fails is reported after it happened."""
    for mode in ("delete", "truncate", "persist", "wal"):
        path = tmp_path / f"{mode}.db"
        with faults.install():
            connection = sqlite3.connect(path, isolation_level=None)
            connection.execute(f"PRAGMA journal_mode={mode}")
            connection.execute("CREATE TABLE t(a)")
            for kind in faults.VFS_KINDS:
                for timing, effect in faults.effects_of(kind, "any"):
                    with faults.arm(FaultPlan((Fault(kind, effect, timing=timing),))):
                        try:
                            connection.execute("INSERT INTO t VALUES(1)")
                        except sqlite3.Error:
                            assert not connection.in_transaction
                    before = connection.execute("SELECT count(*) FROM t").fetchone()[0]
                    connection.execute("INSERT INTO t VALUES(2)")
                    assert connection.execute("SELECT count(*) FROM t").fetchone()[0] == before + 1
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            connection.close()
