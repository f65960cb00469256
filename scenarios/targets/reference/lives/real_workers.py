"""Workers with the system's own locks: how each lives and dies, and how a recovery treats dead ones."""

import contextlib
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from unittest import mock

from tornpage.ledger import Ledger, LedgerError, StoreBusy
from tornpage.ledger.disk.files import DATABASE_NAME
from tornpage.ledger.upkeep.upkeep import Upkeep, preview_file
from tornpage.ledger.workers import DIRECTORY_NAME, Worker, Workers
from tornpage.scenarios.targets.reference.environment import spoil

_THERE: Final = "there "


def life_of_workers(directory: Path, calls: list[list[Any]], place: str = "directory") -> list[Any]:
    """Calls on real workers, with locks of the system; returns answers, or names of errors.

    In a directory of their own (`place`), in memory, or where a file or a link takes the directory's place. Beside the
    methods of `Workers` there are ``link``, an invalid lock file, and ``ask_together``, a query while another thread
    makes the same one. The answer of ``retire`` is whether the lock was held until the file was removed.
    ``hold_without_locks`` is refused, and leaves nothing. A name that begins with ``there`` is for another directory.
    """
    there = directory.with_name(f"{directory.name}-there")
    all_workers = {
        where: Workers(None if place == "memory" else where, new_id=lambda: "unnamed") for where in (directory, there)
    }
    if place == "file":
        directory.write_bytes(b"")
    elif place == "link":
        directory.symlink_to(directory.parent, target_is_directory=True)
    try:

        def make(name: str, argument: Any) -> Any:
            where = there if name.startswith(_THERE) else directory
            return _made(all_workers[where], where, name.removeprefix(_THERE), argument)

        return _answers(calls, make)
    finally:
        if place in ("file", "link"):
            directory.unlink()
        for one in (directory, there):
            shutil.rmtree(one, ignore_errors=True)


def life_of_a_ledger(directory: Path, clock: Callable[[], int], calls: list[list[Any]]) -> list[Any]:
    """Calls on a ledger whose workers are real: they start runs, lease messages and die.

    ``start`` and ``claim`` give a worker something to do, ``take_over`` the work of a dead one; ``spoil`` makes the
    rows of its runs unreadable. ``recover`` and ``send`` are the passes over runs and over messages, ``send_as`` is one
    of a named worker, ``recover_beside`` one beside which another process works, ``files`` are the names of the workers
    that have a lock file. ``batched`` makes another call in a batch, ``undone`` in one that is rolled back.
    ``start_dying`` and ``recover_dying`` wait for the write lock, and meanwhile the worker dies.
    """
    shutil.rmtree(directory, ignore_errors=True)
    try:
        with contextlib.closing(Ledger.open(directory, clock=clock)) as ledger:
            return _answers(calls, lambda name, argument: _done(ledger, directory, name, argument))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _answers(calls: list[list[Any]], make: Callable[[str, Any], Any]) -> list[Any]:
    answers: list[Any] = []
    held: dict[str, Worker] = {}
    try:
        for name, argument in calls:
            try:
                made = make(name, argument)
            except LedgerError as error:
                made = type(error).__name__
            if isinstance(made, Worker):
                held[f"{name} {made.id}"] = made
                made = made.id
            answers.append(made)
    finally:
        for worker in held.values():
            worker.release()
    return answers


def _made(workers: Workers, directory: Path, name: str, argument: Any) -> Any:
    if name == "link":
        (directory / f"{argument}.lock").symlink_to(directory / "nowhere")
        return None
    if name == "ask_together":
        import fcntl  # noqa: PLC0415 - Windows has none, and there are no workers there

        # As a question of another process's holds it while that asks.
        with (directory / f"{argument}.lock").open("rb") as file:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return workers.is_alive(argument)
    if name == "hold_without_locks":
        # As on a file system without locks that end with their process.
        with mock.patch.object(workers, "is_alive", return_value=False):
            return workers.hold(argument)
    if name == "retire":
        return _retired(workers, argument)
    return getattr(workers, name)(argument)


def _retired(workers: Workers, worker_id: str) -> bool:
    lived: list[bool] = []
    unlink = os.unlink

    def watched(path: Any, **how: Any) -> None:
        # Another process may take the file as soon as its lock is free.
        lived.append(workers.is_alive(worker_id))
        unlink(path, **how)

    with mock.patch.object(os, "unlink", watched):
        workers.retire(worker_id)
    return all(lived[:1])


class _Undone(Exception):  # noqa: N818 - it ends a batch, on purpose
    pass


def _in_batch(ledger: Ledger, directory: Path, name: str, argument: Any, *, commits: bool) -> Any:
    answer: Any = None
    with contextlib.suppress(_Undone), ledger.batch():
        answer = _done(ledger, directory, name, argument)
        if not commits:
            raise _Undone
    return answer


def _done(ledger: Ledger, directory: Path, name: str, argument: Any) -> Any:
    if name in ("batched", "undone"):
        return _in_batch(ledger, directory, *argument, commits=name == "batched")
    if name in _WORK:
        return _WORK[name](ledger, argument)
    if name == "spoil":
        for run in ledger.history.list(worker_id=argument):
            spoil(directory / DATABASE_NAME, "task_history", run.id, "started_at", "soon")
        return None
    if name == "files":
        return sorted(file.stem for file in (directory / DIRECTORY_NAME).glob("[!.]*.lock"))
    return _made(ledger.workers, directory / DIRECTORY_NAME, name, argument)


def _start(ledger: Ledger, worker_id: str) -> str:
    task = ledger.tasks.create(runtime="cli", owner_key="me", task="work")
    return ledger.history.start(task.task_id, worker_id=worker_id).status


def _start_again(ledger: Ledger, worker_id: str) -> str:
    """The last task is deleted, and made again under its id; its first run goes on."""
    first = ledger.tasks.list()[0]
    ledger.tasks.delete(first.task_id)
    place = Path(ledger.database.path).parent  # type: ignore[union-attr] # it is on SQLite
    with contextlib.closing(Ledger.open(place, clock=ledger.history.clock, new_id=lambda: first.task_id)) as other:
        other.tasks.create(runtime="cli", owner_key="me", task="again")
    return ledger.history.start(first.task_id, worker_id=worker_id).status


def _maintain(ledger: Ledger, later_ms: int) -> int | list[int]:
    """How many tasks a preview would mark as lost; one of the file alone says the same."""
    place = Path(ledger.database.path).parent  # type: ignore[union-attr] # it is on SQLite

    def clock() -> int:
        return ledger.history.clock() + later_ms

    upkeep = Upkeep(ledger.tasks, worker_is_alive=ledger.workers.is_alive, clock=clock)
    opened, alone = upkeep.maintain().reconciled, preview_file(place, clock=clock).reconciled
    return opened if alone == opened else [opened, alone]


def _claim(ledger: Ledger, worker_id: str) -> bool:
    message = ledger.outbox.enqueue(channel="mail", target="me", payload={})
    return ledger.outbox.claim(message.id, worker_id).changed


def _recover(ledger: Ledger, _nothing: None) -> list[str]:
    return sorted(run.worker_id for run in ledger.recover().interrupted)


def _recover_beside(ledger: Ledger, worker_id: str) -> bool:
    """A recovery, while whose files are removed another process starts a run, and dies; whether its id stays taken."""
    clean, place = ledger.workers.clean, Path(ledger.database.path).parent  # type: ignore[union-attr] # it is on SQLite

    def beside(referenced: Collection[str]) -> list[str]:
        with (
            contextlib.closing(Ledger.open(place, clock=ledger.history.clock, busy_timeout_ms=0)) as other,
            other.workers.hold(worker_id),
            contextlib.suppress(StoreBusy),
        ):
            _start(other, worker_id)
        return clean(referenced)

    with mock.patch.object(ledger.workers, "clean", beside):
        ledger.recover()
    return not ledger.history.list(worker_id=worker_id) or (place / DIRECTORY_NAME / f"{worker_id}.lock").exists()


def _start_dying(ledger: Ledger, worker_id: str) -> str:
    task = ledger.tasks.create(runtime="cli", owner_key="me", task="work")
    with _dies_first(ledger, worker_id):
        return ledger.history.start(task.task_id, worker_id=worker_id).status


def _recover_dying(ledger: Ledger, worker_id: str) -> list[str]:
    with _dies_first(ledger, worker_id):
        return _recover(ledger, None)


@contextlib.contextmanager
def _dies_first(ledger: Ledger, worker_id: str) -> Iterator[None]:
    """When the next transaction is about to begin, the worker dies."""

    def release(statement: str) -> None:
        if statement.startswith("BEGIN IMMEDIATE") and ledger.workers.is_alive(worker_id):
            ledger.workers.release(worker_id)

    connection = ledger.database.connection  # type: ignore[union-attr] # it is on SQLite
    connection.set_trace_callback(release)
    try:
        yield
    finally:
        connection.set_trace_callback(None)


def _take_over(ledger: Ledger, worker_id: str) -> list[Any]:
    """Claim the first message that a dead worker has leased."""
    workers = ledger.workers
    message = next(
        one for one in ledger.outbox.list() if one.leased_by is not None and not workers.is_alive(one.leased_by)
    )
    taken = ledger.outbox.claim(message.id, worker_id).message
    return [taken.attempt_count, taken.next_attempt_at == message.next_attempt_at]


def _send(ledger: Ledger, worker_id: str | None) -> list[Any]:
    attempts: list[int] = []
    done = ledger.outbox.recover(lambda envelope: attempts.append(envelope.attempt), worker_id=worker_id)
    return [done.recovered, done.leased, sorted(attempts)]


_WORK: Final[Mapping[str, Callable[..., Any]]] = {
    "start": _start, "start_again": _start_again, "maintain": _maintain, "claim": _claim, "take_over": _take_over,
    "recover": _recover, "send": _send, "send_as": _send,
    "recover_beside": _recover_beside, "start_dying": _start_dying, "recover_dying": _recover_dying,
}  # fmt: skip
