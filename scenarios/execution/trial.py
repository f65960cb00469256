"""One trial: a session in use, and every check of what it does, for the oracle.

After each call, in this order: the files are copied as a crash would leave them; a fresh reader past the shim reads the
disk's view; the session returns its view; the copy is opened as after a crash. While a fault is armed the session may
decline to answer, but it may not answer wrongly. Once nothing is armed it has to answer, and `heartbeat` checks that it
still works.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tornpage import faults
from tornpage.scenarios.execution.call_timeout import TookTooLongError
from tornpage.scenarios.execution.commit_spy import CommitSpy
from tornpage.scenarios.execution.frames import forget_frames
from tornpage.scenarios.execution.fresh_reader import FreshReader
from tornpage.scenarios.execution.generic_checks.file_modes import require_private
from tornpage.scenarios.execution.generic_checks.open_connections import of_any_open_transaction
from tornpage.scenarios.execution.hidden_errors import HiddenErrors
from tornpage.scenarios.execution.reopen import Reopened
from tornpage.scenarios.execution.session_in_use import OPEN, SessionInUse
from tornpage.scenarios.execution.snapshots import Files, place
from tornpage.scenarios.model.beats_key import adds_one_key
from tornpage.scenarios.model.judging.absent import ABSENT
from tornpage.scenarios.model.judging.answers import in_words, is_wrong
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.oracle import Answer, Oracle
from tornpage.scenarios.model.judging.refusals import says_no
from tornpage.scenarios.model.target import Action, Configuration, Refused, Target, View

# What is said of the small change.
NEXT_FAILS: Final = "the fault is gone, and the next call fails"
_CHANGED_OTHERS: Final = "the next call was acknowledged, but changed more or less than its one key"
DID_NOTHING: Final = "the next call was acknowledged, but did nothing"


class Trial(SessionInUse):
    """A target in use under possible faults. Raises `Violation` as soon as a check fails."""

    def __init__(self, target: Target, configuration: Configuration, directory: Path, before: View) -> None:
        super().__init__(target, configuration, directory)
        self.oracle = Oracle(configuration, before)
        self._reader = FreshReader(self.target, directory, self._holder)
        # Called before each reading.
        self.before_reading = self._reader.before_reading
        # The last call that was not checked yet, the state before it, and its answer.
        self._unjudged: tuple[View, Action, Answer] | None = None
        self.hidden_errors = HiddenErrors()
        # The state to which the last call would have led, if it raised.
        self._failed_at: View | None = None

    def call(self, action: Action, after: View, stages: tuple[View, ...] = ()) -> Answer:
        """Make one call that would lead to the state `after`, over `stages`, and pass its answer to the oracle."""
        answer = self._ask(action)
        self._failed_at = after if answer.kind == "raised" else None
        self._unjudged = self.oracle.settled, action, answer
        self.oracle.heard(answer, after, stages, "the opening" if action == OPEN else "a call")
        return answer

    def call_by_stages(self, action: Action) -> tuple[Answer, tuple[View, ...]]:
        """Make one call without a fault; return its answer, and the state at each commit if it commits more than once.

        Only calls that the target declares in `many_commits` have stages. Connections within reach of the statement
        depth report their commits; others are read whenever they request a lock, as they do after each commit.
        """
        if action.name not in self.target.many_commits:
            return self._ask(action), ()
        spy = CommitSpy(lambda: self.fresh_view(integrity=False))
        says_so = "statement" in self.target.depths
        with self.statements.watching(spy) if says_so else faults.shims().watching(spy):
            return self._ask(action), tuple(spy.seen)

    def judge_answer(self, action: Action, answer: Answer, wanted: Any, again: Callable[[], Any]) -> None:
        """Compare a call's answer with `wanted`, its answer without a fault; raises `Violation`.

        `again` repeats it from the same state and without a fault, and returns its answer.
        """
        if answer.kind != "done" or not is_wrong(answer.value, wanted, again):
            return
        message = (
            f"{action} was acknowledged and returned {in_words(answer.value)}; "
            f"without the fault it returns {in_words(wanted)}"
        )
        raise Violation(
            "wrong-answer", message, {"answer": {action.name: answer.value}, "expected": {action.name: wanted}}
        )

    # -- checks ----------------------------------------------------------------------------------------------

    def look(self, *, integrity: bool = True) -> None:
        """Check disk, memory and the store's own checks against the oracle.

        Without `integrity` SQLite's own check is left to a later step: `look_after_crash` and `heartbeat` run it.
        """
        with self._naming_open_transactions():
            try:
                self.oracle.saw_disk(self.fresh_view(integrity=integrity))
            except Violation:
                # A store may complete at its start what a crash has interrupted: the next opening is judged.
                if not self._failed_to_open:
                    raise
            else:
                self._look_into_memory(self._keep_the_rules())
        require_private(self.directory)

    def look_after_call(self, action: Action, before: View, answer: Answer, *, integrity: bool = True) -> None:
        """Check after a call that met no fault: the rules, and memory, have to match its state."""
        with self._naming_open_transactions():
            self.oracle.restarted(self.fresh_view(integrity=integrity))
            self._unjudged = before, action, answer
            self._look_into_memory(self._keep_the_rules())
        require_private(self.directory)

    def _keep_the_rules(self) -> tuple[View, Action, Answer] | None:
        """Check the state that was read, and the call that led to it, against the target's own rules, if any.

        Returns the call that led to it: the state before, the action, and the answer.
        """
        called, self._unjudged = self._unjudged, None
        view = self.oracle.settled
        self.target.check_view(view)
        if called is not None:
            before, action, answer = called
            is_done, now_ms = answer.kind == "done", self.environment.now_ms
            self.target.check_change(before, action, view, is_done=is_done, now_ms=now_ms)
        return called

    def _look_into_memory(self, called: tuple[View, Action, Answer] | None = None) -> None:
        if self.session is None:
            return
        try:
            memory = self.live_view()
            self.oracle.saw_memory(memory)
            with self._in_its_process():
                self.session.self_check()
                self.target.check_session(
                    self.session,
                    self.oracle.settled,
                    called,
                    now_ms=self.environment.now_ms,
                    looks=not self._armed,
                )
        except Violation:
            raise
        except Exception as error:
            forget_frames(error)
            if self._armed:
                return
            raise Violation("still-usable-after-the-fault", f"the live view fails with {error!r}") from error

    def fresh_view(self, *, integrity: bool = True) -> View:
        """The view of a fresh reader past the shim; raises `Violation` if it can't read, or the file is damaged."""
        return self._reader.view(self.session, integrity=integrity)

    def contents(self) -> list[Any]:
        """Every row of the store's database, also those that its view does not show; see `contents_of`."""
        return self._reader.contents()

    def journal_mode(self) -> str:
        """SQLite's journal mode to a reader past the shim; "" if there is no database."""
        return self._reader.journal_mode()

    def look_after_crash(self, files: Files, reopened: Reopened | None = None) -> None:
        """Open a crash copy as a restarted process would and judge its view; `reopened` caches equal copies."""
        if reopened is None:
            home = self.directory.with_name("crash-of-" + self.directory.name)
            reopened = Reopened(self.target, self.oracle.configuration, home)
        self.oracle.saw_after_crash(reopened.view_of(files, self.environment.now_ms, self.directory))

    def look_after_restart(self, *, crashed: bool, memory: bool = True) -> None:
        """Check for the first time after a restart; after a crash a maybe-committed write may have come back.

        Reading memory may read the file, and data once read can't fail any more: without `memory` the session stays
        cold. Where the opening failed, a state that is not allowed is judged at the next one, as in `look`.
        """
        try:
            disk = self.fresh_view()
            if crashed:
                self.oracle.crashed(disk)
            else:
                # The last connection has removed the log.
                self.oracle.lost = ()
            self.oracle.saw_disk(disk)
        except Violation:
            if not self._failed_to_open:
                raise
            return
        self._unjudged = None
        self._keep_the_rules()
        if memory:
            self._look_into_memory()

    def heartbeat(self, files: Files | None = None) -> None:
        """With nothing armed, one small change has to work, and to leave everything else alone.

        `files` are a crash copy of the state before it, if there is one: what the change does there without any fault,
        such as to remove what has expired, it may do here.
        """
        if self.session is None:
            self.reopen()
        before = self.oracle.settled
        self.beat()
        self.judge_heartbeat(before, self.fresh_view(), files)

    def beat(self) -> None:
        """Make the small change; raises `Violation` if it fails."""
        if getattr(self.target, "deterministic", False):
            # It must not draw the values of the same call at this step.
            self.environment.now_ms += 1
        try:
            self.call_session(self.target.heartbeat())
        except TookTooLongError as hang:
            raise self._hung(hang) from None
        except Exception as error:
            left_open = self.note_of_open_transaction()
            raise Violation("still-usable-after-the-fault", f"{NEXT_FAILS}: {error!r}{left_open}") from error

    def beat_again(self) -> None:
        """Repeat the small change; the store may refuse it."""
        try:
            self.call_session(self.target.heartbeat())
        except Exception as error:
            forget_frames(error)
            if not isinstance(error, Refused) and not says_no(error):
                raise

    def judge_heartbeat(self, before: View, disk: View, files: Files | None = None) -> None:
        """Compare disk and memory after the small change with the state before it; `files` as in `heartbeat`."""
        self.oracle.heard(Answer("done"), disk)
        if not adds_one_key(before, disk, self.target.beat_touches):
            left_open = self._no_rollback or self._carried(before, disk) or of_any_open_transaction(self.directory)
            if left_open or files is None or not self._changes_anyway(before, disk, files):
                did = DID_NOTHING if not left_open and disk == before and self._shows(before) else _CHANGED_OTHERS
                raise Violation("acknowledged-is-durable", f"{did}{left_open}", {"expected": before, "disk": disk})
        with self._naming_open_transactions():
            self.oracle.saw_disk(disk)
            self._look_into_memory()

    def _changes_anyway(self, before: View, disk: View, files: Files) -> bool:
        """Whether the small change does to the other keys what it does to them in a new session on these files."""
        home = self.directory.with_name(f"beat-of-{self.directory.name}")
        place(files, home)
        with Trial(self.target, self.oracle.configuration, home, {}) as anew:
            # `beat` moves the clock of a deterministic target on.
            anew.environment.now_ms = self.environment.now_ms - getattr(self.target, "deterministic", False)
            try:
                anew.reopen()
                first = anew.fresh_view(integrity=False)
                anew.beat()
                then = anew.fresh_view(integrity=False)
            except Violation:
                return False
        changed = {key for key in first if then.get(key, ABSENT) != first[key]}
        anyway = {key for key in changed if then.get(key, ABSENT) == disk.get(key, ABSENT)}
        rest, later = ({key: view[key] for key in view.keys() - anyway} for view in (before, disk))
        return bool(anyway) and adds_one_key(rest, later, self.target.beat_touches)

    def _shows(self, view: View) -> bool:
        try:
            return self.live_view() == view
        except Exception as error:  # noqa: BLE001 - a store that can't be read is judged by other checks
            forget_frames(error)
            return False

    def _carried(self, before: View, disk: View) -> str:
        """The note where the small change has written what a failed call had left in its transaction or in memory."""
        changed = {key for key in before if disk.get(key, ABSENT) != before[key]} | (disk.keys() - before.keys())
        wanted = self._failed_at
        if wanted is None or not any(
            wanted.get(key, ABSENT) == disk.get(key, ABSENT) != before.get(key, ABSENT) for key in changed
        ):
            return ""
        return ": it wrote the change of the failed call before it, too, from an open transaction or from memory"

    def reopen(self) -> None:
        """Open again, with nothing armed: it has to work."""
        try:
            self.open()
        except TookTooLongError as hang:
            raise self._hung(hang) from None
        except Exception as error:
            raise Violation(
                "still-usable-after-the-fault", f"the fault is gone, and opening again fails: {error!r}"
            ) from error
