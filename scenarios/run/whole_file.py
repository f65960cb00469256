"""Files that are written whole or not at all: beside the place first, then renamed to it."""

import contextlib
import os
from pathlib import Path
from typing import Final

_IGNORE_ALL: Final = "# Made by tornpage: what a run has left is no part of the project.\n*\n"


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file, and make its directories; raises OSError, and then what was there before is still there.

    What is no regular file, such as a terminal or a pipe, is written as it is.
    """
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    # The link that is there stays one.
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
    """Make a report's directory, with a note that git should leave it alone where it is a new one; raises OSError."""
    if directory.exists() and directory.name != ".tornpage":
        return
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError), (directory / ".gitignore").open("x", encoding="utf-8") as file:
        file.write(_IGNORE_ALL)


def why_not_writable(path: Path) -> str:
    """Why a file can't be made or replaced, as far as that can be seen beforehand; "" where nothing is in the way."""
    if path.is_dir():
        return "it is a directory"
    above = path.parent
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        return f"{above} is no directory"
    target = path if path.exists() and not path.is_file() else above
    return "" if os.access(target, os.W_OK) else f"{target} can't be written"
