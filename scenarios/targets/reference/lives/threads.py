"""A ledger and another thread of its process: beside an open batch, and while the ledger calls foreign code.

A call of another thread waits for the end of a batch, sees nothing of it before, and is no part of it. Runtimes and
receivers are called with no lock held: another thread's call returns meanwhile. Whether it waits is seen at the lock.

Not covered: observers, which are called with the lock held.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from msgspec.structs import asdict

from tornpage.ledger import Ledger, LedgerError, Runtime
from tornpage.ledger.disk.connections import Settings
from tornpage.ledger.disk.database import Database
from tornpage.scenarios.targets.reference.lives.openings import place


def _in_a_batch(ledger: Ledger) -> Any:
    with ledger.batch():
        return ledger.tasks.set_notify_policy("there", "state_changes")


_PATIENCE_S: Final = 10.0
_HOUR_MS: Final = 3_600_000

_CALLS: Final[dict[str, Callable[[Ledger], Any]]] = {
    "get": lambda ledger: ledger.tasks.get("new"),
    "get_delivery": lambda ledger: ledger.tasks.get_delivery("new"),
    "list": lambda ledger: ledger.tasks.list(),
    "list_for_owner": lambda ledger: ledger.tasks.list_for_owner("me"),
    "list_by_run": lambda ledger: ledger.tasks.list_by_run("run"),
    "list_by_parent_flow": lambda ledger: ledger.tasks.list_by_parent_flow("flow"),
    "list_for_session": lambda ledger: ledger.tasks.list_for_session("me"),
    "list_fresh_for_owner": lambda ledger: ledger.tasks.list_fresh_for_owner("me"),
    "find": lambda ledger: ledger.tasks.find("run"),
    "quarantined": lambda ledger: ledger.tasks.quarantined(),
    "audit": lambda ledger: ledger.audit(),
    "history.get": lambda ledger: ledger.history.get("run"),
    "history.list": lambda ledger: ledger.history.list(),
    "history.get_session": lambda ledger: ledger.history.get_session("session"),
    "history.list_sessions": lambda ledger: ledger.history.list_sessions(),
    "outbox.get": lambda ledger: ledger.outbox.get("new"),
    "outbox.list": lambda ledger: ledger.outbox.list(),
}
"""Calls whose answer depends on what the batch changes, which is undone."""

_CHANGES: Final[dict[str, Callable[[Ledger], Any]]] = {
    "progress": lambda ledger: ledger.tasks.progress("there", "half way"),
    "enqueue": lambda ledger: ledger.outbox.enqueue(message_id="theirs", channel="mail", target="you", payload={}),
    "prune": lambda ledger: ledger.outbox.prune(1),
    "batch": _in_a_batch,
    "restore": lambda ledger: ledger.tasks.restore(),
    "preview": lambda ledger: ledger.maintenance(),
    "maintenance": lambda ledger: ledger.maintenance(apply=True),
    "recover": lambda ledger: ledger.recover(),
    "outbox.recover": lambda ledger: ledger.outbox.recover(lambda _: None),
    "import_legacy": lambda ledger: ledger.outbox.import_legacy(Path(ledger.database.path).parent),  # type: ignore[union-attr] # it is on SQLite
}
"""Calls that wait, too, and are made after the batch; some of them are refused inside one, and not beside it."""


class _UndoneError(Exception):
    """Ends a batch."""


class _SeenLock:
    """A re-entrant lock that tells when a thread has to wait for it."""

    def __init__(self, waits: threading.Event) -> None:
        self._lock = threading.RLock()
        self._waits = waits

    def acquire(self) -> bool:
        if not self._lock.acquire(blocking=False):
            self._waits.set()
            self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class _Another:
    """Another thread, which makes one call."""

    def __init__(self, seen: threading.Event, make: Callable[[], Any]) -> None:
        self.answer: Any = None
        self.has_answered = False
        self._make = make
        self._seen = seen
        # It is released if it never returns: the process must be able to end.
        self._thread = threading.Thread(target=self._run, daemon=True)

    def go(self) -> bool:
        """Start it, until it has returned or waits for the lock; whether it has returned."""
        self._seen.clear()
        self._thread.start()
        self._seen.wait(_PATIENCE_S)
        return self.has_answered

    def end(self) -> Any:
        """Wait for it; its answer, or the error that it raised or that it has not returned."""
        self._thread.join(_PATIENCE_S)
        return self.answer if self.has_answered else TimeoutError("the call has not returned")

    def _run(self) -> None:
        try:
            self.answer = self._make()
        except Exception as error:  # noqa: BLE001 - it is compared
            self.answer = error
        self.has_answered = True
        self._seen.set()


class _Place:
    """A ledger with real rows, and what is seen of its lock."""

    def __init__(self, directory: Path, clock: Callable[[], int]) -> None:
        self.seen = seen = threading.Event()
        self.late_ms = 0
        # What foreign code does.
        self.foreign: Callable[[], object] = lambda: None

        class SeenDatabase(Database):
            def __init__(self, settings: Settings) -> None:
                super().__init__(settings)
                self.lock = _SeenLock(seen)  # type: ignore[misc, assignment] # the ledger takes it from here

        def hook(_task: Any) -> bool:
            self.foreign()
            return True

        hooks = {Runtime.ACP: hook}
        self.next_id = "there"
        self.ledger = Ledger.open(
            directory,
            clock=lambda: clock() + self.late_ms,
            new_id=self._new_id,
            database=SeenDatabase,
            control_hooks=hooks,
            session_hooks=hooks,
        )
        self.ledger.tasks.create(runtime="acp", owner_key="me", task="there")
        self.next_id = "new"

    def _new_id(self) -> str:
        return self.next_id

    def another(self, call: Callable[[Ledger], Any]) -> _Another:
        """Another thread that makes this call."""
        return _Another(self.seen, lambda: call(self.ledger))


def beside(home: Path, clock: Callable[[], int]) -> list[str]:
    """What was wrong with another thread's calls; empty if nothing was."""
    with place(home) as directory:
        there = _Place(directory, clock)
        with contextlib.closing(there.ledger):
            return [
                *_beside_batches(there),
                *_beside_foreign_code(there),
                *_beside_removals(there),
                *_closing_beside(there),
            ]


def _beside_batches(there: _Place) -> Iterator[str]:
    for name, call in {**_CALLS, **_CHANGES}.items():
        other = there.another(call)
        with contextlib.suppress(_UndoneError), there.ledger.batch():
            _change(there.ledger)
            has_answered = other.go()
            raise _UndoneError
        answer = other.end()
        if has_answered:
            yield f"{name} of another thread did not wait for a batch, and answered {answer!r}"
        elif isinstance(answer, Exception) or (name in _CALLS and answer != call(there.ledger)):
            yield f"{name} of another thread waited for a batch that was undone, and answered {answer!r}"
    task, sent = there.ledger.tasks.get("there"), there.ledger.outbox.get("theirs")
    if task is None or (task.progress_summary, task.notify_policy) != ("half way", "state_changes") or sent is None:
        yield f"what another thread changed after a batch that was undone is not there: {task}, {sent}"


def _change(ledger: Ledger) -> None:
    made = ledger.tasks.create(
        runtime="cli", owner_key="me", parent_flow_id="flow", task="new", requester_origin={"a": 1}
    )
    worker = ledger.workers.hold("w")
    ledger.history.start(made.task_id, worker_id=worker.id, run_id="run")
    worker.retire()
    ledger.history.open_session("run", "session")
    ledger.outbox.enqueue(message_id="new", channel="mail", target="you", payload={})


def _beside_foreign_code(there: _Place) -> Iterator[str]:
    ledger = there.ledger
    waited: list[str] = []

    def look(name: str) -> None:
        other = there.another(lambda one: one.tasks.list())
        if not other.go():
            waited.append(f"another thread waits for the lock while {name} calls foreign code")

    there.late_ms = _HOUR_MS
    ledger.outbox.enqueue(channel="mail", target="you", payload={})
    for name, make in (
        ("audit", ledger.audit),
        ("preview", ledger.maintenance),
        ("maintenance", lambda: ledger.maintenance(apply=True)),
        ("cancel", lambda: ledger.tasks.cancel("there")),
        ("outbox.recover", lambda: ledger.outbox.recover(lambda _: there.foreign())),
    ):
        there.foreign = lambda name=name: look(name)  # type: ignore[misc]
        make()
    yield from waited


def _beside_removals(there: _Place) -> Iterator[str]:
    """While a pass delivers one message, all are acknowledged and pruned: the pass ends as if they had never been."""
    outbox = there.ledger.outbox
    names = ["own", "next"]
    sent: list[str] = []

    def remove(envelope: Any) -> None:
        sent.append(envelope.id)
        for name in names:
            outbox.ack(name)
        there.late_ms += 2
        outbox.prune(1)

    for name in names:
        outbox.enqueue(message_id=name, channel="mail", target="you", payload={})
    try:
        done = outbox.recover(remove)
    except LedgerError as error:
        yield f"a message that is removed while a pass delivers ends the pass: {error!r}"
        return
    if sent != ["own"] or any(asdict(done).values()) or outbox.list():
        yield f"two messages were removed while a pass delivered the first: {sent} were sent, and it says {done}"


def _closing_beside(there: _Place) -> Iterator[str]:
    """Another thread's `close` waits for the end of a batch, which is made: the last call of a place."""
    ledger = there.ledger
    other = there.another(lambda one: one.close())
    there.next_id = "last"
    try:
        with ledger.batch():
            ledger.tasks.create(runtime="cli", owner_key="me", task="last")
            if other.go():
                yield f"close of another thread did not wait for a batch: {other.answer!r}"
    except LedgerError as error:
        yield f"a batch beside another thread's close raises {error!r}"
    if (answer := other.end()) is not None:
        yield f"close of another thread waited for a batch, and answered {answer!r}"
