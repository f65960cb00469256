"""Stores that number what they keep, and use numbers up: by a failed insert, or in a log's table that no view shows."""

import sqlite3
from pathlib import Path
from typing import Any

from tornpage import Action, Configuration, SimpleTarget


class Visits:
    """Numbers its rows in memory; a call that fails has used its number up."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        try:
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("PRAGMA synchronous = FULL")
            self.db.execute("CREATE TABLE IF NOT EXISTS visit (id INTEGER PRIMARY KEY, page TEXT)")
            self.last: int = self.db.execute("SELECT coalesce(max(id), 0) FROM visit").fetchone()[0]
        except BaseException:
            self.db.close()
            raise

    def enter(self, page: str) -> int:
        self.last += 1
        self.db.execute("INSERT INTO visit VALUES (?, ?)", (self.last, page))
        return self.last

    def all(self) -> dict[str, Any]:
        return rows_of(self.db)

    def close(self) -> None:
        self.db.close()


class Skipping(Visits):
    """After a call that failed it writes the next one twice, under two numbers: no gap, but a defect."""

    failed = False

    def enter(self, page: str) -> int:
        try:
            number = super().enter(page)
        except BaseException:
            self.failed = True
            raise
        if self.failed:
            self.failed = False
            super().enter(page)
        return number


class Upserts:
    """AUTOINCREMENT with ON CONFLICT: also an insert that becomes an update uses a number up, which no view shows."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        try:
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("PRAGMA synchronous = FULL")
            self.db.execute("CREATE TABLE IF NOT EXISTS visit (id INTEGER PRIMARY KEY AUTOINCREMENT, page TEXT UNIQUE)")
        except BaseException:
            self.db.close()
            raise

    def enter(self, page: str) -> None:
        self.db.execute("INSERT INTO visit (page) VALUES (?) ON CONFLICT DO UPDATE SET page = excluded.page", (page,))

    def all(self) -> dict[str, Any]:
        return rows_of(self.db)

    def close(self) -> None:
        self.db.close()


def rows_of(connection: sqlite3.Connection) -> dict[str, Any]:
    return {f"visit/{number}": page for number, page in connection.execute("SELECT id, page FROM visit")}


class Counted(SimpleTarget):
    calls = (Action("enter", {"page": "a"}), Action("enter", {"page": "b"}), Action("enter", {"page": "a"}))
    beat = Action("enter", {"page": "beat"})
    callers: tuple[str, ...] | None = ()
    unpromised = {"waits-for-a-short-lock": "PRAGMA journal_mode = WAL on a new file waits for no lock"}  # noqa: RUF012
    kind: Any = Visits

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Any:
        return self.kind(path)

    def view(self, store: Any) -> dict[str, Any]:
        return store.all()  # type: ignore[no-any-return]

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        return rows_of(connection)


class Doubled(Counted):
    kind = Skipping


class Upserted(Counted):
    kind = Upserts


class Blocks(Visits):
    """Takes two numbers at a time from a table, and loses those that are left with the process."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.db.execute("CREATE TABLE IF NOT EXISTS block (one INTEGER PRIMARY KEY, next INTEGER)")
        self.next = self.end = 0

    def enter(self, page: str) -> int:
        if self.next == self.end:
            take = "INSERT INTO block VALUES (1, 3) ON CONFLICT DO UPDATE SET next = next + 2 RETURNING next"
            self.end = self.db.execute(take).fetchone()[0]
            self.next = self.end - 2
        self.next += 1
        self.db.execute("INSERT INTO visit VALUES (?, ?)", (self.next - 1, page))
        return self.next - 1

    def all(self) -> dict[str, Any]:
        return pages_of(self.db)


class Retrying(Blocks):
    """Answers 0 where it had to try again."""

    def enter(self, page: str) -> int:
        try:
            return super().enter(page)
        except sqlite3.OperationalError:
            super().enter(page)
            return 0


def pages_of(connection: sqlite3.Connection) -> dict[str, Any]:
    return dict(connection.execute("SELECT page, count(*) FROM visit GROUP BY page"))


class InBlocks(Counted):
    kind = Blocks

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        return pages_of(connection)


class RetriedBlocks(InBlocks):
    kind = Retrying


class BlocksShown(InBlocks):
    """Shows which numbers are taken, too: a new session takes others."""

    beat_touches = ("block/",)

    def view(self, store: Any) -> dict[str, Any]:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        return {**pages_of(connection), **{f"block/{one}": n for one, n in connection.execute("SELECT * FROM block")}}


class Leaving(Visits):
    """Visits that end: the largest number may be gone when it is read again."""

    def leave(self, page: str) -> None:
        self.db.execute("DELETE FROM visit WHERE page = ?", (page,))


class FromTheBeginning(Leaving):
    """Numbers from 1 again after a restart, and takes the next one that is free."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.last = 0

    def enter(self, page: str) -> int:
        while self.db.execute("SELECT 1 FROM visit WHERE id = ?", (self.last + 1,)).fetchone():
            self.last += 1
        return super().enter(page)


class Left(Counted):
    calls = (*Counted.calls[:2], Action("leave", {"page": "b"}))
    kind: Any = Leaving


class LeftFromTheBeginning(Left):
    kind = FromTheBeginning


class Sums(Visits):
    """Adds up in memory, and begins anew after a restart."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.sums: dict[str, int] = {}

    def enter(self, page: str) -> int:
        self.sums[page] = self.sums.get(page, 0) + 10
        self.db.execute("INSERT OR REPLACE INTO visit VALUES (?, ?)", (ord(page[0]), str(self.sums[page])))
        return 0


class Summed(Counted):
    kind = Sums
