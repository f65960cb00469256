"""The executor: plays any scenario, step by step, with every check after every step.

No hand-written model says where a call *would* lead: beside the session under fault runs its *shadow*, the same target
in another directory that never meets a fault. Each call is made on the shadow first; if the real call then fails, the
shadow is rolled back. So any deterministic target can be played, and a known bug that shows only under faults has a
healthy shadow.

After each step the disk is read past the shim, so at most one call is ever undecided. After a call under an armed fault
a copy of the files is opened as after a crash.
"""

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from tornpage import faults
from tornpage.scenarios.execution.at_rest import others_rest
from tornpage.scenarios.execution.crash import latent
from tornpage.scenarios.execution.current_reads import require_current
from tornpage.scenarios.execution.generic_checks.file_modes import require_side_files_follow, usual_umask
from tornpage.scenarios.execution.generic_checks.log_growth import require_bounded
from tornpage.scenarios.execution.generic_checks.other_writers import require_open_to_writers
from tornpage.scenarios.execution.generic_checks.refused_calls import lets_write, require_no_transaction_left
from tornpage.scenarios.execution.generic_checks.written_back import WrittenBack
from tornpage.scenarios.execution.half_done import HalfDone
from tornpage.scenarios.execution.injection import prepared
from tornpage.scenarios.execution.interleave.schedule import OwnSessionError, play_step
from tornpage.scenarios.execution.interleave.serial import State
from tornpage.scenarios.execution.pair import Pair
from tornpage.scenarios.execution.reopen import fails_later
from tornpage.scenarios.execution.session_in_use import HangsError
from tornpage.scenarios.execution.snapshots import Files, place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.execution.waits_alone import note_wait, waits_at
from tornpage.scenarios.model.as_json import in_order
from tornpage.scenarios.model.judging.checks import Violation, describe, differences
from tornpage.scenarios.model.judging.hidden_errors import names_a_fault
from tornpage.scenarios.model.judging.numbers import is_counted_on
from tornpage.scenarios.model.judging.oracle import Answer
from tornpage.scenarios.model.judging.refusals import is_alike, may_be_out_of_place, says_no, says_there_is_none
from tornpage.scenarios.model.scenario import (
    Call,
    Clear,
    ClockJump,
    ClockPace,
    Conditional,
    CrashAt,
    Damage,
    IdleCheck,
    Interleave,
    OtherWriter,
    Restart,
    Scenario,
    Soak,
    Step,
    UsualUmask,
    WithTheLogWrittenBack,
)
from tornpage.scenarios.model.target import Action, Target, TargetError, View, is_specified

# So often in one scenario a call may wait for another caller, each time for a while, before it is not tried again.
_MOST_WAITS: Final = 5
# The count of calls that are left out since they fail in a state by a mistake.
OUT_OF_PLACE: Final = "out_of_place"
_REFUSE: Final = (
    "where a call makes no sense, a store refuses it by an exception of its own, or by `Refused`, or the target's "
    "`actions` leaves it out"
)


class Executor(Pair):
    """A scenario in progress. `counts` has its totals: steps, calls, armed, fired, surfaced, restarts, crashes …

    `answers` counts answers by action, kind and circumstance. `trace` receives each step, each answer and the state
    after it, as text that is the same wherever the same scenario is played.

    `do` and `end` raise `Violation` when a check fails. Close it in any case.
    """

    # -- playing -------------------------------------------------------------------------------------------

    def do(self, step: Step) -> None:
        """Play one step and check everything. Raises `Violation`."""
        step = self.own_calls.in_step(step)
        if not isinstance(step, Clear):
            self.real.hidden_errors.require_none()
        self.steps.append(step)
        if not isinstance(step, Clear):
            self.last_read = None
        self.counts["steps"] += 1
        if self.trace is not None:
            self.trace(str(step))
        self._set_clock(step)
        self._play(step)
        if not _ends_what_is_armed(step):
            self.real.hidden_errors.require_none()
        if self.trace is not None:
            self.trace(in_order(self.view))

    def _play(self, step: Step) -> None:
        if isinstance(step, Call):
            self._call(step)
        elif isinstance(step, Conditional):
            self.armed.begin(step)
        elif isinstance(step, Clear):
            self.clear()
        elif isinstance(step, ClockJump | ClockPace):
            self._change_clock(step)
        elif isinstance(step, CrashAt | Damage):
            self._stop(step)
        elif isinstance(step, Interleave):
            self._interleave(step)
        elif isinstance(step, Restart):
            self._restart(step)
        else:
            self._check_when_idle(step)

    def _check_when_idle(self, step: IdleCheck) -> None:
        if isinstance(step, Soak):
            self._soak()
        elif isinstance(step, OtherWriter):
            self._let_others_write(step)
        elif isinstance(step, UsualUmask):
            self._open_under_the_usual_umask()
        else:
            self._call_both_ways(step)

    def _set_clock(self, step: Step) -> None:
        """Set the minute of a step: its own by default, or the one it names, also for what follows it."""
        if isinstance(step, Call | Restart | CrashAt) and isinstance(step.at, int):
            self._clock, self._clock_was_set = step.at, True
        elif not (isinstance(step, Clear) and self._clock_was_set):
            self._clock, self._clock_was_set = self.steps_before + len(self.steps), False
        for trial in (self.real, self.shadow):
            trial.at_step(self._clock)

    def end(self) -> None:
        """Disarm, and check that the store still works and agrees. Raises `Violation`."""
        self.clear()
        # A new session on the same files would see what only a crash brings back.
        may_come_back = self.real.oracle.maybe_committed
        if self.last_read is not None and self.real.session is not None and not may_come_back:
            require_current(self.real, *self.last_read, self.session_only, self.made)
        files = None
        if self.real.session is not None:
            # Checks that need a copy, and the result of a restart on a state that no fault has led to.
            files = self.real.crash_copy()
            self.real.look_after_crash(files)
        # A scenario may have made the small change itself.
        beat = self.real.target.heartbeat()
        if not any(_makes(step, beat) for step in self.steps):
            self.real.heartbeat(files)
        self.real.hidden_errors.require_none()

    def clear(self) -> None:
        """Disarm everything; from now on the session has to answer."""
        self.armed.end()
        if self.real.session is None and self.counts["opened"]:
            self.real.reopen()
        self.real.look()
        self.follow()

    def _soak(self) -> None:
        """Make the small change until the log restarts; the shadow takes over the resulting state."""
        if not self._ensure_open():
            return
        require_bounded(self.real.beat_again, self.real.target.database(self.real.directory))
        self.view = self.real.fresh_view()
        self.real.oracle.restarted(self.view)
        files = self.real.crash_copy()
        self.made.begin(files)
        self.shadow.put(files)

    def _let_others_write(self, step: OtherWriter) -> None:
        """Require that another connection can begin to write, once the store's threads are at rest."""
        if not self._ensure_open():
            return
        others_rest()
        require_open_to_writers(self.real.target.database(self.real.directory), is_last=step.is_last)

    def _open_under_the_usual_umask(self) -> None:
        home = self.real.directory.with_name(f"umask-of-{self.real.directory.name}")
        place({}, home)
        with usual_umask(), Trial(self.real.target, self.real.oracle.configuration, home, {}) as anew:
            anew.reopen()
            anew.beat()
            require_side_files_follow(anew.target.database(home))

    def _call_both_ways(self, step: WithTheLogWrittenBack) -> None:
        if not self._ensure_open():
            return
        real = self.real
        home = real.directory.with_name(f"written-back-of-{real.directory.name}")
        both = WrittenBack(real.target, real.oracle.configuration, home)
        both.require_the_same(step.action, real.crash_copy(), real.environment.now_ms)

    def _change_clock(self, step: ClockJump | ClockPace) -> None:
        if isinstance(step, ClockJump):
            self.counts["jumps"] += 1
            clock = self.shadow.clock.jumped(step.by_ms)
        else:
            clock = self.shadow.clock.paced(self._clock, step.step_ms)
        for trial in (self.real, self.shadow):
            trial.set_clock(clock, self._clock)

    def _call(self, step: Call) -> None:
        if not self._ensure_open():
            if step.ends is True:
                self.armed.end()
            return
        is_often = self.left_waiting[step.action.name] >= _MOST_WAITS
        if is_often or waits_at(self.real.target, step.action, self.view):
            self._leave_out(step, "left_waiting")
            return
        keeps = bool(self.counts["armed"]) or step.action.name in self._answering
        try:
            shadowed = self._without_a_fault(step.action, keeps_files=keeps)
        except HangsError:
            self._leave_out(step, "left_waiting")
            if self.shadow.fresh_view() != self.view:
                raise
            note_wait(self.real.target, step.action, self.view)
        else:
            if self._is_out_of_place(step.action, *shadowed[1:]):
                self.answers[step.action.name, OUT_OF_PLACE, self._circumstance()] += 1
                self._leave_out(step, OUT_OF_PLACE)
            else:
                is_open_to_writers = shadowed[1].kind != "done" and self._lets_write()
                self._call_real(step, *shadowed)
                if is_open_to_writers:
                    # It was refused.
                    database = self.real.target.database(self.real.directory)
                    require_no_transaction_left(step.action, database, self.real.session)

    def _is_out_of_place(self, action: Action, wanted: Answer, _stages: tuple[View, ...], after: View) -> bool:
        """Whether a call of the workload fails in this state by a mistake, whatever led to it, and changes nothing.

        Such as one that takes a row apart that is not there. In the states of the workload each call works.
        """
        target = self.real.target
        if wanted.kind != "raised" or after != self.view or not may_be_out_of_place(wanted.error):
            return False
        if is_specified(target) or action == target.heartbeat():
            return False
        if all((one.name, *one.args) != (action.name, *action.args) for one in target.workload()):
            return False
        return not self.shadow_has_lived or self._makes_no_sense(action, wanted)

    def _call_real(
        self, step: Call, files: Files | None, wanted: Answer, stages: tuple[View, ...], after: View
    ) -> None:
        """Make a call that the shadow has made, and compare."""
        fired, circumstance, before = self.armed.fired, self._circumstance(), self.view
        saved = files if self.armed else None
        wanted = self._in_its_own_words(step.action, wanted, changes=after != before)
        self._require_wanted(step, wanted, after)
        self.shadow_has_refused |= wanted.kind == "refused"
        self.real.oracle.numbers_used = has_failed = self.has_failed
        with self.recorded(str(step.action), after, stages) as record_answer:
            met = self.armed.met()
            answer = record_answer(self.real.call(step.action, after, stages))
            if wanted.kind == "refused" and is_alike(answer.error, wanted.error):
                answer = Answer("refused", answer.error)
            self.count(answer)
            self.answers[step.action.name, answer.kind, circumstance] += 1
            self._same_refusal(step, wanted, answer, met, follows=has_failed)
            if answer.kind == "raised" and not self.armed:
                left_open = self.real.note_of_transaction_met()
                other = f"; without any fault before it would be {wanted}" if wanted.kind == "refused" else ""
                message = f"no fault is armed, and {step.action} {answer}{left_open}{other}"
                raise Violation("still-usable-after-the-fault", message) from answer.error
            fires = self.armed.fired != fired
            self._judge(ends=step.ends is True)
            if answer.kind == "done" and self.real.oracle.settled != after:
                # It is numbered on from an earlier call that failed, and its answer is, too.
                after = self.real.oracle.settled
                self.put_shadow(self.real.crash_copy())
            elif files is not None:
                self._judge_answer(step.action, wanted, answer, files, fires=fires, changes=after != before)
            if answer.kind == wanted.kind == "done" and after != before and is_counted_on(wanted.value, answer.value):
                # Not wrong: since a restart it counts on from a larger number, which no view shows.
                self._is_numbered_apart = True
        if answer.kind == wanted.kind == "done":
            self._outdate_maybe_committed()
            self.acknowledged.add(step.action, self.shadow.environment.now_ms)
        if wanted.value is not None:
            self._answering.add(step.action.name)
        changes_nothing = answer.kind == "done" and before == after == self.real.oracle.settled
        if self._is_a_read(step.action, answer, changes_nothing=changes_nothing):
            self.last_read = (step.action, answer.value)
        self._judge_half_done(step.action, answer, is_a_read=changes_nothing)
        self._note_half_told(step.action, answer, before, after, saved)
        if saved is not None and not self._is_followed(answer, before, after):
            self._put_back(step.action, saved, before, after, stages)
        else:
            self.made.add(step.action, self.shadow.environment.now_ms)
        self.view = self.real.oracle.settled

    def _is_a_read(self, action: Action, answer: Answer, *, changes_nothing: bool) -> bool:
        """Whether a call only reads: it returns something, or again nothing, as all its calls in this session have.

        One that has returned something may return what is new since then.
        """
        told = self.told_before.setdefault(str(action), [])
        told.append(bool(answer.value))
        return changes_nothing and (bool(answer.value) or (len(told) > 1 and not any(told)))

    def _leave_out(self, step: Call, why: str) -> None:
        """Do not make a call that waits in this state, or fails by a mistake; a shadow that has tried it restarts.

        So does one that has not: whether a process has noted the state may not show in what follows.
        """
        self.restart_shadow(cleanly=True)
        self.counts[why] += 1
        self.left_waiting[step.action.name] += why == "left_waiting"
        if step.ends is True:
            self.armed.end()

    def _outdate_maybe_committed(self) -> None:
        """After an acknowledged call that has changed other files: a write that comes back brings none with it."""
        kept = [files for _, files in self.maybe_committed if files is not None]
        beside = self.shadow.files_beside(self.shadow.crash_copy()) if kept else {}
        if any(self.shadow.files_beside(one) != beside for one in kept):
            self.maybe_committed = [(view, None) for view, _ in self.maybe_committed]

    def _note_half_told(self, action: Action, answer: Answer, before: View, after: View, saved: Files | None) -> None:
        """Note whether a call has raised, although its change has happened, and left other files than the shadow's.

        A read may then say either of the files beside the rows: what they were, as `saved`, or what they would be.
        """
        settled = self.real.oracle.settled
        if answer.kind == "raised" and settled != before:
            done = self.shadow.crash_copy()
            self._is_half_told = self.real.files_beside(self.real.crash_copy()) != self.shadow.files_beside(done)
            if self._is_half_told and saved is not None and settled == after:
                self.half_done = HalfDone(action, saved, done)
        elif answer.kind == "done" and after != before:
            self._is_half_told = False

    def _judge_half_done(self, action: Action, answer: Answer, *, is_a_read: bool) -> None:
        """Judge what a read returns of the files that a failed call has left beside the rows."""
        half_done, self.half_done = self.half_done, self.half_done if is_a_read else None
        if half_done is not None and is_a_read and not self.armed and action.name != half_done.action.name:
            left = self.real.crash_copy()
            half_done.judge(action, answer.value, left, lambda files: self._answer_again(action, files))

    def _put_back(self, action: Action, saved: Files, before: View, after: View, stages: tuple[View, ...]) -> None:
        """Let the shadow continue from the store's state after a failed call."""
        if self.real.oracle.maybe_committed:
            self.maybe_committed += [(after, self.shadow.crash_copy()), *((stage, None) for stage in stages)]
        # A call that commits more than once may have stopped half-way: then the shadow continues from there.
        half_way = self.real.oracle.settled != before
        left = self.real.crash_copy()
        differs = before == after and self.real.files_beside(left) != self.real.files_beside(saved)
        if differs and not half_way and action.name not in self.real.target.many_commits:
            self.half_done = HalfDone(action, saved, self.shadow.crash_copy())
        if half_way or differs:
            self.put_shadow(left)
            if not half_way and self.shadow.fresh_view() != before:
                # It has read what only a crash brings back, of an earlier call whose sync had failed.
                beside, known = self.real.files_beside(left), self.real.files_beside(saved)
                self.put_shadow({name: saved[name] for name in saved.keys() - known.keys()} | beside)
        else:
            self.shadow.put(saved)
            self.real.oracle.is_apart = True
            more = ((name, len(text)) for name, text in self.real.files_beside(left).items())
            grown = (size - len(saved.get(name, b"")) for name, size in more)
            self.real.oracle.bytes_left = frozenset(size for size in grown if size > 0)
        # The session goes on: the call that it makes again at this time draws other values, and so must the shadow's.
        made = self.shadow.environment.made
        made.clear()
        made.update(self.real.environment.made)

    def _is_followed(self, answer: Answer, before: View, after: View) -> bool:
        """Whether the store's state equals that of the shadow, which has made the call that got this answer.

        For a call that raised and changes nothing visible, only the rest of the file, and other files, can show it.
        """
        if self.real.oracle.settled != after or answer.kind == "done" or before != after:
            return self.real.oracle.settled == after
        real, shadow = (one.files_beside(one.crash_copy()) for one in (self.real, self.shadow))
        return real == shadow and self.real.contents() == self.shadow.contents()

    def _circumstance(self) -> str:
        """What a call meets, in a word: what is armed, or which way the clock has just jumped, or nothing."""
        before = self.steps[-2] if len(self.steps) > 1 else None
        clock = ("back" if before.by_ms < 0 else "on") if isinstance(before, ClockJump) else "nothing"
        return "+".join(sorted(self.armed)) or clock

    def _in_its_own_words(self, action: Action, wanted: Answer, *, changes: bool) -> Answer:
        """The same answer; a refusal if the store raised an exception of its own and has changed nothing.

        A target that specifies the result of each call raises `Refused` itself.
        """
        if wanted.kind != "raised" or changes or is_specified(self.real.target):
            return wanted
        error = wanted.error
        # The beat has to work whatever is there.
        is_beat = action == self.real.target.heartbeat()
        if says_no(error) or (not is_beat and says_there_is_none(error, action, self.view)):
            return Answer("refused", error)
        return wanted

    def _without_a_fault(
        self, action: Action, *, keeps_files: bool
    ) -> tuple[Files | None, Answer, tuple[View, ...], View]:
        """Make the call on the shadow, see `Shadow.go_ahead`; raises `Violation` if it hangs, and not by itself."""
        try:
            return self.shadow.go_ahead(action, keeps_files=keeps_files, settles=self.recording is not None)
        except HangsError as hang:
            raise self._stuck_by_itself(action, hang) from None

    def _stuck_by_itself(self, action: Action, hang: HangsError) -> Exception:
        """The error for a call that hangs without any fault: a finding if it returns in a session just opened."""
        try:
            self._answer_again(action, self.shadow.crash_copy())
        except Exception:  # noqa: BLE001 - it fails there, too: it may wait for another caller
            return hang
        message = str(hang).removeprefix(f"{self.real.target.name}: ")
        return Violation("still-usable-after-the-fault", f"{message}; in a session that was just opened it returns")

    def _lets_write(self) -> bool:
        """Whether nothing is armed, and a store for several callers keeps no other writer out now."""
        target = self.real.target
        is_judged = not self.armed and target.callers != () and target.files_view is None
        return is_judged and lets_write(target.database(self.real.directory), self.real.session)

    def _require_wanted(self, step: Call, wanted: Answer, after: View) -> None:
        """Require that a call works where no fault is armed; otherwise there is nothing to compare it with."""
        if isinstance(wanted.error, TargetError):
            raise wanted.error
        if wanted.kind == "raised" and is_specified(self.real.target):
            raise Violation("as-specified", f"no fault is armed, and {step.action} {wanted}") from wanted.error
        if wanted.kind == "raised" and self.shadow_has_lived and not self._makes_no_sense(step.action, wanted):
            raise fails_later(f"with nothing armed, {step.action} fails", wanted.error) from wanted.error
        if wanted.kind == "raised" and after == self.view and self._is_refusals_fault(step.action):
            message = (
                f"{step.action} {wanted} after a call that was refused without any fault; without that one it works"
            )
            raise Violation("still-usable-after-the-fault", message) from wanted.error
        if wanted.kind == "raised":
            changes = describe(differences(self.view, after), "the state before", "that after it")
            did = "" if after == self.view else f", and has changed something: {changes}"
            raise TargetError(f"{step.action} fails without any fault: it {wanted}{did}; {_REFUSE}") from wanted.error

    def _is_refusals_fault(self, action: Action) -> bool:
        """Whether a call that fails now does not in a session that has made the acknowledged calls only."""
        now_ms = self.shadow.environment.now_ms
        return self.shadow_has_refused and self.acknowledged.works(action, now_ms, self.view)

    def _makes_no_sense(self, action: Action, wanted: Answer) -> bool:
        """Whether the call fails in this state in any case, whatever faults and restarts have led to it.

        Not one that fails by an error of SQLite or the system, nor the beat, which has to work in each state.
        """
        error, now_ms = wanted.error, self.shadow.environment.now_ms
        if error is None or names_a_fault(error) or action == self.real.target.heartbeat():
            return False
        return self.acknowledged.fails_by_itself(action, now_ms, self.view, error)

    def _same_refusal(
        self, step: Call, wanted: Answer, answer: Answer, met: Mapping[str, int], *, follows: bool
    ) -> None:
        """Require that a fault changes neither a refusal nor an acknowledgement, and that no answer hides it."""
        if answer.kind == wanted.kind:
            return
        if answer.kind == "done" or (answer.kind == "refused" and not self.armed):
            raise Violation(
                "acknowledged-is-durable",
                f"{step.action} {answer}; in a session that has met no fault and no crash it would be {wanted}",
            )
        self.keep_hidden(step.action, answer, {} if answer.kind == "refused" else met, follows=follows)

    def _judge_answer(
        self, action: Action, wanted: Answer, answer: Answer, files: Files, *, fires: bool, changes: bool
    ) -> None:
        """Compare the return value of a call with the shadow's, if the answer does not depend on memory."""
        if self._is_half_told and not fires:
            # Files beside the rows may be as before the call that failed, or as after it.
            return
        if self.has_failed and changes and not fires:
            # A store that numbers its answers in memory has counted the call that failed, and the shadow has not.
            return
        if self._is_numbered_apart and changes and is_counted_on(wanted.value, answer.value):
            return
        if answer.kind != "done" or wanted.kind != "done":
            return
        try:
            self.real.judge_answer(action, answer, wanted.value, lambda: self._answer_again(action, files))
        except Violation:
            if not self._is_explained(action, wanted, answer, fires=fires, changes=changes):
                raise

    def _is_explained(self, action: Action, wanted: Answer, answer: Answer, *, fires: bool, changes: bool) -> bool:
        """Whether an answer differs only in what varies, or, for a read, in what tells of the files or the session."""
        if self.made.explains(action, self.shadow.environment.now_ms, answer.value, wanted.value):
            return True
        if changes:
            return False
        is_later = self.has_failed and not fires
        explains = self.session_only.explains if is_later else self.session_only.is_of_files
        return explains(action, answer.value, wanted.value, self.real.crash_copy())

    def _answer_again(self, action: Action, files: Files) -> object:
        """The call's answer in a session that has just been opened."""
        home = self.shadow.directory.with_name("again")
        place(files, home)
        with Trial(self.shadow.target, self.shadow.oracle.configuration, home, {}) as cold:
            cold.environment.now_ms = self.shadow.environment.now_ms
            return cold.open().call(action, {}).value

    def _judge(self, *, ends: bool) -> None:
        files = self.real.crash_copy() if self.armed else None
        if ends:
            self.armed.end()
        self.real.look()
        if files is not None:
            self.look_after_crash(files)

    def _ensure_open(self, *, ends: bool = False) -> bool:
        """Open the session if it isn't; under an armed fault that may fail, and the failure is an answer."""
        if self.real.session is not None:
            return True
        answer, is_armed = self.open_real(), bool(self.armed)
        self.count(answer)
        files = self.real.crash_copy() if is_armed else None
        if ends:
            self.armed.end()
        if files is not None:
            self.look_after_crash(files)
        if answer.kind == "done":
            self.counts["opened"] += 1
            self.real.look_after_restart(crashed=False, memory=is_armed)
            return True
        if not is_armed:
            raise Violation("still-usable-after-the-fault", f"with nothing armed, opening {answer}") from answer.error
        return False

    # -- restarts ------------------------------------------------------------------------------------------

    def _restart(self, step: Restart) -> None:
        if self.real.session is None:
            self._ensure_open(ends=step.ends is True)
            return
        was_armed = bool(self.armed)
        if step.crash:
            self.counts["crashes"] += 1
            files = self.real.crash_copy()
            # How the harness closes a session is not part of a crash.
            with self.armed.paused():
                self.real.close()
            place(files, self.real.directory)
            self.begin_another_life()
            self.record_anew(files)
        else:
            self.counts["restarts"] += 1
            self.close_session()
            files = self.real.crash_copy()
            if step.ends is True:
                self.armed.end()
            if was_armed:
                self.look_after_crash(files)
        self.count(self.open_real())
        files, is_armed = self.real.crash_copy(), bool(self.armed)
        if step.ends is True:
            self.armed.end()
        # A close that a fault interrupts leaves the WAL as a crash does.
        self.real.look_after_restart(crashed=step.crash or was_armed, memory=is_armed)
        if is_armed:
            self.look_after_crash(files)
        if step.crash or self.recording is not None:
            # What was recorded has the numbers of the shadow.
            self.restart_shadow(cleanly=not step.crash)
            self.real.oracle.is_apart = False
        else:
            # The shadow goes on: what a restart does not restore shows in later calls.
            self.real.oracle.since_restart, self.real.oracle.is_apart = 0, True
        self.follow()

    def _stop(self, step: CrashAt | Damage) -> None:
        """End the process while faults on the disk stay in force."""
        if isinstance(step, CrashAt):
            self._crash_at(step)
        else:
            self._damage(step)

    def _crash_at(self, step: CrashAt) -> None:
        """Place the files of the crash, judge them by the history, and start again from there."""
        if self.recording is None:
            raise TargetError(f"{step}: nothing was recorded")
        self.counts["power_cuts" if step.power else "crashes"] += 1
        self.recording.require_faithful()
        self.recording.end()
        with self.armed.paused():
            self.real.close()
            # No session is open there any more: the files of the crash are read in their own place.
            with faults.spare():
                state, view = self.recording.after(step)
        files = dict(state.files)
        place(files, self.real.directory)
        self.view = view
        oracle = self.real.oracle
        oracle.restarted(view)
        if step.power:
            oracle.lost += self.recording.history.may_return(step.after)
        self.maybe_committed.clear()
        self.acknowledged.crashed(view)
        self.begin_another_life()
        self.record_anew(files)
        self.put_shadow(files)
        oracle.is_apart = False
        answer = self.open_real()
        self.count(answer)
        if answer.kind == "raised" and not self.armed:
            raise Violation("still-usable-after-the-fault", f"after a crash, opening {answer}") from answer.error
        is_armed, files = bool(self.armed), self.real.crash_copy()
        if step.ends is True:
            self.armed.end()
        self.real.look_after_restart(crashed=True, memory=is_armed)
        if step.ends is True and is_armed:
            self.look_after_crash(files)

    def _damage(self, step: Damage) -> None:
        """Read the files with the damage; then restore them, and start a process on them."""
        if self.recording is None:
            raise TargetError(f"{step}: nothing was recorded")
        self.counts["latent_faults"] += 1
        recording, directory = self.recording, self.real.directory
        files = self.real.crash_copy()
        before = recording.before_last_call()
        recording.end()
        self.close_paused()
        with self.armed.paused():
            target, configuration = self.real.target, self.real.oracle.configuration
            now_ms = self.real.environment.now_ms
            came_to = latent.judge(
                target, configuration, directory, latent.damaged(files, before, step), self.view, step, now_ms
            )
        self.counts[f"latent_{came_to}"] += 1
        place(files, directory)
        self.begin_another_life()
        self.record_anew(files)
        self.count(self.open_real())
        self.restart_shadow()

    def _interleave(self, step: Interleave) -> None:
        """Let two callers make their calls from the current state, and continue from the state they leave."""
        self.counts["schedules"] += 1
        # As the search does before it copies the files: a store may connect only when it is first used.
        self.shadow.live_view()
        files, number = self.shadow.crash_copy(), self._clock
        self.close_paused()
        self.hops = []
        # One of the calls may wait for a third caller, or depend on its session: then neither is made.
        with contextlib.suppress(HangsError, OwnSessionError):
            files, view = ({}, {}) if step.fresh else (files, self.view)
            state = State(files, view, number, clock=self.shadow.clock)
            files, self.view = play_step(step, self.shadow, state, self.hops)
        place(files, self.real.directory)
        self.real.oracle.restarted(self.view)
        self.maybe_committed.clear()
        self.record_anew(files)
        self.put_shadow(files)
        self.count(self.open_real())


def _makes(step: Step, beat: Action) -> bool:
    """Whether a step makes the small change, at any place in a scenario: a store may refuse a repetition."""
    if isinstance(step, Interleave):
        return beat in step.actions
    return isinstance(step, Soak) or (isinstance(step, Call) and step.action == beat)


def _ends_what_is_armed(step: Step) -> bool:
    """Whether the store is judged without a fault after this step; what is wrong then says more than a hidden error."""
    return isinstance(step, Clear) or (isinstance(step, Call) and step.ends is True)


def play(scenario: Scenario, target: Target, directory: Path) -> tuple[Violation | None, Counter[str]]:
    """Play a whole scenario; return its violation, if any, and its counts."""
    record = any(isinstance(step, CrashAt | Damage) for step in scenario.steps)
    with prepared(scenario.steps):
        executor = Executor(target, scenario.configuration, directory, record=record)
        return _violation_of(executor, scenario.steps), executor.counts


def _violation_of(executor: Executor, steps: Iterable[Step]) -> Violation | None:
    try:
        with executor:
            for step in steps:
                executor.do(step)
            executor.end()
    except Violation as violation:
        return violation
    return None
