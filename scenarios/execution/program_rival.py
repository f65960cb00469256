"""A rival for a program of its own, as a condition: another process holds a real lock when the call begins.

It releases the lock after the checks of the call, or, with `held_ms`, so long (in real time) after the program has met
it. The operation of the call in which it is met can't be chosen from outside. It has blocked the program if the system
refused locks of the program (`faults.syscall_log.locks`).

If it stays to the end, the program's sleeps end at once. A program that waits for the lock longer than the time limit
of an answer is not a finding, since it may be written to wait longer; it is counted as `patient`.
"""

import contextlib
import threading
from collections.abc import Iterator

from tornpage import faults
from tornpage.faults.contention.process import RivalProcess
from tornpage.faults.syscall_log.locks import LockWatch
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import Rival
from tornpage.scenarios.targets.process import DiedError, HungError, ProcessSession, ProcessTarget, Program

# The `operation` of a rival that is there when the call begins.
AT_THE_CALL = "call"


class ProgramRival:
    """Its counts: `refused` locks of the program, `surfaced` errors; see `faults.Rival` for the others."""

    # strace reports its log when it detaches.
    is_known_late = True

    def __init__(self, trial: Trial, target: ProcessTarget, step: Rival, process: RivalProcess) -> None:
        self.kind = faults.RIVAL_KINDS[step.kind]
        self.held_ms = step.held_ms
        self.surfaced = self.refused = 0
        self.waited_ms = 0.0
        self.was_held = self.holds = self.was_patient = False
        self._trial, self._target, self._process = trial, target, process
        self._watch: LockWatch | None = None
        self._lock = threading.Lock()
        self._is_over = threading.Event()

    @property
    def rival(self) -> "ProgramRival":
        """Itself: the interface that a search expects of a rival."""
        return self

    @property
    def contended(self) -> bool:
        """Whether it was in the program's way."""
        return self.was_held and self.refused > 0

    @property
    def fired(self) -> int:
        """1 if it blocked the program."""
        return int(self.contended)

    def begin(self) -> None:
        """Take the lock, and watch the program."""
        database = self._target.database(self._trial.directory)
        mode = self._trial.oracle.configuration.journal_mode
        self.was_held = self.holds = database.exists() and not self._process.take(self.kind, str(database), mode)
        self._trial.environment.before_opening.append(self._watch_it)
        self._trial.before_reading.append(self.make_way)
        if isinstance(self._trial.session, ProcessSession):
            self._watch_it(self._trial.session.program)

    def end(self) -> None:
        """Release everything, and a session whose process has ended."""
        self._settle()
        self.let_go()
        self._trial.environment.before_opening.remove(self._watch_it)
        self._trial.before_reading.remove(self.make_way)
        session = self._trial.session
        if isinstance(session, ProcessSession) and not session.program.alive:
            self._trial.session = None
            session.close()

    def let_go(self) -> None:
        """Let the rival finish; calling it twice is fine."""
        with self._lock:
            if self.holds:
                self.holds = False
                self._process.release()

    def make_way(self) -> None:
        """Await a release that has begun, and release a lock that would keep even readers out.

        The program goes on once the rival has rolled back; then the rival closes its connection, which in WAL mode asks
        for the whole file for a moment, and keeps new readers out (SQLite's ``os_unix.c``: the PENDING lock).
        """
        with self._lock:
            is_to_go = self.kind.shuts_readers_out
        if is_to_go:
            self.let_go()

    def saw(self, error: BaseException) -> bool:
        """Count an error; raises `Violation` for a program that gave up before a short lock was released."""
        held = self.holds
        self._settle()
        if isinstance(error, HungError) and held and self.held_ms is None:
            self.was_patient = True
            return True
        may_die = self._target.description.dies_on_errors
        if isinstance(error, HungError) or (isinstance(error, DiedError) and not may_die):
            raise Violation("still-usable-after-the-fault", f"{self.kind.name} held its lock: {error}") from error
        if not self.contended:
            return False
        self.surfaced += 1
        if self.held_ms is not None and self.kind.keeps_a_lock and self.waited_ms < self.held_ms:
            raise Violation(
                "waits-for-a-short-lock",
                f"a {self.kind.name} held its lock for {self.held_ms} ms; "
                f"the call failed after {self.waited_ms:.0f} ms: {error}",
            ) from error
        return True

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Without the rival."""
        self._settle()
        self.let_go()
        yield

    def _watch_it(self, program: Program) -> None:
        self._settle()
        if self.holds:
            self._is_over.clear()
            self._watch = LockWatch(
                program.pid,
                self._target.database(self._trial.directory),
                program.answers_to,
                self._on_refusal,
                skips_sleep=self.held_ms is None,
            )

    def _on_refusal(self) -> None:
        if self.held_ms is not None:
            self._is_over.wait(self.held_ms / 1000)
            self.let_go()

    def _settle(self) -> None:
        """Detach from the program, and record what was seen."""
        watch, self._watch = self._watch, None
        self._is_over.set()
        if watch is not None:
            watch.end()
            self.refused += watch.refused
            self.waited_ms += watch.slept_ms if self.held_ms is None else watch.waited_ms


@contextlib.contextmanager
def beside_a_program(trial: Trial, step: Rival) -> Iterator[ProgramRival]:
    """Let a rival hold its lock beside a program of its own inside this scope."""
    assert isinstance(trial.target, ProcessTarget)  # noqa: S101 - called for such targets only
    with trial.troubled(), faults.shared_rival_process() as process:
        rival = ProgramRival(trial, trial.target, step, process)
        rival.begin()
        try:
            yield rival
        finally:
            rival.end()
