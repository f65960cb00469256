"""The history of runs keeps each run once, through any fault, and refuses a file that is not its own."""

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from run_records import found, record

from tornpage.scenarios.model.target import Action, Configuration, Environment, Target, View
from tornpage.scenarios.report.history import History, HistoryError, line_of
from tornpage.scenarios.run import record as run_record

Command = Callable[..., Any]
TINY = ("--target", "tiny_stores:Tiny", "--configuration", "wal/FULL", "--plan", "commit@1=FULL", "--quiet")


def test_runs_come_back_in_their_order_and_of_one_target(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    first, second = record(found(), found("integrity")), record(run_id="2", started_at="2026-11-22T09:00:00+00:00")
    elsewhere = record(run_id="3", target="other", started_at="2026-11-20T09:00:00+00:00")
    for run in (second, first, elsewhere):
        with History(path) as history:
            history.append(line_of(run))
    with History(path) as history:
        assert [one.run_id for one in history.trend()] == ["3", "run-1", "2"]
        assert [one.run_id for one in history.trend("tiny", 1)] == ["2"]
        (line,) = [one for one in history.trend() if one.run_id == "run-1"]
    assert line == line_of(first)
    assert (line.checks, line.findings, line.tried) == ({"memory-equals-disk": 1, "integrity": 1}, 2, 2)
    assert line.rate == pytest.approx(0.8)


def test_the_same_run_is_kept_once(tmp_path: Path) -> None:
    with History(tmp_path / "history.sqlite") as history:
        for _ in range(2):
            history.append(line_of(record()))
        assert len(history.trend()) == 1


def test_another_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes(x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(HistoryError, match="another program's database"):
        History(path)
    assert path.read_bytes() == before
    path.write_text("no database at all, but long enough to be taken for the head of one" * 20)
    with pytest.raises(HistoryError, match="can't be used"):
        History(path)
    newer = tmp_path / "newer.sqlite"
    History(newer).close()
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(HistoryError, match="version 99; this tornpage writes 1"):
        History(newer)


# -- our own medicine --------------------------------------------------------------------------------------


class HistorySession:
    """The history as a store under test: one call, one run."""

    def __init__(self, path: Path, environment: Environment) -> None:
        self._history = History(path, environment.connect)

    def call(self, action: Action) -> None:
        self._history.append(line_of(record(run_id=action.args["key"], seed=action.args["value"])))

    def live_view(self) -> View:
        return {one.run_id: one.seed for one in self._history.trend()}

    def outcome_of(self, error: Exception) -> str | None:
        return None

    def self_check(self) -> None:
        pass

    def close(self) -> None:
        self._history.close()


class HistoryTarget:
    """Appends a run, another one, and the first one again."""

    name = "history"
    title = "tornpage's own history of runs"
    configurations = (Configuration("delete", "FULL"),)
    depths = ("vfs", "statement")
    unpromised: Mapping[str, str] = {}

    def workload(self) -> tuple[Action, ...]:
        return tuple(Action("append", {"key": key, "value": 1}) for key in ("a", "b", "a"))

    def heartbeat(self) -> Action:
        return Action("append", {"key": "heartbeat", "value": 1})

    def database(self, directory: Path) -> Path:
        return directory / "history.sqlite"

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> HistorySession:
        return HistorySession(self.database(directory), environment)

    def fresh_view(self, connection: sqlite3.Connection) -> View:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchall():
            return {}
        return dict(connection.execute("SELECT run_id, seed FROM runs").fetchall())


@pytest.mark.slow
def test_the_history_holds_under_faults_and_crashes(search: Callable[..., Any]) -> None:
    target: Target = HistoryTarget()
    recorder = search(target, "sweep", "crash", points=12)
    assert [str(one.finding.message) for one in recorder.findings] == []
    assert recorder.vacuous == []
    assert recorder.count("fired") > 60
    assert recorder.count("states") > 50


# -- the command -------------------------------------------------------------------------------------------


def test_a_run_adds_its_line_and_carries_the_trend(command: Command, tmp_path: Path) -> None:
    for _ in range(2):
        assert command("sweep", *TINY, "--history", "kept/history.sqlite").code == 0
    trend = run_record.read(tmp_path / ".tornpage/run.json").trend
    assert [one.target for one in trend] == ["tiny_stores:Tiny"] * 2
    shown = command("report", "history", "kept/history.sqlite")
    assert shown.code == 0
    assert shown.out.count("HOLDS") == 2
    assert "per second" in shown.out
    data = msgspec.json.decode(command("report", "history", "kept/history.sqlite", "--json", "--last", 1).out)
    assert [one["run_id"] for one in data] == [trend[-1].run_id]


def test_a_history_that_can_not_be_written_makes_exit_code_2_and_the_verdict_is_said(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "history.sqlite").write_text("nothing of the kind" * 100)
    ran = command("sweep", *TINY, "--history", "history.sqlite")
    assert ran.code == 2
    assert "HOLDS" in ran.out
    assert "no line in the history: the history history.sqlite can't be used" in ran.err
    for name in ("history.sqlite", "nothing.sqlite"):
        ran = command("report", "history", name)
        assert ran.code == 2
        assert name in ran.err
