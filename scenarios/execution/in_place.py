"""Opening files at the path where they were written, as the process that comes after a crash does.

A path is part of what a store writes: SQLite names a super-journal by its absolute path, rows may name files by
theirs, and a lock file names a process. So a copy of a directory is put where the original is, which is moved aside for
as long.
Whatever has the original's files open keeps them: descriptors and locks belong to files, not to paths.

A process that opens what a crash has left is another one than the one that wrote it, and that one is dead.

Not covered: threads of a store that use the path in the meantime, ``getpid`` and ``kill`` called from C, and what
``/proc`` says of a process.
"""

# Paths are handled as text: this happens at every fault point.
# ruff: noqa: PTH104

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from tornpage import faults

# Numbers beyond the largest one that Linux gives a process: they are met by none that is there.
_FIRST_NUMBER: Final = 2**22
_WHO_LOOKS: Final = 1_000_000

_getpid = os.getpid
_os: Any = os


@contextlib.contextmanager
def in_the_place_of(original: Path, copy: Path) -> Iterator[None]:
    """Inside this scope the directory `copy` is where `original` was; nothing armed or recorded is told of it."""
    away = f"{original}.away"
    with faults.unseen():
        os.rename(original, away)
        try:
            os.rename(copy, original)
            try:
                yield
            finally:
                os.rename(original, copy)
        finally:
            os.rename(away, original)


def another_process() -> AbstractContextManager[None]:
    """Inside this scope this process has a number that none of its lives has had, and its own belongs to no process."""
    return in_life(_WHO_LOOKS)


@contextlib.contextmanager
def in_life(life: int, *, opening: bool = False) -> Iterator[None]:
    """Inside this scope this process is the one that came after so many crashes; those before it are dead.

    In its first life, 0, it keeps its number. While it is `opening` a store, its own number belongs to no process
    either: what names it in the files is an earlier session, which was a process of its own. Only what Python code asks
    by ``os.getpid`` and ``os.kill`` changes.
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
    """Inside this scope a process looks dead that is not: it has written the files, as one that died would have."""
    return _looking_dead({pid}, _getpid(), _getpid())


@contextlib.contextmanager
def _looking_dead(dead: set[int], number: int, own: int) -> Iterator[None]:
    """Let no process with one of these numbers be met by a signal 0; what is sent to `number` goes to `own`."""
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
