"""The beat adds its key in each state of the workload, and not only after it.

Method. After the workload the beat adds its key. It is also made on a copy of the files of earlier moments, opened
anew: after each call (a dozen of them at most), where it may replace what has the same value of a unique column; and
where a call had added that key: where a key is a number that is used again, it adds another one there. Not covered:
what is in memory only, and a beat that fails on the copy.
"""

from collections.abc import Iterable
from typing import Final

from tornpage.scenarios.execution.snapshots import Files, place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.beats_key import adds_one_key
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.target import Action, View

_MOST_STATES: Final = 12


class Seen:
    """For each key of a view, the files at the moment at which it was seen first; and those after each call."""

    def __init__(self) -> None:
        self._files: dict[str, Files] = {}
        self._after: list[tuple[Action, Files]] = []

    def take(self, trial: Trial, view: View) -> None:
        """Take in a view."""
        if new := view.keys() - self._files.keys():
            self._files |= dict.fromkeys(new, trial.crash_copy())

    def take_after(self, action: Action, trial: Trial) -> None:
        """Take in the files after a call."""
        self._after.append((action, trial.crash_copy()))

    def states(self) -> list[tuple[Action, Files]]:
        """Some of the states after calls, spread over the workload, each with the call that led to it."""
        return self._after[:: -(-len(self._after) // _MOST_STATES) or 1]

    def files_with(self, keys: Iterable[str]) -> Files | None:
        """The files at a moment at which one of the keys was there; None if none ever was."""
        return next((self._files[key] for key in keys if key in self._files), None)


def adds_a_key(copy: Trial, files: Files, beat: Action, step: int) -> bool:
    """Whether the beat adds a key on these files, in the empty directory of `copy`; True if that can't be tried."""
    place(files, copy.directory)
    copy.at_step(step)
    try:
        copy.open()
        before: View = dict(copy.live_view())
        copy.call_by_stages(beat)
        after: View = dict(copy.live_view())
    except (Exception, Violation):  # noqa: BLE001 - what fails here is for the search to find
        return True
    return adds_one_key(before, after, copy.target.beat_touches)
