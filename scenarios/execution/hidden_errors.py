"""The last answer of a trial that hides the fault it met: it is judged after all other checks.

Where a call fails because a transaction is open, and a call before it has failed, that one has left it open: what is
wrong then is the transaction, and not that the second error hides the first.

A wrong state says more than a hidden error, and of a process that is watched from outside it is known only at its end
whether the fault was met.
"""

from collections.abc import Callable
from typing import Protocol

from tornpage import faults
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.hidden_errors import is_of_an_open_transaction, require_named
from tornpage.scenarios.model.judging.oracle import Answer
from tornpage.scenarios.model.target import Action


class Heard(Protocol):
    """The faults and conditions in force that may explain an answer."""

    # Whether it is known only at its end that it was met, as for a process watched from outside.
    is_known_late: bool

    @property
    def fired(self) -> int:
        """How often it was met."""

    def saw(self, error: BaseException) -> bool:
        """Count an error that reached a caller."""


def times_met(condition: Heard) -> int:
    """How often a condition was met so far; a plan counts each of its firings."""
    return len(getattr(condition, "firings", ())) or condition.fired


class HiddenErrors:
    """Keeps the violation of the last answer that hid a fault."""

    def __init__(self) -> None:
        self._last: tuple[Violation, Heard] | None = None

    def heard(self, action: Action, answer: Answer, condition: Heard, fault: object, *, refused: bool = False) -> None:
        """Let the condition in force count the answer to `action`, and keep one that hides `fault` (in words).

        `refused` says that the call is refused without the fault, too.
        """
        if refused and answer.kind == "refused":
            return
        met = times_met(condition)
        if answer.error is not None and answer.kind == "raised":
            condition.saw(answer.error)
        self.keep(action, answer, condition, fault, is_met=times_met(condition) > 0 or met > 0)

    def keep(
        self,
        action: Action,
        answer: Answer,
        condition: Heard,
        fault: object,
        *,
        is_met: bool,
        left_open: Callable[[], str] = str,
    ) -> None:
        """Keep an answer that hides the fault, if the fault was met or that is known only later.

        `left_open` returns the note on a transaction that a failed call before it has left open, "" for none. It is
        called only for an error that may be due to one: it looks through all objects of the process.
        """
        if not is_met and not condition.is_known_late:
            return
        if answer.error is not None and any(
            getattr(one, "is_cancellation", False) for one in faults.causes(answer.error)
        ):
            # The caller itself stopped waiting.
            return
        try:
            require_named(action, answer, str(fault))
        except Violation as hidden:
            violation = hidden
            if is_of_an_open_transaction(answer.error) and (note := left_open()):
                message = f"{action} {answer}: a call before it has failed{note}; its fault: {fault}"
                violation = Violation("still-usable-after-the-fault", message)
            self._last = violation, condition

    def require_none(self) -> None:
        """Raise the `Violation` that was kept, if its fault was met."""
        if self._last is None:
            return
        violation, condition = self._last
        if not condition.is_known_late or condition.fired:
            self._last = None
            raise violation
