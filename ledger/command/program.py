"""Delivers by a program: one process per message, with the envelope as JSON on its standard input.

Exit code 0 means delivered, 75 (`EX_TEMPFAIL` of sysexits.h) a temporary failure, any other code a permanent failure. A
program that doesn't exit in time is killed. This, a death by a signal and a failed start are temporary failures,
whatever the program wrote: it has not reported a permanent one. The end of its standard error becomes the reason; its
standard output is discarded, since this command prints its own results there.

The program runs in a separate session, so that its child processes are killed with it, also by Ctrl-C here. The
envelope is in a file, not in a pipe: the exit code counts whether or not the program has read all of it.

Not covered: processes that leave that session, or that outlive a program that did exit; and the program itself if this
process is killed: it may then deliver after the lease has ended, which is why every copy has the same idempotency key.
"""

# no fault in this file: a target calls the ledger itself, not the command; its tests do that.

import json
import logging
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from contextlib import suppress
from types import FrameType
from typing import IO, Any, Final, Self

import msgspec

from tornpage.ledger.errors import UsageError
from tornpage.ledger.outbox import DeliveryFailed, Envelope

TRY_AGAIN: Final = 75
_REASON_BYTES: Final = 2000
_REAP_SECONDS: Final = 5.0

_log = logging.getLogger("ledger.outbox")


class DeliveryProgram:
    """Runs a program for every message; pass the object to `Outbox.recover`."""

    def __init__(self, command: str, *, timeout_ms: int) -> None:
        """`command` is split into words as by a shell, but run without one. Raises `UsageError` if it can't run."""
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise UsageError(f"the deliver command {command!r} can't be split into words: {error}") from error
        if not self._words:
            raise UsageError("the deliver command is empty")
        if shutil.which(self._words[0]) is None:
            raise UsageError(f"the deliver command {self._words[0]!r} is not a program that can be run")
        self._timeout_ms = timeout_ms

    def __call__(self, envelope: Envelope) -> None:
        """Deliver one message. Raises `DeliveryFailed`."""
        document = json.dumps(msgspec.structs.asdict(envelope), ensure_ascii=False) + "\n"
        with tempfile.TemporaryFile() as letter, tempfile.TemporaryFile() as complaints:
            letter.write(document.encode())
            letter.seek(0)
            code = self._run(letter, complaints)
            if code == 0:
                return
            said = _last_words(complaints)
        if code < 0:
            raise DeliveryFailed(_because(f"the deliver command died of {_signal_name(-code)}", said), permanent=False)
        reason = _because(f"the deliver command ended with exit code {code}", said)
        raise DeliveryFailed(reason, permanent=code != TRY_AGAIN)

    def _run(self, letter: IO[bytes], complaints: IO[bytes]) -> int:
        """Start the program and wait for its exit code. The program has ended when this returns or raises."""
        with _InterruptsHeld() as held:
            program = self._started(letter, complaints)
            try:
                held.let_go()
                return program.wait(timeout=self._timeout_ms / 1000)
            except subprocess.TimeoutExpired as error:
                _end(program)
                late = f"the deliver command gave no answer within {self._timeout_ms} ms"
                raise DeliveryFailed(_because(late, _last_words(complaints)), permanent=False) from error
            except BaseException:
                _end(program)
                raise

    def _started(self, letter: IO[bytes], complaints: IO[bytes]) -> subprocess.Popen[bytes]:
        try:
            # S603: the operator names the program on purpose; no shell is involved.
            return subprocess.Popen(  # noqa: S603
                self._words, stdin=letter, stdout=subprocess.DEVNULL, stderr=complaints, start_new_session=True
            )
        except OSError as error:
            raise DeliveryFailed(f"the deliver command could not be started: {error}", permanent=False) from error


class _InterruptsHeld:
    """Defers Ctrl-C while a process is being started: before that there is no process that could be ended.

    Only the main thread is interrupted, so on other threads this has no effect.
    """

    def __init__(self) -> None:
        self._handler: Any = None
        self._frame: FrameType | None = None
        self._came = False

    def __enter__(self) -> Self:
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler) and threading.current_thread() is threading.main_thread():
            self._handler = handler
            signal.signal(signal.SIGINT, self._note)
        return self

    def let_go(self) -> None:
        """Restore Ctrl-C, and raise one that arrived in the meantime."""
        handler, self._handler = self._handler, None
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
            if self._came:
                handler(signal.SIGINT, self._frame)

    def __exit__(self, *_: object) -> None:
        self.let_go()

    def _note(self, _number: int, frame: FrameType | None) -> None:
        self._came, self._frame = True, frame


def _end(program: subprocess.Popen[bytes]) -> None:
    """Kill the program and its children; its session id can't be reused, since it isn't reaped yet."""
    if program.returncode is not None:
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(program.pid, signal.SIGKILL)
    try:
        program.wait(timeout=_REAP_SECONDS)
    except subprocess.TimeoutExpired:
        # It runs as another user, or waits for hardware; the other messages must not wait for it.
        _log.warning("[outbox] the deliver command (process %s) could not be ended", program.pid)


def _last_words(complaints: IO[bytes]) -> str:
    complaints.seek(max(0, complaints.seek(0, 2) - _REASON_BYTES))
    return complaints.read().decode(errors="backslashreplace").strip()


def _because(what: str, said: str) -> str:
    return f"{what}: {said}" if said else what


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
