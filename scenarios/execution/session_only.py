"""Answers that tell of the session and not of the rows, such as a count of errors, or of hits of a cache.

A session in which a call has failed counts that; the shadow's has not. So before a later read is called wrong, new
sessions are asked, at each state of the workload: what they all answer, whatever the call's arguments, says nothing of
the rows, and is not compared, if a new session on the store's files answers it, too. A mapping is compared field by
field.
"""

from pathlib import Path
from typing import Any

from tornpage.scenarios.execution.snapshots import Files, place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.answers import is_alike
from tornpage.scenarios.model.target import Action, Configuration, Target


class SessionOnly:
    """Compares the answers of one target in one configuration; `home` is a directory of its own."""

    def __init__(self, target: Target, configuration: Configuration, home: Path) -> None:
        self._target, self._configuration, self._home = target, configuration, home

    def explains(self, action: Action, answered: Any, wanted: Any, files: Files) -> bool:
        """Whether an answer to a read differs from the `wanted` one only in what tells of the session.

        `files`: the store's own.
        """
        try:
            cold, them = self._answers(files, [action])[0], self._at_each_state(action)
        except Exception:  # noqa: BLE001 - whatever fails there explains nothing
            return False
        return _differ_where_all_agree(answered, wanted, [cold, *them])

    def _at_each_state(self, action: Action) -> list[Any]:
        """The answers of new sessions to all calls of that name, at each state of the workload."""
        workload, states = self._target.workload(), [Files()]
        place({}, self._home)
        with Trial(self._target, self._configuration, self._home, {}) as trial:
            trial.open()
            for step, one in enumerate(workload, start=1):
                trial.at_step(step)
                trial.ask(one)
                states.append(trial.crash_copy())
        them = {str(one): one for one in (action, *workload) if one.name == action.name}
        return [answer for files in states for answer in self._answers(files, [*them.values()])]

    def _answers(self, files: Files, actions: list[Action]) -> list[Any]:
        answers = []
        for action in actions:
            place(files, self._home)
            with Trial(self._target, self._configuration, self._home, {}) as trial:
                answers.append(trial.open().ask(action).value)
        return answers


def _differ_where_all_agree(one: Any, other: Any, them: list[Any]) -> bool:
    """Whether two answers are equal but where all of `them` are equal."""
    if is_alike(one, other):
        return True
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        fields = [answer for answer in them if isinstance(answer, dict)]
        return all(_differ_where_all_agree(one[key], other[key], [field.get(key) for field in fields]) for key in one)
    return len(them) > 1 and all(answer == them[0] for answer in them)
