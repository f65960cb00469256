"""Copies of a directory, held in memory: taken beside an open database, written to another place.

Closing any descriptor of a file drops every POSIX lock that this process holds on it, SQLite's included. A copy that is
taken while a session is open therefore keeps its descriptors open until the session has ended (`Holder.release`). The
shared-memory file (``-shm``) is never part of a copy: SQLite rebuilds it, as after a crash. An empty directory is part
of it, under a name that ends with a separator: a store may check whether it exists. So is a symbolic link
(`faults.files.links`), unless it leads out of the directory: then the file it leads to is copied in its place.

Faults armed for plain files don't fire here: they are for the store.
"""

# All of this happens several times at every fault point; pathlib would make it half as fast.
# ruff: noqa: PTH100, PTH103, PTH106, PTH108, PTH114, PTH115, PTH116, PTH118, PTH120, PTH208, PTH211

import bisect
import contextlib
import functools
import os
import stat
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Final

from tornpage.faults.files import links, spared
from tornpage.faults.garbage import collect
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.target import TargetError

Files = dict[str, bytes]

# A file that others may read was opened to them by the store: see `file_modes`.
_FOR_THE_OWNER: Final = 0o600

# While a thread of the store renames files, a copy is begun again.
_MOST_COPIES: Final = 100

# Descriptors without a place in a directory; 0 is that of epoll and the like.
_NO_FILES: Final = frozenset({stat.S_IFCHR, stat.S_IFSOCK, 0})


_CLOSED_ANOTHERS: Final = (
    "a file descriptor was closed that the store had not opened: it closes one of its own twice, and the second time "
    "the number is another file's"
)


class Holder:
    """Reads whole directories and keeps its descriptors open until no session is open any more."""

    def __init__(self) -> None:
        # By device and inode: a file that is copied many times is opened once.
        self._descriptors: dict[tuple[int, int], int] = {}
        # Whether one of them was closed by somebody else.
        self._has_lost_one = False

    def copy(self, directory: Path) -> Files:
        """The directory's files, and its empty directories, by relative name, without ``-shm``."""
        root = os.fspath(directory)
        with spared():
            for _ in range(_MOST_COPIES):
                # A thread of the store may have renamed a file meanwhile: then it is missing in this copy.
                with contextlib.suppress(FileNotFoundError):
                    names = (name for name in _names(root) if not name.endswith("-shm"))
                    return dict([self._copied(root, name) for name in names])
        raise TargetError(
            f"files in {root} come and go while no call is made, so they can't be copied; let the store's threads end "
            "their work before a call returns"
        )

    def _copied(self, root: str, name: str) -> tuple[str, bytes]:
        if not links.is_link(name):
            return name, self._read(os.path.join(root, name))
        own = links.path_of_link(name)
        path = os.path.join(root, own)
        if not links.leads_out(root, path):
            return name, links.target_in(root, os.readlink(os.fsencode(path)))
        try:
            return own, self._read(path)
        except IsADirectoryError:
            raise TargetError(
                f"{own} is a symbolic link to a directory outside of the store's; tornpage copies the store's files, "
                "and follows links to files only, so this store can't be tested"
            ) from None

    def read(self, path: str, most: int | None = None) -> bytes:
        """The first bytes of a file, or all of them; none if there is no such file."""
        try:
            with spared():
                return self._read(path, most)
        except FileNotFoundError:
            return b""

    def _read(self, path: str, most: int | None = None) -> bytes:
        if path.endswith(os.sep):
            return b""
        found = os.stat(path)
        key = found.st_dev, found.st_ino
        if key not in self._descriptors:
            self._descriptors[key] = os.open(path, os.O_RDONLY)
        return os.pread(self._descriptors[key], found.st_size if most is None else most, 0)

    def release(self) -> None:
        """Close the descriptors; call it when no session is open on these files."""
        while self._descriptors:
            key, descriptor = self._descriptors.popitem()
            if _is_open(descriptor, key):
                os.close(descriptor)
            else:
                self._has_lost_one = True

    def require_open(self) -> None:
        """Require that nothing else has closed a descriptor of its own; raises `Violation`, once."""
        lost = [key for key, descriptor in self._descriptors.items() if not _is_open(descriptor, key)]
        for key in lost:
            del self._descriptors[key]
        has_lost_one, self._has_lost_one = self._has_lost_one or bool(lost), False
        if has_lost_one:
            raise Violation("still-usable-after-the-fault", _CLOSED_ANOTHERS)


def _is_open(descriptor: int, key: tuple[int, int]) -> bool:
    """Whether a descriptor still is one of the file with this device and inode."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == key


def place(files: Files, directory: Path, used_at: Path | None = None) -> None:
    """Create `directory` with exactly these files and directories. No session may be open on it.

    `used_at` is the path at which they will be opened, if it is another one.
    """
    with spared():
        _place(files, os.fspath(directory), os.fspath(used_at or directory))


def _place(files: Files, root: str, used_at: str) -> None:
    if not files:
        # A target opens in an existing directory, even if it is empty.
        os.makedirs(root, exist_ok=True)
    for name in [name for name in _names(root) if name not in files]:
        _remove(root, name)
    for name, content in files.items():
        if name.endswith(os.sep):
            # Unless a file has taken its place since.
            if name[:-1] not in files:
                os.makedirs(os.path.join(root, name), exist_ok=True)
        elif links.is_link(name):
            _link(os.path.join(root, links.path_of_link(name)), links.target_at(used_at, content))
        else:
            _overwrite(os.path.join(root, name), content)


def _names(directory: str, prefix: str = "") -> Iterator[str]:
    """The files, links and empty directories below a directory, by relative name; none if it is missing."""
    try:
        entries = list(os.scandir(directory))
    except FileNotFoundError:
        return
    if prefix and not entries:
        yield prefix
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _names(entry.path, f"{prefix}{entry.name}{os.sep}")
        elif entry.is_symlink():
            yield links.link_name(prefix + entry.name)
        else:
            yield prefix + entry.name


def _remove(root: str, name: str) -> None:
    """Remove a file, a link or an empty directory, and each directory above it that is empty then."""
    name = links.path_of_link(name)
    if not name.endswith(os.sep):
        os.unlink(os.path.join(root, name))
    above = os.path.dirname(name)
    while above:
        try:
            os.rmdir(os.path.join(root, above))
        except OSError:
            return
        above = os.path.dirname(above)


def _overwrite(path: str, content: bytes) -> None:
    # Without truncating first: freeing and allocating blocks costs more than overwriting them.
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, _FOR_THE_OWNER)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, _FOR_THE_OWNER)
    try:
        # An earlier process may have created it under another umask.
        if os.fstat(descriptor).st_mode & 0o077:
            os.fchmod(descriptor, _FOR_THE_OWNER)
        written = 0
        while written < len(content):
            written += os.pwrite(descriptor, content[written:] if written else content, written)
        os.ftruncate(descriptor, len(content))
    finally:
        os.close(descriptor)


def _link(path: str, target: bytes) -> None:
    if os.path.islink(path):
        if os.readlink(os.fsencode(path)) == target:
            return
        os.unlink(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.symlink(target, os.fsencode(path))


def beside(files: Files, database: str) -> Files:
    """The files that are not the database's own."""
    return {name: content for name, content in files.items() if not is_own(name, database)}


def is_own(name: str, database: str) -> bool:
    """Whether a file is the database itself, its logs, its shared memory or a super-journal, by its name.

    Another file may have a name that begins with the database's, such as a copy that the store makes of it.
    """
    suffix = name.removeprefix(database) if name.startswith(database) else None
    return suffix in {"", "-wal", "-shm", "-journal"} or (suffix or "").startswith("-mj")


def held_open(directory: Path) -> list[str]:
    """The files below `directory` that this process has open; empty if the system doesn't tell."""
    below = _below(os.path.abspath(directory))
    return sorted(name.removeprefix(below) for name in _open_files() if name.startswith(below))


def first_free(directories: Iterable[Path]) -> Path:
    """The first of these in which this process has no file open; descriptors are listed once for all of them."""
    opened = sorted(_open_files())
    for directory in directories:
        below = _below(os.path.abspath(directory))
        index = bisect.bisect_left(opened, below)
        if index == len(opened) or not opened[index].startswith(below):
            return directory
    raise ValueError("files are open in all of these directories")


def _open_files() -> Iterator[str]:
    """The names of all files that this process has open."""
    try:
        descriptors = os.listdir("/proc/self/fd")
    except OSError:
        return
    for descriptor in descriptors:
        try:
            # Asking for a name is slow, and terminals, sockets and the like are in no directory of ours.
            if stat.S_IFMT(os.fstat(int(descriptor)).st_mode) in _NO_FILES:
                continue
            name = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue
        yield name


@functools.lru_cache(maxsize=256)
def _below(directory: str) -> str:
    """The prefix of the system's names of files below; a store's directory is not moved while it is under test."""
    return os.path.realpath(directory) + os.sep


def siblings(directory: Path) -> Iterator[Path]:
    """The directory itself, and then numbered siblings, without end."""
    yield directory
    for number in count(2):
        yield directory.with_name(f"{directory.name}-{number}")


def left_open(directory: Path) -> list[str]:
    """The files below `directory` that this process keeps open, also once its garbage is collected."""
    if not held_open(directory):
        return []
    # A young cycle (an error that its own frames refer to) may hold them; a full collection is slow.
    collect(1)
    if held_open(directory):
        collect()
    return held_open(directory)


def require_let_go(directory: Path) -> None:
    """Raise `Violation` if a session that was closed still has files open.

    SQLite shares its view of a file inside a process, so a leftover would affect every later check.
    """
    if left := left_open(directory):
        raise Violation("still-usable-after-the-fault", f"after closing, files are still open ({', '.join(left)})")
