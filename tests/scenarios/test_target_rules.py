"""A target's own rules: any target may have them, and sweep, machine and crash search all hold it to them."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import tiny_stores

from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.clock import EPOCH_MS, STEP_MS
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import Scenario
from tornpage.scenarios.model.target import Action, View
from tornpage.scenarios.search.recorder import Recorder


class NoNegatives(tiny_stores.Tiny):
    """Says that no value may be below zero."""

    def check_view(self, view: View) -> None:
        for key, value in view.items():
            if value < 0:
                raise Violation("state-makes-sense", f"{key} is {value}")


class OnlyUp(tiny_stores.Tiny):
    """Says that no value may go down, and writes down what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool, int]] = []

    def check_change(self, before: View, action: Action, after: View, *, is_done: bool, now_ms: int) -> None:
        self.asked.append((action.name, is_done, now_ms))
        for key in before.keys() & after.keys():
            if after[key] < before[key]:
                raise Violation("terminal-is-final", f"{key} was {before[key]} and is {after[key]}")


def calls(*puts: tuple[str, int]) -> tuple[Action, ...]:
    return tuple(Action("put", {"key": key, "value": value}) for key, value in puts)


BROKEN: Mapping[type, tuple[str, tuple[Action, ...]]] = {
    NoNegatives: ("state-makes-sense", calls(("a", 1), ("b", -1))),
    OnlyUp: ("terminal-is-final", calls(("a", 2), ("b", 1), ("a", 1))),
}


@pytest.fixture(params=BROKEN, ids=lambda kind: kind.__name__)
def broken(request: pytest.FixtureRequest) -> tuple[Any, str]:
    """A target whose calls break its own rule, without any fault, and the code of that."""
    code, workload = BROKEN[request.param]
    target = request.param()
    target.workload = lambda: workload
    return target, code


def test_a_sweep_finds_what_is_wrong_without_a_fault_and_tells_it_once(
    broken: tuple[Any, str], search: Callable[..., Recorder]
) -> None:
    target, code = broken
    recorder = search(target, "sweep", points=3)
    plain = [found for found in recorder.findings if not found.finding.scenario.faults]
    assert [found.finding.code for found in plain] == [code]
    assert recorder.count("faultless") == len(target.workload()) * len(target.configurations)


def test_the_scenario_of_such_a_finding_has_no_fault_no_needless_call_and_shows_it_again(
    broken: tuple[Any, str], search: Callable[..., Recorder], home: Any, shim: object
) -> None:
    target, code = broken
    (found,) = (one for one in search(target, "sweep", points=1).findings if not one.finding.scenario.faults)
    scenario = found.finding.scenario
    assert len(scenario.steps) == {"state-makes-sense": 1, "terminal-is-final": 2}[code]
    violation, _ = play(scenario, target, home / "again")
    assert violation is not None
    assert violation.code == code
    assert (
        play(Scenario(scenario.target, scenario.configuration, scenario.steps[:-1]), target, home / "shorter")[0]
        is None
    )


def test_a_rule_about_changes_is_asked_at_the_time_of_the_call_and_told_whether_it_was_acknowledged(
    search: Callable[..., Recorder],
) -> None:
    target = OnlyUp()
    target.workload = lambda: calls(("a", 1), ("a", 2))  # type: ignore[method-assign]
    recorder = search(target, "sweep", points=20)
    assert recorder.findings == []
    asked = set(target.asked)
    times = {now_ms for name, _, now_ms in asked if name == "put"}
    # Those of the two calls; of the beat, which puts as well, made twice after them; and of the first call once more.
    assert sorted(times) == [EPOCH_MS + step * STEP_MS for step in (1, 2, 3, 4, 5)]
    # Every call once without a fault, and under faults that it survives, and under others that it doesn't.
    assert {(name, is_done) for name, is_done, _ in asked} >= {("put", True), ("put", False), ("open", False)}
