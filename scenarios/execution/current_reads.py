"""A read that ends a scenario returns what is there, and not what was there before.

A cache that no call clears is equally outdated in the shadow. So the answer of the last call, if that only reads, is
compared with the one that a new session on the same files gives (`SessionOnly.is_outdated`).
"""

from typing import Any

from tornpage.scenarios.execution.made_again import MadeAgain
from tornpage.scenarios.execution.session_only import SessionOnly
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.answers import in_words, is_alike
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.target import Action


def require_current(trial: Trial, action: Action, value: Any, session_only: SessionOnly, made: MadeAgain) -> None:
    """Require that a read has not returned the `value` of an earlier state; raises `Violation`.

    `made` has the calls of the session. Only if that returns it again: an iterator, or a list of what is new, has
    another answer each time.
    """
    again = trial.ask(action)
    if again.kind != "done" or not is_alike(again.value, value):
        return
    files, now_ms = trial.crash_copy(), trial.environment.now_ms
    outdated = session_only.is_outdated(action, value, files, now_ms, made.states)
    if outdated is None:
        return
    (now,) = outdated
    raise Violation(
        "memory-equals-disk",
        f"{action} returns {in_words(value)}, as in an earlier state; a new session on the same files returns "
        f"{in_words(now)}",
        {"memory": {action.name: value}, "disk": {action.name: now}},
    )
