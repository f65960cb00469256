"""strace's log, line by line: which thread made which system call, with what arguments, and what it came to.

Read as it is written with ``-f -y -xx``: all text is in hexadecimal, so no name and no content can be taken for
punctuation; a call that another thread's line interrupts stands on two lines, which are put together here.
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
    """One system call that has ended. `result` is its number, -1 for an error."""

    thread: int
    name: str
    arguments: str
    result: int
    # The rest of the line after "=": for a descriptor also what it is open on.
    said: str

    @property
    def fields(self) -> list[str]:
        """The arguments, where none of them is a structure."""
        return self.arguments.split(", ")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A file descriptor as strace shows it: its number (None: the working directory), path, and if that is gone."""

    number: int | None
    path: str
    is_deleted: bool


class Lines:
    """Makes calls of lines; a call that is unfinished waits for the rest of its line."""

    def __init__(self) -> None:
        # By thread: what there is of a call that has not ended yet.
        self.unfinished: dict[int, str] = {}

    def read(self, line: str) -> SystemCallLine | None:
        """The call that ends on this line; None where none does."""
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
    """What stands in an argument in quotation marks; b"" where nothing does, such as NULL."""
    found = _TEXT.search(argument)
    return _bytes(found[1]) if found else b""


def pieces_of(arguments: str) -> bytes:
    """What stands in all pieces of a vector, one after the other."""
    return b"".join(_bytes(one) for one in _PIECE.findall(arguments))


def descriptor_of(argument: str) -> Descriptor:
    """An argument, or a result, that is a descriptor."""
    found = _DESCRIPTOR.match(argument)
    if found is None:
        return Descriptor(None, "", is_deleted=False)
    number = None if found[1] == "AT_FDCWD" else int(found[1])
    return Descriptor(number, os.fsdecode(_bytes(found[2] or "")), is_deleted=bool(found[3]))


def _bytes(hexadecimal: str) -> bytes:
    return bytes.fromhex(hexadecimal.replace("\\x", ""))
