"""States to which the workload comes when its calls are made faster, or slower, than a minute apart.

A lease or a limit of up to a minute is over at the next call, and one of hours is never over, so that a minute between
the calls shows neither. Method. The workload, and its calls again, are played with a second, and with a day, from
each to the next. Where a call then has another answer, or leaves other rows, two callers are tried before it, and
before the call that precedes it: a limit may be reached by then. What has a digit may be a time, and is not compared.
Limits of more calls than the workload has of one name, such as five in a minute, are found by making a call again and
again, a second apart: where it is refused, or has nothing for its caller, two callers make it for the last time.
"""

import contextlib
import re
from collections import Counter
from collections.abc import Collection, Generator, Iterable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

from tornpage.scenarios.execution.interleave.serial import State
from tornpage.scenarios.execution.session_in_use import HangsError
from tornpage.scenarios.execution.snapshots import place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.clock import Clock
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.target import Action, Configuration, Target, completed

_Words = Counter[object]

_PACES_MS: Final = (1_000, 86_400_000)
# After the workload, how many of its calls are made again; and how often one call is.
_MOST_MADE_AGAIN: Final = 16
_REPETITIONS: Final = 12

# What is compared of a call: its answer's kind, words, and whether it is anything; words and keys that came and went.
_Told = tuple[str, _Words, bool, _Words, _Words, int]


class Paces:
    """The states of a target's workload at other paces; it is played in `home`, without the calls `left_out`."""

    def __init__(self, target: Target, home: Path, configuration: Configuration, left_out: set[str]) -> None:
        self._target, self._home, self._configuration = completed(target), home, configuration
        self._left_out = left_out

    def states(self, most: int | None) -> Iterator[tuple[State, Action]]:
        """At each pace the states before calls that it changes, `most` at the most (None: all), with the call."""
        workload = self._target.workload()
        again = [action for action in workload if action.name not in self._left_out]
        calls = (*workload, *islice(cycle(again), _MOST_MADE_AGAIN))
        usual = [told for _, told in self._played(calls, self._target.clock_step_ms)]
        for step_ms in _PACES_MS:
            told = [told for _, told in self._played(calls, step_ms)]
            chosen = dict(islice(_before_the_changed(calls, usual, told), most))
            for state in self._before(chosen, calls, step_ms) if chosen else ():
                yield state, chosen[len(state.before)]

    def last_ones(self) -> Iterator[tuple[State, Action]]:
        """For each name the state in which a call, made often, works for the last time."""
        workload = self._target.workload()
        firsts = {action.name: number for number, action in reversed([*enumerate(workload)])}
        starts = [number for name, number in firsts.items() if name not in self._left_out]
        for start in self._before(starts, workload, _PACES_MS[0]):
            action, number = workload[len(start.before)], len(start.before)
            again = (*start.before, *[action] * _REPETITIONS)
            if (last := self._last_of(again, start)) > 1:
                for state in self._before((number + last,), again, _PACES_MS[0], start):
                    yield state, action

    def _last_of(self, calls: tuple[Action, ...], start: State) -> int:
        """How many calls work, from a state on, before the last one that does; -1 if none fails to."""
        with contextlib.closing(self._played(calls, _PACES_MS[0], (), start)) as played:
            told = ((kind, some) for _, (kind, _, some, *_) in played)
            first = next(told, None)
            return next((number for number, one in enumerate(told) if one != first), -1)

    def _before(
        self, numbers: Collection[int], calls: tuple[Action, ...], step_ms: int, start: State | None = None
    ) -> list[State]:
        """The states before the calls of these numbers."""
        calls = calls[: max(numbers, default=-1) + 1]
        return [state for state, _ in self._played(calls, step_ms, numbers, start) if state is not None]

    def _played(
        self, calls: tuple[Action, ...], step_ms: int, at: Collection[int] = (), start: State | None = None
    ) -> Generator[tuple[State | None, _Told]]:
        """Each call's answer, and the state before it if its number is one of `at`; ends with a call that fails.

        `start`: a state to which the first of these calls have led.
        """
        place({} if start is None else start.files, self._home)
        made = 0 if start is None else len(start.before)
        try:
            with Trial(self._target, self._configuration, self._home, {}) as dry:
                dry.set_clock(clock := _of(self._target, step_ms), made)
                dry.open()
                view, words = dry.live_view(), _Words()
                for number, action in enumerate(calls[made:], start=made):
                    state = None
                    if number in at:
                        state = State(dry.crash_copy(), view, number + 1, calls[:number], clock)
                    dry.at_step(number + 1)
                    answer, _ = dry.call_by_stages(action)
                    said = Counter(_words([answer.value]))
                    keys, before, view = len(view), words, dry.live_view()
                    words = Counter(_words(view.values()))
                    changes = words - before, before - words, len(view) - keys
                    yield state, (answer.kind, said, bool(answer.value), *changes)
                    if answer.kind == "raised":
                        return
        except (Violation, HangsError):
            # Without any fault, and at its own pace, it is judged elsewhere.
            return


def _before_the_changed(
    calls: tuple[Action, ...], usual: list[_Told], told: list[_Told]
) -> Iterator[tuple[int, Action]]:
    """The numbers of calls before which two callers are tried, with the changed call; each of its name once."""
    names, numbers = set[str](), set[int]()
    for number, (action, one, other) in enumerate(zip(calls, usual, told, strict=False)):
        if one != other and action.name not in names:
            names.add(action.name)
            yield from ((at, action) for at in (number - 1, number) if at >= 0 and at not in numbers)
            numbers |= {number - 1, number}


def _of(target: Target, step_ms: int) -> Clock:
    """The clock of a scenario that begins with its pace, which is a step of its own."""
    usual = Clock(step_ms=target.clock_step_ms)
    return usual if step_ms == target.clock_step_ms else Clock(0, usual.at(1), step_ms)


def _words(values: Iterable[Any]) -> Iterator[object]:
    """The parts of these values that are no number, and no text with a digit, such as the state of a job."""
    for value in values:
        if isinstance(value, dict):
            yield from _words(value.values())
        elif isinstance(value, list | tuple):
            yield from _words(value)
        elif value is None or isinstance(value, bool) or (isinstance(value, str) and not re.search(r"\d", value)):
            yield value
