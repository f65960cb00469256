"""Which two calls to try together: ordered pairs, the promising ones first.

Method. A pair is tried if one of its calls changes something. With two threads on one store two reads are a pair, too,
after all others: they share what the connection keeps (a cursor, a `row_factory`, a temporary table). First come those
that change the same rows or are the same call. Where only some can be tried, a number of pairs is first made one after
the other: what counts is whether the first call, which is the one that is stopped, has another effect or answer after
the second, or the second, which changes nothing, has another answer after the first: it may see half of what the first
does. Pairs without any effect on each other come last. Two calls of one method whose arguments change places come
first: one moves `a` below `b`, the other `b` below `a`; so do two that take the last of a thing under two names, which
the workload itself may not make. A call that returns nothing and leaves the file as it is may have its effect in
memory, as one that fills a cache: it counts as having one on each call with which it shares an argument. Of the same
two names one pair follows the other, those tried at earlier states included.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import Final

from tornpage.scenarios.execution.interleave.serial import Serial
from tornpage.scenarios.execution.session_in_use import HangsError
from tornpage.scenarios.model.judging.checks import Violation, differences
from tornpage.scenarios.model.target import Action

# The delay of a pair that is less likely to conflict; the random part is up to 1.
_LATER: Final = 0.3
# The delay for each pair of the same two names before it.
_AGAIN: Final = 0.4
# For how many pairs of a state it is found out whether the calls have an effect on each other.
_MADE_IN_ORDER: Final = 12


@dataclass
class _Pair:
    """Two calls to try.

    `group` is 0 if the second has an effect on the first, or only reads what the first changes; 2 if neither has an
    effect on the other.
    """

    place: float
    first: Action
    second: Action
    group: int = 1

    @property
    def kind(self) -> tuple[str, str]:
        return self.first.name, self.second.name


class Pairs:
    """The pairs of calls at one state after the other; the same generator gives the same order."""

    def __init__(self, generator: Random) -> None:
        self._generator = generator
        self._tried: Counter[tuple[str, str]] = Counter()

    def are_tried(self, first: Action, second: Action) -> None:
        """Count a pair, so that others come first at the next state."""
        self._tried[first.name, second.name] += 1

    def of(
        self,
        serial: Serial,
        calls: list[Action],
        varied: list[tuple[Action, Action]],
        *,
        made_in_order: bool = False,
        reads: bool = False,
    ) -> list[tuple[Action, Action]]:
        """All pairs worth trying at a state; with `made_in_order` by their effects on each other.

        `varied`: pairs beside those of the calls, of which the second call has an effect on the first. `reads`: also,
        after all others, two calls that change nothing.
        """
        changed = {str(one): _changed_by(serial, one) for one in calls}
        ranked: list[_Pair] = []
        last: list[_Pair] = []
        for first, second in product(calls, repeat=2):
            ours, theirs = changed[str(first)], changed[str(second)]
            if ours or theirs:
                apart = 0 if ours & theirs else 1 if first.name == second.name else 2
                delay = -1 if _mirror_each_other(first, second) else _LATER * apart
                ranked.append(_Pair(self._generator.random() + delay, first, second))
            elif reads:
                last.append(_Pair(self._generator.random(), first, second))
        if made_in_order:
            ranked = self._new_ones_first(ranked)
            for one in ranked[:_MADE_IN_ORDER]:
                is_felt = (
                    _meet_in_memory(serial, one.first, one.second)
                    or _meet_in_a_file(serial, one.first, one.second)
                    or differs_after(serial, one.second, one.first)
                )
                only_reads = not changed[str(one.second)]
                if is_felt:
                    one.group = 0
                elif differs_after(serial, one.first, one.second):
                    one.group = 0 if only_reads else 1
                else:
                    one.group = 2
        for first, second in varied:
            # Each writes a row of its own, and yet one has an effect on the other: there is not enough for both.
            is_early = changed[str(first)] != _changed_by(serial, second)
            ranked.append(_Pair(self._generator.random() - is_early, first, second, 0 if is_early else 1))
        ordered = self._new_ones_first(ranked) + self._new_ones_first(last)
        return [(one.first, one.second) for one in ordered]

    def _new_ones_first(self, pairs: list[_Pair]) -> list[_Pair]:
        """By group, then by place; pairs of the same two names one after the other, those at other states included."""
        seen = Counter(self._tried)
        ranks: list[tuple[int, float, _Pair]] = []
        for one in sorted(pairs, key=lambda one: (one.group, one.place)):
            ranks.append((one.group, one.place + _AGAIN * seen[one.kind], one))
            seen[one.kind] += 1
        return [one for *_, one in sorted(ranks, key=lambda ranked: ranked[:2])]


def _changed_by(serial: Serial, call: Action) -> set[str]:
    """The keys of the rows that a call, made alone, changes."""
    return {row.key for row in differences(serial.state.view, serial.run(call).view)}


def _mirror_each_other(first: Action, second: Action) -> bool:
    """Whether they are calls of one method, and arguments of the one change places in the other."""
    if first.name != second.name or first.args.keys() != second.args.keys():
        return False
    changed = [(value, second.args[key]) for key, value in first.args.items() if value != second.args[key]]
    return bool(changed) and all((other, one) in changed for one, other in changed)


def _meet_in_memory(serial: Serial, first: Action, second: Action) -> bool:
    """Whether one of them has no effect that the file or its answer shows, and takes an argument of the other."""
    shared = any(one in [*second.args.values()] for one in first.args.values())
    return (shared or not first.args or not second.args) and any(
        run.said.kind == "done" and run.said.value is None and run.view == serial.state.view
        for run in map(serial.run, (first, second))
    )


def _meet_in_a_file(serial: Serial, first: Action, second: Action) -> bool:
    """Whether two calls change one file that is no database: each may write what it has read of the other's rows."""
    return first != second and bool(serial.plain_files_changed(first) & serial.plain_files_changed(second))


def differs_after(serial: Serial, earlier: Action, later: Action) -> bool:
    """Whether a call has another effect or answer after an earlier one than alone."""
    try:
        after, alone = serial.run(earlier, later), serial.run(later)
    except (Violation, HangsError):
        return True
    then = serial.run(earlier).view
    effects = [differences(before, run.view) for before, run in ((then, after), (serial.state.view, alone))]
    return after.said != alone.said or effects[0] != effects[1]
