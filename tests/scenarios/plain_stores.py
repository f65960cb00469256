"""Stores of plain files that write and sync in every way there is; those called `Sound…` do it right.

``--target plain_stores:SoundByLink`` names one on the command line.
"""

import ctypes
import functools
import io
import json
import mmap
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from os import fsync as bound_fsync
from os import replace as bound_replace
from pathlib import Path
from typing import Any

from tornpage import Action, Configuration, SimpleTarget

_partial_fsync = functools.partial(os.fsync)


class Store:
    """One JSON file, replaced as a whole; a subclass says how."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = self.read(path)

    @staticmethod
    def read(path: Path) -> dict[str, Any]:
        return dict(json.loads(path.read_bytes())) if path.exists() else {}

    def put(self, name: str, value: Any) -> None:
        data = {**self.data, name: value}
        try:
            self.save(json.dumps(data).encode(), self.path.with_suffix(".tmp"))
        except BaseException:
            # It may be there or not: the file knows.
            self.data = self.read(self.path)
            raise
        self.data = data

    def save(self, content: bytes, new: Path) -> None:
        raise NotImplementedError

    def sync_directory(self) -> None:
        descriptor = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync(self, path: Path) -> None:
        with path.open("rb") as file:
            os.fsync(file)

    def moved(self, new: Path) -> None:
        new.replace(self.path)
        self.sync_directory()

    def close(self) -> None:
        pass


class Kept(SimpleTarget):
    """The target of a store of plain files."""

    title = "one JSON file"
    configurations = (Configuration("file", "FULL"),)
    file = "store.json"
    calls = tuple(Action("put", {"name": name, "value": value}) for name, value in (("a", 1), ("b", 2), ("a", 3)))
    beat = Action("put", {"name": "heartbeat", "value": 1})
    store: type[Store] = Store

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Store:
        return self.store(path)

    def view(self, store: Store) -> dict[str, Any]:
        return dict(store.data)

    def files_view(self, directory: Path) -> dict[str, Any]:
        return Store.read(directory / self.file)

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        raise NotImplementedError


# -- sound, each in its own way ------------------------------------------------------------------------------


class SoundByBoundNames(Kept):
    class store(Store):  # noqa: N801 - an attribute of the target
        def save(self, content: bytes, new: Path, sync: Any = bound_fsync) -> None:
            with new.open("wb") as file:
                file.write(content)
                file.flush()
                sync(file.fileno())
            bound_replace(new, self.path)  # noqa: PTH105 - what is tested
            descriptor = os.open(self.path.parent, os.O_RDONLY)
            try:
                _partial_fsync(descriptor)
            finally:
                os.close(descriptor)


class SoundBySyncedDescriptor(Kept):
    class store(Store):  # noqa: N801 - an attribute of the target
        def save(self, content: bytes, new: Path) -> None:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_DSYNC)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            self.moved(new)


class SoundBySyncOfAll(Kept):
    class store(Store):  # noqa: N801 - an attribute of the target
        def save(self, content: bytes, new: Path) -> None:
            new.write_bytes(content)
            os.sync()
            new.replace(self.path)
            os.sync()


class SoundByFileIO(Kept):
    class store(Store):  # noqa: N801 - an attribute of the target
        # It keeps no file open.
        close: Any = None

        def save(self, content: bytes, new: Path) -> None:
            with io.FileIO(new, "w") as raw, io.BufferedWriter(raw) as file:
                file.write(content)
                file.flush()
                os.fdatasync(raw.fileno())
            self.moved(new)


class SoundByLink(Kept):
    """Made without a name, synced, linked, renamed."""

    class store(Store):  # noqa: N801 - an attribute of the target
        def save(self, content: bytes, new: Path) -> None:
            new.unlink(missing_ok=True)
            descriptor = os.open(self.path.parent, os.O_TMPFILE | os.O_RDWR)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file)
                os.link(f"/proc/self/fd/{descriptor}", new, src_dir_fd=descriptor)
            self.moved(new)


class SoundByCopy(Kept):
    """Copied inside the system, with ``sendfile`` or ``copy_file_range``."""

    class store(Store):  # noqa: N801 - an attribute of the target
        def save(self, content: bytes, new: Path) -> None:
            draft = new.with_suffix(".draft")
            draft.write_bytes(content)
            shutil.copyfile(draft, new)
            self.sync(new)
            self.moved(new)


class SoundByVectors(Kept):
    class store(Store):  # noqa: N801 - an attribute of the target
        def save(self, content: bytes, new: Path) -> None:
            with new.open("wb", buffering=0) as file:
                os.posix_fallocate(file.fileno(), 0, len(content))
                written = 0
                while written < len(content):
                    written += os.pwritev(file.fileno(), [content[written:], b""], written)
                os.fsync(file)
            self.moved(new)


class SoundByTempfile(Kept):
    class store(Store):  # noqa: N801 - an attribute of the target
        def save(self, content: bytes, new: Path) -> None:
            with tempfile.NamedTemporaryFile(dir=new.parent, prefix=f"{new.name}.", delete=False) as file:
                file.write(content)
                file.flush()
                os.fsync(file)
            self.moved(Path(file.name))


# -- not seen, and not known to be wrong ---------------------------------------------------------------------


class ByMap(Kept):
    class store(Store):  # noqa: N801 - an attribute of the target
        def save(self, content: bytes, new: Path) -> None:
            with new.open("w+b") as file:
                file.truncate(len(content))
                with mmap.mmap(file.fileno(), len(content)) as mapped:
                    mapped[:] = content
                    mapped.flush()
                os.fsync(file)
            self.moved(new)


class ByChild(Kept):
    class store(Store):  # noqa: N801 - an attribute of the target
        def save(self, content: bytes, new: Path) -> None:
            code = f"import os; f = open({os.fspath(new)!r}, 'wb'); f.write({content!r}); f.flush(); os.fsync(f)"
            subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
            self.moved(new)


class SyncedByChild(Kept):
    calls = Kept.calls[:1]

    class store(Store):  # noqa: N801 - an attribute of the target
        def save(self, content: bytes, new: Path) -> None:
            new.write_bytes(content)
            subprocess.run(["sync", new], check=True)
            self.moved(new)


class SyncedThroughCtypes(Kept):
    calls = Kept.calls[:1]

    class store(Store):  # noqa: N801 - an attribute of the target
        def save(self, content: bytes, new: Path) -> None:
            with new.open("wb") as file:
                file.write(content)
                file.flush()
                self.sync_by_c(file.fileno())
            self.moved(new)

        def sync_by_c(self, descriptor: int) -> None:
            ctypes.CDLL(None).fsync(descriptor)


C_LIBRARY = ctypes.CDLL(None)


class SyncedThroughOneLibrary(Kept):
    """The library is loaded with the module, and its function looked up once."""

    calls = Kept.calls[:1]

    class store(SyncedThroughCtypes.store):  # noqa: N801 - an attribute of the target
        def sync_by_c(self, descriptor: int) -> None:
            C_LIBRARY.fdatasync(descriptor)


# -- wrong ---------------------------------------------------------------------------------------------------


class LinkedUnsynced(Kept):
    """integrity: the link may be there before the content."""

    class store(Store):  # noqa: N801 - an attribute of the target
        def save(self, content: bytes, new: Path) -> None:
            new.unlink(missing_ok=True)
            descriptor = os.open(self.path.parent, os.O_TMPFILE | os.O_RDWR)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.link(f"/proc/self/fd/{descriptor}", new, src_dir_fd=descriptor)
            self.moved(new)


class CopiedUnsynced(Kept):
    class store(Store):  # noqa: N801 - an attribute of the target
        def save(self, content: bytes, new: Path) -> None:
            draft = new.with_suffix(".draft")
            draft.write_bytes(content)
            self.sync(draft)
            shutil.copy(draft, new)
            self.moved(new)


class MovedByShutil(Kept):
    """integrity: where a rename fails, ``shutil.move`` copies over the old file, and syncs nothing."""

    class store(Store):  # noqa: N801 - an attribute of the target
        def save(self, content: bytes, new: Path) -> None:
            with new.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file)
            shutil.move(new, self.path)
            self.sync_directory()


class IgnoresHowMuch(Kept):
    """integrity: a write may write less than it was given, and says so."""

    class store(Store):  # noqa: N801 - an attribute of the target
        def save(self, content: bytes, new: Path) -> None:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                os.write(descriptor, content)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self.moved(new)


class InPlace(Kept):
    """integrity: the old file is cut before the new one is whole."""

    class store(Store):  # noqa: N801 - an attribute of the target
        def save(self, content: bytes, new: Path) -> None:
            self.path.write_bytes(content)
            self.sync(self.path)


class LeaksItsLock(SoundByFileIO):
    """still-usable-after-the-fault: where the write of the process id fails, the lock's descriptor stays open."""

    class store(SoundByFileIO.store):  # noqa: N801 - an attribute of the target
        def __init__(self, path: Path) -> None:
            lock = path.with_name("lock")
            lock.unlink(missing_ok=True)
            descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            os.write(descriptor, str(os.getpid()).encode())
            os.close(descriptor)
            super().__init__(path)


# -- beside SQLite -------------------------------------------------------------------------------------------


class Blobs:
    """Names in SQLite, each value in a file of its own, written and synced before its name is committed."""

    def __init__(self, path: Path) -> None:
        self.home = path.parent
        self.connection = sqlite3.connect(path, isolation_level=None)
        try:
            self.connection.execute("PRAGMA journal_mode=WAL")
            self.connection.execute("PRAGMA synchronous=FULL")
            self.connection.execute("CREATE TABLE IF NOT EXISTS blobs (name TEXT PRIMARY KEY, file TEXT)")
        except BaseException:
            self.connection.close()
            raise

    def put(self, name: str, value: int) -> None:
        # Never a name that a row may refer to: the blob of a value that is put again is another one.
        used = [int(one.stem.rpartition("-")[2]) for one in self.home.glob("*.blob")]
        file = f"{name}-{value}-{max(used, default=0) + 1}.blob"
        self.write(self.home / file, f"{value}:" + "x" * 200)
        self.connection.execute("INSERT OR REPLACE INTO blobs VALUES (?, ?)", (name, file))

    def write(self, path: Path, content: str) -> None:
        with path.open("w") as file:
            file.write(content)
            file.flush()
            os.fsync(file)
        descriptor = os.open(self.home, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        self.connection.close()


class CarelessBlobs(Blobs):
    def write(self, path: Path, content: str) -> None:
        try:
            super().write(path, content)
        except OSError:
            print(f"{path} could not be written", file=sys.stderr)


def _values(connection: sqlite3.Connection, home: Path) -> dict[str, Any]:
    found = {}
    for name, file in connection.execute("SELECT name, file FROM blobs"):
        content = (home / file).read_text() if (home / file).exists() else ""
        found[name] = content.partition(":")[0] if content.endswith("x" * 200) else "lost"
    return found


class SoundBlobs(SimpleTarget):
    title = "blobs beside SQLite"
    file = "names.sqlite"
    calls = Kept.calls
    beat = Kept.beat
    unpromised: Mapping[str, str] = {"waits-for-a-short-lock": "it has no busy timeout"}
    store: type[Blobs] = Blobs

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Blobs:
        return self.store(path)

    def view(self, store: Blobs) -> dict[str, Any]:
        return _values(store.connection, store.home)

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        return _values(connection, Path(connection.execute("PRAGMA database_list").fetchone()[2]).parent)


class SwallowsBlobErrors(SoundBlobs):
    """acknowledged-is-durable: the disk is full, and no observer hears of it."""

    store = CarelessBlobs
