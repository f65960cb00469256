"""The state of a ledger, and the outcome of a call, as plain values.

A row is a mapping from column names to values; the rows of a kind are in the order of their insertion, which breaks
ties (§2, lists).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tornpage.scenarios.targets.reference.model.values import Text

Row = Mapping[str, Any]
Rows = Mapping[str, Row]

KINDS: Final = ("task", "delivery", "run", "session", "message")


@dataclass(frozen=True, slots=True)
class State:
    """The rows of each kind by their id."""

    task: Rows
    delivery: Rows
    run: Rows
    session: Rows
    message: Rows
    # Unreadable rows, by table: they exist, and their content is unknown.
    unreadable: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, view: Mapping[str, Any]) -> "State":
        """The state in a view with keys such as ``task/…``."""
        rows: dict[str, dict[str, Row]] = {kind: {} for kind in KINDS}
        unreadable: dict[str, tuple[str, ...]] = {}
        for key, row in view.items():
            kind, _, name = key.partition("/")
            if kind == "unreadable":
                unreadable[row["table"]] = (*unreadable.get(row["table"], ()), row["key"])
            else:
                rows[kind][name] = row
        return cls(**rows, unreadable=unreadable)

    def view(self) -> dict[str, Any]:
        """The state as a view."""
        readable = {f"{kind}/{name}": row for kind in KINDS for name, row in getattr(self, kind).items()}
        return readable | {
            f"unreadable/{table}/{key}": {"table": table, "key": key}
            for table, keys in self.unreadable.items()
            for key in keys
        }

    def quarantined(self, *tables: str) -> list[Row]:
        """§1: the unreadable rows of these tables, as they are reported."""
        return [
            {"table": table, "key": key, "reason": Text()} for table in tables for key in self.unreadable.get(table, ())
        ]

    def put(self, kind: str, name: str, row: Row) -> "State":
        """With this row; a new one is the last."""
        return replace(self, **{kind: {**getattr(self, kind), name: row}})

    def drop(self, kind: str, name: str) -> "State":
        """Without this row."""
        return replace(self, **{kind: {key: row for key, row in getattr(self, kind).items() if key != name}})


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a call.

    `answer` is its return value as data. `heard` are the notifications of observers (§2), as (event, task id, task,
    previous); `lines` are texts that the log has once each; `sent` the envelopes that the receiver gets.
    """

    state: State
    answer: Any = None
    heard: tuple[tuple[str, str, Row | None, Row | None], ...] = ()
    lines: tuple[Any, ...] = ()
    sent: tuple[Row, ...] = ()


def with_task(state: State, row: Row, *, previous: Row | None) -> Outcome:
    """A task's new state; if it is unchanged, nothing is written and no observer is notified."""
    if row == previous:
        return Outcome(state, row)
    name = row["task_id"]
    return Outcome(state.put("task", name, row), row, (("upserted", name, row, previous),))


def without_task(state: State, name: str) -> Outcome:
    """§2, delete: the task and its delivery state, readable or not, in one transaction."""
    row = state.task[name]
    kept = tuple(one for one in state.unreadable.get("task_delivery_state", ()) if one != name)
    left = replace(state, unreadable={**state.unreadable, "task_delivery_state": kept})
    return Outcome(left.drop("task", name).drop("delivery", name), row, (("deleted", name, None, row),))


def without_readable(state: State, *, table: str, key: str, **_value: Any) -> State:
    """§1: a row of a task, or of its delivery state, is quarantined, and the others load."""
    unreadable = {**state.unreadable, table: (*state.unreadable.get(table, ()), key)}
    # The delivery state of an unreadable task is not shown without it.
    left = state.drop("task", key) if table == "tasks" else state
    return replace(left.drop("delivery", key), unreadable=unreadable)


def joined(outcomes: Iterable[Outcome], state: State, answer: Any) -> Outcome:
    """Several outcomes, one after the other, as one."""
    each = tuple(outcomes)
    return Outcome(
        each[-1].state if each else state,
        answer,
        tuple(event for one in each for event in one.heard),
        tuple(line for one in each for line in one.lines),
        tuple(envelope for one in each for envelope in one.sent),
    )
