"""Which points of a call are tried where not all of them are: a covering design, and the rest at random.

Method. A point is one operation that fails in one way: with an effect and its timing, once or for good. Of each call

1. every operation fails once, in the way that was tried least often until now: the effect on operations of its kind
   first, then the effect in this call, then once or for good;
2. each effect that no operation of this call has met yet is tried in it;
3. each effect on a kind of operation that no call has met yet is tried;
4. points at random fill up what is left of the budget.

So each operation of each call, each pair of call and effect, and each pair of kind of operation and effect is there
whatever the budget is, and what is drawn spreads over the others evenly. What was tried "until now" is what the same
`Covering` has chosen: one is for the calls of one part, so that no part depends on another.

Not covered: triples, such as each effect on each operation; a run that tries all points has those.
"""

from collections import Counter
from collections.abc import Hashable, Sequence, Set
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from typing import NamedTuple

# A kind and a role, as they are counted, and which of these in its call, from 1.
Operation = tuple[tuple[str, str], int]
# A configuration, and the step and the name of a call in it.
CallPlace = tuple[str, int, str]


class Variant(NamedTuple):
    """One way in which one operation fails; `kind` and `ordinal` (from 1) say which operation of the call it is."""

    kind: tuple[str, str]
    ordinal: int
    effect: tuple[str, str]
    is_sticky: bool


@dataclass
class OperationsTried:
    """Of each call the number of operations that can fail, and which operations have failed at least once."""

    there: dict[CallPlace, int] = field(default_factory=dict)
    failed: set[tuple[CallPlace, Operation]] = field(default_factory=set)

    def there_are(self, place: CallPlace, operations: Set[Operation | None]) -> None:
        """Take down what can fail in a call; None is a point that is about no single operation."""
        self.there[place] = len(operations - {None})

    def add(self, other: "OperationsTried") -> None:
        """Take in what another part came to, maybe of the same calls."""
        self.there |= other.there
        self.failed |= other.failed


class Covering:
    """Chooses points of one call after the other; remembers which pairs the calls before have had."""

    def __init__(self) -> None:
        self._used: Counter[Hashable] = Counter()

    def choose(self, variants: Sequence[Variant], most: int, generator: Random) -> list[int]:
        """The indexes of what is tried of one call, in order: the covering design, filled up to `most` at random."""
        # Ties are broken by where each stands in this order.
        order = generator.sample(range(len(variants)), len(variants))
        in_call: Counter[Hashable] = Counter()
        chosen: dict[int, None] = {}
        for key_of, seen in ((_operation, in_call), (_effect, in_call), (_pair, self._used)):
            among: dict[Hashable, list[int]] = {}
            for index in order:
                among.setdefault(key_of(variants[index]), []).append(index)
            for key, indexes in among.items():
                if seen[key]:
                    continue
                best = min(indexes, key=lambda index: self._burden(variants[index], in_call))
                chosen[best] = None
                in_call.update((_operation(variants[best]), _effect(variants[best])))
                self._used.update((_pair(variants[best]), _triple(variants[best])))
        rest = (index for index in order if index not in chosen)
        return sorted((*chosen, *islice(rest, max(most - len(chosen), 0))))

    def _burden(self, variant: Variant, in_call: "Counter[Hashable]") -> tuple[int, int, int]:
        """How often what it tries was tried until now."""
        return self._used[_pair(variant)], in_call[_effect(variant)], self._used[_triple(variant)]


def _operation(variant: Variant) -> Hashable:
    return variant.kind, variant.ordinal


def _effect(variant: Variant) -> Hashable:
    return variant.effect


def _pair(variant: Variant) -> Hashable:
    return variant.kind, variant.effect


def _triple(variant: Variant) -> Hashable:
    return variant.kind, variant.effect, variant.is_sticky
