"""States to which the workload comes when its calls are made faster, or slower, than a minute apart.

A lease or a limit of up to a minute is over at the next call, and one of hours is never over, so that a minute between
the calls shows neither. Method. The workload, and its calls again, are played with a second, and with a day, from
each to the next. Where a call then has another answer, or leaves other rows, two callers are tried before it, and
before the call that precedes it: a limit may be reached by then. What has a digit may be a time, and is not compared.
"""

import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator
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
# After the workload, how many of its calls are made again.
_MOST_MADE_AGAIN: Final = 16

# What is compared of a call: its answer's kind, words, and whether it is anything; words and keys that came and went.
_Told = tuple[str, _Words, bool, _Words, _Words, int]


class Paces:
    """The states of a target's workload at other paces; it is played in `home`, without the calls `left_out`."""

    def __init__(self, target: Target, home: Path, configuration: Configuration, left_out: set[str]) -> None:
        self._target, self._home, self._configuration = completed(target), home, configuration
        again = [action for action in target.workload() if action.name not in left_out]
        self._calls = (*target.workload(), *islice(cycle(again), _MOST_MADE_AGAIN))

    def states(self, most: int | None) -> Iterator[tuple[State, Action]]:
        """At each pace the states before calls that it changes, `most` at the most (None: all), with the call."""
        usual = [told for _, told in self._played(self._target.clock_step_ms)]
        for step_ms in _PACES_MS:
            told = [told for _, told in self._played(step_ms)]
            chosen = dict(islice(self._before_the_changed(usual, told), most))
            states = (state for state, _ in self._played(step_ms, chosen) if state is not None)
            yield from islice(((state, chosen[len(state.before)]) for state in states), len(chosen))

    def _before_the_changed(self, usual: list[_Told], told: list[_Told]) -> Iterator[tuple[int, Action]]:
        """The numbers of calls before which two callers are tried, with the changed call; each of its name once."""
        names, numbers = set[str](), set[int]()
        for number, (action, one, other) in enumerate(zip(self._calls, usual, told, strict=False)):
            if one != other and action.name not in names:
                names.add(action.name)
                yield from ((at, action) for at in (number - 1, number) if at >= 0 and at not in numbers)
                numbers |= {number - 1, number}

    def _played(self, step_ms: int, at: Container[int] = ()) -> Iterator[tuple[State | None, _Told]]:
        """Each call's answer, and the state before it if its number is one of `at`; ends with a call that fails."""
        place({}, self._home)
        try:
            with Trial(self._target, self._configuration, self._home, {}) as dry:
                dry.set_clock(clock := _of(self._target, step_ms), 0)
                dry.open()
                view, words = dry.live_view(), _Words()
                for number, action in enumerate(self._calls):
                    state = None
                    if number in at:
                        state = State(dry.crash_copy(), view, number + 1, self._calls[:number], clock)
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
