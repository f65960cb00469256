"""The checks after a process was really killed: of its files, and of the store that is started on them.

All that reached the operating system stays (rule 1 of ``docs/sqlite-under-faults.md``), so at every journal mode and
synchronous level the file shows exactly the acknowledged state, or that plus the one pending call; a call that commits
more than once may be partly done. In this order:

- a fresh reader, past the shim and on a copy, reads the file, and SQLite checks it; if the store completes or undoes
  as it opens what the kill has interrupted, and the reader then sees what the store shows, that is the file's state;
- the store is opened on the very files that the dead process left, including its shared memory;
- if the target names a `recovery`, that call is made: it may add to a row, but every acknowledged change is still
  there, and a second recovery finds nothing more to do; the next recovery finishes one that was killed itself;
- the store's view equals the file's, and a small change works.
"""

from pathlib import Path

import msgspec

from tornpage.scenarios.execution.reopen import Reopened
from tornpage.scenarios.execution.snapshots import Files, place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.clock import Clock
from tornpage.scenarios.model.judging.absent import ABSENT
from tornpage.scenarios.model.judging.checks import Violation, describe, differences
from tornpage.scenarios.model.judging.oracle import Answer, may_have_stopped_at
from tornpage.scenarios.model.target import Action, Configuration, Refused, Target, View, completed


class Expected(msgspec.Struct, frozen=True):
    """The allowed states: the acknowledged one, and that after the pending call, over its `stages`."""

    before: View
    after: View
    stages: tuple[View, ...] = ()

    def require(self, disk: View) -> None:
        """Raise `Violation` if the file holds another state."""
        if disk in (self.before, self.after) or may_have_stopped_at(disk, (self.before, *self.stages, self.after)):
            return
        # Keys that the pending call does not touch were acknowledged before it.
        old = [
            one
            for one in differences(self.before, disk)
            if self.before.get(one.key, ABSENT) == self.after.get(one.key, ABSENT)
            and all(one.left == stage.get(one.key, ABSENT) for stage in self.stages)
        ]
        sides = {"before": self.before, "after": self.after, "disk": disk}
        if old:
            code = "no-resurrection" if all(one.key not in self.before for one in old) else "acknowledged-is-durable"
            raise Violation(code, describe(old, "the acknowledged state", "the file"), sides)
        changed = describe(differences(self.after, disk), "the whole change", "the file")
        raise Violation("all-or-nothing", f"a part of the pending change is there: {changed}", sides)


class RecoveryCheck:
    """Checks what dead processes left in `home`."""

    def __init__(self, target: Target, configuration: Configuration, home: Path) -> None:
        self.target = completed(target)
        self.configuration = configuration
        self.home = home
        self._clock = Clock(step_ms=self.target.clock_step_ms)
        self._copy = home.with_name(home.name + "-read")

    def disk(self, expected: Expected, step: int) -> View:
        """The file's view, read from a copy; raises `Violation` if it is damaged, or not an allowed state.

        `step` is the clock's.
        """
        with Trial(self.target, self.configuration, self.home, {}) as left:
            files = left.crash_copy()
        recovered = self._once_opened(files, expected, step)
        place(files, self._copy)
        try:
            view = self._fresh_view()
            self._require(expected, view)
        except Violation:
            if recovered is None:
                raise
            return recovered
        return view if recovered is None else recovered

    def _once_opened(self, files: Files, expected: Expected, step: int) -> View | None:
        """What the store shows once it is opened on a copy; None unless a plain reader agrees, and it is allowed."""
        reopened = Reopened(self.target, self.configuration, self._copy)
        try:
            shown = reopened.view_of(files, self._clock.at(step), self.home)
            if self._fresh_view() != shown:
                return None
            self._require(expected, shown)
        except Violation:
            return None
        return shown

    def _require(self, expected: Expected, view: View) -> None:
        expected.require(view)
        self.target.check_view(view)

    def _fresh_view(self) -> View:
        return Trial(self.target, self.configuration, self._copy, {}).fresh_view()

    def finished(self, action: Action, expected: Expected) -> View | None:
        """If the recovery itself was killed: the state that the next one has to reach."""
        return expected.after if action == self.target.recovery else None

    def start_again(self, disk: View, step: int, finished: View | None = None) -> None:
        """Open the store on the files, recover, check, and make a change; raises `Violation`.

        `disk` is the file's view, `step` the clock's; `finished` is the state that the recovery has to reach, if known.
        """
        with Trial(self.target, self.configuration, self.home, disk) as trial:
            trial.at_step(step)
            trial.reopen()
            trial.look()
            recovery = self.target.recovery
            if recovery is not None:
                self._recover(trial, recovery, finished)
            trial.heartbeat(trial.crash_copy())

    def _recover(self, trial: Trial, recovery: Action, finished: View | None) -> None:
        before = trial.oracle.settled
        once = self._recovered(trial, recovery)
        if finished is not None and once != finished:
            detail = describe(differences(finished, once), "the file after one whole recovery", "the file")
            message = f"{recovery} was killed and run again: {detail}"
            raise Violation("in-flight-flagged-once", message, {"whole": finished, "disk": once})
        lost = [one for one in differences(before, once) if one.key not in once]
        if lost:
            message = f"{recovery} at the restart: {describe(lost, 'the file before it', 'the file after it')}"
            raise Violation("acknowledged-is-durable", message, {"before": before, "disk": once})
        twice = self._recovered(trial, recovery)
        if twice != once:
            detail = describe(differences(once, twice), "the file after the first", "the file after the second")
            raise Violation("in-flight-flagged-once", f"{recovery}, twice: {detail}", {"once": once, "twice": twice})

    def _recovered(self, trial: Trial, recovery: Action) -> View:
        try:
            trial.call_session(recovery)
        except Refused:
            pass  # There was nothing to recover.
        except Exception as error:
            raise Violation("still-usable-after-the-fault", f"at the restart, {recovery} fails: {error!r}") from error
        recovered = trial.fresh_view()
        trial.oracle.heard(Answer("done"), recovered)
        trial.look()
        return recovered


def told_of(violation: Violation, death: str) -> Violation:
    """The same violation, its message beginning with how the process died."""
    return violation.with_message(f"{death}: {violation.message}")
