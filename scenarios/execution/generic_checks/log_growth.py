"""Whether the write-ahead log has a bound: the check ``log-stays-small`` for every target in WAL mode.

Method. Without a fault and without another reader, the small change is repeated until the log restarts: its header has
another salt, or the file is shorter or gone. Then there is a bound. If the log has grown to more than one and a half
times the automatic checkpoint's 1,000 pages, or the largest bound that the store's connections have set, and has not
restarted, a checkpoint from outside decides:

- it can't reach the end of the log: a reader of the store still uses an old state (a cursor that was not read to its
  end, a transaction that was left open), and the log grows as long as that reader exists: the check fails;
- it can, and each connection of the store has ``wal_autocheckpoint = 0``: no checkpoint would ever run: the check
  fails;
- otherwise the store checkpoints later, by its own rule, and passes.

Not judged: a store whose repeated small change writes nothing (its log, and the index beside it, which counts
transactions, stay as they are), and one that is too slow to get there in half a minute. Not covered: logs of attached
databases, and rivals that read (those bound the log themselves).
"""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tornpage import faults
from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.execution.generic_checks.open_connections import setting_of_each
from tornpage.scenarios.model.judging.checks import Violation

_DEFAULT_PAGES: Final = 1_000
_MOST_PAGES: Final = 4_000
_MOST_SECONDS: Final = 30.0
# So many changes in a row without a byte of log: the repeated change does nothing.
_IDLE_CHANGES: Final = 100
# The header of the log's index: it has the number of the last transaction, and the end of the log.
_INDEX_HEADER_BYTES: Final = 48
_HEADER_BYTES: Final = 32
_FRAME_HEADER_BYTES: Final = 24


def require_bounded(change: Callable[[], None], database: Path) -> int:
    """Repeat the small change until the log restarts, and return how often; raises `Violation` if it never does."""
    log = database.with_name(f"{database.name}-wal")
    before, seen, idle, made, until = _state(log), _written(log), 0, 0, time.monotonic() + _MOST_SECONDS
    bound = max([*setting_of_each(database.parent, "wal_autocheckpoint"), _DEFAULT_PAGES]) * 3 // 2
    if bound > _MOST_PAGES:
        return made
    while time.monotonic() < until:
        change()
        made += 1
        last, seen = seen, _written(log)
        idle = idle + 1 if seen == last else 0
        now = _state(log)
        if now[0] != before[0] or now[1] < before[1] or idle >= _IDLE_CHANGES:
            return made
        if now[1] > bound:
            _judge(database, now[1], made)
            return made
    return made


def _state(log: Path) -> tuple[bytes, int]:
    """The log's salts, which change when it restarts, and the number of pages it has room for."""
    try:
        with log.open("rb") as file:
            header = file.read(_HEADER_BYTES)
        size = log.stat().st_size
    except FileNotFoundError:
        return b"", 0
    if len(header) < _HEADER_BYTES:
        return b"", 0
    page_bytes = int.from_bytes(header[8:12], "big") or 65_536
    return header[12:24], max(size - _HEADER_BYTES, 0) // (page_bytes + _FRAME_HEADER_BYTES)


def _written(log: Path) -> tuple[bytes, int, int]:
    """What changes with each commit: the header of the log's index, or the log's time if the index is in memory."""
    index = log.with_name(f"{log.name.removesuffix('-wal')}-shm")
    with contextlib.suppress(FileNotFoundError), index.open("rb") as file:
        return file.read(_INDEX_HEADER_BYTES), 0, 0
    with contextlib.suppress(FileNotFoundError):
        stat = log.stat()
        return b"", stat.st_size, stat.st_mtime_ns
    return b"", 0, 0


def _judge(database: Path, pages: int, made: int) -> None:
    never = (own := setting_of_each(database.parent, "wal_autocheckpoint")) and not any(own)
    with contextlib.closing(faults.connect_unwatched(database)) as connection:
        try:
            _, logged, done = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error:
            return
    seen = f"after {made:,} small changes, with no other reader, the log has {pages:,} pages and has not restarted"
    if done < logged:
        raise Violation(
            "log-stays-small",
            f"{seen}: a reader of the store still uses the state of page {done:,}, such as a cursor that was "
            "not read to its end, or a transaction that was left open",
        )
    if never:
        why = "wal_autocheckpoint is 0 on each connection, and nothing else checkpoints"
        raise Violation("log-stays-small", f"{seen}: {why}")
