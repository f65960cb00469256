"""Schedules in which a caller opens the store: while the other one does so, too, or is in the middle of a call.

Method. On an empty directory two processes open the store: both may find that a table, a column or a first row is
missing. Where a store makes its files with its first call only, they make that call. At the states of the workload one
opens the store at each switch point of the other's call, and the other makes its call at each switch point of the
opening; two open it if that changes what the file shows, as a recovery of unfinished work does.

With a budget a few calls of other names at each state, and a few of the switch points, drawn by the seed.

Not covered: threads that open the store at the same time, and two openings of a file of an earlier version.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.execution.interleave.serial import Serial, State
from tornpage.scenarios.execution.session_in_use import OPEN
from tornpage.scenarios.model.clock import Clock
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import Interleave
from tornpage.scenarios.model.target import Action, Target
from tornpage.scenarios.search.interleave.few_points import FewPoints

# With a budget: the switch points of two openings on an empty directory, and of a call and an opening; and the calls of
# one state.
_POINTS_OF_THE_FIRST: Final = 24
_POINTS: Final = 3
_CALLS: Final = 2

_OPENED: Final = Interleave(OPEN, OPEN)


class Openings:
    """The schedules of one part after the other; with a budget each name of a call comes once."""

    def __init__(self, points: FewPoints) -> None:
        self._points = points
        self._tried: set[str] = set()

    def on_no_files(self, serial: Serial, calls: Iterable[Action]) -> Iterator[Interleave]:
        """Those of two callers for whom there is no file yet; `serial` is of that state, and accepts these calls."""
        first = OPEN if _makes_the_files(serial) else next(iter(calls), None)
        if first is not None:
            yield from self._points.of(Interleave(first, first, fresh=True), _POINTS_OF_THE_FIRST)

    def at(self, serial: Serial, calls: list[Action]) -> Iterator[Interleave]:
        """Those at a state at which the store accepts these calls."""
        if _changes(serial, OPEN):
            yield from self._points.of(_OPENED, _POINTS)
        for action in self._calls(serial, calls):
            yield from self._points.of(Interleave(action, OPEN), _POINTS)
            yield from self._points.of(Interleave(OPEN, action), _POINTS)

    @staticmethod
    def number(serial: Serial, calls: list[Action], points_of: Callable[[Interleave], int]) -> int:
        """How many there are at a state without a budget; `points_of` tries a schedule."""
        changing = [one for one in calls if _changes(serial, one)]
        firsts = [Interleave(one, OPEN) for one in changing] + ([_OPENED] if _changes(serial, OPEN) else [])
        # An opening has as many for each of them.
        of_an_opening = 1 + points_of(Interleave(OPEN, changing[0])) if changing else 0
        return sum(1 + points_of(one) for one in firsts) + of_an_opening * len(changing)

    def _calls(self, serial: Serial, calls: list[Action]) -> Iterator[Action]:
        """Calls that change something; with a budget a few, each of another name."""
        changing = (one for one in calls if _changes(serial, one))
        if not self._points.limited:
            yield from changing
            return
        others = {one.name: one for one in changing if one.name not in self._tried}
        for action in islice(others.values(), _CALLS):
            self._tried.add(action.name)
            yield action


def _makes_the_files(serial: Serial) -> bool:
    """Whether the opening makes them, and not the first call."""
    try:
        return bool(serial.run(OPEN).files)
    except (sqlite3.Error, Violation):
        # There is no table yet that a fresh reader could read.
        return False


def _changes(serial: Serial, action: Action) -> bool:
    return serial.run(action).view != serial.state.view


def no_files(target: Target) -> State:
    """The state of an empty directory."""
    return State({}, {}, 1, clock=Clock(step_ms=target.clock_step_ms))
