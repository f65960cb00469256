"""The contract of view, rows and beat, checked before any search: a set-up that breaks it would give wrong verdicts.

Method, without any fault: the store is opened in an empty directory, the workload is run, then the beat, twice; after
each call the store's own view and the rows are read. A copy of the files is opened beside it. The same calls are made
again in another directory, at another time of day, while the first store is still open. The differences show which rule
is broken. Whether `rows` or the store is wrong is decided by reopening the store on its own files: if it shows the same
as before, `rows` is wrong; if not, the store has lost something, and that is a finding, which the search reports.

Each rule is a section of ``docs/contract.md``; each message is one line that names it. Not covered: state that a view
leaves out although a later call depends on it (the sweep detects that: `require_same_when_cold`), and ways to read the
time other than those of `other_clock`.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

from tornpage import faults
from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.execution.code_under_test import raised_in
from tornpage.scenarios.execution.generic_checks.open_connections import leaves_a_transaction
from tornpage.scenarios.execution.preflight.beat_key import Seen, adds_a_key
from tornpage.scenarios.execution.preflight.other_clock import later, times_of_day_in
from tornpage.scenarios.execution.preflight.own_files import leaves_its_file
from tornpage.scenarios.execution.preflight.rules import (
    LOCKED_OUT,
    another_library,
    missing_table,
    require_empty,
    require_file,
    require_mapping,
    require_one_library,
    some,
)
from tornpage.scenarios.execution.snapshots import Files, place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.beats_key import adds_one_key, own_keys
from tornpage.scenarios.model.judging.absent import ABSENT
from tornpage.scenarios.model.judging.checks import Violation, describe, differences, without_scratch
from tornpage.scenarios.model.judging.numbers import is_counted_on
from tornpage.scenarios.model.judging.oracle import Answer
from tornpage.scenarios.model.judging.refusals import is_alike, says_no
from tornpage.scenarios.model.target import Action, Configuration, SetUpError, Target, TargetError, View, completed
from tornpage.scenarios.targets.declaration import require_as_declared, what_is_wrong
from tornpage.scenarios.targets.process import ProcessTarget

_READS: Final = "rows-read-what-the-store-writes"
_A_MONTH_S: Final = 31 * 86_400
_NO_STATEMENTS: Final = (
    "depths has 'statement', and no statement went through `environment.connect`: let the store open its connections "
    "with it, or leave 'statement' out"
)
_FROM_OUTSIDE: Final = (
    "names come with the calls, and the time from `environment.clock`, or the target sets `deterministic = True`"
)
_REPLACED_ALREADY: Final = (
    "`deterministic` does not replace a clock that the store has imported itself (`from time import monotonic`), a "
    "random generator of its own, the clock of C code, and the order in which a directory lists its files"
)
_DRAWN: Final = (
    "a call that reads the clock or draws random values by itself needs `deterministic = True` in its target"
)
_DRAWN_AT_OPENING: Final = (
    "an id that each session draws when it is opened, such as a worker's, is left out of view and rows, or given by "
    "`make`"
)
_RELATIVE: Final = "it names the directory: let view and rows show such a path relative to it"
_MAY_BE_LATE: Final = (
    "the-beat-adds-one-key", "one-key-per-thing", "each-directory-is-a-store-of-its-own",
    "the-same-calls-lead-to-the-same-state", "looking-changes-nothing",
)  # fmt: skip


class _Leave(Exception):  # noqa: N818 - not an error: the failure is a finding of the search
    """The store itself fails without a fault."""


def require_contract(target: Target, configuration: Configuration, home: Path, *, restores: bool = False) -> bool:
    """Raise `SetUpError` if the target, run below `home` without a fault, breaks a rule of the contract.

    With `restores` also if a restart loses something that the file has, which otherwise is for a search to find.
    False if the store itself has failed, and the rest was not checked.
    """
    if wrong := what_is_wrong(target):
        raise SetUpError(target.name, "declarations", wrong)
    rehearsal = _Rehearsal(target, configuration, home, restores=restores)
    try:
        rehearsal.run()
    except _Leave:
        rehearsal.require_empty_at_first()
        rehearsal.require_one_key_at_first()
        return False
    return True


def require_same_when_cold(target: Target, action: Action, warm: tuple[View, View], cold: View) -> None:
    """Raise `SetUpError` if a call leads to another state in a newly opened session than in a running one.

    `warm` are the views before and after it. If the call damages existing state, the store has lost something at the
    restart, and that is a finding. Larger numbers are no damage: a session loses the ids that it had in reserve.
    """
    before, after = warm
    kept = {key: value for key, value in before.items() if after.get(key, ABSENT) == value}
    other = {key: value for key, value in kept.items() if cold.get(key, ABSENT) != value}
    if cold == after or not all(key in cold and is_counted_on(value, cold[key]) for key, value in other.items()):
        return
    advice = f"{_DRAWN_AT_OPENING}; {_REPLACED_ALREADY}" if getattr(target, "deterministic", False) else _DRAWN
    raise SetUpError(
        target.name,
        "the-view-shows-what-later-views-depend-on",
        f"{action} leads to another state in a session that was just opened than in the one that made the calls "
        f"before it: {describe(differences(after, cold), 'the running session', 'the one just opened')}; state "
        f"in memory has to be restored at opening, and to be in the view; {advice}",
    )


class _Offset:
    """A time of day that moves on by a month with each call."""

    def __init__(self) -> None:
        self.seconds = _A_MONTH_S

    def add(self) -> None:
        self.seconds += _A_MONTH_S

    def __call__(self) -> int:
        return self.seconds


class _Rehearsal:
    def __init__(self, target: Target, configuration: Configuration, home: Path, *, restores: bool) -> None:
        self.target = completed(target)
        self._restores = restores
        self.configuration = configuration
        self.home = home
        self.beat = target.heartbeat()
        self._threads = {*threading.enumerate()}
        self._reaches_files = "vfs" in self.target.depths and configuration.journal_mode != "file"
        self._reader = "`rows`" if self.target.files_view is None else "`files_view`"
        self._files_left: Files = {}
        # The view of a store that was just created.
        self._begun: View = {}
        # The last call, in words.
        self._after = ""
        self._seen = Seen()
        self._beats_keys: tuple[str, ...] = ()
        # The rows of the copy that was opened last.
        self._rows_left: View = {}

    def run(self) -> None:
        first, second = self._trial("first"), self._trial("second")
        watching = faults.count_operations(first.directory) if self._reaches_files else contextlib.nullcontext()
        with _closing(first), _closing(second):
            with watching as counter, first.statements.count_operations() as statements:
                self._open(first)
                self._play(first)
            require_file(self.target, self.configuration, first.directory)
            self._require_whole(first)
            if self._reaches_files and counter is not None and not counter.counts:
                raise another_library(self.target.name)
            if "statement" in self.target.depths and not statements.counts:
                raise self._wrong("declarations", _NO_STATEMENTS)
            self._require_steady(first)
            self._judge_beat(first)
            self.require_empty_at_first()
            left = self._view(first)
            self._require_no_time_of_day(left)
            if "syscall" in self.target.depths:
                # A program has one store open at a time.
                self._close(first)
            self._play_again(first, second, left)
        self._restart(left)
        self._require_own_key()
        self.require_one_key_at_first()

    def require_empty_at_first(self) -> None:
        """Require that a store that was just created shows nothing."""
        is_upgraded = getattr(self.target, "older_file", None) is not None
        require_empty(self.target.name, self._begun, is_upgraded=is_upgraded)

    def require_one_key_at_first(self) -> None:
        """Require that the beat adds no more than one key to a new store, if the file has what the store shows."""
        trial = self._trial("new")
        with _closing(trial):
            try:
                trial.open()
                trial.call_by_stages(self.beat)
                view, rows = dict(trial.live_view()), self._rows(trial)
            except (Exception, Violation):  # noqa: BLE001 - what fails here is for the search to find
                return
            self._files_left = trial.crash_copy()
        own = own_keys(view, self.target.beat_touches)
        if view != rows or len(own) < 2:
            return
        with contextlib.suppress(_Leave):
            if self._reopened_view(self._files_left) == view:
                raise self._wrong(
                    "the-beat-adds-one-key",
                    f"in a new store the beat {self.beat} adds {len(own)} keys: {', '.join(map(repr, own)):.200}; what "
                    "the first call makes beside its own, let `make` make at once, or name it in `beat_touches`",
                )

    # -- playing -------------------------------------------------------------------------------------------

    def _trial(self, name: str) -> Trial:
        place({}, self.home / name)
        trial = Trial(self.target, self.configuration, self.home / name, {})
        if "statement" in self.target.depths:
            trial.watch_statements()
        return trial

    def _open(self, trial: Trial, *, is_first: bool = True) -> None:
        trial.at_step(0)
        try:
            with require_one_library(self.target.name, "opening the store"):
                trial.open()
        except TargetError:
            raise
        except Exception as error:
            raise self._wrong("every-call-works", f"opening the store fails without any fault: {error!r}") from error
        view = self._view(trial)
        try:
            require_as_declared(self.target, self.configuration, trial.directory, trial.journal_mode(), view)
        except TargetError as error:
            raise self._wrong("declarations", str(error).removeprefix(f"{self.target.name}: ")) from None
        if is_first:
            # Judged after the beat, which shows a view that counts.
            self._begun = view or self._rows(trial)
        elif view and not self._begun:
            raise self._wrong(
                "each-directory-is-a-store-of-its-own",
                f"a second store, just created in another, empty directory, shows {some(view)} of the first one",
            )

    def _require_whole(self, trial: Trial) -> None:
        """Require that a program of its own has created all that `rows` reads when it has opened its store."""
        target, database = self.target, self.target.database(trial.directory)
        if isinstance(target, ProcessTarget) and database.exists():
            with contextlib.closing(faults.connect_unwatched(database)) as connection:
                if lacks := target.lacks(connection):
                    raise self._wrong(_READS, f"`rows` fails without any fault: {lacks}")

    def _play(self, trial: Trial, between: Callable[[], None] | None = None) -> None:
        refused = self.target.refuses
        for step, action in enumerate(self.target.workload(), start=1):
            trial.at_step(step)
            if between is not None:
                between()
            self._call(trial, action, may_be_refused=action.name in refused)
            view = self._view(trial)
            self._seen.take(trial, view)
            if between is None:
                self._seen.take_after(action, trial)
            rows = self._rows(trial)
            # What the store has lost on the way is for the search to find, and the other rules come first.
            if between is None and rows and view != rows and "syscall" not in self.target.depths:
                with contextlib.suppress(_Leave):
                    self._raise_cause(trial, trial.crash_copy(), view, rows, after=f" after {action}")

    def _call(self, trial: Trial, action: Action, *, may_be_refused: bool = False) -> None:
        self._after = f" after {action}"
        with require_one_library(self.target.name, str(action)):
            answer, _ = trial.call_by_stages(action)
        if answer.kind == "raised" and not (may_be_refused and action == self.beat and says_no(answer.error)):
            if isinstance(answer.error, TargetError):
                raise answer.error
            raise self._wrong("every-call-works", f"{action} fails without any fault: it {answer}") from answer.error
        if answer.kind == "refused" and not may_be_refused:
            self._leave_if_lost(trial, action)
            raise self._wrong(
                "every-call-works",
                f"{action} is refused without any fault ({answer.error}), so no fault in it would be tested: is its "
                "name right, and is there what it needs? A call that is refused on purpose is named in `refuses`",
            )

    def _play_again(self, first: Trial, second: Trial, left: View) -> None:
        """The same calls elsewhere and later: they lead to the same state, and don't affect the first store."""
        offset = _Offset()
        # The clock of a deterministic target is the environment's anyway.
        is_apart = "syscall" in self.target.depths or getattr(self.target, "deterministic", False)
        with contextlib.nullcontext() if is_apart else later(offset):
            self._open(second, is_first=False)
            self._play(second, between=offset.add)
            last = len(self.target.workload())
            for step in (last + 1, last + 2):
                second.at_step(step)
                self._call(second, self.beat, may_be_refused=step > last + 1)
            again = self._view(second)
        self._require_apart(first, second, "the view", first.live_view)
        if first.session is not None and (now := self._view(first)) != left:
            raise self._wrong(
                "each-directory-is-a-store-of-its-own",
                "a second store was opened in another directory, and the first one shows something else since: "
                f"{describe(differences(left, now), 'it had', 'now it has')}",
            )
        if again != left:
            advice = _REPLACED_ALREADY if getattr(self.target, "deterministic", False) else _FROM_OUTSIDE
            names_it = repr(again).replace(f"{second.directory}", f"{first.directory}") == repr(left)
            raise self._wrong(
                "the-same-calls-lead-to-the-same-state",
                "the same calls lead to another state in another directory, at another time of day: "
                f"{describe(differences(left, again), 'the first time', 'the second')}; "
                f"{_RELATIVE if names_it else advice}",
            )

        first.at_step(len(self.target.workload()) + 2)
        self._require_apart(first, second, str(self.beat), lambda: first.call_by_stages(self.beat)[0])

    def _require_apart(self, first: Trial, second: Trial, what: str, look: Callable[[], Answer | View]) -> None:
        """The first store, if it is still open, works on its own file beside the second one."""
        if first.session is None or not self._reaches_files:
            return
        has_threads = bool({*threading.enumerate()} - self._threads)
        if how := leaves_its_file(first, second, look, has_threads=has_threads):
            raise self._wrong(
                "each-directory-is-a-store-of-its-own",
                f"a second store was opened in another directory, and then {what} of the first one {how}; is its "
                "connection one for the whole process (of a module, of a class, Django's `default`)? Give each store "
                "one of its own",
            )

    def _require_no_time_of_day(self, view: View) -> None:
        known = repr((self.target.workload(), self.beat))
        for key in times_of_day_in(view, known):
            raise self._wrong(
                "the-same-calls-lead-to-the-same-state",
                f"{key!r} in the view has the time of day, {view[key]!r:.80}, so no two runs are equal: take the time "
                "from `environment.clock`, set `deterministic = True` in the target, or leave it out of view and rows",
            )

    def _restart(self, left: View) -> None:
        """Reopened on its own files, the store shows the same state; a loss is a finding."""
        again = self._reopened_view(self._files_left)
        if again == left or (not self._restores and (left.keys() != again.keys() or self._rows_left == left)):
            # State that vanished, came back, or is in memory only is the store's own fault.
            return
        raise self._wrong(
            "a-restart-changes-nothing",
            "closed cleanly and opened again, without any fault, the store shows another state: "
            f"{describe(differences(left, again), 'before', 'after')}; work at the start (a recovery) is a "
            "call of its own",
        )

    # -- the beat, and the cause of a difference ---------------------------------------------------------------

    def _require_steady(self, trial: Trial) -> None:
        once, again = self._view(trial), self._view(trial)
        if again != once:
            raise self._wrong(
                "looking-changes-nothing",
                "`view` shows another state when it is read again, with no call between: "
                f"{describe(differences(once, again), 'the first look', 'the second')}; read the data in a way that "
                "counts and stamps nothing, or leave out what looking changes",
            )

    def _judge_beat(self, trial: Trial) -> None:
        before, rows_before = self._view(trial), self._rows(trial)
        if before != rows_before and self._reopened_view(trial.crash_copy()) == rows_before:
            # The store shows what is not in its file, and the beat may put that right.
            raise _Leave
        step = len(self.target.workload())
        trial.at_step(step + 1)
        self._call(trial, self.beat)
        view, rows = self._view(trial), self._rows(trial)
        files = trial.crash_copy()
        self._files_left = files
        self._require_one_more_key(before, view)
        self._beats_keys = tuple(own_keys(view, self.target.beat_touches).keys() - before.keys())
        if view != rows:
            self._raise_cause(trial, files, view, rows)
        elif rows_before != before:
            raise _Leave
        trial.at_step(step + 2)
        answer, _ = trial.call_by_stages(self.beat)
        if answer.kind == "raised" and not (says_no(answer.error) and self._view(trial) == view):
            if says_no(answer.error) and self._rows(trial) == rows:
                # Its memory has what the file refused: a finding.
                raise _Leave
            raise self._wrong("the-beat-adds-one-key", f"the beat {self.beat} fails when it is repeated: it {answer}")
        if answer.kind == "raised" and not is_alike(trial.call_by_stages(self.beat)[0].error, answer.error):
            # The refusal has left the session unusable: a finding.
            raise _Leave
        self._files_left = trial.crash_copy()

    def _require_own_key(self) -> None:
        files = self._seen.files_with(self._beats_keys)
        if files is not None and not self._adds_a_key(files):
            raise self._wrong(
                "the-beat-adds-one-key",
                f"the beat {self.beat} adds {', '.join(map(repr, self._beats_keys))}, and so does a call of the "
                "workload: between the calls it would change what is there; give it a key that no call has",
            )
        for action, after in self._seen.states():
            if not self._adds_a_key(after):
                raise self._wrong(
                    "the-beat-adds-one-key",
                    f"the beat {self.beat} adds one key after the workload, and not after {action}: there it changes "
                    "another one, or adds none; give it values that no call has, also for other unique columns",
                )

    def _adds_a_key(self, files: Files) -> bool:
        copy = self._trial("copy")
        with _closing(copy):
            adds = adds_a_key(copy, files, self.beat, len(self.target.workload()) + 1)
        if not adds and (view := self._reopened_view(files)) != (rows := self._rows_left):
            raise self._wrong(
                "each-directory-is-a-store-of-its-own",
                "a store that is opened where another one was, on other files, differs from them: "
                f"{describe(differences(view, rows), 'the view', self._reader)}; it has kept that in the module or in "
                "a class, by its path: let `close` forget it",
            )
        return adds

    def _require_one_more_key(self, before: View, after: View) -> None:
        if adds_one_key(before, after, self.target.beat_touches):
            return
        if self._reopened_view(self._files_left) != after:
            raise _Leave
        before, after = (own_keys(view, self.target.beat_touches) for view in (before, after))
        changed = [one for one in differences(before, after) if one.key in before]
        if changed:
            advice = ""
            if not after.keys() - before.keys():
                advice = "a view has one key for each thing, not a count of them, and each beat creates its own"
            raise self._wrong(
                "one-key-per-thing" if advice else "the-beat-adds-one-key",
                f"the beat {self.beat} has to add one key to the view and to leave the others alone, and changed "
                f"{describe(changed, 'the view before', 'the view after')}{'; ' if advice else ''}{advice}",
            )
        if len(after) != len(before) + 1:
            raise self._wrong(
                "the-beat-adds-one-key",
                f"the beat {self.beat} has to add one key to the view, and changed the number of keys from "
                f"{len(before)} to {len(after)}",
            )

    def _raise_cause(self, trial: Trial, files: Files, view: View, rows: View, after: str = "") -> NoReturn:
        """View and rows differ without a fault: the view of the store on a copy of its files decides."""
        if self._reopened_view(files) != view:
            raise _Leave
        if missing := missing_table(self.target, trial.directory):
            raise self._wrong(_READS, missing)
        detail = describe(differences(view, rows), "the view", self._reader)
        if not rows:
            raise self._wrong(
                _READS,
                f"{self._reader} finds nothing in the file{after} although the store, opened again on it, shows it "
                f"all: {detail}",
            )
        raise self._wrong(
            "view-and-rows-are-one-mapping",
            f"view and {self._reader} differ{after} without any fault, and the store reopened on the same file agrees "
            f"with the view: {detail}; keys and values have to be the same, and of the same types",
        )

    def _leave_if_lost(self, trial: Trial, refused: Action) -> None:
        """Raise `_Leave` if the store has lost something before, which may have caused the refusal.

        Its view has what its files lack, or an earlier call was acknowledged with its transaction still open.
        """
        view = self._view(trial)
        if view != self._rows(trial) and self._reopened_view(trial.crash_copy()) != view:
            raise _Leave
        again = self._trial("again")
        with _closing(again):
            again.at_step(0)
            again.open()
            for step, action in enumerate(self.target.workload(), start=1):
                again.at_step(step)
                answer, _ = again.call_by_stages(action)
                if action == refused:
                    return
                if answer.kind == "done" and leaves_a_transaction(again.directory):
                    raise _Leave

    def _reopened_view(self, files: Files) -> View:
        """The store's view on a copy of its files; `_Leave` if it can't be opened."""
        copy = self._trial("copy")
        place(files, copy.directory)
        copy.at_step(len(self.target.workload()) + 2)
        try:
            with _closing(copy):
                copy.open()
                view = dict(copy.live_view())
                self._rows_left = copy.fresh_view(integrity=False)
                return view
        except (Exception, Violation) as error:
            raise _Leave from error

    # -- looking ---------------------------------------------------------------------------------------------

    def _view(self, trial: Trial) -> View:
        try:
            with require_one_library(self.target.name, "`view`"):
                view: Any = trial.live_view()
        except (TargetError, Violation):
            raise
        except Exception as error:
            place = raised_in(error, self.target)
            said = without_scratch(str(Answer("raised", error)))
            what = f"`view` fails without any fault{self._after}: it {said}"
            raise self._wrong("view-and-rows-are-one-mapping", f"{what} ({place})" if place else what) from error
        require_mapping(self.target.name, "view", view)
        return dict(view)

    def _rows(self, trial: Trial) -> View:
        try:
            with require_one_library(self.target.name, self._reader):
                rows: Any = trial.fresh_view(integrity=False)
        except TargetError:
            raise
        except Violation as violation:
            cause = violation.__cause__
            if cause is None:
                raise _Leave from violation
            if self.target.files_view is None and not isinstance(cause, sqlite3.Error):
                raise self._wrong(_READS, f"{self._reader} fails without any fault: {cause!r}") from cause
            # The driver's own errors have no code, such as one about a text that is not UTF-8.
            code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if code == sqlite3.SQLITE_BUSY and not leaves_a_transaction(trial.directory):
                raise self._wrong("a-reader-can-look-between-calls", LOCKED_OUT) from cause
            if code != sqlite3.SQLITE_ERROR:
                raise _Leave from violation
            raise self._wrong(_READS, f"{self._reader} fails without any fault: {cause}") from cause
        except Exception as error:
            raise self._wrong(_READS, f"{self._reader} fails without any fault: {error!r}") from error
        require_mapping(self.target.name, self._reader.strip("`"), rows)
        return dict(rows)

    def _close(self, trial: Trial) -> None:
        with contextlib.suppress(Violation):
            trial.close()

    def _or_late_writes(self, rule: str) -> str:
        """Another cause of what breaks a rule, if the store has threads."""
        names = ", ".join(sorted(one.name for one in {*threading.enumerate()} - self._threads))
        late = "writes after the call has returned: let the call, or the target, wait until the change is in the file"
        return f"; or a thread of the store ({names}) {late}" if names and rule in _MAY_BE_LATE else ""

    def _wrong(self, rule: str, what: str) -> SetUpError:
        return SetUpError(self.target.name, rule, what + self._or_late_writes(rule))


@contextlib.contextmanager
def _closing(trial: Trial) -> Iterator[None]:
    """Close what is open at the end; errors of that are for the search to find, and hide none of before."""
    try:
        yield
    except BaseException:
        if trial.session is not None:
            with contextlib.suppress(Violation, TargetError):
                trial.close()
        raise
    if trial.session is not None:
        with contextlib.suppress(Violation):
            trial.close()
