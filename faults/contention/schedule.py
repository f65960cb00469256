"""The schedule of two callers: which of them runs next, whose time limit passes, and when both wait for ever.

`switch` runs two callers, `alone` runs one. A caller is anything with `name`, `go` and `expire`: a `turns.Caller`, or
one that works in another process.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from tornpage.faults.contention.turns import Ended, Event, Hung, Waiting

# Both wait for each other if they have waited in turn this many times, with a new try each time; and the total limit.
_MOST_ROUNDS: Final = 30
_MOST_WAITS: Final = 20_000
# Of limits of waits; each counts as so long at least, which keeps their number below 600.
_MOST_EXPIRED_S, _LEAST_EXPIRED_S = 3600.0, 6.0


def alone(caller: Any) -> Ended:
    """Run a caller's work to its end, with no other caller running; raises `Deadlock`."""
    stack, expired_s = "", 0.0
    for turn in range(_MOST_WAITS):
        event: Event = caller.go()
        if isinstance(event, Ended):
            return event
        if isinstance(event, Hung | Waiting):
            stack = event.stack
            if isinstance(event, Waiting) and event.rest_s is not None and expired_s < _MOST_EXPIRED_S:
                caller.expire()
                expired_s += max(event.rest_s, _LEAST_EXPIRED_S)
            elif isinstance(event, Hung) or (event.for_what == "blocked" and turn > event.most_rounds):
                break
    raise Deadlock({caller.name: stack}, f"{caller.name} does not return")


class Hop(NamedTuple):
    """One turn of a schedule: the caller that ran, and the event that ended its turn."""

    caller: str
    event: Event


class Deadlock(Exception):  # noqa: N818 - a finding, not an error
    """Both callers wait for each other, or one waits for ever; `stacks` by the caller's name."""

    def __init__(self, stacks: dict[str, str], reason: str) -> None:
        self.stacks = stacks
        super().__init__(reason)

    def __reduce__(self) -> tuple[type["Deadlock"], tuple[dict[str, str], str]]:
        return type(self), (self.stacks, str(self))


def switch(
    first: Any, second: Any, hops: list[Hop] | None = None, at_switch: Callable[[Hop], None] | None = None
) -> list[Hop]:
    """Run two callers that have work: the first until it stops, the second to its end, then the rest of the first.

    A caller that waits gives the turn to the other one. Returns the turns in order; they are also appended to `hops` as
    they happen. `at_switch` gets each turn that ends with a stop, or with the end of the call that ends first, before
    the other caller continues. Raises `Deadlock`.
    """
    return _Schedule(first, second, [] if hops is None else hops, at_switch).run()


class _Schedule:
    def __init__(
        self, first: Any, second: Any, hops: list[Hop], at_switch: Callable[[Hop], None] | None = None
    ) -> None:
        self._at_switch = at_switch
        self._callers = {first.name: first, second.name: second}
        self._others = {first.name: second, second.name: first}
        self._active = first
        self._hops = hops
        self._ended: set[str] = set()
        # The callers that wait, and where, since one of them last made progress.
        self._waiting: dict[str, Waiting] = {}
        self._rounds = self._waits = 0
        self._expired_s = 0.0

    def run(self) -> list[Hop]:
        while len(self._ended) < 2:
            active = self._active
            event = active.go()
            other = self._others[active.name]
            expired = None
            if isinstance(event, Waiting | Hung):
                expired = self._wait(active.name, event, other.name)
            else:
                self._hops.append(Hop(active.name, event))
                self._waiting.clear()
                self._rounds = 0
                if isinstance(event, Ended):
                    self._ended.add(active.name)
                if self._at_switch is not None and len(self._ended) < 2:
                    self._at_switch(self._hops[-1])
            self._active = expired or (active if other.name in self._ended else other)
        return self._hops

    def _wait(self, name: str, event: Waiting | Hung, other: str) -> Any:
        """Note that a caller waits; returns the caller whose time limit has passed, if any. Raises `Deadlock`."""
        self._waits += 1
        self._rounds += 1
        stacks = {one: event.stack for one, event in self._waiting.items()} | {name: event.stack}
        if isinstance(event, Hung) or self._waits > _MOST_WAITS:
            raise Deadlock(stacks, f"{name} does not return")
        if not isinstance(self._waiting.get(name), Waiting):
            self._hops.append(Hop(name, event))
        self._waiting[name] = event
        if (other in self._ended or other in self._waiting) and (expired := self._expired()) is not None:
            return expired
        blocked = event.for_what == "blocked"
        if other in self._ended:
            if blocked and self._rounds > event.most_rounds:
                raise Deadlock(stacks, f"{name} is blocked, and {other} has ended")
        elif other in self._waiting and self._rounds > _most_rounds(event, self._waiting[other]):
            raise Deadlock(stacks, f"{name} and {other} wait for each other")
        return None

    def _expired(self) -> Any:
        """The caller whose time limit comes first, once that has passed; None if none waits with a limit."""
        # One that sleeps, or tries again, may still notify the other one.
        goes_on = any(event.for_what != "blocked" for event in self._waiting.values())
        limits = {
            name: event.rest_s
            for name, event in self._waiting.items()
            if event.rest_s is not None and not (goes_on and event.rest_s)
        }
        if not limits or self._expired_s > _MOST_EXPIRED_S:
            return None
        name = min(limits, key=lambda one: limits[one])
        self._expired_s += max(limits[name], _LEAST_EXPIRED_S)
        self._callers[name].expire()
        # It goes on, and the other one may have to wait longer.
        del self._waiting[name]
        return self._callers[name]


def _most_rounds(one: Waiting, other: Waiting) -> int:
    """After how many rounds two callers that wait are taken to wait for each other."""
    if any(wait.for_what == "blocked" and wait.rest_s is None for wait in (one, other)):
        return max(one.most_rounds, other.most_rounds)
    # One that sleeps may look again until a time of its own; SQLite's limit is the store's, and ends a real deadlock.
    return _MOST_ROUNDS if one.for_what == other.for_what == "lock" else _MOST_WAITS
