"""Ways to change or sync a file that are not recorded; their use is noted on the tape, so that a report can name it."""

import ctypes
import mmap
import os
import weakref
from collections.abc import Callable
from typing import Any, Final

from tornpage.faults.files.functions import path_of
from tornpage.faults.files.watch import WATCH
from tornpage.faults.garbage import all_of, collect, follow, look_again

Function = Callable[..., Any]

_SYNCING: Final = frozenset({"fsync", "fdatasync", "sync", "syncfs", "sync_file_range", "msync"})


def _child(name: str) -> Function:
    def body(original: Function, *args: Any, **kwargs: Any) -> Any:
        WATCH.note(f"a child process was started: {_program_of(name, args)}", syncs=True)
        return original(*args, **kwargs)

    return body


def _program_of(name: str, args: tuple[Any, ...]) -> str:
    """The program that is started, if the arguments name it; else the function's name."""
    first = args[0] if args else None
    if name == "fork_exec" and first:
        first = first[0]
    return os.fsdecode(first) if isinstance(first, str | bytes | os.PathLike) else name


def _splice(original: Function, src: int, dst: int, *args: Any, **kwargs: Any) -> Any:
    WATCH.note_of(path_of(dst), "was written to by os.splice")
    WATCH.note_read(path_of(src))
    return original(src, dst, *args, **kwargs)


def _map(
    _original: Function,
    _map: mmap.mmap,
    fileno: int,
    length: int,  # noqa: ARG001 - a name that callers may use
    flags: int = mmap.MAP_SHARED,
    prot: int = mmap.PROT_WRITE | mmap.PROT_READ,
    access: int = mmap.ACCESS_DEFAULT,
    **_more: Any,
) -> None:
    """Used as ``mmap.mmap.__init__``, which the type itself doesn't define."""
    WATCH.note_read(path_of(fileno))
    if access == mmap.ACCESS_WRITE or (
        access == mmap.ACCESS_DEFAULT and prot & mmap.PROT_WRITE and flags & mmap.MAP_SHARED
    ):
        WATCH.note_of(path_of(fileno), "was mapped into memory (mmap)")


def _look_up(original: Function, library: ctypes.CDLL, name: Any) -> Any:
    """Python code asks `ctypes` for a C function."""
    if name in _SYNCING:
        WATCH.note(f"{name} was called through ctypes", syncs=True)
    return original(library, name)


# Libraries that were still there after a collection.
_IN_USE: Final[weakref.WeakSet[ctypes.CDLL]] = weakref.WeakSet()
follow(ctypes.CDLL)


def syncing_libraries() -> list[str]:
    """The C functions that sync files and that Python code has already looked up through `ctypes`."""
    found = _syncing()
    # A library that is no longer used is in a reference cycle with its functions, and perhaps among what is frozen. A
    # collection goes through all objects: one is enough for each library.
    if any(one not in _IN_USE for one, _ in found):
        found.clear()
        look_again()
        collect()
        found = _syncing()
        _IN_USE.update(one for one, _ in found)
    return sorted({name for _, name in found})


def _syncing() -> list[tuple[ctypes.CDLL, str]]:
    """The sync functions looked up in the live `CDLL` objects."""
    return [(one, name) for one in all_of(ctypes.CDLL) for name in vars(one) if name in _SYNCING]


CHILDREN: Final = {name: _child(name) for name in ("fork", "forkpty", "posix_spawn", "posix_spawnp", "system")}
FORK_EXEC: Final = _child("fork_exec")
BODIES: Final[dict[str, Function]] = {**CHILDREN, "splice": _splice}
MAP: Final = _map
LOOK_UP: Final = _look_up
