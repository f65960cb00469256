"""Other people's libraries under test: what their targets show without a fault, and what a quick search of each finds.

What was found is told in docs/field-report.md. A test that finds nothing says so; one that finds something says exactly
what, so that a new version of a library is noticed.
"""

import importlib.util
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tornpage import faults
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.scenario import Arm, Call, Limit, Restart, Rival, Scenario, Step
from tornpage.scenarios.model.target import Action, Configuration, Environment, Refused, Target, TargetError
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.registry import SHIPPED, find

# Python 3.13 warns of a connection that is collected unclosed, as after each open that has failed half-way.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

# Each target with what it needs, and the most fault points of one call that a quick sweep of it tries.
LIBRARIES = {
    "apscheduler": ("apscheduler", "sqlalchemy"),
    "dbm-sqlite3": ("dbm.sqlite3",),
    "huey": ("huey",),
    "langgraph": ("langgraph.checkpoint.sqlite",),
    "litequeue": ("litequeue",),
    "peewee": ("peewee",),
    "sqlalchemy": ("sqlalchemy",),
    "sqlitedict": ("sqlitedict",),
    "sqlitedict-autocommit": ("sqlitedict",),
}
WAITS_FOR_EVER = "a call waits forever: the thread that executes its statements has ended"


def library(name: str) -> Target:
    for module in LIBRARIES[name]:
        if importlib.util.find_spec(module.partition(".")[0]) is None or importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not there: the extra is not installed, or this Python has none")
    return find(name)


def scenario_of(target: Target, *steps: Step, configuration: Configuration | None = None) -> Scenario:
    return Scenario(target.name, configuration or target.configurations[0], steps)


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
        assert all(before != after for before, after in pairwise(seen)), "a call changes nothing"


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
        with pytest.raises(TargetError, match="unknown action '__init__'"):
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
    find_spec = importlib.util.find_spec
    without = lambda name, *more: None if name.startswith("dbm") else find_spec(name, *more)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", without)
    ran = command("sweep", "--target", "dbm-sqlite3")
    assert ran.code == 2
    assert "from Python 3.13 on" in " ".join(ran.err.split())


# -- sweeps ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["apscheduler", "dbm-sqlite3", "huey", "sqlalchemy", "sqlitedict-autocommit"])
def test_a_quick_sweep_finds_nothing(name: str, search: Callable[..., Recorder]) -> None:
    recorder = search(library(name), points=4, seed=1, configurations=1)
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.vacuous == []
    assert recorder.count("fired") > 20


@pytest.mark.slow
@pytest.mark.parametrize("name", ["apscheduler", "dbm-sqlite3", "huey", "sqlitedict-autocommit"])
def test_a_wider_sweep_finds_nothing(name: str, search: Callable[..., Recorder]) -> None:
    recorder = search(library(name), points=60, seed=2)
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.vacuous == []
    assert recorder.count("tried") == recorder.count("fired") > 500


# -- known findings ----------------------------------------------------------------------------------------


@pytest.mark.quality
@pytest.mark.parametrize(
    ("mode", "plan"), [("delete", "write:db@1..=FULL"), ("delete", "lock:db@3..=BUSY"), ("wal", "write:wal@1..=FULL")]
)
def test_sqlitedict_waits_for_ever_after_a_commit_that_failed(
    mode: str, plan: str, shim: faults.Shim, home: Path
) -> None:
    target = library("sqlitedict")
    scenario = scenario_of(target, put(target, 0), Arm(plan), put(target, 2), configuration=Configuration(mode, "OFF"))
    violation, _ = play(scenario, target, home)
    assert violation is not None
    assert violation.code == "still-usable-after-the-fault"
    assert violation.message.startswith(WAITS_FOR_EVER)


@pytest.mark.parametrize(
    ("mode", "plan"), [("delete", "write:db@1..=FULL"), ("delete", "lock:db@3..=BUSY"), ("wal", "write:wal@1..=FULL")]
)
def test_with_autocommit_the_same_fault_is_told_to_the_caller(
    mode: str, plan: str, shim: faults.Shim, home: Path
) -> None:
    target = library("sqlitedict-autocommit")
    scenario = scenario_of(target, put(target, 0), Arm(plan), put(target, 2), configuration=Configuration(mode, "OFF"))
    violation, counts = play(scenario, target, home)
    assert violation is None
    assert counts["raised"] == counts["surfaced"] == 1


@pytest.mark.quality
def test_sqlitedict_keeps_what_a_failed_clear_has_begun(shim: faults.Shim, home: Path) -> None:
    target = library("sqlitedict")
    before = (put(target, 1), put(target, 3), Restart(crash=True))
    # What its open transaction shows depends on how far it came, and that on the version of SQLite.
    plans = (f"read:db@{n}=IOERR_CORRUPTFS" for n in range(1, 9))
    played = (play(scenario_of(target, *before, Arm(plan), put(target, 5)), target, home)[0] for plan in plans)
    found = {one.code for one in played if one is not None and not one.message.startswith(WAITS_FOR_EVER)}
    assert found == {"memory-equals-disk", "still-usable-after-the-fault"}


@pytest.mark.quality
def test_sqlitedict_leaves_the_file_locked_when_a_reader_is_there_at_its_commit(shim: faults.Shim, home: Path) -> None:
    target = library("sqlitedict")
    reader = Rival("reader", "lock", 3, "connection", None)
    violation, counts = play(scenario_of(target, put(target, 0), reader, put(target, 2)), target, home)
    assert violation is not None
    assert violation.code == "still-usable-after-the-fault"
    assert counts["calls"] > 0


@pytest.mark.quality
def test_peewee_hides_the_error_of_a_disk_behind_that_of_its_rollback(shim: faults.Shim, home: Path) -> None:
    target = library("peewee")
    steps = put(target, 1), Arm("read:journal@1=IOERR_READ"), put(target, 3)
    violation, _ = play(scenario_of(target, *steps), target, home)
    assert violation is not None
    assert violation.code == "error-is-not-hidden"
    assert "cannot rollback - no transaction is active" in violation.message


@pytest.mark.quality
def test_langgraph_commits_the_half_of_a_thread_that_it_has_deleted(shim: faults.Shim, home: Path) -> None:
    target = library("langgraph")
    steps = put(target, 0), put(target, 1), Arm("statement@2=CORRUPT", "statement"), put(target, 4)
    violation, _ = play(scenario_of(target, *steps), target, home)
    assert violation is not None
    assert violation.code == "all-or-nothing"


@pytest.mark.quality
def test_litequeue_that_could_not_be_opened_keeps_its_lock(shim: faults.Shim, home: Path) -> None:
    target = library("litequeue")
    # At which lock its first COMMIT asks for the file depends on the version.
    played = (play(scenario_of(target, Arm(f"lock:db@{n}..=BUSY"), Restart()), target, home)[0] for n in range(1, 9))
    seen = {(one.code, one.message) for one in played if one is not None}
    locked = "the fault is gone, and opening again fails: OperationalError('database is locked')"
    assert seen == {("still-usable-after-the-fault", locked)}


@pytest.mark.slow
@pytest.mark.quality
def test_litequeue_refuses_a_message_that_another_caller_has_just_pruned(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = library("litequeue")
    session: Any = target.open(home, target.configurations[0], Environment())
    try:
        session.call(Action("put", {"data": "alpha"}))
        # Between the look for its id and the call, as `interleave` has it; the adapter raised an AttributeError.
        monkeypatch.setattr(session._queue, "get", lambda _identity: None)
        with pytest.raises(Refused):
            session.call(Action("done", {"data": "alpha"}))
    finally:
        session.close()


@pytest.mark.parametrize(("name", "action", "begin"), [("huey", 0, 310), ("litequeue", 3, 1)])
def test_no_memory_for_a_commit_leaves_the_transaction_open(
    name: str, action: int, begin: int, shim: faults.Shim, home: Path
) -> None:
    target = library(name)
    first = [put(target, 0)] if action else [Restart()]
    played = (
        play(scenario_of(target, *first, Limit("allocation", n, sticky=True), put(target, action)), target, home)[0]
        # So many allocations in a row show it, whatever the version of SQLite.
        for n in range(begin, 500, 8)
    )
    found = next(one for one in played if one is not None)
    assert found.code in {"acknowledged-is-durable", "memory-equals-disk", "still-usable-after-the-fault"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["litequeue", "sqlitedict"])
def test_a_wider_sweep_finds_what_is_known_and_nothing_else(name: str, search: Callable[..., Recorder]) -> None:
    # All of litequeue: what is known of it is at a few points of its opening.
    recorder = search(library(name), points=None if name == "litequeue" else 20, seed=2)
    messages = {found.finding.message for found in recorder.findings}
    if name == "litequeue":
        assert all("opening again fails: OperationalError('database is locked')" in one for one in messages)
    else:
        rest = [found.finding for found in recorder.findings if not found.finding.message.startswith(WAITS_FOR_EVER)]
        # Where COMMIT is not what failed: a statement that was not rolled back.
        assert all("IOERR_CORRUPTFS" in str(one.scenario) for one in rest)
    assert messages
    assert recorder.vacuous == []
