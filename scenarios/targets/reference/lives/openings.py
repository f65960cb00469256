"""Openings of a ledger in a directory of its own: the files before, the options, and the result."""

import contextlib
import os
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal
from unittest import mock

from tornpage.ledger import Ledger, LedgerError
from tornpage.ledger.disk import connections
from tornpage.ledger.disk.files import DATABASE_NAME
from tornpage.ledger.disk.schema import FENCE, MIGRATIONS
from tornpage.ledger.upkeep.upkeep import audit_file
from tornpage.scenarios.model.target import TargetError

_ANOTHER_USER: Final = 12_345
_JOURNAL_MAGIC: Final = bytes.fromhex("d9d505f920a163d7")
_PRAGMAS: Final = (
    "journal_mode", "synchronous", "foreign_keys", "busy_timeout", "wal_autocheckpoint", "ignore_check_constraints",
)  # fmt: skip


def _ledger(directory: Path) -> Path:
    with contextlib.closing(Ledger.open(directory)) as ledger:
        ledger.tasks.create(runtime="cli", owner_key="me", task="kept")
    return directory / DATABASE_NAME


def _bytes(directory: Path, content: bytes) -> None:
    directory.mkdir()
    (directory / DATABASE_NAME).write_bytes(content)
    # As by a program with a common umask.
    (directory / DATABASE_NAME).chmod(0o644)
    directory.chmod(0o755)


def _changed(directory: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(_ledger(directory))) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def _damaged(directory: Path) -> None:
    path = _ledger(directory)
    content = bytearray(path.read_bytes())
    content[4096 : 2 * 4096] = b"\xff" * 4096
    path.write_bytes(content)


def _index_differs(directory: Path) -> None:
    """An index has an entry of a removed row: no page is damaged, and SQLite reads it without an error."""
    path = _ledger(directory)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        index = connection.execute(
            "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL "
            "AND name = 'tasks_by_owner'"
        ).fetchone()
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("DELETE FROM sqlite_master WHERE name = ?", (index[1],))
        connection.commit()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM tasks")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", index)
        connection.commit()


def _log_to_a_link(directory: Path) -> None:
    _ledger(directory)
    (directory / f"{DATABASE_NAME}-wal").symlink_to(directory / "elsewhere")


def _link(directory: Path) -> None:
    path = _ledger(directory)
    path.symlink_to(path.rename(directory / "elsewhere"))


def _given_away(path: Path) -> None:
    """The file belongs to another user. Only root can do that; otherwise it is a link, which is refused as well."""
    if os.geteuid() == 0:
        os.chown(path, _ANOTHER_USER, _ANOTHER_USER)
    else:
        path.symlink_to(path.rename(path.with_name("elsewhere")))


def _wide(directory: Path) -> None:
    _ledger(directory).chmod(0o644)
    # SQLite itself makes an empty index private.
    for suffix, content in (("-journal", b""), ("-shm", bytes(100))):
        path = directory / f"{DATABASE_NAME}{suffix}"
        path.write_bytes(content)
        path.chmod(0o644)
    directory.chmod(0o755)


def _with_log(
    directory: Path,
    *versions: int | None,
    change: Callable[[bytes], bytes] = bytes,
    more: str = "SELECT 1",
    page_bytes: int | None = None,
) -> None:
    """A ledger whose process died with these schema versions in its log, one after the other; None: its own.

    Each comes in one transaction with the statement `more`. `page_bytes`: pages of another size than SQLite's own.
    """
    path = _ledger(directory)
    log = directory / f"{DATABASE_NAME}-wal"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        own = connection.execute("PRAGMA user_version").fetchone()[0]
        if page_bytes is not None:
            connection.execute("PRAGMA journal_mode = delete")
            connection.execute(f"PRAGMA page_size = {page_bytes}")
            connection.execute("VACUUM")
            connection.execute("PRAGMA journal_mode = wal")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        for version in versions:
            connection.execute("BEGIN")
            connection.execute(f"PRAGMA user_version = {own if version is None else version}")
            connection.execute(more)
            connection.execute("COMMIT")
        content = path.read_bytes(), log.read_bytes()
    path.write_bytes(content[0])
    log.write_bytes(change(content[1]))


_TASK: Final[Mapping[str, Any]] = {
    "task_id": "old", "runtime": "acp", "requester_session_key": "you", "owner_key": "me", "scope_kind": "system",
    "task": "kept", "status": "failed", "delivery_status": "failed", "notify_policy": "state_changes", "created_at": 5,
    "task_kind": "k", "source_id": "s", "child_session_key": "c", "parent_flow_id": "f", "parent_task_id": "p",
    "agent_id": "a", "requester_agent_id": "ra", "run_id": "r", "label": "l", "started_at": 6, "ended_at": 7,
    "last_event_at": 8, "cleanup_after": 253_370_764_800_000, "error": "e", "progress_summary": "half",
    "terminal_summary": "all", "terminal_outcome": "blocked",
}  # fmt: skip
_RUN: Final[Mapping[str, Any]] = {
    "id": "r", "task_id": "old", "worker_id": "w", "status": "failure", "started_at": 6, "repo": "re",
    "issue_number": 1, "user": "u", "agent": "a", "agent_type": "t", "model": "m", "provider": "p", "finished_at": 7,
    "cost_usd": 0.5, "tokens_in": 2, "tokens_out": 3, "turns": 4, "artifacts": "[1]", "reason": "e",
}  # fmt: skip
_STATE: Final = {"task_id": "old", "requester_origin": '{"a": 1}', "last_notified_event_at": 7}
_SESSION: Final = {"session_id": "s", "run_id": "r", "valid": 0, "invalidated_at": 7, "reason": "x"}
_RUNS_NOW: Final[Mapping[str, Any]] = {
    **_TASK, "task_id": "running", "status": "running", "run_id": "now", "ended_at": None, "cleanup_after": None,
    "terminal_summary": None, "terminal_outcome": None,
}  # fmt: skip
_RUN_NOW: Final[Mapping[str, Any]] = {
    **_RUN, "id": "now", "task_id": "running", "status": "running", "finished_at": None,
}  # fmt: skip
_TASKS: Final = (_TASK, _RUNS_NOW, {**_RUNS_NOW, "task_id": "queued", "status": "queued", "run_id": None})
_OF_A_VERSION: Final[Mapping[int, Mapping[str, Sequence[Mapping[str, Any]]]]] = {
    1: {"tasks": _TASKS, "task_delivery_state": [_STATE]},
    2: {
        "tasks": _TASKS, "task_delivery_state": [_STATE], "task_history": [_RUN, _RUN_NOW],
        "agent_sessions": [_SESSION],
    },
}  # fmt: skip


def lost_rows(directory: Path, before: str) -> list[Any]:
    """What a migration has changed of the rows of an older version; new columns don't matter."""
    version = before.removeprefix("version ")
    if not version.isdigit():
        return []
    lost = list[Any]()
    with contextlib.closing(sqlite3.connect(directory / DATABASE_NAME)) as connection:
        for table, rows in _OF_A_VERSION[int(version)].items():
            names = ", ".join(rows[0])
            found = connection.execute(f"SELECT {names} FROM {table} ORDER BY insertion").fetchall()  # noqa: S608
            lost += [] if found == [tuple(row.values()) for row in rows] else [table, found]
    return lost


def _of_version(directory: Path, version: int) -> None:
    """A ledger of an older version, with rows in each table, one of which has a value in each column."""
    directory.mkdir()
    with contextlib.closing(sqlite3.connect(directory / DATABASE_NAME, isolation_level=None)) as connection:
        for statement in (one for steps in MIGRATIONS[:version] for one in steps):
            connection.execute(statement)
        for table, rows in _OF_A_VERSION[version].items():
            for row in rows:
                names, marks = ", ".join(row), ", ".join("?" * len(row))
                connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", [*row.values()])  # noqa: S608
        connection.execute(f"PRAGMA user_version = {version}")


def _hot_journal(directory: Path, before: int | None = None, meanwhile: int = 99) -> None:
    """A process has died in the middle of a change of the first page, in a rollback mode; its journal has the old one.

    What the page says meanwhile, here a newer schema, was never committed. https://sqlite.org/fileformat2.html, 3.
    `before` is the version in the journal, by default the ledger's own.
    """
    path = _ledger(directory)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = delete")
    content = path.read_bytes()
    if before is not None:
        content = _with_version(content, before)
    size = int.from_bytes(content[16:18], "big")
    page, number = content[:size], (1).to_bytes(4, "big")
    checksum = sum(page[at] for at in range(size - 200, 0, -200))
    header = (number, bytes(4), (len(content) // size).to_bytes(4, "big"), (512).to_bytes(4, "big"),
              size.to_bytes(4, "big"))  # fmt: skip
    journal = (_JOURNAL_MAGIC + b"".join(header)).ljust(512, b"\0") + number + page + checksum.to_bytes(4, "big")
    path.with_name(f"{DATABASE_NAME}-journal").write_bytes(journal)
    path.write_bytes(_with_version(content, meanwhile))


def _with_version(content: bytes, version: int) -> bytes:
    return content[:60] + version.to_bytes(4, "big") + content[64:]


def _beside(directory: Path, before: str, journal: bytes) -> None:
    """Something that is refused, and a journal that has ended: of SQLite's mode persist, or of truncate."""
    BEFORE[before](directory)
    (directory / f"{DATABASE_NAME}-journal").write_bytes(journal)


def _read_only_beside(directory: Path, before: str, side: str) -> None:
    """A file beside the database that its owner may not write; it is made where there is none."""
    BEFORE[before](directory)
    path = directory / f"{DATABASE_NAME}-{side}"
    path.touch()
    path.chmod(0o400)


def _log_alone(directory: Path) -> None:
    _with_log(directory, 99)
    (directory / DATABASE_NAME).unlink()


def _in_the_place(directory: Path, side: str, make: Callable[[Path], object]) -> None:
    """Something else than a file beside the database."""
    make(_ledger(directory).with_name(f"{DATABASE_NAME}-{side}"))


def _flipped(content: bytes, at: int) -> bytes:
    changed = bytearray(content)
    changed[at] ^= 1
    return bytes(changed)


def _of_another_machine(log: bytes) -> bytes:
    """The log as a machine of the other byte order writes it: its checksums are over words of that order.

    https://sqlite.org/fileformat2.html#walformat
    """
    head = _flipped(log[:24], 3)
    order: Literal["big", "little"] = "big" if head[3] & 1 else "little"
    sums = _sums(head, (0, 0), order)
    changed = [head, *_as_bytes(sums)]
    size = 24 + int.from_bytes(head[8:12], "big")
    for at in range(32, len(log), size):
        frame = log[at : at + size]
        sums = _sums(frame[:8] + frame[24:], sums, order)
        changed += [frame[:16], *_as_bytes(sums), frame[24:]]
    return b"".join(changed)


def _sums(content: bytes, sums: tuple[int, int], order: Literal["big", "little"]) -> tuple[int, int]:
    first, second = sums
    for at in range(0, len(content), 8):
        first = (first + int.from_bytes(content[at : at + 4], order) + second) % 2**32
        second = (second + int.from_bytes(content[at + 4 : at + 8], order) + first) % 2**32
    return first, second


def _as_bytes(sums: tuple[int, int]) -> list[bytes]:
    return [one.to_bytes(4, "big") for one in sums]


# A log begins with a header of 32 bytes; each frame has 24 before its page.
_SALT_OF_A_FRAME: Final = 32 + 8
_IN_A_PAGE: Final = 32 + 24 + 100
_LOGS: Final[Mapping[str, Callable[[Path], Any]]] = {
    "log": lambda directory: _with_log(directory, None, 7, None),
    "newer in its log": lambda directory: _with_log(directory, 99),
    "log of another machine": lambda directory: _with_log(directory, None, change=_of_another_machine),
    "newer in a log of another machine": lambda directory: _with_log(directory, 99, change=_of_another_machine),
    "newer in a log of small pages": lambda directory: _with_log(directory, 99, page_bytes=512),
    "newer in a log of large pages": lambda directory: _with_log(directory, 99, page_bytes=65_536),
    "newer late in its log": lambda directory: _with_log(directory, 7, None, 99),
    "newer for a while": lambda directory: _with_log(directory, 99, None),
    "newer with junk after it": lambda directory: _with_log(directory, 99, change=lambda log: log + b"x" * 50),
    "newer in a torn frame": lambda directory: _with_log(directory, 99, change=lambda log: log[:-10]),
    # The first of two frames, of which the last one is the commit.
    "newer without its commit": lambda directory: _with_log(
        directory, 99, change=lambda log: log[: 32 + (len(log) - 32) // 2], more=FENCE
    ),
    "newer in an old frame": lambda directory: _with_log(
        directory, 99, change=lambda log: _flipped(log, _SALT_OF_A_FRAME)
    ),
    "newer in a wrong frame": lambda directory: _with_log(directory, 99, change=lambda log: _flipped(log, _IN_A_PAGE)),
    "newer in a log that is none": lambda directory: _with_log(directory, 99, change=lambda log: _flipped(log, 0)),
    "newer in a wrong log": lambda directory: _with_log(directory, 99, change=lambda log: _flipped(log, 13)),
    "newer in a log with a torn head": lambda directory: _with_log(directory, 99, change=lambda log: _flipped(log, 27)),
    "log alone": _log_alone,
    "short log": lambda directory: _with_log(directory, 99, change=lambda log: log[:20]),
}
BEFORE: Final[Mapping[str, Callable[[Path], Any]]] = {
    **_LOGS,
    "nothing": lambda _: None,
    "directory": lambda directory: directory.mkdir(),
    "ledger": _ledger,
    "wide": _wide,
    "empty": lambda directory: _bytes(directory, b""),
    "text": lambda directory: _bytes(directory, b"no database, " * 20),
    "short": lambda directory: _bytes(directory, b"SQLite format 3\x00"),
    "newer": lambda directory: _changed(directory, "PRAGMA user_version = 99"),
    "damaged": _damaged,
    "index differs": _index_differs,
    "link": _link,
    "log is a link": _log_to_a_link,
    "no file": lambda directory: (directory / DATABASE_NAME).mkdir(parents=True),
    "read-only": lambda directory: _ledger(directory).chmod(0o400),
    "read-only directory": lambda directory: _ledger(directory).parent.chmod(0o500),
    "sticky": lambda directory: _ledger(directory).parent.chmod(0o1755),
    "of a group": lambda directory: _ledger(directory).parent.chmod(0o2770),
    "shared": lambda directory: _ledger(directory).parent.chmod(0o1777),
    "file": lambda directory: directory.write_text("no directory"),
    "other mode": lambda directory: _changed(directory, "PRAGMA journal_mode = delete"),
    "version 1": lambda directory: _of_version(directory, 1),
    "version 2": lambda directory: _of_version(directory, 2),
    "hot journal": _hot_journal,
    **{
        f"{before}, {mode}": partial(_beside, before=before, journal=journal)
        for before in ("text", "short", "newer", "other mode")
        for mode, journal in (("persist", bytes(512)), ("truncate", b""))
    },
    "newer before a hot journal": lambda directory: _hot_journal(directory, before=99, meanwhile=1),
    "index is a pipe": lambda directory: _in_the_place(directory, "shm", os.mkfifo),
    "index is a directory": lambda directory: _in_the_place(directory, "shm", Path.mkdir),
    "log is a directory": lambda directory: _in_the_place(directory, "wal", Path.mkdir),
    "journal is a directory": lambda directory: _in_the_place(directory, "journal", Path.mkdir),
    "of another": lambda directory: _given_away(_ledger(directory)),
    **{
        f"{side} is read-only": partial(_read_only_beside, before=before, side=side)
        for before, side in (("log", "wal"), ("ledger", "shm"), ("hot journal", "journal"))
    },
}
"""What may be in a directory before a ledger is opened there, by its name."""


@contextlib.contextmanager
def place(home: Path) -> Iterator[Path]:
    """A state directory that isn't there yet, in a home that is made and goes."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(mode=0o700)
    try:
        yield home / "state"
    finally:
        if (home / "state").is_dir():
            (home / "state").chmod(0o700)
        shutil.rmtree(home, ignore_errors=True)


def too_old(home: Path, *, before: str, needs: Sequence[int]) -> Any:
    """The result of an opening, and of a look, by a ledger that `needs` so new an SQLite.

    The errors, whether they name the version that was found and the one that is needed, and whether all was left
    unchanged.
    """
    known = sqlite3.sqlite_version, ".".join(map(str, needs))
    with place(home) as directory, mock.patch.object(connections, "NEEDED_SQLITE", tuple(needs)):
        with mock.patch.object(connections, "NEEDED_SQLITE", (0,)):
            BEFORE[before](directory)
        content, errors = contents(directory), []
        for look in (Ledger.open, audit_file):
            try:
                look(directory)
            except LedgerError as error:
                errors.append([type(error).__name__, all(one in str(error) for one in known)])
        return {"errors": errors, "left": contents(directory) == content}


# The checkpoints that wait until others have read, or written, what they began to.
_WAITING: Final = ("FULL", "RESTART", "TRUNCATE")


def opening(
    home: Path,
    *,
    before: str,
    under: str = "",
    named: str = "",
    reader: bool = False,
    idle: bool = False,
    **options: Any,
) -> Any:
    """The result of an opening: facts of the open ledger, or the error, and whether the file was left unchanged.

    `before` names the existing files, `under` a path below the requested state directory, `named` its own name, if
    that matters; with `reader` another connection reads all the time, with `idle` it only has the file open; the
    options are those of `Ledger.open`.
    """
    if before not in BEFORE:
        raise TargetError(f"there is no such beginning: {before!r}; there are {', '.join(BEFORE)}")
    with place(home) as parent:
        if named:
            parent.mkdir()
        directory = parent / named
        BEFORE[before](directory)
        state_dir = options.pop("state_dir", directory / under)
        content = contents(directory)
        new = [one for one in (Path(state_dir), *Path(state_dir).parents) if not one.exists()]
        synced: set[tuple[int, int]] = set()
        try:
            with _syncs(synced), mock.patch.object(os, "access", _access):
                ledger = Ledger.open(state_dir, **options)
        except LedgerError as error:
            return {"error": type(error).__name__, "left": contents(directory) == content}
        with contextlib.ExitStack() as scope:
            scope.enter_context(contextlib.closing(ledger))
            if reader or idle:
                other = scope.enter_context(contextlib.closing(sqlite3.connect(directory / under / DATABASE_NAME)))
                other.isolation_level = None
                other.execute("BEGIN")
                other.execute("SELECT count(*) FROM tasks").fetchall()
                if idle:
                    other.execute("ROLLBACK")
            lost = lost_rows(directory, before)
            # Without that a power cut may take a new directory away, with all that is in it.
            durable = ledger.durability.value == "none" or {_identity(one.parent.stat()) for one in new} <= synced
            facts = {**_facts(ledger, directory / under), "lost rows": lost, "new directories last": durable}
            if not reader:
                facts["in the file alone"] = _in_the_file(directory / under / DATABASE_NAME)
            ledger.close()
            return facts | _after(ledger, directory / under / DATABASE_NAME)


def _access(path: Path, wanted: int) -> bool:
    """What the owner of a file may do; root may do everything."""
    return path.stat().st_mode >> 6 & wanted == wanted


@contextlib.contextmanager
def _syncs(synced: set[tuple[int, int]]) -> Iterator[None]:
    """Add each file and directory that is synced in this scope."""
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        fsync(descriptor)
        synced.add(_identity(os.fstat(descriptor)))

    with mock.patch.object(os, "fsync", watched):
        yield


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def contents(directory: Path) -> list[Any]:
    """What is in the database, and in its log; and who may use them and their directory."""
    files = [directory / f"{DATABASE_NAME}{side}" for side in ("", "-wal")]
    modes = [one.stat().st_mode for one in (directory, *files) if one.exists()]
    return [*modes, *(file.read_bytes() for file in files if file.is_file())]


def _facts(ledger: Ledger, place: Path) -> dict[str, Any]:
    connection = ledger.database.connection if ledger.database is not None else None
    begun_ms = time.time_ns() // 1_000_000
    task = ledger.tasks.create(runtime="cli", owner_key="me", task="new")
    is_in_time = begun_ms <= task.created_at <= time.time_ns() // 1_000_000
    with ledger.workers.hold("runner") as runner:
        run = ledger.history.start(task.task_id, worker_id=runner.id)
    return {
        # Of what older versions had no place for.
        "a run": run.status.value,
        "a message": ledger.outbox.enqueue(channel="mail", target="me", payload={}).status.value,
        "pragmas": {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in _PRAGMAS},  # type: ignore[union-attr] # it is on SQLite
        "durability": ledger.durability.value,
        "tasks": len(ledger.tasks.list()),
        "ids": [str(uuid.UUID(one)) == one for one in (task.task_id, run.id)],
        "in time": is_in_time,
        "directory": f"{place.stat().st_mode & 0o7777:o}" if place.is_dir() else None,
        "files": sorted({f"{one.stat().st_mode & 0o7777:o}" for one in place.glob(f"{DATABASE_NAME}*")}),
        **_kept_up(ledger, connection),
        "worker": _worker(ledger, place / "workers" / "one.lock"),
    }


def _kept_up(ledger: Ledger, connection: Any) -> dict[str, Any]:
    """Whether maintenance has copied the whole log, and whether it would have waited for others to do so."""
    made: list[str] = []
    connection.set_trace_callback(made.append)
    try:
        copied = ledger.maintenance(apply=True).checkpointed
    finally:
        connection.set_trace_callback(None)
    waits = [one for one in made if "wal_checkpoint" in one and any(kind in one.upper() for kind in _WAITING)]
    return {"checkpointed": copied, "waits to checkpoint": bool(waits)}


def _worker(ledger: Ledger, lock: Path) -> list[Any]:
    """A living worker, who may read its lock, and that it is dead and its file removed afterwards."""
    with ledger.workers.hold("one"):
        private = [f"{one.stat().st_mode & 0o7777:o}" for one in (lock.parent, lock) if one.exists()]
        alive = ledger.workers.is_alive("one")
    return [alive, private, ledger.workers.is_alive("one"), ledger.workers.clean([])]


def _in_the_file(path: Path) -> int | None:
    """How many tasks the database has without its log; None without a database."""
    if not path.exists():
        return None
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM tasks").fetchone()[0])


def _after(ledger: Ledger, path: Path) -> dict[str, Any]:
    """The files after closing it, twice; only a reader may also have the file open."""
    ledger.close()
    try:
        ledger.tasks.list()
        answer = "it answers"
    except LedgerError as error:
        answer = type(error).__name__
    log = path.with_name(f"{DATABASE_NAME}-wal")
    return {"closed": answer, "log": log.exists() and log.stat().st_size > 0}
