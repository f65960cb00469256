"""A deliver program, and Ctrl-C while it is started or works: it ends with its child, and its message is free again."""

import contextlib
import os
import select
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from unittest import mock

from tornpage.ledger import Ledger
from tornpage.scenarios.targets.reference.lives.openings import place

# It waits for a child that ends only when it is ended, and that keeps the pipe open as long.
_PROGRAM: Final = "{ echo; exec tail -f /dev/null; } > PIPE & wait"
# Of a program that is not interrupted; three of them end within the time limit of a call.
_LIMIT_MS: Final = 2_000
_PATIENCE_SECONDS: Final = 5.0
_MOMENTS: Final = ("before it is started", "when it is started", "while it works")


def interrupted(home: Path, clock: Callable[[], int]) -> list[str]:
    """What was wrong after a Ctrl-C at each moment of a delivery; empty if nothing was.

    The interrupt gets out, none is lost, Python's own handler is in force again, and no attempt is counted. Only a main
    thread can be interrupted, and on a system without the program nothing is tried.
    """
    if threading.current_thread() is not threading.main_thread() or None in map(shutil.which, ("sh", "tail")):
        return []
    with place(home) as directory, Ledger.open(directory, clock=clock, observers=()) as ledger, _python_handles():
        return [f"Ctrl-C {when}: {wrong}" for when in _MOMENTS if (wrong := _wrong(ledger, directory / when, when))]


def _wrong(ledger: Ledger, pipe: Path, when: str) -> str:
    # It takes long to load, and few sessions run a command.
    from tornpage.ledger.command.program import DeliveryProgram  # noqa: PLC0415 - as above

    made: list[subprocess.Popen[bytes]] = []
    os.mkfifo(pipe)
    program = shlex.join(["sh", "-c", _PROGRAM.replace("PIPE", shlex.quote(str(pipe)))])
    child = _Child(pipe)
    message = ledger.outbox.enqueue(channel="mail", target="you", payload={})
    handler, said = signal.getsignal(signal.SIGINT), "no interrupt"
    try:
        with mock.patch.object(subprocess, "Popen", _interrupting(when, made, child)):
            said = str(ledger.outbox.recover(DeliveryProgram(program, timeout_ms=_LIMIT_MS)))
    except KeyboardInterrupt:
        said = "interrupted"
    is_restored = signal.getsignal(signal.SIGINT) is handler
    signal.signal(signal.SIGINT, handler)
    left = [one for one in made if one.poll() is None]
    child_goes_on = child.goes_on()
    child.close()
    for one in made:
        # A child that has not begun waits for this side of its pipe.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.pid, signal.SIGKILL)
        one.wait()
    found = ledger.outbox.get(message.id)
    ledger.outbox.move_to_failed(message.id)
    for what, is_right in (
        (f"the pass says {said}", said == "interrupted"), ("the program goes on", not left),
        ("its child goes on", not child_goes_on),
        ("there was no program", bool(made)), ("the handler of Ctrl-C is another one", is_restored),
        (f"the message is {found}", found == message),
    ):  # fmt: skip
        if not is_right:
            return what
    return ""


class _Child:
    """The program's child, seen from the other end of its pipe."""

    def __init__(self, pipe: Path) -> None:
        self._pipe = pipe
        self._end: int | None = None

    def begin(self) -> None:
        """Wait until it has opened the pipe and written."""
        self._end = os.open(self._pipe, os.O_RDONLY)
        os.read(self._end, 1)

    def goes_on(self) -> bool:
        """Whether it has begun, and has not ended some seconds from now."""
        return self._end is not None and not select.select([self._end], [], [], _PATIENCE_SECONDS)[0]

    def close(self) -> None:
        """Release the pipe."""
        if self._end is not None:
            os.close(self._end)


def _interrupting(when: str, made: list[subprocess.Popen[bytes]], child: _Child) -> type[subprocess.Popen[bytes]]:
    """A class of processes that are interrupted at that moment."""

    class Interrupting(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **how: Any) -> None:
            _raise_if(when == "before it is started")
            super().__init__(*args, **how)
            made.append(self)
            _raise_if(when == "when it is started")

        def wait(self, timeout: float | None = None) -> int:
            if when == "while it works" and self.returncode is None and not self._was_interrupted:
                child.begin()
                _raise_if(comes=True)
            return super().wait(timeout)

        @property
        def _was_interrupted(self) -> bool:
            """Whether this is not the first wait."""
            asked, self._asked = getattr(self, "_asked", False), True
            return asked

    return Interrupting


def _raise_if(comes: bool) -> None:
    if comes:
        signal.raise_signal(signal.SIGINT)


@contextlib.contextmanager
def _python_handles() -> Iterator[None]:
    outer = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, outer)
