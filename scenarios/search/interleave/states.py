"""The states at which two callers are tried: those before the calls of the workload, as many as there is room for.

Beyond a short workload, with a budget that has room for more: those after its calls, made again.
"""

from collections.abc import Generator, Iterator
from itertools import cycle, islice, zip_longest
from pathlib import Path
from random import Random
from typing import Final

from tornpage.scenarios.execution.interleave.serial import State
from tornpage.scenarios.execution.snapshots import Files, place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.target import Action, Target, TargetError, View
from tornpage.scenarios.model.work import Part

# The share of one state in a budget, so that one or two pairs of calls fit into it.
SCHEDULES_A_STATE: Final = 24
# After the workload, the most of its calls that are made once more.
_MOST_MADE_AGAIN: Final = 8
# So many states are several.
_SEVERAL: Final = 4


class States:
    """The states of a target's workload, which is played in `home`.

    `left_out`: the names of calls that two callers don't make. `most_schedules`: the budget of all states; None for
    all of them.
    """

    def __init__(self, target: Target, home: Path, left_out: set[str], most_schedules: int | None) -> None:
        self._target, self._home, self._most_schedules = target, home, most_schedules
        self._workload = target.workload()
        self._left_out = left_out | set(target.refuses)

    def chosen(self, draw: Random, names: Random, turn: int) -> tuple[set[int], set[int]]:
        """The steps before which two callers are tried, as many as the budget has room for; and the others.

        Each is that before a call of another name, as far as possible; in the next `turn` come those of further names,
        in the order that `names` gives. In the first one the first state is among them, if there are several: what a
        store makes later is missing there.
        """
        steps = range(len(self._workload) + 1)
        if self._most_schedules is None:
            return set(steps), set()
        # If the next call is one that two callers may make, there is a pair of calls to try.
        worthwhile = [step for step in steps[:-1] if self._workload[step].name not in self._left_out] or list(steps)
        number = max(1, self._most_schedules // SCHEDULES_A_STATE)
        # The last state, too, if there is room: a limit may be reached by then, and everything is there.
        chosen = {*worthwhile, steps[-1]}
        if number < len(worthwhile):
            chosen = set(self._of_each_name(worthwhile, number, draw, names, turn))
        return chosen, set(steps) - chosen

    def _of_each_name(self, steps: list[int], number: int, draw: Random, names: Random, turn: int) -> list[int]:
        by_name: dict[str, list[int]] = {}
        for step in steps:
            name = self._workload[step].name if step < len(self._workload) else ""
            by_name.setdefault(name, []).append(step)
        order = [*by_name]
        names.shuffle(order)
        for of_one in by_name.values():
            draw.shuffle(of_one)
        start = turn * number % len(order)
        rounds = zip_longest(*(by_name[name] for name in (*order[start:], *order[:start])))
        found = [step for each in rounds for step in each if step is not None]
        return [*dict.fromkeys((*(steps[:1] if not turn and number >= _SEVERAL else []), *found))][:number]

    def before(self, chosen: set[int], part: Part) -> Generator[State]:
        """The states before these steps, each once, as the workload comes to them; other files are part of one."""
        place({}, self._home)
        try:
            with Trial(self._target, part.configuration, self._home, {}) as dry:
                yield from self._played(dry, chosen, part)
        except Violation as violation:
            what = f"{self._target.name} fails without any fault at {part.configuration}: {violation.message}"
            raise TargetError(what) from violation

    def _played(self, dry: Trial, chosen: set[int], part: Part) -> Iterator[State]:
        seen: list[tuple[View, Files]] = []
        dry.at_step(0)
        dry.open()
        for step, action in enumerate((*self._workload, None)):
            if part.is_past(step):
                return
            if step in part and step in chosen:
                yield from _new_state(dry, self._workload[:step], seen)
            if action is not None:
                dry.at_step(step + 1)
                answer, _ = dry.call_by_stages(action)
                if answer.kind == "raised":
                    message = f"{self._target.name}: {action} fails without any fault: it {answer}"
                    raise TargetError(message) from answer.error
        if len(self._workload) in part and len(self._workload) in chosen:
            yield from self._beyond(dry, seen)

    def _beyond(self, dry: Trial, seen: list[tuple[View, Files]]) -> Iterator[State]:
        """The states after calls made again, when a limit may be reached."""
        made = list(self._workload)
        again = cycle([action for action in made if action.name not in self._left_out] or made)
        for action in islice(again, _MOST_MADE_AGAIN if made else 0):
            if len(seen) >= (self._most_schedules or 0) // SCHEDULES_A_STATE:
                return
            made.append(action)
            dry.at_step(len(made))
            if dry.call_by_stages(action)[0].kind == "raised":
                return
            yield from _new_state(dry, tuple(made), seen)


def _new_state(dry: Trial, made: tuple[Action, ...], seen: list[tuple[View, Files]]) -> Iterator[State]:
    """The state after these calls, unless an equal one was `seen`."""
    view, files = dry.live_view(), dry.crash_copy()
    if (state := (view, dry.files_beside(files))) not in seen:
        seen.append(state)
        yield State(files, view, len(made) + 1, made, dry.clock)
