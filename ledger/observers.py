"""Notifies observers of committed changes: `restored`, `upserted` and `deleted` (openclaw pull request 56927).

An observer is any object with one or more of these methods; it is notified only of those events:

* ``restored(tasks)``: the ledger was read from its store; also called if there are no tasks.
* ``upserted(task, previous)``: a task was created (`previous` is None) or changed.
* ``deleted(task_id, previous)``: a task was deleted.

Records are frozen and sequences are tuples, so an observer can't change the ledger's memory. Observers are notified of
events in the order in which they were announced, even if an observer calls the ledger and so causes the next event
during a notification. If an observer raises, its traceback is logged on the logger ``ledger.observers``, and the other
observers still run: the change is committed already. An observer that was removed is notified of nothing more, also not
of what was pending by then.

The registry calls this module with its lock held, and only after the commit.
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
    """The configured observers, and the pending notifications."""

    def __init__(self, observers: Iterable[object] = ()) -> None:
        self._observers: tuple[object, ...] = ()
        self._waiting: deque[tuple[_Listener, tuple[Any, ...]]] = deque()
        self._telling = False
        self.configure(observers)

    def configure(self, observers: Iterable[object] | UnsetType | None = UNSET) -> None:
        """Replace the observers; None clears them, omitting the argument keeps them.

        Raises UsageError if they are no sequence or one of them has none of the methods; then nothing changes.
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
        kept = set(map(id, chosen))
        self._waiting = deque(one for one in self._waiting if id(one[0].observer) in kept)

    def restored(self, build: Callable[[], Iterable[Task]]) -> None:
        """Announce a restore; `build` makes the tasks, and is called only if an observer has this method."""
        listeners = self._listeners("restored")
        try:
            tasks = tuple(build()) if listeners else ()
        except Exception:  # no fault: a list is built from memory.
            _logger.exception("the tasks for the event restored could not be built; no observer is notified")
            return
        self._announce(listeners, (tasks,))

    def upserted(self, task: Task, previous: Task | None) -> None:
        """Announce a created or changed task, with its previous record (None if it is new)."""
        if self._is_idle():
            return
        self._announce(self._listeners("upserted"), (task, previous))

    def deleted(self, task_id: str, previous: Task | None) -> None:
        """Announce a deleted task, with its last record."""
        if self._is_idle():
            return
        self._announce(self._listeners("deleted"), (task_id, previous))

    def together(self) -> contextlib.AbstractContextManager[None]:
        """Defer notifications to the end of this block, so that events caused by observers come after all of them."""
        return _NOTHING_TO_TELL if self._is_idle() else self._together()

    def _is_idle(self) -> bool:
        """Whether there is no observer, and so no pending notification."""
        return not self._observers

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
        """Queue an event for its listeners, and deliver the queue unless a delivery is in progress."""
        self._waiting.extend((listener, arguments) for listener in listeners)
        if not self._telling:
            self._tell_waiting()

    def _tell_waiting(self) -> None:
        self._telling = True
        try:
            while self._waiting:
                _tell(*self._waiting.popleft())
        finally:
            # A KeyboardInterrupt in an observer propagates; pending events are delivered with the next one.
            self._telling = False


def _method(observer: object, event: str) -> Callable[..., object] | None:
    method = getattr(observer, event, None)
    return method if callable(method) else None


def _tell(listener: _Listener, arguments: tuple[Any, ...]) -> None:
    try:
        listener.method(*arguments)
    except Exception:  # no fault: an observer is foreign code; those of a search raise nothing.
        _logger.exception("the observer %r failed on the event %s", listener.observer, listener.event)
