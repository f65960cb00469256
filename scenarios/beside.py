"""Searches beside each other, each in a process of its own: the same findings in the same order as one after the other.

A search is the unit: it shares nothing with the others but the target's name, so what it comes to does not depend on
when it runs, or beside whom. What each tells comes through a pipe; it can be seen live, and is handed over as a whole.

Ctrl-C tells all of them to stop, and they hand over what they have. A search whose process is killed begins anew, once;
what the first had told is forgotten, so that nothing counts twice.
"""

import contextlib
import multiprocessing
import pickle
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event as Flag
from typing import Any, Final

import msgspec

from scenarios.events import Event, Finding, PointTried
from scenarios.profiles import Plan
from scenarios.recorder import Recorder

# Searches as the plan wants, and tells the recorder; it is imported by its name in the other process.
Work = Callable[[str, Plan, Recorder], None]
Live = Callable[[str, Event], None]

_BATCH_S: Final = 0.5
_LIVES: Final = 2


class Came(msgspec.Struct):
    """What one search told, in order, how often it met what, and what kept it from going on."""

    events: list[Event]
    repeats: Counter[Any]
    error: BaseException | None = None


class _End(msgspec.Struct):
    """The last thing that a process says: what it counted, and why it could not go on."""

    repeats: Counter[Any]
    error: BaseException | None = None


class _Child:
    """A process at work on one search."""

    def __init__(self, name: str, process: BaseProcess) -> None:
        self.name, self.process = name, process
        self.events: list[Event] = []
        self.end: _End | None = None


class Beside:
    """Runs the searches of a plan, `plan.jobs` at a time; `came` has what each came to, None for one that died."""

    def __init__(self, work: Work, target_name: str, plan: Plan, accepts: Callable[[Finding], str], live: Live) -> None:
        self.came: dict[str, Came | None] = {}
        self._job = work, target_name, plan, accepts
        self._live = live
        self._jobs = plan.jobs
        self._until = None if plan.max_time_s is None else time.monotonic() + plan.max_time_s
        self._context = multiprocessing.get_context("spawn")
        self._stop = self._context.Event()
        self._left = deque(plan.searches)
        self._lives = dict.fromkeys(plan.searches, _LIVES)
        self._running: dict[Connection, _Child] = {}

    def run(self) -> None:
        """Run all of them to their ends, or until they are told to stop."""
        try:
            with self._interruptible():
                while self._running or (self._left and not self._stop.is_set()):
                    while self._left and len(self._running) < self._jobs and not self._stop.is_set():
                        self._start(self._left.popleft())
                    for pipe in wait(list(self._running)):
                        assert isinstance(pipe, Connection)  # noqa: S101 - nothing else was waited for
                        self._hear(pipe)
        finally:
            for child in self._running.values():
                child.process.kill()
                child.process.join()

    @property
    def interrupted(self) -> bool:
        """Whether the user has stopped it."""
        return self._stop.is_set()

    def _start(self, name: str) -> None:
        work, target_name, plan, accepts = self._job
        seconds = None if self._until is None else max(self._until - time.monotonic(), 0)
        alone = msgspec.structs.replace(plan, searches=(name,), max_time_s=seconds, jobs=1)
        ours, theirs = self._context.Pipe(duplex=False)
        arguments = (theirs, self._stop, work, target_name, alone, accepts)
        process = self._context.Process(target=_alone, args=arguments, name=name)
        # Ignored from its first moment on: whoever presses Ctrl-C reaches every process of the terminal.
        with _ignoring_interrupts():
            process.start()
        # With our copy open, its end would never be seen.
        theirs.close()
        self._running[ours] = _Child(name, process)

    def _hear(self, pipe: Connection) -> None:
        child = self._running[pipe]
        try:
            heard: list[Event] | _End = pipe.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            self._ended(pipe, child)
            return
        if isinstance(heard, _End):
            child.end = heard
            return
        child.events += heard
        for event in heard:
            self._live(child.name, event)

    def _ended(self, pipe: Connection, child: _Child) -> None:
        pipe.close()
        del self._running[pipe]
        child.process.join()
        if child.end is not None:
            self.came[child.name] = Came(child.events, child.end.repeats, child.end.error)
            return
        self._lives[child.name] -= 1
        self.came[child.name] = None
        if self._lives[child.name] and not self._stop.is_set():
            self._left.appendleft(child.name)

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Ctrl-C only raises the flag, so that nothing that was heard is lost."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, lambda *_: self._stop.set())
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


# -- in the other process ------------------------------------------------------------------------------------


def _alone(
    pipe: Connection, stop: Flag, work: Work, target_name: str, plan: Plan, accepts: Callable[[Finding], str]
) -> None:
    sender = _Sender(pipe)
    recorder = Recorder(
        (sender,),
        keep=lambda _: "",
        deadline=None if plan.max_time_s is None else time.monotonic() + plan.max_time_s,
        most_findings=plan.most_findings,
        accepts=accepts,
        told_to_stop=stop.is_set,
    )
    try:
        work(target_name, plan, recorder)
    except Exception as error:  # noqa: BLE001 - it is raised where somebody can read it
        error.__traceback__ = None
        failed: Exception | None = error
    else:
        failed = None
    sender.send()
    pipe.send(_End(recorder.repeats, failed))


class _Sender:
    """Sends events through the pipe: single points some at a time."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._batch: list[Event] = []
        self._sent = time.monotonic()

    def __call__(self, event: Event) -> None:
        self._batch.append(event)
        if not isinstance(event, PointTried) or time.monotonic() - self._sent > _BATCH_S:
            self.send()

    def send(self) -> None:
        if self._batch:
            self._pipe.send(self._batch)
            self._batch, self._sent = [], time.monotonic()
