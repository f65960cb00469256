"""Another process comes between any two calls of the operating system that a ledger makes on its own files.

Statements of SQLite are where `watched_driver` lets it come. Not covered: calls inside SQLite, and those that filelock
makes through names that it has imported.
"""

import contextlib
import errno
import io
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final
from unittest import mock

from tornpage.ledger import Ledger, LedgerError, Workers
from tornpage.ledger import workers as locks
from tornpage.ledger.disk.files import DATABASE_NAME
from tornpage.ledger.upkeep.upkeep import audit_file
from tornpage.scenarios.targets.reference.lives.openings import BEFORE, lost_rows, place
from tornpage.scenarios.targets.reference.lives.watched_driver import opened_beside
from tornpage.scenarios.targets.reference.logs import warnings_of

_OF_OS: Final = ("open", "mkdir", "lstat", "stat", "chmod", "access", "unlink", "scandir")
_CALLS: Final = (*((os, name) for name in _OF_OS), (io, "open"))
_OWN: Final = "the ledger's own error"
_NOTHING_MET: Final = "no call on a file was met, so no other process came"


class _Meanwhile:
    """Lets another process come before the call of the given number on a file below a directory, once."""

    def __init__(self, directory: Path, number: int) -> None:
        self._directory = str(directory)
        self._left = number
        self.came = False
        # The call that it came before.
        self.met = ""

    @contextlib.contextmanager
    def watching(self, another: Callable[[], object]) -> Iterator[None]:
        """While the other one may come, and calls `another`."""
        with contextlib.ExitStack() as undo:
            for module, name in _CALLS:
                undo.enter_context(mock.patch.object(module, name, self._watched(getattr(module, name), another)))
            yield

    def _watched(self, call: Callable[..., Any], another: Callable[[], object]) -> Callable[..., Any]:
        def watched(path: Any, *args: Any, **how: Any) -> Any:
            if isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self._directory):
                self._left -= 1
                if self._left == 0:
                    self.came, self.met = True, call.__name__
                    another()
            return call(path, *args, **how)

        return watched


def openers(home: Path, clock: Callable[[], int], *, before: str) -> list[str]:
    """What was wrong with an opening during which another process opens the same directory; empty if nothing was."""
    return list(itertools.islice(_wrong_openings(home, clock, before), 1))


def _wrong_openings(home: Path, clock: Callable[[], int], before: str) -> Iterator[str]:
    for number in itertools.count(1):
        with place(home) as directory:
            BEFORE[before](directory)
            come = _Meanwhile(directory, number)
            wrong = opened_beside(directory, clock, come.watching)
            if wrong:
                yield f"another opener came at call {number} on a file: {wrong}"
            if not come.came:
                if number == 1:
                    yield _NOTHING_MET
                return


_KINDS: Final = {"ENOSPC": "StoreFull", "EDQUOT": "StoreFull", "EROFS": "StoreReadOnly", "EACCES": "StoreReadOnly"}


def refusals(
    home: Path, clock: Callable[[], int], *, before: str, acts: Sequence[str], code: str = "EIO", syncs: bool = False
) -> list[str]:
    """What was wrong with calls of which the system refuses one call on a file; empty if nothing was.

    Each of these acts, at each of its calls in turn. It is made, or raises one of the ledger's own errors; permissions
    that can't be set are no reason not to open. When it is made again it succeeds, and nothing that was there before
    has changed. The system's `code` decides the kind of error. With `syncs` each sync of a directory is refused alone.
    """
    if syncs:
        return _wrong_syncs(home, clock, before, code)
    return [wrong for act in acts for wrong in itertools.islice(_wrong_refusals(home, clock, before, act, code), 1)]


# A file system that can't sync directories, and a directory that can't be read.
_NOT_SYNCED: Final = ("EINVAL", "ENOTSUP", "EACCES", "EPERM")


def _wrong_syncs(home: Path, clock: Callable[[], int], before: str, code: str) -> list[str]:
    refusal = OSError(getattr(errno, code), code)
    with place(home) as directory, warnings_of("ledger.files") as warnings:
        BEFORE[before](directory)
        with mock.patch.object(os, "fsync", side_effect=refusal):
            said = _error_of(lambda: Ledger.open(directory, clock=clock).close())
    wanted = [True, ""] if code in _NOT_SYNCED else [False, _OWN]
    found = [bool(warnings), said[: len(_OWN)]]
    return (
        [] if found == wanted else [f"a sync of a directory was refused with {code}: {said}, {len(warnings)} warnings"]
    )


def _wrong_refusals(home: Path, clock: Callable[[], int], before: str, act: str, code: str) -> Iterator[str]:
    for number in itertools.count(1):
        with place(home) as directory:
            BEFORE[before](directory)
            come = _Meanwhile(directory, number)

            def refuse(come: _Meanwhile = come) -> None:
                number = errno.EPERM if come.met == "chmod" else getattr(errno, code)
                raise OSError(number, os.strerror(number))

            with warnings_of("ledger.files") as warnings:
                said, again = _twice(directory, clock, act, come.watching(refuse))
            lost = lost_rows(directory, before)
        if come.met == "chmod" and not warnings:
            yield f"{act}: permissions could not be set, call {number} on a file, and there was no warning"
        if said and (come.met == "chmod" or not said.startswith(_OWN) or _KINDS.get(code, "") not in said):
            yield f"{act}: call {number} on a file, {come.met}, was refused: {said}"
        if again or lost:
            yield f"{act}, after call {number} on a file, {come.met}, was refused: {again}, {lost}"
        if not come.came:
            if number == 1:
                yield _NOTHING_MET
            return


_REFUSED: Final[dict[str, Callable[[Ledger, Path], object]]] = {
    "open": lambda ledger, directory: Ledger.open(directory, clock=ledger.history.clock).close(),
    "audit": lambda ledger, directory: audit_file(directory, clock=ledger.history.clock),
    "work": lambda ledger, _: ledger.workers.hold("mine").retire(),
    "recover": lambda ledger, _: ledger.recover(),
    "import": lambda ledger, directory: ledger.outbox.import_legacy(directory / "queue"),
}


def _twice(
    directory: Path, clock: Callable[[], int], act: str, refused: AbstractContextManager[object]
) -> tuple[str, str]:
    """The error of a call while it is refused something, and when it is made again; "" for none."""
    make = _REFUSED[act]
    with contextlib.ExitStack() as scope:
        if act == "open":
            # No other ledger here may have it open: a database that this process has open is not looked at again.
            ledger: Any = mock.Mock(history=mock.Mock(clock=clock))
        else:
            ledger = scope.enter_context(contextlib.closing(Ledger.open(directory, clock=clock)))
            (directory / "queue").mkdir()
            (directory / "queue" / "f.json").write_text('{"id": "f", "channel": "mail", "to": "you"}')
            ledger.workers.hold("zombie").release()
        with refused:
            said = _error_of(lambda: make(ledger, directory))
        if act == "work" and not said:
            # An id is used once; where its file could not be removed, the next recovery does that.
            return "", ""
        return said, _error_of(lambda: make(ledger, directory))


def _error_of(make: Callable[[], object]) -> str:
    try:
        make()
    except LedgerError as error:
        return f"{_OWN} {error!r}"
    except OSError as error:
        return repr(error)
    return ""


_WRITES: Final = (
    "import contextlib, sqlite3, sys\n"
    "with contextlib.closing(sqlite3.connect(sys.argv[1], timeout=0)) as connection:\n"
    "    connection.execute('BEGIN IMMEDIATE')\n"
)


def twice(home: Path, clock: Callable[[], int]) -> list[str]:
    """What was wrong with a second ledger of one process that opens while the first one writes; empty if nothing was.

    The system takes a process's locks on a file away when any descriptor of it is closed. A real process has to find
    the lock of the first one.
    """
    with (
        place(home) as directory,
        contextlib.closing(Ledger.open(directory, clock=clock, journal_mode="delete", busy_timeout_ms=0)) as first,
        first.batch(),
    ):
        first.tasks.create(runtime="cli", owner_key="me", task="work")
        Ledger.open(directory, clock=clock, busy_timeout_ms=0).close()
        argv = [sys.executable, "-I", "-c", _WRITES, str(directory / DATABASE_NAME)]
        other = subprocess.run(argv, check=False, capture_output=True, text=True)  # noqa: S603 - the code above
    return [] if "locked" in other.stderr else [f"another process could write inside a batch: {other.stderr!r}"]


def workers(home: Path, _clock: Callable[[], int]) -> list[str]:
    """What was wrong with a worker's registration, its end, or a cleaning, during which another process comes.

    Who finds that the other one is at it is refused, at once instead of after some seconds. Empty if nothing was.
    """
    # No other process ends a worker of this one.
    acts = [(mine, theirs) for mine in ("hold", "retire", "clean") for theirs in ("hold", "clean", "end")]
    return [wrong for mine, theirs in acts for wrong in itertools.islice(_wrong_beside(home, mine, theirs), 1)]


_ACTS: Final[dict[str, Callable[[Workers, str], object]]] = {
    "hold": lambda workers, name: workers.hold(name),
    "retire": lambda workers, _name: workers.retire("old"),
    "clean": lambda workers, _name: workers.clean([]),
    "end": lambda workers, _name: workers.retire("other"),
}


def _wrong_beside(home: Path, mine: str, theirs: str) -> Iterator[str]:
    for number in itertools.count(1):
        with place(home) as directory, mock.patch.object(locks, "_PATIENCE_SECONDS", 0):
            directory.mkdir()
            own, other = (Workers(directory / "workers", new_id=str) for _ in range(2))
            for name in ("old", "zombie"):
                own.hold(name)
            own.release("zombie")
            answers = {"mine": "", "theirs": ""}

            process = _process()
            with process():
                other.hold("other")

            def beside(other: Workers = other, answers: dict[str, str] = answers, process: Any = process) -> None:
                with process():
                    answers["theirs"] = _answer(theirs, other, "theirs")

            come = _Meanwhile(directory, number)
            with come.watching(beside):
                answers["mine"] = _answer(mine, own, "mine")
            alive = {name: own.is_alive(name) for name in ("mine", "theirs", "old", "other")}
            alive["zombie"] = (directory / "workers" / "zombie.lock").exists()
            for name in ("mine", "old"):
                with contextlib.suppress(LedgerError):
                    own.release(name)
            for name in ("theirs", "other"):
                with process(), contextlib.suppress(LedgerError):
                    other.release(name)
        wanted = _alive(mine, theirs if come.came else "", answers)
        if answers["mine"] or alive != wanted:
            yield f"{theirs} came at call {number} on a file of {mine}: {answers}, {alive} are alive, not {wanted}"
        if not come.came:
            if number == 1:
                yield _NOTHING_MET
            return


def _process() -> Callable[[], AbstractContextManager[object]]:
    """A scope in which the locks are those that another process holds."""
    guard, held = threading.Lock(), dict[str, object]()
    return lambda: mock.patch.multiple(locks, _held_guard=guard, _held_by_this_process=held)


def _answer(act: str, workers: Workers, name: str) -> str:
    """The name of the error, "" for none."""
    try:
        _ACTS[act](workers, name)
    except LedgerError as error:
        return type(error).__name__
    return ""


def _alive(mine: str, theirs: str, answers: dict[str, str]) -> dict[str, bool]:
    return {
        "mine": mine == "hold",
        "theirs": theirs == "hold" and not answers["theirs"],
        "old": mine != "retire",
        "other": theirs != "end",
        # Its file counts.
        "zombie": mine != "clean" and (theirs != "clean" or bool(answers["theirs"])),
    }
