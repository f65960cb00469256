"""The machine: the same seed tells the same scenarios, what it never reached is said, and what it finds is short."""

import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tiny_stores
from hypothesis import Phase, given, settings, strategies

from tornpage import faults
from tornpage.scenarios.execution.executor import Executor, play
from tornpage.scenarios.model.events import StepsDone
from tornpage.scenarios.model.scenario import Call, Clear, Restart, Step
from tornpage.scenarios.model.target import Action, Configuration, TargetError, View
from tornpage.scenarios.run.campaign import Exit, verdict
from tornpage.scenarios.search.fuzz.search import Fuzz, Playable, plans
from tornpage.scenarios.search.recorder import Recorder

WAL = (Configuration("wal", "FULL"),)

Search = Callable[..., Recorder]


def told(monkeypatch: pytest.MonkeyPatch, directory: Path, seed: int) -> list[str]:
    """Every step of every scenario, in order."""
    steps: list[str] = []
    do = Executor.do

    def noted(executor: Executor, step: Step) -> None:
        steps.append(str(step))
        do(executor, step)

    with monkeypatch.context() as patch:
        patch.setattr(Executor, "do", noted)
        Fuzz(tiny_stores.Tiny(), Recorder(), directory, configurations=WAL, scenarios=12, steps=8, seed=seed).run()
    return steps


def test_the_same_seed_tells_the_same_scenarios_and_another_seed_others(
    monkeypatch: pytest.MonkeyPatch, shim: faults.Shim, home: Path
) -> None:
    first = told(monkeypatch, home, 3)
    assert first == told(monkeypatch, home, 3)
    assert first != told(monkeypatch, home, 4)
    assert len(first) > 50


def test_a_profile_that_hypothesis_loads_under_ci_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, shim: faults.Shim, home: Path
) -> None:
    import hypothesis

    first = told(monkeypatch, home, 3)
    before = hypothesis.settings.default
    hypothesis.settings.register_profile("strange", derandomize=True, max_examples=3, database=None)
    hypothesis.settings.load_profile("strange")
    try:
        assert told(monkeypatch, home, 3) == first
    finally:
        hypothesis.settings.register_profile("before", before)
        hypothesis.settings.load_profile("before")


TELL = """
import sys
import {modules}
import tiny_stores; from hypothesis import strategies; from tornpage import Action, faults
from tornpage.scenarios.run.scratch import scratch
from tornpage.scenarios.search.fuzz.search import Fuzz
from tornpage.scenarios.execution.executor import Executor
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.model.target import Configuration

do = Executor.do
def told(executor, step):
    print(step)
    do(executor, step)
Executor.do = told

class AnyNumber(tiny_stores.Tiny):
    def actions(self, view):
        return strategies.integers().map(lambda number: Action("put", {{"key": "a", "value": number % 2**62}}))

with faults.install(), scratch() as home:
    Fuzz(AnyNumber(), Recorder(), home, configurations=(Configuration(),), scenarios=15, steps=10, seed=1).run()
"""


def test_the_same_seed_tells_the_same_scenarios_in_every_process_whatever_else_is_loaded(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    # Hypothesis draws from the constants that it finds in the modules of the user, unless it is kept from it: where a
    # number may be as large as they are.
    numbers = [*range(101, 170), -500, 1_234_567, 2.5]
    (tmp_path / "constants.py").write_text(f"NUMBERS = {numbers}\nTEXTS = {[f'text {number}' for number in numbers]}\n")
    told_of = []
    for modules in ("os", "constants, scenarios.cli"):
        with start(TELL.format(modules=modules)) as process:
            out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        told_of.append(out.splitlines())
    assert len(told_of[0]) > 100
    assert told_of[0] == told_of[1]


def test_a_right_store_holds_and_everything_was_reached(search: Search) -> None:
    recorder = search(tiny_stores.Tiny(), "fuzz", scenarios=40, steps=10, seed=1)
    assert recorder.findings == recorder.vacuous == []
    assert all(recorder.count(name) for name in ("steps", "armed", "fired", "surfaced", "restarts", "crashes"))
    assert verdict(recorder) is Exit.HOLDS


def test_not_many_more_scenarios_are_told_than_were_asked_for(search: Search) -> None:
    # Hypothesis discards a scenario now and then, and tells another one in its place.
    assert 25 <= search(tiny_stores.Tiny(), "fuzz", scenarios=25, steps=5).count("scenarios") < 40


def test_progress_is_told_after_each_batch(shim: faults.Shim, home: Path) -> None:
    told_of: list[int] = []
    recorder = Recorder(
        [lambda event: told_of.append(event.counts["scenarios"]) if isinstance(event, StepsDone) else None]
    )
    Fuzz(tiny_stores.Tiny(), recorder, home, configurations=WAL, scenarios=60, steps=2).run()
    assert len(told_of) > 1
    assert told_of == sorted(set(told_of))
    assert told_of[-1] == recorder.count("scenarios")


def test_a_machine_that_never_reached_a_fault_says_so(search: Search) -> None:
    recorder = search(tiny_stores.Tiny(), "fuzz", scenarios=1, steps=1)
    assert "never reached" in recorder.vacuous[0].reason
    assert verdict(recorder) is Exit.NOT_TESTED


def test_a_target_that_offers_no_actions_is_not_played_and_that_is_said(search: Search) -> None:
    target = tiny_stores.Plain()
    assert not isinstance(target, Playable)
    recorder = search(target, "fuzz", scenarios=10, steps=5)
    assert "declares no actions" in recorder.vacuous[0].reason
    assert recorder.count("steps") == 0


class AlwaysFails(tiny_stores.Tiny):
    """Offers a call that fails without a fault."""

    def actions(self, view: View) -> strategies.SearchStrategy[Action]:
        return strategies.just(Action("fly"))


@pytest.mark.parametrize(("target", "message"), [(AlwaysFails, "fly"), (tiny_stores.NeverOpens, "no such store")])
def test_a_target_that_fails_without_a_fault_is_named(
    target: type[tiny_stores.Tiny], message: str, search: Search
) -> None:
    with pytest.raises(TargetError, match=message):
        search(target(), "fuzz", scenarios=10, steps=5)


DEFECTS = [
    (tiny_stores.RemembersFirst, "memory-equals-disk"),
    (tiny_stores.Swallows, "acknowledged-is-durable"),
    (tiny_stores.Sulks, "still-usable-after-the-fault"),
    (tiny_stores.Scribbles, "integrity"),
    (tiny_stores.Leaks, "still-usable-after-the-fault"),
]


@pytest.mark.quality
@pytest.mark.parametrize(("target", "code"), DEFECTS)
def test_a_defect_is_found_and_told_in_few_steps_with_one_fault(
    target: type[tiny_stores.Tiny], code: str, search: Search, shim: faults.Shim, home: Path
) -> None:
    recorder = search(target(), "fuzz", scenarios=200, steps=12)
    assert [found.finding.code for found in recorder.findings] == [code]
    scenario = recorder.findings[0].finding.scenario
    assert len([step for step in scenario.steps if not isinstance(step, Call | Clear | Restart)]) == 1
    # A limit on the heap is met at one size only, and so is not shortened as far as a fault is.
    assert len(scenario.steps) <= 5
    again, _ = play(scenario, target(), home)
    assert again is not None
    assert again.code == code
    assert recorder.count("fired") > 0
    assert 0 < recorder.count("steps_to_failure") <= recorder.count("steps")


@pytest.mark.slow
@pytest.mark.quality
def test_a_fault_between_two_commits_of_one_call_is_found(search: Search) -> None:
    target = tiny_stores.TwoTransactions()
    target.configurations = WAL
    recorder = search(target, "fuzz", scenarios=300, steps=12, seed=6)
    assert [found.finding.code for found in recorder.findings] in (
        ["all-or-nothing"],
        ["failed-write-changed-nothing"],
    )


class ClosesBadlySession(tiny_stores.RemembersFirstSession):
    """Closing finds what a failed call has left in memory alone."""

    def close(self) -> None:
        differs = self.live_view() != dict(self.connection.execute("SELECT key, value FROM t"))
        super().close()
        if differs:
            raise RuntimeError("memory has something else")


class ClosesBadly(tiny_stores.RemembersFirst):
    session = ClosesBadlySession


def test_what_closing_says_after_a_finding_is_not_the_finding(search: Search) -> None:
    recorder = search(ClosesBadly(), "fuzz", scenarios=60, steps=8, configurations=1)
    assert [found.finding.code for found in recorder.findings] == ["memory-equals-disk"]


class NeverTwiceAlike(tiny_stores.Tiny):
    """Offers a wrong store every second time."""

    opened = 0

    def open(self, directory: Path, *arguments: object) -> tiny_stores.TinySession:
        self.opened += directory.name == "real"
        made = tiny_stores.SwallowsSession if self.opened % 3 == 0 else tiny_stores.TinySession
        return made(directory, *arguments)  # type: ignore[arg-type]


def test_a_store_that_never_fails_twice_alike_ends_no_run_with_a_crash_of_the_harness(search: Search) -> None:
    recorder = search(NeverTwiceAlike(), "fuzz", scenarios=60, steps=8)
    assert verdict(recorder) in (Exit.NOT_TESTED, Exit.FINDING)
    assert recorder.findings or "went another way when it was played again: " in recorder.vacuous[0].reason


class HasAThread(NeverTwiceAlike):
    """The same, with a thread of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = ThreadPoolExecutor(1)

    def open(self, directory: Path, *arguments: object) -> tiny_stores.TinySession:
        self.pool.submit(int).result()
        return super().open(directory, *arguments)


def test_threads_are_named_as_the_reason_why_a_scenario_goes_another_way(search: Search) -> None:
    target = HasAThread()
    with target.pool:
        recorder = search(target, "fuzz", scenarios=60, steps=8, configurations=1)
    assert "went another way when it was played again: its threads work at the same time" in recorder.vacuous[0].reason


@pytest.mark.parametrize("journal_mode", ["wal", "delete"])
def test_plans_are_possible_and_of_the_journal_mode(journal_mode: str) -> None:
    drawing = plans(Configuration(journal_mode), ("vfs", "statement"))
    seen: list[tuple[str, str]] = []
    fixed = settings(max_examples=400, database=None, derandomize=True, phases=[Phase.generate])
    fixed(given(drawing)(lambda one: seen.append(one)))()  # noqa: PLW0108 - given() needs a Python function

    def drawn(condition: Callable[[tuple[str, str]], bool]) -> bool:
        return any(condition(one) for one in seen)

    def is_possible(one: tuple[str, str]) -> bool:
        try:
            faults.require_possible(faults.FaultPlan.parse(one[1]))
        except faults.ImpossibleFaultError:
            return False
        return True

    assert not drawn(lambda one: not is_possible(one))
    assert not drawn(lambda one: "KILL" in one[1])
    assert drawn(lambda one: one[1].startswith("shmlock")) is (journal_mode == "wal")
    assert drawn(lambda one: ":journal" in one[1]) is (journal_mode == "delete")
    assert drawn(lambda one: one[0] == "statement")
    assert drawn(lambda one: ".." in one[1])
