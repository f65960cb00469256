"""Events as JSON lines, one object an event, with its kind under ``event``."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from tornpage.scenarios.model.events import Event, PointTried


@contextlib.contextmanager
def lines_in(path: Path, mode: str) -> Iterator[IO[str]]:
    """A file to write lines to. Opening it may raise OSError; closing doesn't.

    Each line is flushed when it is written: the error of a failed write has been raised by then, and a close would
    repeat it.
    """
    stream = path.open(mode, encoding="utf-8")
    try:
        yield stream
    finally:
        with contextlib.suppress(OSError):
            stream.close()


class JsonLines:
    """Writes each event to a stream; single fault points, of which there are thousands, only on request."""

    def __init__(self, stream: IO[str], *, points: bool = False) -> None:
        self._stream = stream
        self._points = points

    def __call__(self, event: Event) -> None:  # noqa: D102 - a handler's one method
        if isinstance(event, PointTried) and not self._points:
            return
        content = {"event": type(event).__name__, **msgspec.to_builtins(event, enc_hook=repr)}
        self._stream.write(msgspec.json.encode(content).decode() + "\n")
        self._stream.flush()
