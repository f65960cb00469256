"""The lines of the store's code at which a caller stands.

Left out are frames of the harness, of modules that pass a call on (``contextlib``, ``threading`` …) and of the import
system. Those of packages that drive SQLite, and of Python's library, are shown only if there is no other.
"""

import inspect
import linecache
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

_OURS: Final = frozenset({"tornpage", "threading", "queue", "asyncio", "contextlib", "concurrent"})
# Packages that do something for their caller, whose line says more.
_DRIVERS: Final = sys.stdlib_module_names | {
    "aiosqlite", "anyio", "django", "peewee", "playhouse", "sqlalchemy", "sqlmodel",
}  # fmt: skip


class Line(NamedTuple):
    """A line of code: the path of its file, its number, and its text."""

    file: str
    number: int
    source: str

    def __str__(self) -> str:
        return f"{Path(self.file).name}:{self.number}: {self.source}"


def line_of(frame: FrameType | None) -> Line | None:
    """The innermost line of code that is neither the harness's nor a library of locks."""
    return next(iter(_lines(frame)), None)


def stack_of(frame: FrameType | None) -> str:
    """The innermost four such lines, innermost first: ``file:line: source``."""
    return _in_words(_lines(frame))


def stack_of_error(error: BaseException) -> str:
    """The same of where an error was raised."""
    frames: list[FrameType] = []
    traceback = error.__traceback__
    while traceback is not None:
        frames.insert(0, traceback.tb_frame)
        traceback = traceback.tb_next
    return _in_words(_lines_of(frames))


def line_of_await(work: Any) -> Line | None:
    """The innermost such line at which a coroutine, or one that it awaits, waits."""
    frames: list[FrameType] = []
    while inspect.iscoroutine(work):
        if work.cr_frame is not None:
            frames.insert(0, work.cr_frame)
        work = work.cr_await
    return next(iter(_lines_of(frames)), None)


def _in_words(lines: list[Line]) -> str:
    return " < ".join(map(str, lines[:4]))


def _lines(frame: FrameType | None) -> list[Line]:
    return _lines_of(_outwards(frame))


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _lines_of(frames: Iterable[FrameType]) -> list[Line]:
    found: list[Line] = []
    of_drivers: list[Line] = []
    for frame in frames:
        code, name = frame.f_code, str(frame.f_globals.get("__name__", ""))
        is_ours = name.partition(".")[0] in _OURS and ".known_bugs" not in name and ".libraries" not in name
        if not is_ours and "importlib" not in name:
            source = linecache.getline(code.co_filename, frame.f_lineno).strip()
            lines = of_drivers if name.partition(".")[0] in _DRIVERS else found
            lines.append(Line(code.co_filename, frame.f_lineno, source))
    return found or of_drivers
