"""Stores whose verdict depends on more than their database's rows: other files, other databases, paths and processes.

Of each kind a sound one and one that loses something.
"""

import contextlib
import json
import os
import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tornpage import Action, Configuration, SimpleTarget


def synced(path: Path, content: bytes, *, really: bool = True) -> None:
    """Write a file beside, sync it, rename it, sync the directory."""
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        if really:
            os.fsync(file.fileno())
    new.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class Keys:
    """Keys and values in a database."""

    mode, synchronous = "WAL", "FULL"

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.db = self.connect()
        try:
            self.begin()
        except BaseException:
            self.db.close()
            raise

    def connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None)
        try:
            db.execute(f"PRAGMA journal_mode={self.mode}")
            db.execute(f"PRAGMA synchronous={self.synchronous}")
            db.execute("CREATE TABLE IF NOT EXISTS kv (name TEXT PRIMARY KEY, value)")
        except BaseException:
            db.close()
            raise
        return db

    def begin(self) -> None:
        """Look at what is there."""

    def put(self, name: str, value: Any) -> None:
        self.db.execute("INSERT OR REPLACE INTO kv VALUES (?, ?)", (name, value))

    def remove(self, name: str) -> None:
        self.db.execute("DELETE FROM kv WHERE name = ?", (name,))

    def all(self) -> dict[str, Any]:
        return dict(self.db.execute("SELECT name, value FROM kv"))

    def close(self) -> None:
        self.db.close()


class Base(SimpleTarget):
    title = "keys"
    calls = (Action("put", {"name": "a", "value": 1}), Action("put", {"name": "b", "value": 2}))
    beat = Action("put", {"name": "heartbeat", "value": 1})
    unpromised: Mapping[str, str] = {"waits-for-a-short-lock": "WAL on a new file waits for no lock"}
    kind: type[Any] = Keys

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Any:
        return self.kind(path)

    def view(self, store: Any) -> dict[str, Any]:
        return dict(store.all())

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'kv'").fetchall():
            return {}
        return dict(connection.execute("SELECT name, value FROM kv"))


# -- a file beside the database that is read when the store opens ---------------------------------------------


class Marked(Keys):
    really = True

    def begin(self) -> None:
        marker = self.path.with_name("version")
        if marker.exists():
            int(marker.read_text())
        else:
            synced(marker, b"1", really=self.really)


class MarkedUnsynced(Marked):
    really = False


class SideFile(Base):
    kind = Marked


class SideFileUnsynced(Base):
    kind = MarkedUnsynced


# -- rows that no view shows ----------------------------------------------------------------------------------


class Counted(Keys):
    """Keeps the number of its keys in a table of its own, and wants it to be right."""

    separately = False

    def begin(self) -> None:
        self.db.execute("CREATE TABLE IF NOT EXISTS count (n)")
        [n] = self.db.execute("SELECT coalesce(sum(n), 0) FROM count").fetchone()
        if n != len(self.all()):
            raise RuntimeError(f"{n} keys were counted, and there are {len(self.all())}")

    def put(self, name: str, value: Any) -> None:
        new = name not in self.all()
        if not self.separately:
            self.db.execute("BEGIN IMMEDIATE")
        try:
            super().put(name, value)
            if new:
                self.db.execute("INSERT INTO count VALUES (1)")
            if self.db.in_transaction:
                self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise


class CountedSeparately(Counted):
    separately = True


class HiddenRows(Base):
    kind = Counted


class HiddenRowsApart(Base):
    kind = CountedSeparately


# -- two databases, one transaction ---------------------------------------------------------------------------


class TwoFiles(Keys):
    mode, synchronous = "DELETE", "EXTRA"

    def begin(self) -> None:
        self.db.execute("ATTACH ? AS other", (f"{self.path}.other",))
        self.db.execute(f"PRAGMA other.journal_mode={self.mode}")
        self.db.execute(f"PRAGMA other.synchronous={self.synchronous}")
        self.db.execute("CREATE TABLE IF NOT EXISTS other.names (name TEXT PRIMARY KEY)")
        names = {name for (name,) in self.db.execute("SELECT name FROM names")}
        if names != set(self.all()):
            raise RuntimeError(f"the two files disagree: {names ^ set(self.all())}")

    def put(self, name: str, value: Any) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            self.db.execute("INSERT OR IGNORE INTO names VALUES (?)", (name,))
            super().put(name, value)
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise


class TwoLogs(TwoFiles):
    mode = "WAL"


class Attached(Base):
    kind = TwoFiles
    configurations = (Configuration("delete", "EXTRA"),)


class AttachedLogs(Base):
    kind = TwoLogs
    configurations = (Configuration("wal", "EXTRA"),)


# -- rows with absolute paths ---------------------------------------------------------------------------------


class Blobs(Keys):
    """The row of a key names a file by its whole path, and the file is removed with it."""

    really = True

    def put(self, name: str, value: Any) -> None:
        blob = self.path.with_name(f"{name}-{value}.blob").absolute()
        synced(blob, json.dumps(value).encode(), really=self.really)
        self.db.execute("INSERT OR REPLACE INTO kv VALUES (?, ?)", (name, str(blob)))

    def remove(self, name: str) -> None:
        [blob] = self.db.execute("SELECT value FROM kv WHERE name = ?", (name,)).fetchone()
        super().remove(name)
        Path(blob).unlink()

    def all(self) -> dict[str, Any]:
        return {name: json.loads(Path(blob).read_bytes()) for name, blob in super().all().items()}


class BlobsUnsynced(Blobs):
    really = False


class AbsolutePaths(Base):
    kind = Blobs
    calls = (*Base.calls, Action("remove", {"name": "a"}))

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        return {name: json.loads(Path(blob).read_bytes()) for name, blob in super().rows(connection).items()}


class AbsolutePathsUnsynced(AbsolutePaths):
    kind = BlobsUnsynced


# -- a lock file that names a process -------------------------------------------------------------------------


class Locked(Keys):
    """One process at a time: a file names it, and is taken over when that process is no more."""

    takes_over = True

    def __init__(self, path: Path) -> None:
        self.lock = Path(path).with_name("lock")
        if self.lock.exists() and not (self.takes_over and self.is_left()):
            raise RuntimeError(f"in use by process {self.lock.read_text()}")
        # As a whole or not at all: half a number is that of another process.
        synced(self.lock, str(os.getpid()).encode())
        try:
            super().__init__(path)
        except BaseException:
            self.lock.unlink()
            raise

    def is_left(self) -> bool:
        try:
            os.kill(int(self.lock.read_text()), 0)
        except (ValueError, ProcessLookupError):
            return True
        return False

    def close(self) -> None:
        super().close()
        self.lock.unlink()


class LockedForEver(Locked):
    takes_over = False


class PidFile(Base):
    kind = Locked


class PidFileForEver(Base):
    kind = LockedForEver


# -- directories of the store's own ---------------------------------------------------------------------------


class Housed(Keys):
    """Makes the directory of its database when it opens, as most stores do, and syncs nothing above it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(path)


class InDirectory(Base):
    kind = Housed
    file = "data/of/store.sqlite"


class HousedBehindALock(Housed):
    """Takes a lock, a directory that is made and removed each time."""

    def __init__(self, path: Path) -> None:
        lock = path.parent.with_name("lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(2):
            lock.mkdir(exist_ok=True)
            lock.rmdir()
        super().__init__(path)


class InDirectoryBehindALock(InDirectory):
    kind = HousedBehindALock


class HousedLate(Housed):
    """The same at the first call."""

    def __init__(self, path: Path) -> None:
        self.late = path
        if path.exists():
            self.open()

    def open(self) -> None:
        super().__init__(self.late)
        if self.db.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            # SQLite says only so that it could not switch; in the mode that it stays in, a power cut may cost a change.
            self.close()
            del self.db
            raise sqlite3.OperationalError("the log could not be switched on")

    def put(self, name: str, value: Any) -> None:
        if not hasattr(self, "db"):
            self.open()
        super().put(name, value)

    def all(self) -> dict[str, Any]:
        return super().all() if hasattr(self, "db") else {}

    def close(self) -> None:
        if hasattr(self, "db"):
            super().close()


class InDirectoryOfTheFirstCall(InDirectory):
    kind = HousedLate


class Shelves:
    """A directory for each key, made when it is put first, with a file that is written and synced well."""

    syncs_above = True

    def __init__(self, path: Path) -> None:
        self.home = Path(path).parent

    def put(self, name: str, value: Any) -> None:
        shelf = self.home / name
        if not shelf.exists():
            shelf.mkdir()
        if self.syncs_above:
            # Also where it is there: an earlier call may have failed here.
            home = os.open(self.home, os.O_RDONLY)
            try:
                os.fsync(home)
            finally:
                os.close(home)
        synced(shelf / "value", json.dumps(value).encode())

    def all(self) -> dict[str, Any]:
        return self.read(self.home)

    @staticmethod
    def read(home: Path) -> dict[str, Any]:
        return {path.parent.name: json.loads(path.read_bytes()) for path in sorted(home.glob("*/value"))}

    def close(self) -> None:
        """There is nothing to close."""


class ShelvesUnsynced(Shelves):
    syncs_above = False


class DirectoryOfEachKey(Base):
    kind = Shelves
    configurations = (Configuration("file", "FULL"),)

    def files_view(self, directory: Path) -> dict[str, Any]:
        return Shelves.read(directory)


class DirectoryOfEachKeyUnsynced(DirectoryOfEachKey):
    kind = ShelvesUnsynced


# -- no connection between calls ------------------------------------------------------------------------------


# -- what a store does to SQLite's own files by itself ---------------------------------------------------------


class Books(Keys):
    """Two tables in one transaction, over a rollback journal."""

    mode, synchronous = "DELETE", "EXTRA"

    def begin(self) -> None:
        self.db.execute("CREATE TABLE IF NOT EXISTS books (name TEXT PRIMARY KEY, value)")

    def put(self, name: str, value: Any) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            super().put(name, value)
            self.db.execute("INSERT OR REPLACE INTO books VALUES (?, ?)", (name, value))
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise


class RemovesJournal(Books):
    """It takes the journal that it finds at its start for a leftover."""

    def connect(self) -> sqlite3.Connection:
        journal = self.path.with_name(f"{self.path.name}-journal")
        if journal.exists() and self.is_leftover(journal):
            journal.unlink()
        return super().connect()

    def is_leftover(self, journal: Path) -> bool:
        return True


class RemovesEmptyJournal(RemovesJournal):
    def is_leftover(self, journal: Path) -> bool:
        return not journal.stat().st_size


class JournalKept(Base):
    kind = RemovesEmptyJournal
    configurations = (Configuration("delete", "EXTRA"),)


class JournalRemoved(JournalKept):
    kind = RemovesJournal


# -- a database that is moved away, and a new one in its place -------------------------------------------------


class Volumes(Keys):
    """After a key that begins with "b" the database becomes a volume, and the next change begins a new one."""

    mode, synchronous = "DELETE", "EXTRA"
    is_closed = False

    def again(self) -> None:
        if self.is_closed:
            self.db, self.is_closed = self.connect(), False

    def put(self, name: str, value: Any) -> None:
        self.again()
        super().put(name, value)
        if name.startswith("b"):
            self.db.close()
            self.is_closed = True
            self.move()

    def move(self) -> None:
        number = len(volumes(self.path.parent))
        self.move_to(self.path.with_name(f"volume-{number}.sqlite"))
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def move_to(self, volume: Path) -> None:
        self.path.rename(volume)

    def all(self) -> dict[str, Any]:
        self.again()
        return of_volumes(self.path.parent) | super().all()


class VolumesCopied(Volumes):
    """Nothing syncs the copy before the original goes."""

    def move_to(self, volume: Path) -> None:
        shutil.copyfile(self.path, volume)
        self.path.unlink()


def volumes(directory: Path) -> list[Path]:
    return sorted(directory.glob("volume-*.sqlite"))


def of_volumes(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for volume in volumes(directory):
        with contextlib.closing(sqlite3.connect(volume)) as connection:
            found |= dict(connection.execute("SELECT name, value FROM kv"))
    return found


class MovedAway(Base):
    kind = Volumes
    configurations = (Configuration("delete", "EXTRA"),)

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        home = Path(connection.execute("PRAGMA database_list").fetchone()[2]).parent
        return of_volumes(home) | super().rows(connection)


class CopiedAway(MovedAway):
    kind = VolumesCopied


# -- one connection per call -----------------------------------------------------------------------------------


class PerCall(Keys):
    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def put(self, name: str, value: Any) -> None:
        with contextlib.closing(self.connect()) as self.db:
            super().put(name, value)

    def all(self) -> dict[str, Any]:
        with contextlib.closing(self.connect()) as self.db:
            return super().all()

    def close(self) -> None:
        """There is nothing to close."""


class PerCallUnsynced(PerCall):
    synchronous = "OFF"


class OpenedPerCall(Base):
    kind = PerCall


class OpenedPerCallUnsynced(Base):
    kind = PerCallUnsynced


# -- a schema that is older than the log ----------------------------------------------------------------------


class Late(Keys):
    def connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None)
        try:
            db.execute("CREATE TABLE IF NOT EXISTS kv (name TEXT PRIMARY KEY, value)")
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
        except BaseException:
            db.close()
            raise
        return db


class LogAfterSchema(Base):
    kind = Late


# -- after a sync has failed ----------------------------------------------------------------------------------


class Log:
    """Records of one length, one after the other; a reader stops at the first one that is not whole."""

    size = 5000
    goes_on = False

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.end = len(self.records(self.path)) * self.size

    @classmethod
    def records(cls, path: Path) -> list[tuple[str, Any]]:
        found: list[tuple[str, Any]] = []
        content = path.read_bytes() if path.exists() else b""
        for start in range(0, len(content), cls.size):
            text = content[start : start + cls.size]
            if len(text) < cls.size or b"\0" in text or not text.endswith(b"\n"):
                break
            name, _, value = text.decode().strip().partition("=")
            found.append((name, int(value)))
        return found

    def put(self, name: str, value: Any) -> None:
        record = f"{name}={value}".encode().ljust(self.size - 1) + b"\n"
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.ftruncate(file, self.end)
            self.write(file, record)
        finally:
            os.close(file)
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def write(self, file: int, record: bytes) -> None:
        try:
            written = 0
            while written < len(record):
                written += os.pwrite(file, record[written:], self.end + written)
            if self.goes_on:
                self.end += self.size
            os.fsync(file)
        except OSError:
            if not self.goes_on:
                # Written over by the next record, and so taken along when that is synced; until then it is cut off.
                os.ftruncate(file, self.end)
                os.fsync(file)
            raise
        if not self.goes_on:
            self.end += self.size

    def all(self) -> dict[str, Any]:
        return dict(self.records(self.path))

    def close(self) -> None:
        """There is nothing to close."""


class LogGoesOn(Log):
    """Appends behind what could not be synced."""

    goes_on = True


class AppendOnly(Base):
    kind = Log
    configurations = (Configuration("file", "FULL"),)
    survives_failed_sync = True

    def files_view(self, directory: Path) -> dict[str, Any]:
        return dict(Log.records(directory / self.file))


class AppendOnlyGoesOn(AppendOnly):
    kind = LogGoesOn


# -- one file, replaced as a whole ----------------------------------------------------------------------------


class Replaced:
    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def put(self, name: str, value: Any) -> None:
        synced(self.path, json.dumps({**self.all(), name: value}).encode())

    def all(self) -> dict[str, Any]:
        return dict(json.loads(self.path.read_bytes())) if self.path.exists() else {}

    def close(self) -> None:
        """There is nothing to close."""


class OneFile(Base):
    kind = Replaced
    configurations = (Configuration("file", "FULL"),)

    def files_view(self, directory: Path) -> dict[str, Any]:
        return Replaced(directory / self.file).all()


# -- files that a disk gives back damaged ---------------------------------------------------------------------


class Hides(Keys):
    """Takes an error for an empty store."""

    def all(self) -> dict[str, Any]:
        try:
            return super().all()
        except sqlite3.DatabaseError:
            return {}


class BeginsAnew(Keys):
    """Takes a database that it can't open for none."""

    def __init__(self, path: Path) -> None:
        try:
            super().__init__(path)
            self.all()
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise
            self.db.close()
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            super().__init__(path)


class HidesErrors(Base):
    kind = Hides


class DeletesWhatItCannotRead(Base):
    kind = BeginsAnew


class HidesBadJson(OneFile):
    """Takes a file that is no JSON for none."""

    class kind(Replaced):  # noqa: N801 - an attribute of the target
        def all(self) -> dict[str, Any]:
            try:
                return super().all()
            except ValueError:
                return {}


# -- large values, and the directory synced one line too early ------------------------------------------------


def synced_too_early(path: Path, content: bytes) -> None:
    """As `synced`, but the directory is synced before the rename that it should make last."""
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    new.replace(path)


class Large:
    """A value of 150 KB in a file of its own."""

    put_down = staticmethod(synced)

    def __init__(self, path: Path) -> None:
        self.home = Path(path).parent

    def put(self, name: str, value: int) -> None:
        self.put_down(self.home / f"{name}.value", f"{value:06}".encode() * 25_000)

    def all(self) -> dict[str, Any]:
        return self.read(self.home)

    @staticmethod
    def read(home: Path) -> dict[str, Any]:
        return {
            path.stem: int(content[:6]) if len(content := path.read_bytes()) == 150_000 else len(content)
            for path in sorted(home.glob("*.value"))
        }

    def close(self) -> None:
        """There is nothing to close."""


class LargeTooEarly(Large):
    put_down = staticmethod(synced_too_early)


class LargeValues(Base):
    kind = Large
    configurations = (Configuration("file", "FULL"),)

    def files_view(self, directory: Path) -> dict[str, Any]:
        return Large.read(directory)


class LargeValuesTooEarly(LargeValues):
    kind = LargeTooEarly
