"""The places to measure on: a directory on a disk, and one in memory if the system has one."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it


def file_system(path: Path) -> str:
    """The kind of file system that a path is on, such as ext4; "unknown" where the system doesn't say."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    mounts = {fields[1]: fields[2] for fields in map(str.split, lines)}
    return next((mounts[str(one)] for one in (path, *path.parents) if str(one) in mounts), "unknown")


def disk() -> Path:
    """A directory on a disk: the system's temporary one, or the working directory where that is in memory."""
    temporary = Path(tempfile.gettempdir()).resolve()
    return Path() if file_system(temporary) in ("tmpfs", "ramfs") else temporary


@contextlib.contextmanager
def places(directory: Path) -> Iterator[dict[str, Path]]:
    """A directory of ours on disk, and one in memory where there is such a place, by what to call them; disk first."""
    with contextlib.ExitStack() as scopes:
        roots = {f"disk ({file_system(directory.resolve())})": directory}
        if _MEMORY.is_dir():
            roots[f"memory ({file_system(_MEMORY)})"] = _MEMORY
        yield {
            name: Path(scopes.enter_context(tempfile.TemporaryDirectory(prefix="tornpage-benchmark-", dir=root)))
            for name, root in roots.items()
        }
