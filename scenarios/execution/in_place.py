"""Open files at the path where they were written, as the next process after a crash does.

A path is part of what a store writes: SQLite names a super-journal by its absolute path, rows may hold file paths, and
a lock file names a process. So a copy of a directory takes the original's place, and the original is moved aside
meanwhile. Open files of the original stay open: descriptors and locks belong to files, not to paths.

To the store, the process that opens the files has another pid than their writer, and the writer is dead.

Not covered: threads of a store that use the path in the meantime, ``getpid`` and ``kill`` called from C, and what
``/proc`` says of a process.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from tornpage import faults
from tornpage.faults.files.in_place import never_replaced

# Above the largest pid on Linux, so no process has one of them.
_FIRST_NUMBER: Final = 2**22
_WHO_LOOKS: Final = 1_000_000

_getpid = os.getpid
# A tape would look for the full path of each of these names, several times in each step, to find them outside of it.
_rename = never_replaced(os.rename)
_os: Any = os


@contextlib.contextmanager
def in_the_place_of(original: Path, copy: Path) -> Iterator[None]:
    """Inside this scope the directory `copy` has the path of `original`; armed faults and recordings ignore it."""
    away = f"{original}.away"
    with faults.unseen():
        _rename(original, away)
        try:
            _rename(copy, original)
            try:
                yield
            finally:
                _rename(original, copy)
        finally:
            _rename(away, original)


def another_process() -> AbstractContextManager[None]:
    """Inside this scope this process has a new pid, and no process has its real one."""
    return in_life(_WHO_LOOKS)


@contextlib.contextmanager
def in_life(life: int, *, opening: bool = False) -> Iterator[None]:
    """Inside this scope this process has the pid of the one that came after so many crashes; earlier ones are dead.

    In its first life, 0, it keeps its pid. While it is `opening` a store, no process has its own pid either: a pid in
    the files belongs to an earlier session, which was another process. Only Python code that calls ``os.getpid`` and
    ``os.kill`` sees the change.
    """
    own = _getpid()
    number = _FIRST_NUMBER + life if life else own
    getpid, replaced = os.getpid, _os
    replaced.getpid = lambda: number
    try:
        with _looking_dead({own, number} if opening else {own} - {number}, number, own):
            yield
    finally:
        replaced.getpid = getpid


def taken_for_dead(pid: int) -> AbstractContextManager[None]:
    """Inside this scope a live process looks dead: it stands for a dead writer of the files."""
    return _looking_dead({pid}, _getpid(), _getpid())


@contextlib.contextmanager
def _looking_dead(dead: set[int], number: int, own: int) -> Iterator[None]:
    """Let signal 0 find no process with one of these pids; signals to `number` go to `own`."""
    kill = os.kill

    def kill_in_this_life(pid: int, signal: int, /) -> None:
        if pid in dead and signal == 0:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        if pid != number or signal:
            kill(own if pid == number else pid, signal)

    _os.kill = kill_in_this_life
    try:
        yield
    finally:
        _os.kill = kill
