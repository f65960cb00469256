"""What the schema itself refuses (§1) of every writer: unknown members of an enumeration, a second row of one key."""

import contextlib
import re
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tornpage.ledger import Ledger
from tornpage.ledger.disk.files import DATABASE_NAME
from tornpage.scenarios.targets.reference.lives.openings import BEFORE, place
from tornpage.scenarios.targets.reference.model import values

_ENUMERATIONS: Final[Mapping[str, Mapping[str, Collection[str]]]] = {
    "tasks": {
        "runtime": values.RUNTIMES, "scope_kind": values.SCOPES, "status": values.STATUSES,
        "delivery_status": values.DELIVERY_STATUSES, "notify_policy": values.NOTIFY_POLICIES,
        "terminal_outcome": values.OUTCOMES,
    },
    "task_history": {"status": ("running", *values.RESULTS)},
    "agent_sessions": {"valid": ("0", "1")},
    "message_outbox": {"status": values.MESSAGE_STATUSES, "error_class": ("transient", "permanent")},
}  # fmt: skip
_KEYS: Final[Mapping[str, Sequence[str]]] = {
    "tasks": ("task_id",),
    "task_delivery_state": ("task_id",),
    "task_history": ("id",),
    "agent_sessions": ("session_id",),
    "message_outbox": ("id", "idempotency_key"),
    "outbox_imports": ("id",),
}
# §2: the fields that a task always has.
_REQUIRED: Final = (
    "task_id", "runtime", "requester_session_key", "owner_key", "scope_kind", "task", "status", "delivery_status",
    "notify_policy", "created_at",
)  # fmt: skip
_REFERENCES: Final = (("task_delivery_state", "task_id"), ("agent_sessions", "run_id"))


def unchecked(home: Path, clock: Callable[[], int], *, before: str) -> list[str]:
    """What a ledger's database lets another program write, of what it has to refuse; empty if nothing."""
    with place(home) as directory:
        BEFORE[before](directory)
        with Ledger.open(directory, clock=clock) as ledger, ledger.workers.hold("w"):
            for name in ("one", "two"):
                task = ledger.tasks.create(runtime="cli", owner_key="me", task=name, requester_origin=1).task_id
                run = ledger.history.start(task, worker_id="w", run_id=name).id
                ledger.history.open_session(run, name)
                ledger.outbox.enqueue(channel="mail", target="you", payload={}, idempotency_key=name)
                (directory / f"{name}.json").write_text(f'{{"id": "{name}", "channel": "mail", "to": "you"}}')
            ledger.outbox.import_legacy(directory)
        with contextlib.closing(sqlite3.connect(directory / DATABASE_NAME, isolation_level=None)) as connection:
            connection.execute("PRAGMA foreign_keys = ON")
            return list(_accepted(connection))


def _accepted(connection: sqlite3.Connection) -> Iterator[str]:
    # A column that accepts more than its enumeration names that in its own CHECK.
    words = {"no member"}
    for (text,) in connection.execute("SELECT sql FROM sqlite_master WHERE type = 'table'").fetchall():
        words.update(re.findall(r"'(\w+)'", text))
    for wrong, statement in _refused_statements(sorted(words)):
        if _is_accepted(connection, statement):
            yield wrong


def _refused_statements(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What would be wrong, and the statement that would make it so."""
    for table, enumerations in _ENUMERATIONS.items():
        for column, members in enumerations.items():
            for word in words:
                if word not in members:
                    yield f"{table}.{column} may be {word!r}", f"UPDATE {table} SET {column} = '{word}'"  # noqa: S608 - words
    for table, columns in _KEYS.items():
        for column in columns:
            one = f"(SELECT {column} FROM {table} WHERE {column} IS NOT NULL ORDER BY insertion LIMIT 1)"  # noqa: S608 - literals
            statement = f"UPDATE {table} SET {column} = {one} WHERE {column} IS NOT NULL"  # noqa: S608 - literals
            yield f"two rows of {table} may have the same {column}", statement
    for column in _REQUIRED:
        yield f"a task may be without {column}", f"UPDATE tasks SET {column} = NULL"  # noqa: S608 - literals
    for table, column in _REFERENCES:
        statement = f"UPDATE {table} SET {column} = 'nobody'||insertion"  # noqa: S608 - literals
        yield f"{table}.{column} may refer to nothing", statement


def _is_accepted(connection: sqlite3.Connection, statement: str) -> bool:
    """Whether a statement that changes at least one row is made; it is undone."""
    connection.execute("BEGIN")
    try:
        return connection.execute(statement).rowcount > 0
    except sqlite3.IntegrityError:
        return False
    finally:
        connection.execute("ROLLBACK")
