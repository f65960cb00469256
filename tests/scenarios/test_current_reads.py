"""A call that only reads returns what is there: a cache that no call clears is found without any fault."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from reading_stores import Settings, SettingsTarget

from tornpage import Action, Configuration, Environment
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.scenario import Arm, Call, Clear, Scenario
from tornpage.scenarios.search.recorder import Recorder

Search = Callable[..., Recorder]


class KeepsWhatIsGone(Settings):
    def remove(self, name: str) -> None:
        self.db.execute("DELETE FROM setting WHERE name = ?", (name,))


class KeepsWhatIsGoneTarget(SettingsTarget):
    kind = KeepsWhatIsGone


class KeepsThatThereIsNone(Settings):
    def put(self, name: str, value: str) -> None:
        self.db.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (name, value))


class KeepsThatThereIsNoneTarget(SettingsTarget):
    kind = KeepsThatThereIsNone
    calls = (Action("get", {"name": "a"}), Action("put", {"name": "a", "value": "1"}), Action("get", {"name": "a"}))


class PollsTarget(SettingsTarget):
    """There is nothing new where all was returned before."""

    calls = Action("poll"), Action("put", {"name": "a", "value": "1"}), Action("poll"), Action("poll")


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


def test_a_cache_of_what_is_not_there_is_found_as_well(search: Search, tmp_path: Path) -> None:
    (found,) = search(KeepsThatThereIsNoneTarget(), "sweep", points=1).findings
    assert found.finding.message == (
        "get(name='a') returns nothing, as in an earlier state; a new session on the same files returns '1'"
    )
    assert play(found.finding.scenario, SettingsTarget(), tmp_path)[0] is None


class CountsTarget(SettingsTarget):
    """What is new is as many as there were before, and fewer the next time."""

    calls = (
        Action("put", {"name": "a", "value": "1"}), Action("fresh"), Action("put", {"name": "b", "value": "1"}),
        Action("fresh"),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["sweep", "fuzz"])
@pytest.mark.parametrize(
    "target", [SettingsTarget(), ClaimsTarget(), CountsTarget(), PollsTarget()], ids=lambda one: type(one).__name__
)
def test_what_is_new_what_is_in_another_order_and_what_is_claimed_is_not_outdated(
    search: Search, target: SettingsTarget, name: str
) -> None:
    recorder = search(target, name, points=1, scenarios=10, steps=12)
    assert [one.finding.message for one in recorder.findings] == []


class LoggedTarget(SettingsTarget):
    """The same with a write-ahead log: a change whose sync fails is there after a crash, and not before it."""

    configurations = (Configuration("wal", "FULL"),)
    calls = (
        Action("put", {"name": "a", "value": "1"}), Action("put", {"name": "a", "value": "2"}),
        Action("get", {"name": "a"}),
    )  # fmt: skip

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Settings:
        store = super().make(path, configuration, environment)
        store.db.execute("PRAGMA journal_mode = WAL").fetchall()
        store.db.execute("PRAGMA synchronous = FULL")
        return store


class KeepsWhatIsReplacedTarget(LoggedTarget):
    class kind(Settings):  # noqa: N801
        def write(self, statement: str, *values: str) -> None:
            self.db.execute(statement, values)


@pytest.mark.usefixtures("shim")
def test_a_read_does_not_return_what_is_there_only_after_a_crash(tmp_path: Path) -> None:
    first, second, read = map(Call, LoggedTarget.calls)
    steps = (first, Arm("sync@1=IOERR_FSYNC"), second, read)
    scenario = Scenario("logged", LoggedTarget.configurations[0], steps)
    assert play(scenario, LoggedTarget(), tmp_path / "sound")[0] is None
    steps = (first, read, Arm("sync@1=IOERR_FSYNC"), first, Clear(), second, read)
    violation, _ = play(msgspec.structs.replace(scenario, steps=steps), KeepsWhatIsReplacedTarget(), tmp_path / "stale")
    assert violation is not None
    assert "as in an earlier state" in violation.message
