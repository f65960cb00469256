"""Checks that need the reference's own session: its files' modes, its log, its audit, and its notifications.

Each is an independent count or a plain read, written from the ledger's specification; all raise `Violation`.
"""

import contextlib
import os
import stat
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from tornpage import faults
from tornpage.ledger import Ledger
from tornpage.ledger.disk.files import opening
from tornpage.ledger.rules.indexes import Indexes
from tornpage.scenarios.model.judging.checks import Violation, describe, differences
from tornpage.scenarios.model.target import View
from tornpage.scenarios.targets.reference.calls import rows_of
from tornpage.scenarios.targets.reference.environment import Mirror

_SIDE_FILES: Final = ("", "-wal", "-shm", "-journal")
# The automatic checkpoint runs at 1,000 pages; the transaction that exceeds them still goes into the log.
_MOST_LOG_BYTES: Final = 1_500 * (4_096 + 24)
_ACTIVE: Final = frozenset({"queued", "running"})
_STALE_MS: Final = {"queued": 10 * 60_000, "running": 30 * 60_000}


def is_suspect(ledger: Ledger) -> bool:
    """Whether it could not read its rows again after a failed COMMIT, and has not done so since."""
    return getattr(ledger.database, "_suspect", None) is not None


def holds_a_lock(ledger: Ledger) -> bool:
    """Whether this thread holds a lock of the ledger; after a call another one would wait for it for ever."""
    locks: Any = (ledger.tasks.backend.lock, opening)
    return any(lock._is_owned() for lock in locks)


def check_memory(ledger: Ledger, mirror: Mirror) -> None:
    """Indexes equal rebuilt ones, and the observers' mirror equals memory; no call has left a lock."""
    if holds_a_lock(ledger):
        raise Violation("as-specified", "a call has ended and still holds a lock: one in another thread never ends")
    memory = ledger.tasks.view()
    if memory.indexes != Indexes.rebuild(memory.tasks.values()):
        raise Violation("indexes-derived", "an index differs from one rebuilt from the tasks")
    if not mirror.was_told:
        raise Violation("observers-saw-exactly-the-commits", "the ledger was restored, and no observer was notified")
    if mirror.tasks != memory.tasks:
        seen, kept = map(msgspec.to_builtins, (mirror.tasks, dict(memory.tasks)))
        raise Violation(
            "observers-saw-exactly-the-commits",
            describe(differences(seen, kept), "the observers", "memory"),
            {"observers": seen, "memory": kept},
        )


def check_files(database: Path) -> None:
    """Other users can't read the files, and the log is within its bound."""
    directory, name = os.path.split(database)
    for path, kind in ((directory, "the directory"), *((f"{database}{side}", name + side) for side in _SIDE_FILES)):
        try:
            # Runs at every check: pathlib would take three times as long.
            found = os.stat(path)  # noqa: PTH116
        except FileNotFoundError:
            continue
        if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise Violation("files-are-private", f"{kind} has the mode {stat.S_IMODE(found.st_mode):04o}")
        if path.endswith("-wal") and found.st_size > _MOST_LOG_BYTES:
            raise Violation("log-stays-small", f"the log has grown to {found.st_size:,} bytes")


def check_payloads(database: Path, written: Mapping[str, bytes]) -> None:
    """A payload that is not UTF-8 is, as any other, written once and never again."""
    if not written:
        return
    with contextlib.closing(faults.connect_unwatched(database)) as connection:
        rows = dict(connection.execute("SELECT id, CAST(payload AS BLOB) FROM message_outbox").fetchall())
    for message_id, payload in written.items():
        if rows.get(message_id, payload) != payload:
            raise Violation(
                "as-specified", f"the payload of message {message_id} was {payload!r}: {rows[message_id]!r}"
            )


def check_audit(ledger: Ledger, view: View, now_ms: int) -> None:
    """The audit's summary matches the rows, whatever the filter, and the filter selects the right ones."""
    severities = [one for task in rows_of(view, "task").values() for one in _problems(task, now_ms)]
    codes = Counter(code for _, code in severities)
    errors = sum(severity == "error" for severity, _ in severities)
    report = ledger.audit(severity="error")
    audited = {str(code): count for code, count in report.summary.by_code.items() if count}
    # Read from the raw rows: memory has them in order, and a reader of the file reports their defects.
    out_of_order = audited.pop("inconsistent_timestamps", 0)
    if audited != codes:
        raise Violation("report-is-true", f"the rows have the problems {dict(codes)}, and the audit counts {audited}")
    counted = report.summary.total - out_of_order, report.summary.errors, report.filtered_count
    if counted != (len(severities), errors, errors):
        raise Violation(
            "report-is-true",
            f"the rows have {len(severities)} problems, {errors} of them errors; the audit's summary has "
            f"{counted[0]} and {counted[1]}, and it shows {counted[2]} errors",
        )


def _problems(task: Mapping[str, Any], now_ms: int) -> list[tuple[str, str]]:
    """The problems of a task by the specification, as (severity, code); no worker is dead during the check."""
    found = []
    status, times = task["status"], (task["last_event_at"], task["started_at"], task["created_at"])
    age_ms = max(0, now_ms - next(time for time in times if time is not None))
    if age_ms >= _STALE_MS.get(status, age_ms + 1):
        found.append(("warn" if status == "queued" else "error", f"stale_{status}"))
    cleanup_after = task["cleanup_after"]
    if status == "lost":
        found.append(("warn" if cleanup_after is not None and cleanup_after > now_ms else "error", "lost"))
    elif status not in _ACTIVE and cleanup_after is None:
        found.append(("warn", "missing_cleanup"))
    if task["delivery_status"] == "failed" and task["notify_policy"] != "silent":
        found.append(("warn", "delivery_failed"))
    return found
