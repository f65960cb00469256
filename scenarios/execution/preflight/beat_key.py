"""The beat's key is one of its own: no call of the workload adds it, too.

Method. After the workload the beat adds its key. If a call had added that key earlier, the beat is made on a copy of
the files of that moment: where a key is a number that is used again, it adds another one there. Not covered: a key that
is in memory only.
"""

from collections.abc import Iterable

from tornpage.scenarios.execution.snapshots import Files, place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.beats_key import adds_one_key
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.target import Action, View


class Seen:
    """For each key of a view, the files at the moment at which it was seen first."""

    def __init__(self) -> None:
        self._files: dict[str, Files] = {}

    def take(self, trial: Trial, view: View) -> None:
        """Take in a view."""
        if new := view.keys() - self._files.keys():
            self._files |= dict.fromkeys(new, trial.crash_copy())

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
