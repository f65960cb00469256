"""A unit of work over any store that only has the `TaskStore` interface.

The changes of a unit are collected and passed to the store at its end: a single change by the finest method that the
store has, several changes as ONE snapshot of a *projected copy*, the state after them. The store never gets the
live map, and a task with a delivery state is never deleted by two calls.

A store may raise after it did the work. So after an exception the store is loaded (`load_snapshot`), and the result is
saved once more, which secures it. As wanted and secured: the call succeeds; as before: ``unchanged``; not
secured, or neither: ``unknown``, and memory adopts the loaded state. If the load fails, reads raise until it works.

What could not be secured is owed: the next call, also a query, loads and saves everything once more. As long as that
fails, no change is passed to the store alone, since it would leave the others behind.

Not covered: a plain store that several processes write to. Saving what was loaded would undo the others' changes.
"""

# no fault in this file: a store without SQLite; faults are raised beneath SQLite.

import logging
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Literal, Self

from msgspec import UNSET

from tornpage.ledger.cache.memory import apply_all, readable
from tornpage.ledger.disk.rows import DELIVERIES, TASKS, Quarantined
from tornpage.ledger.errors import Outcome, StoreError, StoreUnavailable, UsageError, from_sqlite
from tornpage.ledger.records import DeliveryState, Task
from tornpage.ledger.rules.times import ordered
from tornpage.ledger.rules.values import same_delivery
from tornpage.ledger.stores.store import Change, Owner, Snapshot, TaskStore, offers

_log = logging.getLogger("ledger.stores.plain")


class PlainBackend:
    """Wraps one `TaskStore`."""

    def __init__(self, store: TaskStore) -> None:
        self.store: Final = store
        self.lock: Final = threading.RLock()
        # Whether the store has failed, and not everything in it was saved since.
        self.save_owed = False
        self.active: PlainUnit | None = None
        self._generation = 0
        self._closed = False

    def unit(self, owner: Owner) -> "PlainUnit":
        """A new unit of work, or the current one, joined."""
        return self.active if self.active is not None else PlainUnit(self, owner)

    def writing(self) -> bool:
        """Whether a unit of work is open. Raises `StoreError` if it can only be rolled back."""
        if self.active is not None:
            self.active.refuse_doomed()
        return self.active is not None

    def version(self) -> object:
        """A value that changes after a failure that left the store's contents unknown."""
        self.heal()
        return self._generation

    def ensure_open(self) -> None:
        """Raise `StoreUnavailable` once closed."""
        if self._closed:
            raise StoreUnavailable("the ledger is closed")

    def heal(self) -> None:
        """Save what the store holds once more, if that is owed; if it fails, it stays so."""
        self.ensure_open()
        if not self.save_owed:
            return
        try:
            found = self.load()[1]
        except StoreError as error:
            _log.warning("the store could not be loaded yet: %s", error)
            return
        self.save_owed = not self.secure(found)

    def load_raw(self) -> Snapshot:
        """The contents of the store, unprocessed."""
        self.ensure_open()
        try:
            return self.store.load_snapshot()
        except Exception as error:
            raise from_sqlite(error, doing="load the ledger") from error

    def load(self) -> tuple[object, Snapshot]:
        """The contents of the store, with the times put in order."""
        loaded = self.load_raw()
        tasks = {task_id: ordered(task) for task_id, task in loaded.tasks.items()}
        deliveries = {key: state for key, state in loaded.deliveries.items() if key in tasks}
        return self._generation, Snapshot(tasks, deliveries, tuple(loaded.quarantined))

    def seen(self) -> Snapshot:
        """The contents of the store, unprocessed, with the changes of the current unit of work."""
        return self.project(self.load_raw(), self.active.changes) if self.writing() and self.active else self.load_raw()

    def fresh_for_owner(self, owner_key: str) -> list[Task]:
        """The tasks of an owner, from the store, with the changes of the current unit of work."""
        self.heal()
        if self.writing() or not offers(self.store, "list_for_owner"):
            return [ordered(task) for task in self.seen().tasks.values() if task.owner_key.strip() == owner_key]
        try:
            listed: Sequence[Task] = self.store.list_for_owner(owner_key)  # type: ignore[attr-defined] # offered
        except Exception as error:
            raise from_sqlite(error, doing="list an owner's tasks") from error
        return [ordered(task) for task in listed]

    def close(self) -> None:
        """Close the store if it has `close`; errors are logged. Raises `UsageError` inside a batch."""
        with self.lock:
            if self._closed:
                return
            if self.active is not None:
                raise UsageError("the ledger can't be closed inside a batch")
            self.heal()
            self._closed = True
            if offers(self.store, "close"):
                try:
                    self.store.close()  # type: ignore[attr-defined] # offered
                except Exception as error:  # noqa: BLE001 - a foreign store's error; nothing depends on it any more.
                    _log.warning("closing the store failed: %s", error)

    def project(self, view: Snapshot, changes: Sequence[Change]) -> Snapshot:
        """The state after the changes, as a separate copy."""
        return apply_all(view, changes)

    def save(self, view: Snapshot, changes: Sequence[Change]) -> None:
        """Pass the changes to the store, in one call."""
        is_alone = len(changes) == 1 and not self.save_owed
        call = _finest_call(self.store, view, changes[0]) if is_alone else None
        if call is None:
            self.store.save_snapshot(self.project(view, changes))
            return
        method, arguments = call
        getattr(self.store, method)(*arguments)

    def secure(self, snapshot: Snapshot) -> bool:
        """Save the loaded contents; returns whether that worked."""
        try:
            self.store.save_snapshot(snapshot)
        except Exception as error:  # noqa: BLE001 - a foreign store's error; the debt is kept.
            _log.warning("the store could not be secured yet: %s", error)
            return False
        return True

    def doubt(self) -> None:
        """Force every reader to reload."""
        self._generation += 1


def _finest_call(store: TaskStore, view: Snapshot, change: Change) -> tuple[str, tuple[Any, ...]] | None:
    """The single store call that makes exactly this change, None if the store has none."""
    key, task, delivery = change.task_id, change.task, change.delivery
    stays = delivery is UNSET or (delivery is None and key not in view.deliveries)
    if isinstance(task, Task):
        if stays:
            call: tuple[str, tuple[Any, ...]] = ("upsert_task", (task,))
        elif delivery is None:
            return None
        else:
            call = ("upsert_task_with_delivery", (task, delivery))
    elif task is None:
        # With a delivery state, only the call that deletes both is atomic.
        only_task = stays and not offers(store, "delete_task_with_delivery")
        call = ("delete_task" if only_task else "delete_task_with_delivery", (key,))
    elif isinstance(delivery, DeliveryState):
        call = ("upsert_delivery", (delivery,))
    else:
        call = ("delete_delivery", (key,))
    return call if offers(store, call[0]) else None


class PlainUnit:
    """One unit of work; see `ledger.stores.store.Unit`. Nested entries join."""

    def __init__(self, backend: PlainBackend, owner: Owner) -> None:
        self._backend = backend
        self._owner = owner
        self.changes: list[Change] = []
        self._entries: list[int] = []
        self._base: Snapshot | None = None
        self._doom: BaseException | None = None

    def read_task(self, task_id: str) -> Task | None:
        """The task as this unit sees it. Raises `Unreadable` for a quarantined one."""
        view = self._owner.view()
        return readable(view, view.tasks, TASKS.name, task_id)

    def read_delivery(self, task_id: str) -> DeliveryState | None:
        """The delivery state as this unit sees it. Raises `Unreadable` for a quarantined one."""
        view = self._owner.view()
        return readable(view, view.deliveries, DELIVERIES.name, task_id)

    def tasks_of_run(self, run_id: str) -> tuple[list[Task], Sequence[Quarantined]]:
        """The tasks of a run, in insertion order; of a record that can't be read only the id is known."""
        view = self._owner.view()
        return view.in_order(view.indexes.by_run(run_id)), ()

    def write(self, change: Change) -> None:
        """Queue a change for the end of the unit."""
        self.refuse_doomed()
        self.changes.append(change)

    def __enter__(self) -> Self:
        backend = self._backend
        backend.lock.acquire()
        try:
            if self._entries:
                self.refuse_doomed()
            else:
                backend.heal()
                self._owner.joined()
                self._base = self._owner.view().snapshot()
                backend.active = self
        except BaseException:
            backend.lock.release()
            raise
        self._entries.append(len(self.changes))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        written_before = self._entries.pop()
        try:
            if self._entries:
                if error is not None and (isinstance(error, StoreError) or len(self.changes) > written_before):
                    self._doom = self._doom or error
                return False
            self._backend.active = None
            if error is not None or self._doom is not None or not self.changes:
                self._owner.rolled_back()
                if error is None:
                    self.refuse_doomed()
            else:
                self._commit()
        finally:
            self._backend.lock.release()
        return False

    def refuse_doomed(self) -> None:
        """Raise `StoreError` if the unit can only be rolled back."""
        if self._doom is not None:
            raise StoreError(
                f"nothing of this batch was written, because one of its calls failed: {self._doom!r}"
            ) from self._doom

    def _commit(self) -> None:
        assert self._base is not None  # noqa: S101 - __enter__ has set it.
        try:
            self._backend.save(self._base, self.changes)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the store may have done the work.
            self._settle(error)
            return
        self._backend.save_owed = False
        self._owner.committed()

    def _settle(self, error: BaseException) -> None:
        backend, base = self._backend, self._base
        assert base is not None  # noqa: S101 - __enter__ has set it.
        is_interrupt = not isinstance(error, Exception)
        # Until the end of this method memory is in doubt, whatever interrupts it.
        backend.doubt()
        backend.save_owed = True
        try:
            found = backend.load()[1]
        except StoreError as failure:
            _log.error("the store could not be loaded after a failed call (%s): %s", error, failure)
            self._owner.settled(None)
            if is_interrupt:
                raise error from None
            raise from_sqlite(error, doing="save the change", outcome="unknown") from error
        secured = backend.secure(found)
        backend.save_owed = not secured
        wanted = backend.project(base, self.changes)
        is_after, is_before = (self._same(found, other) for other in (wanted, base))
        if is_after and secured:
            self._owner.committed()
            if is_interrupt:
                raise error
            return
        self._owner.settled(self._as_changes(found))
        if is_interrupt:
            raise error
        outcome: Outcome = "unchanged" if is_before and secured else "unknown"
        raise from_sqlite(error, doing="save the change", outcome=outcome) from error

    def _same(self, one: Snapshot, other: Snapshot) -> bool:
        keys = {change.task_id for change in self.changes}
        return all(
            one.tasks.get(key) == other.tasks.get(key)
            and same_delivery(one.deliveries.get(key), other.deliveries.get(key))
            for key in keys
        )

    def _as_changes(self, found: Snapshot) -> list[Change]:
        keys = dict.fromkeys(change.task_id for change in self.changes)
        return [Change(key, task=found.tasks.get(key), delivery=found.deliveries.get(key)) for key in keys]
