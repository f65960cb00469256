"""The directory of the stores under test during a run, and its free space.

It is, in this order: the directory of ``--scratch``, that of the environment's TMPDIR, the system's memory
(``/dev/shm``), since it is rewritten a lot, and else the system's directory for temporary files.

A store without space fails as under a fault, although nothing is armed. So the free space is checked before a run
begins, and before a failure is reported: too little space is a `ScratchError`.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

LEAST_FREE_BYTES: Final = 4_194_304
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it
_PROBE: Final = "room"

_chosen: list[Path] = []
_open: list[Path] = []


class ScratchError(RuntimeError):
    """There is no space for the stores under test: where, and what to do."""


def choose(directory: Path | None) -> None:
    """Keep scratch directories below this one from now on; None: as the environment and the system set it."""
    _chosen[:] = [] if directory is None else [directory.absolute()]


@contextlib.contextmanager
def scratch(below: Path | None = None) -> Iterator[Path]:
    """A directory for the stores under test, removed at the end; raises `ScratchError` if there is no space."""
    base = below or _base()
    try:
        made = tempfile.TemporaryDirectory(prefix="tornpage-", dir=base)
    except OSError as error:
        where = base or tempfile.gettempdir()
        raise ScratchError(f"no scratch directory in {where}: {error.strerror}; name another with --scratch") from error
    directory = Path(made.name)
    _open.append(directory)
    try:
        with made:
            require_room()
            yield directory
    finally:
        _open.remove(directory)


def _base() -> Path | None:
    if _chosen:
        return _chosen[0]
    if os.environ.get("TMPDIR"):
        return Path(os.environ["TMPDIR"])
    return _MEMORY if os.access(_MEMORY, os.W_OK | os.X_OK) else None


def require_room() -> None:
    """Raise `ScratchError` if an open scratch directory has almost no space, or can't be written any more."""
    for directory in _open:
        if reason := _trouble_with(directory):
            raise ScratchError(
                f"{reason} in the scratch directory {directory.parent}, where the stores under test are kept: "
                "no verdict on the target; free some space, or name another place with --scratch or TMPDIR"
            )


def _trouble_with(directory: Path) -> str:
    try:
        free = shutil.disk_usage(directory).free
        if free < LEAST_FREE_BYTES:
            return f"{free:,} bytes are left ({LEAST_FREE_BYTES:,} are needed)"
        with contextlib.suppress(FileNotFoundError):
            (directory / _PROBE).write_bytes(bytes(4_096))
            (directory / _PROBE).unlink()
    except OSError as error:
        return f"nothing can be written ({error.strerror})"
    return ""


def sweep_up() -> None:
    """Remove every scratch directory of this process at once, with its contents."""
    for directory in _open:
        shutil.rmtree(directory, ignore_errors=True)
