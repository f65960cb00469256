"""The two callers: a session each, on a thread of this process or in another process; or one session for both.

All three kinds support the same operations: open, make a call by turns, return the view, close.
"""

import contextlib
import os
import select
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from tornpage import faults
from tornpage.faults import files
from tornpage.faults.child_processes import belongs_to_the_harness
from tornpage.faults.contention.caller import Caller
from tornpage.faults.contention.idle import Quiet
from tornpage.faults.contention.schedule import Deadlock, alone
from tornpage.faults.contention.turns import Ended, Event, Gate, Hung, Waiting
from tornpage.faults.garbage import collect
from tornpage.scenarios.execution.frames import forget_frames
from tornpage.scenarios.execution.generic_checks.open_connections import of_any_open_transaction
from tornpage.scenarios.execution.kill.supervisor import environment_for_children
from tornpage.scenarios.execution.session_in_use import OPEN
from tornpage.scenarios.execution.snapshots import require_let_go
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.ambient import calling_as
from tornpage.scenarios.model.clock import Clock
from tornpage.scenarios.model.judging.answers import NotCompared
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.oracle import Answer
from tornpage.scenarios.model.judging.refusals import is_mistake, keeps_from_opening, says_no
from tornpage.scenarios.model.scenario import Callers
from tornpage.scenarios.model.target import Action, Configuration, Target, TargetError, View

_STARTS_WITHIN_S: Final = 60.0
_POLL_S: Final = 0.005
_POLLS: Final = 4_000


class Said(msgspec.Struct, frozen=True):
    """A caller's answer: as `oracle.Answer`, without the error object; `detail` is its text.

    `busy`: SQLite reported that another connection holds the lock. `is_mistake`, `says_no`: see `refusals`.
    """

    kind: str
    value: Any = None
    detail: str = ""
    busy: bool = False
    certainty: str | None = None
    is_mistake: bool = False
    says_no: bool = False

    @classmethod
    def of(cls, answer: Answer) -> Self:
        """The data of an answer."""
        error = answer.error
        detail = "" if error is None else f"{type(error).__name__}: {error}".removesuffix(": ")
        busy = error is not None and any(faults.is_busy(cause) for cause in faults.causes(error))
        broken = answer.kind == "raised" and error is not None and not busy and is_mistake(error)
        refused = answer.kind == "raised" and says_no(error)
        return cls(answer.kind, answer.value, detail, busy, answer.certainty, broken, refused)

    def __str__(self) -> str:
        if self == PENDING:
            return "did not end"
        if self.kind == "done":
            return "acknowledged" if self.value is None or isinstance(self.value, NotCompared) else repr(self.value)
        return f"{'refused' if self.kind == 'refused' else 'failed'} ({self.detail})"


PENDING: Final = Said("pending")
"""The answer of a call that has not ended."""


class Setting(msgspec.Struct, frozen=True):
    """The directory and time at which a session is opened."""

    home: Path
    configuration: Configuration
    step: int
    clock: Clock = Clock()


def opened(target: Target, setting: Setting) -> Trial:
    """A session that has just been opened; passes on what the target raises."""
    trial = Trial(target, setting.configuration, setting.home, {})
    trial.set_clock(setting.clock, setting.step)
    trial.is_alone = False
    return trial.open()


def opened_by_turns(target: Target, setting: Setting) -> tuple[Trial | None, Said]:
    """A session that is opened as a call is made, and the answer; None if the store can't be opened now."""
    try:
        return opened(target, setting), Said("done")
    except (TargetError, Violation):
        raise
    except Exception as error:  # noqa: BLE001 - the answer of the store
        said = msgspec.structs.replace(Said.of(Answer("raised", error=error)), is_mistake=keeps_from_opening(error))
        # What it has opened until then ends with the error.
        forget_frames(error)
    collect()
    return None, said


def made(trial: Trial, action: Action) -> Said:
    """Make a call; the opening of the store has been made."""
    return Said("done") if action == OPEN else Said.of(trial.call_by_stages(action)[0])


def shown(trial: Trial) -> View:
    """The session's view, after the rules of every state and its own checks; raises `Violation`."""
    try:
        view = trial.live_view()
        # A wrong state says more than the session's error about it.
        trial.target.check_view(view)
        if trial.session is not None:
            trial.session.self_check()
    except Violation:
        raise
    except Exception as error:
        raise Violation("still-usable-after-the-fault", f"the live view fails with {error!r}") from error
    return view


def closed(trial: Trial) -> None:
    """Close the session; raises `Violation`. Open files are checked when both are closed."""
    try:
        if trial.session is not None:
            trial.session.close()
    except Violation:
        raise
    except Exception as error:
        still_open = of_any_open_transaction(trial.directory)
        # A connection that stays open keeps its locks, which the next schedule would meet.
        forget_frames(error)
        trial.session = None
        collect()
        raise Violation("still-usable-after-the-fault", f"closing fails: {error!r}{still_open}") from error
    finally:
        trial.session = None


class OnThread:
    """A session on a thread of this process; `other`: the same session, called on another thread."""

    def __init__(self, name: str, target: Target, gate: Gate, other: "OnThread | None" = None, *, shared: bool = False):
        self.name = name
        self._target = target
        self.other = other
        self._gate = gate
        self._caller = Caller(name, gate, at_calls=shared, at_requests=shared)
        self._is_shared = shared
        self._trial: Trial | None = None
        # The store, if it is asynchronous and shared: its calls are made on its loop, which this thread runs.
        self.on_loop: Any = None
        self._work: Callable[[], Said] | None = None

    @property
    def trial(self) -> Trial:
        """The session that it calls."""
        trial = self._trial if self.other is None else self.other.trial
        if trial is None:
            raise RuntimeError(f"{self.name} has no session")
        return trial

    def open(self, setting: Setting) -> None:
        """Open the session, unless it shares the other one's."""
        if self.other is not None:
            self.on_loop = self.other.on_loop
            return
        self._trial = self._do(lambda: opened(self._target, setting))
        if self._is_shared and (store := self._asynchronous()) is not None:
            if self.on_loop is None:
                # Its connections may belong to the thread that has opened it.
                self._caller.do(lambda: closed(self.trial))
                self._trial = opened(self._target, setting)
                store = self._asynchronous()
            self.on_loop = store
        self.trial.around_call = self._gate.watching

    def _asynchronous(self) -> Any:
        """The store, if it was given to `awaited`."""
        # It loads asyncio, which no other store needs.
        awaited = sys.modules.get("tornpage.scenarios.model.awaited")
        store = getattr(self.trial.session, "_store", None)
        return store if awaited is not None and isinstance(store, awaited.Awaited) else None

    def _do(self, work: Callable[[], Any]) -> Any:
        return self._caller.do(work) if self.on_loop is None else work()

    def work(self, action: Action) -> Callable[[], Said]:
        """What makes a call."""
        trial = self.trial

        def work() -> Said:
            with calling_as(self.name):
                return made(trial, action)

        return work

    def start_to_open(self, setting: Setting, stops: frozenset[int]) -> None:
        """Set the opening of the session as its work."""

        def work() -> Said:
            self._trial, said = opened_by_turns(self._target, setting)
            return said

        self._caller.start(work, stops)

    def at_step(self, step: int) -> None:
        """Set the clock of its session."""
        self.trial.at_step(step)

    def start(self, action: Action, stops: frozenset[int]) -> None:
        """Set the call to make, and the points to stop before."""
        self._work = self.work(action)
        if self.on_loop is None:
            self._caller.start(self._work, stops)

    def go(self) -> Event:
        """Give it the turn."""
        if self.on_loop is not None and self._work is not None:
            return Ended(0, self._work())
        event = self._caller.go()
        if isinstance(event, Ended) and isinstance(event.result, BaseException):
            raise event.result
        return event

    def expire(self) -> None:
        """Let the time limit of its wait pass."""
        self._caller.expire()

    @property
    def called(self) -> list[sqlite3.Connection]:
        """The connections that its call has called so far, as far as its points are such calls."""
        return [one for one in self._caller.called if one is not None]

    def look(self) -> View:
        """The session's view; raises `Violation`."""
        trial = self.trial
        view: View = self._do(lambda: shown(trial))
        return view

    def close(self) -> None:
        """Close the session."""
        if self._trial is not None:
            trial, self._trial = self._trial, None
            self._do(lambda: closed(trial))

    def end(self) -> None:
        """End the thread."""
        self._caller.close()


class Ask(msgspec.Struct, frozen=True):
    """A request to the process: fork, open, step, start to open, call, go, look or close."""

    what: str
    argument: Any = None


class InProcess:
    """A session in another process, which lives as long as its caller is needed.

    Raises `TargetError` if the target can't be loaded there, or the process ends.
    """

    def __init__(self, name: str, target: Target) -> None:
        self.name = name
        self._target_name = target.name
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own program, and no shell
                [sys.executable, "-m", "tornpage.scenarios.execution.interleave.worker", target.name,
                 str(theirs.fileno())],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, env=environment_for_children(), start_new_session=True,
            )  # fmt: skip
        belongs_to_the_harness(self._process.pid)
        self._pipe = Connection(ours.detach())
        self._runs = False
        # Its child, in which the session is, where that is to be killed; whether it has been.
        self._child: int | None = None
        self._is_killed = False
        # Whether it answers requests; a process that does not gets no further ones.
        self.fit = True
        if (why := self._hear(_STARTS_WITHIN_S)) is not None:
            self.end()
            raise TargetError(f"{target.name} can't be loaded in another process: {why}")

    def open(self, setting: Setting) -> None:
        """Open the session."""
        self._do(Ask("open", setting))

    def open_to_be_killed(self, setting: Setting) -> None:
        """Open the session in a child of the process, which starts faster than another process."""
        self._child, self._is_killed = self._do(Ask("fork")), False
        self.open(setting)

    def start_to_open(self, setting: Setting, stops: frozenset[int]) -> None:
        """Set the opening of the session as its work."""
        self._pipe.send(Ask("start to open", (setting, stops)))

    def kill(self) -> None:
        """Kill the child, and wait until the system has released its locks."""
        assert self._child is not None  # noqa: S101 - opened for it
        os.kill(self._child, signal.SIGKILL)
        self._hear(_STARTS_WITHIN_S)
        self._child, self._is_killed, self._runs = None, True, False

    def at_step(self, step: int) -> None:
        """Set the clock of its session."""
        self._do(Ask("step", step))

    def start(self, action: Action, stops: frozenset[int]) -> None:
        """Set the call to make, and the points to stop before."""
        self._pipe.send(Ask("call", (action, stops)))

    def go(self) -> Event:
        """Give it the turn."""
        if self._is_killed:
            return Ended(0, PENDING)
        if not self._runs:
            # A blocked caller has had its turn ever since.
            self._pipe.send(Ask("go"))
        self._runs = True
        quiet = Quiet(self._child or self._process.pid)
        for _ in range(_POLLS):
            if self._is_heard(_POLL_S):
                self._runs = False
                event: Event = self._answer()
                return event
            if quiet.lasts():
                self.fit = False
                return Waiting("blocked", "in the other process")
        return Hung("in the other process")

    def look(self) -> View:
        """The session's view; raises `Violation`."""
        view: View = self._do(Ask("look"))
        return view

    def close(self) -> None:
        """Close the session, if it has not been killed."""
        if not self._is_killed:
            self._do(Ask("close"))
        self._child, self._is_killed = None, False

    def end(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):
            self._pipe.close()
        if not self.fit:
            self._kill_all()
        with self._process:
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._kill_all()

    def _kill_all(self) -> None:
        """Kill the process and its children: it has a process group of its own."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def _do(self, ask: Ask) -> Any:
        self._pipe.send(ask)
        return self._hear(_STARTS_WITHIN_S)

    def _hear(self, within_s: float) -> Any:
        if not self._is_heard(within_s):
            self.fit = False
            self._kill_all()
            raise TargetError(f"{self._target_name} hangs in its own process: no answer in {within_s:.0f} s")
        return self._answer()

    def _is_heard(self, within_s: float) -> bool:
        """Whether there is an answer. `Connection.poll` would measure its limit by the virtual clock, which stands."""
        asked = select.poll()
        asked.register(self._pipe.fileno(), select.POLLIN)
        return bool(asked.poll(within_s * 1000))

    def _answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            self.fit = False
            self._kill_all()
            said = self._process.stderr.read().decode(errors="replace").strip() if self._process.stderr else ""
            raise TargetError(f"the process of {self._target_name} ended: {said or 'it printed nothing'}") from error
        if isinstance(answer, Wrong):
            raise answer.as_error()
        return answer


class Wrong(msgspec.Struct, frozen=True):
    """Something that was raised in the other process."""

    message: str
    code: str = ""
    sides: dict[str, Any] = {}

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """The data of an error."""
        if isinstance(error, Violation):
            return cls(error.message, error.code, error.sides)
        return cls(str(error) if isinstance(error, TargetError) else repr(error))

    def as_error(self) -> Exception:
        """The same here."""
        return Violation(self.code, self.message, self.sides) if self.code else TargetError(self.message)


Session = OnThread | InProcess


def made_by(session: Session, action: Action, setting: Setting) -> Said:
    """Make a call in a session that is opened for it, on the thread or in the process of this caller."""
    owner = (session.other or session) if isinstance(session, OnThread) else session
    owner.open(setting)
    try:
        session.start(action, frozenset())
        said: Said = alone(session).result
    except Deadlock as deadlock:
        raise Violation("deadlock", f"{action} does not return, although no other call runs: {deadlock}") from deadlock
    else:
        return said
    finally:
        owner.close()


_shared: dict[str, InProcess] | None = None


@contextlib.contextmanager
def shared_processes() -> Iterator[None]:
    """Inside this scope the process of a second caller is kept for the next pair; scopes nest."""
    global _shared  # noqa: PLW0603 - one to a process, as the processes are
    if _shared is not None:
        yield
        return
    _shared = {}
    try:
        yield
    finally:
        kept, _shared = _shared, None
        for one in kept.values():
            one.end()


@contextlib.contextmanager
def _process(target: Target) -> Iterator[InProcess]:
    made = _shared.pop(target.name, None) if _shared is not None else None
    made = made or InProcess("B", target)
    try:
        yield made
    finally:
        if _shared is not None and made.fit and target.name not in _shared:
            _shared[target.name] = made
        else:
            made.end()


@contextlib.contextmanager
def pair(target: Target, callers: Callers, home: Path) -> Iterator[tuple[Session, Session]]:
    """Two callers of stores in `home`, within an installed shim; all ends with the scope.

    The first is on a thread of this process, the second as `callers` says.
    """
    gate, shims = Gate(), faults.shims()
    with contextlib.ExitStack() as scope:
        shared = callers == "shared"
        first = OnThread("A", target, gate, shared=shared)
        scope.callback(first.end)
        second: Session
        if callers == "processes":
            second = scope.enter_context(_process(target))
        else:
            second = OnThread("B", target, gate, first if shared else None, shared=shared)
            scope.callback(second.end)
        scope.enter_context(faults.waiting_in_virtual_time(shims))
        scope.enter_context(files.watching(faults.OnPath(gate, home)))
        if not shared:
            scope.enter_context(shims.watching(faults.OnPath(gate, home)))
        yield first, second


def both_closed(sessions: tuple[Session, Session], home: Path) -> None:
    """Close both; raises `Violation` if that fails, or leaves files open in this process."""
    first, second = sessions
    try:
        second.close()
    finally:
        first.close()
    require_let_go(home)
