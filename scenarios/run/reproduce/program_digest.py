"""A digest of the files of a program in any language, to detect on replay whether any of them has changed.

It holds each file that its command names, the executable, too, and every file in the working directory and below, and
beside a named file that is elsewhere: the program may load any of them. Of a Python environment there (``.venv``) the
installed packages count. Hidden directories, caches and mounted file systems don't.

Of more than 5,000 files, or 256 MB, it holds nothing, and no replay takes the program for unchanged.

Not covered: what a program loads from elsewhere, such as a package of the system.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

_MOST_FILES: Final = 5_000
_MOST_BYTES: Final = 256_000_000
_CACHES: Final = frozenset({"__pycache__", "CACHEDIR.TAG"})
_OF_AN_ENVIRONMENT: Final = "pyvenv.cfg"
_DIGITS: Final = 16


def files_of(command: tuple[str, ...]) -> dict[str, str]:
    """Digest of each file of the program that this command starts, by its path; empty if they are too many or large."""
    files = dict(islice(_files_of(command), _MOST_FILES + 1))
    try:
        if len(files) > _MOST_FILES or sum(path.stat().st_size for path in files.values()) > _MOST_BYTES:
            return {}
        return {name: _digest(path) for name, path in sorted(files.items())}
    except OSError:
        # One has gone, or may not be read.
        return {}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]


def _files_of(command: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    here = Path.cwd()
    if (executable := shutil.which(command[0])) is not None:
        yield command[0], Path(executable)
    directories = [here]
    for path in filter(Path.is_file, map(Path, command)):
        yield str(path), path
        if not path.resolve().is_relative_to(here):
            directories.append(path.parent)
    for directory in directories:
        for one in _below(directory):
            yield os.path.relpath(one, here), one


def _below(directory: Path) -> Iterator[Path]:
    for place, directories, names in os.walk(directory):
        here = Path(place)
        if _OF_AN_ENVIRONMENT in names or not _CACHES.isdisjoint(names):
            directories.clear()
            # The names have the versions.
            yield from here.glob("lib/python*/site-packages/*.dist-info/RECORD")
            continue
        directories[:] = [name for name in directories if _may_be_loaded(here / name)]
        yield from filter(Path.is_file, map(here.joinpath, names))


def _may_be_loaded(directory: Path) -> bool:
    is_hidden = directory.name.startswith(".") and not (directory / _OF_AN_ENVIRONMENT).is_file()
    return not is_hidden and directory.name not in _CACHES and not directory.is_mount()
