"""Symbolic links among the files of a directory: a name that ends with a mark, and the target as content.

A target below the directory, given by a full path, is kept relative to the directory, with a mark in front: the same
files may be placed elsewhere.
"""

# This code runs at every copy; pathlib would make it several times as slow.
# ruff: noqa: PTH110

import os
from typing import Final

# No name and no path contains it.
_MARK: Final = "\0"
_BELOW: Final = b"\0"


def link_name(name: str) -> str:
    """The name of a symbolic link among files; a file or a directory of its path has another."""
    return name + _MARK


def is_link(name: str) -> bool:
    """Whether this is a name of `link_name`."""
    return name.endswith(_MARK)


def path_of_link(name: str) -> str:
    """The path of a file or of a link."""
    return name.removesuffix(_MARK)


def target_in(directory: str, target: bytes) -> bytes:
    """The content that stands for a target, for a link below a directory."""
    for root in dict.fromkeys((directory, os.path.realpath(directory))):
        below = os.fsencode(root + os.sep)
        if target.startswith(below):
            return _BELOW + target.removeprefix(below)
    return target


def target_at(directory: str, content: bytes) -> bytes:
    """The target that a content stands for; `target_in` reversed."""
    if content.startswith(_BELOW):
        return os.fsencode(directory + os.sep) + content.removeprefix(_BELOW)
    return content


def leads_out(directory: str, path: str) -> bool:
    """Whether a link leads to a file or a directory that exists outside of its directory."""
    return os.path.exists(path) and not f"{os.path.realpath(path)}{os.sep}".startswith(
        f"{os.path.realpath(directory)}{os.sep}"
    )
