"""Copies of a directory, held in memory: taken beside an open database, put down somewhere else.

Closing any descriptor of a file drops every POSIX lock that this process holds on it, SQLite's included. A copy that
is taken while a session is open therefore keeps its descriptors open until the session has ended (`Holder.release`).
The shared-memory file (``-shm``) is never part of a copy: SQLite rebuilds it, as after a crash.
"""

import gc
import os
from pathlib import Path

from scenarios.checks import Violation

Files = dict[str, bytes]


class Holder:
    """Reads whole directories and keeps what it opened until it is told that no session is open any more."""

    def __init__(self) -> None:
        self._descriptors: list[int] = []

    def copy(self, directory: Path) -> Files:
        """The directory's files by relative name, without ``-shm``."""
        found: Files = {}
        for root, _, names in os.walk(directory):
            for name in names:
                if not name.endswith("-shm"):
                    path = Path(root, name)
                    found[str(path.relative_to(directory))] = self._read(path)
        return found

    def _read(self, path: Path) -> bytes:
        descriptor = os.open(path, os.O_RDONLY)
        self._descriptors.append(descriptor)
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)

    def release(self) -> None:
        """Close what was opened; call it when no session is open on these files."""
        while self._descriptors:
            os.close(self._descriptors.pop())


def place(files: Files, directory: Path) -> None:
    """Make `directory` hold exactly these files. No session may be open on it."""
    wanted = {directory / name: content for name, content in files.items()}
    for root, _, names in os.walk(directory):
        for name in names:
            if Path(root, name) not in wanted:
                Path(root, name).unlink()
    for path, content in wanted.items():
        try:
            path.write_bytes(content)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def held_open(directory: Path) -> list[str]:
    """The files below `directory` that this process has open; empty where the system doesn't say."""
    below = os.path.realpath(directory) + os.sep
    try:
        descriptors = os.listdir("/proc/self/fd")  # noqa: PTH208 - thousands of times
    except OSError:
        return []
    found = []
    for descriptor in descriptors:
        try:
            name = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - thousands of times
        except OSError:
            continue
        if name.startswith(below):
            found.append(name.removeprefix(below))
    return sorted(found)


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
