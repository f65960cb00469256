"""A store with a limit may refuse the heartbeat when it is full; a store that a fault has stuck may not."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Arm, Call, Clear, Restart, Scenario
from tornpage.scenarios.model.simple_target import SimpleTarget
from tornpage.scenarios.model.target import Action, Configuration
from tornpage.scenarios.run.campaign import run
from tornpage.scenarios.search.fuzz.full import is_full_anyway
from tornpage.scenarios.search.fuzz.search import Fuzz
from tornpage.scenarios.search.recorder import Recorder


class QueueFullError(Exception):
    """There is no room."""


class Log:
    """At most four lines; for one more the call returns False, and nothing changes."""

    most = 4

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS line(id INTEGER PRIMARY KEY, text)")
        self.db.execute("CREATE TABLE IF NOT EXISTS busy(since)")

    def add(self, text: str) -> bool:
        insert = "INSERT INTO line(text) SELECT ? WHERE (SELECT count(*) FROM line) < ?"
        return self.db.execute(insert, (text, self.most)).rowcount == 1

    def close(self) -> None:
        self.db.close()


class Raises(Log):
    def add(self, text: str) -> bool:
        if not super().add(text):
            raise QueueFullError("four lines are there")
        return True


class Taken(Raises):
    """Lines can be taken away; where that fails there is no room, as there is without the fault."""

    def take(self) -> None:
        self.db.execute("DELETE FROM line WHERE id = (SELECT min(id) FROM line)")


class Stuck(Log):
    """Marks itself busy in the file, and stays so after an error in between; only the heartbeat looks."""

    most = 1_000

    def add(self, text: str) -> bool:
        if text == "beat" and self.db.execute("SELECT 1 FROM busy").fetchone():
            return False
        self.db.execute("INSERT INTO busy VALUES (1)")
        added = super().add(text)
        self.db.execute("DELETE FROM busy")
        return added


class Marked(Raises):
    """Marks the file until it is closed, and refuses for ever if it finds the mark of a process that has died."""

    most = 1_000

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.is_marked = self.db.execute("SELECT 1 FROM busy").fetchone() is not None

    def add(self, text: str) -> bool:
        if self.is_marked:
            raise QueueFullError("another process is busy")
        self.db.execute("INSERT INTO busy VALUES (1)")
        return super().add(text)

    def close(self) -> None:
        self.db.execute("DELETE FROM busy")
        super().close()


class LogTarget(SimpleTarget):
    """Its calls may be made more often than there is room."""

    kind: type[Log] = Log
    configurations = (Configuration("delete", "FULL"),)
    calls = (Action("add", {"text": "one"}), Action("add", {"text": "two"}))
    beat = Action("add", {"text": "beat"})

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Log:
        return self.kind(path)

    def view(self, store: Log) -> Any:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> Any:
        return {str(number): text for number, text in connection.execute("SELECT id, text FROM line")}


def fuzzed(kind: type[Log], scenarios: int = 10) -> Recorder:
    target, profile = LogTarget(), Profile("test", None, None, scenarios, 12, 0, 0, shrinks=False)
    target.kind = kind
    return run(target, Plan(("fuzz",), profile, report=None))


@pytest.mark.parametrize("kind", [Log, Raises])
def test_a_store_that_is_full_is_not_accused(kind: type[Log]) -> None:
    recorder = fuzzed(kind)
    assert [found.finding.message for found in recorder.findings] == []
    assert any("refuses the heartbeat without any fault" in note for note in recorder.ended[0].notes)


def test_a_store_that_a_fault_has_stuck_is_found() -> None:
    messages = [found.finding.message for found in fuzzed(Stuck, 40).findings]
    assert any("acknowledged, but did nothing" in one for one in messages)


@pytest.mark.usefixtures("shim")
def test_what_a_crash_has_left_makes_no_store_full(home: Path) -> None:
    target, add = LogTarget(), Call(LogTarget.calls[0])
    filled = Scenario(
        target.name, target.configurations[0], (add, Arm("write@1=FULL"), add, Restart(crash=True), add, add)
    )
    target.kind = Raises
    assert is_full_anyway(filled, target, home)
    target.kind = Marked
    assert not is_full_anyway(filled, target, home)


class Named(Log):
    """One line of each text, at most four; a text that is there already is refused."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.db.execute("CREATE UNIQUE INDEX IF NOT EXISTS line_text ON line(text)")

    def add(self, text: str) -> bool:
        if self.db.execute("SELECT count(*) FROM line").fetchone()[0] >= self.most:
            raise QueueFullError("four lines are there")
        self.db.execute("INSERT INTO line(text) VALUES (?)", (text,))
        return True


class Dead(Named):
    """Works no longer once it has refused a text: its session was not rolled back."""

    most = 1_000
    is_dead = False

    def add(self, text: str) -> bool:
        if self.is_dead:
            raise QueueFullError("roll back first")
        self.is_dead = True
        added = super().add(text)
        self.is_dead = False
        return added


@pytest.mark.usefixtures("shim")
def test_a_call_that_is_refused_fills_no_store(home: Path) -> None:
    target, (one, two) = LogTarget(), map(Call, LogTarget.calls)
    three, four = (Call(Action("add", {"text": text})) for text in ("three", "four"))
    filled = Scenario(target.name, target.configurations[0], (one, one, two, three, four))
    target.kind = Named
    assert is_full_anyway(filled, target, home)
    target.kind = Dead
    assert not is_full_anyway(filled, target, home)


def test_a_store_that_a_refused_call_has_stuck_is_found() -> None:
    messages = [found.finding.message for found in fuzzed(Dead).findings]
    assert any("the next call fails: QueueFullError('roll back first')" in one for one in messages), messages


class DeadOnceRefused(Named):
    """Works no longer once it has refused a text, and goes on after an error."""

    is_dead = False

    def add(self, text: str) -> bool:
        if self.is_dead:
            raise QueueFullError("roll back first")
        try:
            return super().add(text)
        except sqlite3.IntegrityError:
            self.is_dead = True
            raise


@pytest.mark.usefixtures("shim")
def test_a_refusal_that_is_another_one_without_the_fault_is_named_with_it(home: Path) -> None:
    target, add = LogTarget(), Call(LogTarget.calls[0])
    target.kind = DeadOnceRefused
    steps = (Restart(), add, Arm("lock:db@1..=BUSY"), add, Clear(), add)
    violation, _ = play(Scenario(target.name, target.configurations[0], steps), target, home)
    assert "UNIQUE constraint" in str(violation)
    assert "without any fault before it would be refused (roll back first)" in str(violation)


class TakenTarget(LogTarget):
    """Lines are added and taken away."""

    kind = Taken
    calls = (*LogTarget.calls, Action("take", {}))


@pytest.mark.usefixtures("shim")
def test_a_store_that_is_full_since_a_fault_has_kept_a_line_is_not_accused(home: Path) -> None:
    target, recorder = TakenTarget(), Recorder()
    add, take = Call(target.calls[0]), Call(target.calls[-1])
    steps = (Restart(), add, add, add, add, Arm("write@1=FULL"), take, Clear())
    scenario = Scenario(target.name, target.configurations[0], steps)
    violation, _ = play(scenario, target, home / "played")
    assert violation is not None
    assert not is_full_anyway(scenario, target, home / "full")
    assert Fuzz(target, recorder, home)._found(scenario, violation) is None
    assert recorder.findings == []


@pytest.mark.usefixtures("shim")
def test_a_full_store_does_not_take_the_place_of_another_finding(home: Path) -> None:
    target, recorder, add = LogTarget(), Recorder(), Call(LogTarget.calls[0])
    target.kind = Raises
    scenario = Scenario(target.name, target.configurations[0], (add, add, add, add, Arm("write@1=FULL"), add, Clear()))
    other = Violation("still-usable-after-the-fault", "a fresh reader fails: 'database is locked'")
    found = Fuzz(target, recorder, home)._found(scenario, other)
    assert found is not None
    assert found.message.startswith("a fresh reader fails")
    assert [one.finding for one in recorder.findings] == [found]
