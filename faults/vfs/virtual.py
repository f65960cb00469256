"""Sleep, randomness and clock of a library's VFSs, replaced for a scope each.

So a busy timeout costs no real time, and the same workload writes the same bytes.
"""

import contextlib
import ctypes
import functools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from tornpage.faults import forks
from tornpage.faults.reach.library import OK, SIGNATURES, Library
from tornpage.faults.vfs import waiting
from tornpage.faults.vfs.slots import Place

_JULIAN_EPOCH_MS: Final = 210_866_760_000_000  # Julian days count from noon, 24 November 4714 BC


class Virtual:
    """Our functions for these slots, and the scopes that use them; `lock` is the shim's.

    Attribute: `slept_us`, the virtual time that SQLite has slept in `sleep`, in microseconds.
    """

    def __init__(self, library: Library, places: Iterable[Place], lock: contextlib.AbstractContextManager[Any]) -> None:
        self.slept_us = 0
        self._library = library
        self._places = tuple(places)
        self._lock = lock
        self._unless: list[Callable[[int], bool]] = []
        self._forks = 0
        # Of the scopes that are open, the newest last: on several threads they don't end in the order they began.
        self._generators: list[random.Random] = []
        # Below those, the system's: another thread may ask while the last scope ends.
        self._clocks: list[Callable[[], int]] = [lambda: time.time_ns() // 1_000_000]
        self._uses: Counter[str] = Counter()

    def functions(self, place: Place) -> dict[str, Callable[..., int]]:
        """By slot, our functions for one VFS."""
        base_sleep = SIGNATURES["xSleep"](place.base["xSleep"])
        return {
            "xSleep": functools.partial(self._on_sleep, base_sleep),
            "xRandomness": self._on_randomness,
            "xCurrentTime": self._on_current_time,
            "xCurrentTimeInt64": self._on_current_time_int64,
        }

    @contextlib.contextmanager
    def sleep(self, unless: Callable[[int], bool] | None = None) -> Iterator[None]:
        """Let ``xSleep`` return at once and count in `slept_us`.

        `unless` is called at each sleep with its microseconds; if it returns True, that sleep is real.
        """
        asked = [] if unless is None else [unless]
        self._unless += asked
        self._forks = forks.depth()
        try:
            with self._replaced("xSleep"):
                yield
        finally:
            for one in asked:
                self._unless.remove(one)

    @contextlib.contextmanager
    def chance(self, seed: int, now_ms: int) -> Iterator[None]:
        """Fix randomness and clock (`now_ms`, milliseconds since the epoch, UTC) inside this scope.

        SQLite's own generator is seeded once per process, so it is reset on both edges.
        """
        with self.timed(lambda: now_ms), self.seeded(seed):
            yield

    @contextlib.contextmanager
    def timed(self, clock: Callable[[], int]) -> Iterator[None]:
        """Let SQLite have the time that `clock` returns, in milliseconds since the epoch, inside this scope."""
        self._clocks.append(clock)
        try:
            with self._replaced("xCurrentTime", "xCurrentTimeInt64"):
                yield
        finally:
            self._clocks.remove(clock)

    @contextlib.contextmanager
    def seeded(self, seed: int | str) -> Iterator[None]:
        """Let SQLite's random values depend on the seed inside this scope."""
        generator = random.Random(seed)  # noqa: S311 - reproducible is the point
        self._generators.append(generator)
        try:
            with self._replaced("xRandomness"):
                self._library.reset_randomness()
                try:
                    yield
                finally:
                    self._library.reset_randomness()
        finally:
            self._generators.remove(generator)

    def detach(self) -> None:
        """Restore every slot, whatever scopes are open."""
        self._use([*self._uses], -self._uses.total())

    @contextlib.contextmanager
    def _replaced(self, *fields: str) -> Iterator[None]:
        """Put our functions into these slots inside a scope."""
        self._use(fields, 1)
        try:
            yield
        finally:
            self._use(fields, -1)

    def _use(self, fields: Iterable[str], change: int) -> None:
        """Count the scopes that use a slot: on several threads they don't end in the order they began."""
        with self._lock:
            for field in fields:
                self._uses[field] += change
                for place in self._places:
                    if self._uses[field] > 0:
                        place.take(field)
                    else:
                        place.give_back(field)

    def _on_sleep(self, base: Callable[..., int], vfs: int, microseconds: int) -> int:
        if self._forks != forks.depth() or (self._unless and self._unless[-1](microseconds)):
            return base(vfs, microseconds)
        self.slept_us += microseconds
        waiting.notify("lock")
        return microseconds

    def _on_randomness(self, _vfs: int, size: int, out: int) -> int:
        ctypes.memmove(out, self._generators[-1].randbytes(size), size)
        return size

    def _on_current_time(self, _vfs: int, out: int) -> int:
        ctypes.c_double.from_address(out).value = self._julian_ms() / 86_400_000
        return OK

    def _on_current_time_int64(self, _vfs: int, out: int) -> int:
        ctypes.c_int64.from_address(out).value = self._julian_ms()
        return OK

    def _julian_ms(self) -> int:
        return self._clocks[-1]() + _JULIAN_EPOCH_MS
