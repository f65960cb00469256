"""Crash states are opened where they were written, each kind of them, as another process: verdicts on sound stores."""

import os
import sqlite3
from pathlib import Path
from typing import Any

import crash_places
import others_stores
import pytest
from seeds import first_of

from tornpage import faults
from tornpage.faults import Device
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.execution.in_place import in_life, in_the_place_of
from tornpage.scenarios.execution.snapshots import place
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.crash_oracle import History
from tornpage.scenarios.model.judging.oracle import Answer
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Call, Damage, Restart, Scenario, Step
from tornpage.scenarios.model.target import Configuration
from tornpage.scenarios.run.campaign import run
from tornpage.scenarios.search.recorder import Recorder


def searched(
    target: Any, *searches: str, states: int | None = 30, seed: int = 0, device: Device | None = None, **of_plan: Any
) -> Recorder:
    profile = Profile("test", 1, 30, 0, 0, crash_states=states, shorter=50)
    plan = Plan(searches or ("crash",), profile, seed=seed, report=None, device=device or Device(), **of_plan)
    return run(target, plan)


@pytest.mark.slow
@pytest.mark.parametrize(
    "sound",
    [
        "SideFile",
        "HiddenRows",
        "Attached",
        "AbsolutePaths",
        "PidFile",
        "JournalKept",
        "MovedAway",
        "OpenedPerCall",
        "LogAfterSchema",
    ],
)
def test_a_sound_store_is_silent_whatever_files_paths_or_processes_it_relies_on(sound: str) -> None:
    recorder = searched(getattr(crash_places, sound)(), "crash", "sweep")
    assert not recorder.findings
    assert not recorder.vacuous
    assert recorder.crashes[0].disks > 50


@pytest.mark.slow
@pytest.mark.parametrize(
    "broken",
    [
        "SideFileUnsynced",
        "HiddenRowsApart",
        "AttachedLogs",
        "AbsolutePathsUnsynced",
        "PidFileForEver",
        "JournalRemoved",
        "CopiedAway",
        "OpenedPerCallUnsynced",
    ],
)
@pytest.mark.parametrize("seed", first_of([0, 1]))
def test_what_a_crash_costs_its_neighbour_is_found(broken: str, seed: int) -> None:
    assert searched(getattr(crash_places, broken)(), seed=seed, most_findings=1).findings


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_directory_that_is_synced_a_line_too_early_is_found_beside_large_values(seed: int) -> None:
    found = searched(crash_places.LargeValuesTooEarly(), states=20, seed=seed).findings
    assert "acknowledged-is-durable" in {one.finding.code for one in found}
    sound = searched(crash_places.LargeValues(), states=20, seed=seed)
    assert not sound.findings
    assert not sound.vacuous


@pytest.mark.parametrize("seed", first_of(range(3)))
def test_a_store_that_goes_on_after_a_sync_has_failed_loses_what_it_acknowledges_then(seed: int) -> None:
    assert {found.finding.code for found in searched(crash_places.AppendOnlyGoesOn(), seed=seed).findings} == {
        "survives-a-failed-sync"
    }
    sound = searched(crash_places.AppendOnly(), seed=seed)
    assert not sound.findings
    assert not sound.vacuous


def test_what_a_failed_sync_drops_is_tried_only_where_it_is_promised_or_asked_for() -> None:
    class DoesNotSay(crash_places.AppendOnlyGoesOn):
        survives_failed_sync = False

    assert not searched(DoesNotSay()).findings
    asked = searched(DoesNotSay(), device=Device(failed_sync="drops"))
    assert [found.finding.code for found in asked.findings] == ["survives-a-failed-sync"]
    assert asked.findings[0].promised


@pytest.mark.parametrize("states", [200, pytest.param(None, marks=pytest.mark.slow)])
def test_states_of_a_store_with_a_late_log_are_legal(states: int | None) -> None:
    recorder = searched(crash_places.LogAfterSchema(), states=states)
    assert not recorder.findings
    assert not recorder.vacuous


def test_the_process_that_comes_after_a_crash_is_another_one_and_the_first_is_dead() -> None:
    own = os.getpid()
    with in_life(1):
        first = os.getpid()
        with pytest.raises(ProcessLookupError):
            os.kill(own, 0)
        os.kill(first, 0)
    with in_life(2):
        assert os.getpid() not in {own, first}
        for dead in (own, first):
            with pytest.raises(ProcessLookupError):
                os.kill(dead, 0)
    assert os.getpid() == own
    os.kill(own, 0)


class PoolPerProcess(others_stores.Shelf):
    """Keeps a connection for each process, as pools do that live on after a fork; a child's is not the parent's."""

    def __init__(self, path: Path) -> None:
        self.connections: dict[int, sqlite3.Connection] = {}
        super().__init__(path)
        self.connections[os.getpid()] = self.db

    def put(self, key: str, value: object = 1) -> None:
        if os.getpid() not in self.connections:
            self.connections[os.getpid()] = sqlite3.connect(self.path, isolation_level=None)
        self.db = self.connections[os.getpid()]
        super().put(key, value)


class PoolPerProcessTarget(others_stores.ShelfTarget):
    kind = PoolPerProcess


@pytest.mark.parametrize("end", [Restart(crash=True), Damage("unreadable", "store.sqlite", 1)])
def test_the_shadow_is_in_the_process_that_comes_after_a_crash_from_its_beginning(tmp_path: Path, end: Step) -> None:
    target = PoolPerProcessTarget()
    first, second = target.calls
    scenario = Scenario(target.name, target.configurations[0], (Call(first), end, Call(second)))
    with faults.install():
        violation, counts = play(scenario, target, tmp_path)
    assert violation is None
    assert counts["crashes"] + counts["latent_faults"] == 1


def test_what_a_reader_of_crash_states_makes_is_no_file_of_the_store_that_others_may_read() -> None:
    # The log is replaced as a whole by every call, the reader's small change among them.
    recorder = searched(crash_places.OneFile(), "crash", seed=1)
    assert not recorder.findings
    assert not recorder.vacuous


def test_a_file_is_put_down_for_its_owner_whoever_has_made_the_one_before(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "a").chmod(0o644)
    place({"a": b"2"}, tmp_path)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_a_directory_takes_the_place_of_another_one_and_gives_it_back(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    with (tmp_path / "one" / "file").open() as kept, in_the_place_of(tmp_path / "one", tmp_path / "two"):
        assert (tmp_path / "one" / "file").read_text() == "two"
        assert not (tmp_path / "two").exists()
        assert kept.read() == "one"
    assert [(tmp_path / name / "file").read_text() for name in ("one", "two")] == ["one", "two"]


def test_a_failed_change_to_a_plain_file_that_was_undone_may_come_back_with_a_power_cut() -> None:
    history = History(Configuration("file", "FULL"), {})
    history.called(1, "put", 0, 2, Answer("raised"), (), {"a": 1}, {})
    history.called(2, "put", 2, 4, Answer("done"), (), {"b": 2}, {"b": 2})
    for view in ({"b": 2}, {"a": 1, "b": 2}):
        assert history.judge(4, view, power=True).lost == 0
    for view in ({"a": 2, "b": 2}, {"a": 1}):
        with pytest.raises(Violation):
            history.judge(4, view, power=True)
    with pytest.raises(Violation):
        history.judge(4, {"a": 1, "b": 2}, power=False)
    said = History(Configuration("file", "FULL"), {})
    said.called(1, "put", 0, 2, Answer("raised", certainty="unchanged"), (), {"a": 1}, {})
    with pytest.raises(Violation):
        said.judge(2, {"a": 1}, power=True)


def test_a_failed_change_to_a_plain_file_stays_in_doubt_whatever_other_files_are_synced_later() -> None:
    history = History(Configuration("file", "FULL"), {})
    history.called(1, "put", 0, 2, Answer("raised"), (), {"a": 1}, {"a": 1})
    history.called(2, "put", 2, 4, Answer("done"), (), {"a": 1, "b": 2}, {"a": 1, "b": 2})
    assert history.judge(4, {"b": 2}, power=True).lost == 0
    with pytest.raises(Violation):
        history.judge(4, {"a": 1}, power=True)
    with pytest.raises(Violation):
        history.judge(4, {"b": 2}, power=False)
    history.called(3, "put", 4, 6, Answer("done"), (), {"a": 3, "b": 2}, {"a": 3, "b": 2})
    with pytest.raises(Violation):
        history.judge(6, {"b": 2}, power=True)
