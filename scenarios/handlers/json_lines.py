"""Events as JSON lines, one object an event, with its kind under ``event``."""

from typing import IO

import msgspec

from scenarios.events import Event, PointTried


class JsonLines:
    """Writes each event to a stream; single fault points are left out unless asked for, there are thousands."""

    def __init__(self, stream: IO[str], *, points: bool = False) -> None:
        self._stream = stream
        self._points = points

    def __call__(self, event: Event) -> None:  # noqa: D102 - a handler's one method
        if isinstance(event, PointTried) and not self._points:
            return
        content = {"event": type(event).__name__, **msgspec.to_builtins(event)}
        self._stream.write(msgspec.json.encode(content).decode() + "\n")
        self._stream.flush()
