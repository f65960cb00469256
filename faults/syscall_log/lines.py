"""Parses strace's log line by line: thread, system call, arguments and result.

The log must be written with ``-f -y -xx``: all text is in hexadecimal, so names and contents can't be mistaken for
punctuation. A call that is interrupted by another thread's line spans two lines, which are joined here.
"""

import os
import re
from dataclasses import dataclass
from typing import Final

_UNFINISHED: Final = " <unfinished ...>"
_RESUMED: Final = re.compile(r"<\.\.\. (\w+) resumed>")
_DESCRIPTOR: Final = re.compile(r"(\d+|AT_FDCWD)(?:<([^>]*)>(\(deleted\))?)?")
_TEXT: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_PIECE: Final = re.compile(r'iov_base="((?:\\x[0-9a-f]{2})*)"')


@dataclass(frozen=True, slots=True)
class SystemCallLine:
    """One completed system call. `result` is its return value, -1 for an error."""

    thread: int
    name: str
    arguments: str
    result: int
    # The rest of the line after "=": for a descriptor also the path of its file.
    said: str

    @property
    def fields(self) -> list[str]:
        """The arguments, if none of them is a structure."""
        return self.arguments.split(", ")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A file descriptor as strace shows it: its number (None: AT_FDCWD), its path, and whether that was deleted."""

    number: int | None
    path: str
    is_deleted: bool


class Lines:
    """Parses lines into calls; keeps unfinished calls until the rest of their line."""

    def __init__(self) -> None:
        # By thread: the first part of an unfinished call.
        self.unfinished: dict[int, str] = {}

    def read(self, line: str) -> SystemCallLine | None:
        """The call that ends on this line, or None."""
        number, _, text = line.partition(" ")
        text = text.strip()
        if not number.isdigit() or text.startswith(("+++", "---")):
            return None
        thread = int(number)
        if text.endswith(_UNFINISHED):
            self.unfinished[thread] = text.removesuffix(_UNFINISHED)
            return None
        if resumed := _RESUMED.match(text):
            text = self.unfinished.pop(thread, f"{resumed[1]}(") + text[resumed.end() :]
        name, bracket, rest = text.partition("(")
        arguments, equals, said = rest.rpartition(" = ")
        if not bracket or not equals:
            return None
        return SystemCallLine(thread, name, arguments.rstrip()[:-1], _number(said), said)


def _number(said: str) -> int:
    found = re.match(r"-?\d+|0x[0-9a-f]+", said)
    return int(found[0], 0) if found else -1


def text_of(argument: str) -> bytes:
    """The quoted text of an argument; b"" if there is none, as for NULL."""
    found = _TEXT.search(argument)
    return _bytes(found[1]) if found else b""


def pieces_of(arguments: str) -> bytes:
    """The joined contents of all pieces of an I/O vector."""
    return b"".join(_bytes(one) for one in _PIECE.findall(arguments))


def descriptor_of(argument: str) -> Descriptor:
    """The descriptor in an argument or result."""
    found = _DESCRIPTOR.match(argument)
    if found is None:
        return Descriptor(None, "", is_deleted=False)
    number = None if found[1] == "AT_FDCWD" else int(found[1])
    return Descriptor(number, os.fsdecode(_bytes(found[2] or "")), is_deleted=bool(found[3]))


def _bytes(hexadecimal: str) -> bytes:
    return bytes.fromhex(hexadecimal.replace("\\x", ""))
