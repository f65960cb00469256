"""A call that only reads returns what is there: a cache that no call clears is found without any fault."""

from collections.abc import Callable
from pathlib import Path

import pytest
from reading_stores import Settings, SettingsTarget

from tornpage import Action
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.search.recorder import Recorder

Search = Callable[..., Recorder]


class KeepsWhatIsGone(Settings):
    def remove(self, name: str) -> None:
        self.db.execute("DELETE FROM setting WHERE name = ?", (name,))


class KeepsWhatIsGoneTarget(SettingsTarget):
    kind = KeepsWhatIsGone


class ClaimsTarget(SettingsTarget):
    """A call answers from memory what a new session answers only later."""

    calls = (
        Action("put", {"name": "a", "value": "1"}), Action("put", {"name": "b", "value": "1"}), Action("claim"),
        Action("peek"), Action("remove", {"name": "a"}), Action("peek"),
    )  # fmt: skip


def test_a_cache_that_no_call_clears_is_found_by_its_scenario(search: Search, tmp_path: Path) -> None:
    (found,) = search(KeepsWhatIsGoneTarget(), "sweep", points=1).findings
    assert found.finding.code == "memory-equals-disk"
    assert found.finding.message == (
        "get(name='a') returns '1', as in an earlier state; a new session on the same files returns nothing"
    )
    steps = [str(step) for step in found.finding.scenario.steps]
    assert steps == ["put(name='a', value='1')", "get(name='a')", "remove(name='a')", "get(name='a')"]
    assert play(found.finding.scenario, SettingsTarget(), tmp_path)[0] is None


class CountsTarget(SettingsTarget):
    """What is new is as many as there were before, and fewer the next time."""

    calls = (
        Action("put", {"name": "a", "value": "1"}), Action("fresh"), Action("put", {"name": "b", "value": "1"}),
        Action("fresh"),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["sweep", "fuzz"])
@pytest.mark.parametrize(
    "target", [SettingsTarget(), ClaimsTarget(), CountsTarget()], ids=lambda one: type(one).__name__
)
def test_what_is_new_what_is_in_another_order_and_what_is_claimed_is_not_outdated(
    search: Search, target: SettingsTarget, name: str
) -> None:
    recorder = search(target, name, points=1, scenarios=10, steps=12)
    assert [one.finding.message for one in recorder.findings] == []
