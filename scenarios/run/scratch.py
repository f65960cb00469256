"""Where the stores under test are kept while a run lasts, and whether there is room for them.

It is, in this order: the directory of ``--scratch``, that of the environment's TMPDIR, the system's memory
(``/dev/shm``), since it is rewritten a lot, and else the system's directory for temporary files.

A store that finds no room fails as under a fault, and nothing is armed. So before a run begins, and before anything is
said against a target, the room is looked at: what is too small is named as that (`ScratchError`).
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
    """There is no room for the stores under test: where, and what to do."""


def choose(directory: Path | None) -> None:
    """Keep scratch directories below this one from now on; None: where the environment and the system say."""
    _chosen[:] = [] if directory is None else [directory.absolute()]


@contextlib.contextmanager
def scratch(below: Path | None = None) -> Iterator[Path]:
    """A directory for the stores under test, gone at the end; raises `ScratchError` where there is no room."""
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
    """Raise `ScratchError` where a scratch directory that is open has next to no room, or can't be written any more."""
    for directory in _open:
        if reason := _trouble_with(directory):
            raise ScratchError(
                f"{reason} in the scratch directory {directory.parent}, where the stores under test are kept: "
                "this says nothing of the target; make room, or name another place with --scratch or TMPDIR"
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
    """Remove every scratch directory of this process at once, with what is in it."""
    for directory in _open:
        shutil.rmtree(directory, ignore_errors=True)
