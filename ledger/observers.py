"""MachineRun others what was committed: `restored`, `upserted` and `deleted` (openclaw pull request 56927).

An observer is any object with one or more of these methods; what it doesn't have is not told to it:

* ``restored(tasks)``: the ledger was read from its store; always told, also with no tasks at all.
* ``upserted(task, previous)``: a task was created (`previous` is None) or changed.
* ``deleted(task_id, previous)``: a task was deleted.

Records are frozen and sequences are tuples, so an observer can change nothing of the ledger's. Observers hear of
events in the order in which they were announced, also where one of them calls the ledger and so causes the next
event while this one is still being told. An observer that raises is logged with its traceback on the logger
``ledger.observers``, and the others still run: the commit has happened, and nobody's opinion of it undoes it.

When to announce (after the commit only) is the registry's duty, and so is the lock.
"""

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from msgspec import UNSET, UnsetType

from tornpage.ledger.errors import UsageError
from tornpage.ledger.records import Task

_logger = logging.getLogger("ledger.observers")
_EVENTS: Final = ("restored", "upserted", "deleted")
_NOTHING_TO_TELL: Final = contextlib.nullcontext()


class _Listener(NamedTuple):
    """One method of one observer."""

    observer: object
    event: str
    method: Callable[..., object]


class Observers:
    """The configured observers, and what they have yet to be told."""

    def __init__(self, observers: Iterable[object] = ()) -> None:
        self._observers: tuple[object, ...] = ()
        self._waiting: deque[tuple[_Listener, tuple[Any, ...]]] = deque()
        self._telling = False
        self.configure(observers)

    def configure(self, observers: Iterable[object] | UnsetType | None = UNSET) -> None:
        """Replace the observers; None clears them, leaving the argument out keeps them.

        Raises UsageError where they are no sequence or one of them has none of the methods; then nothing changes.
        """
        if observers is UNSET:
            return
        if observers is not None and not isinstance(observers, Iterable):
            raise UsageError(f"observers must be a sequence of observers or None, not {observers!r}")
        chosen = tuple(observers) if observers is not None else ()
        for observer in chosen:
            if not any(_method(observer, event) for event in _EVENTS):
                raise UsageError(
                    f"an observer needs at least one of the methods {', '.join(_EVENTS)}, {observer!r} has none"
                )
        self._observers = chosen

    def restored(self, build: Callable[[], Iterable[Task]]) -> None:
        """Announce what was read from the store; `build` is called once, and only if somebody listens."""
        listeners = self._listeners("restored")
        if not listeners:
            return
        try:
            tasks = tuple(build())
        except Exception:  # no fault: a list is built from memory.
            _logger.exception("the tasks for the event restored could not be put together; nobody is told")
            return
        self._announce(listeners, (tasks,))

    def upserted(self, task: Task, previous: Task | None) -> None:
        """Announce a task as it is now, and as it was (None where it is new)."""
        if self._is_idle():
            return
        self._announce(self._listeners("upserted"), (task, previous))

    def deleted(self, task_id: str, previous: Task | None) -> None:
        """Announce that a task is gone, and what it last was."""
        if self._is_idle():
            return
        self._announce(self._listeners("deleted"), (task_id, previous))

    def together(self) -> contextlib.AbstractContextManager[None]:
        """Events announced in this block are told at its end, so what one of them causes comes after all of them."""
        return _NOTHING_TO_TELL if self._is_idle() else self._together()

    def _is_idle(self) -> bool:
        """Whether nobody listens and nobody waits to be told."""
        return not self._observers and not self._waiting

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        if self._telling:
            yield
            return
        self._telling = True
        try:
            yield
        finally:
            self._tell_waiting()

    def _listeners(self, event: str) -> list[_Listener]:
        found = ((observer, _method(observer, event)) for observer in self._observers)
        return [_Listener(observer, event, method) for observer, method in found if method is not None]

    def _announce(self, listeners: list[_Listener], arguments: tuple[Any, ...]) -> None:
        """Queue an event for its listeners, and tell all that waits unless that is already going on."""
        self._waiting.extend((listener, arguments) for listener in listeners)
        if not self._telling:
            self._tell_waiting()

    def _tell_waiting(self) -> None:
        self._telling = True
        try:
            while self._waiting:
                _tell(*self._waiting.popleft())
        finally:
            # A KeyboardInterrupt in an observer gets out; what still waits is told with the next event.
            self._telling = False


def _method(observer: object, event: str) -> Callable[..., object] | None:
    method = getattr(observer, event, None)
    return method if callable(method) else None


def _tell(listener: _Listener, arguments: tuple[Any, ...]) -> None:
    try:
        listener.method(*arguments)
    except Exception:  # no fault: an observer is foreign code; those of a search raise nothing.
        _logger.exception("the observer %r failed on the event %s", listener.observer, listener.event)
