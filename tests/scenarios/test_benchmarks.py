"""The benchmarks run and print what they promise; no time is asserted, only what was measured and how."""

import contextlib
import importlib
import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tornpage import ledger

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="the benchmarks are not part of the wheel")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package of the benchmarks, with its modules loaded."""
    monkeypatch.syspath_prepend(str(ROOT))
    for name in ("parts", "warm"):
        importlib.import_module(f"benchmarks.{name}")
    return importlib.import_module("benchmarks")


@pytest.fixture
def warm(bench: Any) -> Any:
    return bench.warm


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        made.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, name TEXT UNIQUE, value)")
        made.execute("CREATE TABLE tags (note INTEGER, tag TEXT)")
        made.executemany("INSERT INTO notes VALUES (?, ?, ?)", [(1, "a", 1), (2, "b", None), (5, "c", b"\0")])
        made.execute("INSERT INTO tags VALUES (1, 'x')")
        yield made


def dump(connection: sqlite3.Connection) -> list[Any]:
    tables = ("notes", "tags")
    return [connection.execute(f"SELECT rowid, * FROM {table} ORDER BY rowid").fetchall() for table in tables]


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM notes",
        "UPDATE notes SET value = 'other' WHERE id = 2",
        "INSERT INTO notes VALUES (3, 'd', 4)",
        "UPDATE notes SET name = CASE id WHEN 1 THEN 'b2' ELSE 'a' END WHERE id < 3",
        "UPDATE notes SET id = 9 WHERE id = 5",
        "UPDATE tags SET note = 7",
    ],
)
def test_the_undo_puts_every_row_back(warm: Any, connection: sqlite3.Connection, change: str) -> None:
    before, rows = dump(connection), warm.Rows(connection)
    connection.execute(change)
    assert dump(connection) != before
    rows.restore(connection)
    assert dump(connection) == before
    assert not connection.in_transaction


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER DELETE ON notes BEGIN DELETE FROM tags; END",
        "CREATE TABLE w (key TEXT PRIMARY KEY) WITHOUT ROWID",
    ],
)
def test_what_cannot_be_undone_is_refused(warm: Any, connection: sqlite3.Connection, statement: str) -> None:
    connection.execute(statement)
    with pytest.raises(warm.NotUndoneError):
        warm.Rows(connection)


def test_a_changed_schema_is_not_taken_for_an_undo(warm: Any, connection: sqlite3.Connection) -> None:
    rows = warm.Rows(connection)
    connection.execute("CREATE TABLE more (x)")
    with pytest.raises(warm.NotUndoneError, match="schema"):
        rows.restore(connection)


# How it is measured


def ratio(bench: Any, **changes: Any) -> Any:
    measuring = bench.measuring
    theirs = measuring.Spent(2.0, 4.0)
    rounds = [measuring.Round(measuring.Spent(wall, wall), theirs, 10) for wall in (1.0, 3.0, 8.0)]
    wanted = {"per": "call", "aim": 1.5} | changes
    return measuring.summed_up("name", "disk (ext4)", ("ours", "theirs"), rounds, **wanted)


def test_a_ratio_is_the_median_of_its_rounds(bench: Any) -> None:
    found = ratio(bench)
    assert (found.lowest, found.median, found.highest, found.cpu) == pytest.approx((0.5, 1.5, 4.0, 0.75))
    assert (found.ours_us, found.theirs_us) == (pytest.approx(300_000), pytest.approx(200_000))


@pytest.mark.parametrize(("aim", "holds"), [(1.5, True), (1.4, False), (None, None)])
def test_an_aim_is_the_most(bench: Any, aim: float | None, holds: bool | None) -> None:
    assert ratio(bench, aim=aim).holds is holds


@pytest.mark.parametrize(("aim", "holds"), [(0.6, True), (0.7, False)])
def test_where_faster_is_better_an_aim_is_the_least(bench: Any, aim: float, holds: bool) -> None:
    found = ratio(bench, aim=aim, faster=True)
    assert found.median == pytest.approx(1 / 1.5)
    assert found.holds is holds


def test_sides_that_did_not_do_equally_much_are_compared_by_the_piece(bench: Any) -> None:
    measuring = bench.measuring
    one = measuring.Round(measuring.Spent(6.0, 3.0), measuring.Spent(1.0, 1.0), 60, theirs_count=10)
    assert one.wall() == pytest.approx(1.0)
    assert one.cpu() == pytest.approx(0.5)


def test_both_sides_work_equally_often_and_neither_always_comes_first(bench: Any) -> None:
    calls: list[str] = []
    bench.measuring.in_turns(lambda: calls.append("ours"), lambda: calls.append("theirs"), chunks=4, per_chunk=1)
    assert calls == ["ours", "theirs", "theirs", "ours"] * 2


# What is measured


def test_a_filled_ledger_is_one_that_the_ledger_could_have_made(bench: Any, tmp_path: Path) -> None:
    bench.ledgers.fill(tmp_path / "state", 25)
    with ledger.Ledger.open(tmp_path / "state", clock=lambda: bench.ledgers.NOW_MS) as opened:
        tasks = opened.tasks.list()
        assert {task.task_id for task in tasks} == {bench.ledgers.task_id(number) for number in range(25)}
        assert {task.status for task in tasks} == {"queued", "running", "succeeded"}
        assert not opened.tasks.quarantined()
        assert opened.audit().summary.total == 0
        assert len(opened.tasks.list_for_owner("session-0")) == 10
        assert opened.tasks.progress("task-24", "half way").progress_summary == "half way"


def test_the_plain_reader_of_a_restore_sees_what_the_ledger_sees(bench: Any, tmp_path: Path) -> None:
    bench.ledgers.fill(tmp_path / "state", 7)
    with ledger.Ledger.open(tmp_path / "state") as opened, bench.ledgers.connected(tmp_path / "state") as plain:
        read = bench.ledger_size.fetched_and_decoded(plain)
        assert {task.task_id: task for task in read} == {task.task_id: task for task in opened.tasks.list()}


def test_the_plain_transaction_changes_what_the_ledgers_does(bench: Any, tmp_path: Path) -> None:
    bench.ledgers.fill(tmp_path / "state", 3)
    now = 2 * bench.ledgers.NOW_MS
    with bench.ledgers.connected(tmp_path / "state") as plain:
        bench.ledger_cost.plain_update(plain, now, "task-1")
    with ledger.Ledger.open(tmp_path / "state", clock=lambda: now) as opened:
        by_ledger, plainly = opened.tasks.progress("task-0", f"at {now}"), opened.tasks.get("task-1")
    assert plainly is not None
    assert (plainly.progress_summary, plainly.last_event_at) == (by_ledger.progress_summary, by_ledger.last_event_at)


@pytest.mark.parametrize("name", ["ledger, tasks", "ledger, outbox", "huey", "litequeue", "persist-queue", "diskcache"])
def test_every_contender_commits_every_call_durably(bench: Any, tmp_path: Path, name: str) -> None:
    if name in bench.peers.missing():
        pytest.skip(f"{name} is in the dependency group bench, which is not installed")
    bench.peers.require_equal(name, (bench.peers.OURS | bench.peers.PEERS)[name], tmp_path / "home")


def test_every_peer_is_named_where_it_is_missing(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert bench.peers.missing() == list(bench.peers.PEERS)
    reason = bench.parts.left_out("peers", quick=False)
    assert "persist-queue" in reason
    assert "group bench" in reason
    assert "apsw" in bench.parts.left_out("apsw", quick=False)
    assert bench.parts.left_out("restore", quick=False) == ""


class Plain:
    """A contender that commits every call."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.connection = sqlite3.connect(home / "plain.db", isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = wal").fetchall()
        self.connection.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY)")

    def jobs(self, number: int) -> None:
        for _ in range(3 * number):
            self.connection.execute("INSERT INTO jobs DEFAULT VALUES")

    def close(self) -> None:
        self.connection.close()


class Lax(Plain):
    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.connection.execute("PRAGMA synchronous = NORMAL")


class AllAtOnce(Plain):
    def jobs(self, number: int) -> None:
        with self.connection:
            self.connection.execute("BEGIN")
            super().jobs(number)


def test_who_is_as_durable_may_race(bench: Any, tmp_path: Path) -> None:
    bench.peers.require_equal("plain", Plain, tmp_path / "home")


@pytest.mark.parametrize(("contender", "reason"), [(Lax, "'synchronous': 1"), (AllAtOnce, "1 times in 60 calls")])
def test_who_is_less_durable_is_refused(bench: Any, tmp_path: Path, contender: Any, reason: str) -> None:
    with pytest.raises(bench.peers.UnequalError, match=reason):
        bench.peers.require_equal("cheat", contender, tmp_path / "home")


def test_both_watchers_see_every_operation_of_a_commit(bench: Any, tmp_path: Path) -> None:
    if bench.apsw_cost.missing():
        pytest.skip("apsw is in the dependency group bench, which is not installed")
    one = bench.apsw_cost.counted(tmp_path, "delete", 0, 1)
    # A commit with a rollback journal locks, writes and syncs the journal and the database, and unlocks; of twenty.
    assert one.count >= 20 * 8
    assert one.theirs_count >= 20 * 8


def test_a_longer_workload_is_the_same_calls_again(bench: Any) -> None:
    calls = bench.searches.Repeated(3).workload()
    assert calls == bench.searches.Repeated(1).workload() * 3
    assert len(calls) == 3 * bench.searches.CALLS_A_BLOCK


# The command

AIMS = {
    "shim": 1.15,
    "operation": 1.2,
    "cold point": 1.25,
    "warm point": 1.25,
    "crash state": 1.25,
    "calls": 1.1,
    "schedules": 1.5,
    "jobs": 1.8,
    "update": 1.5,
    "peers, the best peer": 1.0,
    "batch": 20,
    "restore": 1.5,
    "million": 1.2,
    "bugs": 120,
}
LEAST = {"jobs", "peers", "peers, the best peer", "batch"}
WITHOUT_AIM = {"cold point, all its checks", "warm point, all its checks", "opening", "million, plain", "peers"}
OF_PART = {"apsw": {"operation"}, "peers": {"peers", "peers, the best peer"}, "bugs": {"bugs"}}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_one_command_prints_every_ratio_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = run("benchmarks", "--quick", "--json", "--directory", str(tmp_path))
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert data.keys() >= {"quick", "python_version", "sqlite_version", "cpus", "load_averages", "peers", "ratios"}
    assert "bugs" in data["left_out"]
    assert data["left_out"].keys() <= OF_PART.keys()
    absent = set().union(*(OF_PART[part] for part in data["left_out"]))
    assert {one["name"] for one in data["ratios"]} == (AIMS.keys() | WITHOUT_AIM) - absent
    for one in data["ratios"]:
        if one["name"] != "operation":  # A difference of two times, which in so short a run may even be negative.
            assert 0 < one["lowest"] <= one["median"] <= one["highest"], one
        assert one["aim"] in (None, AIMS.get(one["name"])), one
        assert one["at_least"] == (one["name"] in LEAST), one
        assert one["holds"] in (None, True, False)
    assert {one["name"] for one in data["ratios"] if one["aim"] is not None} == AIMS.keys() - absent
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_some_parts_can_be_chosen_and_shown_as_markdown(tmp_path: Path) -> None:
    done = run("benchmarks", "--quick", "--only", "batch,shim", "--markdown", "--directory", str(tmp_path))
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert "lowest to highest" in rows[0]
    # In their own order, on a disk and, where there is such a place, in memory.
    what = ["shim" if "shim on, nothing armed" in row else "batch" for row in rows[2:]]
    assert what in (["shim", "batch"], ["shim", "shim", "batch", "batch"])


def test_an_unknown_part_is_refused_with_those_that_there_are() -> None:
    done = run("benchmarks", "--only", "shim,ledger")
    assert done.returncode == 2
    assert "there is no part ledger" in done.stderr
    assert "restore" in done.stderr


@pytest.mark.slow
def test_growth_is_measured_from_the_smallest_to_the_largest(tmp_path: Path) -> None:
    done = run("benchmarks.growth", "--quick", "--to", str(tmp_path))
    assert done.returncode == 0, done.stderr
    curves = json.loads(done.stdout)
    assert json.loads((tmp_path / "growth.json").read_text()) == curves
    for name, column in (("calls", "calls"), ("tasks", "tasks"), ("jobs", "jobs")):
        across = [line[column] for line in curves[name]]
        assert across == sorted(across), name
        for line in curves[name]:
            assert all(value > 0 for value in line.values()), line


def test_the_same_figures_make_the_same_plots(bench: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is in the dependency group bench, which is not installed")
    images = ROOT / "docs" / "images"
    curves = json.loads((images / "growth.json").read_text())
    drawn = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        paths = list(importlib.import_module("benchmarks.growth_plots").drawn(curves, tmp_path / name))
        drawn.append({path.name: path.read_bytes() for path in paths})
    assert drawn[0] == drawn[1]
    assert {path.name for path in images.glob("growth-*.svg")} == drawn[0].keys()
    assert not any(b"<dc:date>" in content for content in drawn[0].values())
