"""A finding's place is a line of the code under test: where the error came up, or the function that was called."""

import contextlib
import inspect
import os
import sys
from pathlib import Path
from typing import Any

import meeting_stores
import pytest
import tiny_stores

from tornpage import faults
from tornpage.scenarios.execution.finding.trace import trace_of
from tornpage.scenarios.model.scenario import Arm, Call, CrashAt, Interleave, Limit, Restart, Scenario, Step
from tornpage.scenarios.model.target import Action, Configuration, Environment, Session, Target
from tornpage.scenarios.targets.known_bugs import find_bug, update_memory_first
from tornpage.scenarios.targets.known_bugs.build import MemoryFirst
from tornpage.scenarios.targets.registry import find

PUT = Call(Action("put", {"key": "a", "value": 1}))
OTHER = Call(Action("put", {"key": "a", "value": 2}))
TINY = Path(tiny_stores.__file__)


def line_in(function: Any, text: str) -> int:
    """The number of the one line of a function that has a text in it."""
    lines, first = inspect.getsourcelines(function)
    (number,) = [first + index for index, line in enumerate(lines) if text in line]
    return number


def located(scenario: Scenario, target: Target, directory: Path) -> str:
    return trace_of(scenario, target, directory).where


def place(target: Target, home: Path, *steps: Step) -> tuple[str, int]:
    file, _, line = located(Scenario(target.name, Configuration(), steps), target, home / "where").rpartition(":")
    return Path(file).name, int(line)


@pytest.mark.parametrize(
    ("condition", "line"),
    [
        (Arm("write:wal@1=FULL"), 'self.connection.execute("COMMIT")'),
        (Arm("commit@1=FULL", "statement"), 'self.connection.execute("COMMIT")'),
        (Arm("statement@1=FULL", "statement"), "self.connection.execute(*statement)"),
        (Arm("shmlock:db@1..=IOERR_SHMLOCK"), 'self.connection.execute("BEGIN IMMEDIATE")'),
        (Limit("steps", 1, sticky=True), 'self.connection.execute("BEGIN IMMEDIATE")'),
    ],
)
@pytest.mark.parametrize("target", [tiny_stores.RemembersFirst(), tiny_stores.Swallows()])
def test_it_is_the_line_at_which_the_error_came_up_swallowed_or_not(
    target: Target, condition: Step, line: str, shim: faults.Shim, home: Path
) -> None:
    found = place(target, home, PUT, Restart(crash=True), condition, OTHER)
    assert found == (TINY.name, line_in(tiny_stores.TinySession.transact, line))


class Hides(tiny_stores.Tiny):
    session = tiny_stores.RollsBackBlindlySession


@pytest.mark.parametrize("plan", ["write:wal@1=FULL", "write:wal@1=IOERR_WRITE"])
def test_of_a_hidden_error_it_is_the_line_that_hides_it(plan: str, shim: faults.Shim, home: Path) -> None:
    found = place(Hides(), home, PUT, Restart(crash=True), Arm(plan), OTHER)
    assert found == (TINY.name, line_in(tiny_stores.RollsBackBlindlySession.transact, "ROLLBACK"))


def test_a_crash_before_the_fault_does_not_move_the_place(shim: faults.Shim, home: Path) -> None:
    found = place(tiny_stores.RemembersFirst(), home, Restart(), CrashAt(3), PUT, Arm("write:wal@1=FULL"), OTHER)
    assert found == (TINY.name, line_in(tiny_stores.TinySession.transact, 'self.connection.execute("COMMIT")'))


class Prepares(tiny_stores.RemembersFirst):
    """Before each call it makes its folder, which is there, and removes a file that isn't."""

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> Session:
        session = super().open(directory, configuration, environment)
        call = session.call

        def prepared(action: Action) -> object:
            os.makedirs(directory, exist_ok=True)  # noqa: PTH103 - it catches the error itself
            with contextlib.suppress(FileNotFoundError):
                (directory / "left-over").unlink()
            return call(action)

        session.call = prepared  # type: ignore[method-assign]
        return session


def test_an_everyday_error_that_is_caught_is_not_the_place(shim: faults.Shim, home: Path) -> None:
    found = place(Prepares(), home, PUT, Arm("write:wal@1=FULL"), OTHER)
    assert found == (TINY.name, line_in(tiny_stores.TinySession.transact, 'self.connection.execute("COMMIT")'))


def test_without_an_error_it_is_the_function_that_was_called(shim: faults.Shim, home: Path) -> None:
    first = inspect.getsourcelines(tiny_stores.TinySession.tidy)[1]
    assert place(tiny_stores.Tiny(), home, PUT) == (TINY.name, first)
    assert place(tiny_stores.Tiny(), home, PUT, CrashAt(3)) == (TINY.name, first)


def test_what_would_kill_this_process_is_left_out(shim: faults.Shim, home: Path) -> None:
    found = place(tiny_stores.Tiny(), home, Arm("write@1=KILL"), PUT, Restart(crash=True))
    assert found == (TINY.name, inspect.getsourcelines(tiny_stores.TinySession.tidy)[1])


def test_of_a_known_bug_it_is_the_method_that_the_build_overrides(shim: faults.Shim, home: Path) -> None:
    bug = find_bug("update-memory-first")
    create, update = (Call(action) for action in bug.calls)
    steps = (create, Arm("commit@1=FULL", "statement"), update)
    assert place(bug.target(), home, *steps) == ("build.py", inspect.getsourcelines(MemoryFirst._persist)[1])


def test_of_a_setting_it_is_where_the_setting_is(shim: faults.Shim, home: Path) -> None:
    bug = find_bug("synchronous-off")
    file, line = place(bug.target(), home, Call(bug.target().heartbeat()))
    text = Path(inspect.getfile(bug.parts)).read_text().splitlines()[line - 1]
    assert file == "synchronous_off.py"
    assert "parts" in text or "def " in text


def test_of_the_reference_it_is_in_the_ledger_and_never_in_the_harness(shim: faults.Shim, home: Path) -> None:
    create = Call(update_memory_first.BUG.calls[0])
    found = located(
        Scenario("reference", Configuration(), (Arm("write:wal@1=FULL"), create)), find("reference"), home / "where"
    )
    assert found.startswith("ledger/")


def test_an_installed_copy_stands_for_the_file_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shim: faults.Shim, home: Path
) -> None:
    text = TINY.read_text()
    for directory in ("src/mystore", "venv/site-packages/mystore"):
        (tmp_path / directory).mkdir(parents=True)
        (tmp_path / directory / "__init__.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "venv/site-packages")
    import mystore

    found = located(Scenario("mine", Configuration(), (Arm("write:wal@1=FULL"), PUT)), mystore.Tiny(), home / "where")
    del sys.modules["mystore"]
    assert found.partition(":")[0] == "src/mystore/__init__.py"


def test_a_tracer_that_was_there_is_there_again(shim: faults.Shim, home: Path) -> None:
    def mine(*_: object) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(mine)
    try:
        place(tiny_stores.Tiny(), home, Arm("write:wal@1=FULL"), PUT)
        assert sys.gettrace() is mine
    finally:
        sys.settrace(before)


def test_a_program_of_its_own_has_no_line_and_costs_nothing(home: Path) -> None:
    class Program(tiny_stores.NeverOpens):
        depths = ("syscall",)

    assert located(Scenario("it", Configuration(), (PUT,)), Program(), home / "where") == ""


def test_a_scenario_that_can_not_be_played_again_has_no_place_and_raises_nothing(shim: faults.Shim, home: Path) -> None:
    assert located(Scenario("it", Configuration(), (PUT,)), tiny_stores.NeverOpens(), home / "where") == ""


def test_of_two_callers_it_is_the_line_at_which_the_first_one_stood(shim: faults.Shim, home: Path) -> None:
    target = meeting_stores.JobsTarget(meeting_stores.Takes, ("threads",))
    add, claim = (Call(Action("add", {"name": "a"})), Action("claim", {"worker": "one"}))
    found = place(target, home, add, Interleave(claim, claim, 2, callers="threads"))
    assert found == ("meeting_stores.py", line_in(meeting_stores.Takes.claim, "UPDATE job SET owner"))
