"""A program in any language as a target: its sessions are processes that speak the protocol.

A process is used again after it has closed a store cleanly and released its files, since starting a runtime takes
longer than a call; if the description has `opens_once`, each store gets its own process. The harness itself reads the
tables, with the description's `rows`.

Faults reach such a target from outside only: at the `syscall` depth (`scenarios.search.programs.syscalls`).
"""

import os
import re
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.model.judging import unpromised
from tornpage.scenarios.model.judging.checks import CHECKS
from tornpage.scenarios.model.target import Action, Configuration, Environment, Target, TargetError, View
from tornpage.scenarios.model.target import Refused as RefusedCall
from tornpage.scenarios.targets.process import rows
from tornpage.scenarios.targets.process.program import Program, ProgramError
from tornpage.scenarios.targets.process.protocol import (
    Answer,
    Call,
    Close,
    Description,
    Done,
    Failed,
    Look,
    Open,
    Refused,
)

_STARTS_WITHIN_S: Final = 30.0
_LONGEST_LOCK_BYTES: Final = 256


class StoreError(Exception):
    """The program's answer "failed": its message, and its statement on the change."""

    # Its cause stays in the program.
    is_only_a_message = True

    def __init__(self, answer: Failed) -> None:
        self.change = answer.change
        super().__init__(answer.message)


class ProcessSession:
    """A store that one process has open. `program` is that process."""

    def __init__(self, target: "ProcessTarget", program: Program, directory: Path, environment: Environment) -> None:
        self.program = program
        self._target = target
        self._directory = directory
        self._environment = environment

    def open(self, configuration: Configuration) -> None:
        """Request the opening of the store; raises the program's errors, and `TargetError` for another directory."""
        request = Open(
            str(self._directory), configuration.journal_mode, configuration.synchronous, self._environment.now_ms
        )
        answer = self.program.ask(request)
        self._require_done(answer)
        if isinstance(answer, Done):
            self._target.opened_at(answer.database, self._directory)
        self._require_own_files()

    def call(self, action: Action) -> Any:
        """Make a call; raises `StoreError` for a failure, `target.Refused` for a refusal, `ProgramError`."""
        answer = self.program.ask(Call(action.name, action.args, self._environment.now_ms))
        self._require_done(answer)
        return answer.value if isinstance(answer, Done) else None

    def live_view(self) -> View:
        """The process's own view."""
        answer = self.program.ask(Look())
        self._require_done(answer)
        if not isinstance(answer, Done) or answer.view is None:
            raise TargetError(f'{self._target.name} was asked for its "view", and answered without one')
        return answer.view

    def outcome_of(self, error: Exception) -> str | None:
        """The program's statement on the change."""
        return error.change if isinstance(error, StoreError) else None

    def self_check(self) -> None:
        """A program has no checks of its own."""

    def close(self) -> None:
        """Request the close of the store, and keep the process for the next; raises `TargetError` for open files."""
        if not self.program.alive:
            # It has ended already; the call that met that was judged.
            self._target.give_back(self.program, fit=False)
            return
        fit = False
        try:
            self._require_done(self.program.ask(Close()))
            if left := self.files_left_open():
                raise TargetError(
                    f"{self._target.name}: after closing, the process still has these open: {', '.join(left)}"
                )
            fit = True
        finally:
            for notify in self._environment.after_closing:
                notify(self.program)
            self._target.give_back(self.program, fit=fit)

    def files_left_open(self) -> list[str]:
        """The names of the store's files that the process has open."""
        return sorted({path.name for path in _open_files(self.program.pid) if path.is_relative_to(self._directory)})

    def _require_done(self, answer: Answer) -> None:
        if isinstance(answer, Refused):
            raise RefusedCall(answer.message)
        if isinstance(answer, Failed):
            raise StoreError(answer)

    def _require_own_files(self) -> None:
        """A store that uses another directory than its own would be judged by the wrong file."""
        for path in _open_files(self.program.pid):
            if path.name == self._target.file and not path.is_relative_to(self._directory):
                raise TargetError(
                    f"{self._target.name} got {self._directory} for {self._target.file}, "
                    f'and has {path} open: use the "directory" of each "open"'
                )


class ProcessTarget(Target):
    """Target: the program that `command` starts. Closing it, or freeing it, ends its processes.

    Raises `TargetError` if the program can't be started, or describes a store that can't be tested.
    """

    depths: tuple[str, ...] = ("syscall",)

    def __init__(self, command: tuple[str, ...], name: str, *, answers_within_s: float = _STARTS_WITHIN_S) -> None:
        self.command = command
        self.name = name
        self._answers_within_s = answers_within_s
        self._idle: list[Program] = []
        self._running: set[Program] = set()
        self._end = weakref.finalize(self, _end_all, self._running)
        first = self._start()
        self.description = description = first.description
        self._idle.append(first)
        try:
            self.configurations = _configurations_of(description)
            _require_sound(description)
        except ValueError as error:
            self.close()
            raise TargetError(f"{name} describes itself with {error}") from error
        self.title = description.title
        self._path = description.database
        if not self._path:
            self._learn_path()
        self.refuses = description.refuses
        self.beat_touches = description.beat_touches
        self.unpromised: Mapping[str, str | Mapping[str, str]] = description.unpromised

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all its processes."""
        self._idle.clear()
        _end_all(self._running)

    def workload(self) -> tuple[Action, ...]:
        """The description's calls."""
        return self.description.calls

    def heartbeat(self) -> Action:
        """The description's beat."""
        return self.description.beat

    @property
    def file(self) -> str:
        """The name of the database's file."""
        return Path(self._path).name

    def database(self, directory: Path) -> Path:
        """The description's database, or the one that the program named when it opened a store."""
        return directory / self._path

    def databases(self, directory: Path) -> tuple[Path, ...]:
        """The database and those attached to it."""
        return (self.database(directory), *(directory / one for one in self.description.attached.values()))

    def opened_at(self, path: str | None, directory: Path) -> None:
        """Record the file that a program has opened; raises `TargetError` if it varies."""
        if path is None:
            if not self._path:
                raise TargetError(
                    f'{self.name}: the database path must be in the description ("database": "store.sqlite"), or '
                    'in the answer to "open"'
                )
            return
        inside = str(Path(path).relative_to(directory)) if Path(path).is_relative_to(directory) else path
        try:
            _require_inside("database", inside)
        except ValueError as error:
            raise TargetError(f'{self.name} answered "open" with {error}') from error
        if self._path and inside != self._path:
            raise TargetError(
                f"{self.name} opened {self._path} before, and {inside} in another directory: the same calls must "
                "lead to the same names; take the time from now_ms, and nothing random"
            )
        self._path = inside

    def _learn_path(self) -> None:
        """Open a store to learn the path of its database."""
        try:
            with tempfile.TemporaryDirectory() as directory:
                self.open(Path(directory), self.configurations[0], Environment()).close()
        except Exception as error:
            self.close()
            if isinstance(error, TargetError):
                raise
            raise TargetError(f"{self.name} fails without any fault when it opens a store: {error}") from error

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> ProcessSession:
        """Have a process open the store."""
        program = self._fit_or_new()
        session = ProcessSession(self, program, directory.resolve(), environment)
        for notify in environment.before_opening:
            notify(program)
        try:
            session.open(configuration)
        except BaseException as error:
            # A store that could not be opened may have left anything in its process, but not a file.
            answered = isinstance(error, StoreError | RefusedCall)
            # With a fault in force it may have failed for that.
            named = self._name_of_a_process(directory) if answered and not environment.before_opening else ""
            self.give_back(program, fit=answered and not session.files_left_open())
            if named:
                raise WriterLivesError(f"{self.name} can't be judged: {error}; {named}") from error
            raise
        return session

    def _name_of_a_process(self, directory: Path) -> str:
        """The lock file that names one of this target's processes, in words; "" for none.

        It stands for one that has died, and lives: several stores are open in turn in one process.
        """
        living = {str(pid) for one in self._running if one.alive for pid in one.pids}
        for path in sorted(directory.rglob("*")):
            if path.is_file() and path.stat().st_size <= _LONGEST_LOCK_BYTES:
                numbers = {*re.findall(r"\d+", path.read_text(errors="replace"))}
                if found := numbers & living:
                    return (
                        f"its file {path.relative_to(directory)} names process {found.pop()}, which stands for a dead "
                        "one here, and runs: lock the file instead (flock), or leave the number out for the test"
                    )
        return ""

    def _fit_or_new(self) -> Program:
        while self._idle:
            program = self._idle.pop()
            if program.alive:
                return program
            self.give_back(program, fit=False)
        return self._start()

    def give_back(self, program: Program, *, fit: bool) -> None:
        """Return a process, for the next session if it is still usable."""
        if fit and not self.description.opens_once:
            self._idle.append(program)
        else:
            program.end()
            self._running.discard(program)

    def fresh_view(self, connection: sqlite3.Connection) -> View:
        """The rows; none of a missing table."""
        return rows.view_of(connection, self.name, self.description, self._path)

    def lacks(self, connection: sqlite3.Connection) -> str:
        """What is missing for the rows, such as "no such table: notes"; "" for nothing."""
        return rows.lacks(connection, self.description, self._path)

    def _start(self) -> Program:
        try:
            program = Program(self.command, self._answers_within_s)
        except ProgramError as error:
            raise TargetError(str(error)) from error
        self._running.add(program)
        return program


class WriterLivesError(TargetError):
    """A store was not opened on the files of a dead process, since its writer lives: it says nothing of the store."""


def _end_all(programs: set[Program]) -> None:
    while programs:
        programs.pop().end()


def _configurations_of(description: Description) -> tuple[Configuration, ...]:
    configurations = tuple(Configuration.parse(one) for one in description.configurations)
    if any(one.journal_mode == "file" for one in configurations):
        raise ValueError('the configuration "file", which is for stores without SQLite')
    return configurations


def _require_sound(description: Description) -> None:
    """Raise ValueError, as the end of a sentence, for errors that the types can't express."""
    if description.database:
        _require_inside("database", description.database)
    for name, path in description.attached.items():
        _require_inside(f"attached.{name}", path)
        if not name.isidentifier() or name in ("main", "temp"):
            raise ValueError(f'"attached": {name!r}; it is a name for `rows`, such as "users" for users.people')
    if wrong := unpromised.what_is_wrong(description.unpromised, CHECKS):
        raise ValueError(f'"unpromised": {wrong}')


def _require_inside(what: str, path: str) -> None:
    """Raise ValueError, as the end of a sentence, for a path that leads outside."""
    if not path or Path(path).is_absolute() or ".." in Path(path).parts or path.endswith("/"):
        raise ValueError(
            f'"{what}": {path!r}; it is a path inside the given directory, such as "store.db" or "data/store.db"'
        )


def _open_files(pid: int) -> list[Path]:
    """The regular files that a process has open; none if the system doesn't tell."""
    found = []
    try:
        descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return []
    for descriptor in descriptors:
        try:
            path = Path(os.readlink(descriptor))  # noqa: PTH115 - `Path.readlink` makes it absolute, which a pipe is not
        except OSError:
            continue
        if path.is_absolute() and path.is_file():
            found.append(path)
    return found
