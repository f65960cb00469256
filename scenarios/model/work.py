"""The pieces that a search is cut into: each can be done by itself, in any process, on any machine.

Where a search is cut depends on the target and on the plan, never on who does the work: the same parts, each with
randomness of its own, come to the same, whatever is done beside them. Put together in their order they are the search.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Self

import msgspec

from tornpage.scenarios.model.target import Configuration


class Part(msgspec.Struct, frozen=True):
    """A piece of a search: `kind` is the search's own word, and numbers from `first` up to `end` (None: all) are its.

    What is numbered, each search says: calls of the workload, kills, batches of scenarios. `most` is the most points of
    one call, where they are spread over all calls first; None: as many as the profile says.
    """

    configuration: Configuration
    first: int = 0
    end: int | None = None
    kind: str = ""
    most: int | None = None

    def __contains__(self, number: int) -> bool:
        """Whether a number is its own."""
        return self.first <= number and not self.is_past(number)

    def is_past(self, number: int) -> bool:
        """Whether it has ended before that number."""
        return self.end is not None and number >= self.end

    def __str__(self) -> str:
        parts = (self.configuration, self.kind, self.first, self.end, *(() if self.most is None else (self.most,)))
        return " ".join(str(one) for one in parts if one != "")


# Parts of most searches play the workload up to their own calls: few parts, or that grows with the square of the calls.
_MOST_PARTS: Final = 12


def cut(configuration: Configuration, numbers: int, size: int, kind: str = "") -> Iterator[Part]:
    """So many calls in parts of one size, or in a dozen larger ones; the last part may be smaller, and has no end."""
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
        """Read ``2/3``; raises ValueError saying what is allowed."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        number, of = map(int, found.groups()) if found else (0, 0)
        if not 1 <= number <= of:
            raise ValueError(f"{text!r} is no shard; write NUMBER/OF, such as 1/3, 2/3 and 3/3")
        return cls(number, of)

    def owns(self, number: int) -> bool:
        """Whether the part of that number is its own."""
        return number % self.of == self.number - 1


class Need(msgspec.Struct, frozen=True):
    """What a search must have met, by the name of a count, or `reason` is why it has proved too little.

    Where `given` names counts, it is needed only if none of these is zero; `{}` in the reason is the first of them.
    """

    count: str
    reason: str
    given: tuple[str, ...] = ()

    def unmet(self, counts: Counter[str]) -> str:
        """The reason, "" where it was met."""
        if counts[self.count] or not all(counts[name] for name in self.given):
            return ""
        return self.reason.format(*(counts[name] for name in self.given[:1]))


def unmet(needs: Iterable[Need], *counts: dict[str, int]) -> Iterator[str]:
    """The reasons of all needs that these counts, added up, do not meet."""
    added: Counter[str] = Counter()
    for one in counts:
        added.update(one)
    return filter(None, (need.unmet(added) for need in needs))


class Done(msgspec.Struct):
    """What a part came to.

    `counts` are told to people, `seen` only compared with what was needed; `more` is the search's own. `complete` is
    False where something has cut it short. After a part that `ends` the search, no other is begun. `error` is what kept
    it from going on.
    """

    counts: Counter[str] = msgspec.field(default_factory=Counter)
    seen: Counter[str] = msgspec.field(default_factory=Counter)
    seconds: float = 0.0
    complete: bool = False
    ends: bool = False
    more: Any = None
    error: BaseException | None = None


# Does a part, here or elsewhere.
Do = Callable[[Part], Done]
