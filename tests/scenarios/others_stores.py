"""Small stores of other people's kinds, each with one thing wrong with it or with its target; twins are sound.

`Shelf` is the sound base: keys and values in one table, every call one statement. The kinds come from public reports,
and from what newcomers write first.
"""

import asyncio
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from tornpage.scenarios.model.simple_target import SimpleTarget
from tornpage.scenarios.model.target import Action, Configuration, Refused

DELETE = (Configuration("delete", "FULL"),)
WAL = (Configuration("wal", "FULL"),)


class Shelf:
    """Keys and values."""

    schema = "CREATE TABLE IF NOT EXISTS item(key TEXT PRIMARY KEY, value)"

    def __init__(self, path: Any) -> None:
        self.path = path
        self.db = sqlite3.connect(path, isolation_level=None)
        try:
            self.set_up()
        except BaseException:
            self.db.close()
            raise

    def set_up(self) -> None:
        self.db.execute(self.schema)

    def put(self, key: str, value: object = 1) -> Any:
        self.db.execute("INSERT OR REPLACE INTO item VALUES(?, ?)", (key, value))

    def all(self) -> dict[str, Any]:
        return dict(self.db.execute("SELECT key, value FROM item"))

    def close(self) -> Any:
        self.db.close()


class ShelfTarget(SimpleTarget):
    """The target of a shelf; `kind` is its class."""

    kind: type = Shelf
    configurations = DELETE
    calls = (Action("put", {"key": "a"}), Action("put", {"key": "b", "value": 2}))
    beat = Action("put", {"key": "beat"})

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Any:
        return self.kind(path)

    def view(self, store: Any) -> Any:
        return store.all()

    def rows(self, connection: sqlite3.Connection) -> Any:
        return dict(connection.execute("SELECT key, value FROM item"))


class Sound(ShelfTarget):
    """Nothing is wrong with it."""


class SoundPerCall(ShelfTarget):
    """Holds no connection between calls."""

    class kind(Shelf):  # noqa: N801 - the attribute's name
        def __init__(self, path: Any) -> None:
            self.path = path

        def put(self, key: str, value: object = 1) -> None:
            shelf = Shelf(self.path)
            try:
                shelf.put(key, value)
            finally:
                shelf.close()

        def all(self) -> dict[str, Any]:
            shelf = Shelf(self.path)
            try:
                return shelf.all()
            finally:
                shelf.close()

        def close(self) -> None:
            pass


class SoundReport(ShelfTarget):
    """A call whose answer is a generator over what has been done already."""

    class kind(Shelf):  # noqa: N801
        def report(self) -> Iterator[str]:
            return (key for key in self.all())

    calls = (*ShelfTarget.calls, Action("report"))


class SoundRefusal(ShelfTarget):
    """One call of the workload is refused on purpose."""

    class kind(Shelf):  # noqa: N801
        def remove(self, key: str) -> None:
            raise Refused(f"no such key: {key}")

    calls = (*ShelfTarget.calls, Action("remove", {"key": "z"}))
    refuses = ("remove",)


class SoundSqlClock(ShelfTarget):
    """Takes the time from SQLite, whose clock stands still."""

    class kind(Shelf):  # noqa: N801
        def put(self, key: str, value: object = 1) -> None:
            self.db.execute("INSERT OR REPLACE INTO item VALUES(?, CURRENT_TIMESTAMP)", (key,))


class BugNeverCommits(ShelfTarget):
    """The store's own mistake: no set-up error, but a finding."""

    class kind(Shelf):  # noqa: N801
        def __init__(self, path: Any) -> None:
            self.db = sqlite3.connect(path)
            self.db.execute(self.schema)


class BugEmptiesAtStart(ShelfTarget):
    """The store's own mistake: whatever there was is gone after a restart."""

    class kind(Shelf):  # noqa: N801
        def set_up(self) -> None:
            super().set_up()
            self.db.execute("DELETE FROM item")


class BugRemembersAnotherType(ShelfTarget):
    """The store's own mistake: its memory has numbers, and what it reads back is text."""

    class kind(Shelf):  # noqa: N801
        def set_up(self) -> None:
            super().set_up()
            self.memory = super().all()

        def put(self, key: str, value: object = 1) -> None:
            super().put(key, str(value))
            self.memory[key] = value

        def all(self) -> dict[str, Any]:
            return dict(self.memory)


class BugForgetsToForget(ShelfTarget):
    """The store's own mistake: what it has read is kept until a put, not until a removal."""

    class kind(Shelf):  # noqa: N801
        memory: dict[str, Any] | None = None

        def put(self, key: str, value: object = 1) -> None:
            super().put(key, value)
            self.memory = None

        def remove(self, key: str) -> None:
            self.db.execute("DELETE FROM item WHERE key = ?", (key,))

        def all(self) -> dict[str, Any]:
            if self.memory is None:
                self.memory = super().all()
            return dict(self.memory)

    calls = (Action("put", {"key": "a"}), Action("remove", {"key": "a"}))


# -- what is wrong with the target -------------------------------------------------------------------------------------


class MisspeltTable(ShelfTarget):
    def rows(self, connection: sqlite3.Connection) -> Any:
        return dict(connection.execute("SELECT key, value FROM items"))


class MisspeltColumn(ShelfTarget):
    def rows(self, connection: sqlite3.Connection) -> Any:
        return dict(connection.execute("SELECT key, val FROM item"))


class ReadsOddText(ShelfTarget):
    """A text that is not UTF-8, which `rows` reads as if it were."""

    class kind(Shelf):  # noqa: N801
        def put(self, key: str, value: object = 1) -> None:
            self.db.execute("INSERT OR REPLACE INTO item VALUES(CAST(? AS TEXT), ?)", (key.encode() + b"\xff", value))

        def all(self) -> dict[str, Any]:
            self.db.text_factory = bytes
            return {
                key.decode(errors="replace"): value for key, value in self.db.execute("SELECT key, value FROM item")
            }


class NeedsItsCollation(ShelfTarget):
    """Keys compared by a collation of the store's own, by which `rows` sorts."""

    class kind(Shelf):  # noqa: N801
        schema = "CREATE TABLE IF NOT EXISTS item(key TEXT PRIMARY KEY COLLATE by_name, value)"

        def set_up(self) -> None:
            self.db.create_collation("by_name", lambda one, other: (one > other) - (one < other))
            super().set_up()

    def rows(self, connection: sqlite3.Connection) -> Any:
        return dict(connection.execute("SELECT key, value FROM item ORDER BY key"))


class SoundCollation(NeedsItsCollation):
    """The same, where `rows` creates it first."""

    def rows(self, connection: sqlite3.Connection) -> Any:
        connection.create_collation("by_name", lambda one, other: (one > other) - (one < other))
        return super().rows(connection)


class AnotherTable(ShelfTarget):
    class kind(Shelf):  # noqa: N801
        def set_up(self) -> None:
            super().set_up()
            self.db.execute("CREATE TABLE IF NOT EXISTS archive(key, value)")

    def rows(self, connection: sqlite3.Connection) -> Any:
        return dict(connection.execute("SELECT key, value FROM archive"))


class InMemory(ShelfTarget):
    class kind(Shelf):  # noqa: N801
        def __init__(self, path: Any) -> None:
            super().__init__(":memory:")


class AddsASuffix(ShelfTarget):
    class kind(Shelf):  # noqa: N801
        def __init__(self, path: Any) -> None:
            super().__init__(f"{path}.sqlite3")


class AsyncCall(ShelfTarget):
    class kind(Shelf):  # noqa: N801
        async def put(self, key: str, value: object = 1) -> None:
            super().put(key, value)


class FutureCall(ShelfTarget):
    class kind(Shelf):  # noqa: N801
        def put(self, key: str, value: object = 1) -> Any:
            loop = asyncio.new_event_loop()
            future = loop.create_future()
            loop.close()
            super().put(key, value)
            return future


class AsyncView(ShelfTarget):
    async def view(self, store: Any) -> Any:
        return store.all()


class LazyCall(ShelfTarget):
    class kind(Shelf):  # noqa: N801
        async def put(self, key: str, value: object = 1) -> AsyncIterator[None]:  # type: ignore[override]
            super().put(key, value)
            yield


class NamesKeysOtherwise(ShelfTarget):
    def rows(self, connection: sqlite3.Connection) -> Any:
        return {f"item/{key}": value for key, value in connection.execute("SELECT key, value FROM item")}


class ReadsText(ShelfTarget):
    def rows(self, connection: sqlite3.Connection) -> Any:
        return dict(connection.execute("SELECT key, CAST(value AS TEXT) FROM item"))


class ReadsAList(ShelfTarget):
    def rows(self, connection: sqlite3.Connection) -> Any:
        return connection.execute("SELECT key, value FROM item").fetchall()


class NoBeat(SimpleTarget):
    configurations = DELETE
    calls = ShelfTarget.calls
    kind = Shelf
    make, view, rows = ShelfTarget.make, ShelfTarget.view, ShelfTarget.rows


class BeatOnAnOldKey(ShelfTarget):
    beat = Action("put", {"key": "a", "value": 7})


class BeatOnARemovedKey(ShelfTarget):
    """After the workload the key is free; between its calls it is not."""

    class kind(Shelf):  # noqa: N801
        def remove(self, key: str) -> None:
            self.db.execute("DELETE FROM item WHERE key = ?", (key,))

    calls = (*ShelfTarget.calls, Action("remove", {"key": "b"}))
    beat = Action("put", {"key": "b", "value": 7})


class SoundNumbers(ShelfTarget):
    """A number that is free is used again, so the beat has one that a call has had."""

    class kind(Shelf):  # noqa: N801
        schema = "CREATE TABLE IF NOT EXISTS item(key INTEGER PRIMARY KEY, value)"

        def add(self, value: object) -> None:
            self.db.execute("INSERT INTO item(value) VALUES(?)", (value,))

        def take(self) -> None:
            self.db.execute("DELETE FROM item WHERE key = (SELECT max(key) FROM item)")

        def all(self) -> dict[str, Any]:
            return {str(key): value for key, value in super().all().items()}

    calls = (Action("add", {"value": "a"}), Action("add", {"value": "b"}), Action("take"))
    beat = Action("add", {"value": "beat"})

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        return {str(key): value for key, value in connection.execute("SELECT key, value FROM item")}


class BeatOnce(ShelfTarget):
    class kind(Shelf):  # noqa: N801
        def once(self) -> None:
            self.db.execute("CREATE TABLE once (key)")
            self.put("once")

    beat = Action("once")


class BeatTwoKeys(ShelfTarget):
    class kind(Shelf):  # noqa: N801
        def two(self) -> None:
            self.put("x")
            self.put("y")

    beat = Action("two")


class SoundBeatTwoKeys(BeatTwoKeys):
    beat_touches = ("y",)


class BeatTakesAnothersValue(ShelfTarget):
    """Its beat replaces what has the same value of a unique column; after the workload nothing has it."""

    class kind(Shelf):  # noqa: N801
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.db.execute("CREATE TABLE IF NOT EXISTS owner (name TEXT UNIQUE, mail TEXT UNIQUE)")

        def own(self, name: str, mail: str) -> None:
            self.db.execute("INSERT OR REPLACE INTO owner VALUES (?, ?)", (name, mail))

        def disown(self, name: str) -> None:
            self.db.execute("DELETE FROM owner WHERE name = ?", (name,))

        def all(self) -> Any:
            return dict(self.db.execute("SELECT name, mail FROM owner"))

    calls = (Action("own", {"name": "a", "mail": "one"}), Action("disown", {"name": "a"}))
    beat = Action("own", {"name": "beat", "mail": "one"})

    def view(self, store: Any) -> Any:
        return store.all()

    def rows(self, connection: sqlite3.Connection) -> Any:
        return dict(connection.execute("SELECT name, mail FROM owner"))


class SoundBeatHasItsOwnValues(BeatTakesAnothersValue):
    beat = Action("own", {"name": "beat", "mail": "beat's"})


class BeatTouchesAnother(BeatTwoKeys):
    beat_touches = ("z",)


class BeatTouchesAll(BeatTwoKeys):
    beat_touches = ("",)


class MisspeltCall(ShelfTarget):
    calls = (*ShelfTarget.calls, Action("putt", {"key": "c"}))


class RefusedCall(SoundRefusal):
    refuses = ()


class CountsThings(ShelfTarget):
    def view(self, store: Any) -> Any:
        return {"items": len(store.all())}

    def rows(self, connection: sqlite3.Connection) -> Any:
        return {"items": connection.execute("SELECT count(*) FROM item").fetchone()[0]}


class CountsLooks(ShelfTarget):
    """Its view reads with a `get` that counts its hits, and shows them."""

    class kind(Shelf):  # noqa: N801
        schema = "CREATE TABLE IF NOT EXISTS item(key TEXT PRIMARY KEY, value, hits INTEGER NOT NULL DEFAULT 0)"

        def put(self, key: str, value: object = 1) -> None:
            self.db.execute("INSERT OR REPLACE INTO item(key, value) VALUES(?, ?)", (key, value))

        def get(self, key: str) -> list[Any]:
            self.db.execute("UPDATE item SET hits = hits + 1 WHERE key = ?", (key,))
            return list(self.db.execute("SELECT value, hits FROM item WHERE key = ?", (key,)).fetchone())

    def view(self, store: Any) -> Any:
        return {key: store.get(key) for (key,) in store.db.execute("SELECT key FROM item").fetchall()}

    def rows(self, connection: sqlite3.Connection) -> Any:
        return {key: [value, hits] for key, value, hits in connection.execute("SELECT key, value, hits FROM item")}


class SoundCountedLooks(CountsLooks):
    """It counts them, too, and shows the values only."""

    def view(self, store: Any) -> Any:
        return {key: value for key, (value, _hits) in super().view(store).items()}

    def rows(self, connection: sqlite3.Connection) -> Any:
        return {key: value for key, (value, _hits) in super().rows(connection).items()}


class BeginsWithAVersion(ShelfTarget):
    class kind(Shelf):  # noqa: N801
        def set_up(self) -> None:
            super().set_up()
            self.db.execute("INSERT OR IGNORE INTO item VALUES('version', 1)")


class OneMemoryForAll(ShelfTarget):
    class kind(Shelf):  # noqa: N801
        memory: ClassVar[dict[str, Any]] = {}

        def set_up(self) -> None:
            super().set_up()
            if not any(Path(self.path).parents[1].glob("second/*")):
                self.memory.clear()

        def put(self, key: str, value: object = 1) -> None:
            super().put(key, value)
            self.memory[key] = value

        def all(self) -> dict[str, Any]:
            return dict(self.memory)


class OneConnectionForAll(ShelfTarget):
    """A module's connection: the store that was opened last has it, and they all show the same."""

    class kind(Shelf):  # noqa: N801
        all_of_them: ClassVar[list[sqlite3.Connection]] = []

        def set_up(self) -> None:
            super().set_up()
            self.all_of_them.append(self.db)

        def put(self, key: str, value: object = 1) -> None:
            self.all_of_them[-1].execute("INSERT OR REPLACE INTO item VALUES(?, ?)", (key, value))

        def all(self) -> dict[str, Any]:
            return dict(self.all_of_them[-1].execute("SELECT key, value FROM item"))

        def close(self) -> None:
            self.all_of_them.remove(self.db)
            super().close()


class ClosesTheOther(OneConnectionForAll):
    """Opening a store closes the one before."""

    class kind(Shelf):  # noqa: N801
        last: ClassVar[dict[str, sqlite3.Connection]] = {}

        def set_up(self) -> None:
            if before := self.last.pop("one", None):
                before.close()
            super().set_up()
            self.last["one"] = self.db


class TakesTheTime(ShelfTarget):
    class kind(Shelf):  # noqa: N801
        def put(self, key: str, value: object = 1) -> None:
            super().put(key, time.time())


class TakesTheDay(ShelfTarget):
    class kind(Shelf):  # noqa: N801
        def put(self, key: str, value: object = 1) -> None:
            super().put(key, str(datetime.now().date()))


class TakesANumber(ShelfTarget):
    class kind(Shelf):  # noqa: N801
        def put(self, key: str, value: object = 1) -> None:
            super().put(key, random.random())  # noqa: S311


class Expires(ShelfTarget):
    """No time is in the view, but what is an hour old is not, either."""

    class kind(Shelf):  # noqa: N801
        schema = "CREATE TABLE IF NOT EXISTS item(key TEXT PRIMARY KEY, value, at REAL)"

        def put(self, key: str, value: object = 1) -> None:
            self.db.execute("INSERT OR REPLACE INTO item VALUES(?, ?, ?)", (key, value, time.time()))

        def all(self) -> dict[str, Any]:
            young = time.time() - 3600
            return dict(self.db.execute("SELECT key, value FROM item WHERE at > ?", (young,)))


class KeepsItsLock(ShelfTarget):
    class kind(Shelf):  # noqa: N801
        def set_up(self) -> None:
            self.db.execute("PRAGMA locking_mode = EXCLUSIVE")
            super().set_up()


class RequeuesAtStart(ShelfTarget):
    class kind(Shelf):  # noqa: N801
        def set_up(self) -> None:
            super().set_up()
            self.db.execute("UPDATE item SET value = 'queued' WHERE value = 'running'")

    calls = (Action("put", {"key": "a", "value": "running"}),)


class AnotherJournalMode(ShelfTarget):
    configurations = WAL


class NoClose(ShelfTarget):
    class kind:  # noqa: N801
        schema = Shelf.schema
        __init__, set_up, put, all = Shelf.__init__, Shelf.set_up, Shelf.put, Shelf.all


class RemembersInSecret(ShelfTarget):
    """A number that is in no view, and begins anew at each start; nothing is lost by it."""

    class kind(Shelf):  # noqa: N801
        number = 0

        def put(self, key: str, value: object = 1) -> None:
            self.number += 1
            super().put(key, self.number)

    calls = (*ShelfTarget.calls, Action("put", {"key": "c"}))


SET_UP_ERRORS = {
    MisspeltTable: "rows-read-what-the-store-writes",
    MisspeltColumn: "rows-read-what-the-store-writes",
    AnotherTable: "rows-read-what-the-store-writes",
    ReadsOddText: "rows-read-what-the-store-writes",
    NeedsItsCollation: "rows-read-what-the-store-writes",
    InMemory: "the-store-uses-its-path",
    AddsASuffix: "the-store-uses-its-path",
    KeepsItsLock: "a-reader-can-look-between-calls",
    AsyncCall: "calls-are-not-async",
    FutureCall: "calls-are-not-async",
    AsyncView: "calls-are-not-async",
    LazyCall: "calls-are-not-async",
    NamesKeysOtherwise: "view-and-rows-are-one-mapping",
    ReadsText: "view-and-rows-are-one-mapping",
    ReadsAList: "view-and-rows-are-one-mapping",
    NoBeat: "declarations",
    BeatOnAnOldKey: "one-key-per-thing",
    BeatOnce: "the-beat-adds-one-key",
    BeatOnARemovedKey: "the-beat-adds-one-key",
    BeatTwoKeys: "the-beat-adds-one-key",
    BeatTakesAnothersValue: "the-beat-adds-one-key",
    BeatTouchesAnother: "the-beat-adds-one-key",
    BeatTouchesAll: "declarations",
    MisspeltCall: "every-call-works",
    RefusedCall: "every-call-works",
    NoClose: "every-call-works",
    CountsThings: "one-key-per-thing",
    CountsLooks: "looking-changes-nothing",
    BeginsWithAVersion: "an-empty-store-shows-an-empty-view",
    OneMemoryForAll: "each-directory-is-a-store-of-its-own",
    OneConnectionForAll: "each-directory-is-a-store-of-its-own",
    ClosesTheOther: "each-directory-is-a-store-of-its-own",
    TakesTheTime: "the-same-calls-lead-to-the-same-state",
    TakesTheDay: "the-same-calls-lead-to-the-same-state",
    TakesANumber: "the-same-calls-lead-to-the-same-state",
    Expires: "the-same-calls-lead-to-the-same-state",
    RequeuesAtStart: "a-restart-changes-nothing",
    AnotherJournalMode: "declarations",
}
