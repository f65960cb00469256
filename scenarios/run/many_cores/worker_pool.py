"""Parts of searches in concurrent processes: the same findings in the same order as sequentially.

Each process runs one part after the other, started and collected in their order; early results wait. A part's events
come through a pipe; they can be shown live, and are handed over as a whole.

Ctrl-C tells all processes to stop, and they hand over what they have; a second one ends the run at once. A part whose
process is killed is repeated once in another one; the events of the first try are discarded, so nothing counts twice.

A process that should stop (asked, or out of time) and then reports nothing for half a minute is killed: the code
under test hangs in C, where no signal reaches Python.
"""

import contextlib
import multiprocessing
import pickle
import signal
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event as Flag
from time import monotonic
from types import TracebackType
from typing import Final, Self

import msgspec

from tornpage import faults
from tornpage.scenarios.model.events import Event, Finding, PointTried
from tornpage.scenarios.model.plan import Plan
from tornpage.scenarios.model.work import Done, Part
from tornpage.scenarios.run.crashes import show_the_stack, why_it_died
from tornpage.scenarios.run.stop import note, signals_to
from tornpage.scenarios.search.recorder import Recorder, Transcript

# A part, and the name of the search that it is of.
Job = tuple[str, Part]
# Runs parts in this process while its scope is open; called with the target's name and the plan.
Work = Callable[[str, Plan], AbstractContextManager[Callable[[Job, Recorder], Done]]]
Live = Callable[[str, Event], None]

_BATCH_S: Final = 0.5
_LIVES: Final = 2
# How many parts per process may finish before they are collected: a long one must not stop the others.
_AHEAD: Final = 64
_ENDS_WITHIN_S: Final = 5.0
_LOOKS_AGAIN_AFTER_S: Final = 1.0
_STOPS_WITHIN_S: Final = 30.0


class Result(msgspec.Struct):
    """The result of one part: its transcript and its counts."""

    transcript: Transcript
    done: Done


class DiedError(RuntimeError):
    """The process of a part was killed, and so was that of its second try; `ends` if no other part should be tried."""

    def __init__(self, message: str, *, ends: bool = True) -> None:
        super().__init__(message)
        self.ends = ends


class _Child:
    """A process, and the part that it is running."""

    def __init__(self, process: BaseProcess) -> None:
        self.process = process
        self.job: Job | None = None
        self.events: list[Event] = []


class WorkerPool:
    """A context manager with `plan.jobs` processes, which run `jobs` in order. `result` waits for one of them."""

    def __init__(
        self,
        work: Work,
        target_name: str,
        plan: Plan,
        accepts: Callable[[Finding], str],
        jobs: Iterator[Job],
        live: Live,
    ) -> None:
        self._job = work, target_name, plan, accepts
        self._live = live
        self._most = plan.jobs
        self._until = None if plan.max_time_s is None else monotonic() + plan.max_time_s
        # Each search has its share of the time that is left when it begins; unused time goes to the others.
        self._deadlines: dict[str, float] = {}
        self._searches = plan.searches
        self._context = multiprocessing.get_context("spawn")
        self._stop = self._context.Event()
        self._jobs = jobs
        self._again: deque[Job] = deque()
        self._deaths: dict[Job, int] = {}
        self._exit_codes: dict[Job, int | None] = {}
        self._dropped: set[str] = set()
        self._results: dict[Job, Result | None] = {}
        self._running: dict[Connection, _Child] = {}
        self._scope = contextlib.ExitStack()
        self._stops_within_s = max(_STOPS_WITHIN_S, 3 * plan.call_timeout_s)
        self._heard_at = monotonic()

    def __enter__(self) -> Self:
        self._scope.enter_context(signals_to(self._interrupt))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._scope:
            for pipe, child in self._running.items():
                if child.job is None:
                    with contextlib.suppress(OSError):
                        pipe.send(None)
                else:
                    child.process.kill()
            for pipe, child in self._running.items():
                child.process.join(_ENDS_WITHIN_S)
                if child.process.exitcode is None:
                    child.process.kill()
                    child.process.join()
                pipe.close()

    @property
    def interrupted(self) -> bool:
        """Whether the user has stopped it."""
        return self._stop.is_set()

    def result(self, job: Job) -> Result | None:
        """Wait for the result of a part; None for one that was not started because of the time limit or an interrupt.

        Raises `DiedError`.
        """
        self._begin()
        while job not in self._results and any(child.job is not None for child in self._running.values()):
            heard = wait(list(self._running), _LOOKS_AGAIN_AFTER_S)
            for pipe in heard:
                assert isinstance(pipe, Connection)  # noqa: S101 - nothing else was waited for
                self._hear(pipe)
            self._kill_the_silent(has_heard=bool(heard))
            self._begin()
        if job not in self._results:
            return None
        result = self._results.pop(job)
        if result is None:
            raise DiedError(why_it_died(self._exit_codes.get(job)))
        return result

    def drop(self, search: str) -> None:
        """Drop the other parts of this search: they are no longer needed."""
        self._dropped.add(search)
        self._results = {job: result for job, result in self._results.items() if job[0] != search}

    # -- distribution -----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Give every idle process a part, as long as there are any."""
        while (idle := self._idle()) is not None and (job := self._next()) is not None:
            pipe, child = idle
            child.job, child.events = job, []
            # The end of a process is noticed when it is waited for.
            with contextlib.suppress(OSError):
                pipe.send((job, self._seconds_of(job[0])))

    def _seconds_of(self, search: str) -> float | None:
        """How long a part of this search may take; None: without a limit."""
        if self._until is None:
            return None
        now = monotonic()
        if search not in self._deadlines:
            left = len(self._searches) - self._searches.index(search) if search in self._searches else 1
            self._deadlines[search] = now + (self._until - now) / left
        return max(self._deadlines[search] - now, 0)

    @property
    def _is_ending(self) -> bool:
        return self.interrupted or (self._until is not None and monotonic() > self._until)

    def _kill_the_silent(self, *, has_heard: bool) -> None:
        """Kill who should have stopped and reports nothing any more."""
        if has_heard or not self._is_ending:
            self._heard_at = monotonic()
        elif monotonic() - self._heard_at > self._stops_within_s:
            for child in self._running.values():
                if child.job is not None:
                    child.process.kill()

    def _next(self) -> Job | None:
        if self._is_ending:
            return None
        while self._again:
            if (job := self._again.popleft())[0] not in self._dropped:
                return job
        if len(self._results) >= _AHEAD * self._most:
            return None
        for job in self._jobs:
            if job[0] in self._dropped:
                continue
            if self._seconds_of(job[0]) != 0:
                return job
            # The time of its search is over.
            self._results[job] = Result(Recorder().transcript(), Done())
        return None

    def _idle(self) -> tuple[Connection, _Child] | None:
        for pipe, child in self._running.items():
            if child.job is None:
                return pipe, child
        return self._started() if len(self._running) < self._most else None

    def _started(self) -> tuple[Connection, _Child]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._stop, *self._job), name="tornpage")
        # Ignored from its first moment on: Ctrl-C reaches every process of the terminal.
        with signals_to(signal.SIG_IGN):
            process.start()
        # With our copy open, its end would never be noticed.
        theirs.close()
        self._running[ours] = child = _Child(process)
        return ours, child

    def _hear(self, pipe: Connection) -> None:
        child = self._running[pipe]
        try:
            heard: list[Event] | Result = pipe.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            self._died(pipe, child)
            return
        if child.job is None:
            return
        search = child.job[0]
        if isinstance(heard, Result):
            transcript = heard.transcript._replace(events=child.events)
            if search not in self._dropped:
                self._results[child.job] = Result(transcript, heard.done)
            child.job = None
            return
        child.events += heard
        for event in heard:
            self._live(search, event)

    def _died(self, pipe: Connection, child: _Child) -> None:
        pipe.close()
        del self._running[pipe]
        child.process.join()
        job = child.job
        if job is None or self.interrupted:
            return
        self._deaths[job] = self._deaths.get(job, 0) + 1
        self._exit_codes[job] = child.process.exitcode
        if self._deaths[job] < _LIVES:
            self._again.append(job)
        else:
            self._results[job] = None

    def _interrupt(self, number: int, _frame: object) -> None:
        """The first signal only sets the flag, so that no received event is lost; the second one ends everything."""
        note(number)
        self._stop.set()


# -- in the other process ------------------------------------------------------------------------------------


def _serve(
    pipe: Connection, stop: Flag, work: Work, target_name: str, plan: Plan, accepts: Callable[[Finding], str]
) -> None:
    """Run the requested parts until the pipe closes."""
    show_the_stack()
    begun: set[str] = set()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError), work(target_name, plan) as do:
        while (asked := pipe.recv()) is not None:
            job, seconds = asked
            alone = msgspec.structs.replace(plan, max_time_s=seconds)
            sender = Sender(pipe.send)
            result = done_alone(do, job, alone, accepts, sender, stop.is_set)
            sender.send()
            pipe.send(result)
            if job[0] not in begun:
                # Its modules are loaded now. A tenth of the time would go into looking for garbage in them, and a check
                # that looks for open connections would go through them at each point.
                begun.add(job[0])
                faults.freeze()


def done_alone(
    do: Callable[[Job, Recorder], Done],
    job: Job,
    plan: Plan,
    accepts: Callable[[Finding], str],
    hear: Callable[[Event], None],
    told_to_stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Run a part alone: `hear` receives its events, the result can be sent to another process."""
    recorder = Recorder(
        (hear,),
        keep=lambda _: "",
        deadline=None if plan.max_time_s is None else monotonic() + plan.max_time_s,
        most_findings=plan.most_findings,
        accepts=accepts,
        told_to_stop=told_to_stop,
        shorter=plan.profile.shorter,
    )
    done = do(job, recorder)
    if done.error is not None:
        # The context of its error can't be sent.
        done.error.__traceback__ = None
    return Result(recorder.transcript(), done)


class Sender:
    """Sends events on: single points some at a time."""

    def __init__(self, send: Callable[[list[Event]], None]) -> None:
        self._send = send
        self._batch: list[Event] = []
        self._sent = monotonic()

    def __call__(self, event: Event) -> None:  # noqa: D102 - a handler's one method
        self._batch.append(event)
        if not isinstance(event, PointTried) or monotonic() - self._sent > _BATCH_S:
            self.send()

    def send(self) -> None:
        """Send the collected events."""
        if self._batch:
            self._send(self._batch)
            self._batch, self._sent = [], monotonic()
