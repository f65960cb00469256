"""The engine of changes and reads: the store first, then memory, then the observers.

Every change follows the same steps. Inside a unit of work the row is read again from the store, a rule computes the
change from it, and `_persist` writes it. Once the unit has committed, `_adopt` applies the change to memory and
`_announce` notifies the observers. The three are separate methods, because their order is the guarantee: memory is
never ahead of the store, and observers are notified only of committed changes.

Reads come from memory. Before a read the engine checks whether another connection has committed; if so, all rows are
loaded into a new memory, which then replaces the old one. A load that fails raises an error: stale memory is never
used. After a failed first restore every call is refused until `restore` succeeds, since an empty ledger would be wrong.

Not covered: partial reloads. After another process's commit the next reader loads all rows.
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
    """A store, the memory that follows it, and the observers; the subclass defines the task API."""

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
        """Load all rows from the store. Raises `StoreError`; then every call is refused until this succeeds.

        Raises `UsageError` inside a batch, whose changes may still be rolled back.
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
        """Load all rows and notify the observers; a failure keeps the old memory and raises."""
        self._load_memory()
        self._tell_restored()

    def _load_memory(self) -> None:
        """Build a new memory and replace the old one; a failure keeps the old one and raises."""
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
        """Restore at the first call; before that, an empty memory would look like an empty ledger."""
        if self._restored:
            return
        cause = self._restore_failure
        if cause is not None:
            raise unavailable(f"the ledger was not restored, so its contents are unknown: {cause}", cause) from cause
        self.restore()

    def _current(self) -> View:
        """The memory to read from, up to date with the store; call it with the lock held."""
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
        """Memory with the changes of the open batch so far."""
        if not self._pending:
            return self._memory
        if self._working is None:
            self._working, self._working_changes = Draft(self._memory), 0
        while self._working_changes < len(self._pending):
            self._working.apply(self._pending[self._working_changes])
            self._working_changes += 1
        return self._working

    def view(self) -> View:
        """The tasks as the current unit of work sees them; for backends, read-only."""
        self._ensure_restored()
        return self._working_view()

    # Changes

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Make many calls one unit of work; see `Ledger.batch`. Its reads see what others committed before it began."""
        with self._lock:
            self._ensure_restored()
            joins = self.backend.writing()
            with self.backend.unit(self):
                # From here on no other connection can commit, so one check is enough.
                if not joins and self._is_outdated():
                    self._load_or_refuse()
                yield

    def _change(self, compute: Callable[[Unit], Sequence[Change]]) -> None:
        """Compute changes inside a unit of work and apply them; all of them are computed before any is written."""
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
        """Apply a committed change to memory and indexes."""
        self._memory.apply(change)

    def _announce(self, change: Change) -> None:
        """Notify the observers of a committed change."""
        if change.task is None:
            self._observers.deleted(change.task_id, change.previous)
        elif change.task is not UNSET:
            self._observers.upserted(change.task, change.previous)

    # Callbacks of the backend at the end of a unit of work

    def joined(self) -> None:
        """The engine joins a unit of work; if an earlier unit left memory in doubt, reload first.

        Commits of other connections cause no reload here: a change reads its own row again, and a full load for each
        change would make two processes that write in turns very slow.
        """
        if self._in_doubt or self._pending:
            self._load_or_refuse()

    def committed(self) -> None:
        """The whole unit is durable."""
        # Together: changes that an observer makes in response come after the whole unit.
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
        """Changes by others to the same tasks, of which no observer was notified yet.

        A change starts from the current row, and memory may not have read that since another process changed it.
        """
        found, seen = [], set[str]()
        for change in changes:
            known = self._memory.tasks.get(change.task_id)
            if change.task is UNSET or change.task_id in seen:
                continue
            seen.add(change.task_id)
            # Identity first: it is usually the same record that memory has, and comparing two takes longer.
            if change.previous is not known and change.previous != known:
                found.append(Change(change.task_id, task=change.previous, previous=known))
        return found

    def rolled_back(self) -> None:
        """Nothing of the unit was committed."""
        self._pending.clear()
        self._working = None
        self._tell_restored()

    def settled(self, found: Sequence[Change] | None) -> None:
        """A commit failed; `found` is the state on disk, None if it is unknown, so that memory is in doubt."""
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
                self._adopt(change)
                if change.task is not UNSET and change.task != previous:
                    adopted.append(msgspec.structs.replace(change, previous=previous))
            self._pending.clear()
            for change in adopted:
                self._announce(change)
