"""With no fault carried out the shim is invisible: the same bytes, and the same seed gives the same run."""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tornpage import faults
from tornpage.faults.plan import VFS_KINDS

Prepare = Callable[[str, Path], Callable[[], list[BaseException]]]


class _Everything:
    """Wants to be asked about everything, keeps a log, and lets everything pass."""

    kinds = frozenset((*VFS_KINDS, faults.SHM_RELEASE))

    def __init__(self, copies: dict[str, bytes] | None = None) -> None:
        self.log: list[tuple[str, str]] = []
        self._copies = copies

    def decide(self, kind: str, role: str, path: str | None) -> None:
        self.log.append((kind, role))
        # What is about to go away is a part of what was written.
        if self._copies is not None and kind in {"delete", "truncate"} and path is not None and Path(path).exists():
            self._copies[f"{len(self._copies)}-{Path(path).name.split('-')[-1]}"] = Path(path).read_bytes()


def _work(path: Path, mode: str) -> dict[str, bytes]:
    """Write with everything that may vary: random rowids, the clock, salts. The files while still open."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA journal_mode={mode}")
    connection.execute("PRAGMA wal_autocheckpoint=3")
    connection.execute(
        "CREATE TABLE t(a, b DEFAULT (randomblob(20)), c DEFAULT (strftime('%f %Y-%m-%d %H:%M', 'now')))"
    )
    for number in range(12):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO t(a) VALUES(?)", (number,))
        connection.execute("UPDATE t SET b = zeroblob(5000) WHERE a = ?", (number - 1,))
        connection.execute("ROLLBACK" if number % 4 == 3 else "COMMIT")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO t(a) VALUES('open')")
    connection.execute("PRAGMA cache_spill=1")
    suffixes = ("", "-wal", "-journal")
    found = {suffix: Path(f"{path}{suffix}").read_bytes() for suffix in suffixes if Path(f"{path}{suffix}").exists()}
    connection.execute("COMMIT")
    connection.close()
    return {**found, "closed": path.read_bytes()}


@pytest.mark.parametrize("mode", ["delete", "truncate", "persist", "wal", "memory", "off"])
def test_watching_everything_changes_no_byte(mode: str, shim: faults.Shim, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "watched").mkdir()
    with shim.deterministic(7):
        plain = _work(tmp_path / "plain" / "a.db", mode)
    with shim.watching(everything := _Everything()), shim.deterministic(7):
        watched = _work(tmp_path / "watched" / "a.db", mode)
    assert ("write", "db") in everything.log
    assert plain.keys() == watched.keys()
    assert len(plain) >= (2 if mode in {"memory", "off"} else 3)
    assert plain == watched


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_the_files_are_the_base_vfs_own(mode: str, tmp_path: Path) -> None:
    """Without `deterministic` the contents still match row for row those written with no shim at all."""

    def rows(path: Path) -> list[object]:
        connection = sqlite3.connect(path)
        found = connection.execute("SELECT a, length(b) FROM t ORDER BY rowid").fetchall()
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()
        return found

    without = tmp_path / "without.db"
    _work(without, mode)
    within = tmp_path / "within.db"
    with faults.install() as shim, shim.watching(_Everything()):
        _work(within, mode)
    assert rows(without) == rows(within)
    assert without.stat().st_size == within.stat().st_size


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_the_same_seed_gives_the_same_bytes_and_operations_and_another_seed_others(
    mode: str, shim: faults.Shim, tmp_path: Path
) -> None:
    results = []
    # The file's name is in no byte that is compared, its length is.
    for run, seed in enumerate((1, 1, 2)):
        (tmp_path / str(run)).mkdir()
        copies: dict[str, bytes] = {}
        with shim.deterministic(seed), shim.watching(everything := _Everything(copies)):
            files = _work(tmp_path / str(run) / "a.db", mode)
        results.append((files, copies, everything.log))
    assert results[0] == results[1]
    assert results[0][0] != results[2][0]
    assert results[0][2] == results[2][2]


def test_the_same_seed_gives_the_same_bytes_in_another_process(
    child: Callable[..., object], shim: faults.Shim, tmp_path: Path
) -> None:
    code = """
        import hashlib, pathlib, sqlite3; from tornpage import faults
        with faults.install() as shim, shim.deterministic(5, now_ms=1_700_000_000_000):
            connection = sqlite3.connect("one.db", isolation_level=None)
            connection.execute("PRAGMA journal_mode=wal")
            connection.execute("CREATE TABLE t(a DEFAULT (random()), b DEFAULT (strftime('%s', 'now')))")
            connection.execute("INSERT INTO t DEFAULT VALUES")
            print(connection.execute("SELECT b FROM t").fetchone()[0])
            for name in ("one.db", "one.db-wal"):
                print(hashlib.sha256(pathlib.Path(name).read_bytes()).hexdigest())
            connection.close()
        for file in pathlib.Path().glob("one.db*"):
            file.unlink()
    """
    outputs = {child(code).stdout for _ in range(2)}
    assert len(outputs) == 1
    lines = outputs.pop().split()
    assert lines[0] == "1700000000"
    assert len(lines) == 3


def test_randomness_is_sqlites_own_again_after_a_deterministic_scope(shim: faults.Shim) -> None:
    def draw() -> int:
        connection = sqlite3.connect(":memory:")
        number: int = connection.execute("SELECT random()").fetchone()[0]
        connection.close()
        return number

    with shim.deterministic(3):
        first = draw()
    with shim.deterministic(3):
        assert draw() == first
    assert draw() != first
    with shim.deterministic(3):
        assert draw() == first


def test_every_workload_meets_the_same_operations_with_and_without_an_armed_fault_that_never_comes(
    prepare: Prepare, tmp_path: Path
) -> None:
    for name in ("delete", "wal", "super"):
        logs = []
        for plan in (None, "any@1000000=IOERR"):
            run = prepare(name, tmp_path / "run")
            with faults.install() as shim, shim.watching(everything := _Everything()):
                if plan is None:
                    assert run() == []
                else:
                    with faults.arm(plan) as armed:
                        assert run() == []
                    assert armed.fired == 0
            logs.append(everything.log)
        assert logs[0] == logs[1]


def test_a_busy_timeout_costs_no_time_and_is_counted(shim: faults.Shim, tmp_path: Path) -> None:
    holder = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    holder.execute("CREATE TABLE t(a)")
    holder.execute("BEGIN EXCLUSIVE")
    other = sqlite3.connect(tmp_path / "a.db", timeout=3600, isolation_level=None)
    before = shim.slept_us
    with pytest.raises(sqlite3.OperationalError, match="database is locked"):
        other.execute("INSERT INTO t VALUES(1)")
    assert shim.slept_us - before > 3_000_000_000
    other.close()
    holder.close()


def test_a_scope_that_is_spared_meets_no_fault_counts_for_none_and_is_recorded(
    shim: faults.Shim, tmp_path: Path
) -> None:
    path = tmp_path / "a.db"
    with faults.record(tmp_path) as tape, faults.arm("write:db@1=FULL") as armed:
        with faults.spare(), contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE t(a)")
        assert not armed.fired
        assert "write" in {operation.kind for operation in tape.operations}
        with (
            contextlib.closing(sqlite3.connect(path)) as connection,
            pytest.raises(sqlite3.OperationalError, match="full"),
        ):
            connection.execute("CREATE TABLE u(a)")
    assert armed.fired == 1
