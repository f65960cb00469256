"""The time and the random values that a store takes by itself, replaced while its code runs.

Method. Inside `Ambient.during` time-machine stops Python's clock at the environment's time (``time.time``,
``datetime.now`` and their like, also where they were bound by name before), and a sleep that takes no real time moves
it on; SQLite's clock (``datetime('now')``) shows the same. ``os.urandom``, and with it ``uuid.uuid4`` and ``secrets``,
the functions of the module ``random``, and SQLite's ``random()`` and ``randomblob()`` yield values that depend only on
the call, its time, and how often the session has made it at that time. So the same call leads to the same state in
every session, and a call that is made again draws other values. Each of two callers of one session (`calling_as`)
counts its own.

Not covered: generators of a store's own (``random.Random()``, NumPy's), a name that was bound to ``os.urandom``, and a
loop that waits for a time without sleeping, which never ends.
"""

import contextlib
import importlib
import importlib.util
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Final

from tornpage import faults
from tornpage.faults import clock_names
from tornpage.scenarios.model.target import Environment

MISSING: Final = "`deterministic` needs the package time-machine; install it: pip install 'tornpage[deterministic]'"

_os: Any = os
_random: Any = random
_urandom = os.urandom
_own: Final = {name: getattr(time, name) for name in ("time", "time_ns")}
# By caller or thread, the generators of the scopes that it is in; a thread that a store has started draws from the
# newest.
_drawing: dict[int | str, list[random.Random]] = {}
_CALLER: ContextVar[str] = ContextVar("tornpage_caller", default="")


@contextlib.contextmanager
def calling_as(name: str) -> Iterator[None]:
    """Inside this scope, of a thread or a task, calls are those of one of two callers."""
    token = _CALLER.set(name)
    try:
        yield
    finally:
        _CALLER.reset(token)


def is_available() -> bool:
    """Whether time-machine is installed; it is loaded then, for the processes that are forked from this one."""
    if importlib.util.find_spec("time_machine") is None:
        return False
    with _as_c_has_them():
        importlib.import_module("time_machine")
    return True


class Ambient:
    """The time and random values of one session."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._made = environment.made = Counter()

    def opened(self, make: Callable[[], Any]) -> Any:
        """The store that `make` returns.

        A store may register each process that opens it. Files are opened again at the time at which they have been, as
        after a crash, and the same values are drawn then: where one is taken, it is opened with others, a moment later.
        """
        try:
            with self.during("open"):
                return make()
        except Exception as error:
            if "UNIQUE constraint failed" not in str(error):
                raise
        with self.during("open", later_ms=1):
            return make()

    @contextlib.contextmanager
    def during(self, call: str, *, later_ms: int = 0) -> Iterator[None]:
        """Inside this scope, which makes `call`, the store takes its time and its random values from here."""
        now_ms = self._environment.now_ms
        made = _CALLER.get(), call, now_ms
        self._made[made] += 1
        seed = f"{call} at {now_ms} for the {self._made[made]}th time"
        generator = random.Random(seed)  # noqa: S311 - repeatable
        shims = faults.shims()
        with _stopped_at(now_ms + later_ms), _drawn_from(generator), shims.seeded(seed), shims.timed(_stopped_ms):
            yield


def _stopped_ms() -> int:
    stopped_ns: int = _own["time_ns"]()
    return stopped_ns // 1_000_000


@contextlib.contextmanager
def _stopped_at(now_ms: int) -> Iterator[None]:
    with _as_c_has_them():
        import time_machine  # noqa: PLC0415 - an extra (`is_available`); it looks the functions up when it is imported

        travel = time_machine.travel(now_ms / 1000, tick=False)
        clock = travel.start()
    clock_names.stopped_clocks.append(clock.shift)
    try:
        yield
    finally:
        clock_names.stopped_clocks.remove(clock.shift)
        with _as_c_has_them():
            travel.stop()


@contextlib.contextmanager
def _as_c_has_them() -> Iterator[None]:
    """Python's own functions in the module ``time``, whose C code time-machine changes in place."""
    replaced = {name: getattr(time, name) for name in _own}
    for name, function in _own.items():
        setattr(time, name, function)
    try:
        yield
    finally:
        for name, function in replaced.items():
            setattr(time, name, function)


@contextlib.contextmanager
def _drawn_from(generator: random.Random) -> Iterator[None]:
    owner, state = _CALLER.get() or threading.get_ident(), random.getstate()
    _drawing.setdefault(owner, []).append(generator)
    _os.urandom = _random._urandom = _draw
    random.seed(generator.getrandbits(64))
    try:
        yield
    finally:
        random.setstate(state)
        _drawing[owner].remove(generator)
        if not _drawing[owner]:
            del _drawing[owner]
        if not _drawing:
            _os.urandom = _random._urandom = _urandom


def _draw(size: int) -> bytes:
    own = _drawing.get(_CALLER.get() or threading.get_ident()) or next(reversed(_drawing.values()), None)
    return own[-1].randbytes(size) if own else _urandom(size)
