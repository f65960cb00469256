"""What the ledger's tests share: a clock that ticks, ids that count, and connections that fail on command.

The failing connection is small on purpose: it fails a statement before or after the real thing. The faults that reach
beneath SQLite are the business of the package `faults`.
"""

import itertools
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tornpage import ledger
from tornpage.ledger.outbox import Outbox

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from ledger_samples import T0  # noqa: E402 - found only now

ROOT = Path(ledger.__file__).parents[2]


def sqlite_error(name: str) -> sqlite3.OperationalError:
    """A driver's exception with a real code, such as IOERR_FSYNC."""
    error = sqlite3.OperationalError(f"injected {name}")
    error.sqlite_errorcode = getattr(sqlite3, f"SQLITE_{name}")
    error.sqlite_errorname = f"SQLITE_{name}"
    return error


class StatementFaults:
    """Hands out connections whose statements fail as told; `fired` counts."""

    def __init__(self) -> None:
        self.rules: list[dict[str, Any]] = []
        self.fired = 0
        self.opened: list[sqlite3.Connection] = []

    def fail(
        self,
        start: str,
        error: Callable[[], BaseException] = lambda: sqlite_error("IOERR_WRITE"),
        *,
        when: str = "before",
        times: int = 1,
        skip: int = 0,
        instead: str | None = None,
    ) -> None:
        """Make statements that begin with `start` (or the opening, for CONNECT) raise.

        `when`: before the real statement, after it, or after another one in its place (`instead`).
        """
        self.rules.append(
            {"start": start, "error": error, "when": when, "times": times, "skip": skip, "instead": instead}
        )

    def heal(self) -> None:
        self.rules.clear()

    def rule_for(self, text: str) -> dict[str, Any] | None:
        for rule in self.rules:
            if rule["times"] > 0 and text.lstrip().startswith(rule["start"]):
                if rule["skip"] > 0:
                    rule["skip"] -= 1
                    continue
                rule["times"] -= 1
                self.fired += 1
                return rule
        return None

    def connect(self, path: str, **options: Any) -> sqlite3.Connection:
        rule = self.rule_for("CONNECT")
        if rule is not None:
            raise rule["error"]()
        faults = self

        class FailingConnection(sqlite3.Connection):
            def execute(self, text: str, *parameters: Any) -> sqlite3.Cursor:
                found = faults.rule_for(text)
                if found is None:
                    return super().execute(text, *parameters)
                if found["instead"] is not None:
                    super().execute(found["instead"])
                elif found["when"] == "after":
                    super().execute(text, *parameters).fetchall()
                raise found["error"]()

        connection = sqlite3.connect(path, factory=FailingConnection, **options)
        self.opened.append(connection)
        return connection


class Recorder:
    """An observer that keeps what it was told."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def restored(self, tasks: Any) -> None:
        self.events.append(("restored", tuple(task.task_id for task in tasks)))

    def upserted(self, task: ledger.Task, previous: ledger.Task | None) -> None:
        self.events.append(("upserted", task, previous))

    def deleted(self, task_id: str, previous: ledger.Task | None) -> None:
        self.events.append(("deleted", task_id, previous))


class Bench:
    """Opens ledgers on one directory with the same counting ids and clock."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.faults = StatementFaults()
        self.now = itertools.count(1_700_000_000_000)
        self.ids = (f"task-{number:04d}" for number in itertools.count(1))
        self.ledgers: list[ledger.Ledger] = []

    def open(self, **options: Any) -> ledger.Ledger:
        given = {
            "connect": self.faults.connect,
            "clock": lambda: next(self.now),
            "new_id": lambda: next(self.ids),
            **options,
        }
        opened = ledger.Ledger.open(self.state_dir, **given)
        self.ledgers.append(opened)
        return opened

    def raw(self) -> sqlite3.Connection:
        """A connection of the test's own; close it."""
        return sqlite3.connect(self.state_dir / "ledger.sqlite", isolation_level=None, timeout=0.05)

    def rows(self, query: str = "SELECT task_id, status FROM tasks ORDER BY insertion") -> list[Any]:
        connection = self.raw()
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    @staticmethod
    def recorder() -> Recorder:
        return Recorder()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "state")
    yield made
    made.faults.heal()
    for one in made.ledgers:
        one.close()
    for connection in made.faults.opened:
        # A connection that the ledger has given up must be closed by it: using it must raise.
        with pytest.raises(sqlite3.ProgrammingError):
            connection.total_changes  # noqa: B018 - asking is the check.


@pytest.fixture(params=["wal", "delete", "truncate", "persist"])
def journal_mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def error_of() -> Callable[[str], sqlite3.OperationalError]:
    return sqlite_error


@pytest.fixture
def hold() -> Iterator[Callable[..., ledger.Worker]]:
    """Become a worker of a ledger; what is still held at the end is let go."""
    held: list[ledger.Worker] = []

    def become(opened: ledger.Ledger, worker_id: str = "w1") -> ledger.Worker:
        held.append(opened.workers.hold(worker_id))
        return held[-1]

    yield become
    for one in held:
        one.release()


class Clock:
    """A clock that is set by hand, in milliseconds."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def time() -> Clock:
    """When it is for the ledger under test."""
    return Clock()


@pytest.fixture
def outbox(opened: ledger.Ledger) -> Outbox:
    """The outbox of the ledger that the test file opens."""
    return opened.outbox


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a script in a Python of its own, with pipes; it is gone when the test is over."""
    children: list[subprocess.Popen[str]] = []

    def start(script: str, *arguments: object) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate(timeout=60)
