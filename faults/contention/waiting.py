"""How long this process has waited for a rival's process: to start, to take its lock, to let it go.

It does so inside the calls of a store, whose time limit must not count it: on a busy machine a process takes seconds.
"""

import contextlib
import time
from collections.abc import Iterator

# A search may replace the clock.
_monotonic = time.monotonic


class _Waited:
    seconds = 0.0
    since: float | None = None


_waited = _Waited()


@contextlib.contextmanager
def waiting_for_a_rival() -> Iterator[None]:
    """Count the time in this scope; scopes are not nested."""
    _waited.since = _monotonic()
    try:
        yield
    finally:
        _waited.seconds, _waited.since = waited_for_rivals(), None


def waited_for_rivals() -> float:
    """The seconds in all such scopes so far, the open one included."""
    since = _waited.since
    return _waited.seconds + (_monotonic() - since if since is not None else 0.0)
