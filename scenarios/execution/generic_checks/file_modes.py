"""Whether a store lets others read its files: the check ``files-are-private`` for every target.

The umask is the user's setting for access to new files, and SQLite follows it; most stores do nothing else, which is
correct. So the harness sets the strictest one, 077, while the store runs, and places files with access for their owner
only: a file that others may read after that was opened to them by the store, by ``chmod`` or by its own umask. A store
that promises more (private whatever the umask) checks that in its own `self_check`, as the reference does.

A store that makes its database private by itself means the whole of it, and SQLite gives a log or a journal the mode
that the database has when it makes that file. Under the strict umask a ``chmod`` that comes too late can't be seen, so
a new store is also opened under the usual one, 022 (`usual_umask`): its side files give no more access than it does.

Not covered: systems without POSIX modes, access lists, and directories.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tornpage.scenarios.model.judging.checks import Violation

UMASK: Final = 0o077
_USUAL: Final = 0o022
_SIDE_FILES: Final = ("-wal", "-shm", "-journal")
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


_umask = UMASK


class StrictUmask:
    """Inside this scope new files are accessible to their owner only, whichever thread creates them."""

    def __enter__(self) -> None:
        self._outer = os.umask(_umask)

    def __exit__(self, *_: object) -> None:
        os.umask(self._outer)


@contextlib.contextmanager
def usual_umask() -> Iterator[None]:
    """Inside this scope a `StrictUmask` lets others read new files, as most systems do."""
    global _umask  # noqa: PLW0603 - as the umask itself, it is the process's
    _umask = _USUAL
    try:
        yield
    finally:
        _umask = UMASK


def require_side_files_follow(database: Path) -> None:
    """Raise `Violation` if a log or a journal gives access that its database doesn't give."""
    if os.name != "posix" or not database.exists():
        return
    own = stat.S_IMODE(database.stat().st_mode)
    for path in (database.with_name(f"{database.name}{suffix}") for suffix in _SIDE_FILES):
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0
        if mode & _OTHERS & ~own:
            raise Violation(
                "files-are-private",
                f"{path.name} has the mode {mode:04o} and {database.name} has {own:04o}, where the umask was "
                f"{_USUAL:03o}: it was made before the database got its mode, and holds the same data",
            )


def require_private(directory: Path) -> None:
    """Raise `Violation` for a file below `directory` that the store has opened to others."""
    if os.name != "posix":
        return
    for found in _files(os.fspath(directory)):
        mode = found.stat(follow_symlinks=False).st_mode
        if stat.S_ISREG(mode) and mode & _OTHERS:
            raise Violation(
                "files-are-private",
                f"{os.path.relpath(found.path, directory)} has the mode {stat.S_IMODE(mode):04o}, and the umask was "
                f"{UMASK:03o}: the store has opened it to others itself",
            )


def _files(directory: str) -> Iterator[os.DirEntry[str]]:
    try:
        # Runs at every check: pathlib would take three times as long.
        entries = list(os.scandir(directory))
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path)
        else:
            yield entry
