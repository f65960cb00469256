"""Lets a call return before what another thread does meanwhile is recorded.

A store may write in a thread of its own, and return to its caller before that has synced anything. Which comes first is
then a matter of chance, and the caller's answer mostly comes late. Method: while a call is pending, an operation of
another thread is recorded only once the calling thread has returned or sleeps. A caller that waits for the other thread
sleeps; one that does not has its answer first.

Not covered: systems that don't report what threads do, where nothing is held back; a caller that polls.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Final

from tornpage.faults.contention.idle import real_sleep, sleep_of

_POLL_S: Final = 0.0002
# A caller that works for longer has not been told anything yet.
_MOST_POLLS: Final = 100


class FirstAnswer:
    """Holds the recording back in other threads (`held`) while a call is pending, between `begins` and `answered`."""

    def __init__(self) -> None:
        self._caller: int | None = None
        self._ended = threading.Condition(threading.Lock())
        self._held = 0
        # The caller's context switches when it was seen asleep: it has not run since.
        self._asleep: object = None

    def begins(self) -> None:
        """This thread makes a call."""
        self._caller, self._asleep = threading.get_native_id(), None

    def answered(self) -> None:
        """The call has returned; what was held back meanwhile is recorded when this returns."""
        self._caller = None
        with self._ended:
            self._ended.wait_for(lambda: not self._held, timeout=1)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Wait, in another thread than the caller's, until the caller has returned or sleeps; then record."""
        caller = self._caller
        if caller is None or caller == threading.get_native_id():
            yield
            return
        with self._ended:
            self._held += 1
        try:
            self._wait_for(caller)
            yield
        finally:
            with self._ended:
                self._held -= 1
                self._ended.notify_all()

    def _wait_for(self, caller: int) -> None:
        for _ in range(_MOST_POLLS):
            before, self._asleep = self._asleep, sleep_of(caller)
            if self._caller != caller or (before is not None and before == self._asleep):
                return
            real_sleep(_POLL_S)
