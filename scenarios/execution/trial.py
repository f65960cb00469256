"""One trial: a session on a directory, faults armed around its calls, and every check for the oracle.

After each call, in this order: the files are copied as a crash would leave them; a fresh reader past the shim reads the
disk's view; the session returns its view; the copy is opened as after a crash. While a fault is armed the session may
decline to answer, but it may not answer wrongly. Once nothing is armed it has to answer, and `heartbeat` checks that it
still works.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tornpage import faults
from tornpage.faults.reach.library import Library
from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.execution.at_rest import others_rest
from tornpage.scenarios.execution.call_timeout import TookTooLongError, in_time
from tornpage.scenarios.execution.commit_spy import CommitSpy
from tornpage.scenarios.execution.dropped import closed_by_threads, collected
from tornpage.scenarios.execution.frames import forget_frames
from tornpage.scenarios.execution.fresh_reader import FreshReader
from tornpage.scenarios.execution.generic_checks.file_modes import StrictUmask, require_private
from tornpage.scenarios.execution.generic_checks.open_connections import (
    leaves_a_transaction,
    naming_open_transactions,
    of_an_open_transaction,
    of_any_open_transaction,
)
from tornpage.scenarios.execution.hidden_errors import HiddenErrors
from tornpage.scenarios.execution.in_place import in_life
from tornpage.scenarios.execution.reopen import Reopened
from tornpage.scenarios.execution.snapshots import Files, Holder, beside, require_let_go
from tornpage.scenarios.execution.temporary_names import drawn_for
from tornpage.scenarios.model.beats_key import adds_one_key
from tornpage.scenarios.model.judging.absent import ABSENT
from tornpage.scenarios.model.judging.answers import as_data, in_words, is_wrong
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.oracle import Answer, Oracle
from tornpage.scenarios.model.judging.refusals import says_no
from tornpage.scenarios.model.target import (
    Action,
    Configuration,
    Environment,
    Refused,
    Session,
    Target,
    TargetError,
    View,
    binding_of,
    completed,
    environment_of,
)

OPEN = Action("open")
CLOSE = Action("close")

# Called when a fault or condition of a trial comes into force.
_LISTENER: ContextVar[Callable[[], None]] = ContextVar("tornpage_trouble", default=lambda: None)


@contextlib.contextmanager
def trouble_heard_by(listener: Callable[[], None]) -> Iterator[None]:
    """Inside this scope `listener` is called whenever a fault, a limit or a rival is put in force in a trial."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


# The time of the first step, and from each step to the next.
EPOCH_MS: Final = 1_700_000_000_000
STEP_MS: Final = 60_000

# What is said of the small change.
NEXT_FAILS: Final = "the fault is gone, and the next call fails"
_CHANGED_OTHERS: Final = "the next call was acknowledged, but changed more or less than its one key"
DID_NOTHING: Final = "the next call was acknowledged, but did nothing"


# What most of a view consists of; a value of another type is copied if it has to be.
_PLAIN: Final = frozenset({str, int, float, bool, bytes, type(None)})


def _copied(value: Any) -> Any:
    """A copy of a view: a store may return its own object, and change it later."""
    if isinstance(value, dict):
        return {key: one if type(one) in _PLAIN else _copied(one) for key, one in value.items()}
    return [_copied(one) for one in value] if isinstance(value, list) else value


class HangsError(TargetError):
    """A call does not return without any fault: the target can't be tested so."""


class Trial:
    """A target in use under possible faults. Raises `Violation` as soon as a check fails."""

    def __init__(self, target: Target, configuration: Configuration, directory: Path, before: View) -> None:
        self.target = completed(target)
        self.directory = directory
        self.oracle = Oracle(configuration, before)
        binding = binding_of(target)
        # The statement depth replaces a DB-API connect function, which apsw does not have.
        self.statements = faults.StatementDepth(binding if hasattr(binding, "connect") else sqlite3)
        self.connections = faults.Connections(self.statements.connect, self.statements.module)
        self.environment = environment_of(target)
        self.session: Session | None = None
        # Whether no other session of the store is called at the same time.
        self.is_alone = True
        # How many crashes the store has gone through: each is the end of a process.
        self.life = 0
        # A scope round each call of the session.
        self.around_call: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
        # Called when a call has returned, before threads of the store have come to rest.
        self.on_answer: Callable[[], None] = lambda: None
        self._holder = Holder()
        self._reader = FreshReader(self.target, directory, self._holder)
        # Called before each reading.
        self.before_reading = self._reader.before_reading
        self._armed = 0
        self._was_troubled = False
        self._jumped_ms = 0
        self._limits: list[faults.Limit] = []
        # The last call that was not checked yet, the state before it, and its answer.
        self._unjudged: tuple[View, Action, Answer] | None = None
        self.hidden_errors = HiddenErrors()
        # Connections that the session has dropped in a transaction.
        self._dropped: list[Any] = []
        # The state to which the last call would have led, if it raised.
        self._failed_at: View | None = None
        # The note on a transaction that a call without memory has left open.
        self._no_rollback = ""
        # What that was when the last call began.
        self._found_open = ""
        # Whether the last call was an opening that raised: what it was to complete may be half done.
        self._failed_to_open = False

    # -- life cycle ------------------------------------------------------------------------------------------

    def open(self) -> Self:
        """Open the session; passes on what the target raises."""
        with collected(self._dropped), in_life(self.life, opening=True), self._names_of_files("open"):
            self.session = self._open_in(self.directory, self.environment)
            # A thread that it has begun may connect a moment later: the path is its own until then.
            others_rest()
        self._failed_to_open = False
        self._no_rollback = ""
        return self

    def close(self) -> None:
        """Close the session and release all files; raises `Violation` if the target does not."""
        session, self.session = self.session, None
        try:
            if session is not None:
                with in_time("closing the store"), self._in_its_process(), self._names_of_files("close"):
                    session.close()
        except TookTooLongError as hang:
            raise self._hung(hang) from None
        except Exception as error:
            raise Violation("still-usable-after-the-fault", f"with nothing armed, closing fails: {error!r}") from error
        finally:
            self._holder.release()
            self._dropped.clear()
        self._holder.require_open()
        require_let_go(self.directory)

    @contextlib.contextmanager
    def _in_its_process(self) -> Iterator[None]:
        """The store running: also a read of it may create files, for their owner alone."""
        with collected(self._dropped), in_life(self.life) if self.life else contextlib.nullcontext(), StrictUmask():
            yield

    def _names_of_files(self, call: object) -> contextlib.AbstractContextManager[None]:
        return drawn_for(call, self.environment.now_ms) if self.is_alone else contextlib.nullcontext()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self.close()
            return
        # The error in flight says more than a failure to close the session after it.
        forget_frames(error)
        with contextlib.suppress(Violation, TargetError):
            self.close()

    def _open_in(self, directory: Path, environment: Environment) -> Session:
        with in_time("opening the store"), StrictUmask():
            return self.target.open(directory, self.oracle.configuration, environment)

    def _hung(self, hang: TookTooLongError) -> Violation | TargetError:
        """The error for a call that did not return: without any fault the target can't be tested."""
        forget_frames(hang)
        if not self._was_troubled:
            return HangsError(f"{self.target.name}: {hang}, without any fault")
        return Violation("still-usable-after-the-fault", str(hang))

    # -- steps ---------------------------------------------------------------------------------------------

    def at_step(self, step: int) -> None:
        """Set the clock: the same step has the same time in every run."""
        # No clock is before 1970.
        self.environment.now_ms = max(EPOCH_MS + step * STEP_MS + self._jumped_ms, 0)

    def jump(self, step: int, by_ms: int) -> None:
        """Set the clock forward or back, permanently."""
        self._jumped_ms += by_ms
        self.at_step(step)

    @contextlib.contextmanager
    def armed(self, plan: faults.FaultPlan | str, depth: str = "vfs") -> Iterator[faults.Armed]:
        """Put a plan in force for the target's files, at either depth."""
        try:
            with self.troubled():
                if depth == "statement":
                    with self.statements.arm(plan) as armed:
                        yield armed
                else:
                    with faults.arm(plan, self.directory) as armed:
                        yield armed
        except TookTooLongError as hang:
            # The shim's callbacks keep what is raised in them until the plan is disarmed.
            raise self._hung(hang) from None

    @contextlib.contextmanager
    def troubled(self) -> Iterator[None]:
        """Inside this scope a fault may be in force: the session may decline to answer."""
        self._armed += 1
        self._was_troubled = True
        _LISTENER.get()()
        try:
            yield
        finally:
            self._armed -= 1

    @contextlib.contextmanager
    def limited(self, limit: faults.Limit) -> Iterator[None]:
        """Inside this scope a limit is in force whenever the target runs, and only then."""
        with self.troubled():
            self._limits.append(limit)
            try:
                yield
            finally:
                self._limits.remove(limit)

    @property
    def library(self) -> Library:
        """The SQLite that the store's database was opened with; before it has been, the one of its binding."""
        shim = faults.shims().opener_of(self.target.database(self.directory))
        return shim.library if shim is not None else faults.shim_for(binding_of(self.target)).library

    def watch_statements(self) -> None:
        """Let the statement depth, and limits, reach sessions that are opened from now on."""
        self.environment.connect = self.connections.connect

    def call(self, action: Action, after: View, stages: tuple[View, ...] = ()) -> Answer:
        """Make one call that would lead to the state `after`, over `stages`, and pass its answer to the oracle."""
        answer = self._ask(action)
        self._failed_at = after if answer.kind == "raised" else None
        self._unjudged = self.oracle.settled, action, answer
        self.oracle.heard(answer, after, stages)
        return answer

    def ask(self, action: Action) -> Answer:
        """Make one call of which the oracle hears nothing, such as one that only reads."""
        return self._ask(action)

    def call_by_stages(self, action: Action) -> tuple[Answer, tuple[View, ...]]:
        """Make one call without a fault; return its answer, and the state at each commit if it commits more than once.

        Only calls that the target declares in `many_commits` have stages. Connections within reach of the statement
        depth report their commits; others are read whenever they request a lock, as they do after each commit.
        """
        if action.name not in self.target.many_commits:
            return self._ask(action), ()
        spy = CommitSpy(lambda: self.fresh_view(integrity=False))
        says_so = "statement" in self.target.depths
        with self.statements.watching(spy) if says_so else faults.shims().watching(spy):
            return self._ask(action), tuple(spy.seen)

    def _ask(self, action: Action) -> Answer:
        before, self._found_open = faults.shims().handles, self._no_rollback
        # After an error has let go of its frames.
        with collected(self._dropped):
            answer = self._answer_to(action)
        self._holder.require_open()
        if answer.kind == "raised" or self._no_rollback:
            self._note_no_rollback(answer.error)
        if self.session is None or action != OPEN:
            closed_by_threads(before)
        return answer

    def _note_no_rollback(self, error: BaseException | None) -> None:
        if note := of_an_open_transaction(error, self.directory):
            self._no_rollback = note
        elif self._no_rollback and not leaves_a_transaction(self.directory):
            self._no_rollback = ""

    def _answer_to(self, action: Action) -> Answer:
        self._failed_to_open = False
        try:
            with contextlib.ExitStack() as limits:
                for limit in self._limits:
                    limits.enter_context(limit.in_force())
                returned = self._perform(action)
        except Refused as refusal:
            forget_frames(refusal)
            return Answer("refused", refusal)
        except TookTooLongError as hang:
            raise self._hung(hang) from None
        except Exception as error:  # noqa: BLE001 - whatever the store raises is its answer
            forget_frames(error)
            certainty = self.session.outcome_of(error) if self.session is not None else None
            self._failed_to_open = action == OPEN
            # Opening and closing change no view, whatever they raise.
            return Answer("raised", error, "unchanged" if action in (OPEN, CLOSE) else certainty)
        return Answer("done", value=self._as_data(action, returned))

    def _as_data(self, action: Action, returned: object) -> Any:
        try:
            return as_data(returned)
        except (TypeError, RecursionError) as error:
            raise TargetError(
                f"{self.target.name}: the session's answer to {action.name} is a {type(returned).__qualname__}, which "
                "can't be compared; let `call` return JSON-like data, None where a call has no answer, or NOT_COMPARED"
            ) from error

    def _perform(self, action: Action) -> object:
        if action == OPEN:
            self.open()
        elif action == CLOSE:
            self._close_under_fault()
        else:
            return self.call_session(action)
        return None

    def call_session(self, action: Action) -> object:
        """Make a call on the open session; passes on what it raises."""
        if self.session is None:
            raise RuntimeError(f"{action}: no session is open")
        with in_time(action), self._in_its_process(), self._names_of_files(action):
            try:
                with self.around_call():
                    answer: object = self.session.call(action)
            finally:
                self.on_answer()
                others_rest()
        return answer

    def judge_answer(self, action: Action, answer: Answer, wanted: Any, again: Callable[[], Any]) -> None:
        """Compare a call's answer with `wanted`, its answer without a fault; raises `Violation`.

        `again` repeats it from the same state and without a fault, and returns its answer.
        """
        if answer.kind != "done" or not is_wrong(answer.value, wanted, again):
            return
        message = (
            f"{action} was acknowledged and returned {in_words(answer.value)}; "
            f"without the fault it returns {in_words(wanted)}"
        )
        raise Violation(
            "wrong-answer", message, {"answer": {action.name: answer.value}, "expected": {action.name: wanted}}
        )

    def _close_under_fault(self) -> None:
        session, self.session = self.session, None
        try:
            if session is not None:
                with in_time("closing the store"), self._in_its_process(), self._names_of_files("close"):
                    session.close()
        finally:
            self._holder.release()

    # -- checks ----------------------------------------------------------------------------------------------

    def live_view(self) -> View:
        """The session's own view; it must be open."""
        if self.session is None:
            raise RuntimeError("no session is open")
        try:
            with in_time("the live view"), self._in_its_process():
                view: View = _copied(self.session.live_view())
                return view
        except TookTooLongError as hang:
            raise self._hung(hang) from None

    def files_beside(self, files: Files) -> Files:
        """Those of a copy that are not the database's own."""
        return beside(files, os.path.relpath(self.target.database(self.directory), self.directory))

    def crash_copy(self) -> Files:
        """The files as a crash of the process would leave them now."""
        return self._holder.copy(self.directory)

    def look(self, *, integrity: bool = True) -> None:
        """Check disk, memory and the store's own checks against the oracle.

        Without `integrity` SQLite's own check is left to a later step: `look_after_crash` and `heartbeat` run it.
        """
        with self._naming_open_transactions():
            try:
                self.oracle.saw_disk(self.fresh_view(integrity=integrity))
            except Violation:
                # A store may complete at its start what a crash has interrupted: the next opening is judged.
                if not self._failed_to_open:
                    raise
            else:
                self._look_into_memory(self._keep_the_rules())
        require_private(self.directory)

    def look_after_call(self, action: Action, before: View, answer: Answer, *, integrity: bool = True) -> None:
        """Check after a call that met no fault: the rules, and memory, have to match its state."""
        with self._naming_open_transactions():
            self.oracle.restarted(self.fresh_view(integrity=integrity))
            self._unjudged = before, action, answer
            self._look_into_memory(self._keep_the_rules())
        require_private(self.directory)

    def _keep_the_rules(self) -> tuple[View, Action, Answer] | None:
        """Check the state that was read, and the call that led to it, against the target's own rules, if any.

        Returns the call that led to it: the state before, the action, and the answer.
        """
        called, self._unjudged = self._unjudged, None
        view = self.oracle.settled
        self.target.check_view(view)
        if called is not None:
            before, action, answer = called
            is_done, now_ms = answer.kind == "done", self.environment.now_ms
            self.target.check_change(before, action, view, is_done=is_done, now_ms=now_ms)
        return called

    def _look_into_memory(self, called: tuple[View, Action, Answer] | None = None) -> None:
        if self.session is None:
            return
        try:
            memory = self.live_view()
            self.oracle.saw_memory(memory)
            with self._in_its_process():
                self.session.self_check()
                self.target.check_session(
                    self.session,
                    self.oracle.settled,
                    called,
                    now_ms=self.environment.now_ms,
                    looks=not self._armed,
                )
        except Violation:
            raise
        except Exception as error:
            forget_frames(error)
            if self._armed:
                return
            raise Violation("still-usable-after-the-fault", f"the live view fails with {error!r}") from error

    def _naming_open_transactions(self) -> contextlib.AbstractContextManager[None]:
        """A violation in this scope says so if a transaction is open."""
        return naming_open_transactions(self.note_of_open_transaction)

    def note_of_open_transaction(self) -> str:
        """What a message adds if a transaction is open, and why it is, if that is known; "" if none is."""
        return self._no_rollback or of_any_open_transaction(self.directory)

    def note_of_transaction_met(self) -> str:
        """The same, of one that the last call has met, and may have rolled back as it failed by that."""
        return self._found_open or self.note_of_open_transaction()

    def fresh_view(self, *, integrity: bool = True) -> View:
        """The view of a fresh reader past the shim; raises `Violation` if it can't read, or the file is damaged."""
        return self._reader.view(self.session, integrity=integrity)

    def contents(self) -> list[Any]:
        """Every row of the store's database, also those that its view does not show; see `contents_of`."""
        return self._reader.contents()

    def journal_mode(self) -> str:
        """SQLite's journal mode to a reader past the shim; "" if there is no database."""
        return self._reader.journal_mode()

    def look_after_crash(self, files: Files, reopened: Reopened | None = None) -> None:
        """Open a crash copy as a restarted process would and judge its view; `reopened` caches equal copies."""
        if reopened is None:
            home = self.directory.with_name("crash-of-" + self.directory.name)
            reopened = Reopened(self.target, self.oracle.configuration, home)
        self.oracle.saw_after_crash(reopened.view_of(files, self.environment.now_ms, self.directory))

    def look_after_restart(self, *, crashed: bool, memory: bool = True) -> None:
        """Check for the first time after a restart; after a crash a maybe-committed write may have come back.

        Reading memory may read the file, and data once read can't fail any more: without `memory` the session stays
        cold. Where the opening failed, a state that is not allowed is judged at the next one, as in `look`.
        """
        try:
            disk = self.fresh_view()
            if crashed:
                self.oracle.crashed(disk)
            else:
                # The last connection has removed the log.
                self.oracle.lost = ()
            self.oracle.saw_disk(disk)
        except Violation:
            if not self._failed_to_open:
                raise
            return
        self._unjudged = None
        self._keep_the_rules()
        if memory:
            self._look_into_memory()

    def heartbeat(self) -> None:
        """With nothing armed, one small change has to work, and to leave everything else alone."""
        if self.session is None:
            self.reopen()
        before = self.oracle.settled
        self.beat()
        self.judge_heartbeat(before, self.fresh_view())

    def beat(self) -> None:
        """Make the small change; raises `Violation` if it fails."""
        if getattr(self.target, "deterministic", False):
            # It must not draw the values of the same call at this step.
            self.environment.now_ms += 1
        try:
            self.call_session(self.target.heartbeat())
        except TookTooLongError as hang:
            raise self._hung(hang) from None
        except Exception as error:
            left_open = self.note_of_open_transaction()
            raise Violation("still-usable-after-the-fault", f"{NEXT_FAILS}: {error!r}{left_open}") from error

    def beat_again(self) -> None:
        """Repeat the small change; the store may refuse it."""
        try:
            self.call_session(self.target.heartbeat())
        except Exception as error:
            forget_frames(error)
            if not isinstance(error, Refused) and not says_no(error):
                raise

    def judge_heartbeat(self, before: View, disk: View) -> None:
        """Compare disk and memory after the small change with the state before it."""
        self.oracle.heard(Answer("done"), disk)
        if not adds_one_key(before, disk, self.target.beat_touches):
            left_open = self._no_rollback or self._carried(before, disk) or of_any_open_transaction(self.directory)
            did = DID_NOTHING if not left_open and disk == before and self._shows(before) else _CHANGED_OTHERS
            raise Violation("acknowledged-is-durable", f"{did}{left_open}", {"expected": before, "disk": disk})
        with self._naming_open_transactions():
            self.oracle.saw_disk(disk)
            self._look_into_memory()

    def _shows(self, view: View) -> bool:
        try:
            return self.live_view() == view
        except Exception as error:  # noqa: BLE001 - a store that can't be read is judged by other checks
            forget_frames(error)
            return False

    def _carried(self, before: View, disk: View) -> str:
        """The note where the small change has written what a failed call had left in its transaction or in memory."""
        changed = {key for key in before if disk.get(key, ABSENT) != before[key]} | (disk.keys() - before.keys())
        wanted = self._failed_at
        if wanted is None or not any(
            wanted.get(key, ABSENT) == disk.get(key, ABSENT) != before.get(key, ABSENT) for key in changed
        ):
            return ""
        return ": it wrote the change of the failed call before it, too, from an open transaction or from memory"

    def reopen(self) -> None:
        """Open again, with nothing armed: it has to work."""
        try:
            self.open()
        except TookTooLongError as hang:
            raise self._hung(hang) from None
        except Exception as error:
            raise Violation(
                "still-usable-after-the-fault", f"the fault is gone, and opening again fails: {error!r}"
            ) from error
