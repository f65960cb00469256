"""Stores whose correctness depends on when a name is durable: moved files, rotated logs, a marker of a clean close."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from crash_places import Base, Keys
from plain_stores import Kept


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(path: Path, content: bytes, *, syncs: bool = True) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        if syncs:
            os.fsync(file)


class Queue:
    """One file for each value, written in `tmp`, and moved to `new`."""

    synced = "new"

    def __init__(self, path: Path) -> None:
        self.tmp, self.new = path.parent / "tmp", path.parent / "new"
        for directory in (self.tmp, self.new):
            if not directory.exists():
                directory.mkdir()
                sync_directory(path.parent)

    @staticmethod
    def read(home: Path) -> dict[str, Any]:
        return dict(json.loads(one.read_bytes()) for one in sorted((home / "new").glob("*")))

    def put(self, name: str, value: Any) -> None:
        # A power cut may lose the name that a failed call gave, and keep a later one.
        number = f"{max((int(one.name) for one in self.new.iterdir()), default=-1) + 1:04}"
        write(self.tmp / number, json.dumps((name, value)).encode())
        self.move(self.tmp / number, self.new / number)

    def move(self, old: Path, new: Path) -> None:
        old.rename(new)
        sync_directory(self.new.with_name(self.synced))

    def close(self) -> None:
        pass


class Linking(Queue):
    def move(self, old: Path, new: Path) -> None:
        new.hardlink_to(old)
        sync_directory(self.new.with_name(self.synced))
        old.unlink()


class Moved(Kept):
    store: type[Any] = Queue

    def view(self, store: Any) -> dict[str, Any]:
        return self.files_view(store.new.parent)

    def files_view(self, directory: Path) -> dict[str, Any]:
        return Queue.read(directory)


class Linked(Moved):
    store = Linking


class MovedOnce(Moved):
    """Shows a value that is in both directories as well: it never is, for a rename is one change."""

    def files_view(self, directory: Path) -> dict[str, Any]:
        twice = {one.name for one in directory.glob("tmp/*")} & {one.name for one in directory.glob("new/*")}
        return {**Queue.read(directory), **dict.fromkeys(twice, "twice")}


class LinkedOnce(MovedOnce):
    """acknowledged-is-durable: a link and a deletion are two changes."""

    store = Linking


class MovedSyncsTheOther(Moved):
    class store(Queue):  # noqa: N801 - an attribute of the target
        synced = "tmp"


class LinkedSyncsTheOther(Moved):
    class store(Linking):  # noqa: N801 - an attribute of the target
        synced = "tmp"


class Publishing(Queue):
    """A directory for each value, made as `tmp`; the sync of its entries follows its rename."""

    syncs = True

    def __init__(self, path: Path) -> None:
        self.new = path.parent / "new"

    @staticmethod
    def read(home: Path) -> dict[str, Any]:
        # A directory without a value is one that a crash has left.
        return dict(json.loads(one.read_bytes()) for one in sorted(home.glob("record-*/value")))

    def put(self, name: str, value: Any) -> None:
        home = self.new.parent
        tmp, record = home / "tmp", home / f"record-{len([*home.glob('record-*')]):04}"
        tmp.mkdir(exist_ok=True)
        write(tmp / "value", json.dumps((name, value)).encode())
        tmp.rename(record)
        if self.syncs:
            sync_directory(record)
        sync_directory(home)


class Published(Moved):
    store = Publishing

    def files_view(self, directory: Path) -> dict[str, Any]:
        return Publishing.read(directory)


class PublishedUnsynced(Published):
    class store(Publishing):  # noqa: N801 - an attribute of the target
        syncs = False


class Versions:
    """Each state is a directory of its own, and `current` a symbolic link to the newest, switched by a rename."""

    late = by_path = False

    def __init__(self, path: Path) -> None:
        self.home = path.parent
        if not (self.home / "current").is_symlink():
            self.publish({})

    @staticmethod
    def read(home: Path) -> dict[str, Any]:
        current = home / "current" / "data"
        return dict(json.loads(current.read_bytes())) if current.exists() else {}

    def put(self, name: str, value: Any) -> None:
        self.publish({**self.read(self.home), name: value})

    def publish(self, data: dict[str, Any]) -> None:
        version = self.home / f"v{1 + max((int(one.name[1:]) for one in self.home.glob('v*')), default=0)}"
        version.mkdir()
        write(version / "data", json.dumps(data).encode(), syncs=not self.late)
        sync_directory(version)
        sync_directory(self.home)
        (self.home / "new").unlink(missing_ok=True)
        (self.home / "new").symlink_to(version if self.by_path else version.name)
        (self.home / "new").replace(self.home / "current")
        sync_directory(self.home)
        if self.late:
            write(version / "data", json.dumps(data).encode())
        for old in self.home.glob("v*"):
            if old != version:
                shutil.rmtree(old)

    def close(self) -> None:
        pass


class Switched(Moved):
    store = Versions

    def view(self, store: Any) -> dict[str, Any]:
        return Versions.read(store.home)

    def files_view(self, directory: Path) -> dict[str, Any]:
        return Versions.read(directory)


class SwitchedByPath(Switched):
    class store(Versions):  # noqa: N801 - an attribute of the target
        by_path = True


class SwitchedEarly(Switched):
    """integrity: the link leads to a file that has not been synced."""

    class store(Versions):  # noqa: N801 - an attribute of the target
        late = True


class Segments:
    """The newest value is in `log`. Before each one the log is renamed away, and then created anew."""

    syncs = True

    def __init__(self, path: Path) -> None:
        self.path = path

    @staticmethod
    def read(home: Path) -> dict[str, Any]:
        # `log` is the newest.
        files = [*sorted(home.glob("log-*")), *home.glob("log")]
        lines = [line for one in files for line in one.read_bytes().splitlines()]
        return dict(json.loads(line) for line in lines if line.startswith(b"[") and line.endswith(b"]"))

    def put(self, name: str, value: Any) -> None:
        log = self.path.with_name("log")
        if log.exists():
            log.rename(log.with_name(f"log-{len([*log.parent.glob('log-*')]):04}"))
        write(log, json.dumps((name, value)).encode() + b"\n")
        if self.syncs:
            sync_directory(log.parent)

    def close(self) -> None:
        pass


class Rotated(Kept):
    store: type[Any] = Segments

    def view(self, store: Any) -> dict[str, Any]:
        return Segments.read(store.path.parent)

    def files_view(self, directory: Path) -> dict[str, Any]:
        return Segments.read(directory)


class RotatedUnsynced(Rotated):
    class store(Segments):  # noqa: N801 - an attribute of the target
        syncs = False


class Archive(Segments):
    """The log is renamed into another directory, which is synced last."""

    synced = (".", "old")

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.old = path.with_name("old")
        if not self.old.exists():
            self.old.mkdir()
            sync_directory(path.parent)

    @staticmethod
    def read(home: Path) -> dict[str, Any]:
        return {**Segments.read(home / "old"), **Segments.read(home)}

    def put(self, name: str, value: Any) -> None:
        log = self.path.with_name("log")
        if log.exists():
            log.rename(self.old / f"log-{len([*self.old.iterdir()]):04}")
        write(log, json.dumps((name, value)).encode() + b"\n")
        for one in self.synced:
            sync_directory(log.parent / one)


class Archived(Rotated):
    store = Archive

    def view(self, store: Any) -> dict[str, Any]:
        return self.files_view(store.path.parent)

    def files_view(self, directory: Path) -> dict[str, Any]:
        return Archive.read(directory)


class ArchivedSyncsTheOther(Archived):
    class store(Archive):  # noqa: N801 - an attribute of the target
        synced = ("old",)


class Totals(Keys):
    """Keeps the number of its rows in one sector of a file, and trusts that if the store was closed before."""

    opens_durably = True

    def begin(self) -> None:
        state = self.path.with_name("state")
        content = state.read_bytes() if state.exists() else b""
        if content.strip().isdigit() and int(content) != len(self.all()):
            raise RuntimeError(f"{content!r} rows were closed, and there are {len(self.all())}")
        self.set(b"open", syncs=self.opens_durably)

    def set(self, content: bytes, *, syncs: bool = True) -> None:
        descriptor = os.open(self.path.with_name("state"), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(descriptor, content.ljust(8), 0)
            if syncs:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        self.set(b"%d" % len(self.all()))
        super().close()


class ClosedMarker(Base):
    kind = Totals


class ClosedMarkerStays(Base):
    class kind(Totals):  # noqa: N801 - an attribute of the target
        opens_durably = False
