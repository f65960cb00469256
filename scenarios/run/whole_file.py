"""Files that are written completely or not at all: first to a temporary name, then renamed."""

import contextlib
import os
from pathlib import Path
from typing import Final

_IGNORE_ALL: Final = "# Made by tornpage: these files of a run do not belong to the project.\n*\n"


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file, and create its directories; raises OSError, and then the earlier file is unchanged.

    A terminal, a pipe or another special file is written directly.
    """
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    # An existing link stays a link.
    path = path.resolve()
    new = path.with_name(f".{path.name[:200]}.{os.getpid()}.new")
    try:
        with new.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise


def report_directory(directory: Path) -> None:
    """Create a report's directory; a new one gets a .gitignore that excludes it. Raises OSError."""
    if directory.exists() and directory.name != ".tornpage":
        return
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError), (directory / ".gitignore").open("x", encoding="utf-8") as file:
        file.write(_IGNORE_ALL)


def why_not_writable(path: Path) -> str:
    """Why a file can't be created or replaced, as far as a check beforehand shows; "" if nothing prevents it."""
    if path.is_dir():
        return "it is a directory"
    above = path.parent
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        return f"{above} is not a directory"
    target = path if path.exists() and not path.is_file() else above
    return "" if os.access(target, os.W_OK) else f"{target} can't be written"
