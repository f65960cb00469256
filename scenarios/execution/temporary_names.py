"""The names of temporary files, which `tempfile` draws at random: here the same call draws the same names in each run.

A file's name decides where it stands among others, and so which crash states are drawn: a scenario of a store that
writes a temporary file and renames it would not repeat itself.

Not covered: names that a store draws by itself (see `deterministic` of a target), those of its threads, and more than
a few files in a call, whose names are random as ever: one that leaves them in the system's own directory would meet
those of all earlier runs. Nor two callers at once, who would draw the same names.
"""

import contextlib
import random
import tempfile
import threading
from collections.abc import Iterator
from typing import Any, Final

_MOST_A_CALL: Final = 16
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789_"
_LENGTH: Final = 8
_tempfile: Any = tempfile
# By thread, the names of the call that it makes.
_drawing: dict[int, Iterator[str]] = {}


class _Names:
    """Takes the place of the sequence that `tempfile` draws from."""

    def __init__(self, otherwise: Iterator[str]) -> None:
        self._otherwise = otherwise

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(_drawing.get(threading.get_ident(), iter(())), "") or next(self._otherwise)


@contextlib.contextmanager
def drawn_for(call: object, now_ms: int) -> Iterator[None]:
    """Inside this scope, which makes `call`, temporary files of its thread get names that depend on it and its time."""
    names = getattr(tempfile, "_get_candidate_names", None)
    if names is not None and not isinstance(names(), _Names):
        _tempfile._name_sequence = _Names(names())
    thread = threading.get_ident()
    outer, _drawing[thread] = _drawing.get(thread), _few(call, now_ms)
    try:
        yield
    finally:
        if outer is None:
            del _drawing[thread]
        else:
            _drawing[thread] = outer


def _few(call: object, now_ms: int) -> Iterator[str]:
    generator = random.Random(f"{call} at {now_ms}")  # noqa: S311 - repeatable
    for _ in range(_MOST_A_CALL):
        yield "".join(generator.choices(_LETTERS, k=_LENGTH))
