"""Databases that no watched SQLite has written: an unknown binding's copy of SQLite did, for example.

Method. A database is a file that begins as SQLite's files do. If no watched library has ever opened it, and no Python
code has written it directly (`Written` collects Python's audit events), then another copy of SQLite in this process, or
another process, has written it.

Not covered: a database that a watched library has open as well.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tornpage.faults.vfs.shims import shims

_MAGIC: Final = b"SQLite format 3\0"
_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_PROCESSES: Final = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.spawn"})


class Written:
    """The files that Python code itself writes, and whether it starts other processes; `heard` makes one."""

    def __init__(self) -> None:
        self.paths: set[str] = set()
        self.has_processes = False

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take in an audit event."""
        if event == "open":
            path, mode, flags = arguments
            is_writing = isinstance(mode, str) and any(one in mode for one in "wax+")
            if is_writing or (mode is None and isinstance(flags, int) and flags & _WRITING):
                self._wrote(path)
        elif event in ("os.rename", "os.link", "os.symlink"):
            self._wrote(arguments[1])
        elif event in _PROCESSES:
            self.has_processes = True

    def _wrote(self, path: object) -> None:
        if isinstance(path, str | bytes | os.PathLike):
            self.paths.add(os.path.realpath(os.fsdecode(path)))


_hearing: list[Written] = []
_hooked: list[bool] = []


@contextlib.contextmanager
def heard() -> Iterator[Written]:
    """Collect the files that Python code writes inside this scope."""
    if not _hooked:
        # An audit hook can never be removed, so add it only once.
        _hooked.append(True)
        sys.addaudithook(_hear)
    written = Written()
    _hearing.append(written)
    try:
        yield written
    finally:
        _hearing.remove(written)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    for one in _hearing:
        one.hear(event, arguments)


def passed_by(directory: Path, written: Written | None = None) -> list[Path]:
    """The databases below a directory that no watched library has opened and no Python code has written."""
    known = written.paths if written is not None else frozenset[str]()
    return [
        file
        for file in sorted(directory.rglob("*"))
        if not shims().has_opened(file) and os.path.realpath(file) not in known and is_database(file)
    ]


def is_database(file: Path) -> bool:
    """Whether a file begins as a database does."""
    try:
        if not file.is_file():
            return False
        with file.open("rb") as opened:
            return opened.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def in_words(files: list[Path], *, has_processes: bool = False) -> str:
    """The message about databases that no watched SQLite has written."""
    known = "; ".join(map(str, shims().facts()))
    who = "by another process, or by" if has_processes else "by"
    return (
        f"{', '.join(map(str, files))} was written {who} a SQLite that is not watched, so it can get no faults; "
        f"watched: {known}"
    )
