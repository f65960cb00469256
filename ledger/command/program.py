"""Delivering by a program: one process a message, the envelope as JSON on its standard input.

Exit code 0 means delivered, 75 (`EX_TEMPFAIL` of sysexits.h) that it may be tried again, any other that it never will.
A program that doesn't answer in time is killed, and that one, one that dies of a signal and one that can't be started
may be tried again: none of them has said no. The end of what it wrote to standard error becomes the reason; what it
writes to standard output is thrown away, since that is where this command answers.

Not covered: what the program starts in its turn, and the program itself where this process is killed: it may then
deliver after the lease is gone, which is why every copy carries the same idempotency key.
"""

import json
import shlex
import shutil
import signal
import subprocess
import tempfile
from typing import IO, Final

import msgspec

from ledger.errors import UsageError
from ledger.outbox import DeliveryFailed, Envelope

TRY_AGAIN: Final = 75
_REASON_BYTES: Final = 2000


class DeliveryProgram:
    """Runs a program for every message; hand the object to `Outbox.recover`."""

    def __init__(self, command: str, *, timeout_ms: int) -> None:
        """`command` is split as a shell splits words, but no shell runs it. Raises `UsageError` where it can't run."""
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
        with tempfile.TemporaryFile() as complaints:
            code = self._run(document.encode(), complaints)
            if code == 0:
                return
            said = _last_words(complaints)
        if code < 0:
            raise DeliveryFailed(_because(f"the deliver command died of {_signal_name(-code)}", said))
        reason = _because(f"the deliver command ended with exit code {code}", said)
        raise DeliveryFailed(reason, permanent=code != TRY_AGAIN)

    def _run(self, document: bytes, complaints: IO[bytes]) -> int:
        try:
            # S603: running what the operator named is what this is for; no shell looks at it.
            return subprocess.run(  # noqa: S603
                self._words,
                input=document,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                timeout=self._timeout_ms / 1000,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired as error:
            raise DeliveryFailed(f"the deliver command gave no answer within {self._timeout_ms} ms") from error
        except OSError as error:
            raise DeliveryFailed(f"the deliver command could not be started: {error}") from error


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
