"""Real kills: a right store loses nothing, a defect is caught and shown again, what did not happen doesn't count."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dying_stores
import pytest
import tiny_stores

from tornpage import faults
from tornpage.scenarios.execution.kill.executor import kills, play_killed
from tornpage.scenarios.execution.kill.supervisor import Supervisor
from tornpage.scenarios.model.events import Event, Found, PointTried
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Arm, Call, Clear, Restart, Scenario
from tornpage.scenarios.model.target import Action, Configuration, Target, TargetError
from tornpage.scenarios.report.terminal.kills import kills_by_operation
from tornpage.scenarios.run.campaign import Exit, run, verdict
from tornpage.scenarios.search.kill import Kill
from tornpage.scenarios.search.kill_points import KillPoint, KillPoints
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.search.sweep import Sweep
from tornpage.scenarios.targets.reference.target import Reference
from tornpage.scenarios.targets.registry import find_or_import

WAL = Configuration("wal", "FULL")
DELETE = Configuration("delete", "FULL")


def killed(target: Target, number: int, *, seed: int = 0, handlers: Any = (), **more: Any) -> Recorder:
    profile = Profile("test", more.pop("configurations", None), None, 0, 0, kills=number)
    return run(target, Plan(("kill",), profile, seed=seed, report=None, **more), handlers)


def codes(recorder: Recorder) -> set[str]:
    return {found.finding.code for found in recorder.findings}


def by_kill(recorder: Recorder) -> list[Found]:
    """The findings of the kills themselves; the dry run of the sweep may have some of its own."""
    return [found for found in recorder.findings if found.finding.search == "kill"]


# -- a right store -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_right_store_loses_nothing_however_it_is_killed() -> None:
    recorder = killed(dying_stores.Right(), 150)
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.vacuous == []
    assert recorder.count("kills") == recorder.count("tried") == 150
    assert 30 <= recorder.count("warm") <= 40
    assert recorder.complete
    assert verdict(recorder) is Exit.HOLDS


def test_an_answer_may_name_the_directory_in_which_the_killed_process_ran() -> None:
    recorder = killed(dying_stores.Named(), 12, configurations=1)
    assert recorder.findings == []
    assert recorder.count("warm") == 3


@pytest.mark.slow
def test_the_reference_loses_nothing_and_every_kind_of_operation_is_hit() -> None:
    recorder = killed(Reference(), 160, configurations=2)
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.vacuous == []
    hit = kills_by_operation(recorder)
    assert {"write:wal", "write:db", "write:journal", "sync:wal", "sync:db", "delete:journal", "commit"} <= hit.keys()
    for operation, timings in hit.items():
        wanted = {"before", "half", "after"} if operation.startswith("write:") else {"before", "after"}
        assert set(timings) == wanted, operation
    assert sum(timings.total() for timings in hit.values()) == 160


def test_a_recovery_that_marks_each_row_once_is_right() -> None:
    recorder = killed(dying_stores.Recovers(), 16)
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.count("kills") == 16


def test_a_pid_file_of_a_process_that_has_died_is_taken_over_whoever_wrote_it() -> None:
    recorder = killed(find_or_import("crash_places:PidFile"), 16)
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.vacuous == []
    assert recorder.count("kills") == 16


def test_what_a_target_prints_is_not_taken_for_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    recorder = killed(dying_stores.Prints(), 4)
    assert (recorder.count("kills"), recorder.findings) == (4, [])


# -- defects -----------------------------------------------------------------------------------------------

DEFECTS = [
    (dying_stores.Halves, "all-or-nothing", 24, 1),
    (dying_stores.CleansUp, "acknowledged-is-durable", 60, None),
    (dying_stores.RecoversAway, "acknowledged-is-durable", 24, 1),
    (dying_stores.RecoversAgain, "in-flight-flagged-once", 24, 1),
    (dying_stores.RecoversInTwo, "in-flight-flagged-once", 60, None),
]


@pytest.mark.quality
@pytest.mark.parametrize(("target", "code", "number", "configurations"), DEFECTS)
def test_a_defect_is_caught_and_its_scenario_shows_it_again_in_processes_really_killed(
    target: type[tiny_stores.Tiny],
    code: str,
    number: int,
    configurations: int | None,
    shim: faults.Shim,
    home: Path,
) -> None:
    recorder = killed(target(), number, configurations=configurations)
    assert code in codes(recorder)
    assert verdict(recorder) is Exit.FINDING
    by_plan = 0
    with Supervisor(target.name, home / "jobs") as supervisor:
        for found in by_kill(recorder):
            scenario = found.finding.scenario
            assert kills(scenario)
            assert scenario.steps[-1] == Restart(crash=True)
            assert "does not show" not in found.finding.message
            again, counts = play_killed(scenario, target(), home / "play", supervisor)
            assert again is not None, scenario
            assert again.code == found.finding.code
            assert counts["kills"] >= 1
            by_plan += found.finding.code == code and counts["fired"] == 1
    assert by_plan


@pytest.mark.quality
def test_a_finding_is_as_short_as_it_can_be_and_says_how_the_process_died(shim: faults.Shim) -> None:
    recorder = killed(dying_stores.Halves(), 24, configurations=1)
    in_a_call = [found.finding for found in by_kill(recorder) if found.finding.message.startswith("killed in ")]
    shortest = min(in_a_call, key=lambda finding: len(finding.scenario.steps))
    *_, arm, _move, restart = shortest.scenario.steps
    assert len(shortest.scenario.steps) <= 4
    assert isinstance(arm, Arm)
    assert arm.plan.endswith("=KILL")
    assert restart == Restart(crash=True)
    assert f"by {arm.plan}: " in shortest.message


@pytest.mark.quality
@pytest.mark.parametrize(
    ("target", "code"),
    [(dying_stores.Lazy, "acknowledged-is-durable"), (dying_stores.Behind, "memory-equals-disk")],
)
def test_what_fails_without_a_kill_is_shown_without_one(
    target: type[tiny_stores.Tiny], code: str, shim: faults.Shim
) -> None:
    recorder = killed(target(), 20, configurations=1)
    assert codes(recorder) == {code}
    assert not any(kills(found.finding.scenario) for found in recorder.findings)


# -- the same seed -----------------------------------------------------------------------------------------


@pytest.fixture
def points(shim: faults.Shim, home: Path) -> Callable[[], KillPoints]:
    target = dying_stores.Right()
    sweep = Sweep(target, Recorder(), home / "plain")
    return lambda: KillPoints(target, list(sweep.starts(WAL)), WAL, home / "warm")


def drawn(points: KillPoints, seed: int, number: int = 40) -> list[KillPoint]:
    return list(points.draw(number, random.Random(seed)))  # noqa: S311 - reproducible


def name_of(kill_point: KillPoint) -> str:
    start = kill_point.start
    where = kill_point.call if kill_point.is_warm else (start.step, start.action, sorted(start.files))
    return f"{kill_point.fault} in {where}"


def test_the_same_seed_draws_the_same_kills_and_another_seed_others(points: Callable[[], KillPoints]) -> None:
    def names(seed: int) -> list[str]:
        return [name_of(kill_point) for kill_point in drawn(points(), seed)]

    assert names(1) == names(1) != names(2)


def test_no_point_is_drawn_twice_and_all_are_drawn_in_the_end(points: Callable[[], KillPoints]) -> None:
    found = points()
    kill_points = drawn(found, 0, found.number + 100)
    assert len(kill_points) == found.number > 400
    assert len({name_of(kill_point) for kill_point in kill_points}) == found.number


def test_every_kind_is_drawn_once_before_any_is_drawn_twice(points: Callable[[], KillPoints]) -> None:
    kinds = Counter(kill_point.kind for kill_point in drawn(points(), 3, 30))
    assert set(kinds.values()) == {1}
    everything = points()
    every = {kill_point.kind for kill_point in drawn(everything, 0, everything.number)}
    assert {("write", "wal", "half"), ("sync", "wal", "after"), ("commit", "any", "before")} <= every
    assert all(kind not in ("shmunlock", "beginlock", "commitend") for kind, _, _ in every)


def test_a_run_is_the_same_from_the_same_seed() -> None:
    def tried(seed: int) -> list[Event]:
        events: list[Event] = []
        killed(dying_stores.Right(), 6, seed=seed, handlers=(events.append,))
        return [event for event in events if isinstance(event, PointTried)]

    assert tried(1) == tried(1) != tried(2)


# -- what did not happen -----------------------------------------------------------------------------------


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(points: KillPoints, *_: object) -> Iterator[KillPoint]:
        yield KillPoint.of(faults.FaultPlan.parse("write:wal@999=KILL").faults[0], points._starts[0], is_warm=True)

    monkeypatch.setattr(KillPoints, "draw", draw)


def test_a_process_that_lives_on_is_vacuous_and_is_told(unreachable: None) -> None:
    recorder = killed(dying_stores.Right(), 1, configurations=1)
    reason = recorder.vacuous[0].reason
    assert "write:wal@999=KILL in the whole workload at wal/FULL: the process lived on: it has not made that" in reason
    assert "what a module keeps from one store to the next" in reason
    assert recorder.count("kills") == 0
    assert verdict(recorder) is Exit.NOT_TESTED


def test_a_death_that_the_plan_did_not_bring_does_not_count() -> None:
    recorder = killed(dying_stores.KilledByOthers(), 2, configurations=1)
    assert recorder.count("kills") == 0
    assert "the process was killed by another process" in recorder.vacuous[0].reason
    assert verdict(recorder) is Exit.NOT_TESTED


def test_a_workload_without_calls_tests_nothing() -> None:
    target = tiny_stores.DoesNothing()
    target.name = "tiny_stores:DoesNothing"
    recorder = killed(target, 4)
    assert any("makes no call" in vacuous.reason for vacuous in recorder.vacuous)
    assert verdict(recorder) is Exit.NOT_TESTED


def test_no_time_is_no_kill() -> None:
    recorder = killed(dying_stores.Right(), 5, max_time_s=0.0)
    assert (recorder.count("kills"), recorder.complete) == (0, False)


# -- targets that can't be killed --------------------------------------------------------------------------

UNFIT = [
    (dying_stores.FailsInTheChild, r"open\(\) fails:\n(?s:.*)Traceback(?s:.*)RuntimeError: not in a child"),
    (dying_stores.ExitsInTheChild, r"ended with exit code 3:\nthat was enough"),
    (tiny_stores.Tiny, r"tiny can't be loaded in another process: unknown target 'tiny'"),
    (tiny_stores.NeverOpens, "no such store"),
]


@pytest.mark.parametrize(("target", "message"), UNFIT)
def test_a_target_that_fails_by_itself_is_named_with_the_reason(target: type[tiny_stores.Tiny], message: str) -> None:
    with pytest.raises(TargetError, match=message):
        killed(target(), 1)


# -- scenarios by hand ---------------------------------------------------------------------------------------


@pytest.fixture
def supervisor(home: Path) -> Iterator[Supervisor]:
    with Supervisor("dying_stores:Right", home / "jobs") as started:
        yield started


def scenario(*steps: Any, configuration: Configuration = WAL) -> Scenario:
    return Scenario("dying_stores:Right", configuration, steps)


PUT_A, PUT_B = Call(dying_stores.put("a")), Call(dying_stores.put("b"))
KILL = Arm("write:wal@1/half=KILL")
SCENARIOS = [
    # (steps, processes killed, by their plan, calls answered)
    ((PUT_A, KILL, PUT_B, Restart(crash=True)), 1, 1, 2),
    ((PUT_A, KILL, PUT_B, PUT_A, PUT_A), 1, 1, 2),
    ((PUT_A, Restart(crash=True), PUT_B, Restart(crash=True)), 2, 0, 4),
    ((PUT_A, Restart(), PUT_B), 1, 0, 5),
    # The plan counts from the opening on, and is spent after it has killed.
    ((KILL, PUT_A, Restart(crash=True), PUT_B, Restart(crash=True)), 2, 1, 2),
    # It did not fire in the first process, so it is armed in the second.
    ((PUT_A, KILL, Restart(crash=True), PUT_B), 2, 1, 3),
    ((PUT_A, KILL, Clear(), PUT_B, Restart(crash=True)), 1, 0, 3),
    ((Restart(), Restart(crash=True), KILL, PUT_A, Restart(crash=True)), 2, 1, 2),
    ((PUT_A, Arm("delete:wal@1/after=KILL"), Restart(), Restart(crash=True)), 1, 1, 2),
    ((PUT_A, Arm("commit@1/after=KILL", "statement"), PUT_B, Restart(crash=True), PUT_A), 2, 1, 4),
    ((Call(Action("remove", {"key": "nobody"})), KILL, PUT_A), 1, 1, 2),
    ((), 0, 0, 0),
]  # fmt: skip


@pytest.mark.parametrize(("steps", "deaths", "fired", "calls"), SCENARIOS)
def test_a_scenario_is_played_in_as_many_processes_as_it_has_lives(
    steps: tuple[Any, ...], deaths: int, fired: int, calls: int, supervisor: Supervisor, shim: faults.Shim, home: Path
) -> None:
    violation, counts = play_killed(scenario(*steps), dying_stores.Right(), home / "play", supervisor)
    assert violation is None
    assert (counts["kills"], counts["fired"], counts["calls"]) == (deaths, fired, calls)


@pytest.mark.parametrize(("kind", "code"), [(dying_stores.Saves, ""), (dying_stores.Opens, "files-are-private")])
def test_a_file_made_while_closing_is_as_private_as_the_umask_says(
    kind: type[dying_stores.Saves], code: str, home: Path
) -> None:
    steps = (PUT_A, Restart(), PUT_B, Arm("file-write:.idx@1/after=KILL"), Restart(), Restart(crash=True))
    with Supervisor(kind.name, home / "jobs") as supervisor:
        violation, _ = play_killed(scenario(*steps), kind(), home / "play", supervisor)
    assert (violation.code if violation else "") == code


def test_one_process_has_one_plan(supervisor: Supervisor, shim: faults.Shim, home: Path) -> None:
    with pytest.raises(TargetError, match="one plan"):
        play_killed(scenario(KILL, PUT_A, KILL, PUT_B), dying_stores.Right(), home / "play", supervisor)


def test_the_search_hands_out_what_the_plan_of_a_campaign_asks_for(home: Path) -> None:
    profile = Profile("test", 1, None, 0, 0, kills=7)
    search = Kill.of(dying_stores.Right(), Recorder(), home, Plan(("kill",), profile, seed=4, report=home / "r"))
    assert (search.kills, search.configurations, search.report) == (7, (WAL,), home / "r")
    chosen = Plan(("kill",), profile, configurations=(DELETE, WAL))
    assert Kill.of(dying_stores.Right(), Recorder(), home, chosen).configurations == (DELETE, WAL)
