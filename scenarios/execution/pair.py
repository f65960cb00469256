"""A store under faults, and beside it its *shadow*: the same target in another directory that never meets a fault.

Each call is made on the shadow first. Where the two differ afterwards, the shadow is put back, or takes over what the
store has kept.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tornpage.faults.contention.schedule import Hop
from tornpage.scenarios.execution.crash.recording import Recording
from tornpage.scenarios.execution.frames import forget_frames
from tornpage.scenarios.execution.half_done import HalfDone
from tornpage.scenarios.execution.hidden_errors import times_met
from tornpage.scenarios.execution.in_force import InForce
from tornpage.scenarios.execution.made_again import MadeAgain
from tornpage.scenarios.execution.session_in_use import CLOSE, OPEN
from tornpage.scenarios.execution.session_only import SessionOnly
from tornpage.scenarios.execution.shadow import Shadow
from tornpage.scenarios.execution.snapshots import Files, first_free, place, siblings
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.checks import Violation, describe, differences
from tornpage.scenarios.model.judging.numbers import is_among
from tornpage.scenarios.model.judging.oracle import Answer
from tornpage.scenarios.model.own_calls import OwnCalls
from tornpage.scenarios.model.scenario import Arm, Step
from tornpage.scenarios.model.target import Action, Configuration, Target, TargetError, View
from tornpage.scenarios.targets.declaration import require_as_declared


class Pair:
    """The two sessions, what is in force on the real one, and what is known of its state: the base of the executor."""

    def __init__(
        self,
        target: Target,
        configuration: Configuration,
        directory: Path,
        *,
        record: bool = False,
        compares: bool = False,
        files: Files | None = None,
        view: View | None = None,
        steps_before: int = 0,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.steps_before = steps_before
        self._clock = 0
        self._clock_was_set = False
        # Whether the shadow has files that faults or a crash have left; an error on those is not one of the set-up.
        self.shadow_has_lived = bool(files)
        self.trace = trace
        self.steps: list[Step] = []
        self.counts: Counter[str] = Counter()
        # By their names, the calls that were left out because they wait for another caller.
        self.left_waiting: Counter[str] = Counter()
        self.answers: Counter[tuple[str, str, str]] = Counter()
        # A scenario from a file has what JSON makes of a call's arguments.
        self.own_calls = OwnCalls((*target.workload(), target.heartbeat()))
        # Files that an earlier scenario has left open must not affect this one.
        directory = first_free(siblings(directory))
        place(files or {}, directory / "real")
        self.real = Trial(target, configuration, directory / "real", view or {})
        self.shadow = Shadow(target, configuration, directory / "real", directory / "shadow", view or {})
        place(files or {}, self.shadow.home, self.shadow.directory)
        # What the shadow has done by itself since its files were last the store's own.
        self.made = MadeAgain(target, configuration, directory / "made-again", files or {})
        # The calls of the scenario that the store has acknowledged.
        self.acknowledged = MadeAgain(target, configuration, directory / "made-again", files or {})
        self.session_only = SessionOnly(target, configuration, directory / "session-only", directory / "real")
        self.armed = InForce(self.real, self.counts)
        # Existing files were left by another process.
        self.real.life = self.shadow.life = int(bool(files))
        # None: the files are those that the crash has left.
        self.maybe_committed: list[tuple[View, Files | None]] = []
        # The hops of the last two concurrent calls, in order.
        self.hops: list[Hop] = []
        # The last step, if it was a call that only reads, and its answer.
        self.last_read: tuple[Action, Any] | None = None
        # The calls that return something, and whether any has failed yet.
        self._answering: set[str] = set()
        self.has_failed = False
        # Whether a call of the shadow was refused.
        self.shadow_has_refused = False
        # Of each call whether it returned something, for each time that the session has made it.
        self.told_before: dict[str, list[bool]] = {}
        # Whether a call has raised whose change had happened, and files beside the rows may be as before it.
        self._is_half_told = False
        # The last failed call that has left other files beside the rows, while only reads have followed it.
        self.half_done: HalfDone | None = None
        # Whether a call that changes something has had another answer from the store than from the shadow.
        self._is_numbered_apart = False
        if "statement" in target.depths:
            self.real.watch_statements()
            self.shadow.watch_statements()
        self.shadow.at_step(0)
        try:
            self.shadow.open()
        except Exception as error:
            how = "on the files that a crash has left" if files else "without any fault"
            raise TargetError(f"{target.name}: opening fails {how}: {error!r}") from error
        self.view: View = self.shadow.fresh_view()
        try:
            require_as_declared(target, configuration, self.shadow.directory, self.shadow.journal_mode(), self.view)
        except TargetError:
            self.shadow.close()
            raise
        # Whether the recording is compared with the files after each call, or only when a crash is made of it.
        self._compares = compares
        self.recording = Recording(self.real, files or {}, self.view, compares=compares) if record else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self.close()
            return
        # The error in flight says more than one from closing the sessions after it.
        forget_frames(error)
        with contextlib.suppress(Violation):
            self.close()

    def close(self) -> None:
        """Disarm and release everything; raises `Violation` if the target does not."""
        self.armed.end()
        try:
            self.real.close()
        finally:
            try:
                self.shadow.close()
            finally:
                if self.recording is not None:
                    self.recording.end()

    def count(self, answer: Answer) -> None:
        """Count an answer of the real session, and let what is armed see its error."""
        self.counts["calls"] += 1
        self.counts[answer.kind] += 1
        if self.trace is not None:
            self.trace(_in_short(answer))
        if answer.error is not None and answer.kind == "raised":
            self.has_failed = True
            self.armed.saw(answer.error)

    def keep_hidden(self, action: Action, answer: Answer, met: Mapping[str, int], *, follows: bool = False) -> None:
        """Record an answer that hides a fault met since `met` was counted; `do` raises it.

        `follows` says that a call before it has failed.
        """
        for slot, condition in self.armed.items():
            fault = next(one for one in reversed(self.steps) if getattr(one, "slot", None) == slot)
            words = fault.plan if isinstance(fault, Arm) else str(fault)
            is_met = answer.kind == "refused" or times_met(condition) > met.get(slot, 0)
            left_open = self.real.note_of_transaction_met if follows else str
            self.real.hidden_errors.keep(action, answer, condition, words, is_met=is_met, left_open=left_open)

    def look_after_crash(self, files: Files) -> None:
        """Open the files of a crash; not possible while a program that failed to open may be used again."""
        with self.armed.paused() if self.real.session is None else contextlib.nullcontext():
            self.real.look_after_crash(files)

    def begin_another_life(self) -> None:
        """The process has ended; the next one has another number. The shadow has to be put into it, too."""
        self.real.life += 1

    def close_paused(self) -> None:
        """Close the session; how the harness does that is not part of the scenario."""
        with self.armed.paused():
            self.real.close()

    def record_anew(self, files: Files) -> None:
        """Begin another recording, if there is one, on the files from which the store continues."""
        if self.recording is not None:
            self.recording.end()
            self.recording = Recording(self.real, files, self.view, compares=self._compares)

    def open_real(self) -> Answer:
        """Open the real session; an error is an answer, too."""
        met = self.armed.met()
        self.told_before.clear()
        self.real.oracle.calls = 0
        with self.recorded("open", self.view) as record_answer:
            answer = record_answer(self.real.call(OPEN, self.view))
        self.keep_hidden(OPEN, answer, met)
        self.made.restart()
        return answer

    def close_session(self) -> None:
        """Close the session cleanly, as far as armed faults allow it."""
        with self.recorded("close", self.view) as record_answer:
            self.count(record_answer(self.real.call(CLOSE, self.view)))

    @contextlib.contextmanager
    def recorded(self, call: str, after: View, stages: tuple[View, ...] = ()) -> Iterator[Callable[[Answer], Answer]]:
        """If there is a recording, record the positions at which a call began and its caller got the answer."""
        if self.recording is None:
            yield lambda answer: answer
        else:
            with self.recording.call(self.steps_before + len(self.steps), call, after, stages) as record_answer:
                yield record_answer

    def put_shadow(self, files: Files) -> None:
        """Let the shadow continue from the store's files, which faults or a crash have left.

        Raises `Violation` if it can't.
        """
        self.made.begin(files)
        self.real.oracle.bytes_left = frozenset()
        self._start_shadow(files, cleanly=False)

    def restart_shadow(self, *, cleanly: bool = False) -> None:
        """Start the shadow again on its own files; those of a clean restart (`cleanly`) are as it has left them."""
        self._start_shadow(self.shadow.crash_copy(), cleanly=cleanly)

    def _start_shadow(self, files: Files, *, cleanly: bool) -> None:
        self.shadow_has_lived = self.shadow_has_lived or not cleanly
        self.real.oracle.since_restart, self.real.oracle.is_apart = None, True
        self.shadow.put(files, self.real.life)

    def follow(self) -> None:
        """If a crash brought back a maybe-committed write, or a lost one, the shadow takes over the state."""
        settled = self.real.oracle.settled
        if settled == self.view:
            self._follow_unseen()
            return
        lost = ((view, None) for view in self.real.oracle.lost)
        for view, files in (*self.maybe_committed, *lost):
            if is_among(settled, self.view, [view], numbers_used=self.has_failed):
                if files is None or view != settled:
                    self.put_shadow(self.real.crash_copy())
                else:
                    self.shadow.put(files)
                self.maybe_committed.clear()
                self.view = settled
                return
        raise Violation(
            "acknowledged-is-durable",
            describe(differences(self.view, settled), "the expected state", "the file"),
            {"expected": self.view, "disk": settled},
        )

    def _follow_unseen(self) -> None:
        """The same for a write that changes nothing visible."""
        for view, files in self.maybe_committed:
            if view == self.view and files is not None and self.real.contents() != self.shadow.contents():
                self.shadow.put(files)
                self.maybe_committed.clear()
                return


def _in_short(answer: Answer) -> str:
    """An answer without what differs between directories, such as a path in an error's text."""
    name = getattr(answer.error, "sqlite_errorname", "") or type(answer.error).__name__
    return answer.kind if answer.error is None else f"{answer.kind} {name} {answer.certainty}"
