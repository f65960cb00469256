"""The clock jumps back and forth between calls: the checks hold, and a store that trusts it is caught."""

from pathlib import Path

import pytest
import tiny_stores
from hypothesis import find

from tornpage import faults
from tornpage.scenarios.execution.executor import Executor, play
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Call, ClockJump, Restart, Scenario
from tornpage.scenarios.model.target import Action, Configuration, Environment, View
from tornpage.scenarios.run.campaign import run
from tornpage.scenarios.search.fuzz.search import _clock_of, jumps
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.reference.target import Reference

WAL = Configuration("wal", "FULL")
DAY_MS = 86_400_000


def put(key: str, value: int) -> Call:
    return Call(Action("put", {"key": key, "value": value}))


def test_a_jump_is_for_good_and_for_the_shadow_as_well(home: Path, shim: faults.Shim) -> None:
    with Executor(tiny_stores.Tiny(), WAL, home) as executor:
        executor.do(Restart())
        before = executor.real.environment.now_ms
        executor.do(ClockJump(-DAY_MS))
        jumped = executor.real.environment.now_ms
        executor.do(put("a", 1))
        assert before - DAY_MS < jumped < executor.real.environment.now_ms < before
        assert executor.shadow.environment.now_ms == executor.real.environment.now_ms
        executor.do(ClockJump(3 * DAY_MS))
        assert executor.real.environment.now_ms > before + DAY_MS
        assert executor.counts["jumps"] == 2
        executor.end()


def test_no_clock_stands_before_1970(home: Path, shim: faults.Shim) -> None:
    with Executor(tiny_stores.Tiny(), WAL, home) as executor:
        executor.do(ClockJump(-(10**15)))
        assert executor.real.environment.clock() == 0
        executor.do(put("a", 1))
        executor.end()


def test_jumps_go_both_ways_by_seconds_and_by_years() -> None:
    for far_enough in (
        lambda by_ms: by_ms == 1_000,
        lambda by_ms: by_ms == -1_000,
        lambda by_ms: by_ms > 365 * DAY_MS,
        lambda by_ms: by_ms < -365 * DAY_MS,
    ):
        assert find(jumps(), far_enough)


class NewestWinsSession(tiny_stores.TinySession):
    """Keeps the value with the latest time; what is older than what it has, it takes and drops."""

    def __init__(self, directory: Path, configuration: Configuration, environment: Environment) -> None:
        super().__init__(directory, configuration, environment)
        self.clock = environment.clock
        self.connection.execute("CREATE TABLE IF NOT EXISTS stamp(key TEXT PRIMARY KEY, at_ms)")
        # What was said last, by key; forgotten after a failure.
        self.memory: dict[str, int] = {}

    def do_put(self, key: str, value: int) -> None:
        now_ms = self.clock()
        newest = "SELECT 1 FROM stamp WHERE key = ? AND at_ms > ?"
        self.transact(
            (
                f"INSERT INTO t SELECT ?, ? WHERE NOT EXISTS ({newest}) "
                "ON CONFLICT DO UPDATE SET value = excluded.value",
                (key, value, key, now_ms),
            ),
            (
                "INSERT INTO stamp VALUES(?, ?) ON CONFLICT DO UPDATE SET at_ms = max(at_ms, excluded.at_ms)",
                (key, now_ms),
            ),
        )
        self.memory[key] = value

    def live_view(self) -> View:
        return {**super().live_view(), **self.memory}

    def roll_back(self) -> None:
        self.memory.clear()
        super().roll_back()


class NewestWins(tiny_stores.Tiny):
    """memory-equals-disk: a write in a clock that went back is acknowledged, and lost."""

    session = NewestWinsSession

    def actions(self, view: View):
        return super().actions(view).filter(lambda action: action.name == "put")


@pytest.mark.quality
def test_a_store_that_orders_by_the_clock_is_right_until_it_goes_back(home: Path, shim: faults.Shim) -> None:
    still = Scenario("tiny", WAL, (put("a", 1), ClockJump(DAY_MS), put("a", 2)))
    back = Scenario("tiny", WAL, (put("a", 1), ClockJump(-DAY_MS), put("a", 2)))
    assert play(still, NewestWins(), home)[0] is None
    violation, _ = play(back, NewestWins(), home)
    assert violation is not None
    assert violation.code == "memory-equals-disk"


def fuzzed(target: object, scenarios: int, steps: int, *, seed: int = 0, shrinks: bool = True) -> Recorder:
    plan = Plan(("fuzz",), Profile("test", 2, None, scenarios, steps, shrinks=shrinks), seed=seed, report=None)
    return run(target, plan)  # type: ignore[arg-type]


def test_the_clock_has_its_turn_either_way_and_each_machine_meets_it() -> None:
    turns = [_clock_of(batch) for batch in range(9)]
    assert turns == [0, -1, 1, -1, 1, 0, 1, 0, -1]


@pytest.mark.quality
@pytest.mark.slow
def test_the_machine_finds_it_and_its_shortest_scenario_is_a_put_a_jump_and_a_put(home: Path) -> None:
    recorder = fuzzed(NewestWins(), 200, 20)
    assert [found.finding.code for found in recorder.findings][:1] == ["memory-equals-disk"]
    kinds = [type(step) for step in recorder.findings[0].finding.scenario.steps]
    assert kinds == [Call, ClockJump, Call]


@pytest.mark.quality
@pytest.mark.slow
def test_it_is_found_with_another_seed_that_never_came_to_it() -> None:
    """Jumps were one step of a hundred, and it was found with two seeds of five."""
    assert fuzzed(NewestWins(), 200, 20, seed=3, shrinks=False).findings


@pytest.mark.slow
def test_the_reference_holds_in_two_thousand_steps_with_jumps() -> None:
    recorder = fuzzed(Reference(), 80, 40)
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.count("steps") > 2_000
    assert recorder.count("jumps") > 100
