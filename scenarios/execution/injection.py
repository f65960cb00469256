"""Conditions: the faults and limits in force during a step of a scenario.

An armed fault plan is one; others are a rival that holds a lock, and a limit. A kind of condition is a kind of step and
an *opener*, which puts it in force around a trial and counts its effects.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

from tornpage import faults
from tornpage.scenarios.execution.program_rival import beside_a_program
from tornpage.scenarios.execution.syscall_injection import by_step
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import Arm, Limit, LimitKind, Rival, Step, Syscall


class Condition(Protocol):
    """The counts of a condition, and how to pause it."""

    # Whether it is known only at its end that it was met.
    is_known_late: bool

    @property
    def fired(self) -> int:
        """How often it has been met."""

    @property
    def surfaced(self) -> int:
        """How many errors have reached a caller."""

    def saw(self, error: BaseException) -> bool:
        """Count an error that reached a caller; return whether this condition caused it."""

    def paused(self) -> AbstractContextManager[None]:
        """Not in force inside this scope: the harness's own reads are not part of a scenario."""


Opener = Callable[[Trial, Any], AbstractContextManager[Condition]]


def _arm(trial: Trial, step: Arm) -> AbstractContextManager[Condition]:
    return trial.armed(step.plan, step.depth)


@contextlib.contextmanager
def _limit(trial: Trial, step: Limit) -> Iterator[Condition]:
    limit = limit_of(trial, step.kind, step.at, sticky=step.sticky)
    with trial.limited(limit):
        yield limit


def limit_of(trial: Trial, kind: LimitKind, at: int | None, *, sticky: bool = False) -> faults.Limit:
    """A limit for the target of a trial; `at` None: one that is never met and only measures."""
    if kind == "allocation":
        return faults.FailedAllocation(at, sticky=sticky)
    if kind == "heap":
        return faults.HeapLimit(at, module=trial.library.code)
    if kind == "pages":
        return faults.PageLimit(trial.connections, at)
    if kind == "awaits":
        from tornpage.faults.limits.cancellation import Cancellation  # noqa: PLC0415 - brings asyncio with it

        return Cancellation(at)
    return faults.Interruption(trial.connections, at, sticky=sticky)


def prepared(steps: Iterable[Step]) -> AbstractContextManager[object]:
    """Prepare what scenarios with these steps need before anything is opened.

    Raises `faults.AllocatorUnavailableError` if SQLite is in use already.
    """
    exact = any(isinstance(step, Limit) and step.kind == "allocation" for step in steps)
    return faults.exact_allocations() if exact else contextlib.nullcontext()


class Contention:
    """A rival as a condition: its counts, and whether the store waited as it should."""

    is_known_late = False

    def __init__(self, rival: faults.Rival) -> None:
        self.rival = rival

    @property
    def fired(self) -> int:
        """1 if the rival blocked the store."""
        return int(self.rival.contended)

    @property
    def surfaced(self) -> int:
        """How often a caller got an error because the store was busy."""
        return self.rival.surfaced

    def saw(self, error: BaseException) -> bool:
        """Count an error; raises `Violation` for a store that gave up before a short lock was released."""
        rival = self.rival
        surfaced = rival.saw(error)
        if surfaced and rival.holds and rival.held_ms is not None and rival.kind.keeps_a_lock:
            raise Violation(
                "waits-for-a-short-lock",
                f"a {rival.kind.name} held its lock for {rival.held_ms} ms; after {rival.waited_ms:.0f} ms the call "
                f"failed with {type(error).__name__}: {error}",
            ) from error
        return surfaced

    def paused(self) -> contextlib.AbstractContextManager[None]:
        """Without the rival."""
        return self.rival.paused()


@contextlib.contextmanager
def contention(trial: Trial, step: Rival) -> Iterator[Contention]:
    """Let a rival contend with a trial's store inside this scope."""
    mode = trial.oracle.configuration.journal_mode
    place: faults.RivalPlace = "process" if step.place == "process" else "connection"
    with (
        trial.troubled(),
        faults.contend(
            step.kind, step.operation, step.ordinal, trial.directory,
            place=place, held_ms=step.held_ms, journal_mode=mode,
        ) as rival,
    ):  # fmt: skip
        trial.before_reading.append(rival.make_way)
        try:
            yield Contention(rival)
        finally:
            trial.before_reading.remove(rival.make_way)


def _rival(trial: Trial, step: Rival) -> AbstractContextManager[Condition]:
    return beside_a_program(trial, step) if "syscall" in trial.target.depths else contention(trial, step)


OPENERS: Final[Mapping[type, Opener]] = {
    Limit: _limit,
    Arm: _arm,
    Rival: _rival,
    Syscall: by_step,
}
