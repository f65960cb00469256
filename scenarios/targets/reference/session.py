"""The session of the reference: an open ledger, driven by actions; the result of each is kept for the model.

An action is named after the part and the method that it calls (``tasks.start``, ``outbox.ack``); a few do more.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from tornpage.faults.sqlite_library import sqlite3
from tornpage.ledger import (
    IllegalTransition,
    Ledger,
    LedgerError,
    NotFound,
    Runtime,
    StoreError,
    StoreIOError,
    Task,
    UsageError,
)
from tornpage.ledger.disk.files import DATABASE_NAME
from tornpage.ledger.disk.rows import Unreadable
from tornpage.ledger.outbox.legacy import UNREADABLE
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.target import Action, Configuration, Environment, Refused, View
from tornpage.scenarios.targets.reference.environment import (
    Grumbler,
    Mirror,
    PretendedWorkers,
    Receiver,
    connect_as_another,
    left_by_others,
    run_command,
    spoil,
    visit,
    written_task,
)
from tornpage.scenarios.targets.reference.introspection import check_audit, check_files, check_memory
from tornpage.scenarios.targets.reference.listeners import Scribe
from tornpage.scenarios.targets.reference.lives import LIVES
from tornpage.scenarios.targets.reference.lockstep import Told, recovery_lines
from tornpage.scenarios.targets.reference.old_queue import LegacyQueue

# The time limit of a call in another thread that waits for no other caller.
_PATIENCE_S: Final = 3.0
# The ledger warns of every fault it meets, and there are thousands. A user who wants them adds a handler.
logging.getLogger("ledger").addHandler(logging.NullHandler())
# Made without the session's own commit events: many rows, each a separate transaction.
MANY_COMMITS: Final = frozenset({"recover", "outbox.recover", "outbox.import_legacy", "maintenance", "toil"})


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
        self._later_ms = self._tick_ms = 0
        # The action and answer of a runtime that is asked to stop: see `cancel_while`.
        self._asked: Callable[[], object] = _agree
        self._place = directory, configuration
        self._database = directory / DATABASE_NAME
        self._environment = environment
        self._parts = parts
        self._is_elsewhere = elsewhere
        self._other: ReferenceSession | None = None
        self._workers = PretendedWorkers(self._database)
        self._receiver = Receiver()
        self._legacy = LegacyQueue(directory / "legacy", self._database)
        self._mirror = Mirror()
        self._wrong: Violation | None = None
        # The action to take when the clock is read for that time in a call.
        self._at_reading: tuple[int, Callable[[], object]] | None = None
        # Rows of tasks as edited by hand, by id.
        self._by_hand: dict[str, Any] = {}
        self._shown: View = {}
        # The answers of the lists in the view, by their action.
        self.listed: dict[str, Any] = {}
        self.told = Told()
        scribe = Scribe()
        self.ledger = scribe.ledger = Ledger.open(
            directory,
            journal_mode=configuration.journal_mode,
            clock=self._clock,
            new_id=lambda: self._next_id,
            connect=environment.connect,
            workers=self._workers,
            observers=(Grumbler(), scribe, self._mirror),
            control_hooks={Runtime.ACP: self._asked_to_stop, Runtime.SUBAGENT: _refuse},
            session_hooks={
                Runtime.ACP: self._is_backed,
                Runtime.SUBAGENT: _fail_to_say,
                Runtime.CRON: _know_nothing,
            },
            **{"synchronous": configuration.synchronous.lower(), **parts},
        )

    def call(self, action: Action) -> None:
        """Make one call; a change that the ledger's own rules forbid is `Refused`."""
        args = dict(action.args)
        # The name for a call depends on no call before it: a session that was opened since has had none.
        self._next_id = "unnamed"
        self._later_ms, self._tick_ms = args.pop("later_ms", 0), args.pop("tick_ms", 0)
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
            if isinstance(error, Unreadable):
                # No failure of the store: by the specification a call on such a row is refused.
                told.error = "Unreadable"
                raise Refused(str(error)) from error
            heard = self._mirror.changes - changes
            if heard and error.outcome == "unchanged" and action.name not in MANY_COMMITS:
                # Raised by the next check: here it would be taken for the call's own answer.
                self._wrong = Violation(
                    "observers-saw-exactly-the-commits",
                    f"{action.name} failed and changed nothing, and observers were notified of {heard} changes",
                )
            raise
        except Exception as error:
            self._wrong = Violation("error-is-not-hidden", f"{action.name} failed with {error!r}, and not a StoreError")
            raise
        finally:
            self._later_ms, self._tick_ms, self._at_reading = 0, 0, None
            told.heard, told.sent = list(self._mirror.heard), list(self._receiver.got)

    def _clock(self) -> int:
        """The time; one that moves during a call does so at each read."""
        self._later_ms += self._tick_ms
        now = self._environment.clock() + self._later_ms
        self.told.readings.append(now)
        if self._at_reading is not None and len(self.told.readings) == self._at_reading[0]:
            self._at_reading[1]()
        return now

    def _perform(self, name: str, args: dict[str, Any]) -> Any:
        own = getattr(self, "_do_" + name.replace(".", "_"), None)
        if own is not None:
            return own(**args)
        if name in LIVES:
            return LIVES[name](self._place[0], self._clock, **args)
        part, _, method = name.partition(".")
        return getattr(getattr(self.ledger, part), method)(**args)

    def _do_batch(self, calls: list[dict[str, Any]]) -> list[Any]:
        answers = []
        with self.ledger.batch():
            for each in calls:
                answers.append(self._perform(each["name"], dict(each["args"])))
                _accept(answers[-1])
        return answers

    def _do_batch_nested(self, calls: list[Any], inner: list[Any], after: list[Any]) -> Any:
        """A batch in a batch, whose refusal its caller swallows. For scripts only: its result is recorded."""
        answers: list[Any] = []

        def make(some: list[Any]) -> None:
            answers.extend(self._perform(each["name"], dict(each["args"])) for each in some)

        try:
            with self.ledger.batch():
                make(calls)
                with contextlib.suppress(IllegalTransition, NotFound, UsageError), self.ledger.batch():
                    make(inner)
                make(after)
        except StoreError as error:
            return f"StoreError {error.outcome}"
        return answers

    def _do_tasks_create(self, id: str, **fields: Any) -> Any:  # noqa: A002 - the action's word
        self._next_id = id
        return self.ledger.tasks.create(**fields)

    def _do_recover(self) -> Any:
        with self._booting(), recovery_lines(self.told):
            return self.ledger.recover()

    def _do_maintenance(self, *, apply: bool = True) -> Any:
        with self._booting():
            done = msgspec.structs.asdict(self.ledger.maintenance(apply=apply))
        # Whether a reader blocked a checkpoint is not specified.
        del done["checkpointed"]
        return done

    def _do_maintenance_while(self, meanwhile: dict[str, Any]) -> Any:
        """Maintenance; after it has looked, and before its first transaction, another process makes a call."""
        with self._overtaken_at(1, meanwhile):
            return self._do_maintenance()

    @contextlib.contextmanager
    def _overtaken_at(self, number: int, call: dict[str, Any]) -> Iterator[None]:
        """When the transaction of that number is about to begin, another process makes a call."""
        begun = 0

        def overtake(statement: str) -> None:
            nonlocal begun
            begun += statement.startswith("BEGIN IMMEDIATE")
            if begun == number and not self.told.is_overtaken:
                self.told.is_overtaken = True
                with contextlib.suppress(Refused):
                    self._elsewhere(later_ms=self._later_ms).call(Action(call["name"], call["args"]))

        connection = self.ledger.tasks.backend.database.connection  # type: ignore[attr-defined] # it is on SQLite
        connection.set_trace_callback(overtake)
        try:
            yield
        finally:
            connection.set_trace_callback(None)

    def _do_audit(self, *, booting: bool = False, **filters: Any) -> Any:
        self._note_as_written()
        with self._booting() if booting else contextlib.nullcontext():
            return self.ledger.audit(**filters)

    @contextlib.contextmanager
    def _booting(self) -> Iterator[None]:
        """All workers of runs are dead meanwhile; another process sees them alive."""
        self._workers.booting = self.told.circumstances["is_booting"] = not self._is_elsewhere
        try:
            yield
        finally:
            self._workers.booting = False

    def _do_outbox_recover(self, cutoff: int | None, **limits: Any) -> Any:
        worker_id = f"pass-{self._environment.now_ms}"
        self._receiver.another, self._receiver.takes = self._acknowledge_elsewhere, self._let_time_pass
        return self.ledger.outbox.recover(self._receiver.deliver, cutoff=cutoff, worker_id=worker_id, **limits)

    def _let_time_pass(self, many_ms: int) -> None:
        self._later_ms += many_ms

    def _acknowledge_elsewhere(self, message_id: str) -> None:
        # It is as late there.
        self._elsewhere(later_ms=self._later_ms).ledger.outbox.ack(message_id)

    def _do_legacy_file(self, name: str, content: object, kind: str = "json") -> None:
        self._legacy.put(name, content, kind)

    def _do_outbox_import_legacy(self, changes: dict[str, Any] | None = None) -> Any:
        """Import the old queue; while that goes on somebody puts down one that `changes`, after it was read."""
        self._legacy.look()
        if self._legacy.known is not None:
            self.told.circumstances |= {"files": self._legacy.contents(), "imported": self._legacy.known}
        if changes is not None:
            # The clock is read before a file is read, and once it is recorded.
            self._at_reading = 2, lambda: self._legacy.put(**changes)
        with self._legacy.importing() as directory:
            report = self.ledger.outbox.import_legacy(directory)
        for problem in report.problems if changes is None else ():
            # The report says it to its caller: that message was not taken over, or its file stays, and the others were.
            if problem.imported or problem.reason.startswith(UNREADABLE):
                raise StoreIOError(f"{problem.file} stays: {problem.reason}", outcome="unknown")
        left = sorted(name for name in self._legacy.contents() or () if name.endswith(".json"))
        problems = [problem.file for problem in report.problems]
        return {**msgspec.structs.asdict(report), "problems": problems, "left": left}

    def _do_memory_import_legacy(self) -> None:
        """Import into a ledger in memory, as a trial."""
        outbox = {name: part for name, part in self._parts.items() if name == "outbox"}
        with Ledger.open(":memory:", workers=self._workers, **outbox) as in_memory, self._legacy.importing() as files:
            in_memory.outbox.import_legacy(files)

    def _do_older_row(self, task_id: str) -> None:
        left_by_others(self._database, "older_row", task_id, self._environment.now_ms)

    def _do_damaged_payload(self, message_id: str) -> None:
        left_by_others(self._database, "damaged_payload", message_id, self._environment.now_ms)

    def _do_spoiled_row(self, **what: Any) -> None:
        spoil(self._database, **what)
        if what["table"] == "tasks":
            self._by_hand[what["key"]] = written_task(self._database, what["key"])

    def _note_as_written(self) -> None:
        """Record which rows are as edited by hand: those that the ledger has written since are its own."""
        rows = {key: row for key, row in self._by_hand.items() if row == written_task(self._database, key)}
        self.told.circumstances |= {"as_written": rows} if rows else {}

    def _do_cancel_while(
        self, task_id: str, says: str, meanwhile: dict[str, Any] | None = None, *, thread: bool = False
    ) -> Any:
        """Cancel a task whose runtime, while it is asked, has another process make a call, and then says something.

        With `thread` another thread of this process makes it.
        """

        def asked() -> object:
            if meanwhile is not None and thread:
                self._call_in_a_thread(meanwhile)
            elif meanwhile is not None:
                with contextlib.suppress(Refused):
                    self._elsewhere().call(Action(meanwhile["name"], meanwhile["args"]))
            if says == "raises":
                raise ConnectionError("nobody answers")
            return {"refuses": False, "agrees": True, "nothing": None}[says]

        self._asked = asked
        try:
            # Whatever the answer, the state may have changed: so it is not a refusal.
            return msgspec.structs.asdict(self.ledger.tasks.cancel(task_id))
        finally:
            self._asked = _agree

    def _call_in_a_thread(self, call: dict[str, Any]) -> None:
        def make() -> None:
            # One that fails has not done its work; the rows show that. One that was released fails at the end.
            with contextlib.suppress(LedgerError):
                self._perform(call["name"], dict(call["args"]))

        # It is released if it never returns: the process must be able to end.
        other = threading.Thread(target=make, daemon=True)
        other.start()
        other.join(_PATIENCE_S)
        if other.is_alive():
            self._wrong = Violation(
                "as-specified", f"{call['name']} waits in another thread for a hook that waits for it"
            )

    def _asked_to_stop(self, _task: Task) -> Any:
        return self._asked()

    def _do_command(
        self,
        argv: list[str],
        means: dict[str, Any],
        *,
        terminal: bool = False,
        program: dict[str, Any] | None = None,
        refused: str | None = None,
    ) -> Any:
        """Run a command, which makes the call that it `means` in another process.

        The behaviour of a deliver `program`, and whether an option alone is `refused`, is for the model.
        """
        del program, refused
        if means["name"] == "outbox.import_legacy" and self._legacy.known is not None:
            self.told.circumstances |= {"files": self._legacy.contents(), "imported": self._legacy.known}
        self._note_as_written()
        argv = [one.replace("{legacy}", str(self._legacy.directory)) for one in argv]
        workers = PretendedWorkers(self._database)
        workers.booting = self._workers.booting = argv[-1] == "recover" or "recover" in argv[:1]
        try:
            with Ledger.open(
                self._place[0], clock=self._clock, new_id=lambda: "unnamed", connect=connect_as_another, workers=workers
            ) as ledger:
                return run_command(argv, ledger, self._place[0], self._clock, terminal=terminal)
        finally:
            self._workers.booting = False

    def _do_toil(self, task_id: str, times: int, kilobytes: int) -> None:
        """Many progress updates of one task; SQLite writes only pages that differ, so each text is different."""
        for turn in range(times):
            self.ledger.tasks.progress(task_id, f"{turn % 10}" * (kilobytes * 1024))

    # -- another process on the same files -----------------------------------------------------------------

    def _do_elsewhere(self, call: dict[str, Any]) -> None:
        other = self._elsewhere()
        try:
            other.call(Action(call["name"], call["args"]))
        finally:
            self.told = other.told

    def _do_overtaken(self, first: dict[str, Any], then: dict[str, Any], at: int = 0) -> Any:
        """Another process makes a call, and this one makes its own before it has read the change.

        With `at` the other call comes when this one's transaction of that number is about to begin. For scripts only:
        if this one's call is refused, or fails, the other's is done all the same.
        """
        if at:
            with self._overtaken_at(at, first):
                return self._perform(then["name"], dict(then["args"]))
        with contextlib.suppress(Refused):
            self._elsewhere().call(Action(first["name"], first["args"]))
        return self._perform(then["name"], dict(then["args"]))

    def _do_meanwhile(self, first: dict[str, Any], then: dict[str, Any]) -> None:
        """Another process makes a call; this one reads the change, and the next change comes between two reads."""
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

        # The others' calls are done, whether or not this process can read.
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
        """Let a real process open the database, read and exit."""
        visit(self._database)

    def _elsewhere(self, later_ms: int = 0) -> "ReferenceSession":
        if self._other is None:
            environment = Environment(connect_as_another)
            environment.now_ms = self._environment.now_ms
            self._other = ReferenceSession(*self._place, environment, self._parts, elsewhere=True)
        self._other._environment.now_ms = self._environment.now_ms + later_ms
        return self._other

    def _is_backed(self, _task: Task) -> bool:
        """Whether a session backs a task: outside a boot one does."""
        return not self._workers.booting

    def live_view(self) -> View:
        """Every task, delivery state, run, session and message, as the ledger answers."""
        ledger, view = self.ledger, dict[str, Any]()
        listed, (runs, unreadable) = ledger.tasks.list(), ledger.history.read()
        sessions, (messages, bad_messages) = ledger.history.list_sessions(), ledger.outbox.read()
        self.listed = {
            "tasks.list": listed,
            "history.list": runs,
            "history.list_sessions": sessions,
            "outbox.list": messages,
        }
        # In the order of their insertion, which breaks ties.
        tasks = {task.task_id: task for task in listed}
        for one in (*ledger.tasks.quarantined(), *unreadable, *bad_messages):
            view[f"unreadable/{one.table}/{one.key}"] = {"table": one.table, "key": one.key}
        memory = ledger.tasks.view()
        for task in (tasks[task_id] for task_id in memory.tasks if task_id in tasks):
            view[f"task/{task.task_id}"] = msgspec.to_builtins(task)
            # Not `get_delivery`, which checks each time whether another process has committed.
            delivery = memory.deliveries.get(task.task_id)
            if delivery is not None:
                view[f"delivery/{task.task_id}"] = msgspec.to_builtins(delivery)
        view |= {f"run/{run.id}": msgspec.to_builtins(run) for run in reversed(runs)}
        view |= {f"session/{one.session_id}": msgspec.to_builtins(one) for one in sessions}
        view |= {f"message/{one.id}": msgspec.to_builtins(one) for one in messages}
        self._shown = view
        return view

    def outcome_of(self, error: Exception) -> str | None:
        """The outcome that every store error carries."""
        return error.outcome if isinstance(error, StoreError) else None

    def self_check(self) -> None:
        """Check what no view shows: observers, indexes, files, the audit, the receivers and the old queue."""
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


# The hooks that stop the work of a runtime, and the runtime that knows of its sessions.
_CONTROLS: Final = {"acp": "agrees", "subagent": "refuses"}
_BACKS: Final = frozenset({"acp"})


def _agree() -> None:
    """Stop the work without an answer."""


def _refuse(_task: Task) -> bool:
    return False


def _know_nothing(_task: Task) -> None:
    """Say nothing: what isn't known is backed."""


def _fail_to_say(_task: Task) -> bool:
    raise ConnectionError("nobody answers")


def _accept(result: object) -> None:
    """An answer that itself reports that nothing was done is a refusal."""
    if not (getattr(result, "cancelled", True) and getattr(result, "changed", True)):
        raise Refused(getattr(result, "reason", None))
