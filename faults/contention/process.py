"""A rival in a separate process: SQLite with real locks, driven over a pipe, one answer per command.

The process runs the same shim. A rival that pauses inside a statement does so in a callback of the shim: there it
answers "held" and waits for the next command, while SQLite holds the locks that it holds at that point. The rival never
waits for a lock: its busy timeout is zero, and SQLite's own sleeps are virtual.

The process ends when its pipe is closed, or when the process at the other end dies. It ignores SIGINT (Ctrl-C): the
harness handles that.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn

from tornpage.faults.child_processes import belongs_to_the_harness
from tornpage.faults.contention.kinds import RIVAL_KINDS, RivalKind, perform
from tornpage.faults.contention.waiting import waiting_for_a_rival
from tornpage.faults.errors import FaultError
from tornpage.faults.sqlite_library import sqlite3
from tornpage.faults.vfs.arm import connect_beside, install
from tornpage.faults.vfs.shims import Shims

_HELD: Final = "held"
_MISSED: Final = "missed"
_FREE: Final = "free"
_RELEASE: Final = "release"
_CODE: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); from tornpage.faults.contention.process import serve; serve()"
)
_ENDS_WITHIN_S: Final = 10.0


class RivalLostError(FaultError):
    """The rival's process has ended, or sends an invalid answer."""


class RivalProcess:
    """The harness's side: `take` and `release`. A context manager that ends the process."""

    def __init__(self) -> None:
        project = Path(__file__).parents[2]
        self._process = subprocess.Popen(  # noqa: S603 - our own code
            [sys.executable, "-c", _CODE, os.fspath(project)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        belongs_to_the_harness(self._process.pid)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def __enter__(self) -> "RivalProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def take(self, kind: RivalKind, path: str, journal_mode: str | None = None) -> str:
        """Take the rival's lock; return "" if it holds it, else the reason why not. Raises `RivalLostError`."""
        answer, _, reason = self._ask(f"{kind.name}\t{journal_mode or ''}\t{path}").partition(" ")
        if answer not in (_HELD, _MISSED):
            raise RivalLostError(f"the rival's process answers {answer!r}")
        return reason

    def release(self) -> None:
        """Finish the rival's statement and close its connection. Raises `RivalLostError`."""
        if self._ask(_RELEASE) != _FREE:
            raise RivalLostError("the rival's process did not release its lock")

    def _ask(self, command: str) -> str:
        reader, writer = self._process.stdout, self._process.stdin
        assert reader is not None  # noqa: S101 - both are pipes
        assert writer is not None  # noqa: S101
        try:
            writer.write(command.replace("\n", " ") + "\n")
            writer.flush()
            with waiting_for_a_rival():
                answer = reader.readline()
        except OSError as error:
            raise RivalLostError(f"the rival's process {self.pid} has ended") from error
        if not answer:
            raise RivalLostError(f"the rival's process {self.pid} has ended")
        return answer.rstrip("\n")

    def end(self) -> None:
        """Close the pipe, which ends the process; kill the process if it doesn't end."""
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        try:
            self._process.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Shared:
    """The process that all open scopes share."""

    def __init__(self) -> None:
        self.scopes = 0
        self.process: RivalProcess | None = None
        self.lock = threading.Lock()


_shared = _Shared()


@contextlib.contextmanager
def shared_rival_process() -> Iterator[RivalProcess]:
    """The process for rivals: the first scope starts it, the last one to close ends it."""
    with kept_rival_process():
        with _shared.lock:
            if _shared.process is None:
                _shared.process = RivalProcess()
            process = _shared.process
        yield process


@contextlib.contextmanager
def kept_rival_process() -> Iterator[None]:
    """Keep the process for rivals until the end of this scope, once one of them has needed it."""
    with _shared.lock:
        _shared.scopes += 1
    try:
        yield
    finally:
        with _shared.lock:
            _shared.scopes -= 1
            if not _shared.scopes and _shared.process is not None:
                process, _shared.process = _shared.process, None
                process.end()


# -- in the process ----------------------------------------------------------------------------------------


class _Stop:
    """Pauses before the first of some operations: answers "held", and waits for the release."""

    def __init__(self, places: frozenset[tuple[str, str]]) -> None:
        self.kinds = frozenset(kind for kind, _role in places)
        self.reached = False
        self._places = places

    def decide(self, kind: str, role: str, path: str | None) -> None:  # noqa: ARG002 - the protocol's shape
        """Pause if this is one of the operations; let it pass afterwards."""
        if not self.reached and (kind, role) in self._places:
            self.here()

    def here(self) -> None:
        """Answer that the lock is held, and wait for the release."""
        self.reached = True
        _answer(_HELD)
        if _command() != _RELEASE:
            _end()


def _answer(text: str) -> None:
    print(text.replace("\n", " "), flush=True)


def _command() -> str:
    line = sys.stdin.readline()
    if not line:
        _end()
    return line.rstrip("\n")


def _end() -> NoReturn:
    # No cleanup: SQLite may be in the middle of a statement. The system releases the locks.
    os._exit(0)


def serve() -> None:
    """Take commands from standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with install() as shim:
        while True:
            name, journal_mode, path = _command().split("\t", 2)
            _answer(_one_rival(shim, RIVAL_KINDS[name], path, journal_mode))


def _one_rival(shim: Shims, kind: RivalKind, path: str, journal_mode: str) -> str:
    """Hold a lock until the release; return the last answer, to be sent after the connection is closed."""
    stop = _Stop(kind.stops_before)
    missed = "its statements ended before the operation at which it pauses"
    try:
        with contextlib.closing(connect_beside(path)) as connection, shim.watching(stop):
            perform(connection, kind, journal_mode)
            if not kind.stops_before:
                stop.here()
    except sqlite3.Error as error:
        # An error after the release doesn't matter.
        missed = str(error)
    return _FREE if stop.reached else f"{_MISSED} {missed}"
