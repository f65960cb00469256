"""Turns: two callers, of which only one runs at a time; `schedule` switches between them at counted operations.

Each caller works on its own thread (`caller`), and runs only while it has the turn. It gives the turn back before a
*switch point* at which it must stop, when it waits (in SQLite's busy handler, or in ``time.sleep``: both are virtual),
when the system reports its thread as blocked (on a Python lock that the other caller holds), and at its end. So a
schedule has the same switches in every run, whatever the timing of the machine.

Switch points are SQLite's lock operations (`Gate.kinds`): between two of them no change by another connection can
become visible. So are the operations on plain files by which one can. For two callers that share one connection that is
too late, because the paused thread would hold SQLite's mutex: there the calls of the caller's thread count instead, and
their returns (`calls`).

Not covered: a switch inside Python code without such an operation, and code that starts threads itself.
"""

import contextlib
import sys
import threading
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple

from tornpage.faults import forks
from tornpage.faults.contention.lines import Line, line_of, stack_of

# It is stuck if it is blocked this many times in a row (a few seconds in all).
_STUCK: Final = 150
# The same where it waits with a limit that passes in real time (a minute at least).
_STUCK_WITH_A_LIMIT: Final = 3_000
# So many points without giving the turn back: it spins.
_MOST_IN_A_ROW: Final = 5_000


class Point(NamedTuple):
    """A switch point: its number in the call (from 1), the operation, and the store's line that made it.

    A negative number is the return of the call with that number.
    """

    number: int
    operation: str
    where: Line | None = None


class Paused(NamedTuple):
    """The caller has stopped before the switch point at which it must stop."""

    point: Point


class Waiting(NamedTuple):
    """The caller waits, or spins: `for_what` is "lock" (of SQLite), "sleep", or "blocked" (the system reports it).

    `stack` says where. A blocked caller that waits with a time limit returns after `rest_s` seconds; `may_end`: its
    limit is not known, and passes in real time.
    """

    for_what: str
    stack: str = ""
    rest_s: float | None = None
    may_end: bool = False

    @property
    def most_rounds(self) -> int:
        """How often in a row it is found blocked before it is taken to be stuck."""
        return _STUCK_WITH_A_LIMIT if self.may_end else _STUCK


class Ended(NamedTuple):
    """The caller's work has ended after `points` switch points; `result` is the value that it returned.

    `returns` are the points whose return is a point, too.
    """

    points: int
    result: Any
    returns: tuple[int, ...] = ()


class Hung(NamedTuple):
    """The caller has not given the turn back within the time limit; `stack` says where it is."""

    stack: str


Event = Paused | Waiting | Ended | Hung


class Turns:
    """The caller's side: counts its points and gives the turn back (a subclass implements `hand_over`).

    A process that the call forks takes no turns: it goes on beside the other caller, as its parent waits for it.
    """

    def __init__(self) -> None:
        self.points = 0
        self.stops: frozenset[int] = frozenset()
        self.returns: list[int] = []
        # The points since it last gave the turn back.
        self._in_a_row = 0
        self._forks = forks.depth()

    def begin(self, stops: frozenset[int]) -> None:
        """Restart the count, and stop before these points."""
        self.points, self.stops, self._in_a_row, self.returns = 0, stops, 0, []
        self._forks = forks.depth()

    def at_point(self, operation: str) -> None:
        """Count an operation, and stop before it if its number is among the stops.

        A call that tries again and again without waiting gives the turn back, too: a system would let the other run.
        """
        if self._forks != forks.depth():
            return
        self.points += 1
        self._in_a_row += 1
        if self._in_a_row > _MOST_IN_A_ROW:
            self._in_a_row = 0
            self.waits("lock")
        if self.points in self.stops:
            self._in_a_row = 0
            self.hand_over(Paused(Point(self.points, operation, line_of(sys._getframe(1)))))

    def at_return(self, operation: str) -> None:
        """Stop after the last point, if that is among the stops."""
        if self._forks != forks.depth():
            return
        self.returns.append(self.points)
        if -self.points in self.stops:
            self._in_a_row = 0
            self.hand_over(Paused(Point(-self.points, operation, line_of(sys._getframe(1)))))

    def waits(self, for_what: str = "sleep") -> None:
        """Give the turn to the other caller, instead of waiting."""
        if self._forks != forks.depth():
            return
        self.hand_over(Waiting(for_what, stack_of(sys._getframe(1))))

    def hand_over(self, event: Event) -> None:
        """Give the turn back, and return when this caller has it again."""
        raise NotImplementedError

    def watching(self) -> AbstractContextManager[None]:
        """A scope of the store's own code, for callers whose points are calls."""
        return contextlib.nullcontext()


# Operations on plain files by which another process could see a change, or make one.
_ON_FILES: Final = frozenset({
    "file-open", "file-create", "file-write", "file-truncate", "file-rename", "file-link", "file-unlink", "file-mkdir",
    "file-rmdir",
})  # fmt: skip


class Gate:
    """An injector that never fires: each lock operation of a caller is a switch point, and so are those on plain files.

    An operation on any other thread counts for the caller that has the turn.
    """

    kinds = frozenset({"lock", "shmlock"}) | _ON_FILES

    def __init__(self) -> None:
        self.turns: dict[int, Turns] = {}
        self.current: Turns | None = None

    def watching(self) -> AbstractContextManager[None]:
        """The scope `watching` of the caller that runs on this thread."""
        turns = self.turns.get(threading.get_ident())
        return turns.watching() if turns else contextlib.nullcontext()

    def decide(self, kind: str, role: str, path: str | None) -> None:  # noqa: ARG002 - the protocol's shape
        """Count the operation for its caller, and let it pass."""
        turns = self.turns.get(threading.get_ident(), self.current)
        if turns is not None and (role == "db" or kind in _ON_FILES):
            turns.at_point(kind)
