"""The parts that a search is divided into: any process on any machine can run each of them independently.

The division depends on the target and on the plan, never on the workers. Each part has its own random generator, so it
gives the same result whatever runs beside it. The parts, joined in order, are the whole search.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Self

import msgspec

from tornpage.scenarios.model.target import Configuration


class Part(msgspec.Struct, frozen=True):
    """A part of a search, with a `kind` that the search names, and the numbers from `first` up to `end` (None: all).

    Each search defines what it numbers: calls of the workload, kills, batches of scenarios. `most` is the most points
    of one call, where points are first spread over all calls; None: as the profile says.
    """

    configuration: Configuration
    first: int = 0
    end: int | None = None
    kind: str = ""
    most: int | None = None

    def __contains__(self, number: int) -> bool:
        """Whether the part covers a number."""
        return self.first <= number and not self.is_past(number)

    def is_past(self, number: int) -> bool:
        """Whether it has ended before that number."""
        return self.end is not None and number >= self.end

    def __str__(self) -> str:
        parts = (self.configuration, self.kind, self.first, self.end, *(() if self.most is None else (self.most,)))
        return " ".join(str(one) for one in parts if one != "")


# Parts of most searches replay the workload up to their own calls, so few parts: the cost grows with the square of the
# calls.
_MOST_PARTS: Final = 12


def cut(configuration: Configuration, numbers: int, size: int, kind: str = "") -> Iterator[Part]:
    """Divide the calls into parts of one size, or a dozen larger ones; the last may be smaller, and has no end."""
    size = max(size, -(-numbers // _MOST_PARTS))
    for first in range(0, max(numbers, 1), size):
        yield Part(configuration, first, first + size if first + size < numbers else None, kind)


class Shard(msgspec.Struct, frozen=True):
    """One of several runs that share the parts of a campaign among them: the `number`th (from 1) `of` so many."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``2/3``; raises ValueError that names what is allowed."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        number, of = map(int, found.groups()) if found else (0, 0)
        if not 1 <= number <= of:
            raise ValueError(f"{text!r} is not a shard; write NUMBER/OF, such as 1/3, 2/3 and 3/3")
        return cls(number, of)

    def owns(self, number: int) -> bool:
        """Whether this shard runs the part of that number."""
        return number % self.of == self.number - 1


class Need(msgspec.Struct, frozen=True):
    """A count that a search must have reached, or else `reason` says why it has proved too little.

    If `given` names counts, the need applies only if none of these is zero; `{}` in the reason is the first of them.
    """

    count: str
    reason: str
    given: tuple[str, ...] = ()

    def unmet(self, counts: Counter[str]) -> str:
        """The reason, "" if it was met."""
        if counts[self.count] or not all(counts[name] for name in self.given):
            return ""
        return self.reason.format(*(counts[name] for name in self.given[:1]))


def unmet(needs: Iterable[Need], *counts: dict[str, int]) -> Iterator[str]:
    """The reasons of all needs that the sum of these counts does not meet."""
    added: Counter[str] = Counter()
    for one in counts:
        added.update(one)
    return filter(None, (need.unmet(added) for need in needs))


class Done(msgspec.Struct):
    """The result of a part.

    `counts` are shown to people, `seen` only compared with needs; `more` belongs to the search. `complete` is False if
    the part was cut short. After a part that `ends` the search, no other starts. `error` is what stopped it.
    """

    counts: Counter[str] = msgspec.field(default_factory=Counter)
    seen: Counter[str] = msgspec.field(default_factory=Counter)
    seconds: float = 0.0
    complete: bool = False
    ends: bool = False
    more: Any = None
    error: BaseException | None = None


# Runs a part, here or elsewhere.
Do = Callable[[Part], Done]
