"""The gate: every known bug has to be caught by its check, and the reference must have no findings."""

import contextlib
import functools
import importlib
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, ProcessPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from tornpage import faults
from tornpage.scenarios.model.events import Finding
from tornpage.scenarios.model.plan import Plan, Profile, without_password
from tornpage.scenarios.model.target import Target, TargetError
from tornpage.scenarios.run import campaign
from tornpage.scenarios.run.gate_record import Catch
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.known_bugs import find_bug
from tornpage.scenarios.targets.known_bugs.build import KnownBug, OfOneScript
from tornpage.scenarios.targets.reference.target import Reference

# A bug must show in a sample: the budget limits the search, whatever the number of points.
_PROFILE = Profile(
    "bugs",
    configurations=1,
    points_per_call=40,
    scenarios=200,
    steps=12,
    crash_states=60,
    rival_points=6,
    limit_points=40,
    schedules=240,
    shrinks=False,
    # Enough for a few steps; without a limit fence-not-synced alone took a sixth of the time of all.
    shorter=1_000,
)
_OF_ONE_SCRIPT = msgspec.structs.replace(_PROFILE, points_per_call=4)
# The calls of a build on the reference: fewer points, since the reference's own calls cover all of them.
_ON_REFERENCE = Profile("bugs", configurations=1, points_per_call=4, scenarios=0, steps=0)
# The unit of a search's work, unless it is points.
_UNITS = {"fuzz": ("steps_to_failure", "steps"), "crash": ("states",), "kill": ("kills",)}


# The builtin `map`, or one that runs its calls elsewhere and starts at once.
Map = Callable[..., Iterable[Any]]


@contextlib.contextmanager
def over(jobs: int, cluster: str | None = None) -> Iterator[Map]:
    """The `map` of so many processes, or of a cluster; raises `TargetError` if there is none."""
    if cluster is not None:
        with campaign.cluster_module().connected(cluster, jobs) as client:
            executor = client.get_executor(pure=False)
            try:
                yield executor.map
            except CancelledError as error:
                raise TargetError(f"the cluster at {without_password(cluster)} was lost") from error
            finally:
                # Unneeded calls are dropped.
                executor.shutdown(wait=False)
    elif jobs == 1:
        yield map
    else:
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _prepare) as pool:
            try:
                yield pool.map
            finally:
                pool.shutdown(cancel_futures=True)


def _prepare() -> None:
    """Load what takes long to load in a new process, and let the garbage collector leave it alone."""
    importlib.import_module("tornpage.scenarios.search.fuzz.search")
    faults.freeze()


def catches(
    bugs: Sequence[KnownBug], seed: int, report: Path | None, over: Map = map
) -> Iterator[tuple[KnownBug, Catch]]:
    """Every bug with the results of its searches, in order."""
    tried = over(functools.partial(_tries, seed), [bug.name for bug in bugs])
    return ((bug, _kept(bug, tries, seed, report)) for bug, one in zip(bugs, tried, strict=True) for tries in one)


def try_bug(bug: KnownBug, seed: int, report: Path | None) -> Iterator[Catch]:
    """Let each of a bug's searches look for it, up to its first finding."""
    return (_kept(bug, _try(bug, search, seed), seed, report) for search in bug.searches)


# A catch, and its finding.
_Tried = tuple[Catch, Finding | None]


def _tries(seed: int, name: str) -> list[_Tried]:
    bug = find_bug(name)
    return [_try(bug, search, seed) for search in bug.searches]


def _kept(bug: KnownBug, tried: _Tried, seed: int, report: Path | None) -> Catch:
    """The catch with its replay file, written into the report's directory, wherever the bug was tried."""
    catch, finding = tried
    if finding is None:
        return catch
    plan = Plan((catch.search,), _PROFILE, seed=seed, report=report)
    return msgspec.structs.replace(catch, replay=campaign.kept(finding, bug.target(), plan))


def _try(bug: KnownBug, search: str, seed: int) -> _Tried:
    before = time.process_time()
    catch, finding = _searched(bug, search, seed)
    return msgspec.structs.replace(catch, cpu_s=round(time.process_time() - before, 2)), finding


def _searched(bug: KnownBug, search: str, seed: int) -> _Tried:
    target = bug.target()
    # The store without the defect keeps the contract of view, rows and beat; `noise` tries that.
    plan = Plan((search,), _profile_of(target), seed=seed, report=None, most_findings=1, rehearses=False)
    recorder = _run(target, plan)
    units = _UNITS.get(search, ("tried",))
    work = next((count for unit in units if (count := recorder.count(unit))), 0) + recorder.count("faultless")
    if not recorder.findings:
        return Catch(bug.name, search, bug.checks, None, "nothing was found", work, 0, 0, ""), None
    found = recorder.findings[0].finding
    size = len(found.scenario.steps), found.scenario.faults
    return Catch(bug.name, search, bug.checks, found.code, found.message, work, *size, ""), found


def _profile_of(target: Target) -> Profile:
    """What a search takes; of a store of one script, whose one call the reference has as well, few fault points."""
    return _OF_ONE_SCRIPT if isinstance(target, OfOneScript) else _PROFILE


def _run(target: Target, plan: Plan) -> Recorder:
    recorder = campaign.run(target, plan)
    if recorder.interrupted:
        # A campaign handles the interrupt; a caller with more to try needs it, too.
        raise KeyboardInterrupt
    return recorder


def within_budget(catch: Catch, bug: KnownBug) -> bool:
    """Whether the search stayed within the bug's budget."""
    return catch.work <= bug.budget


def noise(bugs: Sequence[KnownBug], seed: int, over: Map = map) -> Iterator[str]:
    """The findings and vacuous parts of these bugs' searches in the reference; there should be none.

    The calls that show the builds' defects are made on it, too: otherwise a build might be caught for its calls, and
    not for its defect. A bug in a store of its own is compared with its sound twin, not with the reference.
    """
    searches = sorted({search for bug in bugs if not bug.sound for search in bug.searches}, reverse=True)
    of_searches = over(functools.partial(_noise_of_search, seed), searches)
    of_calls = over(functools.partial(_noise_of_calls, seed), _once_each(bugs, lambda bug: bug.calls))
    twins = _once_each(bugs, lambda bug: bug.sound and (bug.sound, bug.searches))
    of_twins = over(functools.partial(_noise_of_twin, seed), twins)
    return chain.from_iterable(chain(of_searches, of_calls, of_twins))


def _once_each(bugs: Sequence[KnownBug], what: Callable[[KnownBug], Any]) -> list[str]:
    """The bugs that have this, by name, but for those that have the same as an earlier one."""
    found: list[Any] = []
    names: list[str] = []
    for bug in bugs:
        if (one := what(bug)) and one not in found:
            found.append(one)
            names.append(bug.name)
    return names


def _noise_of_search(seed: int, search: str) -> list[str]:
    return _reports(_run(Reference(), Plan((search,), _PROFILE, seed=seed, report=None, most_findings=1)))


def _noise_of_calls(seed: int, name: str) -> list[str]:
    plan = Plan(("sweep",), _ON_REFERENCE, seed=seed, report=None, most_findings=1, rehearses=False)
    return [f"the calls of {name}: {line}" for line in _reports(_run(Reference(calls=find_bug(name).calls), plan))]


def _noise_of_twin(seed: int, name: str) -> list[str]:
    """The findings of a bug's searches in the same store without the defect."""
    bug = find_bug(name)
    twin = bug.twin()
    if twin is None:
        return []
    lines = _reports(_run(twin, Plan(bug.searches, _profile_of(twin), seed=seed, report=None, most_findings=1)))
    return [f"the sound twin of {name}: {line}" for line in lines]


def _reports(recorder: Recorder) -> list[str]:
    return [found.finding.message for found in recorder.findings] + [one.reason for one in recorder.vacuous]
