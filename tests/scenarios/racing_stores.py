"""More stores for two callers: rows that say who wrote them, errors in the code, locks and threads of their own."""

import contextlib
import fcntl
import functools
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from meeting_stores import Jobs, JobsTarget, Takes

from tornpage import Action, Configuration, Refused, SimpleTarget, View


class Signs(Jobs):
    """Keeps in the row which process and thread has claimed it."""

    def claim(self, worker: str) -> Any:
        me = f"{worker} {os.getpid()} {threading.current_thread().name}"
        done = self.db.execute(
            "UPDATE job SET owner = ? WHERE id = (SELECT id FROM job WHERE owner IS NULL ORDER BY id LIMIT 1)"
            " RETURNING id, owner",
            (me,),
        )
        return [list(row) for row in done.fetchall()]


class SignsWhatItTakes(Takes):
    """Wrong, and keeps who claimed it, too."""

    def claim(self, worker: str) -> Any:
        return super().claim(f"{worker} {os.getpid()} {threading.current_thread().name}")


class OneAfterAnother(Jobs):
    """Each claim has a lock file to itself, for which the next one waits in the system."""

    def claim(self, worker: str) -> str | None:
        with self.path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (name := self.waiting()) is not None:
                self.db.execute("UPDATE job SET owner = ? WHERE id = ?", (worker, name))
            return name


class Makes(Jobs):
    """Makes the table of owners when it is first needed."""

    make = "CREATE TABLE IF NOT EXISTS owned (id TEXT PRIMARY KEY, owner TEXT)"

    def claim(self, worker: str) -> None:
        if not self.db.execute("SELECT 1 FROM sqlite_master WHERE name = 'owned'").fetchall():
            self.db.execute(self.make)
        self.db.execute("INSERT OR IGNORE INTO owned VALUES (?, ?)", (worker, worker))
        self.db.execute("UPDATE job SET n = n + 1")


class MakesBlindly(Makes):
    """Wrong: the table may be there by then, and the caller gets SQLite's error for that."""

    make = "CREATE TABLE owned (id TEXT PRIMARY KEY, owner TEXT)"


class ConnectsLate(Jobs):
    """Connects when it is first used. Wrong: two that add the first job may both make the table of owners."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @functools.cached_property
    def db(self) -> sqlite3.Connection:  # type: ignore[override]
        first = Jobs(self.path)
        return first.db

    def add(self, name: str) -> None:
        if not self.db.execute("SELECT 1 FROM sqlite_master WHERE name = 'owned'").fetchall():
            self.db.execute("CREATE TABLE owned (id TEXT PRIMARY KEY)")
        super().add(name)

    def close(self) -> None:
        if "db" in vars(self):
            self.db.close()


class ConnectsLateTarget(JobsTarget):
    kind = ConnectsLate
    calls = JobsTarget.calls[:1]

    def rows(self, connection: sqlite3.Connection) -> View:
        is_new = not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'job'").fetchall()
        return {} if is_new else super().rows(connection)


class Waits(Jobs):
    """A queue whose claim waits for a job."""

    def take(self, name: str) -> bool:
        return self.db.execute("DELETE FROM job WHERE id = ?", (name,)).rowcount == 1

    def claim(self, worker: str) -> str:
        while (name := self.waiting()) is None or not self.take(name):
            time.sleep(0.1)
        return name


class WaitsAndTakes(Waits):
    """Wrong: two may take one job."""

    def take(self, name: str) -> bool:
        super().take(name)
        return True


class Unpacks(Jobs):
    """Wrong: the row that it has just seen may be gone, and the caller gets a TypeError."""

    def claim(self, worker: str) -> str | None:
        name = {"one": "a", "two": "b"}[worker]
        if self.db.execute("SELECT 1 FROM job WHERE id = ?", (name,)).fetchall():
            self.db.execute("DELETE FROM job WHERE id = ? AND n = ?", (name, self.number(name)))
        return None

    def number(self, name: str) -> int:
        (row,) = self.db.execute("SELECT n FROM job WHERE id = ?", (name,)).fetchall() or (None,)
        return int(row[0])  # type: ignore[index]


class Begins(Jobs):
    """Wrong for two threads: one connection, and BEGIN within the other's transaction."""

    def claim(self, worker: str) -> str | None:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            if (name := self.waiting()) is not None:
                self.db.execute("UPDATE job SET owner = ? WHERE id = ?", (worker, name))
        finally:
            self.db.execute("COMMIT")
        return name

    def add(self, name: str) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            super().add(name)
        finally:
            self.db.execute("COMMIT")


class HasAThread(Jobs):
    """All statements run on a thread of the store's, which gets them from a queue."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.work: Any = queue.Queue()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        while (asked := self.work.get()) is not None:
            call, answer = asked
            answer.put(call())

    def ask(self, call: Callable[[], Any]) -> Any:
        answer: Any = queue.Queue()
        self.work.put((call, answer))
        return answer.get()

    def add(self, name: str) -> None:
        self.ask(lambda: Jobs.add(self, name))

    def claim(self, worker: str) -> str | None:
        return self.ask(lambda: Jobs.claim(self, worker))  # type: ignore[no-any-return]

    def close(self) -> None:
        self.work.put(None)
        self.thread.join()
        super().close()


class AsksTwice(HasAThread):
    """Wrong: the other caller gets between the two requests."""

    def claim(self, worker: str) -> str | None:
        name = self.ask(self.waiting)
        self.ask(lambda: self.db.execute("UPDATE job SET owner = ? WHERE id = ?", (worker, name)).rowcount)
        return name  # type: ignore[no-any-return]


class AsksByCondition(HasAThread):
    """The thread gets its work from a list, guarded by a condition."""

    def __init__(self, path: Path) -> None:
        self.todo: list[Any] = []
        self.changed = threading.Condition()
        super().__init__(path)

    def serve(self) -> None:
        while (asked := self.next_one()) is not None:
            call, answers = asked
            answers.append(call())
            with self.changed:
                self.changed.notify_all()

    def next_one(self) -> Any:
        with self.changed:
            self.changed.wait_for(lambda: self.todo)
            return self.todo.pop(0)

    def ask(self, call: Callable[[], Any]) -> Any:
        answers: list[Any] = []
        with self.changed:
            self.todo.append((call, answers))
            self.changed.notify_all()
            self.changed.wait_for(lambda: answers)
        return answers[0]

    def close(self) -> None:
        with self.changed:
            self.todo.append(None)
            self.changed.notify_all()
        self.thread.join()
        Jobs.close(self)


class AsksTwiceByCondition(AsksByCondition):
    """Wrong: as `AsksTwice`."""

    claim = AsksTwice.claim


class Warms(Jobs):
    """Remembers owners: a reader fills the memory, a writer removes from it; the log has its own rows."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.lock: Any = threading.Lock()
        self.owners: dict[str, str | None] = {}

    def warm(self, name: str) -> None:
        with self.lock:
            if name not in self.owners:
                rows = self.db.execute("SELECT owner FROM job WHERE id = ?", (name,)).fetchall()
                self.owners[name] = rows[0][0] if rows else None

    def give(self, name: str, worker: str) -> None:
        with self.lock:
            self.db.execute("UPDATE job SET owner = ? WHERE id = ?", (worker, name))
            self.owners.pop(name, None)

    def log(self, name: str, kind: int) -> None:
        with self.lock:
            name = f"{kind}/{name}"
            self.db.execute("INSERT INTO job (id) VALUES (?) ON CONFLICT DO UPDATE SET n = n + 1", (name,))


class WarmsWithoutALock(Warms):
    """Wrong: one that reads while another one writes keeps the old owner."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.lock = contextlib.nullcontext()


class AtMostTwo(Jobs):
    """Wrong: counts the jobs before it adds one; calls that never touch the same row."""

    def add(self, name: str) -> None:
        others = self.db.execute("SELECT count(*) FROM job WHERE id < 'h' AND id <> ?", (name,)).fetchall()
        if name < "h" and others == [(2,)]:
            raise Refused("there are two")
        super().add(name)

    def remove(self, name: str) -> None:
        self.db.execute("DELETE FROM job WHERE id = ?", (name,))


class AtMostTwoAtOnce(AtMostTwo):
    """The same, in one transaction."""

    def add(self, name: str) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            super().add(name)
        finally:
            self.db.execute("COMMIT")


class SignsTarget(JobsTarget):
    kind = Signs


class SignsWhatItTakesTarget(JobsTarget):
    kind = SignsWhatItTakes


class OneAfterAnotherTarget(JobsTarget):
    kind = OneAfterAnother


class AtMostTwoTarget(JobsTarget):
    kind = AtMostTwo
    calls = (
        Action("add", {"name": "a"}),
        Action("add", {"name": "b"}),
        Action("remove", {"name": "a"}),
        Action("add", {"name": "c"}),
    )


class AtMostTwoAtOnceTarget(AtMostTwoTarget):
    kind = AtMostTwoAtOnce


class WarmsTarget(JobsTarget):
    callers = ("shared",)
    kind = Warms
    calls = (
        Action("add", {"name": "a"}),
        *(Action("log", {"name": name, "kind": kind}) for name in "xy" for kind in range(4)),
        Action("warm", {"name": "a"}),
        Action("give", {"name": "a", "worker": "one"}),
        Action("warm", {"name": "a"}),
        *(Action("log", {"name": name, "kind": kind}) for name in "z" for kind in range(4)),
    )

    def view(self, store: Any) -> View:
        return {name: [store.owners.get(name, owner), n] for name, (owner, n) in self.rows(store.db).items()}


class Reserves(Jobs):
    """A reservation takes one of a stock: n is the number."""

    condition = "AND n > 0"

    def restock(self, name: str) -> None:
        self.db.execute("INSERT INTO job (id, n) VALUES (?, 1) ON CONFLICT DO UPDATE SET n = n + 1", (name,))

    def take(self, name: str) -> None:
        if not self.db.execute(f"UPDATE job SET n = n - 1 WHERE id = ? {self.condition}", (name,)).rowcount:
            raise Refused("there is none any more")

    def reserve(self, name: str, worker: str) -> None:
        if not self.db.execute("SELECT 1 FROM job WHERE id = ? AND n > 0", (name,)).fetchall():
            raise Refused("there is none")
        self.db.execute("BEGIN IMMEDIATE")
        try:
            self.take(name)
            self.db.execute("INSERT INTO job (id, owner) VALUES (?, ?)", (worker, name))
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")


class ReservesTooMuch(Reserves):
    """Wrong: the stock is looked at before the transaction alone."""

    condition = ""


class ReservesTarget(JobsTarget):
    kind = Reserves
    calls = tuple(
        one
        for worker in ("one", "two")
        for one in (Action("restock", {"name": "s"}), Action("reserve", {"name": "s", "worker": worker}))
    )


class Heap:
    """Entries by importance; what is taken was deleted by this caller, or it looks once more."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.db.execute("CREATE TABLE IF NOT EXISTS entry (id INTEGER PRIMARY KEY, importance INTEGER, text TEXT)")

    def push(self, importance: int, text: str) -> int | None:
        done = self.db.execute("INSERT INTO entry (importance, text) VALUES (?, ?)", (importance, text))
        return done.lastrowid

    def pop(self) -> str | None:
        while (first := self.first()) is not None:
            if self.db.execute("DELETE FROM entry WHERE id = ?", first[:1]).rowcount:
                return str(first[1])
        return None

    def first(self) -> Any:
        found = self.db.execute("SELECT id, text FROM entry ORDER BY importance DESC, id LIMIT 1").fetchall()
        return found[0] if found else None

    def close(self) -> None:
        self.db.close()


class HeapByHand(Heap):
    """Wrong: a number of its own, which another caller may take, too; the later entry replaces the other."""

    def push(self, importance: int, text: str) -> int | None:
        [(last,)] = self.db.execute("SELECT COALESCE(MAX(id), 0) FROM entry").fetchall()
        self.db.execute("INSERT OR REPLACE INTO entry VALUES (?, ?, ?)", (last + 1, importance, text))
        return int(last) + 1


class HeapTarget(SimpleTarget):
    """Its rows have ids of SQLite's, and that of a row that was deleted is given away again."""

    kind: type[Heap] = Heap
    configurations = (Configuration("delete", "FULL"),)
    calls = (
        Action("push", {"importance": 1, "text": "x"}),
        Action("push", {"importance": 2, "text": "y"}),
        Action("pop"),
    )
    beat = Action("push", {"importance": 0, "text": "beat"})
    callers = ("threads",)

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Heap:
        return self.kind(path)

    def view(self, store: Heap) -> View:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> View:
        return {str(key): list(row) for key, *row in connection.execute("SELECT * FROM entry")}


class HeapByHandTarget(HeapTarget):
    kind = HeapByHand
