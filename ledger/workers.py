"""Workers: processes that do the work; each holds an operating system lock while it is alive.

A worker holds an exclusive `flock` on ``<state dir>/workers/<id>.lock`` (through filelock). The kernel releases it
however the process dies, so liveness needs no heartbeat, and a reused process id never looks alive. A liveness check
tries a *shared* lock on the same file: shared locks don't block each other, so several processes may check at once, and
none mistakes another's check for a living worker. A lock held by this process counts too, since `flock` belongs to the
open file and not to the process. If the check fails (no permission, too many open files), the worker counts as alive:
work may be marked as lost only if that is proven.

An id is used once. Its file stays when the worker releases its lock or dies, and `hold` refuses an id whose file
exists: otherwise a second worker with the same id would make the first one's runs look alive for ever. `clean` removes
the files of dead workers that no row refers to; one more lock serialises creating and removing files. A worker whose id
will never be used again may `retire`, which removes its file at once. It removes the file while it holds the lock:
before that no other process removes the file, and after that none can open it, so it never removes another worker's
file.

Not covered: network file systems, Windows (it has no `flock`), and lock files that a user removes.
"""

# no fault in this file: its locks are the kernel's, on plain files; faults are raised beneath SQLite.

import errno
import logging
import os
import re
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from filelock import FileLock, Timeout

from tornpage.ledger.errors import (
    IllegalTransition,
    NotFound,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    UsageError,
)

DIRECTORY_NAME: Final = "workers"
_SUFFIX: Final = ".lock"
_REGISTRATION_NAME: Final = ".registration.lock"
_VALID_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_PATIENCE_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.002
_HELD_BY_ANOTHER: Final = frozenset({errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK})

_log = logging.getLogger("ledger.workers")

# Keeps the locks referenced: garbage collection would release them, but a worker lives as long as its process.
_held_by_this_process: dict[str, FileLock] = {}
_held_guard = threading.Lock()


class Worker:
    """A held worker lock; `release` it, use it as a context manager, or let the process end.

    A child made by `fork` doesn't hold it: there `release` has no effect.
    """

    def __init__(self, workers: "Workers", worker_id: str) -> None:
        self.id: Final = worker_id
        self._workers = workers
        self._process_id = os.getpid()

    def release(self) -> None:
        """Release the lock: from now on the worker counts as dead. May be called twice."""
        if os.getpid() == self._process_id:
            with suppress(NotFound):
                self._workers.release(self.id)

    def retire(self) -> None:
        """Release the lock and remove its file; for an id that is never used again. May be called twice."""
        if os.getpid() == self._process_id:
            with suppress(NotFound):
                self._workers.retire(self.id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        self.release()
        return False

    def __repr__(self) -> str:
        return f"<Worker {self.id}>"


class Workers:
    """The workers of one state directory.

    Without a directory (None) it serves a ledger in memory: then only this object's own workers exist.
    """

    def __init__(self, directory: Path | None, *, new_id: Callable[[], str]) -> None:
        self._directory = directory
        self._new_id = new_id
        self._used_in_memory: dict[str, bool] = {}

    def hold(self, worker_id: str | None = None) -> Worker:
        """Become a worker with this id, else with a new one, until released or until the process ends.

        An id is 1 to 128 letters, digits, dots, underscores and hyphens, and starts with a letter or digit. Raises
        `UsageError`, `IllegalTransition` if the id was used before, and `StoreError` if the lock can't be acquired.
        """
        chosen = checked_worker_id(worker_id if worker_id is not None else self._new_id())
        if self._directory is None:
            if chosen in self._used_in_memory:
                raise _used_before(chosen)
            self._used_in_memory[chosen] = True
            return Worker(self, chosen)
        try:
            self._make_directory(self._directory)
            with self._registration(self._directory):
                self._lock_new_file(self._path(self._directory, chosen), chosen)
        except OSError as error:
            raise _store_error(error, f"become worker {chosen}") from error
        return Worker(self, chosen)

    def release(self, worker_id: str) -> None:
        """Release a worker that this process holds. Raises `NotFound` if it holds none with this id."""
        if self._directory is None:
            if not self.is_alive(worker_id):
                raise NotFound(f"this ledger holds no worker {worker_id!r}")
            self._used_in_memory[worker_id] = False
            return
        self._no_longer_held(self._path(self._directory, worker_id), worker_id).release()

    def retire(self, worker_id: str) -> None:
        """Release a worker that this process holds, and remove its file; if that fails, `clean` does it later.

        Raises `NotFound` as `release` does.
        """
        if self._directory is None:
            self.release(worker_id)
            self._used_in_memory.pop(worker_id, None)
            return
        path = self._path(self._directory, worker_id)
        lock = self._no_longer_held(path, worker_id)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("the lock file of worker %s stays until the next recovery: %s", worker_id, error)
        finally:
            lock.release()

    def is_alive(self, worker_id: str) -> bool:
        """Whether a process holds this worker's lock now; True also if that can't be determined.

        An invalid id is not alive. Changes nothing and never waits.
        """
        if not _may_be_worker_id(worker_id):
            return False
        if self._directory is None:
            return self._used_in_memory.get(worker_id, False)
        try:
            descriptor = os.open(
                self._path(self._directory, worker_id), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            )
        except FileNotFoundError:
            return False
        except OSError as error:
            return _presumed_alive(worker_id, error)
        try:
            return _is_locked(descriptor)
        except OSError as error:
            return _presumed_alive(worker_id, error)
        finally:
            os.close(descriptor)

    def clean(self, referenced: Collection[str]) -> list[str]:
        """Remove the lock files of dead workers, except the referenced ones; returns the ids, sorted.

        Call it under a lock, so that no new reference to a dead worker can appear meanwhile. Raises `StoreError`.
        """
        directory = self._directory
        if directory is None:
            gone = sorted(one for one, held in self._used_in_memory.items() if not held and one not in referenced)
            for one in gone:
                del self._used_in_memory[one]
            return gone
        try:
            with self._registration(directory):
                dead = [one for one in _ids_in(directory) if one not in referenced and not self.is_alive(one)]
                for one in dead:
                    self._path(directory, one).unlink(missing_ok=True)
        except FileNotFoundError:
            # No worker has ever been here.
            return []
        except OSError as error:
            raise _store_error(error, "remove the lock files of dead workers") from error
        return dead

    # Helpers

    @staticmethod
    def _no_longer_held(path: Path, worker_id: str) -> FileLock:
        """Remove the lock from those kept for the process's lifetime; the caller releases it."""
        lock = None
        if _may_be_worker_id(worker_id):
            with _held_guard:
                lock = _held_by_this_process.pop(str(path.resolve()), None)
        if lock is None:
            raise NotFound(f"this process holds no worker {worker_id!r}")
        return lock

    @staticmethod
    def _path(directory: Path, worker_id: str) -> Path:
        return directory / f"{worker_id}{_SUFFIX}"

    @staticmethod
    def _make_directory(directory: Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        if directory.is_symlink():
            raise StoreUnavailable(f"{directory} is a symbolic link; the ledger uses only the directory itself")

    @contextmanager
    def _registration(self, directory: Path) -> Iterator[None]:
        """Serialise creating and removing lock files, so that no file is removed before it is locked."""
        if not directory.is_dir():
            raise FileNotFoundError(errno.ENOENT, "there is no such directory", str(directory))
        lock = FileLock(directory / _REGISTRATION_NAME, mode=0o600, thread_local=False)
        _acquire(lock, "another process is making or removing worker locks")
        try:
            yield
        finally:
            lock.release()

    def _lock_new_file(self, path: Path, worker_id: str) -> None:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            raise _used_before(worker_id) from None
        lock = FileLock(path, mode=0o600, thread_local=False)
        try:
            # This waits for a liveness check of this id that is in progress.
            _acquire(lock, f"the lock of worker {worker_id} is taken")
            self._require_kernel_lock(path, worker_id)
        except BaseException:
            lock.release(force=True)
            path.unlink(missing_ok=True)
            raise
        with _held_guard:
            _held_by_this_process[str(path.resolve())] = lock

    def _require_kernel_lock(self, path: Path, worker_id: str) -> None:
        """Refuse a file system without flock: there filelock uses a plain file, which would outlive its process."""
        if not self.is_alive(worker_id):
            raise StoreUnavailable(f"the file system of {path.parent} has no locks that end with their process")


def checked_worker_id(worker_id: str) -> str:
    """The id, if it is valid. Raises `UsageError`."""
    if not _may_be_worker_id(worker_id):
        raise UsageError(
            f"worker_id must be 1 to 128 letters, digits, dots, underscores and hyphens, the first a letter or "
            f"digit, not {worker_id!r}"
        )
    return worker_id


def _may_be_worker_id(value: object) -> bool:
    return isinstance(value, str) and _VALID_ID.fullmatch(value) is not None


def _ids_in(directory: Path) -> list[str]:
    names = sorted(path.name.removesuffix(_SUFFIX) for path in directory.glob(f"*{_SUFFIX}"))
    return [name for name in names if _may_be_worker_id(name)]


def _acquire(lock: FileLock, taken: str) -> None:
    try:
        lock.acquire(timeout=_PATIENCE_SECONDS, poll_interval=_POLL_SECONDS)
    except Timeout as error:
        raise StoreBusy(f"{taken} (waited {_PATIENCE_SECONDS:.0f} s)", retryable=True) from error


def _is_locked(descriptor: int) -> bool:
    import fcntl  # noqa: PLC0415 - Windows has none, and there only asking fails.

    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD_BY_ANOTHER:
            return True
        raise
    # Closing the descriptor releases the shared lock.
    return False


def _presumed_alive(worker_id: str, error: OSError) -> bool:
    _log.warning("worker %s counts as alive, because its lock can't be checked: %s", worker_id, error)
    return True


def _used_before(worker_id: str) -> IllegalTransition:
    return IllegalTransition(
        f"worker id {worker_id!r} was used before; take another one, or recover first, which frees the ids of dead "
        "workers that nothing refers to"
    )


def _store_error(error: OSError, doing: str) -> StoreError:
    kind: type[StoreError] = StoreUnavailable
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        kind = StoreFull
    elif isinstance(error, PermissionError) or error.errno == errno.EROFS:
        kind = StoreReadOnly
    return kind(f"could not {doing}: {error}")
