"""A target's own calls, found again by what a file makes of them.

A scenario in a replay file, and a job for another process, are JSON: bytes, dates, decimals, enums, paths and tuples in
a call's arguments come back as text and lists. The store wants what its target gave, so a call that equals one of the
target's own calls in JSON is replaced by that one.

Not covered: calls that only `actions` draws, and sets, which have no order in JSON.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from tornpage.scenarios.model.as_json import for_a_file
from tornpage.scenarios.model.scenario import Call, Interleave, Step
from tornpage.scenarios.model.target import Action


class OwnCalls:
    """The calls of a target whose arguments don't survive JSON."""

    def __init__(self, calls: Iterable[Action]) -> None:
        self._calls = {_key(one): one for one in calls if not _survives(one.args)}

    def of(self, action: Action) -> Action:
        """The target's own call for one that was read from a file; any other call as it is."""
        return self._calls.get(_key(action), action) if self._calls else action

    def in_step(self, step: Step) -> Step:
        """The same step with the target's own calls."""
        if not self._calls:
            return step
        if isinstance(step, Call):
            return msgspec.structs.replace(step, action=self.of(step.action))
        if isinstance(step, Interleave):
            earlier = None if step.earlier is None else self.of(step.earlier)
            return msgspec.structs.replace(
                step, first=self.of(step.first), second=self.of(step.second), earlier=earlier
            )
        return step


def _key(action: Action) -> bytes:
    try:
        return msgspec.json.encode(action, enc_hook=for_a_file)
    except (TypeError, ValueError):
        # Undecodable text: in no file.
        return repr(action).encode(errors="backslashreplace")


def _survives(value: Any) -> bool:
    """Whether JSON gives back the same values, of the same types."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _survives(one) for key, one in value.items())
    if isinstance(value, list):
        return all(map(_survives, value))
    return value is None or type(value) in (str, int, float, bool)
