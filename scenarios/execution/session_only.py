"""Answers that tell of the session and not of the rows, such as a count of errors, or of hits of a cache.

A session in which a call has failed counts that; the shadow's has not. So before a later read is called wrong, new
sessions are asked, at each state of the workload: what they all answer, whatever the call's arguments, says nothing of
the rows, and is not compared, if a new session on the store's files answers it, too. A mapping is compared field by
field. Nor is what tells of the files (`file_sizes`).

What it does tell of the rows must be the state's own: a read that a new session answers otherwise, and that has the
answer of an earlier state, comes from a cache that nothing has cleared.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tornpage.scenarios.execution.file_sizes import tells_of_files, written_back
from tornpage.scenarios.execution.shadow import Shadow
from tornpage.scenarios.execution.snapshots import Files, place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.answers import in_any_order, is_alike
from tornpage.scenarios.model.target import Action, Configuration, Target

# The files of a store, and the time in milliseconds.
State = tuple[Files, int]


class SessionOnly:
    """Compares the answers of one target in one configuration; `home` is a directory of its own.

    The store under test runs in the directory `at`, whose path its rows may hold.
    """

    def __init__(self, target: Target, configuration: Configuration, home: Path, at: Path) -> None:
        self._target, self._configuration, self._home, self._at = target, configuration, home, at

    def explains(self, action: Action, answered: Any, wanted: Any, files: Files) -> bool:
        """Whether an answer to a read differs from the `wanted` one only in what tells of the session.

        `files`: the store's own.
        """
        try:
            cold, them = self._answers(files, [action])[0], self._at_each_state(action)
        except Exception:  # noqa: BLE001 - whatever fails there explains nothing
            return False
        return _differ_where_all_agree(answered, wanted, [cold, *them]) or self.is_of_files(
            action, answered, wanted, files
        )

    def is_of_files(self, action: Action, answered: Any, wanted: Any, files: Files) -> bool:
        """Whether an answer to a read differs from the `wanted` one only in what tells of the files (`file_sizes`)."""
        try:
            back = written_back(self._target, files, self._home)
            return tells_of_files(answered, wanted, files, lambda one: self._answers(one, [action])[0], back)
        except Exception:  # noqa: BLE001 - whatever fails there explains nothing
            return False

    def is_outdated(
        self, action: Action, answered: Any, files: Files, now_ms: int, earlier: Callable[[], list[State]]
    ) -> tuple[Any] | None:
        """What a new session on the store's `files` answers, if a read's answer is that of an earlier state; or None.

        `earlier` returns these. Other answers may depend on what the session has read before, as those of a cursor do.
        """
        try:
            now, again = (self._answers(files, [action], now_ms)[0] for _ in range(2))
            if not is_alike(now, again) or in_any_order(now) == in_any_order(answered):
                return None
            before = [answer for files, at in earlier() for answer in self._answers(files, [action], at)]
        except Exception:  # noqa: BLE001 - what fails there is for the searches to find
            return None
        return (now,) if any(in_any_order(one) == in_any_order(answered) for one in before) else None

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

    def _answers(self, files: Files, actions: list[Action], now_ms: int | None = None) -> list[Any]:
        answers = []
        for action in actions:
            place(files, self._home)
            with Shadow(self._target, self._configuration, self._at, self._home, {}) as trial:
                trial.environment.now_ms = trial.environment.now_ms if now_ms is None else now_ms
                answers.append(trial.open().call_by_stages(action)[0].value)
        return answers


def _differ_where_all_agree(one: Any, other: Any, them: list[Any]) -> bool:
    """Whether two answers are equal but where all of `them` are equal."""
    if is_alike(one, other):
        return True
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        fields = [answer for answer in them if isinstance(answer, dict)]
        return all(_differ_where_all_agree(one[key], other[key], [field.get(key) for field in fields]) for key in one)
    return len(them) > 1 and all(answer == them[0] for answer in them)
