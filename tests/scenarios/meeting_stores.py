"""Stores for two callers: right ones that lose races in every honest way, and some that one caller has to itself."""

import fcntl
import sqlite3
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tornpage import Action, Configuration, Environment, Refused, SimpleTarget, View


class Jobs:
    """Jobs, claimed by a compare-and-swap: who loses the race is told that there is nothing."""

    timeout = 5.0
    mode = "WAL"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.db = sqlite3.connect(path, isolation_level=None, timeout=self.timeout, check_same_thread=False)
        try:
            self.db.execute(f"PRAGMA journal_mode = {self.mode}").fetchall()
            self.db.execute("CREATE TABLE IF NOT EXISTS job (id TEXT PRIMARY KEY, owner TEXT, n INTEGER DEFAULT 0)")
        except BaseException:
            self.db.close()
            raise

    def add(self, name: str) -> None:
        self.db.execute("INSERT OR IGNORE INTO job (id) VALUES (?)", (name,))

    def waiting(self) -> str | None:
        rows = self.db.execute("SELECT id FROM job WHERE owner IS NULL ORDER BY id LIMIT 1").fetchall()
        return str(rows[0][0]) if rows else None

    def claim(self, worker: str) -> str | None:
        name = self.waiting()
        done = self.db.execute("UPDATE job SET owner = ? WHERE id = ? AND owner IS NULL", (worker, name))
        return name if done.rowcount == 1 else None

    def close(self) -> None:
        self.db.close()


class Conflicts(Jobs):
    """Who loses the race is told of it by an error."""

    def claim(self, worker: str) -> str | None:
        found = self.waiting()
        name = super().claim(worker)
        if found is not None and name is None:
            raise RuntimeError("somebody was faster")
        return name


class Refuses(Jobs):
    """Who loses the race is refused."""

    def claim(self, worker: str) -> str | None:
        if (name := super().claim(worker)) is None:
            raise Refused("nothing to do")
        return name


class Snapshots(Jobs):
    """A transaction that reads first: SQLite itself says busy to who would write on an old snapshot."""

    def claim(self, worker: str) -> str | None:
        self.db.execute("BEGIN")
        try:
            if (name := self.waiting()) is not None:
                self.db.execute("UPDATE job SET owner = ? WHERE id = ?", (worker, name))
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise
        return name


class Retries(Snapshots):
    """The same, and tries again, with a sleep of its own in between."""

    timeout = 0.0
    mode = "DELETE"

    def claim(self, worker: str) -> str | None:
        until = time.monotonic() + 600
        while True:
            try:
                return super().claim(worker)
            except sqlite3.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(10)


class Removes(Jobs):
    """Looks whether a job is there before it removes it: two may be told that they have."""

    def claim(self, worker: str) -> None:
        name = {"one": "a", "two": "b"}[worker]
        if not self.db.execute("SELECT 1 FROM job WHERE id = ?", (name,)).fetchall():
            raise Refused("it is gone")
        self.db.execute("DELETE FROM job WHERE id = ?", (name,))


class Deletes(Removes):
    """The same with an error of its own."""

    def claim(self, worker: str) -> None:
        try:
            super().claim(worker)
        except Refused as error:
            raise LookupError(str(error)) from None


class Starts(Jobs):
    """Wrong: looks whether a job is free before it takes it, and two may be told that it is theirs."""

    gone: type[Exception] = Refused

    def claim(self, worker: str) -> None:
        name = {"one": "a", "two": "b"}[worker]
        if not self.db.execute("SELECT 1 FROM job WHERE id = ? AND owner IS NULL", (name,)).fetchall():
            raise self.gone("it is taken")
        self.db.execute("UPDATE job SET owner = 'somebody' WHERE id = ?", (name,))


class StartsOrRaises(Starts):
    """Wrong, the same with an error of its own."""

    gone = LookupError


class Registers(Jobs):
    """Wrong: looks whether there is such a job, and then replaces what another may have written meanwhile."""

    def claim(self, worker: str) -> None:
        if self.db.execute("SELECT 1 FROM job WHERE id = ?", (worker,)).fetchall():
            raise Refused("there is one")
        self.db.execute("INSERT OR REPLACE INTO job (id, owner) VALUES (?, 'somebody')", (worker,))


class ReturnsStatus(Jobs):
    """Says by a row what it claimed; the claim itself is one statement."""

    def claim(self, worker: str) -> Any:
        rows = self.db.execute(
            "UPDATE job SET owner = ? WHERE id = (SELECT id FROM job WHERE owner IS NULL ORDER BY id LIMIT 1)"
            " RETURNING id, owner",
            (worker,),
        ).fetchall()
        return {"job": rows[0][0], "by": rows[0][1]} if rows else {"job": None}


class Takes(Jobs):
    """Wrong, another way than the known bugs: takes whatever was waiting a moment ago, and says so by a record."""

    def claim(self, worker: str) -> Any:
        name = self.waiting()
        self.db.execute("UPDATE job SET owner = ?, n = n + 1 WHERE id = ?", (worker, name))
        return {"job": name}


class Remembers(Jobs):
    """Answers from memory, and is right as long as it has the file to itself."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.memory = {row[0]: list(row[1:]) for row in self.db.execute("SELECT * FROM job").fetchall()}

    def add(self, name: str) -> None:
        super().add(name)
        self.memory.setdefault(name, [None, 0])

    def claim(self, worker: str) -> str | None:
        name = next((name for name, (owner, _) in sorted(self.memory.items()) if owner is None), None)
        if name is not None:
            self.db.execute("UPDATE job SET owner = ? WHERE id = ?", (worker, name))
            self.memory[name][0] = worker
        return name


class Caches(Jobs):
    """Keeps what it has read or written, and reads the rest: right as long as it has the file to itself."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.cache: dict[str, int] = {}

    def put(self, name: str, n: int) -> None:
        self.db.execute("INSERT OR REPLACE INTO job (id, n) VALUES (?, ?)", (name, n))
        self.cache[name] = n

    def get(self, name: str) -> int | None:
        if name not in self.cache:
            self.cache |= dict(self.db.execute("SELECT id, n FROM job WHERE id = ?", (name,)).fetchall())
        return self.cache.get(name)


class Indexed(Jobs):
    """Reads a row before it removes it, and answers from an index: right as long as it has the file to itself."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.names = {name for (name,) in self.db.execute("SELECT id FROM job").fetchall()}

    def add(self, name: str) -> None:
        super().add(name)
        self.names.add(name)

    def drop(self, name: str) -> bool:
        if not self.db.execute("SELECT id FROM job WHERE id = ?", (name,)).fetchall():
            return False
        self.db.execute("DELETE FROM job WHERE id = ?", (name,))
        self.names.discard(name)
        return True

    def find(self, start: str) -> list[str]:
        return sorted(name for name in self.names if name.startswith(start))


class OpensOnce(Jobs):
    """Has the file to itself, by a lock."""

    def __init__(self, path: Path) -> None:
        self.lock = path.with_suffix(".lock").open("a")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            super().__init__(path)
        except BaseException:
            self.lock.close()
            raise

    def close(self) -> None:
        super().close()
        self.lock.close()


class Marks(Jobs):
    """Leaves a mark while it is open, which the first to close takes away."""

    def __init__(self, path: Path) -> None:
        self.mark = path.with_suffix(".open")
        super().__init__(path)
        self.mark.touch()

    def close(self) -> None:
        super().close()
        self.mark.unlink()


class Stamps(Jobs):
    """Keeps when a job was added, by SQLite's own clock."""

    def add(self, name: str) -> None:
        self.db.execute("INSERT OR IGNORE INTO job (id, n) VALUES (?, strftime('%s', 'now'))", (name,))


class TwoLocks(Jobs):
    """One lock for jobs and one for owners, taken in either order."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.jobs, self.owners = threading.Lock(), threading.Lock()

    def add(self, name: str) -> None:
        with self.owners:
            super().waiting()
            with self.jobs:
                super().add(name)

    def claim(self, worker: str) -> str | None:
        with self.jobs:
            name = super().waiting()
            with self.owners:
                self.db.execute("UPDATE job SET owner = ? WHERE id = ?", (worker, name))
        return name


class JobsTarget(SimpleTarget):
    title = "jobs"
    kind: type[Jobs] = Jobs
    calls = (
        Action("add", {"name": "a"}),
        Action("add", {"name": "b"}),
        Action("claim", {"worker": "one"}),
        Action("claim", {"worker": "two"}),
    )
    beat = Action("add", {"name": "heartbeat"})
    unpromised: Mapping[str, str] = {"waits-for-a-short-lock": "WAL on a new file waits for no lock"}

    def __init__(self, kind: type[Jobs] | None = None, callers: Any = None) -> None:
        self.kind = kind or self.kind
        self.name = f"{type(self).__module__}:{self.kind.__name__}Target"
        if self.kind.mode == "DELETE":
            self.configurations = (Configuration("delete", "FULL"),)
        if callers is not None:
            self.callers = callers

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Jobs:
        return self.kind(path)

    def view(self, store: Jobs) -> View:
        return dict(store.memory) if isinstance(store, Remembers) else self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> View:
        return {row[0]: list(row[1:]) for row in connection.execute("SELECT * FROM job").fetchall()}


class Forgets(Takes):
    """Wrong in two ways: a look begins a transaction, which goes on reading what was there then."""

    def look(self) -> None:
        self.db.execute("SELECT 1" if self.db.in_transaction else "BEGIN")
        self.waiting()


class TakesTarget(JobsTarget):
    kind = Takes


class ReturnsStatusTarget(JobsTarget):
    kind = ReturnsStatus
    calls = JobsTarget.calls[1:]


class ForgetsTarget(JobsTarget):
    kind = Forgets
    calls = (
        Action("add", {"name": "a"}),
        Action("claim", {"worker": "one"}),
        Action("look"),
    )


class RemembersTarget(JobsTarget):
    kind = Remembers


class Numbers(Jobs):
    """Reads its last number when it is opened, and counts on: its view shows nothing of that."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.last = self.db.execute("SELECT max(n) FROM job").fetchall()[0][0] or 0

    def add(self, name: str) -> None:
        self.db.execute("INSERT OR REPLACE INTO job (id, n) VALUES (?, ?)", (name, self.last + 1))
        self.last += 1


class NumbersTarget(JobsTarget):
    kind = Numbers
    calls = (Action("add", {"name": "a"}), Action("add", {"name": "b"}))


class CachesTarget(JobsTarget):
    kind = Caches
    calls = (Action("put", {"name": "a", "n": 1}), Action("put", {"name": "a", "n": 2}), Action("get", {"name": "a"}))

    def view(self, store: Any) -> View:
        return self.rows(store.db) | {name: [None, n] for name, n in store.cache.items()}


class IndexedTarget(JobsTarget):
    kind = Indexed
    calls = (
        Action("add", {"name": "a"}),
        Action("drop", {"name": "a"}),
        Action("add", {"name": "b"}),
        Action("find", {"start": ""}),
    )


class OpensOnceTarget(JobsTarget):
    kind = OpensOnce


class MarksTarget(JobsTarget):
    kind = Marks


class RemovesTheLog(Jobs):
    """Clears away a log when it is opened, also one that another caller is using."""

    def __init__(self, path: Path) -> None:
        for end in ("-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)
        super().__init__(path)


class RemovesTheLogTarget(JobsTarget):
    kind = RemovesTheLog


class StampsTarget(JobsTarget):
    kind = Stamps
