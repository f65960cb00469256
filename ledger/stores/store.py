"""What a store of tasks must offer, what it may offer, and how the registry talks to any of them.

`TaskStore` is the interface of openclaw's pull request 56927: `load_snapshot` and `save_snapshot` are required, the
finer methods are optional and found by asking (`offers`). A `Backend` is what the registry works with: units of work
that end in one commit. SQLite is one itself; every other store is wrapped by `ledger.cache.plain`.

Not covered: how a store makes things durable. A store's methods may raise before or after they did their work.
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
    """Everything a store holds: tasks and delivery states by task id, in insertion order, and unreadable rows."""

    tasks: Mapping[str, Task]
    deliveries: Mapping[str, DeliveryState]
    quarantined: Sequence[Quarantined] = ()


class Change(msgspec.Struct, frozen=True):
    """One change of one task: what is to be there afterwards.

    `task` and `delivery` are the new records, None to delete them, UNSET to leave them alone. `previous` is the task
    as it was read inside the unit of work, None where there was none.
    """

    task_id: str
    task: Task | UnsetType | None = UNSET
    previous: Task | None = None
    delivery: DeliveryState | UnsetType | None = UNSET


class TaskStore(Protocol):
    """A store of tasks. The optional methods are named in `OPTIONAL_METHODS` and typed as SqliteStore has them."""

    def load_snapshot(self) -> Snapshot:
        """Everything, as of one moment."""
        ...

    def save_snapshot(self, snapshot: Snapshot) -> None:
        """Replace everything, all or nothing. The snapshot belongs to the store; nobody changes it afterwards."""
        ...


def offers(store: object, method: str) -> bool:
    """Whether a store has this optional method."""
    return callable(getattr(store, method, None))


class View(Protocol):
    """What can be asked of a memory; also of one as a batch under way will leave it."""

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks by id, in the order of their insertion."""

    @property
    def deliveries(self) -> Mapping[str, DeliveryState]:
        """The delivery states by task id."""

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        """The rows that could not be read when everything was last loaded."""

    @property
    def indexes(self) -> Indexes:
        """The look-ups by run, owner, flow and session."""

    def snapshot(self) -> Snapshot:
        """The state, as a snapshot of its own."""

    def in_order(self, task_ids: Iterable[str]) -> list[Task]:
        """The tasks with these ids, in insertion order."""


class Owner(Protocol):
    """The registry, as a backend sees it."""

    def joined(self) -> None:
        """A unit of work begins, or one under way is joined for the first time. An exception refuses it."""
        ...

    def committed(self) -> None:
        """The unit of work is durably there."""

    def settled(self, found: Sequence[Change] | None) -> None:
        """The commit failed; `found` is what the store holds for the touched tasks, None where that is unknown."""

    def rolled_back(self) -> None:
        """Nothing was committed."""

    def view(self) -> View:
        """The tasks as the unit of work under way sees them; only to look at."""
        ...


class Unit(Protocol):
    """One unit of work; a context manager that commits at its outermost end."""

    def read_task(self, task_id: str) -> Task | None:
        """The task as this unit sees it. Raises `Unreadable` for a quarantined row."""
        ...

    def read_delivery(self, task_id: str) -> DeliveryState | None:
        """The delivery state as this unit sees it."""
        ...

    def tasks_of_run(self, run_id: str) -> list[Task]:
        """The readable tasks with this (trimmed) run id, in insertion order."""
        ...

    def write(self, change: Change) -> None:
        """Make a change part of this unit."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]: ...


@runtime_checkable
class Backend(Protocol):
    """A store whose changes are units of work that settle a failed commit by themselves."""

    @property
    def lock(self) -> Any:
        """The re-entrant lock of everything that uses this backend."""
        ...

    def unit(self, owner: Owner) -> Unit:
        """A unit of work, or the one under way, joined."""
        ...

    def writing(self) -> bool:
        """Whether a unit of work is under way; asked with `lock` held.

        Raises `StoreError` where that unit can only be given up any more.
        """
        ...

    def version(self) -> object:
        """Differs from the last one when somebody else changed the store or it was healed. Heals first."""
        ...

    def load(self) -> tuple[object, Snapshot]:
        """Everything as of one moment, and the `version` of that moment."""
        ...

    def fresh_for_owner(self, owner_key: str) -> list[Task]:
        """The readable tasks of a (trimmed) owner, past memory, in insertion order."""
        ...

    def close(self) -> None:
        """Let go of the store; twice is fine."""
        ...
