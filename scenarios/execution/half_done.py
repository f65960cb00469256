"""A failed call of which the view shows nothing, such as an export: what reads return of the files beside the rows.

It cannot be told from the rows whether the call has happened. A read that follows must return what it returned before
the call, or what it returns after the call without a fault: one that returns neither found an export half-written, or
the old one removed and the new one not there yet. So it is of a call that failed although its rows are there, such as a
download whose row is written first.

Not covered: an answer that varies, a read that fails (the executor judges that), and calls that the target declares in
`many_commits`.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from tornpage.scenarios.execution.snapshots import Files
from tornpage.scenarios.model.judging.answers import NOT_COMPARED, NotCompared, agreed, in_words, is_alike
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.target import Action


class HalfDone(msgspec.Struct, frozen=True):
    """The call that failed, and the files before it and as it leaves them without a fault."""

    action: Action
    before: Files
    after: Files

    def judge(self, read: Action, answered: Any, now: Files, again: Callable[[Files], Any]) -> None:
        """Raise `Violation` if a read is like neither; `again` makes it in a new session on some files.

        What a new session on the store's own files, `now`, answers otherwise tells of the session.
        """
        here, before, after = (_twice(again, files) for files in (now, self.before, self.after))
        if is_alike(here, answered) and not isinstance(here, NotCompared):
            raise_if_neither(self.action, read, answered, before, after)


def _twice(again: Callable[[Files], Any], files: Files) -> Any:
    try:
        return agreed(again(files), again(files))
    except Exception:  # noqa: BLE001 - it can't be made there
        return NOT_COMPARED


def raise_if_neither(action: Action, read: Action, answered: Any, before: Any, after: Any) -> None:
    """Raise `Violation` if a read, after `action` has failed, is like neither of its answers before and after it."""
    if is_alike(answered, before) or is_alike(answered, after):
        return
    raise Violation(
        "all-or-nothing",
        f"{action} failed, and {read} then returned {in_words(answered)}; before the call it returns "
        f"{in_words(before)}, and after it, without a fault, {in_words(after)}",
        {"answer": {read.name: answered}, "expected": {read.name: before}},
    )
