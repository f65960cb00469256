"""The state directory and the database's files: their permissions, and checks before SQLite opens them.

The directory is 0700 and the database with its side files is 0600, whatever the umask, also if they existed before.
SQLite gives a new ``-wal``, ``-shm`` or ``-journal`` the mode of the database itself, so the database is created first
to keep them private.

The kernel releases a process's locks on a file as soon as the process closes any descriptor of it, whichever code
opened it. So the database is never opened here while a connection of this process has it open: the connection would
lose its locks, and another process would remove the log that it writes to. Source:
https://sqlite.org/howtocorrupt.html, "POSIX advisory locks canceled".

Not covered: changes by another user, between a check here and SQLite's open, in a directory that this user may write
to; a connection that the program opens without the ledger at the moment of the check; access control lists; Windows,
where the modes have no effect.
"""

import errno
import logging
import os
import stat
import threading
from pathlib import Path
from typing import Final

from platformdirs import user_state_path

from tornpage.ledger.disk.wal import USER_VERSION_OFFSET, user_version
from tornpage.ledger.errors import StoreCorrupt, StoreReadOnly, StoreSchemaNewer, StoreUnavailable, UsageError

DATABASE_NAME: Final = "ledger.sqlite"
STATE_DIR_VARIABLE: Final = "TORNPAGE_STATE_DIR"
_SIDE_SUFFIXES: Final = ("-wal", "-shm", "-journal")
_MAGIC: Final = b"SQLite format 3\x00"
_HEADER_BYTES: Final = 100
_JOURNAL_MAGIC: Final = bytes.fromhex("d9d505f920a163d7")
_DESCRIPTORS: Final = "/dev/fd"

opening: Final = threading.RLock()
"""Held while a descriptor of a database is opened: by the checks here until it is closed, else for the opening only."""

_log = logging.getLogger("ledger.files")


def resolve_state_dir(given: str | os.PathLike[str] | None) -> Path:
    """The directory to use: the one given, else TORNPAGE_STATE_DIR, else the platform's user state directory.

    Raises `UsageError` for an empty name, which would silently mean the current directory.
    """
    if given is not None and not os.fspath(given):
        raise UsageError('state_dir is empty; name a directory, "." for the current one')
    if given is not None and "\0" in os.fsdecode(given):
        raise UsageError(f"state_dir can't be the name of a directory: {given!r}")
    chosen = given if given is not None else os.environ.get(STATE_DIR_VARIABLE) or None
    return Path(chosen) if chosen is not None else user_state_path("tornpage")


def prepare(state_dir: Path, *, newest_schema: int) -> Path:
    """Create the directory and an empty database file if they are missing; returns the path of the database.

    Existing files are changed only after all checks. Raises `StoreUnavailable` (not a directory, a symlink, another
    owner), `StoreReadOnly`, `StoreCorrupt` (no SQLite file) and `StoreSchemaNewer`.
    """
    path = state_dir / DATABASE_NAME
    try:
        _make_directory(state_dir)
        _refuse_foreign_files(path)
        if not os.access(state_dir, os.W_OK | os.X_OK):
            raise StoreReadOnly(f"the state directory {state_dir} can't be written to by this user")
        _refuse_foreign_directory(state_dir)
        _refuse_foreign_content(path, newest_schema)
        _tighten_one(state_dir, 0o700)
        _create_private(path)
        tighten(path)
    except (FileExistsError, NotADirectoryError) as error:  # no fault: the directory is made by Python, not by SQLite.
        raise StoreUnavailable(f"the state directory {state_dir} is not a directory") from error
    except PermissionError as error:  # no fault: the directory is made by Python, not by SQLite.
        raise StoreReadOnly(f"the state directory {state_dir} can't be used: {error}") from error
    except OSError as error:  # no fault: the directory is made by Python, not by SQLite.
        raise StoreUnavailable(f"the state directory {state_dir} can't be used: {error}") from error
    return path


def existing(state_dir: Path, *, newest_schema: int) -> Path | None:
    """The database of a state directory for read-only use; None if there is none yet, or only an empty file.

    Creates and changes no file. Raises as `prepare` does.
    """
    path = state_dir / DATABASE_NAME
    try:
        if state_dir.exists():
            if not state_dir.is_dir():
                raise StoreUnavailable(f"the state directory {state_dir} is not a directory")
            _refuse_foreign_directory(state_dir)
        _refuse_foreign_files(path)
        _refuse_foreign_content(path, newest_schema)
        return path if path.exists() and path.stat().st_size else None
    except OSError as error:  # no fault: the directory is looked at by Python, not by SQLite.
        kind = StoreReadOnly if isinstance(error, PermissionError) else StoreUnavailable
        raise kind(f"the state directory {state_dir} can't be used: {error}") from error


def tighten(path: Path) -> None:
    """Make the database and its side files private; a side file that vanishes is no error."""
    for name in ("", *_SIDE_SUFFIXES):
        _tighten_one(path.with_name(path.name + name), 0o600)


def _tighten_one(path: Path, mode: int) -> None:
    try:
        if stat.S_IMODE(path.lstat().st_mode) != mode:
            path.chmod(mode)
    except FileNotFoundError:
        return
    except PermissionError as error:  # no fault: permissions are set by Python, not by SQLite.
        _log.warning("could not make %s private (mode %o): %s", path, mode, str(error))


def _make_directory(state_dir: Path) -> None:
    """Create the directory and its parents durably; SQLite syncs only its contents."""
    missing: list[Path] = []
    while not (place := missing[-1].parent if missing else state_dir).exists():
        missing.append(place)
    for one in reversed(missing):
        one.mkdir(mode=0o700 if one == state_dir else 0o777, exist_ok=True)
        _sync_directory(one.parent)
    if not state_dir.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(state_dir))


def _sync_directory(directory: Path) -> None:
    """Sync a directory; log a warning if it can't be read or the file system doesn't support it."""
    try:
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:  # no fault: the directory is there already in every search.
            os.close(handle)
    except OSError as error:  # no fault: the directory is there already in every search.
        if error.errno not in {errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP}:
            raise
        _log.warning(
            "could not sync the directory %s, so a power cut may lose what is new in it: %s", directory, str(error)
        )


def _create_private(path: Path) -> None:
    with opening:
        if path.exists():
            return
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:  # no fault: it takes another process that creates the file just now.
            # Another process was faster, and created the file in the same way.
            return


def _refuse_foreign_directory(state_dir: Path) -> None:
    """Refuse a directory that another user owns, or that all users share: the ledger must not make it private."""
    found = state_dir.stat()
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        raise StoreUnavailable(
            f"the state directory {state_dir} belongs to user {found.st_uid}, not to user {os.geteuid()}; "
            "give one of your own"
        )
    if found.st_mode & stat.S_ISVTX and found.st_mode & stat.S_IWOTH:
        raise StoreUnavailable(f"the state directory {state_dir} is shared by all users; give one of your own")


def _refuse_foreign_files(path: Path) -> None:
    for name in ("", *_SIDE_SUFFIXES):
        one = path.with_name(path.name + name)
        try:
            found = one.lstat()
        except FileNotFoundError:
            continue
        if stat.S_ISLNK(found.st_mode):
            raise StoreUnavailable(f"{one} is a symbolic link; the ledger opens only the file itself")
        if not stat.S_ISREG(found.st_mode):
            raise StoreUnavailable(f"{one} is not a regular file")
        if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
            raise StoreUnavailable(f"{one} belongs to user {found.st_uid}, not to user {os.geteuid()}")
        if not found.st_mode & stat.S_IWUSR:
            raise StoreReadOnly(f"{one} is read-only (mode {stat.S_IMODE(found.st_mode):o})")


def _refuse_foreign_content(path: Path, newest_schema: int) -> None:
    """Check the header without SQLite, since even opening a database for reading may change files."""
    with opening:
        # What this process has open was checked when it was opened, and SQLite is asked again in any case.
        header = None if _is_open_here(path) else _header(path)
    if header == b"":
        return
    if header is not None and not _has_hot_journal(path):
        if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
            raise StoreCorrupt(f"{path} is not a SQLite database; it was left as it is")
        version = int.from_bytes(header[USER_VERSION_OFFSET : USER_VERSION_OFFSET + 4], "big", signed=True)
        refuse_newer(path, version, newest_schema)
    in_wal = user_version(path.with_name(path.name + "-wal"), newest_schema)
    if in_wal is not None:
        refuse_newer(path, in_wal, newest_schema)


def _has_hot_journal(path: Path) -> bool:
    """Whether SQLite will roll back a journal first: until then the header may hold any bytes."""
    try:
        with path.with_name(path.name + "-journal").open("rb", buffering=0) as journal:
            return journal.read(len(_JOURNAL_MAGIC)) == _JOURNAL_MAGIC
    except FileNotFoundError:
        return False


def _header(path: Path) -> bytes:
    """The first bytes of the database; empty if there is no file."""
    try:
        with path.open("rb", buffering=0) as file:
            return file.read(_HEADER_BYTES)
    except FileNotFoundError:
        return b""


def _is_open_here(path: Path) -> bool:
    """Whether a descriptor of this process belongs to the file; False if that can't be determined."""
    try:
        wanted = path.stat()
        names = os.listdir(_DESCRIPTORS)  # noqa: PTH208 - the names are numbers, not paths.
    except OSError:
        return False
    return any(os.path.samestat(wanted, found) for name in names if (found := _descriptor(name)) is not None)


def _descriptor(name: str) -> os.stat_result | None:
    """The file status of a descriptor; None for the one that the listing itself had open."""
    try:
        return os.fstat(int(name))
    except (OSError, ValueError):
        return None


def refuse_newer(path: Path | str, version: int, newest_schema: int) -> None:
    """Raise `StoreSchemaNewer` if the database's schema is newer than this code supports."""
    if version > newest_schema:
        raise StoreSchemaNewer(
            f"{path} has schema version {version}; this version of the ledger knows up to {newest_schema}: "
            "use the newer one, the file was left as it is"
        )
