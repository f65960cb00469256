"""The reference ledger as a target; known bugs are the same target with one part exchanged.

An action is named after the part and the method that it calls (``tasks.start``, ``outbox.ack``); a few do more.
"""

import contextlib
import logging
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from hypothesis.strategies import SearchStrategy

from ledger import IllegalTransition, Ledger, NotFound, StoreError, Task, UsageError
from ledger.indexes import Indexes
from ledger.outbox import DeliveryFailed, Envelope
from ledger.workers import Worker, Workers
from scenarios.checks import Violation, describe, differences
from scenarios.target import Action, Configuration, Environment, Refused, Session, View
from scenarios.targets.reference_calls import HEARTBEAT, WORKLOAD, draw

# The ledger warns of every fault it meets; thousands of armed ones are no news. Whoever wants them adds a handler.
logging.getLogger("ledger").addHandler(logging.NullHandler())


class _Mirror:
    """An observer that rebuilds the tasks from nothing but what it is told."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}

    def restored(self, tasks: tuple[Task, ...]) -> None:
        self.tasks = {task.task_id: task for task in tasks}

    def upserted(self, task: Task, previous: Task | None) -> None:
        if self.tasks.get(task.task_id) != previous:
            raise Violation(
                "observers-saw-exactly-the-commits",
                f"{task.task_id}: told of a change from {previous}, after {self.tasks.get(task.task_id)}",
            )
        self.tasks[task.task_id] = task

    def deleted(self, task_id: str, _previous: Task | None) -> None:
        self.tasks.pop(task_id, None)


class _Workers(Workers):
    """Workers without processes, the same in every session: they live, but for the time of a boot.

    A pass over the outbox lives as long as it lasts. Real locks of real processes are tested with the ledger.
    """

    def __init__(self) -> None:
        super().__init__(None, new_id=lambda: "unnamed")
        self.booting = False
        self._passing: set[str] = set()

    def hold(self, worker_id: str | None = None) -> Worker:
        chosen = worker_id or "unnamed"
        self._passing.add(chosen)
        return Worker(self, chosen)

    def release(self, worker_id: str) -> None:
        self._passing.discard(worker_id)

    def is_alive(self, worker_id: str) -> bool:
        return worker_id in self._passing if worker_id.startswith("pass-") else not self.booting

    def clean(self, referenced: Collection[str]) -> list[str]:  # noqa: ARG002 - there is nothing to clean
        return []


class ReferenceSession:
    """An open ledger, driven by actions."""

    def __init__(
        self, directory: Path, configuration: Configuration, environment: Environment, parts: Mapping[str, Any]
    ) -> None:
        self._next_id = "unnamed"
        self._later_ms = 0
        self._legacy = directory / "legacy"
        self._environment = environment
        self._workers = _Workers()
        self.ledger = Ledger.open(
            directory,
            journal_mode=configuration.journal_mode,
            synchronous=configuration.synchronous.lower(),
            clock=lambda: environment.clock() + self._later_ms,
            new_id=lambda: self._next_id,
            connect=environment.connect,
            workers=self._workers,
            **parts,
        )
        self._mirror = _Mirror()
        tasks = self.ledger.tasks
        tasks.observe(self._mirror)
        self._mirror.restored(tuple(tasks.view().tasks.values()))

    def call(self, action: Action) -> None:
        """Make one call; what the ledger's own rules forbid is `Refused`."""
        args = dict(action.args)
        self._later_ms = args.pop("later_ms", 0)
        try:
            self._perform(action.name, args)
        except (IllegalTransition, NotFound, UsageError) as refusal:
            raise Refused(str(refusal)) from refusal
        finally:
            self._later_ms = 0

    def _perform(self, name: str, args: dict[str, Any]) -> None:
        own = getattr(self, "_do_" + name.replace(".", "_"), None)
        if own is not None:
            own(**args)
            return
        part, _, method = name.partition(".")
        _accept(getattr(getattr(self.ledger, part), method)(**args))

    def _do_batch(self, calls: list[dict[str, Any]]) -> None:
        with self.ledger.batch():
            for each in calls:
                self._perform(each["name"], dict(each["args"]))

    def _do_tasks_create(self, id: str, **fields: Any) -> None:  # noqa: A002 - the action's word
        self._next_id = id
        self.ledger.tasks.create(**fields)

    def _do_recover(self) -> None:
        with self._booting():
            self.ledger.recover()

    def _do_maintenance(self) -> None:
        with self._booting():
            self.ledger.maintenance(apply=True)

    @contextlib.contextmanager
    def _booting(self) -> Iterator[None]:
        """All workers of runs are dead meanwhile."""
        self._workers.booting = True
        try:
            yield
        finally:
            self._workers.booting = False

    def _do_outbox_recover(self, cutoff: int | None) -> None:
        worker_id = f"pass-{self._environment.now_ms}"
        self.ledger.outbox.recover(_deliver, cutoff=cutoff, worker_id=worker_id)

    def _do_legacy_file(self, name: str, content: object) -> None:
        if Path(name).name != name:
            # An action may come from a replay file, which must not write anywhere else.
            raise ValueError(f"a legacy file's name is no path: {name!r}")
        self._legacy.mkdir(exist_ok=True)
        (self._legacy / name).write_bytes(msgspec.json.encode(content))

    def _do_outbox_import_legacy(self) -> None:
        self.ledger.outbox.import_legacy(self._legacy)

    def live_view(self) -> View:
        """Every task, delivery state, run, session and message, as the ledger answers."""
        ledger, view = self.ledger, dict[str, Any]()
        for task in ledger.tasks.list():
            view[f"task/{task.task_id}"] = msgspec.to_builtins(task)
            delivery = ledger.tasks.get_delivery(task.task_id)
            if delivery is not None:
                view[f"delivery/{task.task_id}"] = msgspec.to_builtins(delivery)
        view |= {f"run/{run.id}": msgspec.to_builtins(run) for run in ledger.history.list()}
        view |= {f"session/{one.session_id}": msgspec.to_builtins(one) for one in ledger.history.list_sessions()}
        view |= {f"message/{one.id}": msgspec.to_builtins(one) for one in ledger.outbox.list()}
        return view

    def outcome_of(self, error: Exception) -> str | None:
        """The outcome that every store error carries."""
        return error.outcome if isinstance(error, StoreError) else None

    def self_check(self) -> None:
        """Indexes are what one builds anew; the mirror of the observers is what memory has."""
        memory = self.ledger.tasks.view()
        if memory.indexes != Indexes.rebuild(memory.tasks.values()):
            raise Violation("indexes-derived", "an index differs from one built anew from the tasks")
        seen, kept = (
            {key: msgspec.to_builtins(task) for key, task in one.items()} for one in (self._mirror.tasks, memory.tasks)
        )
        if seen != kept:
            raise Violation(
                "observers-saw-exactly-the-commits",
                describe(differences(seen, kept), "what observers were told", "memory"),
                {"observers": seen, "memory": kept},
            )

    def close(self) -> None:
        """Close the ledger."""
        self.ledger.close()


class Reference:
    """Target: the reference ledger, or a build of it in which a part (an argument of `Ledger.open`) has a defect."""

    name = "reference"
    title = "the reference ledger: tasks, run history and outbox on SQLite, with memory over it"
    configurations = tuple(
        Configuration(journal_mode, synchronous)
        for journal_mode, synchronous in (
            ("wal", "FULL"), ("delete", "EXTRA"), ("wal", "NORMAL"), ("truncate", "FULL"), ("persist", "FULL"),
            ("delete", "FULL"), ("wal", "EXTRA"), ("truncate", "EXTRA"), ("persist", "EXTRA"), ("delete", "NORMAL"),
            ("truncate", "NORMAL"), ("persist", "NORMAL"), ("wal", "OFF"), ("delete", "OFF"), ("truncate", "OFF"),
            ("persist", "OFF"),
        )
    )  # fmt: skip
    depths: tuple[str, ...] = ("vfs", "statement")
    unpromised: Mapping[str, str] = {}

    # Each message, and each row of the upkeep, is a transaction of its own.
    many_commits: frozenset[str] = frozenset({"recover", "outbox.recover", "outbox.import_legacy", "maintenance"})

    def __init__(self, name: str = "reference", **parts: Any) -> None:
        self.name = name
        self._parts = parts

    def workload(self) -> tuple[Action, ...]:
        """Every kind of change that tasks, runs and messages can see, each at least once."""
        return WORKLOAD

    def actions(self, view: View) -> SearchStrategy[Action]:
        """Something new, or any change to what is there."""
        return draw(view)

    def heartbeat(self) -> Action:
        """One more task."""
        return HEARTBEAT

    def database(self, directory: Path) -> Path:
        """The ledger's one file."""
        return directory / "ledger.sqlite"

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> Session:
        """Open the ledger with the directory as its state directory."""
        return ReferenceSession(directory, configuration, environment, self._parts)

    def fresh_view(self, connection: sqlite3.Connection) -> View:
        """The rows of all tables by plain SQL, nothing of the ledger's code in between."""
        view: dict[str, Any] = {}
        there = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table, prefix, key in _TABLES:
            if table not in there:
                continue
            cursor = connection.execute(f"SELECT * FROM {table}")  # noqa: S608 - a literal above
            names = [column[0] for column in cursor.description]
            for values in cursor:
                row = dict(zip(names, values, strict=True))
                del row["insertion"]
                view[f"{prefix}/{row[key]}"] = row
                for name in _JSON_COLUMNS & row.keys():
                    row[name] = None if row[name] is None else msgspec.json.decode(row[name])
                if "valid" in row:
                    row["valid"] = bool(row["valid"])
        return view


_TABLES: Final = (
    ("tasks", "task", "task_id"),
    ("task_delivery_state", "delivery", "task_id"),
    ("task_history", "run", "id"),
    ("agent_sessions", "session", "session_id"),
    ("message_outbox", "message", "id"),
)
_JSON_COLUMNS: Final = frozenset({"requester_origin", "artifacts"})


def _accept(result: object) -> None:
    """A result that says in itself that nothing was done is a refusal."""
    if not (getattr(result, "cancelled", True) and getattr(result, "changed", True)):
        raise Refused(getattr(result, "reason", None))


def _deliver(envelope: Envelope) -> None:
    """A receiver that does what the message says."""
    payload = envelope.payload
    if isinstance(payload, dict) and "error" in payload:
        raise DeliveryFailed(str(payload["error"]))
