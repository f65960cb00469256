"""Parts of searches on many machines: each is a task on a dask.distributed cluster, joined in order.

Every worker needs tornpage and the target in the same versions, and one thread: a fault below SQLite affects a whole
process. A task returns its events when it ends, so a worker that dies loses only its own task, which another worker
repeats, and nothing counts twice; findings are shown as soon as their task has ended.

Ctrl-C collects the finished tasks and drops the rest. Not covered: clusters whose workers come and go between waits.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any, Final, Self

import dask
import distributed as untyped
import msgspec

from tornpage.scenarios.model.events import Event, Finding
from tornpage.scenarios.model.plan import Plan, without_password
from tornpage.scenarios.model.target import TargetError
from tornpage.scenarios.run.many_cores.worker_pool import DiedError, Job, Live, Result, Work, done_alone
from tornpage.scenarios.run.stop import note, signals_to

# It has types for some of its API.
distributed: Any = untyped
LOCAL: Final = "local"
# The number of tasks sent ahead for each worker.
_AHEAD: Final = 8
_ANSWERS_WITHIN_S: Final = 20
_LOOKS_EVERY_S: Final = 0.5


@contextlib.contextmanager
def connected(address: str, jobs: int) -> Iterator[Any]:
    """A client of the cluster; "local" starts one here with `jobs` workers, or one per processor if that is 1.

    Raises `TargetError` if no cluster responds, or it can't be used.
    """
    with contextlib.ExitStack() as scope:
        place: Any = address
        if address == LOCAL:
            workers = jobs if jobs > 1 else os.cpu_count()
            # Some searches need child processes, and a daemon may not have them.
            scope.enter_context(dask.config.set({"distributed.worker.daemon": False}))
            place = scope.enter_context(
                distributed.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
            )
        try:
            client = scope.enter_context(distributed.Client(place, timeout=_ANSWERS_WITHIN_S))
        except (OSError, ValueError) as error:
            message = f"no cluster answers at {without_password(address)}: {error}; write tcp://HOST:PORT, or local"
            raise TargetError(message) from error
        threads = client.nthreads()
        if not threads or set(threads.values()) != {1}:
            shown = ", ".join(f"{worker}: {many}" for worker, many in sorted(threads.items())) or "none at all"
            raise TargetError(f"every worker has to have one thread (dask worker --nthreads 1); there are {shown}")
        yield client


class Cluster:
    """A context manager; `result` waits for a part. It is `connected` to `plan.cluster` with `plan.jobs`."""

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
        self._plan = plan
        self._live = live
        self._jobs = jobs
        self._until = None if plan.max_time_s is None else time.monotonic() + plan.max_time_s
        self._futures: dict[Job, Any] = {}
        self._ended: dict[Job, Result] = {}
        self._dropped: set[str] = set()
        self._scope = contextlib.ExitStack()
        self._client: Any = None
        self._workers = 0
        self.interrupted = False
        self._is_lost = False
        self._told_lost: set[str] = set()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as scope:
            self._client = scope.enter_context(connected(str(self._plan.cluster), self._plan.jobs))
            self._workers = len(self._client.nthreads())
            scope.enter_context(signals_to(self._interrupt))
            self._scope = scope.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._scope:
            self._cancel(list(self._futures))

    def result(self, job: Job) -> Result | None:
        """Wait for the result of a part; None for one that was not run because of the time limit or an interrupt.

        Raises `DiedError`.
        """
        if job in self._ended:
            # Whatever happens to the other tasks: this one has been shown.
            del self._futures[job]
            return self._ended.pop(job)
        if not self._is_lost:
            try:
                return self._result(job)
            except (CancelledError, distributed.comm.CommClosedError):
                # Only this code cancels tasks: otherwise the scheduler was lost.
                self._is_lost = True
        if job[0] in self._told_lost:
            return None
        self._told_lost.add(job[0])
        # Other parts may have ended before.
        message = (
            f"the cluster at {without_password(str(self._plan.cluster))} was lost; its results until then are reported"
        )
        raise DiedError(message, ends=False)

    def _result(self, job: Job) -> Result | None:
        self._send()
        future = self._futures.get(job)
        while future is not None and not future.done() and not self.interrupted:
            with contextlib.suppress(distributed.TimeoutError):
                distributed.wait(list(self._futures.values()), timeout=_LOOKS_EVERY_S, return_when="FIRST_COMPLETED")
            self._show()
            if all(other.done() for one, other in self._futures.items() if one != job):
                with contextlib.suppress(distributed.TimeoutError):
                    distributed.wait([future], timeout=_LOOKS_EVERY_S)
        if future is None or not future.done():
            return None
        self._show()
        del self._futures[job]
        if job in self._ended:
            return self._ended.pop(job)
        try:
            result: Result = future.result()
        except distributed.KilledWorker as error:
            raise DiedError(f"its workers died, one after the other: {error}") from error
        return result

    def drop(self, search: str) -> None:
        """Drop the other parts of this search: they are no longer needed."""
        self._dropped.add(search)
        self._cancel([job for job in self._futures if job[0] == search])

    def _cancel(self, jobs: list[Job]) -> None:
        unwanted = [self._futures.pop(job) for job in jobs]
        for job in jobs:
            self._ended.pop(job, None)
        if not self._is_lost:
            self._client.cancel(unwanted, force=True)

    def _send(self) -> None:
        """Send tasks ahead of the one that is waited for."""
        while len(self._futures) < _AHEAD * self._workers and not self.interrupted:
            seconds = None if self._until is None else self._until - time.monotonic()
            if seconds is not None and seconds <= 0:
                return
            job = next((job for job in self._jobs if job[0] not in self._dropped), None)
            if job is None:
                return
            # Not pure: otherwise two parts of the same name would run once.
            self._futures[job] = self._client.submit(_do, *self._job, job, self._until_of(seconds), pure=False)

    def _until_of(self, seconds: float | None) -> float | None:
        # Clocks of several machines: a task may wait before it starts, so its end is a time of day.
        return None if seconds is None else time.time() + seconds

    def _show(self) -> None:
        """Show the tasks that ended since the last call."""
        for job, future in self._futures.items():
            if job not in self._ended and future.status == "finished":
                # Fetched once, since each time it would come over the network.
                self._ended[job] = future.result()
                for event in self._ended[job].transcript.events:
                    self._live(job[0], event)

    def _interrupt(self, number: int, _frame: object) -> None:
        note(number)
        self.interrupted = True


def _do(
    work: Work, target_name: str, plan: Plan, accepts: Callable[[Finding], str], job: Job, until: float | None
) -> Result:
    """Run a part on a worker."""
    seconds = None if until is None else max(until - time.time(), 0)
    alone = msgspec.structs.replace(plan, max_time_s=seconds)
    events: list[Event] = []
    with work(target_name, plan) as do:
        result = done_alone(do, job, alone, accepts, events.append)
    return Result(result.transcript._replace(events=events), result.done)
