"""The default store: two tables of the ledger's database.

It is a `Backend` (units of work over `ledger.disk.transaction`) and has every method of `TaskStore`, each of them one
transaction. Nothing is cached here; the registry keeps the memory.
"""

from collections.abc import Iterable, Sequence
from itertools import takewhile
from types import TracebackType
from typing import Any, Literal, Self

from msgspec import UNSET

from tornpage.ledger.disk.database import Database
from tornpage.ledger.disk.rows import DELIVERIES, TASKS, Quarantined, Unreadable
from tornpage.ledger.disk.transaction import Found, Transaction
from tornpage.ledger.records import DeliveryState, Task
from tornpage.ledger.stores.store import Change, Owner, Snapshot


class _Follower:
    """Translates the end of a transaction from rows to tasks for the registry."""

    __slots__ = ("owner",)

    def __init__(self, owner: Owner) -> None:
        self.owner = owner

    def committed(self) -> None:
        """Report that the transaction is durable."""
        self.owner.committed()

    def rolled_back(self) -> None:
        """Report that nothing was committed."""
        self.owner.rolled_back()

    def settled(self, found: Found | None) -> None:
        """Report the rows on disk, as tasks."""
        self.owner.settled(_as_changes(found) if found is not None else None)


def _as_changes(found: Found) -> list[Change] | None:
    changes: list[Change] = []
    try:
        for (table, key), row in found.items():
            if table == TASKS.name:
                changes.append(Change(key, task=TASKS.decode(row) if row is not None else None))
            elif table == DELIVERIES.name:
                changes.append(Change(key, delivery=DELIVERIES.decode(row) if row is not None else None))
    except Unreadable:  # no fault: no search damages a row.
        # Another process made the row unreadable meanwhile: a full reload will quarantine it.
        return None
    return changes


class SqliteUnit:
    """A unit of work over one transaction; see `ledger.stores.store.Unit`."""

    __slots__ = ("_follower", "_transaction")

    def __init__(self, transaction: Transaction, follower: _Follower | None) -> None:
        self._transaction = transaction
        self._follower = follower

    def __enter__(self) -> Self:
        self._transaction.__enter__()
        try:
            if self._follower is not None and self._transaction.enlist(self._follower):
                self._follower.owner.joined()
        except BaseException as error:  # no fault: only an interrupt of Python comes between the two.
            # `__exit__` is not called if `__enter__` raises.
            self._transaction.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        return self._transaction.__exit__(kind, error, trace)

    def read_task(self, task_id: str) -> Task | None:
        """The task from its row. Raises `Unreadable` for a quarantined row."""
        row = self._transaction.read(TASKS, task_id)
        if row is None:
            return None
        known = self._follower.owner.view().tasks.get(task_id) if self._follower is not None else None
        # Decoding is the slowest step here: if a known record equals the row, it is used instead.
        if known is not None and TASKS.encode(known) == row:
            return known
        return TASKS.decode(row)

    def read_delivery(self, task_id: str) -> DeliveryState | None:
        """The delivery state from its row. Raises `Unreadable` for a quarantined row."""
        row = self._transaction.read(DELIVERIES, task_id)
        return DELIVERIES.decode(row) if row is not None else None

    def tasks_of_run(self, run_id: str) -> tuple[list[Task], Sequence[Quarantined]]:
        """The readable tasks of a run, in insertion order, and its rows that can't be read."""
        return TASKS.decode_all(self._transaction.select(TASKS, "run_id = ?", (run_id,)))

    def write(self, change: Change) -> None:
        """Write the rows of a change."""
        # The delivery state has a foreign key to its task: delete it first, insert it last.
        if change.delivery is None:
            self._transaction.delete(DELIVERIES, change.task_id)
        if change.task is None:
            self._transaction.delete(TASKS, change.task_id)
        elif change.task is not UNSET:
            self._transaction.write(TASKS, TASKS.encode(change.task))
        if isinstance(change.delivery, DeliveryState):
            self._transaction.write(DELIVERIES, DELIVERIES.encode(change.delivery))


class SqliteStore:
    """Tasks and delivery states in an open `Database`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._follower: _Follower | None = None

    # The backend of the registry

    @property
    def lock(self) -> Any:
        """The lock of the database."""
        return self.database.lock

    def unit(self, owner: Owner) -> SqliteUnit:
        """A new unit of work, or the current one, joined."""
        if self._follower is None or self._follower.owner is not owner:
            self._follower = _Follower(owner)
        return SqliteUnit(self.database.transaction(), self._follower)

    def writing(self) -> bool:
        """Whether a transaction is open. Raises `StoreError` if it can only be rolled back."""
        active = self.database.active
        if active is not None:
            active.refuse_doomed()
        return active is not None

    def version(self) -> object:
        """Changes when another connection commits and after healing."""
        if self.database.active is None:
            self.database.ensure_usable()
        return self.database.version()

    def load(self) -> tuple[object, Snapshot]:
        """Everything in one read transaction; unreadable rows are quarantined."""
        version, read = self.database.read_records((TASKS, DELIVERIES))
        (tasks, bad_tasks), (deliveries, bad_deliveries) = read
        known = {task.task_id: task for task in tasks}
        states = {state.task_id: state for state in deliveries if state.task_id in known}
        quarantined: tuple[Quarantined, ...] = (*bad_tasks, *bad_deliveries)
        return version, Snapshot(known, states, quarantined)

    def fresh_for_owner(self, owner_key: str) -> list[Task]:
        """The readable tasks of an owner from the current rows."""
        tasks, _ = TASKS.decode_all(self.database.select(TASKS, "owner_key = ?", (owner_key,)))
        return tasks

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    # The store interface

    def load_snapshot(self) -> Snapshot:
        """Everything in one read transaction; unreadable rows are quarantined."""
        return self.load()[1]

    def save_snapshot(self, snapshot: Snapshot) -> None:
        """Make the readable rows equal to the snapshot, in its order, in one transaction; quarantined rows stay.

        A quarantined delivery state goes only with its task.
        """
        with self.database.transaction() as transaction:
            unit, present = SqliteUnit(transaction, None), self.load()[1]
            unreadable = [one.key for one in present.quarantined if one.table == DELIVERIES.name]
            kept = {key: row for key in unreadable if (row := transaction.read(DELIVERIES, key)) is not None}
            in_place = _in_place(present.tasks, snapshot.tasks)
            for task_id in present.tasks:
                if task_id not in in_place:
                    unit.write(Change(task_id, task=None, delivery=None))
            for task_id, task in snapshot.tasks.items():
                delivery = snapshot.deliveries.get(task_id, UNSET if task_id in kept else None)
                unit.write(Change(task_id, task=task, delivery=delivery))
                if delivery is UNSET:
                    transaction.write(DELIVERIES, kept[task_id])

    def list_for_owner(self, owner_key: str) -> Sequence[Task]:
        """The readable tasks of an owner, in insertion order."""
        return self.fresh_for_owner(owner_key)

    def upsert_task(self, task: Task) -> None:
        """Insert or replace one task."""
        self._write(Change(task.task_id, task=task))

    def upsert_task_with_delivery(self, task: Task, delivery: DeliveryState) -> None:
        """Insert or replace one task and its delivery state, in one transaction."""
        self._write(Change(task.task_id, task=task, delivery=delivery))

    def delete_task(self, task_id: str) -> None:
        """Delete one task that has no delivery state. Raises `StoreConstraint` if it has one."""
        self._write(Change(task_id, task=None))

    def delete_task_with_delivery(self, task_id: str) -> None:
        """Delete one task and its delivery state, in one transaction."""
        self._write(Change(task_id, task=None, delivery=None))

    def upsert_delivery(self, delivery: DeliveryState) -> None:
        """Insert or replace the delivery state of an existing task."""
        self._write(Change(delivery.task_id, delivery=delivery))

    def delete_delivery(self, task_id: str) -> None:
        """Delete the delivery state of one task."""
        self._write(Change(task_id, delivery=None))

    def _own_unit(self) -> SqliteUnit:
        return SqliteUnit(self.database.transaction(), None)

    def _write(self, change: Change) -> None:
        with self._own_unit() as unit:
            unit.write(change)


def _in_place(present: Iterable[str], wanted: Iterable[str]) -> set[str]:
    """The ids of both that can keep their rows: those before the first one that has another place."""
    known, kept = list(present), list(wanted)
    both = set(known) & set(kept)
    pairs = zip((one for one in known if one in both), (one for one in kept if one in both), strict=True)
    return {one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)}
