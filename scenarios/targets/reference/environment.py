"""The environment of the reference ledger: observers, workers, receivers, old files, another process, an older version.

All of it is simulated, deterministic and out of reach of armed faults. Real processes with real locks are covered by
the kill search and by the ledger's own tests.
"""

import contextlib
import errno
import hashlib
import itertools
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from tornpage import faults
from tornpage.faults.sqlite_library import sqlite3
from tornpage.ledger import Ledger, Task, UsageError
from tornpage.ledger.outbox import DeliveryFailed, Envelope
from tornpage.ledger.workers import Worker, Workers, checked_worker_id
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.target import View

_LEFT_BY_OTHERS: Final = {
    # A lost task from before lost tasks got a date to be pruned.
    "older_row": (
        "UPDATE tasks SET status = 'lost', cleanup_after = NULL, "
        "ended_at = max(:now, created_at, coalesce(started_at, created_at)), "
        "last_event_at = max(:now, created_at, coalesce(started_at, created_at)) "
        "WHERE task_id = :id"
    ),
    # A payload that no version of the ledger would write.
    "damaged_payload": "UPDATE message_outbox SET payload = '{' WHERE id = :id",
}


class Mirror:
    """An observer that rebuilds the tasks only from its notifications."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.was_told = False
        # The number of changes it was notified of; a restore does not count.
        self.changes = 0
        # Its notifications since the last check, for the model.
        self.heard: list[tuple[str, str, Task | None, Task | None]] = []
        # The ledger only logs what an observer raises, so the next check raises it.
        self.wrong: Violation | None = None

    def restored(self, tasks: tuple[Task, ...]) -> None:
        """Start from these."""
        self.was_told = True
        self.tasks = {task.task_id: task for task in tasks}

    def upserted(self, task: Task, previous: Task | None) -> None:
        """One more, or one that has changed from its known state."""
        self._compare(task.task_id, previous)
        if task == previous and self.wrong is None:
            said = f"{task.task_id}: notified of a change that is none, of {task}"
            self.wrong = Violation("observers-saw-exactly-the-commits", said)
        self.heard.append(("upserted", task.task_id, task, previous))
        self.tasks[task.task_id] = task

    def deleted(self, task_id: str, previous: Task | None) -> None:
        """One fewer."""
        self._compare(task_id, previous)
        self.heard.append(("deleted", task_id, None, previous))
        self.tasks.pop(task_id, None)

    def _compare(self, task_id: str, previous: Task | None) -> None:
        self.changes += 1
        if self.tasks.get(task_id) != previous and self.wrong is None:
            self.wrong = Violation(
                "observers-saw-exactly-the-commits",
                f"{task_id}: notified of a change from {previous}, after {self.tasks.get(task_id)}",
            )


class PretendedWorkers(Workers):
    """Workers without processes, the same in every session: they are alive, except during a boot.

    A pass over the outbox is alive as long as it runs, for every process that has the same database: it holds the name
    of a socket, which goes with its process and is not a file. (On a system without such names, in this session only.)
    Real locks of real processes are tested with the ledger.
    """

    def __init__(self, database: Path) -> None:
        super().__init__(None, new_id=lambda: "unnamed")
        self.booting = False
        self._database = str(database.resolve())
        self._passing: dict[str, socket.socket | None] = {}

    def hold(self, worker_id: str | None = None) -> Worker:
        """Begin a pass; under another name if one of this name is running."""
        chosen = wanted = worker_id or "unnamed"
        for number in itertools.count(2):
            try:
                self._passing[chosen] = self._named(chosen)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                chosen = f"{wanted}-{number}"
            else:
                break
        return Worker(self, chosen)

    def release(self, worker_id: str) -> None:
        """End a pass."""
        name = self._passing.pop(worker_id, None)
        if name is not None:
            name.close()

    def is_alive(self, worker_id: str) -> bool:
        """A pass while it runs, every other one outside a boot; never an id that no worker can have."""
        try:
            checked_worker_id(worker_id)
        except UsageError:
            return False
        if not worker_id.startswith("pass-"):
            return not self.booting
        if worker_id in self._passing:
            return True
        try:
            name = self._named(worker_id)
        except OSError:
            return True
        if name is not None:
            name.close()
        return False

    def _named(self, worker_id: str) -> socket.socket | None:
        """A socket with the name of a pass; raises `OSError` if there is one already. None: this system has none."""
        if sys.platform != "linux":
            return None
        digest = hashlib.sha256(f"{self._database} {worker_id}".encode()).hexdigest()
        name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            name.bind(f"\0tornpage-{digest}")
        except BaseException:
            name.close()
            raise
        return name

    def clean(self, referenced: Collection[str]) -> list[str]:  # noqa: ARG002 - there is nothing to clean
        """Nothing."""
        return []


def scribble(value: Any) -> None:
    """Change a JSON value in place, as its owner may: no other copy of it may change."""
    if isinstance(value, dict):
        value["scribbled"] = True
    elif isinstance(value, list):
        value.append("scribbled")


class ReceiverExits(BaseException):
    """What ends the process in which a receiver works, as Ctrl-C does."""


class Receiver:
    """Receives the messages, follows their payload, and keeps them until the next check."""

    def __init__(self) -> None:
        self._got: list[Envelope] = []
        # Acknowledges a message as another process.
        self.another: Callable[[str], object] | None = None
        # Lets so many milliseconds go by.
        self.takes: Callable[[int], object] | None = None

    def deliver(self, envelope: Envelope) -> None:
        """Receive a message; one whose payload has an error fails with it.

        One that `raises` fails with an error of another kind, which may have a word of its own on whether it is
        `permanent`, and one that `exits` ends the whole pass; for one that is
        acknowledged `elsewhere`, another process does so meanwhile; one that `takes_ms` advances the clock, or sets it
        back.
        """
        self._got.append(envelope)
        payload = envelope.payload
        if isinstance(payload, dict) and "takes_ms" in payload and self.takes is not None:
            self.takes(payload["takes_ms"])
        if isinstance(payload, dict) and "elsewhere" in payload and self.another is not None:
            self.another(envelope.id)
        if isinstance(payload, dict) and "exits" in payload:
            raise ReceiverExits
        if isinstance(payload, dict) and "raises" in payload:
            # With `odd`, a byte of a file name that is not UTF-8: text that no database can store as it is.
            error = RuntimeError(payload["raises"] + ("\udcff" if "odd" in payload else ""))
            if "permanent" in payload:
                error.permanent = payload["permanent"]  # type: ignore[attr-defined]  # as a library's own may have it
            raise error
        if isinstance(payload, dict) and "error" in payload:
            raise DeliveryFailed(str(payload["error"]), permanent=payload.get("permanent"))

    @property
    def got(self) -> list[Envelope]:
        """The messages since the last check."""
        return self._got

    def check(self, view: View) -> None:
        """Every copy has the key by which a receiver detects a second one. Raises `Violation`."""
        while self._got:
            envelope = self._got.pop()
            row = view.get(f"message/{envelope.id}")
            if row is not None and envelope.idempotency_key != (row["idempotency_key"] or envelope.id):
                raise Violation(
                    "no-duplicate-after-ack",
                    f"message {envelope.id} came with the idempotency key {envelope.idempotency_key!r}, so its "
                    "receiver can't detect a second copy",
                )


def left_by_others(database: Path, what: str, name: str, now_ms: int) -> None:
    """Change a row as an older version, or a damage, has left it."""
    with contextlib.closing(faults.connect_unwatched(database)) as connection:
        connection.execute(_LEFT_BY_OTHERS[what], {"id": name, "now": now_ms})


_KEYS: Final = {
    "tasks": "task_id",
    "task_delivery_state": "task_id",
    "task_history": "id",
    "message_outbox": "id",
    "agent_sessions": "session_id",
    "outbox_imports": "id",
}


def spoil(database: Path, table: str, key: str, column: str, value: Any) -> None:
    """Write a value that no version of the ledger would into one row, bypassing the schema's checks.

    A value with ``hex`` is a text of these bytes, which need not be UTF-8.
    """
    mark = "CAST(? AS TEXT)" if isinstance(value, dict) else "?"
    value = bytes.fromhex(value["hex"]) if isinstance(value, dict) else value
    if not column.isidentifier():
        raise ValueError(f"a column's name is an identifier, not {column!r}")
    with contextlib.closing(faults.connect_unwatched(database)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(f"UPDATE {table} SET {column} = {mark} WHERE {_KEYS[table]} = ?", (value, key))  # noqa: S608 - names that are checked


def text_or_bytes(raw: bytes) -> str | bytes:
    """A text of the database; the bytes of one that is not UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def runs_of_sessions(database: Path, sessions: Collection[str]) -> dict[str, str]:
    """The run of each of these sessions, read past the ledger."""
    with contextlib.closing(faults.connect_unwatched(database)) as connection:
        rows = connection.execute("SELECT session_id, run_id FROM agent_sessions").fetchall()
    return {session: run for session, run in rows if session in sessions}


# By which of its columns a row may be another call's, though it can't be read.
_KNOWN_BY: Final = {"message_outbox": "idempotency_key", "tasks": "run_id"}


def keys_of_unreadable(database: Path, table: str, view: View) -> dict[str, str]:
    """The idempotency keys of messages, or runs of tasks, that a view reports as unreadable, read past the ledger."""
    start = f"unreadable/{table}/"
    names = {key.removeprefix(start) for key in view if key.startswith(start)}
    if not names:
        return {}
    with contextlib.closing(faults.connect_unwatched(database)) as connection:
        connection.text_factory = text_or_bytes
        query = f"SELECT {_KEYS[table]}, {_KNOWN_BY[table]} FROM {table} WHERE {_KNOWN_BY[table]} IS NOT NULL"  # noqa: S608 - names of our own
        return {name: key for name, key in connection.execute(query).fetchall() if name in names}


def written_task(database: Path, task_id: str) -> dict[str, Any] | None:
    """A task as in its row, read past the ledger; None for no row."""
    with contextlib.closing(faults.connect_unwatched(database)) as connection:
        connection.text_factory = text_or_bytes
        cursor = connection.execute("SELECT * FROM tasks WHERE task_id = ?", (task_id,))
        row = cursor.fetchone()
        return None if row is None else dict(zip((column[0] for column in cursor.description), row, strict=True))


# For each scope that is in force what the variable was; the first one has the user's own.
_time_zones: list[str | None] = []


@contextlib.contextmanager
def far_from_utc() -> Iterator[None]:
    """A local time that differs from UTC, as a user's may: what a command shows, and a log says, is in UTC.

    Two callers may leave their scopes in the order in which they have entered them.
    """
    _time_zones.append(os.environ.get("TZ"))
    os.environ["TZ"] = "FAR-9"
    try:
        time.tzset()
        yield
    finally:
        own = _time_zones[0]
        _time_zones.pop()
        if not _time_zones:
            del os.environ["TZ"]
            if own is not None:
                os.environ["TZ"] = own
            time.tzset()


def run_command(
    argv: list[str], ledger: Ledger, state_dir: Path, clock: Callable[[], int], *, terminal: bool
) -> dict[str, Any]:
    """Run a command of the ledger's group in this process, in a pipe or on a terminal; return its output."""
    # They take long to load, and few sessions run a command.
    from click.testing import CliRunner  # noqa: PLC0415 - as above

    from tornpage.ledger.command import ledger_group  # noqa: PLC0415 - as above
    from tornpage.ledger.command.group import LedgerOptions  # noqa: PLC0415 - as above

    class Opener(LedgerOptions):
        """Replaces the options before a command: the ledger is open already."""

        @contextlib.contextmanager
        def opened(self) -> Iterator[Ledger]:
            with self.reporting():
                yield ledger

    group, *arguments = argv
    # Environment in which rich sees a terminal with room for every column.
    wide = {"FORCE_COLOR": "1", "COLUMNS": "300"} if terminal else {"FORCE_COLOR": None}
    opener = Opener(state_dir, None, 0, clock)
    with far_from_utc():
        done = CliRunner(env=wide).invoke(ledger_group.commands[group], arguments, obj=opener)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    is_json = "--json" in argv and done.stdout.strip()
    printed = msgspec.json.decode(done.stdout) if is_json else None
    lines = {"lines": done.stdout.splitlines(), "warnings": done.stderr.splitlines()}
    return {"exit": done.exit_code, "printed": printed, **lines}


class OfOneCall(threading.local):
    """How late a call is, how far its clock moves at each read, and its next id: two threads may call one session."""

    later_ms = 0
    tick_ms = 0
    next_id = "unnamed"


class Grumbler:
    """An observer that fails, and tries to change its arguments, if a task's label says so."""

    label: Final = "observer raises"

    def upserted(self, task: Task, previous: Task | None) -> None:
        """Fail in one way or the other."""
        if task.label == self.label:
            if previous is not None:
                raise RuntimeError("an observer has failed")
            task.label = "changed"  # type: ignore[misc] # that is what must not work

    def deleted(self, task_id: str, previous: Task | None) -> None:
        """Fail."""
        if previous is not None and previous.label == self.label:
            raise RuntimeError(f"an observer has failed on {task_id}")


def connect_as_another(place: str, *, uri: bool = False, **_options: Any) -> sqlite3.Connection:
    """A connection like another process's: out of reach of armed faults."""
    path = unquote(place.removeprefix("file://").partition("?")[0]) if uri else place
    return faults.connect_unwatched(Path(path))


def visit(database: Path) -> None:
    """Let another process open the database, read it and close it, so that no locks are shared."""
    code = (
        "import contextlib, sqlite3, sys\n"
        "with contextlib.closing(sqlite3.connect(sys.argv[1])) as connection:\n"
        "    connection.execute('SELECT count(*) FROM tasks').fetchall()\n"
    )
    subprocess.run([sys.executable, "-I", "-c", code, str(database)], check=True)  # noqa: S603 - the code above
