"""The reference ledger as a target; known bugs are the same target with one part exchanged.

An action is named after the part and the method that it calls (``tasks.start``, ``outbox.ack``); a few do more.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tornpage.faults.sqlite_library import sqlite3
from tornpage.ledger import IllegalTransition, Ledger, NotFound, Runtime, StoreError, StoreIOError, Task, UsageError
from tornpage.ledger.files import DATABASE_NAME
from tornpage.ledger.outbox.legacy import UNREADABLE
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.oracle import Answer
from tornpage.scenarios.model.scenario import Callers
from tornpage.scenarios.model.target import Action, Configuration, Environment, Machine, Refused, Session, Target, View
from tornpage.scenarios.targets.reference.environment import (
    LegacyQueue,
    Mirror,
    PretendedWorkers,
    Receiver,
    connect_as_another,
    left_by_others,
    visit,
)
from tornpage.scenarios.targets.reference.introspection import check_audit, check_files, check_memory
from tornpage.scenarios.targets.reference.invariants import check_change, check_view
from tornpage.scenarios.targets.reference.lockstep import Told, check_call, check_looks, recovery_lines
from tornpage.scenarios.targets.reference.scripts import Script, scripts
from tornpage.scenarios.targets.reference.simpler_actions import simpler_actions
from tornpage.scenarios.targets.reference.workload import HEARTBEAT, WORKLOAD

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

# The ledger warns of every fault it meets; thousands of armed ones are no news. Whoever wants them adds a handler.
logging.getLogger("ledger").addHandler(logging.NullHandler())


class ReferenceSession:
    """An open ledger, driven by actions."""

    def __init__(
        self,
        directory: Path,
        configuration: Configuration,
        environment: Environment,
        parts: Mapping[str, Any],
        *,
        elsewhere: bool = False,
    ) -> None:
        self._next_id = "unnamed"
        self._later_ms = 0
        self._place = directory, configuration
        self._database = directory / DATABASE_NAME
        self._environment = environment
        self._parts = parts
        self._is_elsewhere = elsewhere
        self._other: ReferenceSession | None = None
        self._workers = PretendedWorkers()
        self._receiver = Receiver()
        self._legacy = LegacyQueue(directory / "legacy", self._database)
        self._mirror = Mirror()
        self._wrong: Violation | None = None
        self._shown: View = {}
        self.told = Told()
        self.ledger = Ledger.open(
            directory,
            journal_mode=configuration.journal_mode,
            clock=lambda: environment.clock() + self._later_ms,
            new_id=lambda: self._next_id,
            connect=environment.connect,
            workers=self._workers,
            observers=(self._mirror,),
            control_hooks={Runtime.ACP: _agree, Runtime.SUBAGENT: _refuse},
            session_hooks={Runtime.ACP: self._is_backed, Runtime.SUBAGENT: _fail_to_say},
            **{"synchronous": configuration.synchronous.lower(), **parts},
        )

    def call(self, action: Action) -> None:
        """Make one call; what the ledger's own rules forbid is `Refused`."""
        args = dict(action.args)
        # What a call is given a name for depends on no call before it: a session that was opened since has had none.
        self._next_id = "unnamed"
        self._later_ms = args.pop("later_ms", 0)
        changes = self._mirror.changes
        self.told = told = Told(circumstances={"controls": _CONTROLS, "backs": _BACKS})
        self._mirror.heard.clear()
        self._receiver.got.clear()
        try:
            told.answer = self._perform(action.name, args)
            _accept(told.answer)
        except (IllegalTransition, NotFound, UsageError) as refusal:
            told.error = type(refusal).__name__
            raise Refused(str(refusal)) from refusal
        except Refused:
            raise
        except StoreError as error:
            heard = self._mirror.changes - changes
            if heard and error.outcome == "unchanged" and action.name not in Reference.many_commits:
                # Raised by the next look: here it would be taken for the call's own answer.
                self._wrong = Violation(
                    "observers-saw-exactly-the-commits",
                    f"{action.name} failed and changed nothing, and observers were told of {heard} changes",
                )
            raise
        except Exception as error:
            self._wrong = Violation("error-is-not-hidden", f"{action.name} failed with {error!r}, and not a StoreError")
            raise
        finally:
            self._later_ms = 0
            told.heard, told.sent = list(self._mirror.heard), list(self._receiver.got)

    def _perform(self, name: str, args: dict[str, Any]) -> Any:
        own = getattr(self, "_do_" + name.replace(".", "_"), None)
        if own is not None:
            return own(**args)
        part, _, method = name.partition(".")
        return getattr(getattr(self.ledger, part), method)(**args)

    def _do_batch(self, calls: list[dict[str, Any]]) -> list[Any]:
        answers = []
        with self.ledger.batch():
            for each in calls:
                answers.append(self._perform(each["name"], dict(each["args"])))
                _accept(answers[-1])
        return answers

    def _do_tasks_create(self, id: str, **fields: Any) -> Any:  # noqa: A002 - the action's word
        self._next_id = id
        return self.ledger.tasks.create(**fields)

    def _do_recover(self) -> Any:
        with self._booting(), recovery_lines(self.told.lines):
            return self.ledger.recover()

    def _do_maintenance(self, *, apply: bool = True) -> Any:
        with self._booting():
            done = msgspec.structs.asdict(self.ledger.maintenance(apply=apply))
        # Whether somebody was in the way of a checkpoint is no matter of the specification.
        del done["checkpointed"]
        return done

    def _do_audit(self, *, booting: bool = False, **filters: Any) -> Any:
        with self._booting() if booting else contextlib.nullcontext():
            return self.ledger.audit(**filters)

    @contextlib.contextmanager
    def _booting(self) -> Iterator[None]:
        """All workers of runs are dead meanwhile; seen from another process they are not."""
        self._workers.booting = self.told.circumstances["is_booting"] = not self._is_elsewhere
        try:
            yield
        finally:
            self._workers.booting = False

    def _do_outbox_recover(self, cutoff: int | None, **limits: Any) -> Any:
        worker_id = f"pass-{self._environment.now_ms}"
        return self.ledger.outbox.recover(self._receiver.deliver, cutoff=cutoff, worker_id=worker_id, **limits)

    def _do_legacy_file(self, name: str, content: object) -> None:
        self._legacy.put(name, content)

    def _do_outbox_import_legacy(self) -> Any:
        if self._legacy.known is not None:
            self.told.circumstances |= {"files": self._legacy.contents(), "imported": self._legacy.known}
        with self._legacy.importing() as directory:
            report = self.ledger.outbox.import_legacy(directory)
        for problem in report.problems:
            # Its caller is told by the report: that message was not taken over, and the others were.
            if problem.reason.startswith(UNREADABLE):
                raise StoreIOError(f"{problem.file} stays: {problem.reason}", outcome="unknown")
        return {**msgspec.structs.asdict(report), "problems": [problem.file for problem in report.problems]}

    def _do_memory_import_legacy(self) -> None:
        """Somebody tries it out with a ledger in memory."""
        outbox = {name: part for name, part in self._parts.items() if name == "outbox"}
        with Ledger.open(":memory:", workers=self._workers, **outbox) as in_memory, self._legacy.importing() as files:
            in_memory.outbox.import_legacy(files)

    def _do_older_row(self, task_id: str) -> None:
        left_by_others(self._database, "older_row", task_id, self._environment.now_ms)

    def _do_damaged_payload(self, message_id: str) -> None:
        left_by_others(self._database, "damaged_payload", message_id, self._environment.now_ms)

    def _do_toil(self, task_id: str, times: int, kilobytes: int) -> None:
        """Much progress of one task; SQLite writes only the pages that differ, so each text is another one."""
        for turn in range(times):
            self.ledger.tasks.progress(task_id, f"{turn % 10}" * (kilobytes * 1024))

    # -- another process on the same files -----------------------------------------------------------------

    def _do_elsewhere(self, call: dict[str, Any]) -> None:
        other = self._elsewhere()
        try:
            other.call(Action(call["name"], call["args"]))
        finally:
            self.told = other.told

    def _do_overtaken(self, first: dict[str, Any], then: dict[str, Any]) -> Any:
        """Another process makes a call, and this one makes its own before it has read what has changed."""
        with contextlib.suppress(Refused):
            self._elsewhere().call(Action(first["name"], first["args"]))
        return self._perform(then["name"], dict(then["args"]))

    def _do_meanwhile(self, first: dict[str, Any], then: dict[str, Any]) -> None:
        """Another process makes a call; this one reads what has changed, and is overtaken between two reads."""
        self._do_elsewhere(first)
        due = [lambda: self._do_elsewhere(then)]
        begun: list[str] = []
        raised: list[Exception] = []

        def overtake(statement: str) -> None:
            begun.extend([statement] if statement.startswith("BEGIN") else [])
            if len(begun) > 1 and due:
                try:
                    due.pop()()
                except Exception as error:  # noqa: BLE001 - SQLite would drop it
                    raised.append(error)

        # What the others do is done, whether or not this one can read.
        with contextlib.suppress(StoreError, sqlite3.ProgrammingError):
            connection = self.ledger.tasks.backend.database.connection  # type: ignore[attr-defined] # it is on SQLite
            connection.set_trace_callback(overtake)
            try:
                self.ledger.tasks.list()
            finally:
                connection.set_trace_callback(None)
        while due:
            due.pop()()
        if raised:
            raise raised[0]

    def _do_visit(self) -> None:
        """A real process opens the database, reads and goes."""
        visit(self._database)

    def _elsewhere(self) -> "ReferenceSession":
        if self._other is None:
            environment = Environment(connect_as_another)
            environment.now_ms = self._environment.now_ms
            self._other = ReferenceSession(*self._place, environment, self._parts, elsewhere=True)
        self._other._environment.now_ms = self._environment.now_ms
        return self._other

    def _is_backed(self, _task: Task) -> bool:
        """Whether a session backs a task: outside a boot one does."""
        return not self._workers.booting

    def live_view(self) -> View:
        """Every task, delivery state, run, session and message, as the ledger answers."""
        ledger, view = self.ledger, dict[str, Any]()
        # In the order of their insertion, which breaks ties.
        tasks = {task.task_id: task for task in ledger.tasks.list()}
        for task in (tasks[task_id] for task_id in ledger.tasks.view().tasks if task_id in tasks):
            view[f"task/{task.task_id}"] = msgspec.to_builtins(task)
            delivery = ledger.tasks.get_delivery(task.task_id)
            if delivery is not None:
                view[f"delivery/{task.task_id}"] = msgspec.to_builtins(delivery)
        view |= {f"run/{run.id}": msgspec.to_builtins(run) for run in reversed(ledger.history.list())}
        view |= {f"session/{one.session_id}": msgspec.to_builtins(one) for one in ledger.history.list_sessions()}
        view |= {f"message/{one.id}": msgspec.to_builtins(one) for one in ledger.outbox.list()}
        self._shown = view
        return view

    def outcome_of(self, error: Exception) -> str | None:
        """The outcome that every store error carries."""
        return error.outcome if isinstance(error, StoreError) else None

    def self_check(self) -> None:
        """Whatever no view shows: observers, indexes, files, the audit, and what receivers and the old queue saw."""
        wrong = self._wrong or self._mirror.wrong
        if wrong is not None:
            raise wrong
        check_memory(self.ledger, self._mirror)
        check_files(self._database)
        self._receiver.check(self._shown)
        self._legacy.check()
        check_audit(self.ledger, self._shown, self._environment.now_ms)

    def close(self) -> None:
        """Close the ledger, and the other process's."""
        try:
            if self._other is not None:
                self._other.close()
        finally:
            self.ledger.close()


class Reference(Target):
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
    # A COMMIT that failed is settled by another one, which writes the same pages anew, before anything is acknowledged.
    survives_failed_sync = True
    # Nobody here controls a cron task, and cancelling one says so.
    refuses: frozenset[str] = frozenset({"tasks.cancel"})

    # What a restarted process calls first.
    recovery: Action | None = Action("recover")
    # Each message, and each row of the upkeep, is a transaction of its own.
    many_commits: frozenset[str] = frozenset(
        {"recover", "outbox.recover", "outbox.import_legacy", "maintenance", "toil"}
    )
    # Made past the connections of the ledger under test: out of reach of what is armed there, and of a recorder.
    by_others: frozenset[str] = frozenset(
        {"elsewhere", "overtaken", "meanwhile", "legacy_file", "older_row", "damaged_payload"}
    )

    # Another process knows that a pass lives by a lock of the system's, and workers are pretended here: what two passes
    # make of each other is tested with the ledger, in real processes.
    by_one_caller: frozenset[str] = frozenset({"outbox.recover"})
    callers: tuple[Callers, ...] = ("processes", "threads")

    def __init__(self, name: str = "reference", *, calls: tuple[Action, ...] = (), **parts: Any) -> None:
        self.name = name
        self._calls = calls
        self._parts = parts

    def workload(self) -> tuple[Action, ...]:
        """Every kind of change that tasks, runs and messages can see, each at least once; or a build's own calls."""
        return self._calls or WORKLOAD

    def actions(self, view: View) -> "SearchStrategy[Action]":
        """Something new, or any change to what is there; or a build's own calls."""
        from hypothesis import strategies  # noqa: PLC0415 - takes long to load, and only a fuzz needs it

        from tornpage.scenarios.targets.reference.strategies import draw  # noqa: PLC0415 - as above

        return strategies.sampled_from(self._calls) if self._calls else draw(view)

    @property
    def scripts(self) -> tuple[Script, ...]:  # type: ignore[override]  # read, never set
        """Each transition, argument and limit; a build that has its own calls has none."""
        return () if self._calls else scripts()

    @property
    def machines(self) -> Mapping[str, Machine]:
        """One for each part, and one for the whole; a build that has its own calls has none."""
        if self._calls:
            return {}
        from tornpage.scenarios.targets.reference.strategies import MACHINES  # noqa: PLC0415 - as above

        return MACHINES

    def heartbeat(self) -> Action:
        """One more task."""
        return HEARTBEAT

    def simpler_actions(self, action: Action) -> Iterator[Action]:
        """Plainer calls, to shrink a scenario by."""
        return simpler_actions(action)

    def database(self, directory: Path) -> Path:
        """The ledger's one file."""
        return directory / DATABASE_NAME

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> Session:
        """Open the ledger with the directory as its state directory."""
        return ReferenceSession(directory, configuration, environment, self._parts)

    def check_view(self, view: View) -> None:
        """What the specification says of every state."""
        check_view(view)

    def check_change(self, before: View, action: Action, after: View, *, is_done: bool, now_ms: int) -> None:
        """What the specification says of every call."""
        check_change(before, action, after, is_done=is_done, now_ms=now_ms)

    def check_session(
        self, session: Session, view: View, called: tuple[View, Action, Answer] | None, *, now_ms: int, looks: bool
    ) -> None:
        """Hold what the last call came to, and what is answered now, against the model."""
        if not isinstance(session, ReferenceSession):
            return
        if called is not None:
            before, action, answer = called
            check_call(before, action, view, answer.kind, session.told, now_ms)
        if looks:
            check_looks(session.ledger, view, now_ms)

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


# Who can be asked to stop the work of a runtime, and which runtime knows of its sessions.
_CONTROLS: Final = {"acp": "agrees", "subagent": "refuses"}
_BACKS: Final = frozenset({"acp"})


def _agree(_task: Task) -> None:
    """Stop the work, without a word."""


def _refuse(_task: Task) -> bool:
    return False


def _fail_to_say(_task: Task) -> bool:
    raise ConnectionError("nobody answers")


def _accept(result: object) -> None:
    """A result that says in itself that nothing was done is a refusal."""
    if not (getattr(result, "cancelled", True) and getattr(result, "changed", True)):
        raise Refused(getattr(result, "reason", None))
