"""A session of a target in use: opened, called, closed, with faults armed and limits in force, at a time of its own.

It makes each call as a program would, and notes what an error leaves behind; it checks nothing (`trial` does).
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
from tornpage.scenarios.execution.code_under_test import stood_at
from tornpage.scenarios.execution.dropped import closed_by_threads, collected
from tornpage.scenarios.execution.frames import forget_frames
from tornpage.scenarios.execution.generic_checks.file_modes import StrictUmask
from tornpage.scenarios.execution.generic_checks.open_connections import (
    leaves_a_transaction,
    naming_open_transactions,
    of_an_open_transaction,
    of_any_open_transaction,
)
from tornpage.scenarios.execution.in_place import in_life
from tornpage.scenarios.execution.snapshots import Files, Holder, beside, require_let_go
from tornpage.scenarios.execution.temporary_names import drawn_for
from tornpage.scenarios.model.clock import Clock
from tornpage.scenarios.model.judging.answers import as_data
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.oracle import Answer
from tornpage.scenarios.model.target import (
    Action,
    Configuration,
    Environment,
    LoopInUseError,
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


# What most of a view consists of; a value of another type is copied if it has to be.
_PLAIN: Final = frozenset({str, int, float, bool, bytes, type(None)})


def _copied(value: Any) -> Any:
    """A copy of a view: a store may return its own object, and change it later."""
    if isinstance(value, dict):
        return {key: one if type(one) in _PLAIN else _copied(one) for key, one in value.items()}
    return [_copied(one) for one in value] if isinstance(value, list) else value


class HangsError(TargetError):
    """A call does not return without any fault: the target can't be tested so."""


class SessionInUse:
    """A session of a target on a directory, under possible faults."""

    def __init__(self, target: Target, configuration: Configuration, directory: Path) -> None:
        self.target = completed(target)
        self.configuration = configuration
        self.directory = directory
        binding = binding_of(target)
        # The statement depth replaces a DB-API connect function, which apsw does not have.
        self.statements = faults.StatementDepth(binding if hasattr(binding, "connect") else sqlite3)
        self.connections = faults.Connections(self.statements.connect, self.statements.module)
        self.environment = environment_of(target)
        self.clock = Clock(step_ms=self.target.clock_step_ms)
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
        self._armed = 0
        self._was_troubled = False
        self._limits: list[faults.Limit] = []
        # Connections that the session has dropped in a transaction.
        self._dropped: list[Any] = []
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
            return self.target.open(directory, self.configuration, environment)

    def _hung(self, hang: TookTooLongError) -> Violation | TargetError:
        """The error for a call that did not return: without any fault the target can't be tested."""
        forget_frames(hang)
        if not self._was_troubled:
            where = stood_at(hang, self.target)
            stood = f"; it stood at {where}" if where else ""
            return HangsError(f"{self.target.name}: {hang}, without any fault{stood}")
        return Violation("still-usable-after-the-fault", str(hang))

    # -- steps ---------------------------------------------------------------------------------------------

    def at_step(self, step: int) -> None:
        """Set the clock: the same step has the same time in every run."""
        self.environment.now_ms = self.clock.at(step)

    def set_clock(self, clock: Clock, step: int) -> None:
        """Replace the clock, from this step on."""
        self.clock = clock
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

    def ask(self, action: Action) -> Answer:
        """Make one call of which the oracle hears nothing, such as one that only reads."""
        return self._ask(action)

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
                returned = self.perform(action)
        except Refused as refusal:
            forget_frames(refusal)
            return Answer("refused", refusal)
        except TookTooLongError as hang:
            raise self._hung(hang) from None
        except LoopInUseError:
            raise
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

    def perform(self, action: Action) -> object:
        """Open, close or call the session; passes on what it raises."""
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

    def _close_under_fault(self) -> None:
        session, self.session = self.session, None
        try:
            if session is not None:
                with in_time("closing the store"), self._in_its_process(), self._names_of_files("close"):
                    session.close()
        finally:
            self._holder.release()

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

    def _naming_open_transactions(self) -> contextlib.AbstractContextManager[None]:
        """A violation in this scope says so if a transaction is open."""
        return naming_open_transactions(self.note_of_open_transaction)

    def note_of_open_transaction(self) -> str:
        """What a message adds if a transaction is open, and why it is, if that is known; "" if none is."""
        return self._no_rollback or of_any_open_transaction(self.directory)

    def note_of_transaction_met(self) -> str:
        """The same, of one that the last call has met, and may have rolled back as it failed by that."""
        return self._found_open or self.note_of_open_transaction()
