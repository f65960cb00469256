"""The ledger against its peers: queues in Python over SQLite, at equal durability.

The life of a job is compared: three calls, each of them one durable commit. A chunk queues twenty jobs, then takes
each, then ends each.

| who | queue | take | end |
| --- | --- | --- | --- |
| ledger, tasks | ``tasks.create`` | ``tasks.start`` | ``tasks.finish`` |
| ledger, outbox | ``outbox.enqueue`` | ``outbox.claim`` | ``outbox.ack`` |
| huey, SqliteStorage | ``enqueue`` | ``dequeue`` (deletes the row) | ``put_data`` (stores the result) |
| litequeue | ``put`` | ``pop`` | ``done`` |
| persist-queue, SQLiteAckQueue | ``put`` | ``get`` | ``ack`` |
| diskcache, Cache as a queue | ``push`` | ``pull`` (deletes the row) | ``set`` (stores the result) |

Equal durability is checked: after opening, each queue's own connection is queried for its ``journal_mode`` and
``synchronous``, and before measuring the shim counts the syncs of each call: one sync of the log per call. A queue that
differs is refused (`UnequalError`).

The differences: the ledger's take and end name the job; the peers' take searches the next one, and persist-queue's
skips all finished jobs, so those are deleted between chunks, outside the clock. The ledger checks transitions, keeps
every field of a task, two more indexes and a memory that other threads read; the peers keep a text or a blob. huey's
and diskcache's take deletes the job: if their worker dies, it is lost.
"""

import contextlib
import functools
import gc
import importlib
import importlib.util
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import msgspec
from benchmarks.ledgers import NOW_MS
from benchmarks.measuring import Ratio, Round, Spent, summed_up

from tornpage import faults
from tornpage.ledger import Ledger

JOURNAL_MODE = "wal"
FULL = 2
"""SQLite's number for ``synchronous=FULL``."""
_WANTED = {"journal_mode": JOURNAL_MODE, "synchronous": FULL}
_JOBS = 20
_CALLS = 3 * _JOBS
_TEXT = "a line of some sixty bytes, as the text of a task or a message is"
DISTRIBUTIONS = {"huey": "huey", "litequeue": "litequeue", "persist-queue": "persistqueue", "diskcache": "diskcache"}
"""The peers: the distribution of each, and the module that it has."""


class UnequalError(Exception):
    """Somebody is not as durable as the others, so that a comparison would mean nothing."""


class Contender(Protocol):
    """A job queue under comparison."""

    connection: Any
    """The connection of the calls, to read its settings."""

    def jobs(self, number: int) -> None:
        """Queue so many jobs, take each, end each; every call commits."""

    def tidy(self) -> None:
        """The periodic cleanup that its documentation recommends; not measured."""

    def close(self) -> None:
        """Close it."""


class LedgerTasks:
    """The ledger's tasks."""

    def __init__(self, home: Path) -> None:
        ids, ticks = count(), count(NOW_MS)
        self._ledger = Ledger.open(home, clock=ticks.__next__, new_id=lambda: f"id-{next(ids)}")
        self.connection = _database(self._ledger).connection

    def jobs(self, number: int) -> None:
        """Create, start, finish."""
        tasks = self._ledger.tasks
        made = [tasks.create(runtime="cli", requester_session_key="main", task=_TEXT) for _ in range(number)]
        for task in made:
            tasks.start(task.task_id)
        for task in made:
            tasks.finish(task.task_id, "succeeded")

    def tidy(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()


class LedgerOutbox:
    """The ledger's outbox."""

    def __init__(self, home: Path) -> None:
        ids, ticks = count(), count(NOW_MS)
        self._ledger = Ledger.open(home, clock=ticks.__next__, new_id=lambda: f"id-{next(ids)}")
        self._worker = self._ledger.workers.hold("sender")
        self.connection = _database(self._ledger).connection

    def jobs(self, number: int) -> None:
        """Enqueue, claim, ack."""
        outbox, worker = self._ledger.outbox, self._worker.id
        made = [outbox.enqueue(channel="mail", target="ann", payload=_TEXT) for _ in range(number)]
        for message in made:
            outbox.claim(message.id, worker)
        for message in made:
            outbox.ack(message.id)

    def tidy(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Let go of the worker and close the ledger."""
        self._worker.release()
        self._ledger.close()


def _database(ledger: Ledger) -> Any:
    assert ledger.database is not None
    return ledger.database


class Huey:
    """huey's storage, without the consumer around it."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        storage = importlib.import_module("huey.storage")
        self._storage = storage.SqliteStorage(filename=str(home / "huey.db"), fsync=True, journal_mode=JOURNAL_MODE)
        self.connection = self._storage.conn
        self._keys = count()

    def jobs(self, number: int) -> None:
        """Enqueue, dequeue, keep the result."""
        storage = self._storage
        for _ in range(number):
            storage.enqueue(_TEXT.encode())
        taken = [storage.dequeue() for _ in range(number)]
        for one in taken:
            storage.put_data(f"id-{next(self._keys)}", one, is_result=True)

    def tidy(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Close the connection."""
        self._storage.close()


class LiteQueue:
    """litequeue; it sets NORMAL by itself, so its connection is set to FULL after that."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self._queue = importlib.import_module("litequeue").LiteQueue(home / "queue.db")
        self.connection = self._queue.conn
        self.connection.execute(f"PRAGMA synchronous = {FULL}")

    def jobs(self, number: int) -> None:
        """Put, pop, done."""
        queue = self._queue
        for _ in range(number):
            queue.put(_TEXT)
        taken = [queue.pop() for _ in range(number)]
        for message in taken:
            # Newer versions, for Python 3.12 on, tell each delivery apart by a claim.
            claim = {"claim_id": message.claim_id} if hasattr(message, "claim_id") else {}
            queue.done(message.message_id, **claim)

    def tidy(self) -> None:
        """No effect: it keeps finished jobs, as the ledger does."""

    def close(self) -> None:
        """Close the connection."""
        self._queue.close()


class PersistQueue:
    """persist-queue's queue with acknowledgement, which commits every call by default."""

    def __init__(self, home: Path) -> None:
        module = importlib.import_module("persistqueue")
        self._queue = module.SQLiteAckQueue(str(home), auto_commit=True, multithreading=False)
        # It has no public way to be asked.
        self.connection = self._queue._putter

    def jobs(self, number: int) -> None:
        """Put, get, ack."""
        queue = self._queue
        for _ in range(number):
            queue.put(_TEXT)
        taken = [queue.get(block=False, raw=True) for _ in range(number)]
        for item in taken:
            queue.ack(id=item["pqid"])

    def tidy(self) -> None:
        """Delete finished jobs, as its documentation recommends."""
        self._queue.clear_acked_data(max_delete=-1, keep_latest=0)

    def close(self) -> None:
        """Close the connections."""
        self._queue.close()


class DiskCache:
    """diskcache's Cache, whose push and pull make it a queue, without eviction."""

    def __init__(self, home: Path) -> None:
        module = importlib.import_module("diskcache")
        self._cache = module.Cache(
            str(home), sqlite_journal_mode=JOURNAL_MODE, sqlite_synchronous=FULL, eviction_policy="none"
        )
        # It has no public way to be asked.
        self.connection = self._cache._con
        self._keys = count()

    def jobs(self, number: int) -> None:
        """Push, pull, keep the result."""
        cache = self._cache
        for _ in range(number):
            cache.push(_TEXT, prefix="queue")
        taken = [cache.pull(prefix="queue") for _ in range(number)]
        for _, value in taken:
            cache.set(f"id-{next(self._keys)}", value)

    def tidy(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Close the cache."""
        self._cache.close()


OURS: dict[str, Callable[[Path], Contender]] = {"ledger, tasks": LedgerTasks, "ledger, outbox": LedgerOutbox}
PEERS: dict[str, Callable[[Path], Contender]] = {
    "huey": Huey,
    "litequeue": LiteQueue,
    "persist-queue": PersistQueue,
    "diskcache": DiskCache,
}


def missing() -> list[str]:
    """The peers that are not installed here."""
    return [name for name, module in DISTRIBUTIONS.items() if importlib.util.find_spec(module) is None]


def require_equal(name: str, make: Callable[[Path], Contender], home: Path) -> None:
    """Open a queue and check that every call of a few jobs is one durable commit; raises `UnequalError`."""
    with faults.install():
        contender = make(home)
        try:
            _require_settings(name, contender)
            contender.jobs(1)
            with faults.count_operations() as counter:
                contender.jobs(_JOBS)
        finally:
            contender.close()
    syncs = counter.counts["sync", "wal"]
    if syncs != _CALLS:
        raise UnequalError(f"{name} syncs its log {syncs} times in {_CALLS} calls")


def _require_settings(name: str, contender: Contender) -> None:
    settings = [contender.connection.execute(f"PRAGMA {one}").fetchone()[0] for one in _WANTED]
    if settings != list(_WANTED.values()):
        raise UnequalError(f"{name} runs at {dict(zip(_WANTED, settings, strict=True))}, not at {_WANTED}")


class Race:
    """The ledger and the installed peers, each in its own directory, measured in turns."""

    def __init__(self, directory: Path, place: str) -> None:
        self.place = place
        self._directory = directory / "peers"
        self._directory.mkdir()
        absent = missing()
        self._peers = {name: make for name, make in PEERS.items() if name not in absent}
        for name, make in (OURS | self._peers).items():
            require_equal(name, make, self._directory / f"{name} tried")

    def measure(self, *, rounds: int, chunks: int, aim: float | None) -> Iterator[Ratio]:
        """A line for each of ours against each peer, and one against the best of them, which has the aim."""
        spent = [self._round(number, chunks) for number in range(rounds)]
        for ours in OURS:
            lines = [self._line(spent, ours, theirs, chunks) for theirs in self._peers]
            best = min(lines, key=lambda line: line.median)
            yield msgspec.structs.replace(best, name=f"{best.name}, the best peer", aim=aim)
            yield from (line for line in lines if line is not best)

    def _round(self, number: int, chunks: int) -> dict[str, Spent]:
        gc.collect()
        with contextlib.ExitStack() as scopes:
            running = {}
            for name, make in (OURS | self._peers).items():
                running[name] = make(self._directory / f"{name} {number}")
                scopes.callback(running[name].close)
                _require_settings(name, running[name])
            spent = {name: Spent() for name in running}
            names, generator = list(running), random.Random(number)  # noqa: S311 - an order
            for _ in range(chunks):
                # The order is shuffled in each round: the previous one's syncs may slow the next.
                for name in generator.sample(names, len(names)):
                    spent[name].on(functools.partial(running[name].jobs, _JOBS))
                    running[name].tidy()
        return spent

    def _line(self, spent: Sequence[dict[str, Spent]], ours: str, theirs: str, chunks: int) -> Ratio:
        rounds = [Round(one[ours], one[theirs], chunks * _CALLS) for one in spent]
        return summed_up("peers", self.place, (f"calls a second, {ours}", theirs), rounds, per="call", faster=True)
