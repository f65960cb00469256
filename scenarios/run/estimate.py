"""The expected duration of an exhaustive run, printed before it begins.

Method. The same searches try a few points of each call, and then some more, in the first configuration only; that also
counts all points. The time of the second batch gives the time of a point; it is multiplied by the number of points and
of configurations, and divided by the number of processes.

Of crash states a few of each call are tried as well; a fault before a crash, and a recovery, stands for others.

It is a rough figure: another configuration makes other operations, and equivalent points are played only once. Not
covered: kills and scenarios, whose number depends on the profile and not on the target. Of the schedules of two callers
only those without a switch are played, of each call with itself; the rest are counted by its switch points.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from tornpage import faults
from tornpage.scenarios.model.events import SearchEnded
from tornpage.scenarios.model.plan import Plan
from tornpage.scenarios.model.target import Configuration, Target
from tornpage.scenarios.run import campaign
from tornpage.scenarios.run.scratch import scratch
from tornpage.scenarios.search.crash.search import CrashSearch
from tornpage.scenarios.search.interleave.search import Interleavings
from tornpage.scenarios.search.recorder import Recorder

# The counts of all points and of tried points, for each search whose number is known before it runs.
_COUNTS: Final[Mapping[str, tuple[str, str, str]]] = {
    "sweep": ("points", "tried", "fault variants"),
    "syscalls": ("points", "tried", "system calls"),
    "contend": ("points", "tried", "rivals"),
    "limits": ("limits_in_all", "tried", "limits"),
}
_FEW: Final = (2, 8)
# The points of a call are shared among the kinds of limits.
_KINDS_OF_LIMITS: Final = 4


class _Tried(NamedTuple):
    """The number of points in one configuration, how many of them were tried, and how long that took."""

    there: int
    tried: int
    seconds: float


def estimated(target: Target, plan: Plan) -> str:
    """A line with the number of points and the time they take; raises what keeps a campaign from running."""
    configurations = plan.configurations or target.configurations[: plan.profile.configurations]
    fewer, more = (_tried(target, plan, configurations[:1], few) for few in _FEW)
    parts, seconds = [], 0.0
    for search in more.keys() & fewer.keys():
        one, other = fewer[search], more[search]
        each = max(other.seconds - one.seconds, 0) / max(other.tried - one.tried, 1)
        parts.append(f"{other.there * len(configurations):,} {_COUNTS[search][2]}")
        seconds += (one.seconds + each * max(other.there - one.tried, 0)) * len(configurations)
    foretold: list[tuple[type[CrashSearch | Interleavings], str]] = [(CrashSearch, "crash states")]
    if plan.profile.schedules is None:
        foretold.append((Interleavings, "schedules of two callers"))
    for kind, unit in foretold:
        if kind.name in plan.searches:
            number, each_s = _foretold(kind, target, plan, configurations)
            parts.append(f"{number:,} {unit}")
            seconds += number * each_s
    if not parts:
        return f"exhaustive: the number of points of {' and '.join(plan.searches)} is not known in advance"
    return f"exhaustive: about {', '.join(sorted(parts))}; that takes about {_time(seconds / max(plan.jobs, 1))}"


def _foretold(
    kind: type[CrashSearch | Interleavings], target: Target, plan: Plan, configurations: tuple[Configuration, ...]
) -> tuple[int, float]:
    """The number of crash states or schedules, and the seconds of one; counted in the first configuration."""
    alone = msgspec.structs.replace(plan, searches=(kind.name,), configurations=configurations[:1], shard=None)
    with scratch(plan.scratch) as directory, faults.install() as shims, shims.deterministic():
        search = kind.of(target, Recorder(), directory, alone)
        with search.company():
            found = [search.forecast(part) for part in search.parts()]
    number = sum(one.number for one in found)
    return number * len(configurations), sum(one.number * one.each_s for one in found) / max(number, 1)


def _tried(target: Target, plan: Plan, configurations: tuple[Configuration, ...], few: int) -> dict[str, _Tried]:
    """The result of a campaign over a few points of each call, by search."""
    profile = msgspec.structs.replace(
        plan.profile,
        points_per_call=few,
        every_operation=False,
        rival_points=few,
        limit_points=_KINDS_OF_LIMITS * few,
    )
    searches = tuple(name for name in plan.searches if name in _COUNTS)
    small = msgspec.structs.replace(
        plan, searches=searches, profile=profile, configurations=configurations, report=None, shard=None
    )
    recorder = campaign.run(target, small)
    return {ended.search: _of(ended) for ended in recorder.ended}


def _of(ended: SearchEnded) -> _Tried:
    there_name, tried_name, _ = _COUNTS[ended.search]
    return _Tried(ended.counts.get(there_name, 0), ended.counts.get(tried_name, 0), ended.seconds)


def _time(seconds: float) -> str:
    """Such as "42 s", "7 min" and "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3_600:.1f} h"
