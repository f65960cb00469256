"""Whether a store that declares no callers is for one caller by its nature.

Method. Such a store answers from its own memory, or keeps a part of its state there, which is right as long as no
other one writes the file. So it is for one caller if an open session does not see what another one has committed, or if
calls of two sessions conflict one after the other, too. The first is asked at each state; the second where a schedule
violates a check: of its own calls, then of those at each state of the workload, since a store may read each row before
it writes it, and yet answer from an index in memory.

Not covered: a conflict in order beyond the number of pairs that are looked at.
"""

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from random import Random
from typing import Final

from tornpage.scenarios.execution.interleave.schedule import OwnSessionError, Stage
from tornpage.scenarios.execution.interleave.serial import Serial
from tornpage.scenarios.execution.preflight.no_locks import NO_LOCKS, takes_no_locks
from tornpage.scenarios.execution.session_in_use import HangsError
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import Interleave
from tornpage.scenarios.model.target import Action, Target
from tornpage.scenarios.model.work import cut
from tornpage.scenarios.search.interleave.states import States
from tornpage.scenarios.search.interleave.used_sessions import IN_ORDER, UsedSessions

# Over all states, the number of pairs of calls that are made one after the other.
_PAIRS: Final = 200


class OneCallerError(Exception):
    """The store answers from its own memory, which is right only for one caller: why."""


class ByNature:
    """Asks one target in two processes. `left`: called after a violation, which may leave files open."""

    def __init__(
        self, target: Target, directory: Path, left_out: set[str], draw: Random, left: Callable[[Stage], None]
    ) -> None:
        self._target, self._directory, self._left_out = target, directory, left_out
        self._draw, self._left = draw, left
        self._in_order: list[OneCallerError | None] = []

    def require_two(self, stage: Stage, serial: Serial, calls: list[Action]) -> None:
        """Require that an open session sees what another one has committed by these calls; raises `OneCallerError`."""
        if takes_no_locks(self._target, stage.configuration, self._directory / "no-locks"):
            raise OneCallerError(NO_LOCKS)
        for action in calls:
            if serial.run(action).view != serial.state.view:
                self._require_seen(stage, serial, action)

    def _require_seen(self, stage: Stage, serial: Serial, action: Action) -> None:
        try:
            is_seen = stage.follows(Interleave(action, action, callers="processes"), serial)
        except Violation as violation:
            self._left(stage)
            raise _conflict(f"make {action.name} one after the other", violation) from violation
        if not is_seen:
            raise OneCallerError(f"an open session does not see what {action.name} in another one has committed")

    def require_in_order(
        self,
        stage: Stage,
        serial: Serial,
        step: Interleave,
        violation: Violation,
        calls_at: Callable[[Serial], list[Action]],
    ) -> None:
        """Require that the calls of a schedule that violates a check, and others, don't conflict in order, too.

        A transaction that one of them leaves open is no memory of the store. Raises `OneCallerError`.
        """
        if step.earlier is not None and step.switch == IN_ORDER:
            raise _conflict_in(step, violation) from violation
        for first, second in ((step.first, step.second), (step.second, step.first)):
            error = self._conflict(stage, serial, Interleave(first, second, callers=step.callers))
            if error is not None:
                raise error
        if not self._in_order:
            self._in_order.append(next(self._conflicts(stage, calls_at), None))
        if self._in_order[0] is not None:
            raise self._in_order[0]

    def _conflicts(self, stage: Stage, calls_at: Callable[[Serial], list[Action]]) -> Iterator[OneCallerError]:
        """The conflicts of two calls made in order, at each state of the workload."""
        number, used = len(self._target.workload()) + 1, UsedSessions()
        states = States(self._target, self._directory / "in-order", self._left_out, None)
        (whole,) = cut(stage.configuration, number, number)
        for state in states.before({*range(number)}, whole):
            serial = Serial(self._target, stage.configuration, stage.home, state)
            calls = calls_at(serial)
            changing = [action for action in calls if serial.run(action).view != state.view]
            pairs = [Interleave(first, second) for first, second in product(calls, changing)]
            drawn = self._draw.sample(pairs, min(len(pairs), max(_PAIRS // number, 1)))
            in_order = (step for step in used.of(serial, calls, "processes") if step.switch == IN_ORDER)
            for step in (*drawn, *in_order):
                if (error := self._conflict(stage, serial, step)) is not None:
                    yield error

    def _conflict(self, stage: Stage, serial: Serial, step: Interleave) -> OneCallerError | None:
        """The conflict of calls made in order, if any, and if none of them leaves its transaction open."""
        try:
            stage.play(step, serial)
        except Violation as violation:
            self._left(stage)
            return None if any(map(serial.leaves_open, step.actions)) else _conflict_in(step, violation)
        except (HangsError, OwnSessionError):
            self._left(stage)
        return None


def _conflict_in(step: Interleave, violation: Violation) -> OneCallerError:
    first, second = step.first.name, step.second.name
    if step.earlier is not None:
        return _conflict(f"make {step.earlier.name} and {first}, and {second} of the other between them,", violation)
    return _conflict(f"make {first} and then {second}, one call after the other,", violation)


def _conflict(what: str, violation: Violation) -> OneCallerError:
    return OneCallerError(f"two sessions that {what} conflict with each other: {violation.message}")
