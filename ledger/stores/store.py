"""The interfaces of a task store: required methods, optional methods, and the backend that the registry uses.

`TaskStore` is the interface of openclaw's pull request 56927: `load_snapshot` and `save_snapshot` are required, the
finer methods are optional (`offers` checks for them). The registry uses a `Backend`: units of work that end in one
commit. `SqliteStore` is a backend itself; `ledger.cache.plain` wraps every other store.

Not covered: how a store makes changes durable. A store's methods may raise before or after they have done their work.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Protocol, Self, runtime_checkable

import msgspec
from msgspec import UNSET, UnsetType

from tornpage.ledger.disk.rows import Quarantined
from tornpage.ledger.records import DeliveryState, Task
from tornpage.ledger.rules.indexes import Indexes

OPTIONAL_METHODS = (
    "list_for_owner",
    "upsert_task",
    "upsert_task_with_delivery",
    "delete_task",
    "delete_task_with_delivery",
    "upsert_delivery",
    "delete_delivery",
    "close",
)


class Snapshot(msgspec.Struct, frozen=True):
    """The contents of a store: tasks and delivery states by task id, in insertion order, and unreadable rows."""

    tasks: Mapping[str, Task]
    deliveries: Mapping[str, DeliveryState]
    quarantined: Sequence[Quarantined] = ()


class Change(msgspec.Struct, frozen=True):
    """One change of one task: the records after it.

    `task` and `delivery` are the new records, None to delete them, UNSET to leave them unchanged. `previous` is the
    task as it was read inside the unit of work, None if there was none.
    """

    task_id: str
    task: Task | UnsetType | None = UNSET
    previous: Task | None = None
    delivery: DeliveryState | UnsetType | None = UNSET


class TaskStore(Protocol):
    """A store of tasks. The optional methods are named in `OPTIONAL_METHODS` and typed as SqliteStore has them."""

    def load_snapshot(self) -> Snapshot:
        """All contents, as of one moment."""
        ...

    def save_snapshot(self, snapshot: Snapshot) -> None:
        """Replace all contents atomically. The snapshot belongs to the store; the caller doesn't change it later."""
        ...


def offers(store: object, method: str) -> bool:
    """Whether a store has this optional method."""
    return callable(getattr(store, method, None))


class View(Protocol):
    """The read interface of a memory; also of a batch's draft over it."""

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks by id, in the order of their insertion."""

    @property
    def deliveries(self) -> Mapping[str, DeliveryState]:
        """The delivery states by task id."""

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        """The rows that could not be read at the last full load."""

    @property
    def indexes(self) -> Indexes:
        """The look-ups by run, owner, flow and session."""

    def snapshot(self) -> Snapshot:
        """The state, as a separate snapshot."""

    def in_order(self, task_ids: Iterable[str]) -> list[Task]:
        """The tasks with these ids, in insertion order."""


class Owner(Protocol):
    """The registry's callbacks for a backend."""

    def joined(self) -> None:
        """A unit of work begins, or the current one is joined for the first time. An exception refuses it."""
        ...

    def committed(self) -> None:
        """The unit of work is durable."""

    def settled(self, found: Sequence[Change] | None) -> None:
        """The commit failed; `found` are the stored records of the touched tasks, None if they are unknown."""

    def rolled_back(self) -> None:
        """Nothing was committed."""

    def view(self) -> View:
        """The tasks as the current unit of work sees them; read-only."""
        ...


class Unit(Protocol):
    """One unit of work; a context manager that commits at its outermost end."""

    def read_task(self, task_id: str) -> Task | None:
        """The task as this unit sees it. Raises `Unreadable` for a quarantined row."""
        ...

    def read_delivery(self, task_id: str) -> DeliveryState | None:
        """The delivery state as this unit sees it."""
        ...

    def tasks_of_run(self, run_id: str) -> tuple[list[Task], Sequence[Quarantined]]:
        """The readable tasks with this (trimmed) run id, in insertion order, and its rows that can't be read.

        The latter are none where the store doesn't know their run.
        """
        ...

    def write(self, change: Change) -> None:
        """Add a change to this unit."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]: ...


@runtime_checkable
class Backend(Protocol):
    """A store whose changes are units of work; a unit settles its own failed commit."""

    @property
    def lock(self) -> Any:
        """The re-entrant lock of everything that uses this backend."""
        ...

    def unit(self, owner: Owner) -> Unit:
        """A new unit of work, or the current one, joined."""
        ...

    def writing(self) -> bool:
        """Whether a unit of work is open; call it with `lock` held.

        Raises `StoreError` if that unit can only be rolled back.
        """
        ...

    def version(self) -> object:
        """A value that changes when another connection changed the store or it was healed. Heals first."""
        ...

    def load(self) -> tuple[object, Snapshot]:
        """All contents as of one moment, and the `version` of that moment."""
        ...

    def fresh_for_owner(self, owner_key: str) -> list[Task]:
        """The readable tasks of a (trimmed) owner from the store, not from memory, in insertion order."""
        ...

    def close(self) -> None:
        """Close the store; may be called twice."""
        ...
