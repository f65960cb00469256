"""Real kills: a right store loses nothing, a defect is caught and shown again, what did not happen doesn't count."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dying_stores
import pytest
import tiny_stores

import faults
from scenarios.campaign import Exit, run, verdict
from scenarios.events import Event, Found, PointTried
from scenarios.handlers.kills import kills_by_operation
from scenarios.kill import Kill
from scenarios.kill_player import kills, play_killed
from scenarios.kill_points import Blow, KillPoints
from scenarios.nursery import Nursery
from scenarios.profiles import Plan, Profile
from scenarios.recorder import Recorder
from scenarios.story import Arm, Call, Clear, Restart, Story
from scenarios.sweep import Sweep
from scenarios.target import Action, Configuration, Target, TargetError
from scenarios.targets.reference import Reference

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


@pytest.mark.slow
def test_the_reference_loses_nothing_and_every_kind_of_operation_is_hit() -> None:
    recorder = killed(Reference(), 120, configurations=2)
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.vacuous == []
    hit = kills_by_operation(recorder)
    assert {"write:wal", "write:db", "write:journal", "sync:wal", "sync:db", "delete:journal", "commit"} <= hit.keys()
    for operation, timings in hit.items():
        wanted = {"before", "half", "after"} if operation.startswith("write:") else {"before", "after"}
        assert set(timings) == wanted, operation
    assert sum(timings.total() for timings in hit.values()) == 120


def test_a_recovery_that_marks_each_row_once_is_right() -> None:
    recorder = killed(dying_stores.Recovers(), 16)
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.count("kills") == 16


def test_what_a_target_prints_is_not_taken_for_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    recorder = killed(dying_stores.Prints(), 4)
    assert (recorder.count("kills"), recorder.findings) == (4, [])


# -- defects -----------------------------------------------------------------------------------------------

DEFECTS = [
    (dying_stores.Lazy, "acknowledged-is-durable"),
    (dying_stores.Behind, "acknowledged-is-durable"),
    (dying_stores.Halves, "all-or-nothing"),
    (dying_stores.CleansUp, "acknowledged-is-durable"),
    (dying_stores.RecoversAway, "acknowledged-is-durable"),
    (dying_stores.RecoversAgain, "in-flight-flagged-once"),
    (dying_stores.RecoversInTwo, "in-flight-flagged-once"),
]


@pytest.mark.quality
@pytest.mark.parametrize(("target", "code"), DEFECTS)
def test_a_defect_is_caught_and_its_story_shows_it_again_in_processes_really_killed(
    target: type[tiny_stores.Tiny], code: str, shim: faults.Shim, home: Path
) -> None:
    recorder = killed(target(), 60)
    assert code in codes(recorder)
    assert verdict(recorder) is Exit.FINDING
    by_plan = 0
    with Nursery(target.name, home / "errands") as nursery:
        for found in by_kill(recorder):
            story = found.finding.story
            assert kills(story)
            assert story.steps[-1] == Restart(crash=True)
            assert "does not show" not in found.finding.message
            again, counts = play_killed(story, target(), home / "play", nursery)
            assert again is not None, story
            assert again.code == found.finding.code
            assert counts["kills"] >= 1
            by_plan += found.finding.code == code and counts["fired"] == 1
    assert by_plan


@pytest.mark.quality
def test_a_finding_is_as_short_as_it_can_be_and_says_how_the_process_died(shim: faults.Shim) -> None:
    recorder = killed(dying_stores.Behind(), 60, configurations=1)
    in_a_call = [found.finding for found in by_kill(recorder) if found.finding.message.startswith("killed in ")]
    shortest = min(in_a_call, key=lambda finding: len(finding.story.steps))
    deferred, arm, _, restart = shortest.story.steps
    assert deferred == Call(Action("defer", {"key": "b", "value": 2}))
    assert isinstance(arm, Arm)
    assert arm.plan.endswith("=KILL")
    assert restart == Restart(crash=True)
    assert f"by {arm.plan}: b: what was acknowledged has 2, the file has nothing" in shortest.message


# -- the same seed -----------------------------------------------------------------------------------------


@pytest.fixture
def points(shim: faults.Shim, home: Path) -> Callable[[], KillPoints]:
    target = dying_stores.Right()
    sweep = Sweep(target, Recorder(), home / "plain")
    return lambda: KillPoints(target, sweep, WAL, home / "warm")


def drawn(points: KillPoints, seed: int, number: int = 40) -> list[Blow]:
    return list(points.draw(number, random.Random(seed)))  # noqa: S311 - reproducible


def name_of(blow: Blow) -> str:
    where = blow.start and (blow.start.step, blow.start.action, sorted(blow.start.files))
    return f"{blow.fault} in {where or 'the whole workload'}"


def test_the_same_seed_draws_the_same_kills_and_another_seed_others(points: Callable[[], KillPoints]) -> None:
    def names(seed: int) -> list[str]:
        return [name_of(blow) for blow in drawn(points(), seed)]

    assert names(1) == names(1) != names(2)


def test_no_point_is_drawn_twice_and_all_are_drawn_in_the_end(points: Callable[[], KillPoints]) -> None:
    found = points()
    blows = drawn(found, 0, found.number + 100)
    assert len(blows) == found.number > 400
    assert len({name_of(blow) for blow in blows}) == found.number


def test_every_kind_is_drawn_once_before_any_is_drawn_twice(points: Callable[[], KillPoints]) -> None:
    kinds = Counter(blow.kind for blow in drawn(points(), 3, 30))
    assert set(kinds.values()) == {1}
    everything = points()
    every = {blow.kind for blow in drawn(everything, 0, everything.number)}
    assert {("write", "wal", "half"), ("sync", "wal", "after"), ("commit", "any", "before")} <= every
    assert all(kind not in ("shmunlock", "beginlock", "commitend") for kind, _, _ in every)


def test_a_run_is_the_same_from_the_same_seed() -> None:
    def tried(seed: int) -> list[Event]:
        events: list[Event] = []
        killed(dying_stores.Right(), 12, seed=seed, handlers=(events.append,))
        return [event for event in events if isinstance(event, PointTried)]

    assert tried(1) == tried(1) != tried(2)


# -- what did not happen -----------------------------------------------------------------------------------


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(points: KillPoints, *_: object) -> Iterator[Blow]:
        yield Blow(faults.FaultPlan.parse("write:wal@999=KILL").faults[0], None)

    monkeypatch.setattr(KillPoints, "draw", draw)


def test_a_process_that_lives_on_is_vacuous_and_is_told(unreachable: None) -> None:
    recorder = killed(dying_stores.Right(), 1, configurations=1)
    assert "write:wal@999=KILL in the whole workload at wal/FULL: the process lived on" in recorder.vacuous[0].reason
    assert recorder.count("kills") == 0
    assert verdict(recorder) is Exit.NOT_TESTED


def test_a_death_that_the_plan_did_not_bring_does_not_count() -> None:
    recorder = killed(dying_stores.KilledByOthers(), 2, configurations=1)
    assert recorder.count("kills") == 0
    assert "the process was killed by somebody else" in recorder.vacuous[0].reason
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
    (tiny_stores.Tiny, r"tiny can't be loaded in a process of its own: unknown target 'tiny'"),
    (tiny_stores.NeverOpens, "no such store"),
]


@pytest.mark.parametrize(("target", "message"), UNFIT)
def test_a_target_that_fails_by_itself_is_named_with_the_reason(target: type[tiny_stores.Tiny], message: str) -> None:
    with pytest.raises(TargetError, match=message):
        killed(target(), 1)


# -- stories by hand ---------------------------------------------------------------------------------------


@pytest.fixture
def nursery(home: Path) -> Iterator[Nursery]:
    with Nursery("dying_stores:Right", home / "errands") as started:
        yield started


def story(*steps: Any, configuration: Configuration = WAL) -> Story:
    return Story("dying_stores:Right", configuration, steps)


PUT_A, PUT_B = Call(dying_stores.put("a")), Call(dying_stores.put("b"))
KILL = Arm("write:wal@1/half=KILL")
STORIES = [
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


@pytest.mark.parametrize(("steps", "deaths", "fired", "calls"), STORIES)
def test_a_story_is_played_in_as_many_processes_as_it_has_lives(
    steps: tuple[Any, ...], deaths: int, fired: int, calls: int, nursery: Nursery, shim: faults.Shim, home: Path
) -> None:
    violation, counts = play_killed(story(*steps), dying_stores.Right(), home / "play", nursery)
    assert violation is None
    assert (counts["kills"], counts["fired"], counts["calls"]) == (deaths, fired, calls)


def test_one_process_has_one_plan(nursery: Nursery, shim: faults.Shim, home: Path) -> None:
    with pytest.raises(TargetError, match="one plan"):
        play_killed(story(KILL, PUT_A, KILL, PUT_B), dying_stores.Right(), home / "play", nursery)


def test_the_search_hands_out_what_the_plan_of_a_campaign_asks_for(home: Path) -> None:
    profile = Profile("test", 1, None, 0, 0, kills=7)
    search = Kill.of(dying_stores.Right(), Recorder(), home, Plan(("kill",), profile, seed=4, report=home / "r"))
    assert (search.kills, search.configurations, search.report) == (7, (WAL,), home / "r")
    chosen = Plan(("kill",), profile, configurations=(DELETE, WAL))
    assert Kill.of(dying_stores.Right(), Recorder(), home, chosen).configurations == (DELETE, WAL)
