"""The gate: every known bug has to be caught, by the check that it should, and the reference has to stay silent."""

import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec

from scenarios import campaign
from scenarios.bugs import find_bug
from scenarios.bugs.build import KnownBug
from scenarios.profiles import Plan, Profile
from scenarios.recorder import Recorder
from scenarios.target import Target
from scenarios.targets.reference import Reference


class Catch(msgspec.Struct, frozen=True):
    """What one way of search made of one build.

    `check` is the code that caught it, None where it was missed; `work` is in calls and points, or in steps (fuzz),
    crash states and kills; `story_steps` and `story_faults` are the size of the story; `replay` is the line that shows
    it again.
    """

    build: str
    search: str
    expected: tuple[str, ...]
    check: str | None
    message: str
    work: int
    story_steps: int
    story_faults: int
    replay: str

    @property
    def caught(self) -> bool:
        """Whether the check that was expected has failed."""
        return self.check in self.expected


# A bug must show in a sample: the budget is what a search may take, not what there is.
_PROFILE = Profile(
    "bugs", configurations=1, points_per_call=40, stories=200, steps=12, crash_states=60, rival_points=6, shrinks=False
)
# The calls of a build on the reference: fewer points, since the reference's own calls have met all of them.
_ON_REFERENCE = Profile("bugs", configurations=1, points_per_call=4, stories=0, steps=0)
# What a search's work is counted in, where it isn't points.
_UNITS = {"fuzz": ("steps_to_failure", "steps"), "crash": ("states",), "kill": ("kills",)}


def try_bug(bug: KnownBug, seed: int, report: Path | None) -> Iterator[Catch]:
    """Let each of a bug's searches look for it, up to its first finding."""
    for search in bug.searches:
        yield _try(bug.target(), bug, search, seed, report)


def catches(
    bugs: Sequence[KnownBug], seed: int, report: Path | None, *, jobs: int = 1
) -> Iterator[tuple[KnownBug, Catch]]:
    """Every bug with what each of its searches made of it, in order; several at a time where there are `jobs`."""
    if jobs == 1:
        yield from ((bug, catch) for bug in bugs for catch in try_bug(bug, seed, report))
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        try:
            futures = [pool.submit(_tries, bug.name, seed, report) for bug in bugs]
            for bug, future in zip(bugs, futures, strict=True):
                yield from ((bug, catch) for catch in future.result())
        finally:
            pool.shutdown(cancel_futures=True)


def _tries(name: str, seed: int, report: Path | None) -> list[Catch]:
    return list(try_bug(find_bug(name), seed, report))


def _try(target: Target, bug: KnownBug, search: str, seed: int, report: Path | None) -> Catch:
    plan = Plan((search,), _PROFILE, seed=seed, report=report, most_findings=1)
    recorder = _run(target, plan)
    units = _UNITS.get(search, ("tried",))
    work = next((count for unit in units if (count := recorder.count(unit))), 0) + recorder.count("faultless")
    if not recorder.findings:
        return Catch(bug.name, search, bug.checks, None, "nothing was found", work, 0, 0, "")
    found = recorder.findings[0]
    story = found.finding.story
    return Catch(
        bug.name,
        search,
        bug.checks,
        found.finding.code,
        found.finding.message,
        work,
        len(story.steps),
        story.faults,
        found.replay,
    )


def _run(target: Target, plan: Plan) -> Recorder:
    recorder = campaign.run(target, plan)
    if recorder.interrupted:
        # A campaign ends in good order; whoever has more to try has to hear of it, too.
        raise KeyboardInterrupt
    return recorder


def within_budget(catch: Catch, bug: KnownBug) -> bool:
    """Whether the search took no more than the bug's budget."""
    return catch.work <= bug.budget


def try_reference(target: Target, searches: tuple[str, ...], seed: int) -> list[str]:
    """The same searches on the reference: what they find, which has to be nothing, and what was vacuous."""
    recorder = _run(target, Plan(searches, _PROFILE, seed=seed, report=None, most_findings=1))
    return [found.finding.message for found in recorder.findings] + [one.reason for one in recorder.vacuous]


def try_own_calls(bugs: Iterable[KnownBug], seed: int) -> list[str]:
    """The calls in which the builds show their defects, made on the reference: what is found, which has to be nothing.

    Otherwise a build might be caught for what its calls do, and not for its defect.
    """
    noise = []
    for bug in bugs:
        if bug.calls:
            plan = Plan(("sweep",), _ON_REFERENCE, seed=seed, report=None, most_findings=1)
            recorder = _run(Reference(calls=bug.calls), plan)
            noise += [f"the calls of {bug.name}: {found.finding.message}" for found in recorder.findings]
            noise += [f"the calls of {bug.name}: {one.reason}" for one in recorder.vacuous]
    return noise
