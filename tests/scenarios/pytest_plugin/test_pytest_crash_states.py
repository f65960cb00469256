"""The fixture `crash_states`: each disk that a crash could have left, and what callers had been told by then."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tornpage import faults

# In the process from the start: pytester forgets what its runs import.
from tornpage.scenarios.pytest_plugin import crash_states as disks  # noqa: F401

pytest_plugins = ["pytester"]

CrashStates = Callable[..., Iterator[Any]]


def opened(path: Path, synchronous: str = "FULL", mode: str = "wal") -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute("CREATE TABLE IF NOT EXISTS t(x)")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def adds(directory: Path, synchronous: str = "FULL") -> Iterator[int]:
    with closing(opened(directory / "a.db", synchronous)) as connection:
        for x in range(3):
            connection.execute("INSERT INTO t VALUES(?)", (x,))
            yield x


def rows_of(disk: Any) -> tuple[int, ...]:
    with closing(opened(disk / "a.db")) as connection:
        return tuple(row[0] for row in connection.execute("SELECT x FROM t ORDER BY x"))


@pytest.mark.parametrize("model", ["power", "process"])
def test_what_was_acknowledged_is_on_every_disk(crash_states: CrashStates, home: Path, model: str) -> None:
    seen = set()
    for disk in crash_states(adds, home / "work", model=model):
        rows = rows_of(disk)
        assert rows in (disk.acknowledged, (*disk.acknowledged, disk.pending))
        seen.add((disk.acknowledged, rows))
        number = disk.number
    assert number > 10
    # Each call is met before and after it has happened, and the last one when the work was over.
    assert seen >= {((), ()), ((), (0,)), ((0,), (0,)), ((0,), (0, 1)), ((0, 1, 2), (0, 1, 2))}


def test_a_store_that_does_not_sync_is_found_out_by_the_power_alone(crash_states: CrashStates, home: Path) -> None:
    def lazily(directory: Path) -> Iterator[int]:
        yield from adds(directory, "OFF")

    def lost(model: str, name: str) -> int:
        found = 0
        for disk in crash_states(lazily, home / name, model=model):
            try:
                found += not set(rows_of(disk)) >= set(disk.acknowledged)
            except sqlite3.DatabaseError:
                found += 1
        return found

    assert lost("power", "one") > 0
    assert lost("process", "two") == 0


def test_the_disks_have_the_same_numbers_every_time(crash_states: CrashStates, home: Path) -> None:
    def all_of(name: str) -> list[tuple[Any, ...]]:
        return [
            (disk.number, disk.crash, disk.acknowledged, {one.name: one.read_bytes() for one in Path(disk).iterdir()})
            for disk in crash_states(adds, home / name)
        ]

    first = all_of("one")
    # And none is there twice, of those before which the same was acknowledged.
    assert len({(told, tuple(sorted(files.items()))) for _, _, told, files in first}) == len(first)
    assert first == all_of("two")
    sampled = [disk.number for disk in crash_states(adds, home / "three", most=5)]
    assert sampled == sorted(sampled)
    assert len(sampled) == 5


def test_a_disk_can_be_changed_and_is_gone_when_the_next_one_comes(crash_states: CrashStates, home: Path) -> None:
    before = None
    for disk in crash_states(adds, home / "work", most=3):
        assert before is None or not (disk / "note").exists()
        before = disk.directory
        (disk / "note").write_text("mine")
    assert before == home / "work"
    assert not list(before.iterdir())


def test_a_disk_stands_where_the_work_was_done(crash_states: CrashStates, home: Path) -> None:
    """A super-journal is named by its absolute path: elsewhere a commit over two databases looks torn."""

    def both(directory: Path) -> Iterator[int]:
        with closing(opened(directory / "a.db", "EXTRA", "DELETE")) as connection:
            connection.execute("ATTACH ? AS b", (str(directory / "b.db"),))
            for schema in ("main", "b"):
                connection.execute(f"CREATE TABLE {schema}.n (n)")
            yield 0
            for number in (1, 2):
                connection.execute("BEGIN IMMEDIATE")
                for schema in ("main", "b"):
                    connection.execute(f"INSERT INTO {schema}.n VALUES (?)", (number,))
                connection.execute("COMMIT")
                yield number

    for disk in crash_states(both, home / "work", model="process"):
        if disk.acknowledged:
            rows = []
            for name in ("a.db", "b.db"):
                with closing(opened(disk / name, "EXTRA", "DELETE")) as connection:
                    rows.append(connection.execute("SELECT n FROM n").fetchall())
            assert rows[0] == rows[1]


def test_files_from_before_the_work_are_on_every_disk(crash_states: CrashStates, home: Path) -> None:
    for _ in adds(home):
        pass

    def one_more(directory: Path) -> str:
        with closing(opened(directory / "a.db")) as connection:
            connection.execute("INSERT INTO t VALUES(3)")
        return "told"

    acknowledgements = set()
    for disk in crash_states(one_more, home):
        assert rows_of(disk)[:3] == (0, 1, 2)
        acknowledgements.add(disk.acknowledged)
    # What the work returns is acknowledged at its end.
    assert acknowledgements == {(), ("told",)}


def test_the_device_says_what_can_tear(crash_states: CrashStates, home: Path) -> None:
    def count(name: str, device: faults.Device) -> int:
        return sum(1 for _ in crash_states(adds, home / name, device=device))

    assert count("one", faults.Device(sector_bytes=512)) > count("two", faults.Device(sector_bytes=4096))


def test_an_unknown_model_is_told(crash_states: CrashStates, home: Path) -> None:
    with pytest.raises(ValueError, match="no model 'fire'; there are: power, process"):
        crash_states(adds, home, model="fire")
    assert any(crash_states(adds, home))


# -- what pytest tells -------------------------------------------------------------------------------------

HEAD = """
import ctypes
import sqlite3
import pytest

def adds(directory):
    db = sqlite3.connect(directory / "a.db", isolation_level=None)
    db.execute("CREATE TABLE t(x)")
    for x in range(2):
        db.execute("INSERT INTO t VALUES(?)", (x,))
        yield x
    db.close()

def synced_by_c(directory):
    with open(directory / "a", "wb") as file:
        file.write(b"content")
        file.flush()
        ctypes.CDLL(None)["fsync"](file.fileno())
        yield "content"

def nothing(directory):
    pass

async def later(directory):
    list(adds(directory))

async def one_by_one(directory):
    yield 1

def breaks(directory):
    raise OSError("broken")

def test_it(crash_states, tmp_path):
"""


@pytest.fixture
def run_test(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """Runs a test of this body."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(body: str, *arguments: str) -> pytest.RunResult:
        (pytester.path / "test_it.py").write_text(HEAD + "".join(f"    {line}\n" for line in body.splitlines()))
        return pytester.runpytest_inprocess(
            "-p", "tornpage.scenarios.pytest_plugin.plugin", "-p", "no:cacheprovider", *arguments
        )

    return run


FAILS = "for disk in crash_states(adds, tmp_path / 'work'):\n    assert not disk.acknowledged"


def test_a_failure_tells_its_disk_and_how_to_come_back(run_test: Callable[..., pytest.RunResult]) -> None:
    done = run_test(FAILS)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        [
            "disk *: the power fails after operation *; acknowledged: 0; pending: 1",
            "*/work",
            "    pytest test_it.py::test_it --tornpage-disk *",
            "crash_states: 1 test, * disks",
        ]
    )
    line = next(line for line in done.outlines if "--tornpage-disk" in line)
    number = line.rpartition(" ")[2]
    again = run_test(FAILS, "--tornpage-disk", number)
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines([f"disk {number}: *", "crash_states: 1 test, 1 disk"])


def test_a_failure_names_the_operations_that_were_lost(run_test: Callable[..., pytest.RunResult]) -> None:
    body = "for disk in crash_states(adds, tmp_path / 'work'):\n    assert 'losing 1' not in disk.crash"
    lost = run_test(body)
    lost.assert_outcomes(failed=1)
    lost.stdout.fnmatch_lines(["disk *: the power fails after operation *, losing *", "operation *: * a.db*", "*/work"])
    none = run_test(FAILS.replace("'work')", "'work', model='process')"))
    none.assert_outcomes(failed=1)
    none.stdout.no_fnmatch_line("operation *: *")


def test_a_failure_says_where_a_sync_may_not_have_been_seen(run_test: Callable[..., pytest.RunResult]) -> None:
    lost = "for disk in crash_states({}, tmp_path / 'work'):\n    assert (disk / 'a').exists() or not disk.acknowledged"
    done = run_test(lost.format("synced_by_c"))
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["NOT KNOWN to be possible: fsync was called through ctypes, and what is synced so *"])
    seen = run_test(lost.format("adds"))
    seen.assert_outcomes(failed=1)
    seen.stdout.no_fnmatch_line("NOT KNOWN to be possible*")


@pytest.mark.parametrize(
    ("body", "arguments", "said"),
    [
        ("pass", (), "crash_states was requested and never called: no disk was checked"),
        ("crash_states(adds, tmp_path)", (), "crash_states passed no disk: the test did not iterate over it"),
        ("list(crash_states(nothing, tmp_path))", (), "crash_states: the work changed no file below */test_it0, so *"),
        ("list(crash_states(adds, tmp_path))", ("--tornpage-disk", "999"), "crash_states has no disk number 999"),
        ("list(crash_states(later, tmp_path))", (), "crash_states: the work is asynchronous; pass a function that *"),
        ("list(crash_states(one_by_one, tmp_path))", (), "crash_states: the work is asynchronous; pass a function *"),
        ("list(crash_states(adds, tmp_path, most=0))", (), "E *crash_states: most is a whole number from 1 on, not 0"),
    ],
)
def test_no_disk_at_all_is_a_failure(
    run_test: Callable[..., pytest.RunResult], body: str, arguments: tuple[str, ...], said: str
) -> None:
    done = run_test(body, *arguments)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.stdout.fnmatch_lines([said])


def test_an_error_of_the_work_is_told_as_it_is(run_test: Callable[..., pytest.RunResult]) -> None:
    done = run_test("list(crash_states(breaks, tmp_path))")
    done.assert_outcomes(failed=1)
    refused = run_test("list(crash_states(adds, tmp_path, model='fire'))")
    refused.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["E *OSError: broken"])
