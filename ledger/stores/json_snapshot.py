"""A store that keeps all records in one JSON file, rewritten for every change.

Saving writes a temporary file beside it, syncs it, renames it over the old one and syncs the directory, so that a
crash leaves the old file or the new one. The file is 0600 and holds the format's version and the records. A record
that can't be read is quarantined; it is kept in the file by later saves, a task with its delivery state. Of several
records with one id none can be read: nothing tells which of them holds.

Not covered: several processes writing to one file; the last one wins.
"""

import contextlib
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

import msgspec

from tornpage.ledger.disk.rows import Quarantined, refuse_deep
from tornpage.ledger.errors import (
    StoreCorrupt,
    StoreFull,
    StoreIOError,
    StoreReadOnly,
    StoreSchemaNewer,
    StoreUnavailable,
)
from tornpage.ledger.records import DeliveryState, Task
from tornpage.ledger.stores.store import Snapshot

FORMAT_VERSION: Final = 1
_FULL: Final = frozenset({28, 122})  # ENOSPC and EDQUOT


class _Document(msgspec.Struct):
    version: int
    tasks: list[Any]
    deliveries: list[Any]


class JsonSnapshotStore:
    """A `TaskStore` over the JSON file at `path`; a missing file is an empty store."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Final = Path(path)
        self._unreadable: tuple[list[Any], list[Any]] = ([], [])
        self._tasks: frozenset[str] = frozenset()

    def load_snapshot(self) -> Snapshot:
        """All records of the file. Raises `StoreCorrupt`, `StoreSchemaNewer`, `StoreIOError` and similar errors."""
        try:
            document = msgspec.json.decode(self.path.read_bytes(), type=_Document)
        except FileNotFoundError:
            self._unreadable, self._tasks = ([], []), frozenset()
            return Snapshot({}, {})
        except OSError as error:
            raise _translated(error, f"read {self.path}") from error
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise StoreCorrupt(f"{self.path} is not a ledger snapshot: {error}; it was left as it is") from error
        if document.version > FORMAT_VERSION:
            raise StoreSchemaNewer(
                f"{self.path} has format version {document.version}; this ledger knows up to {FORMAT_VERSION}"
            )
        tasks, bad_tasks, task_reasons = _records(document.tasks, Task, "tasks")
        states, bad_states, state_reasons = _records(document.deliveries, DeliveryState, "task_delivery_state")
        # The delivery state of an unreadable task stays in the file with it.
        theirs = {reason.key for reason in task_reasons}
        self._unreadable = (bad_tasks, [*bad_states, *(state for state in states if state.task_id in theirs)])
        self._tasks = frozenset(task.task_id for task in tasks)
        return Snapshot(
            {task.task_id: task for task in tasks},
            {state.task_id: state for state in states if state.task_id not in theirs},
            (*task_reasons, *state_reasons),
        )

    def save_snapshot(self, snapshot: Snapshot) -> None:
        """Replace the file. After an error it is the old one or the new one, never a mixture."""
        bad_tasks, bad_states = self._unreadable
        # A delivery state that can't be read goes with its task.
        deleted = self._tasks.difference(snapshot.tasks)
        bad_states = [one for one in bad_states if _task_of(one) not in deleted]
        document = _Document(
            FORMAT_VERSION,
            [*snapshot.tasks.values(), *bad_tasks],
            [*snapshot.deliveries.values(), *bad_states],
        )
        try:
            self._replace(msgspec.json.encode(document))
        except OSError as error:
            raise _translated(error, f"write {self.path}") from error
        self._unreadable, self._tasks = (bad_tasks, bad_states), frozenset(snapshot.tasks)

    def _replace(self, content: bytes) -> None:
        directory = self.path.parent
        # mkstemp creates the file with mode 0600, and rename keeps it.
        handle, name = tempfile.mkstemp(dir=directory, prefix=f".{self.path.name}.", suffix=".new")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _sync_directory(directory)


def _sync_directory(directory: Path) -> None:
    """Sync the directory; without this a power cut may undo the rename."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _task_of(record: Any) -> str | None:
    """The task of a record as it was decoded; None if that isn't known."""
    task_id = record.get("task_id") if isinstance(record, dict) else None
    return task_id if isinstance(task_id, str) else None


def _records(raw: list[Any], record: type[Any], table: str) -> tuple[list[Any], list[Any], list[Quarantined]]:
    good: list[Any] = []
    bad: list[Any] = []
    reasons: list[Quarantined] = []
    places = Counter(map(_task_of, raw))
    for one in raw:
        try:
            if (task_id := _task_of(one)) is not None and places[task_id] > 1:
                raise msgspec.ValidationError(f"its id stands in the file {places[task_id]} times")
            found = msgspec.convert(one, record)
            refuse_deep(getattr(found, "requester_origin", None))
            good.append(found)
        except msgspec.MsgspecError as error:
            key = str(one.get("task_id", "?")) if isinstance(one, dict) else "?"
            bad.append(one)
            reasons.append(Quarantined(table, key, str(error)))
    return good, bad, reasons


def _translated(error: OSError, doing: str) -> StoreUnavailable | StoreIOError | StoreFull | StoreReadOnly:
    kinds = StoreFull if error.errno in _FULL else StoreIOError
    kind = StoreReadOnly if isinstance(error, PermissionError) else kinds
    return kind(f"could not {doing}: {error}")
