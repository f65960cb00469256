"""The reference ledger as a target; known bugs are the same target with one part exchanged."""

import logging
import sqlite3
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies
from hypothesis.strategies import SearchStrategy

from ledger import IllegalTransition, Ledger, NotFound, StoreError, Task, TaskRegistry, UsageError
from ledger.indexes import Indexes
from scenarios.checks import Violation, describe, differences
from scenarios.target import Action, Configuration, Environment, Refused, Session, View

# The ledger warns of every fault it meets; thousands of armed ones are no news. Whoever wants them adds a handler.
logging.getLogger("ledger").addHandler(logging.NullHandler())

_CHANGES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("delete", {}),
    ("start", {}),
    ("progress", {"text": "half way"}),
    ("finish", {"status": "succeeded"}),
    ("finish", {"status": "failed", "error": "it broke"}),
    ("cancel", {}),
    ("set_notify_policy", {"policy": "silent"}),
    ("set_delivery_status", {"status": "delivered"}),
    ("set_delivery_state", {"last_notified_event_at": 7}),
)


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


class ReferenceSession:
    """An open ledger, driven by actions named after the methods of its task registry."""

    def __init__(
        self, directory: Path, configuration: Configuration, environment: Environment, registry: type[TaskRegistry]
    ) -> None:
        self._next_id = "unnamed"
        self.ledger = Ledger.open(
            directory,
            journal_mode=configuration.journal_mode,
            synchronous=configuration.synchronous.lower(),
            clock=environment.clock,
            new_id=lambda: self._next_id,
            connect=environment.connect,
            registry=registry,
        )
        self._mirror = _Mirror()
        tasks = self.ledger.tasks
        tasks.observe(self._mirror)
        self._mirror.restored(tuple(tasks.view().tasks.values()))

    def call(self, action: Action) -> None:
        """Make one call; what the ledger's own rules forbid is `Refused`."""
        try:
            self._perform(action.name, dict(action.args))
        except (IllegalTransition, NotFound, UsageError) as refusal:
            raise Refused(str(refusal)) from refusal

    def _perform(self, name: str, args: dict[str, Any]) -> None:
        if name == "batch":
            with self.ledger.batch():
                for each in args["calls"]:
                    self._perform(each["name"], dict(each["args"]))
        elif name == "create":
            self._next_id = args.pop("id")
            self.ledger.tasks.create(**args)
        elif name == "cancel":
            result = self.ledger.tasks.cancel(**args)
            if not result.cancelled:
                raise Refused(result.reason)
        else:
            getattr(self.ledger.tasks, name)(**args)

    def live_view(self) -> View:
        """Every task and delivery state, as the ledger answers."""
        view: dict[str, Any] = {}
        for task in self.ledger.tasks.list():
            view[f"task/{task.task_id}"] = msgspec.to_builtins(task)
            delivery = self.ledger.tasks.get_delivery(task.task_id)
            if delivery is not None:
                view[f"delivery/{task.task_id}"] = msgspec.to_builtins(delivery)
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
    """Target: the reference ledger, or a build of it in which `registry` has a defect put back."""

    name = "reference"
    title = "the reference ledger: tasks on SQLite with memory over it"
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

    def __init__(
        self, name: str = "reference", registry: Callable[[], type[TaskRegistry]] = lambda: TaskRegistry
    ) -> None:
        self.name = name
        self._registry = registry()

    def workload(self) -> tuple[Action, ...]:
        """Every kind of change a task can see, each once."""
        return (
            Action("create", {"id": "a", "runtime": "cli", "requester_session_key": "main", "task": "first"}),
            Action("create", {
                "id": "b", "runtime": "acp", "requester_session_key": "main", "task": "second", "run_id": "run-1",
                "child_session_key": "child", "requester_origin": {"channel": "mail"},
            }),
            Action("create", {
                "id": "b2", "runtime": "acp", "requester_session_key": "main", "task": "second", "run_id": "run-1",
                "child_session_key": "child", "label": "found again",
            }),
            Action("start", {"task_id": "a"}),
            Action("mark_running_by_run", {"run_id": "run-1"}),
            Action("progress", {"task_id": "a", "text": "half way"}),
            Action("set_notify_policy", {"task_id": "a", "policy": "state_changes"}),
            Action("set_delivery_state", {"task_id": "a", "last_notified_event_at": 5}),
            Action("finish", {"task_id": "a", "status": "succeeded", "terminal_summary": "done"}),
            Action("finalize_by_run", {"run_id": "run-1", "status": "failed", "error": "it broke"}),
            Action("set_delivery_status", {"task_id": "b", "status": "delivered"}),
            Action("batch", {"calls": [
                {"name": "create", "args": {"id": "c", "runtime": "cron", "scope_kind": "system", "task": "third"}},
                {"name": "start", "args": {"task_id": "c"}},
                {"name": "delete", "args": {"task_id": "a"}},
            ]}),
            Action("cancel", {"task_id": "c"}),
            Action("delete", {"task_id": "b"}),
        )  # fmt: skip

    def actions(self, view: View) -> SearchStrategy[Action]:
        """A new task, or any change to one that is there; some of them are refused."""
        ids = sorted(key.removeprefix("task/") for key in view if key.startswith("task/"))
        unused = next(name for number in count() if (name := f"t{number}") not in ids)
        create = strategies.builds(
            lambda runtime, run: Action("create", {
                "id": unused, "runtime": runtime, "requester_session_key": "main", "task": "work", **run,
            }),
            strategies.sampled_from(["cli", "acp", "subagent"]),
            strategies.sampled_from([{}, {"run_id": "run-1"}, {"run_id": "run-2"}]),
        )  # fmt: skip
        if not ids:
            return create
        return create | strategies.builds(
            lambda change, task_id: Action(change[0], {"task_id": task_id, **change[1]}),
            strategies.sampled_from(_CHANGES),
            strategies.sampled_from(ids),
        )

    def heartbeat(self) -> Action:
        """One more task."""
        return Action("create", {"id": "heartbeat", "runtime": "cli", "requester_session_key": "main", "task": "alive"})

    def database(self, directory: Path) -> Path:
        """The ledger's one file."""
        return directory / "ledger.sqlite"

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> Session:
        """Open the ledger with the directory as its state directory."""
        return ReferenceSession(directory, configuration, environment, self._registry)

    def fresh_view(self, connection: sqlite3.Connection) -> View:
        """The rows of both tables by plain SQL, nothing of the ledger's code in between."""
        view: dict[str, Any] = {}
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for prefix, table in (("task", "tasks"), ("delivery", "task_delivery_state")):
            if table not in tables:
                continue
            cursor = connection.execute(f"SELECT * FROM {table}")  # noqa: S608 - a literal above
            names = [column[0] for column in cursor.description]
            for values in cursor:
                row = dict(zip(names, values, strict=True))
                del row["insertion"]
                view[f"{prefix}/{row['task_id']}"] = row
                if row.get("requester_origin") is not None:
                    row["requester_origin"] = msgspec.json.decode(row["requester_origin"])
        return view
