"""How long a run that tries everything will take: said before it begins.

Method. The same searches try a few points of each call, and then some more, in the first configuration only; that also
counts all that there are. What the more have taken is what a point takes; it is multiplied by the number of all and by
the configurations, and divided by the processes that work.

It is a rough figure: another configuration makes other operations, and points that are equivalent are played once only.
Not covered: kills, scenarios and schedules, whose number the profile says and not the target.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from tornpage.scenarios.model.events import SearchEnded
from tornpage.scenarios.model.plan import Plan
from tornpage.scenarios.model.target import Configuration, Target
from tornpage.scenarios.run import campaign
from tornpage.scenarios.search.recorder import Recorder

# The count of all, and that of those tried, of each search whose number is known before it is done.
_COUNTS: Final[Mapping[str, tuple[str, str, str]]] = {
    "sweep": ("points", "tried", "fault variants"),
    "syscalls": ("points", "tried", "system calls"),
    "crash": ("enumerable", "states", "crash states"),
    "contend": ("points", "tried", "rivals"),
    "limits": ("limits_in_all", "tried", "limits"),
}
_FEW: Final = (2, 8)
# The points of a call are shared among the kinds of limits.
_KINDS_OF_LIMITS: Final = 4


class _Tried(NamedTuple):
    """How much there is in one configuration, how much of it was tried, and how long that took."""

    there: int
    tried: int
    seconds: float


def estimated(target: Target, plan: Plan) -> str:
    """A line that says how much there is to try and how long that takes; raises what keeps a campaign from running."""
    configurations = plan.configurations or target.configurations[: plan.profile.configurations]
    fewer, more = (_tried(target, plan, configurations[:1], few) for few in _FEW)
    parts, seconds = [], 0.0
    for search in more.keys() & fewer.keys():
        one, other = fewer[search], more[search]
        each = max(other.seconds - one.seconds, 0) / max(other.tried - one.tried, 1)
        parts.append(f"{other.there * len(configurations):,} {_COUNTS[search][2]}")
        seconds += (one.seconds + each * max(other.there - one.tried, 0)) * len(configurations)
    if not parts:
        return f"exhaustive: how much there is for {' and '.join(plan.searches)} is known when all of it has been tried"
    return f"exhaustive: about {', '.join(sorted(parts))}; that takes about {_time(seconds / max(plan.jobs, 1))}"


def _tried(target: Target, plan: Plan, configurations: tuple[Configuration, ...], few: int) -> dict[str, _Tried]:
    """What a campaign over a few points of each call comes to, by search."""
    profile = msgspec.structs.replace(
        plan.profile,
        points_per_call=few,
        every_operation=False,
        rival_points=few,
        limit_points=_KINDS_OF_LIMITS * few,
        crash_states=few,
    )
    searches = tuple(name for name in plan.searches if name in _COUNTS)
    small = msgspec.structs.replace(
        plan, searches=searches, profile=profile, configurations=configurations, report=None, shard=None
    )
    recorder = campaign.run(target, small)
    return {ended.search: _of(ended, recorder) for ended in recorder.ended}


def _of(ended: SearchEnded, recorder: Recorder) -> _Tried:
    if ended.search == "crash":
        there = sum(max(one.enumerable, one.states) for one in recorder.crashes)
        return _Tried(there, sum(one.states for one in recorder.crashes), ended.seconds)
    there_name, tried_name, _ = _COUNTS[ended.search]
    return _Tried(ended.counts.get(there_name, 0), ended.counts.get(tried_name, 0), ended.seconds)


def _time(seconds: float) -> str:
    """Such as "42 s", "7 min" and "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3_600:.1f} h"
