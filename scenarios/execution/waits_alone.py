"""Calls that wait for another caller where nothing else runs, such as for an item of an empty queue.

A call that hangs without any fault, in a session that was just opened, too, waits for what only another call can bring.
It is left out there. The same state may come up again and again, so it is noted: by the call's name and what the view
shows, without the keys, which may be numbers that no later item has. That only saves time: a process that has not noted
it comes to the same.
"""

from collections import defaultdict

from tornpage.scenarios.model.target import Action, Target, View

# By the target's class and name, and the call's name.
_waits: defaultdict[tuple[type, str, str], set[str]] = defaultdict(set)


def waits_at(target: Target, action: Action, view: View) -> bool:
    """Whether this call is known to wait at such a state."""
    return _as_text(view) in _waits[type(target), target.name, action.name]


def note_wait(target: Target, action: Action, view: View) -> None:
    """Note that it does."""
    _waits[type(target), target.name, action.name].add(_as_text(view))


def _as_text(view: View) -> str:
    return repr(sorted(map(repr, view.values())))
