"""Which crash states of one call are tried, if not all of them are.

Method. A crash does harm where an order matters: around an acknowledgement, a sync, a rename, a delete, a truncate, and
each write of a checkpoint. So the sample is not uniform:

1. at every position the process dies, and the power fails with everything kept, everything lost, and only names, data
   or sizes kept; where a call that changed something, or failed, returns, also with its changes kept up to each one;
2. at those positions single losses, tears and holes of the newest changes there;
3. the same of all other changes, and subsets, at random positions.

The first group is always complete for the workload itself; of the others as many different disks are tried as asked
for, whether or not several crashes leave the same one. Positions come in the order of the tape, which is read once.
"""

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

from tornpage import faults

_ORDERING: Final = frozenset({"sync", "syncdir", "syncall", "rename", "link", "delete", "truncate"})
# Of the changes that are unsynced at a position, so many of the newest are near it.
_NEAR: Final = 8
# The most crashes tried for each wanted disk: many leave a known one.
_LOOKED_AT: Final = 6


def decisive_positions(
    operations: Sequence[faults.Operation], acknowledged: Collection[int], checkpointed: str | None
) -> frozenset[int]:
    """The positions of a tape around which an order matters; `checkpointed` is the database with a log, if any."""
    found = set(acknowledged)
    for index, operation in enumerate(operations):
        if operation.kind in _ORDERING:
            found |= {index, index + 1}
        elif operation.kind == "write" and operation.path == checkpointed:
            found.add(index + 1)
    return frozenset(found)


class Sample:
    """Draws the states of one stretch of a tape; `is_new` tells whether a state's disk has not been read yet."""

    def __init__(
        self,
        states: faults.CrashStates,
        decisive: frozenset[int],
        generator: random.Random,
        is_new: Callable[[faults.State], bool],
    ) -> None:
        self._states = states
        self._decisive = decisive
        self._generator = generator
        self._is_new = is_new

    def every(self, positions: Sequence[int]) -> Iterator[faults.State]:
        """All that the rules enumerate."""
        for position in positions:
            yield self._states.process(position)
            yield from map(self._states.at, self._states.crashes(position))

    def some(self, positions: Sequence[int], most: int, *, whole: bool, answered: bool) -> Iterator[faults.State]:
        """Everything of the first kind, and so many disks of the others; without `whole` few of the first, too.

        `answered`: at the last position a call that changed something, or failed, has returned.
        """
        decisive = [position for position in positions if position in self._decisive]
        ends = frozenset(positions)
        if not whole:
            others = decisive[:-1]
            ends = frozenset((*decisive[-1:], *self._generator.sample(others, min(max(most // 3, 1), len(others)))))
        wanted, left = self._wanted(positions, decisive, most), 0
        for position in positions:
            in_order: dict[faults.Crash, None] = {}
            if position in ends:
                yield self._states.process(position)
                yield from map(self._states.at, self._states.whole(position))
            if answered and position == positions[-1]:
                first = positions[0] - 1
                in_order = dict.fromkeys(self._states.prefixes(position, first, None if whole else _NEAR))
                yield from map(self._states.at, in_order)
            left += wanted[position]
            if left:
                for state in self._partial(position, left, {*in_order}):
                    left -= self._is_new(state)
                    yield state

    def _wanted(self, positions: Sequence[int], decisive: Sequence[int], most: int) -> Counter[int]:
        """How many disks of each position: two of three at the decisive ones, in turns; the rest anywhere."""
        wanted: Counter[int] = Counter()
        near = (2 * most + 2) // 3 if decisive else 0
        order = list(decisive)
        self._generator.shuffle(order)
        for number in range(near):
            wanted[order[number % len(order)]] += 1
        wanted.update(self._generator.choices(positions, k=most - near) if positions else ())
        return wanted

    def _partial(self, position: int, most: int, tried: set[faults.Crash]) -> Iterator[faults.State]:
        """States with lost, torn or missing data, until so many of them are new; none of those that were tried."""
        crashes = [(_newest(crash), crash) for crash in self._states.partial(position)]
        newest = set(sorted({change for change, _ in crashes}, reverse=True)[:_NEAR])
        near = [crash for change, crash in crashes if change in newest]
        others = [crash for change, crash in crashes if change not in newest]
        first = list(_first_of(near))
        for them in (near, others):
            self._generator.shuffle(them)
        for crash in (*first, *near, *others)[: most * _LOOKED_AT]:
            if crash in tried:
                continue
            tried.add(crash)
            state = self._states.at(crash)
            most -= self._is_new(state)
            yield state
            if most <= 0:
                return


def _newest(crash: faults.Crash) -> int:
    """The newest change that a crash loses or damages."""
    # Of most crashes, by far, only `lost` is set; it is in order.
    newest = crash.lost[-1] if crash.lost else -1
    if crash.torn:
        newest = max(newest, crash.torn[0])
    return max(newest, *(index for index, _, _ in crash.holes)) if crash.holes else newest


def _first_of(crashes: Sequence[faults.Crash]) -> Iterator[faults.Crash]:
    """For each way to damage a change, the crash of the newest change: its loss, its first tear, its last hole."""
    alone = [crash for crash in crashes if len(crash.lost) == 1 and not crash.torn and not crash.holes]
    torn = [crash for crash in crashes if crash.torn and not crash.lost]
    holes = [crash for crash in crashes if crash.holes and not crash.lost]
    torn_first = [crash for crash in crashes if crash.torn and crash.lost]
    for them in (alone, torn, holes, torn_first):
        yield from them[:1]
        newest = [crash for crash in them if _newest(crash) == _newest(them[0])] if them else []
        yield from newest[-1:]
