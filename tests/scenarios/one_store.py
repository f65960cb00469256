"""Stores that two threads call: racy ones, and their sound twins, for states that a store keeps beside its rows."""

import contextlib
import queue
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from meeting_stores import Jobs, JobsTarget

from tornpage import Action, Refused

ADDS = (Action("add", {"name": "a"}), Action("add", {"name": "b"}))


class Dated(Jobs):
    """Keeps the time of its call where a statement finds it, as an argument of SQLite's."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.call: Any = threading.local()
        self.db.create_function("clock", 0, lambda: self.call.now)

    def stamp(self, now: int) -> None:
        self.call.now = now
        self.db.execute(
            "INSERT INTO job SELECT 'first', clock(), 0 WHERE true ON CONFLICT DO UPDATE SET owner = clock()"
        )
        self.db.execute("INSERT INTO job SELECT ?, NULL, clock() WHERE true ON CONFLICT DO NOTHING", (str(now),))


class DatedInOnePlace(Dated):
    """Wrong: the time of the other thread's call is in the same place."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.call = type("Call", (), {})()


class DatedTarget(JobsTarget):
    callers = ("shared",)
    kind = Dated
    calls = (Action("stamp", {"now": 1}), Action("stamp", {"now": 2}))


class Cached(Jobs):
    """Fills its cache from a read; a lock is held over both, and over each change."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.lock: Any = threading.Lock()
        self.cache: dict[str, list[Any]] = {}

    def read(self, name: str) -> Any:
        with self.lock:
            # No call follows the one that reads.
            for _, *rest in self.db.execute("SELECT * FROM job WHERE id = ?", (name,)):
                self.cache[name] = rest
            return self.cache.get(name)

    def remove(self, name: str) -> None:
        with self.lock:
            self.db.execute("DELETE FROM job WHERE id = ?", (name,))
            self.cache.pop(name, None)

    def shown(self) -> dict[str, Any]:
        rows = {row[0]: list(row[1:]) for row in self.db.execute("SELECT * FROM job").fetchall()}
        return rows | self.cache


class CachedWithoutALock(Cached):
    """Wrong: what is read, and removed before it is cached, comes back."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.lock = contextlib.nullcontext()


class CachedTarget(JobsTarget):
    callers = ("shared",)
    kind = Cached
    calls = (*ADDS, Action("read", {"name": "a"}), Action("remove", {"name": "a"}))

    def view(self, store: Any) -> Any:
        return store.shown()


class Numbered(Jobs):
    """The next number is kept in memory, and moves on once the row is there."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.lock: Any = threading.Lock()
        self.last = int(self.db.execute("SELECT count(*) FROM job").fetchone()[0])

    def add(self, name: str) -> None:
        with self.lock:
            done = self.db.execute("INSERT OR IGNORE INTO job (id, n) VALUES (?, ?)", (name, self.last + 1))
            self.last += done.rowcount


class NumberedWithoutALock(Numbered):
    """Wrong: two rows get one number."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.lock = contextlib.nullcontext()


class NumberedTarget(JobsTarget):
    callers = ("shared",)
    kind = Numbered
    calls = (*ADDS, Action("add", {"name": "c"}))


class Members(Jobs):
    """Looks into a set in memory before it changes the file: check, then act."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.lock: Any = threading.RLock()
        self.free = {row[0] for row in self.db.execute("SELECT id FROM job WHERE owner IS NULL").fetchall()}

    def add(self, name: str) -> None:
        with self.lock:
            if self.db.execute("INSERT OR IGNORE INTO job (id) VALUES (?)", (name,)).rowcount:
                self.free.add(name)

    def claim(self, worker: str) -> str | None:
        with self.lock:
            name = min(self.free, default=None)
            if name is not None:
                self.db.execute("UPDATE job SET owner = ? WHERE id = ?", (worker, name))
                self.free.discard(name)
            return name


class MembersWithoutALock(Members):
    """Wrong: both take what both have seen."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.lock = contextlib.nullcontext()


class MembersTarget(JobsTarget):
    callers = ("shared",)
    kind = Members


class WalksOver(Jobs):
    """Walks over a dict of its own, with a statement in each turn; a lock is held meanwhile."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.lock: Any = threading.RLock()
        self.known = dict.fromkeys(row[0] for row in self.db.execute("SELECT id FROM job").fetchall())

    def add(self, name: str) -> None:
        with self.lock:
            super().add(name)
            self.known[name] = None

    def count(self) -> None:
        with self.lock:
            for name in self.known:
                self.db.execute("UPDATE job SET n = n + 1 WHERE id = ?", (name,))


class WalksOverWhatChanges(WalksOver):
    """Wrong: the dict grows under the walk."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.lock = contextlib.nullcontext()


class WalksOverTarget(JobsTarget):
    callers = ("shared",)
    kind = WalksOver
    calls = (*ADDS, Action("count"), Action("add", {"name": "c"}))


class OpensLate(Jobs):
    """Opens its second connection when it is first needed: looked at again under a lock."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.lock: Any = threading.Lock()
        self.late: Any = None

    def log(self, text: str) -> None:
        if self.late is None:
            with self.lock:
                if self.late is None:
                    late = Jobs(self.path)
                    late.db.execute("INSERT OR IGNORE INTO job (id) VALUES ('opened')")
                    self.late = late
        self.late.db.execute("INSERT INTO job (id) VALUES (?) ON CONFLICT DO UPDATE SET n = n + 1", (text,))

    def close(self) -> None:
        if self.late is not None:
            self.late.close()
        super().close()


class OpensLateTwice(OpensLate):
    """Wrong: the first look alone; each thread counts an opening."""

    def log(self, text: str) -> None:
        if self.late is None:
            late = Jobs(self.path)
            late.db.execute("INSERT INTO job (id, n) VALUES ('opened', 1) ON CONFLICT DO UPDATE SET n = n + 1")
            self.late = late
        self.late.db.execute("INSERT INTO job (id) VALUES (?) ON CONFLICT DO UPDATE SET n = n + 1", (text,))


class OpensLateTarget(JobsTarget):
    callers = ("shared",)
    kind = OpensLate
    calls = (Action("log", {"text": "a"}), Action("log", {"text": "b"}))


class Adds(Jobs):
    """Reads a number, and writes one more: in one transaction."""

    def number(self, name: str) -> int:
        row = self.db.execute("SELECT n FROM job WHERE id = ?", (name,)).fetchone()
        if row is None:
            raise Refused("there is no such job")
        return int(row[0])

    def count(self, name: str) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            self.db.execute("UPDATE job SET n = ? WHERE id = ?", (self.number(name) + 1, name))
        finally:
            self.db.execute("COMMIT")


class AddsInTwo(Adds):
    """Wrong: reads in one transaction, and writes in another."""

    def count(self, name: str) -> None:
        self.db.execute("BEGIN")
        try:
            number = self.number(name)
        finally:
            self.db.execute("COMMIT")
        self.db.execute("BEGIN IMMEDIATE")
        self.db.execute("UPDATE job SET n = ? WHERE id = ?", (number + 1, name))
        self.db.execute("COMMIT")


class AddsTarget(JobsTarget):
    callers = ("threads",)
    kind = Adds
    calls = (*ADDS, Action("count", {"name": "a"}))


class Counts(Jobs):
    """Reads and writes a number while it has the store's one connection, which it gets from a pool."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.pool: Any = queue.SimpleQueue()
        self.pool.put(self.db)

    @contextlib.contextmanager
    def connection(self) -> Iterator[Any]:
        db = self.pool.get()
        try:
            yield db
        finally:
            self.pool.put(db)

    def read(self, db: Any, name: str) -> int:
        rows = db.execute("SELECT n FROM job WHERE id = ?", (name,)).fetchall()
        return int(rows[0][0]) if rows else 0

    def write(self, db: Any, name: str, n: int) -> None:
        db.execute("UPDATE job SET n = ? WHERE id = ?", (n, name))

    def count(self, name: str) -> None:
        with self.connection() as db:
            self.write(db, name, self.read(db, name) + 1)


class CountsInTwo(Counts):
    """Wrong: gives the connection back in between."""

    def count(self, name: str) -> None:
        with self.connection() as db:
            n = self.read(db, name)
        with self.connection() as db:
            self.write(db, name, n + 1)


class CountsTarget(JobsTarget):
    callers = ("shared",)
    kind = Counts
    calls = (*ADDS, Action("count", {"name": "a"}))


class Locked(Counts):
    """The same with a lock for the connection."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.lock = threading.Lock()

    @contextlib.contextmanager
    def connection(self) -> Iterator[Any]:
        with self.lock:
            yield self.db


class LockedInTwo(Locked):
    """Wrong: two times the lock."""

    count = CountsInTwo.count


class LockedTarget(CountsTarget):
    kind = Locked


class Boxes(Jobs):
    """A call is one transaction of the only connection, and a lock is held over all of it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.lock: Any = threading.Lock()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        with self.lock:
            self.db.execute("SAVEPOINT put")
            yield
            self.db.execute("RELEASE put")

    def put(self, names: list[str]) -> None:
        with self.transaction():
            for name in names:
                self.add(name)

    # `waiting` takes no lock: it may answer from what the other thread has not committed, and loses nothing by that.


class BoxesWithoutALock(Boxes):
    """Wrong: the savepoint of the one is part of the transaction of the other."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.lock = contextlib.nullcontext()


class BoxesTarget(JobsTarget):
    callers = ("shared",)
    kind = Boxes
    calls = (Action("put", {"names": ["a", "b"]}), Action("put", {"names": ["c", "d"]}), Action("waiting"))
    beat = Action("put", {"names": ["heartbeat"]})


class Begun(Boxes):
    """The same with a transaction that Python begins."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.db.isolation_level = "DEFERRED"

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        with self.lock, self.db:
            yield


class BegunWithoutALock(Begun):
    """Wrong: the COMMIT of the one commits a half of the other."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.lock = contextlib.nullcontext()


class BegunTarget(BoxesTarget):
    kind = Begun
    calls = BoxesTarget.calls[:2]


class OneCursor(Jobs):
    """All calls use one cursor, with a lock over a statement and what it has found."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.lock: Any = threading.Lock()
        self.cursor = self.db.cursor()

    def add(self, name: str) -> None:
        with self.lock:
            self.cursor.execute("INSERT OR IGNORE INTO job (id, owner) VALUES (?, 'x')", (name,))

    def owner(self, name: str) -> Any:
        with self.lock:
            self.cursor.execute("SELECT owner FROM job WHERE id = ?", (name,))
            row = self.cursor.fetchone()
            return row and row[0]


class OneCursorWithoutALock(OneCursor):
    """Wrong: the other thread executes in between, and the row is gone."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.lock = contextlib.nullcontext()


class OneCursorTarget(JobsTarget):
    callers = ("shared",)
    kind = OneCursor
    calls = (Action("add", {"name": "a"}), Action("owner", {"name": "a"}))


class Named(OneCursor):
    """A read that sets what kind of rows the connection gives, with a lock over both."""

    def owner(self, name: str) -> Any:
        with self.lock:
            self.db.row_factory = sqlite3.Row
            try:
                return self.db.execute("SELECT owner FROM job WHERE id = ?", (name,)).fetchone()["owner"]
            finally:
                self.db.row_factory = None


class NamedWithoutALock(Named):
    """Wrong: two reads at once, and the first to end takes it away from the other."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.lock = contextlib.nullcontext()


class NamedTarget(OneCursorTarget):
    kind = Named


PAIRS: Any = [
    (DatedTarget, DatedInOnePlace),
    (CachedTarget, CachedWithoutALock),
    (NumberedTarget, NumberedWithoutALock),
    (MembersTarget, MembersWithoutALock),
    (WalksOverTarget, WalksOverWhatChanges),
    (OpensLateTarget, OpensLateTwice),
    (AddsTarget, AddsInTwo),
    (CountsTarget, CountsInTwo),
    (LockedTarget, LockedInTwo),
    (BoxesTarget, BoxesWithoutALock),
    (BegunTarget, BegunWithoutALock),
    (OneCursorTarget, OneCursorWithoutALock),
    (NamedTarget, NamedWithoutALock),
]
