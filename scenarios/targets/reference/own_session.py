"""An open ledger of the reference, driven by actions; the result of each is kept for the model.

An action is named after the part and the method that it calls (``tasks.start``, ``outbox.ack``); a few do more. The
actions in which other processes, threads and commands take part are in `session`.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import msgspec

from tornpage.ledger import (
    TERMINAL,
    DeliveryState,
    IllegalTransition,
    Ledger,
    NotFound,
    Runtime,
    StoreError,
    StoreIOError,
    Task,
    UsageError,
)
from tornpage.ledger.disk.files import DATABASE_NAME
from tornpage.ledger.disk.rows import Unreadable
from tornpage.ledger.outbox.legacy import CHANGED, UNREADABLE
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.target import Action, Configuration, Environment, Refused, View
from tornpage.scenarios.targets.reference.compared.told import Told, pass_lines, recovery_lines
from tornpage.scenarios.targets.reference.environment import (
    Grumbler,
    Mirror,
    OfOneCall,
    PretendedWorkers,
    Receiver,
    ReceiverExits,
    far_from_utc,
    keys_of_unreadable,
    left_by_others,
    runs_of_sessions,
    scribble,
    spoil,
    written_task,
)
from tornpage.scenarios.targets.reference.introspection import (
    check_audit,
    check_files,
    check_memory,
    check_payloads,
    is_suspect,
)
from tornpage.scenarios.targets.reference.lives.listeners import Scribe
from tornpage.scenarios.targets.reference.lives.registry import is_life, live
from tornpage.scenarios.targets.reference.model.disk.rows import is_readable
from tornpage.scenarios.targets.reference.old_queue import LegacyQueue

# The ledger warns of every fault it meets, and there are thousands. A user who wants them adds a handler.
logging.getLogger("ledger").addHandler(logging.NullHandler())
_JSON_ARGUMENTS: Final = frozenset({"requester_origin", "payload", "artifacts"})
# Made without the session's own commit events: many rows, each a separate transaction.
MANY_COMMITS: Final = frozenset({"outbox.recover", "outbox.import_legacy", "maintenance", "toil"})


class OwnSession:
    """An open ledger, driven by actions; those of other processes are in `session`."""

    def __init__(
        self,
        directory: Path,
        configuration: Configuration,
        environment: Environment,
        parts: Mapping[str, Any],
        *,
        elsewhere: bool = False,
    ) -> None:
        self._own = OfOneCall()
        # The action and answer of a runtime that is asked to stop: see `cancel_while`.
        self._asked: Callable[[], object] = agree
        self._place = directory, configuration
        self._database = directory / DATABASE_NAME
        self._environment = environment
        self._parts = parts
        self._is_elsewhere = elsewhere
        self._other: OwnSession | None = None
        self._workers = PretendedWorkers(self._database)
        self._receiver = Receiver()
        self._receiver.takes = self._let_time_pass
        self._legacy = LegacyQueue(directory / "legacy", self._database)
        self._mirror = Mirror()
        self._wrong: Violation | None = None
        # The action to take when the clock is read for that time in a call.
        self._at_reading: tuple[int, Callable[[], object]] | None = None
        # Rows of tasks as edited by hand, by id.
        self._by_hand: dict[str, Any] = {}
        # Payloads that are not UTF-8, by message: no change of a message writes its payload again.
        self._odd_payloads: dict[str, bytes] = {}
        # Sessions that can't be read, by id: no answer has them.
        self._hidden: list[str] = []
        self._shown: View = {}
        # The answers of the lists in the view, by their action.
        self.listed: dict[str, Any] = {}
        # The view with which the audit was last compared.
        self._audited: View | None = None
        self.told = Told()
        scribe = Scribe()
        self.ledger = scribe.ledger = Ledger.open(
            directory,
            journal_mode=configuration.journal_mode,
            clock=self._clock,
            new_id=lambda: self._own.next_id,
            connect=environment.connect,
            workers=self._workers,
            observers=(Grumbler(), scribe, self._mirror),
            control_hooks={Runtime.ACP: self._asked_to_stop, Runtime.SUBAGENT: self._refuses_to_stop},
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
        own = self._own
        own.next_id = "unnamed"
        own.later_ms, own.tick_ms = args.pop("later_ms", 0), args.pop("tick_ms", 0)
        changes = self._mirror.changes
        self.told = told = Told(circumstances={"controls": _CONTROLS, "backs": _BACKS})
        self._mirror.heard.clear()
        self._receiver.got.clear()
        if self._hidden:
            told.circumstances["hidden"] = runs_of_sessions(self._database, self._hidden)
        try:
            told.answer = self._perform(action.name, args)
            _accept(told.answer)
        except (IllegalTransition, NotFound, UsageError) as refusal:
            told.error, told.reason = type(refusal).__name__, str(refusal)
            raise Refused(str(refusal)) from refusal
        except Refused:
            raise
        except StoreError as error:
            if isinstance(error, Unreadable):
                # No failure of the store: by the specification a call on such a row is refused.
                told.error = "Unreadable"
                raise Refused(str(error)) from error
            told.is_suspect = is_suspect(self.ledger)
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
            own.later_ms, own.tick_ms, self._at_reading = 0, 0, None
            told.heard, told.sent = list(self._mirror.heard), list(self._receiver.got)

    def _clock(self) -> int:
        """The time; one that moves during a call does so at each read."""
        self._own.later_ms += self._own.tick_ms
        now = self._environment.clock() + self._own.later_ms
        self.told.readings.append(now)
        if self._at_reading is not None and len(self.told.readings) == self._at_reading[0]:
            self._at_reading[1]()
        return now

    def _perform(self, name: str, args: dict[str, Any]) -> Any:
        handed = {key: deepcopy(args[key]) for key in _JSON_ARGUMENTS & args.keys()}
        answer = self._made(name, {**args, **handed})
        # The values are the caller's: it may change them, and what it was given.
        for value in handed.values():
            scribble(value)
        if isinstance(answer, DeliveryState):
            answer, given = msgspec.structs.replace(answer, requester_origin=deepcopy(answer.requester_origin)), answer
            scribble(given.requester_origin)
        return answer

    def _made(self, name: str, args: dict[str, Any]) -> Any:
        own = getattr(self, "_do_" + name.replace(".", "_"), None)
        if own is not None:
            return own(**args)
        if is_life(name):
            return live(name, self._place[0], self._clock, **args)
        part, _, method = name.partition(".")
        return getattr(getattr(self.ledger, part), method)(**args)

    def _do_batch(self, calls: list[dict[str, Any]]) -> list[Any]:
        answers = []
        with recovery_lines(self.told), self.ledger.batch():
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
            with recovery_lines(self.told), self.ledger.batch():
                make(calls)
                with contextlib.suppress(IllegalTransition, NotFound, UsageError, Unreadable), self.ledger.batch():
                    make(inner)
                make(after)
        except StoreError as error:
            return f"StoreError {error.outcome}"
        return answers

    def _do_close(self) -> None:
        """Close the ledger. For scripts only, inside a batch, where that is refused."""
        self.ledger.close()

    def _do_tasks_create(self, id: str, **fields: Any) -> Any:  # noqa: A002 - the action's word
        self._own.next_id = id
        return self.ledger.tasks.create(**fields)

    def _do_recover(self) -> Any:
        self._hidden = []
        with self._booting(), recovery_lines(self.told), far_from_utc():
            return self.ledger.recover()

    def _do_maintenance(self, *, apply: bool | None = True) -> Any:
        with self._booting():
            done = msgspec.structs.asdict(self.ledger.maintenance(**{} if apply is None else {"apply": apply}))
        # Whether a reader blocked a checkpoint is not specified.
        del done["checkpointed"]
        return done

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
        except UsageError:
            # It is refused inside a batch, before it asks for any worker; the other calls there met living ones.
            if self.ledger.database is not None and self.ledger.database.active is not None:
                self.told.circumstances["is_booting"] = False
            raise
        finally:
            self._workers.booting = False

    def _do_outbox_recover(self, cutoff: int | None, *, looks_ms: int = 0, **how: Any) -> Any:
        if looks_ms:
            self._at_reading = (1, lambda: self._let_time_pass(looks_ms))
        how = {"worker_id": f"pass-{self._environment.now_ms}", **how}
        try:
            with pass_lines(self.told):
                return self.ledger.outbox.recover(self._receiver.deliver, cutoff=cutoff, **how)
        except ReceiverExits:
            return "it ended"

    def _let_time_pass(self, many_ms: int) -> None:
        self._own.later_ms += many_ms

    def _do_legacy_file(self, name: str, content: object, kind: str = "json") -> None:
        self._legacy.put(name, content, kind)

    def _do_outbox_import_legacy(self, changes: dict[str, Any] | None = None) -> Any:
        """Import the old queue; while that goes on somebody puts down one that `changes`, mostly after it was read."""
        if self._is_elsewhere:
            # Its session is not checked after each call, and the other one may have imported since.
            self._legacy.known = None
        self._legacy.look()
        if self._legacy.known is not None:
            self.told.circumstances |= {"files": self._legacy.contents(), "imported": self._legacy.known}
        self._replace_meanwhile(changes)
        with self._legacy.importing() as directory:
            report = self.ledger.outbox.import_legacy(directory)
            for problem in report.problems:
                # The report says it to its caller: that message was not taken over, or its file stays, and the others
                # were.
                is_left = problem.imported and problem.reason != CHANGED
                if is_left or problem.reason.startswith(UNREADABLE):
                    raise StoreIOError(f"{problem.file} stays: {problem.reason}", outcome="unknown")
        left = sorted(name for name in self._legacy.contents() or () if name.endswith(".json"))
        problems = [[problem.file, problem.imported] for problem in report.problems]
        return {**msgspec.structs.asdict(report), "problems": problems, "left": left}

    def _replace_meanwhile(self, changes: dict[str, Any] | None) -> None:
        if changes is not None:
            # The clock is read before a file is read, and once it is recorded.
            self._at_reading = 2, lambda: self._legacy.replace(**changes)

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
        if what["table"] == "agent_sessions" and not is_readable("session", {what["column"]: what["value"]}):
            self._hidden.append(what["key"])
        if what["table"] == "outbox_imports":
            self._legacy.spoiled(what["key"])
        if what["column"] == "payload" and isinstance(what["value"], dict):
            self._odd_payloads[what["key"]] = bytes.fromhex(what["value"]["hex"])

    def note_unreadable_keys(self, before: View) -> None:
        """Record the keys of messages, and runs of tasks, that could not be read before the call: it changed none."""
        for name, table in (("unreadable_keys", "message_outbox"), ("unreadable_runs", "tasks")):
            keys = keys_of_unreadable(self._database, table, before)
            self.told.circumstances |= {name: keys} if keys else {}

    def _note_as_written(self) -> None:
        """Record which rows are as edited by hand: those that the ledger has written since are its own."""
        rows = {key: row for key, row in self._by_hand.items() if row == written_task(self._database, key)}
        self.told.circumstances |= {"as_written": rows} if rows else {}

    def _asked_to_stop(self, task: Task) -> Any:
        self._judge_asking(task)
        return self._asked()

    def _refuses_to_stop(self, task: Task) -> bool:
        self._judge_asking(task)
        return False

    def _judge_asking(self, task: Task) -> None:
        """§2, cancel: only work that goes on can be stopped."""
        if task.status in TERMINAL:
            said = f"a runtime was asked to stop task {task.task_id}, which is {task.status} already"
            self._wrong = Violation("as-specified", said)

    def _do_toil(self, task_id: str, times: int, kilobytes: int) -> None:
        """Many progress updates of one task; SQLite writes only pages that differ, so each text is different."""
        for turn in range(times):
            self.ledger.tasks.progress(task_id, f"{turn % 10}" * (kilobytes * 1024))

    # -- another process on the same files -----------------------------------------------------------------

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
        check_payloads(self._database, self._odd_payloads)
        self._receiver.check(self._shown)
        self._legacy.check()
        # After a refused call the rows are those of which the audit was true.
        if self.told.error is None or self._shown != self._audited:
            check_audit(self.ledger, self._shown, self._environment.now_ms)
            self._audited = self._shown

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


def agree() -> None:
    """Stop the work without an answer."""


def _know_nothing(_task: Task) -> None:
    """Say nothing: what isn't known is backed."""


def _fail_to_say(_task: Task) -> bool:
    raise ConnectionError("nobody answers")


def _accept(result: object) -> None:
    """An answer that itself reports that nothing was done is a refusal."""
    if not (getattr(result, "cancelled", True) and getattr(result, "changed", True)):
        raise Refused(getattr(result, "reason", None))
