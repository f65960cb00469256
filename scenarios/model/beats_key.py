"""The rule of the beat: it adds exactly one key to the view, and leaves the others alone.

A store whose every change also writes to another table (a total, a log) can't keep it for that table: its target names
the beginnings of such keys in `beat_touches`, and the rule is judged without them. All other checks see them.
"""

from collections.abc import Collection

from tornpage.scenarios.model.judging.absent import ABSENT
from tornpage.scenarios.model.target import View


def own_keys(view: View, touches: Collection[str]) -> View:
    """The view without the keys that the beat may add or change beside its own."""
    beginnings = tuple(touches)
    return {key: value for key, value in view.items() if not key.startswith(beginnings)} if beginnings else view


def adds_one_key(before: View, after: View, touches: Collection[str] = ()) -> bool:
    """Whether the second view has exactly one key more, and the others as they were."""
    before, after = own_keys(before, touches), own_keys(after, touches)
    return len(after) == len(before) + 1 and all(after.get(key, ABSENT) == value for key, value in before.items())
