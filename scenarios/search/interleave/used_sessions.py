"""Schedules in which the first caller's session has made a call before: what it keeps from then on is under test.

Method. A store may keep in memory, from its first call on, what another caller changes: the next number, the last
position, a row that it has read. In two new sessions it asks the database. So the first caller makes a call to its end,
then the second caller one that has an effect on the next call of the first, then the first that one. It is a call of
the same name as its earlier one, or one with which that shares an argument. Where all three are of one name, such as
three claims, the second caller's is also made within the first caller's: what that believes may be true only of the
earlier call of its session.

Not covered: more than one earlier call, one of the second caller, and further switches within the two calls.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from tornpage.scenarios.execution.interleave.serial import Serial
from tornpage.scenarios.execution.session_in_use import HangsError
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import Callers, Interleave
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.search.interleave.pairs import differs_after

# At one state: the earlier calls, the schedules of each, and how many pairs of calls are looked at for them.
_EARLIER: Final = 3
_SCHEDULES: Final = 2
_LOOKED_AT: Final = 8
# The switch point at which the first caller's call has not begun; and those within it, where all three are of one name.
IN_ORDER: Final = 1
_WITHIN: Final = (2, 3)


class UsedSessions:
    """The schedules of one state after the other; each three names of calls come once."""

    def __init__(self) -> None:
        self._tried: set[tuple[str, str, str]] = set()

    def of(self, serial: Serial, calls: list[Action], callers: Callers) -> Iterator[Interleave]:
        """Those at a state at which the store accepts these calls; the first of them come first."""
        done = (one for one in calls if serial.run(one).said.kind == "done")
        for earlier in islice(done, _EARLIER):
            for first, second in islice(self._pairs(serial.after(earlier), earlier, calls), _SCHEDULES):
                self._tried.add((earlier.name, first.name, second.name))
                switches = (IN_ORDER, *_WITHIN) if first.name == second.name == earlier.name else (IN_ORDER,)
                for switch in switches:
                    yield Interleave(first, second, switch, callers=callers, earlier=earlier)

    def _pairs(self, after: Serial, earlier: Action, calls: list[Action]) -> Iterator[tuple[Action, Action]]:
        """A next call of the first caller, and one of the second that has an effect on it; the closest first."""
        firsts = sorted(calls, key=lambda one: (one.name != earlier.name, one == earlier))
        pairs = (
            (first, second)
            for first in firsts
            if first.name == earlier.name or _share_an_argument(first, earlier)
            for second in sorted(calls, key=lambda one: (one.name != first.name, not _share_an_argument(one, first)))
            if (earlier.name, first.name, second.name) not in self._tried
        )
        for first, second in islice(pairs, _LOOKED_AT):
            if (earlier.name, first.name, second.name) not in self._tried and _meet(after, first, second):
                yield first, second


def _share_an_argument(one: Action, other: Action) -> bool:
    return any(value in [*other.args.values()] for value in one.args.values())


def _meet(after: Serial, first: Action, second: Action) -> bool:
    """Whether the store makes both calls, and the second has an effect, also on the first."""
    try:
        after.prepare(first, second)
    except (HangsError, Violation):
        return False
    is_made = after.run(first).said.kind == "done" and after.run(second).view != after.state.view
    return is_made and differs_after(after, second, first)
