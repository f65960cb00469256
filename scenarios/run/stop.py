"""Stopping a run: Ctrl-C, SIGTERM, SIGHUP.

The first signal ends the run cleanly: it raises `KeyboardInterrupt`, the results so far are reported, and the exit code
is 128 plus the signal's number (130, 143, 129). The second one ends the process at once: its children are killed and
its scratch directories removed, and nothing else is done.

Not covered: on systems other than Linux, children outlive a process that ends at once, until they notice its end.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

from tornpage.scenarios.run.scratch import sweep_up

SIGNALS: Final = tuple(
    number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None
)
Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None
_received: list[int] = []


def requested() -> bool:
    """Whether a signal has told this process to stop."""
    return bool(_received)


def exit_code() -> int:
    """The exit code of a run that was interrupted."""
    return 128 + (_received[0] if _received else signal.SIGINT)


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Inside this scope a signal ends the run as this module describes; ignored signals stay ignored (nohup)."""
    _received.clear()
    with signals_to(_heard):
        yield


@contextlib.contextmanager
def signals_to(handler: Callable[[int, FrameType | None], Any] | signal.Handlers) -> Iterator[None]:
    """Inside this scope these signals go to the handler; outside the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Handler] = {number: signal.getsignal(number) for number in SIGNALS}
    mine = [number for number in SIGNALS if before[number] is not signal.SIG_IGN]
    for number in mine:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in mine:
            # None: it was set by something else than Python, and can't be set again by it.
            signal.signal(number, signal.SIG_DFL if before[number] is None else before[number])


def note(number: int) -> None:
    """Record a signal; the second one ends the process."""
    if _received:
        end_at_once(number)
    _received.append(number)


def _heard(number: int, _frame: FrameType | None) -> None:
    note(number)
    raise KeyboardInterrupt


def end_at_once(number: int) -> NoReturn:
    """Kill the children, remove the scratch directories, and end."""
    for child in _children():
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGKILL)
    _unlink_semaphores()
    sweep_up()
    os._exit(128 + number)


def _unlink_semaphores() -> None:
    """Remove the named semaphores that this process has made: multiprocessing's tracker of them is a killed child."""
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is None or multiprocessing.parent_process() is not None:
        return
    with contextlib.suppress(OSError, ValueError):
        # The system lists what is mapped by its first, temporary name; the inode is that of the file that stays.
        lines = Path("/proc/self/maps").read_text().splitlines()
        mapped = {int(line.split()[4]) for line in lines if "/dev/shm/sem." in line}  # noqa: S108 - the C library's
        for path in Path("/dev/shm").glob("sem.mp-*"):  # noqa: S108 - the same
            with contextlib.suppress(OSError):
                if path.stat().st_ino in mapped:
                    path.unlink()


def _children() -> list[int]:
    """The pids of this process's children; none if the system doesn't tell."""
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError):
        for thread in Path("/proc/self/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found
