"""A campaign: the searches of one run on one target, one after the other, and the verdict over all of them."""

import contextlib
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from enum import IntEnum
from pathlib import Path
from typing import Final, Protocol

import faults
from scenarios import reproducer
from scenarios.beside import Beside, Live
from scenarios.checks import Violation
from scenarios.contend import Contend
from scenarios.crash import CrashSearch
from scenarios.events import Finding, Handler, Vacuous
from scenarios.keepsake import Keepsake, keepsake_of
from scenarios.kill import Kill
from scenarios.limits import Limits
from scenarios.machine import Fuzz
from scenarios.naming import find_or_import
from scenarios.profiles import Plan
from scenarios.recorder import Recorder, nothing_accepted
from scenarios.story import Story
from scenarios.sweep import Sweep
from scenarios.syscalls import Syscalls
from scenarios.target import Target, TargetError
from scenarios.targets.names import is_imported


class Exit(IntEnum):
    """What the process's exit code says."""

    HOLDS = 0
    FINDING = 1
    NOT_TESTED = 2
    INTERRUPTED = 130


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A directory for the stores under test, in memory where the system has such a place: it is rewritten a lot."""
    memory = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it
    with tempfile.TemporaryDirectory(prefix="tornpage-", dir=memory if memory.is_dir() else None) as directory:
        yield Path(directory)


def run(
    target: Target,
    plan: Plan,
    handlers: tuple[Handler, ...] = (),
    accepts: Callable[[Finding], str] = nothing_accepted,
    live: Live | None = None,
) -> Recorder:
    """Run a campaign to its end, its time limit or an interrupt, and hand back what was recorded.

    `accepts` says why a baseline accepts a finding, "" where it doesn't. With `plan.jobs` searches run beside each
    other; the handlers hear of each as a whole, in order, and `live` of all at once, with the name of the search.
    """
    deadline = time.monotonic() + plan.max_time_s if plan.max_time_s is not None else None

    def keep(finding: Finding) -> str:
        if plan.report is None:
            return ""
        try:
            path = reproducer.write(finding, plan.report, plan.seed, _keepsake(finding.story, target))
        except OSError as error:
            # A finding is worth more than its file.
            return f"(no replay file: {error})"
        # A file never makes anything be imported, so the line has to.
        named = f" --target {shlex.quote(target.name)}" if is_imported(target.name) else ""
        return f"tornpage replay {shlex.quote(str(path))}{named}"

    recorder = Recorder(handlers, keep=keep, deadline=deadline, most_findings=plan.most_findings, accepts=accepts)
    if plan.jobs > 1 and len(plan.searches) > 1:
        _run_beside(target, plan, recorder, accepts, live)
    else:
        _search(target, plan, recorder)
    return recorder


def _search(target: Target, plan: Plan, recorder: Recorder) -> None:
    with contextlib.suppress(_Stopped), _interruptible(recorder), scratch() as directory, faults.install():
        for name in plan.searches:
            is_first = not recorder.ended
            try:
                SEARCHES[name](target, recorder, directory, plan).run()
            except TargetError as error:
                _could_not_go_on(name, error, recorder, is_first=is_first)


def _could_not_go_on(name: str, error: BaseException, recorder: Recorder, *, is_first: bool) -> None:
    """What has been found until now is worth more than a search that can't go on."""
    if is_first or not isinstance(error, TargetError):
        raise error
    recorder.tell(Vacuous(name, f"it could not go on: {error}"))


def _search_by_name(target_name: str, plan: Plan, recorder: Recorder) -> None:
    _search(find_or_import(target_name), plan, recorder)


def _run_beside(
    target: Target, plan: Plan, recorder: Recorder, accepts: Callable[[Finding], str], live: Live | None
) -> None:
    beside = Beside(_search_by_name, target.name, plan, accepts, live or (lambda _name, _event: None))
    beside.run()
    for name in plan.searches:
        came = beside.came.get(name)
        if came is not None:
            is_first = not recorder.ended
            recorder.take(came.events, came.repeats, target)
            if came.error is not None:
                _could_not_go_on(name, came.error, recorder, is_first=is_first)
        elif name in beside.came and not beside.interrupted:
            recorder.tell(Vacuous(name, "its process died twice: was it killed, or did memory run out?"))
    recorder.interrupted = beside.interrupted


def _keepsake(story: Story, target: Target) -> Keepsake:
    with scratch() as directory, faults.install(), contextlib.suppress(Violation, TargetError, OSError):
        return keepsake_of(story, target, directory)
    # A finding is worth more than its files.
    return Keepsake()


class Search(Protocol):
    """One way to search; `run` records what it finds, and raises nothing for it."""

    def run(self) -> None:
        """Search to the end, or until the recorder says that it is enough."""


SEARCHES: Final[Mapping[str, Callable[[Target, Recorder, Path, Plan], Search]]] = {
    "sweep": Sweep.of,
    "crash": CrashSearch.of,
    "contend": Contend.of,
    "limits": Limits.of,
    "kill": Kill.of,
    "fuzz": Fuzz.of,
    "syscalls": Syscalls.of,
}
# What a run can show for itself, by count, in words: without any of these it has tested nothing.
EVIDENCE: Final[Mapping[str, str]] = {
    "fired": "faults fired",
    "states": "crash states tried",
    "contentions": "locks contended",
    "limits": "limits met",
    "kills": "processes killed",
}


def searches_for(target: Target) -> tuple[str, ...]:
    """Every search that reaches a target: without SQLite beneath it, its files can only crash.

    A program of its own is reached from outside.
    """
    if "syscall" in target.depths:
        return ("syscalls",)
    return tuple(name for name in SEARCHES if name != "syscalls") if target.depths else ("crash",)


class _Stopped(Exception):  # noqa: N818 - not an error: the user said so
    """Ctrl-C."""


@contextlib.contextmanager
def _interruptible(recorder: Recorder) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as interrupt:
        recorder.interrupted = True
        raise _Stopped from interrupt


def verdict(recorder: Recorder) -> Exit:
    """What the run comes to: an interrupt outranks a finding, a finding the rest, and nothing tested is no success."""
    if recorder.interrupted:
        return Exit.INTERRUPTED
    if recorder.findings:
        return Exit.FINDING
    if recorder.vacuous or not any(map(recorder.count, EVIDENCE)):
        return Exit.NOT_TESTED
    return Exit.HOLDS
