"""The full path of the file that a call concerns, given a path, a descriptor, or a path relative to a descriptor.

The operating system supplies the path of a descriptor, so renames, duplicates and files that were opened earlier are
handled. On a system that can't (no ``/proc``, no ``F_GETPATH``), descriptors have no path, and operations on them are
not watched.
"""

# This code runs at every call; pathlib would make it several times as slow.
# ruff: noqa: PTH115, PTH117, PTH118

import fcntl
import os
import re
import stat
from typing import Any, Final

_GET_PATH: Final = getattr(fcntl, "F_GETPATH", None)
_MOST_PATH_BYTES: Final = 1024
_NAMELESS: Final = " (deleted)"
# A name's suffix, unless it looks random (``tempfile``, a checksum, a date).
_SUFFIX: Final = re.compile(r"\.([A-Za-z]{1,7}|[A-Za-z]{1,6}[0-9])\Z")
DIRECTORY: Final = "dir"
OTHER: Final = "other"

Identity = tuple[int, int]


def of_descriptor(descriptor: int) -> str | None:
    """The full path of an open file or directory; None if it has no name (any more) or the system doesn't report it."""
    try:
        if _GET_PATH is not None:
            return os.fsdecode(fcntl.fcntl(descriptor, _GET_PATH, bytes(_MOST_PATH_BYTES)).partition(b"\0")[0])
        path = os.readlink(f"/proc/self/fd/{descriptor}")
    except (OSError, OverflowError):
        return None
    if not path.startswith(os.sep):
        return None
    return None if path.endswith(_NAMELESS) and not os.path.lexists(path) else path


def of_path(given: Any, directory: int | None = None, *, follow: bool = False) -> str | None:
    """The full path of a call's argument, with links resolved; the last component only if the call follows links."""
    if isinstance(given, int):
        return of_descriptor(given)
    try:
        path = os.fsdecode(given)
    except TypeError:
        return None
    if directory is not None and not os.path.isabs(path):
        above = of_descriptor(directory)
        if above is None:
            return None
        path = os.path.join(above, path)
    head, tail = os.path.split(path)
    if follow or tail in ("", os.curdir, os.pardir):
        return os.path.realpath(path)
    return os.path.join(os.path.realpath(head), tail)


def identity_of(descriptor: int) -> Identity:
    """The device and inode of an open file, which identify it whatever its name."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def is_directory(descriptor: int) -> bool:
    """Whether the descriptor is of a directory."""
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


def role_of(path: str) -> str:
    """The role of a plain file in a fault plan: its suffix, or "other" if it has none or a random one."""
    found = _SUFFIX.search(path, path.rfind(os.sep) + 2)
    return found.group() if found else OTHER
