"""A campaign: the searches of one run on one target, one after the other, and the verdict over all of them."""

import contextlib
import shlex
import tempfile
import time
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path

import msgspec

import faults
from scenarios import reproducer
from scenarios.events import Finding, Handler
from scenarios.machine import Fuzz
from scenarios.profiles import Profile
from scenarios.recorder import Recorder
from scenarios.sweep import Sweep
from scenarios.target import Configuration, Target
from scenarios.targets.names import is_imported


class Exit(IntEnum):
    """What the process's exit code says."""

    HOLDS = 0
    FINDING = 1
    NOT_TESTED = 2
    INTERRUPTED = 130


class Plan(msgspec.Struct, frozen=True):
    """What a campaign does: which searches, how much, from which seed, how long.

    `report` is where its replay files go; None: nowhere.
    """

    searches: tuple[str, ...]
    profile: Profile
    seed: int = 0
    max_time_s: float | None = None
    report: Path | None = Path(".tornpage")
    configurations: tuple[Configuration, ...] | None = None
    depths: tuple[str, ...] | None = None
    most_findings: int = 25
    # One fault plan for every call, in the place of all that there are.
    by_hand: faults.FaultPlan | None = None


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A directory for the stores under test, in memory where the system has such a place: it is rewritten a lot."""
    memory = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it
    with tempfile.TemporaryDirectory(prefix="tornpage-", dir=memory if memory.is_dir() else None) as directory:
        yield Path(directory)


def run(target: Target, plan: Plan, handlers: tuple[Handler, ...] = ()) -> Recorder:
    """Run a campaign to its end, its time limit or an interrupt, and hand back what was recorded."""
    deadline = time.monotonic() + plan.max_time_s if plan.max_time_s is not None else None

    def keep(finding: Finding) -> str:
        if plan.report is None:
            return ""
        try:
            path = reproducer.write(finding, plan.report, plan.seed)
        except OSError as error:
            # A finding is worth more than its file.
            return f"(no replay file: {error})"
        # A file never makes anything be imported, so the line has to.
        named = f" --target {shlex.quote(target.name)}" if is_imported(target.name) else ""
        return f"tornpage replay {shlex.quote(str(path))}{named}"

    recorder = Recorder(handlers, keep=keep, deadline=deadline, most_findings=plan.most_findings)
    with contextlib.suppress(_Stopped), _interruptible(recorder), scratch() as directory, faults.install():
        for search in plan.searches:
            _search(search, target, plan, recorder, directory)
    return recorder


def _search(name: str, target: Target, plan: Plan, recorder: Recorder, directory: Path) -> None:
    configurations = plan.configurations or target.configurations[: plan.profile.configurations]
    if name == "sweep":
        Sweep(
            target,
            recorder,
            directory,
            configurations=configurations,
            depths=plan.depths,
            most_points_per_call=plan.profile.points_per_call,
            seed=plan.seed,
            plan=plan.by_hand,
        ).run()
    elif name == "fuzz":
        Fuzz(
            target,
            recorder,
            directory,
            configurations=configurations,
            stories=plan.profile.stories,
            steps=plan.profile.steps,
            seed=plan.seed,
        ).run()
    else:
        raise ValueError(f"unknown search {name!r}; known: sweep, fuzz")


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
    if recorder.vacuous or not recorder.count("fired"):
        return Exit.NOT_TESTED
    return Exit.HOLDS
