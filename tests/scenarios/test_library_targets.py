"""Other people's libraries under test: what their targets show without a fault, and what a quick search of each finds.

What was found is told in docs/field-report.md. A test that finds nothing says so; one that finds something says exactly
what, so that a new version of a library is noticed.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import faults
from scenarios.naming import SHIPPED, find
from scenarios.player import play
from scenarios.recorder import Recorder
from scenarios.story import Arm, Call, Limit, Restart, Rival, Step, Story
from scenarios.target import Action, Configuration, Environment, Target
from scenarios.trial import Trial

# Python 3.13 warns of a connection that is collected unclosed, as after each open that has failed half-way.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

# Each target with what it needs, and the most fault points of one call that a quick sweep of it tries.
LIBRARIES = {
    "apscheduler": ("apscheduler", "sqlalchemy"),
    "dbm-sqlite3": ("dbm.sqlite3",),
    "huey": ("huey",),
    "litequeue": ("litequeue",),
    "sqlitedict": ("sqlitedict",),
    "sqlitedict-autocommit": ("sqlitedict",),
}
WAITS_FOR_EVER = "a call waits for ever: the thread that executes its statements has ended"


def library(name: str) -> Target:
    for module in LIBRARIES[name]:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not there: the extra is not installed, or this Python has none")
    return find(name)


def story_of(target: Target, *steps: Step, configuration: Configuration | None = None) -> Story:
    return Story(target.name, configuration or target.configurations[0], steps)


def put(target: Target, action: int) -> Call:
    return Call(target.workload()[action])


# -- without a fault ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LIBRARIES)
def test_without_a_fault_the_library_and_a_fresh_reader_agree_after_every_call(name: str, home: Path) -> None:
    target = library(name)
    for number, configuration in enumerate(target.configurations):
        directory = home / str(number)
        directory.mkdir()
        with Trial(target, configuration, directory, {}).open() as trial:
            assert trial.live_view() == trial.fresh_view() == {}
            seen = []
            for step, action in enumerate((*target.workload(), target.heartbeat()), start=1):
                trial.at_step(step)
                trial.call_session(action)
                assert trial.live_view() == trial.fresh_view(), action
                seen.append(trial.fresh_view())
        assert all(before != after for before, after in zip(seen, seen[1:], strict=False)), "a call that changes nothing"


@pytest.mark.parametrize("name", LIBRARIES)
def test_the_database_is_set_up_as_the_configuration_says(name: str, home: Path) -> None:
    target = library(name)
    for number, configuration in enumerate(target.configurations):
        directory = home / str(number)
        directory.mkdir()
        with Trial(target, configuration, directory, {}).open() as trial:
            trial.call_session(target.workload()[0])
            with faults.connect_unwatched(target.database(directory)) as connection:
                (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
            connection.close()
            # The others leave nothing in the file, and show by their journals what they are.
            assert (mode == "wal") == (configuration.journal_mode == "wal")


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_second_session_shows_what_the_first_has_left(name: str, home: Path) -> None:
    target = library(name)
    with Trial(target, target.configurations[0], home, {}).open() as trial:
        for step, action in enumerate(target.workload()[:2], start=1):
            trial.at_step(step)
            trial.call_session(action)
        left = trial.live_view()
    with Trial(target, target.configurations[0], home, left).open() as trial:
        assert len(left) == 2
        assert trial.live_view() == left


@pytest.mark.parametrize("name", LIBRARIES)
def test_an_action_of_nobodys_is_refused(name: str, home: Path) -> None:
    target = library(name)
    session = target.open(home, target.configurations[0], Environment())
    try:
        with pytest.raises(ValueError, match="unknown action '__init__'"):
            session.call(Action("__init__"))
    finally:
        session.close()


@pytest.mark.parametrize(("name", "module"), [("huey", "huey"), ("sqlitedict-autocommit", "sqlitedict")])
def test_without_its_package_a_target_says_what_to_install(
    name: str, module: str, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Any]
) -> None:
    def missing() -> Target:
        raise ImportError(f"No module named {module!r}")

    monkeypatch.setitem(SHIPPED, name, missing)
    ran = command("sweep", "--target", name)
    assert ran.code == 2
    assert f"pip install 'tornpage[{module}]'" in " ".join(ran.err.split())


def test_a_python_without_dbm_sqlite3_says_so(monkeypatch: pytest.MonkeyPatch, command: Callable[..., Any]) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    ran = command("sweep", "--target", "dbm-sqlite3")
    assert ran.code == 2
    assert "from Python 3.13 on" in " ".join(ran.err.split())


# -- sweeps ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["apscheduler", "dbm-sqlite3", "huey", "sqlitedict-autocommit"])
def test_a_quick_sweep_finds_nothing(name: str, search: Callable[..., Recorder]) -> None:
    recorder = search(library(name), points=10, seed=1)
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.vacuous == []
    assert recorder.count("fired") > 50


@pytest.mark.slow
@pytest.mark.parametrize("name", ["apscheduler", "dbm-sqlite3", "huey", "sqlitedict-autocommit"])
def test_a_sweep_of_every_point_finds_nothing(name: str, search: Callable[..., Recorder]) -> None:
    recorder = search(library(name))
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.vacuous == []
    assert recorder.count("tried") == recorder.count("fired") == recorder.count("points")
