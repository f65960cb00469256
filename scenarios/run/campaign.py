"""A campaign: the searches of one run on one target, one after the other, and their common verdict."""

import contextlib
import importlib
import shlex
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from tornpage import faults
from tornpage.scenarios.execution.call_timeout import patience
from tornpage.scenarios.execution.preflight.contract import require_contract
from tornpage.scenarios.model.events import Event, Finding, Handler, SearchEnded, SearchStarted, StepsDone, Vacuous
from tornpage.scenarios.model.exit_codes import Exit
from tornpage.scenarios.model.judging.checks import without_scratch
from tornpage.scenarios.model.plan import Plan
from tornpage.scenarios.model.scenario import Scenario
from tornpage.scenarios.model.target import (
    Configuration,
    SetUpError,
    Target,
    TargetError,
    has_plain_files_only,
    is_specified,
)
from tornpage.scenarios.model.work import Do, Done, Part
from tornpage.scenarios.run import stop
from tornpage.scenarios.run.many_cores.worker_pool import DiedError, Job, Live, Result, WorkerPool
from tornpage.scenarios.run.reproduce import replay_file as reproducer
from tornpage.scenarios.run.reproduce.artifacts import Artifact, artifact_of
from tornpage.scenarios.run.reproduce.code_digest import code_of
from tornpage.scenarios.run.scratch import ScratchError, require_room, scratch
from tornpage.scenarios.run.unlogged import unlogged
from tornpage.scenarios.run.whole_file import report_directory
from tornpage.scenarios.search.after_a_crash import finds_that_it_opens_no_more
from tornpage.scenarios.search.base import Search
from tornpage.scenarios.search.contention import Contend
from tornpage.scenarios.search.crash.search import CrashSearch
from tornpage.scenarios.search.interleave.search import Interleavings
from tornpage.scenarios.search.kill import Kill
from tornpage.scenarios.search.limits import Limits
from tornpage.scenarios.search.programs.kills import ProgramKills
from tornpage.scenarios.search.programs.syscalls import Syscalls
from tornpage.scenarios.search.recorder import Recorder, nothing_accepted
from tornpage.scenarios.search.sweep import Sweep
from tornpage.scenarios.targets.names import is_imported
from tornpage.scenarios.targets.registry import find_or_import


class Workers(Protocol):
    """Runs parts in other processes."""

    @property
    def interrupted(self) -> bool:
        """Whether the user has stopped it."""

    def result(self, job: Job) -> Result | None:
        """The result of a part; None for one that was not started. Raises `DiedError`."""

    def drop(self, search: str) -> None:
        """Drop the other parts of this search: they are no longer needed."""


def run(
    target: Target,
    plan: Plan,
    handlers: tuple[Handler, ...] = (),
    accepts: Callable[[Finding], str] = nothing_accepted,
    live: Live | None = None,
) -> Recorder:
    """Run a campaign to its end, its time limit or an interrupt, and return the record.

    `accepts` returns the baseline's reason for a finding, "" for none. With `plan.jobs`, or on a cluster, parts run
    concurrently; the handlers receive their events in order, and `live` receives them at once, with the search's name.
    """
    deadline = time.monotonic() + plan.max_time_s if plan.max_time_s is not None else None

    def keep(finding: Finding) -> str:
        return kept(finding, target, plan)

    alone = plan.jobs == 1 and plan.cluster is None
    # Elsewhere the workers keep the time limit: results that arrive late are still counted.
    recorder = Recorder(
        handlers,
        keep=keep,
        deadline=deadline if alone else None,
        most_findings=plan.most_findings,
        accepts=accepts,
        told_to_stop=stop.requested,
        before_finding=require_room,
        shorter=plan.profile.shorter,
    )
    recorder.lost_interrupt = stop.requested
    recorder.unpromised = target.unpromised
    recorder.is_share = plan.shard is not None
    with (
        contextlib.suppress(_Stopped),
        _interruptible(recorder),
        scratch() as directory,
        patience(plan.call_timeout_s),
        unlogged(),
    ):
        searches = [SEARCHES[name](target, recorder, directory, plan) for name in plan.searches]
        if plan.rehearses:
            require_contracts(target, searches[0].configurations if searches else (), directory / "rehearsal")
        if alone:
            # SQLite's own clock stands still, so that its values are the same in each run. Open connections are looked
            # for at many points, and not among all the objects of the program.
            with faults.install() as shim, shim.deterministic(), faults.frozen():
                for left, search in zip(range(len(searches), 0, -1), searches, strict=True):
                    if deadline is not None:
                        # Each search has its share of the time left; unused time goes to the others.
                        now = time.monotonic()
                        recorder.deadline = now + (deadline - now) / left
                    _run(search, recorder)
        else:
            # A killed process leaves nothing behind if its directory is inside ours.
            below = directory if plan.cluster is None else None
            there = msgspec.structs.replace(plan, scratch=below)
            _run_elsewhere(searches, target, there, recorder, accepts, live)
    return recorder


# Targets rehearsed in this process: each search of a conformance suite is a campaign of its own.
_REHEARSED: Final[set[tuple[type, str, Configuration, str]]] = set()


def require_contracts(target: Target, configurations: Sequence[Configuration], directory: Path) -> None:
    """Raise `SetUpError` if the target breaks the contract of view, rows and beat in one of these."""
    for configuration in configurations:
        key = type(target), target.name, configuration, repr(target.workload())
        if key not in _REHEARSED:
            # If a store specifies the result of each call, a failure is a finding, not a set-up error.
            findings = contextlib.suppress(*((SetUpError,) if is_specified(target) else ()))
            with findings, faults.install() as shim, shim.deterministic():
                require_contract(target, configuration, directory)
            _REHEARSED.add(key)


def kept(finding: Finding, target: Target, plan: Plan) -> str:
    """Write the replay file of a finding, if there is a report; return the command that reproduces it."""
    if plan.report is None:
        return ""
    try:
        report_directory(plan.report)
        path = reproducer.write(finding, plan.report, plan.seed, _artifact(finding.scenario, target), code_of(target))
    except OSError as error:
        # An unwritable file must not lose the finding.
        return f"(no replay file: {error})"
    # A replay file never imports anything, so the command line has to.
    named = f" --target {shlex.quote(target.name)}" if is_imported(target.name) else ""
    return f"tornpage replay {shlex.quote(str(path))}{named}"


def _run(search: Search, recorder: Recorder, do: Do | None = None) -> None:
    is_first = not recorder.ended
    try:
        search.run(do)
    except (TargetError, ScratchError, OSError) as error:
        failed = _without_room() or error
        if isinstance(failed, OSError) or (is_first and not recorder.findings and not _opens_no_more(search)):
            raise failed from error
        # A search that can't continue must not lose the findings so far.
        recorder.tell(Vacuous(search.name, f"it could not continue: {without_scratch(str(failed))}"))
    except Exception as error:
        if not recorder.findings:
            raise
        recorder.tell(Vacuous(search.name, f"internal error in tornpage, so it stopped: {_in_a_line(error)}"))


def _opens_no_more(search: Search) -> bool:
    """Whether a search has failed since a crash is sufficient to keep the store from being opened: a finding."""
    try:
        return finds_that_it_opens_no_more(search)
    except Exception:  # noqa: BLE001 - the first error says more
        return False


def _in_a_line(error: BaseException) -> str:
    """An error, and where it was raised."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{error!r} at {place.filename}:{place.lineno}"


def _without_room() -> ScratchError | None:
    """The error to report instead of a failure if there is no space left for the stores under test."""
    try:
        require_room()
    except ScratchError as error:
        return error
    return None


def _run_elsewhere(
    searches: Sequence[Search],
    target: Target,
    plan: Plan,
    recorder: Recorder,
    accepts: Callable[[Finding], str],
    live: Live | None,
) -> None:
    """Let workers run the parts, and join their results."""
    shown = Shown(searches, live)
    recorder.handlers = (*recorder.handlers, shown.told_here)
    jobs = ((search.name, part) for search in searches for part in search.own_parts())
    with _workers(target.name, plan, accepts, jobs, shown) as workers:
        try:
            for search in searches:
                _run(search, recorder, _doing_elsewhere(search, workers, recorder, target))
                workers.drop(search.name)
        finally:
            recorder.interrupted = recorder.interrupted or workers.interrupted


def _workers(
    target_name: str, plan: Plan, accepts: Callable[[Finding], str], jobs: Iterator[Job], shown: "Shown"
) -> AbstractContextManager[Workers]:
    if plan.cluster is None:
        return WorkerPool(doing_parts, target_name, plan, accepts, jobs, shown.on_event)
    made: AbstractContextManager[Workers] = cluster_module().Cluster(
        doing_parts, target_name, plan, accepts, jobs, shown.on_event
    )
    return made


def cluster_module() -> Any:
    """`scenarios.run.many_cores.dask_cluster`, imported on use since the library is optional. Raises `TargetError`."""
    try:
        return importlib.import_module("tornpage.scenarios.run.many_cores.dask_cluster")
    except ModuleNotFoundError as error:
        raise TargetError("--cluster needs dask.distributed: pip install 'tornpage[cluster]'") from error


def _doing_elsewhere(search: Search, workers: Workers, recorder: Recorder, target: Target) -> Do:
    def do(part: Part) -> Done:
        try:
            result = workers.result((search.name, part))
        except DiedError as error:
            search.vacuous(str(error))
            return Done(ends=error.ends)
        if result is None:
            return Done()
        recorder.take(result.transcript, target)
        return result.done

    return do


@contextlib.contextmanager
def doing_parts(target_name: str, plan: Plan) -> Iterator[Callable[[Job, Recorder], Done]]:
    """The function that runs parts in a worker process; parts share what they can."""
    company: dict[str, None] = {}
    with (
        scratch(plan.scratch) as directory,
        faults.install() as shim,
        shim.deterministic(),
        patience(plan.call_timeout_s),
        unlogged(),
        contextlib.ExitStack() as scopes,
    ):

        def do(job: Job, recorder: Recorder) -> Done:
            name, part = job
            target = find_or_import(target_name)
            recorder.unpromised = target.unpromised
            search = SEARCHES[name](target, recorder, directory, plan)
            if name not in company:
                company[name] = None
                scopes.enter_context(search.company())
            return search.do(part)

        yield do


class Shown:
    """The live display of searches that run elsewhere: events as they come, each search from its start."""

    def __init__(self, searches: Sequence[Search], live: Live | None) -> None:
        self._live = live or (lambda _name, _event: None)
        self._expected = {search.name: (search.target.name, search.expected) for search in searches}
        self._begun: set[str] = set()
        self._reasons: set[Vacuous] = set()

    def on_event(self, name: str, event: Event) -> None:
        """An event, as soon as it arrives."""
        if name not in self._begun:
            self._begun.add(name)
            self._live(name, SearchStarted(name, *self._expected[name]))
        if isinstance(event, Vacuous):
            if event in self._reasons:
                return
            self._reasons.add(event)
        self._live(name, event)

    def told_here(self, event: Event) -> None:
        """An event of the whole that was put together."""
        if isinstance(event, SearchEnded):
            self.on_event(event.search, event)
        elif isinstance(event, StepsDone):
            self.on_event("fuzz", event)
        elif isinstance(event, Vacuous) and event not in self._reasons:
            self.on_event(event.search, event)


def _artifact(scenario: Scenario, target: Target) -> Artifact:
    # Whatever error that raises, the finding counts.
    with (
        contextlib.suppress(Exception),
        scratch() as directory,
        faults.install() as shim,
        shim.deterministic(),
    ):
        return artifact_of(scenario, target, directory)
    # An error of its files must not lose a finding.
    return Artifact()


def _kill(target: Target, recorder: Recorder, directory: Path, plan: Plan) -> Search:
    """Programs of their own are killed in their system calls, targets in Python in a child's operations."""
    kind = ProgramKills if "syscall" in target.depths else Kill
    return kind.of(target, recorder, directory, plan)


def _fuzz(target: Target, recorder: Recorder, directory: Path, plan: Plan) -> Search:
    """The fuzz; Hypothesis takes as long to load as everything else, and no other search needs it."""
    from tornpage.scenarios.search.fuzz.search import Fuzz  # noqa: PLC0415 - as above

    return Fuzz.of(target, recorder, directory, plan)


SEARCHES: Final[Mapping[str, Callable[[Target, Recorder, Path, Plan], Search]]] = {
    "sweep": Sweep.of,
    "crash": CrashSearch.of,
    "contend": Contend.of,
    "interleave": Interleavings.of,
    "limits": Limits.of,
    "kill": _kill,
    "fuzz": _fuzz,
    "syscalls": Syscalls.of,
}
# The evidence of a run, by count, in words: without any of these it has tested nothing.
EVIDENCE: Final[Mapping[str, str]] = {
    "fired": "faults fired",
    "states": "crash states tried",
    "contentions": "locks contended",
    "schedules": "schedules of two callers",
    "limits": "limits met",
    "kills": "processes killed",
}


def searches_for(target: Target) -> tuple[str, ...]:
    """Every search that reaches a target.

    A program of its own is reached from outside; a target that no depth reaches can only crash. Plain files have no
    locks and no limits of SQLite's; two callers need a lock of the store's own then, so they are tried if it declares
    that it has one (`callers`).
    """
    if "syscall" in target.depths:
        return ("syscalls", "crash", "contend", "kill")
    if not target.depths:
        return ("crash",)
    others = {"syscalls", "contend", "limits"} if has_plain_files_only(target) else {"syscalls"}
    if has_plain_files_only(target) and not target.callers:
        others.add("interleave")
    return tuple(name for name in SEARCHES if name not in others)


def out_of_reach(target: Target) -> str:
    """The searches that a target does not support, and why; "" for none."""
    if "syscall" not in target.depths:
        return ""
    others = [name for name in SEARCHES if name not in {*searches_for(target), "sweep"}]
    return (
        f"not searched: {', '.join(others)}, and rivals in the middle of a call: these need the "
        "process of a target in Python, not a separate program"
    )


class _Stopped(Exception):  # noqa: N818 - not an error: the user asked for it
    """Ctrl-C."""


@contextlib.contextmanager
def _interruptible(recorder: Recorder) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as interrupt:
        recorder.interrupted = True
        raise _Stopped from interrupt


def verdict(recorder: Recorder) -> Exit:
    """The verdict of the run: an interrupt outranks a finding, a finding the rest; no tests is no success."""
    if recorder.interrupted:
        return Exit.INTERRUPTED
    if recorder.findings:
        return Exit.FINDING
    # A share may have no parts; the merge of all shares judges what they have tested.
    idle = not any(map(recorder.count, EVIDENCE)) and not (recorder.is_share and recorder.complete)
    if recorder.vacuous or idle:
        return Exit.NOT_TESTED
    return Exit.HOLDS
