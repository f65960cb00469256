"""The reading half of the task API.

All reads come from memory, which is reloaded first if another connection has committed; only `list_fresh_for_owner`
reads the rows themselves. Lists are sorted by creation, newest first, and ties by insertion, newest first, and skip
rows that can't be read. All methods raise `StoreError` if memory is in doubt and could not be reloaded, and
`UsageError` for an id or a key that is not text or not valid Unicode.
"""

import builtins
from collections.abc import Sequence

import msgspec

from tornpage.ledger import rules
from tornpage.ledger.cache.engine import RegistryEngine
from tornpage.ledger.cache.memory import readable
from tornpage.ledger.disk.rows import DELIVERIES, TASKS, Quarantined
from tornpage.ledger.records import DeliveryState, Runtime, Status, Task
from tornpage.ledger.rules.values import checked_id, given_text, json_value, member, trimmed


def callers_own(state: DeliveryState) -> DeliveryState:
    """A delivery state whose origin the caller may change: memory keeps its own."""
    if state.requester_origin is None:
        return state
    return msgspec.structs.replace(state, requester_origin=json_value("requester_origin", state.requester_origin))


class TaskReader(RegistryEngine):
    """Tasks, by id, run, owner, flow and session."""

    def get(self, task_id: str) -> Task | None:
        """The task with this id, or None. Raises `Unreadable` if its row can't be read."""
        checked_id("task_id", task_id)
        with self._lock:
            view = self._current()
            return readable(view, view.tasks, TASKS.name, task_id)

    def get_delivery(self, task_id: str) -> DeliveryState | None:
        """The delivery state of a task, or None; its origin is a copy.

        Raises `Unreadable` if its row, or the task's, can't be read.
        """
        checked_id("task_id", task_id)
        with self._lock:
            view = self._current()
            readable(view, view.tasks, TASKS.name, task_id)
            state = readable(view, view.deliveries, DELIVERIES.name, task_id)
        return callers_own(state) if state is not None else None

    def list(self, *, runtime: Runtime | str | None = None, status: Status | str | None = None) -> builtins.list[Task]:
        """All tasks, newest first; if given, only those of one runtime or status. Raises `UsageError`."""
        wanted_runtime = member("runtime", Runtime, runtime) if runtime is not None else None
        wanted_status = member("status", Status, status) if status is not None else None
        with self._lock:
            return rules.newest_first(
                task
                for task in self._current().tasks.values()
                if (wanted_runtime is None or task.runtime is wanted_runtime)
                and (wanted_status is None or task.status is wanted_status)
            )

    def list_for_owner(self, owner_key: str) -> builtins.list[Task]:
        """The tasks of an owner, newest first; none for a blank key."""
        given_text("owner_key", owner_key)
        with self._lock:
            memory = self._current()
            return rules.newest_first(memory.in_order(memory.indexes.by_owner(owner_key)))

    def list_by_run(self, run_id: str) -> builtins.list[Task]:
        """The tasks of a run, newest first; none for a blank id."""
        given_text("run_id", run_id)
        with self._lock:
            memory = self._current()
            return rules.newest_first(memory.in_order(memory.indexes.by_run(run_id)))

    def list_by_parent_flow(self, parent_flow_id: str) -> builtins.list[Task]:
        """The tasks of a flow, newest first; none for a blank id."""
        given_text("parent_flow_id", parent_flow_id)
        with self._lock:
            memory = self._current()
            return rules.newest_first(memory.in_order(memory.indexes.by_parent_flow(parent_flow_id)))

    def list_for_session(self, session_key: str) -> builtins.list[Task]:
        """The tasks whose owner or child session this is, newest first; none for a blank key."""
        given_text("session_key", session_key)
        with self._lock:
            memory = self._current()
            return rules.newest_first(memory.in_order(memory.indexes.by_session(session_key)))

    def list_fresh_for_owner(self, owner_key: str) -> builtins.list[Task]:
        """The tasks of an owner read from the store, not from memory; sorted alike, none for a blank key."""
        key = trimmed("owner_key", owner_key)
        if key is None:
            return []
        with self._lock:
            return rules.newest_first(self.backend.fresh_for_owner(key))

    def find(self, token: str) -> Task | None:
        """The task that a token identifies: a task id, else a run id, else a related session's newest task.

        Raises `Unreadable` for the id of a task that can't be read, whatever else it is.
        """
        given_text("token", token)
        with self._lock:
            memory = self._current()
            return rules.find_by_token(
                token,
                lambda task_id: readable(memory, memory.tasks, TASKS.name, task_id),
                lambda run: memory.in_order(memory.indexes.by_run(run)),
                lambda session: memory.in_order(memory.indexes.by_session(session)),
            )

    def quarantined(self) -> Sequence[Quarantined]:
        """The rows that could not be read at the last full load."""
        with self._lock:
            return self._current().quarantined
