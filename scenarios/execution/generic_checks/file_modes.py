"""Whether a store lets others read its files: the check ``files-are-private`` for every target.

The umask is the user's setting for access to new files, and SQLite follows it; most stores do nothing else, which is
correct. So the harness sets the strictest one, 077, while the store runs, and places files with access for their owner
only: a file that others may read after that was opened to them by the store, by ``chmod`` or by its own umask. A store
that promises more (private whatever the umask) checks that in its own `self_check`, as the reference does.

Not covered: systems without POSIX modes, access lists, and directories.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tornpage.scenarios.model.judging.checks import Violation

UMASK: Final = 0o077
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class StrictUmask:
    """Inside this scope new files are accessible to their owner only, whichever thread creates them."""

    def __enter__(self) -> None:
        self._outer = os.umask(UMASK)

    def __exit__(self, *_: object) -> None:
        os.umask(self._outer)


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
