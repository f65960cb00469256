"""Calls that the workload does not make, to meet one of its calls: the same one with another argument.

Method. Some rules hold between two things, of which the workload itself may have one: two want the last item, each
under its name; two take a seat of one room. A call of the workload is made with one argument of another call of its
name, or of the heartbeat's, and is paired with the call that it was made from.

Not covered: a workload that makes a call once, where the heartbeat is another one; arguments that no call has.
"""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, Final

import msgspec

from tornpage.scenarios.execution.interleave.serial import Serial
from tornpage.scenarios.model.target import Action, Target
from tornpage.scenarios.search.interleave.pairs import differs_after

# At one state, the number of calls that are tried with one argument of another call.
_MOST: Final = 8


class OtherArguments:
    """The pairs at one state; `is_done` says whether the store acknowledges a call there, made alone."""

    def __init__(self, target: Target, serial: Serial, is_done: Callable[[Serial, Action], bool]) -> None:
        self._target, self._serial, self._is_done = target, serial, is_done

    def of_another_call(self, calls: list[Action]) -> list[tuple[Action, Action]]:
        """A call and the same call with one argument of another one of its name.

        Only where the one has an effect on the other, one after the other.
        """
        made: list[tuple[Action, Action]] = []
        for action, other in product(calls, self._target.workload()):
            if action.name != other.name or len(made) >= _MOST:
                continue
            names = [name for name, value in action.args.items() if name in other.args and other.args[name] != value]
            for name in names if len(names) > 1 else ():
                varied = Action(action.name, {**action.args, name: other.args[name]})
                if (action, varied) not in made and self._is_possible(varied, calls):
                    made.append((action, varied))
        return [pair for pair in made if differs_after(self._serial, *reversed(pair))]

    def of_the_beat(self, calls: list[Action]) -> Iterator[tuple[Action, Action]]:
        """A call and the heartbeat, if that is the same one; then with one argument of the heartbeat's."""
        beat = self._target.heartbeat()
        alike = [action for action in calls if action.name == beat.name and beat not in calls]
        if alike and self._is_done(self._serial, beat):
            yield from ((action, beat) for action in alike)
        for action in alike:
            for name in [name for name in action.args if name in beat.args]:
                varied = Action(action.name, {**action.args, name: beat.args[name]})
                if self._is_possible(varied, [action, beat, *calls]):
                    yield action, varied

    def _is_possible(self, varied: Action, calls: list[Action]) -> bool:
        """Whether a call is none of these, a replay file can have it, and the store acknowledges it."""
        return varied not in calls and _is_json(varied.args) and self._is_done(self._serial, varied)


def _is_json(args: dict[str, Any]) -> bool:
    """Whether a replay file can have these arguments: calls with others are found there among the target's own."""
    try:
        return bool(msgspec.json.decode(msgspec.json.encode(args)) == args)
    except TypeError:
        return False
