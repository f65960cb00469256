"""How tasks are changed and read: the store first, then memory, then the observers.

Every change goes the same way. Inside a unit of work the row is read again from the store, a rule computes the change
from it, and `_persist` writes it. Once the unit has committed, `_adopt` takes the change into memory and `_announce`
tells the observers. The three are separate methods, because the order in which they happen is the promise: memory is
never ahead of the store, and observers hear only what was committed.

Reads come from memory. Before a read the store is asked whether somebody else has committed; if so everything is loaded
again, built aside and then swapped in. A load that fails raises, and memory never answers for what it doesn't know. A
first restore that fails is sticky: everything is refused until `restore` succeeds, since an empty ledger would be a
lie.

Not covered: partial reloads. Another process's commit costs the next reader one full load.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec
from msgspec import UNSET

from tornpage.ledger.cache.draft import Draft
from tornpage.ledger.cache.memory import Memory
from tornpage.ledger.cache.plain import PlainBackend
from tornpage.ledger.disk.transaction import unavailable
from tornpage.ledger.errors import StoreError, UsageError
from tornpage.ledger.observers import Observers
from tornpage.ledger.stores.store import Backend, Change, Snapshot, TaskStore, Unit, View


class RegistryEngine:
    """A store, the memory that follows it and the observers; what a task is, is left to the subclass."""

    plain_backend: type[PlainBackend] = PlainBackend

    def __init__(self, store: TaskStore | Backend) -> None:
        self.backend: Final[Backend] = store if isinstance(store, Backend) else self.plain_backend(store)
        self._lock = self.backend.lock
        self._observers = Observers()
        self._memory = Memory()
        self._version: object = None
        self._restored = False
        self._restore_failure: StoreError | None = None
        self._pending: list[Change] = []
        self._working: Draft | None = None
        self._working_changes = 0
        self._in_doubt = False
        self._restore_untold = False

    # Restoring and refreshing

    def restore(self) -> None:
        """Load everything from the store. Raises `StoreError`; then every call is refused until this succeeds.

        Raises `UsageError` inside a batch, whose changes may still be taken back.
        """
        with self._lock:
            if self._pending and self.backend.writing():
                raise UsageError("a ledger can't be restored inside a batch")
            try:
                self._reload()
            except StoreError as error:
                self._restored, self._restore_failure = False, error
                raise
            self._restored, self._restore_failure = True, None

    def _reload(self) -> None:
        """Load everything and tell the observers; a failure leaves the old memory and raises."""
        self._load_memory()
        self._tell_restored()

    def _load_memory(self) -> None:
        """Build a new memory aside and swap it in; a failure leaves the old one and raises."""
        version, snapshot = self._load()
        self._memory, self._version = Memory(snapshot), version
        self._pending.clear()
        self._working = None
        self._in_doubt = False
        self._restore_untold = True

    def _tell_restored(self) -> None:
        if self._restore_untold:
            self._restore_untold = False
            self._observers.restored(lambda: tuple(self._memory.tasks.values()))

    def _load(self) -> tuple[object, Snapshot]:
        return self.backend.load()

    def _ensure_restored(self) -> None:
        """Restore at the first call; an empty memory before that would be taken for an empty ledger."""
        if self._restored:
            return
        cause = self._restore_failure
        if cause is not None:
            raise unavailable(f"the ledger was not restored, so nothing is known of it: {cause}", cause) from cause
        self.restore()

    def _current(self) -> View:
        """The memory to read from, as fresh as the store; call it with the lock held."""
        self._ensure_restored()
        if self.backend.writing():
            return self._working_view()
        if self._is_outdated():
            self._load_or_refuse()
            self._tell_restored()
        return self._memory

    def _is_outdated(self) -> bool:
        version = self.backend.version()
        return self._in_doubt or bool(self._pending) or version != self._version

    def _load_or_refuse(self) -> None:
        try:
            self._load_memory()
        except StoreError as error:
            raise unavailable(f"memory can't be trusted and could not be reloaded: {error}", error) from error

    def _working_view(self) -> View:
        """What a batch under way has made of memory so far."""
        if not self._pending:
            return self._memory
        if self._working is None:
            self._working, self._working_changes = Draft(self._memory), 0
        while self._working_changes < len(self._pending):
            self._working.apply(self._pending[self._working_changes])
            self._working_changes += 1
        return self._working

    def view(self) -> View:
        """The tasks as the unit of work under way sees them; for backends, which only look."""
        self._ensure_restored()
        return self._working_view()

    # The one way in which anything changes

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Make many calls one unit of work; see `Ledger.batch`. Its reads see what others committed before it began."""
        with self._lock:
            self._ensure_restored()
            joins = self.backend.writing()
            with self.backend.unit(self):
                # From here on nobody else can commit, so once is enough.
                if not joins and self._is_outdated():
                    self._load_or_refuse()
                yield

    def _change(self, compute: Callable[[Unit], Sequence[Change]]) -> None:
        """Compute changes inside a unit of work and carry them out; all of them are computed before any is written."""
        with self._lock:
            self._ensure_restored()
            with self.backend.unit(self) as unit:
                for change in compute(unit):
                    self._persist(unit, change)

    def _persist(self, unit: Unit, change: Change) -> None:
        """Write a change into the unit of work; its end commits."""
        self._pending.append(change)
        unit.write(change)

    def _adopt(self, change: Change) -> None:
        """Take a committed change into memory and indexes."""
        self._memory.apply(change)

    def _announce(self, change: Change) -> None:
        """Tell the observers of a committed change."""
        if change.task is None:
            self._observers.deleted(change.task_id, change.previous)
        elif change.task is not UNSET:
            self._observers.upserted(change.task, change.previous)

    # What the backend says about the end of a unit of work

    def joined(self) -> None:
        """A unit of work begins to be ours too; what an earlier one left in doubt is read again first.

        What others have committed is not: a change reads its own row again, and a full load for each change would make
        two processes that write in turns crawl.
        """
        if self._in_doubt or self._pending:
            self._load_or_refuse()

    def committed(self) -> None:
        """Everything of the unit is durably there."""
        # Together: what one of the observers does about one change comes after the whole unit.
        with self._observers.together():
            self._tell_restored()
            changes = tuple(self._pending)
            unheard = self._unheard(changes)
            for change in changes:
                self._adopt(change)
            # Only now: an interrupt before this line leaves them pending, and the next read loads everything.
            self._pending.clear()
            self._working = None
            for change in (*unheard, *changes):
                self._announce(change)

    def _unheard(self, changes: Sequence[Change]) -> list[Change]:
        """What others have made of the tasks that changed here, and no observer was told of yet.

        A change begins with the row as it is, and memory may not have read it since another process changed it.
        """
        found, seen = [], set[str]()
        for change in changes:
            known = self._memory.tasks.get(change.task_id)
            if change.task is UNSET or change.task_id in seen:
                continue
            seen.add(change.task_id)
            # Most often it is the very record that memory has; to compare two takes longer.
            if change.previous is not known and change.previous != known:
                found.append(Change(change.task_id, task=change.previous, previous=known))
        return found

    def rolled_back(self) -> None:
        """Nothing of the unit was committed."""
        self._pending.clear()
        self._working = None
        self._tell_restored()

    def settled(self, found: Sequence[Change] | None) -> None:
        """A commit failed, and this is what disk has now; None: that isn't known, so memory is in doubt."""
        self._working = None
        if found is None:
            self._in_doubt = True
            self._pending.clear()
            return
        with self._observers.together():
            self._tell_restored()
            adopted = []
            for change in found:
                previous = self._memory.tasks.get(change.task_id)
                if change.task is UNSET or change.task != previous:
                    self._adopt(change)
                    adopted.append(msgspec.structs.replace(change, previous=previous))
            self._pending.clear()
            for change in adopted:
                self._announce(change)
