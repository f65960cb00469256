"""The conditions that are in force in a scenario, one in each slot: faults, a limit, a rival."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from tornpage.scenarios.execution.hidden_errors import times_met
from tornpage.scenarios.execution.injection import OPENERS, Condition
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.scenario import Conditional

# The count that is incremented when a condition of that slot has been met.
_MET: Final = {"limit": "limits", "rival": "contentions"}


class InForce(Mapping[str, Condition]):
    """The conditions by slot. Puts them in force around one trial, and adds to `counts` what they met when they end."""

    def __init__(self, trial: Trial, counts: Counter[str]) -> None:
        self._trial = trial
        self._counts = counts
        self._by_slot: dict[str, tuple[Condition, contextlib.ExitStack]] = {}

    def __getitem__(self, slot: str) -> Condition:
        return self._by_slot[slot][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_slot)

    def __len__(self) -> int:
        return len(self._by_slot)

    @property
    def fired(self) -> int:
        """How often all of them have fired."""
        return sum(one.fired for one in self.values())

    def met(self) -> dict[str, int]:
        """How often each was met until now, by slot."""
        return {slot: times_met(condition) for slot, condition in self.items()}

    def saw(self, error: BaseException) -> None:
        """Let all of them count an error that reached a caller."""
        for one in self.values():
            one.saw(error)

    def begin(self, step: Conditional) -> None:
        """Put one in force, in place of the one of its slot."""
        self._end(step.slot)
        scope = contextlib.ExitStack()
        condition = scope.enter_context(OPENERS[type(step)](self._trial, step))
        self._by_slot[step.slot] = condition, scope
        self._counts["armed"] += 1

    def end(self) -> None:
        """End all of them."""
        for slot in list(self):
            self._end(slot)

    def _end(self, slot: str) -> None:
        if slot not in self:
            return
        condition, scope = self._by_slot.pop(slot)
        scope.close()
        self._counts["fired"] += bool(condition.fired)
        if slot in _MET:
            self._counts[_MET[slot]] += bool(condition.fired)
        self._counts["surfaced"] += bool(condition.surfaced)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """None is in force inside this scope: what the harness does by itself is not part of a scenario."""
        with contextlib.ExitStack() as scopes:
            for one in self.values():
                scopes.enter_context(one.paused())
            yield
