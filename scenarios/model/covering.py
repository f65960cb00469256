"""Choose which fault points of a call a limited budget tries: a covering design, then random points.

Method. A point is one operation that fails in one way: with an effect and its timing, once or on every later operation
too (sticky). In each call

1. every operation fails once, in the way tried least often so far. The order of comparison: the effect on this kind of
   operation, the effect in this call, then once or sticky;
2. each effect that no operation of this call has had is tried;
3. each effect on a kind of operation that no call has had is tried;
4. each lock of the database is refused from then on: a busy handler hides one refusal, and what a store leaves open
   at a COMMIT that stays refused shows nowhere else;
5. random points use the rest of the budget.

So every budget covers each operation of each call, each pair of call and effect, and each pair of operation kind and
effect. Random points spread evenly over the others. "So far" counts what the same `Covering` object has chosen; each
part has its own, so parts don't depend on each other.

Not covered: triples, such as each effect on each operation; only a run that tries all points covers them.
"""

from collections import Counter
from collections.abc import Hashable, Sequence, Set
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from typing import NamedTuple

# The kind and role of an operation, and its ordinal among operations of that kind and role in the call, from 1.
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
        """Record what can fail in a call; None stands for a point that belongs to no single operation."""
        self.there[place] = len(operations - {None})

    def add(self, other: "OperationsTried") -> None:
        """Add the result of another part, which may cover the same calls."""
        self.there |= other.there
        self.failed |= other.failed


class Covering:
    """Chooses the points of one call after another, and remembers the pairs that earlier calls have covered."""

    def __init__(self) -> None:
        self._used: Counter[Hashable] = Counter()

    def choose(self, variants: Sequence[Variant], most: int, generator: Random) -> list[int]:
        """Return the sorted indexes of the points to try in one call: the design, filled to `most` at random."""
        # This random order breaks ties.
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
        chosen |= {index: None for index in order if _stays_refused(variants[index])}
        rest = (index for index in order if index not in chosen)
        return sorted((*chosen, *islice(rest, max(most - len(chosen), 0))))

    def _burden(self, variant: Variant, in_call: "Counter[Hashable]") -> tuple[int, int, int]:
        """How often the pairs of this variant have been tried so far."""
        return self._used[_pair(variant)], in_call[_effect(variant)], self._used[_triple(variant)]


def _stays_refused(variant: Variant) -> bool:
    return variant.is_sticky and variant.kind == ("lock", "db") and variant.effect[1] == "BUSY"


def _operation(variant: Variant) -> Hashable:
    return variant.kind, variant.ordinal


def _effect(variant: Variant) -> Hashable:
    return variant.effect


def _pair(variant: Variant) -> Hashable:
    return variant.kind, variant.effect


def _triple(variant: Variant) -> Hashable:
    return variant.kind, variant.effect, variant.is_sticky
