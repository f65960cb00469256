"""Copies of a directory, held in memory: taken beside an open database, put down somewhere else.

Closing any descriptor of a file drops every POSIX lock that this process holds on it, SQLite's included. A copy that
is taken while a session is open therefore keeps its descriptors open until the session has ended (`Holder.release`).
The shared-memory file (``-shm``) is never part of a copy: SQLite rebuilds it, as after a crash.
"""

# All of this happens several times at every fault point; pathlib would make it half as fast.
# ruff: noqa: PTH103, PTH106, PTH108, PTH115, PTH118, PTH120, PTH208

import contextlib
import gc
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from scenarios.checks import Violation

Files = dict[str, bytes]


class Holder:
    """Reads whole directories and keeps what it opened until it is told that no session is open any more."""

    def __init__(self) -> None:
        self._descriptors: list[int] = []

    def copy(self, directory: Path) -> Files:
        """The directory's files by relative name, without ``-shm``."""
        root = os.fspath(directory)
        return {name: self._read(os.path.join(root, name)) for name in _names(root) if not name.endswith("-shm")}

    def _read(self, path: str) -> bytes:
        descriptor = os.open(path, os.O_RDONLY)
        self._descriptors.append(descriptor)
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)

    def release(self) -> None:
        """Close what was opened; call it when no session is open on these files."""
        while self._descriptors:
            os.close(self._descriptors.pop())


def place(files: Files, directory: Path) -> None:
    """Make `directory`, and let it hold exactly these files, and no empty directory. No session may be open on it."""
    root = os.fspath(directory)
    if not files:
        # A target opens in a directory that is there, be it empty.
        os.makedirs(root, exist_ok=True)
    directories: list[str] = []
    for name in [name for name in _names(root, directories) if name not in files]:
        os.unlink(os.path.join(root, name))
    # An empty one that an earlier story has left would be something for a later one to find.
    for name in reversed(directories):
        with contextlib.suppress(OSError):
            os.rmdir(os.path.join(root, name))
    for name, content in files.items():
        _overwrite(os.path.join(root, name), content)


def _names(directory: str, directories: list[str] | None = None, prefix: str = "") -> Iterator[str]:
    """The files below a directory, by relative name; none where there is no such directory.

    The directories below it are added to `directories`, each before what is in it.
    """
    try:
        entries = list(os.scandir(directory))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if directories is not None:
                directories.append(prefix + entry.name)
            yield from _names(entry.path, directories, f"{prefix}{entry.name}{os.sep}")
        else:
            yield prefix + entry.name


def _overwrite(path: str, content: bytes) -> None:
    # Without truncating first: to give blocks back and take them again is dearer than to write over them.
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        written = 0
        while written < len(content):
            written += os.pwrite(descriptor, content[written:] if written else content, written)
        os.ftruncate(descriptor, len(content))
    finally:
        os.close(descriptor)


def held_open(directory: Path) -> list[str]:
    """The files below `directory` that this process has open; empty where the system doesn't say."""
    below = os.path.realpath(directory) + os.sep
    try:
        descriptors = os.listdir("/proc/self/fd")
    except OSError:
        return []
    found = []
    for descriptor in descriptors:
        try:
            name = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue
        if name.startswith(below):
            found.append(name.removeprefix(below))
    return sorted(found)


def siblings(directory: Path) -> Iterator[Path]:
    """The directory itself, and then numbered ones beside it, without end."""
    yield directory
    for number in count(2):
        yield directory.with_name(f"{directory.name}-{number}")


def require_let_go(directory: Path) -> None:
    """Raise `Violation` where a session that was closed still holds its files.

    SQLite shares its view of a file inside a process, so a leftover would also spoil every later look.
    """
    if not held_open(directory):
        return
    # A young cycle (an error that its own frames refer to) may hold them; a full collection is dear.
    gc.collect(1)
    if held_open(directory):
        gc.collect()
    if left := held_open(directory):
        raise Violation("still-usable-after-the-fault", f"after closing, these are still open: {', '.join(left)}")
