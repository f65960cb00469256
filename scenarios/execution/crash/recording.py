"""A recording: the tape of one session's files, the history of its callers' answers, and the crashes of both.

It begins with durable files, at the start of a store's life or after a crash, and continues through clean restarts.
`after` builds the files of one crash and judges them.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Final

from tornpage import faults
from tornpage.faults.contention.idle import all_idle, is_alone
from tornpage.faults.crash.names import never_synced
from tornpage.faults.files import Replica, syncing_libraries
from tornpage.faults.sqlite_library import sqlite3
from tornpage.faults.vfs.operation_log import Note
from tornpage.scenarios.execution.crash.answers import AnswersAfterACrash, is_promised
from tornpage.scenarios.execution.crash.first_answer import FirstAnswer
from tornpage.scenarios.execution.crash.program_tape import settle, tape_of_program
from tornpage.scenarios.execution.crash.reader import CrashReader
from tornpage.scenarios.execution.reopen import names_in
from tornpage.scenarios.execution.session_in_use import CLOSE, OPEN
from tornpage.scenarios.execution.snapshots import Files, is_own, place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.crash_oracle import History, Outcome
from tornpage.scenarios.model.judging.oracle import Answer
from tornpage.scenarios.model.scenario import CrashAt
from tornpage.scenarios.model.target import NotJudged, TargetError, View


def _hot(directory: Path) -> Iterator[Path]:
    """The databases of a directory with a rollback journal that begins with anything but zeros."""
    for name in names_in(os.fspath(directory)):
        if name.endswith("-journal"):
            with contextlib.suppress(OSError), directory.joinpath(name).open("rb") as journal:
                if any(journal.read(8)):
                    yield directory / name.removesuffix("-journal")


# Neither a memory map nor a child process was seen.
_UNKNOWN_WAY: Final = "by C code that does its own I/O, or a process that was started earlier"
_OUTSIDE: Final = "by another process, or through a memory map that was made before the store was opened"


class Recording:
    """The operations on one trial's files since `files`, when the store's view was `view`.

    With `compares` the tape is compared with the files after each call.
    """

    def __init__(self, trial: Trial, files: Files, view: View, *, compares: bool = False) -> None:
        self.trial = trial
        self._compares = compares
        self.base = {name: content for name, content in files.items() if not name.endswith("-shm")}
        self.history = History(trial.oracle.configuration, view, trial.oracle.lost)
        self._database = os.path.relpath(trial.target.database(trial.directory), trial.directory)
        # The contents of the directory according to the tape; and how many of the tape's notes it includes.
        self._replica = Replica(self.base)
        self._noted = 0
        # What `ctypes` had been asked for before; looked up when a verdict needs it, because that takes a while.
        self.libraries: list[str] | None = None
        # The crash states in which a failed sync drops nothing, built on first use.
        self._kept: faults.CrashStates | None = None
        # The state of a position in which nothing is lost, the last one that was asked for.
        self._last_whole: faults.State | None = None
        # The states in which only a directory is lost, with the length of the tape at that time.
        self._alone: tuple[int, faults.CrashStates] | None = None
        self._scope = contextlib.ExitStack()
        self.tape = self._scope.enter_context(faults.record(trial.directory))
        self._first_answer = FirstAnswer()
        self.tape.held = self._first_answer.held
        self._answered_at: int | None = None
        trial.on_answer, before = self._has_answered, trial.on_answer
        self._scope.callback(setattr, trial, "on_answer", before)
        self._program = tape_of_program(trial, self.tape, self.base)
        if self._program is not None:
            self._scope.callback(self._program.end)
        trial.before_reading.append(self._recover)
        self._scope.callback(trial.before_reading.remove, self._recover)

    def end(self) -> None:
        """Write nothing down any more."""
        self._scope.close()

    def _recover(self) -> None:
        """The first reader rolls a hot journal back: record that on the tape.

        The readers of the harness bypass the shim, so without this the tape would miss their changes. They don't belong
        to the store, so armed faults ignore them. They leave a log as it is (`kept_logs`).
        """
        for database in _hot(self.trial.target.database(self.trial.directory).parent):
            with (
                faults.spare(),
                contextlib.suppress(sqlite3.Error),
                contextlib.closing(faults.connect_beside(database)) as connection,
            ):
                connection.execute("SELECT 1 FROM sqlite_master").fetchall()

    @contextlib.contextmanager
    def call(
        self, step: int, call: str, after: View, stages: tuple[View, ...] = ()
    ) -> Iterator[Callable[[Answer], Answer]]:
        """Record a call that would lead to `after`; pass its answer to the yielded function, inside the scope."""
        begin = self._position()
        heard: list[tuple[int, Answer]] = []

        def record_answer(answer: Answer) -> Answer:
            self._has_answered()
            heard.append((self._answered_at or 0, answer))
            settle(self.trial)
            return answer

        self._answered_at = None
        self._first_answer.begins()
        try:
            yield record_answer
        finally:
            self._first_answer.answered()
        # The settled state was read after the answer, inside this scope.
        if self._compares:
            self.require_faithful(call)
        end, answer = heard[0]
        oracle = self.trial.oracle
        if answer.kind == "done" and call not in (OPEN.name, CLOSE.name):
            # If numbers were used up, the state differs from the expected one.
            after = oracle.settled
        beside = any(map(self._is_beside, self.tape.operations[begin:end])) if answer.kind == "raised" else False
        self.history.called(
            step, call, begin, end, answer, stages, after, oracle.settled, oracle.maybe_committed, beside=beside
        )

    def _has_answered(self) -> None:
        """The call returns now; what threads of the store do from here on comes after its answer."""
        if self._answered_at is None:
            self._answered_at = self._position()
        self._first_answer.answered()

    def _is_beside(self, operation: faults.Operation) -> bool:
        """Whether an operation is one on a file other than SQLite's files of the one database."""
        if self.trial.target.files_view is not None:
            return True
        return not is_own(operation.path, self._database)

    def _may_doubt(self, crash: faults.Crash) -> bool:
        """Whether a crash has lost something that a failed call did to a file other than the database's."""
        if self.trial.target.files_view is not None:
            return True
        failed = [span for span in self.history.spans if span.answer.kind == "raised"]
        return any(
            span.begin <= index < span.end and self._is_beside(self.tape.operations[index])
            for span in failed
            for index in spoilt(crash)
        )

    def _position(self) -> int:
        """The number of operations whose result has been returned so far."""
        if self._program is not None:
            self._program.follow()
        return len(self.tape)

    def require_faithful(self, call: str = "") -> None:
        """Raise `TargetError` if the files are not those of the tape: then no crash state is right.

        Checked after every `call`, so that it can name the call that changed a file unseen, and possible ways.
        """
        different = self._different()
        if different and not is_alone():
            # A thread of the store's own may be between a change and its record.
            all_idle()
            different = self._different()
        notes, self._noted = self.tape.notes[self._noted :], len(self.tape.notes)
        # A file that was mapped once stays so.
        mapped = [note for note in self.tape.notes if note.way.startswith(tuple(f"{name} " for name in different))]
        ways = "; ".join(dict.fromkeys(note.way for note in notes or mapped)) or _UNKNOWN_WAY
        seen = "SQLite's own operations and those of `os`, `open`, pathlib, shutil and tempfile"
        if self._program is not None:
            ways, seen = _OUTSIDE, "the system calls of the process that does the I/O"
        for name in different:
            by = f"{call}: " if call else ""
            raise TargetError(
                f"{self.trial.target.name}: {by}{name} was changed in a way that the recorder does not see "
                f"({ways}); crash states can't be built from its tape. "
                f"It sees {seen}"
            )

    def _different(self) -> list[str]:
        """The files that are not those of the tape."""
        self._position()
        self._replica.follow(self.tape.operations)
        return list(self._replica.different(self.trial.crash_copy()))

    def after(self, step: CrashAt) -> tuple[faults.State, View]:
        """The files that a crash leaves, and their view where they were written; raises `Violation`.

        No session may be open there. A store that was changed since the crash was found makes other operations, so that
        exact crash may no longer be possible. Then any crash of its kind in the last step is used, and the store
        continues from after the step.
        """
        states = self.states(step.device)
        try:
            state = states.at(step.crash)
        except ValueError:
            for _, violation in self.wrong_in_last_step(step.device, power=step.power):
                raise violation from None
            state = states.process(len(self.tape))
        view, _ = self.judge(state, self.reader(), step.device)
        return state, view

    def wrong_in_last_step(
        self,
        device: faults.Device,
        seed: int = 0,
        *,
        power: bool | None = None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[faults.State, Violation]]:
        """Each crash of the last step that violates a check, or one of each kind, until `is_over` returns True.

        No session may be open there.
        """
        reader, spans = self.reader(), self.history.spans
        states = self.states(device, seed)
        first = next(span for span in spans if span.step == spans[-1].step)
        for position in range(first.begin, len(self.tape) + 1):
            for state in (states.process(position), *states.power(position)):
                if is_over():
                    return
                if power in (None, state.crash.power):
                    try:
                        self.judge(state, reader, device)
                    except Violation as violation:
                        yield state, violation

    def states(self, device: faults.Device | None = None, seed: int = 0, *, every: bool = False) -> faults.CrashStates:
        """The crash states of the recording."""
        operations = self.tape.operations
        return faults.CrashStates(self.base, operations, device, seed, every=every, deployed=self.deployed())

    def deployed(self) -> list[int]:
        """The directories that were created before the first acknowledged call and never synced into their parents.

        Nothing else could sync them: SQLite syncs the directory of a database, and not its parent. A store whose
        directory is created at set-up loses all or nothing with it, journalling file systems write it with the first
        sync below it, and nearly all stores do so. A store has to sync the directories that it creates later.
        """
        spans = (span for span in self.history.spans[1:] if span.call not in (OPEN.name, CLOSE.name))
        end = next((span.end for span in spans if span.answer.kind == "done"), len(self.tape))
        return never_synced(self.tape.operations[:end])

    def before_last_call(self) -> Files:
        """The files as they were before the last call."""
        begins = [span.begin for span in self.history.spans if span.call not in (OPEN.name, CLOSE.name)]
        return dict(self.states().process(begins[-1] if begins else 0).files)

    def reader(self) -> CrashReader:
        """The reader of this recording's states."""
        return CrashReader(self.trial.target, self.trial.oracle.configuration)

    def judge(
        self, state: faults.State, reader: CrashReader, device: faults.Device | None = None
    ) -> tuple[View, Outcome]:
        """The view of a state and the changes it lost; raises `Violation`. No session may be open on its directory.

        A violation that needs a failed sync's dropped pages has a check of its own.
        """
        try:
            view = reader.view_of(state, self.trial.environment.now_ms, self.trial.directory)
            may_doubt = self._may_doubt(state.crash)
            outcome = self.history.judge(state.crash.position, view, power=state.crash.power, doubts=may_doubt)
            self._require_answers(state, view)
        except Violation as found:
            violation = self._explained(self._with_mode(found, state), state.crash, reader)
            self._require_certain(state.crash, violation)
            if device is None or device.failed_sync == "keeps" or not self.needs_dropped(state.crash, device):
                raise violation from None
            message = f"a sync had failed, and its pages were dropped: {violation.code}: {violation.message}"
            raise Violation("survives-a-failed-sync", message, violation.sides) from None
        return view, outcome

    def _require_answers(self, state: faults.State, view: View) -> None:
        """Require that reading calls do not miss what a power cut has taken from files beside the rows."""
        if self._answers is None or not state.crash.power:
            return
        rest, pending = self.history.at(state.crash.position)
        if pending is None and not rest.has_failed and view == rest.settled:
            self._answers.require(state, self._whole(state.crash.position), rest)

    def _whole(self, position: int) -> faults.State:
        """The files where nothing is lost."""
        if self._last_whole is None or self._last_whole.crash.position != position:
            self._last_whole = self.states().process(position)
        return self._last_whole

    @cached_property
    def _answers(self) -> AnswersAfterACrash | None:
        """None where no file beside the database was changed, or a power cut may take more than that."""
        target, configuration = self.trial.target, self.history.configuration
        is_judged = target.files_view is None and is_promised(configuration)
        if not is_judged or not any(map(self._is_beside, self.tape.operations)):
            return None
        return AnswersAfterACrash(target, configuration, self.trial.directory, self.trial.environment.now_ms)

    def _with_mode(self, violation: Violation, state: faults.State) -> Violation:
        """The violation; with SQLite's journal mode if the database was to have a log, and has none."""
        if self.trial.oracle.configuration.journal_mode != "wal" or self._is_surely_wal(state.files):
            return violation
        place(dict(state.files), self.trial.directory)
        with faults.spare():
            mode = self.trial.journal_mode()
        if mode in ("", "wal"):
            return violation
        return violation.with_message(
            f"{violation.message}; the database is not in WAL mode: PRAGMA journal_mode did not set it"
        )

    def _is_surely_wal(self, files: Mapping[str, bytes]) -> bool:
        """Whether the header says so, and there is no journal that could roll it back; else SQLite has to be asked."""
        return files.get(self._database, b"")[18:20] == b"\x02\x02" and f"{self._database}-journal" not in files

    def _explained(self, violation: Violation, crash: faults.Crash, reader: CrashReader) -> Violation:
        """The violation; if the loss of a directory alone causes one, with that and the remedy."""
        operations = self.tape.operations
        made = tuple([index for index in crash.lost if operations[index].kind == "mkdir"])
        if not made or not self._is_wrong(faults.Crash(crash.position, made), reader):
            return violation
        names = ", ".join(f"{operations[index].path}/" for index in made)
        parents = " and ".join(sorted({_parent(operations[index].path) for index in made}))
        return violation.with_message(
            f"{violation.message}. The loss of {names} alone causes it: after os.mkdir nothing has synced {parents}, "
            f"so the new directory may be lost with all its contents; remedy: open {parents} and os.fsync it after "
            f"os.mkdir"
        )

    def _is_wrong(self, crash: faults.Crash, reader: CrashReader) -> bool:
        """Whether the files of a crash also violate a check."""
        try:
            if self._alone is None or self._alone[0] != len(self.tape):
                self._alone = len(self.tape), self.states()
            view = reader.view_of(self._alone[1].at(crash), self.trial.environment.now_ms, self.trial.directory)
            self.history.judge(crash.position, view, power=True, doubts=self._may_doubt(crash))
        except Violation:
            return True
        return False

    def _require_certain(self, crash: faults.Crash, violation: Violation) -> None:
        """Raise `NotJudged` where what a crash has lost may have been synced by what the recorder doesn't see."""
        # Of a program of its own every sync is seen, and what runs in this process is none of its doing.
        if not spoilt(crash) or self._program is not None:
            return
        if self.libraries is None:
            self.libraries = syncing_libraries()
        if ways := ways_to_sync(crash, self.tape.notes, self.libraries):
            raise NotJudged(
                f"{self.trial.target.name}: {crash}: {violation.message}; but {ways[-1]}, and the recorder does not "
                "see such syncs, so this crash may be impossible. Sync through `os`, or in this process"
            )

    def needs_dropped(self, crash: faults.Crash, device: faults.Device) -> bool:
        """Whether a crash loses data that a later sync would have written had a failed one not dropped it."""
        if self._kept is None or self._kept.device != replace(device, failed_sync="keeps"):
            kept_device = replace(device, failed_sync="keeps")
            self._kept = self.states(kept_device)
        return crash.power and not set(spoilt(crash)) <= self._kept.unsynced(crash.position)


def ways_to_sync(crash: faults.Crash, notes: Sequence[Note], libraries: Sequence[str]) -> list[str]:
    """In which ways something that a crash has lost may have been synced before it, unseen by the recorder.

    `libraries` are C functions that `ctypes` had been asked for before (`syncing_libraries`).
    """
    if not (lost := spoilt(crash)):
        return []
    ways = [note.way for note in notes if note.syncs and min(lost) < note.position <= crash.position]
    return ways + [f"{name} was called through ctypes" for name in libraries]


def _parent(path: str) -> str:
    return f"{os.path.dirname(path)}/" if os.path.dirname(path) else "the store's directory"  # noqa: PTH120 - no Path


def spoilt(crash: faults.Crash) -> list[int]:
    """The changes that a crash has lost, torn, or left without a part."""
    return [*crash.lost, *(index for index, _, _ in crash.holes), *([crash.torn[0]] if crash.torn else [])]
