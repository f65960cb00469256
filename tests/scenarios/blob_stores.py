"""Stores that keep bytes in files beside their rows: the next call finds what a failed one has left of a file."""

import contextlib
import hashlib
import json
import os
import sqlite3
from pathlib import Path
from typing import Any

from tornpage import Action, Configuration, SimpleTarget


class Drafts:
    """Sound: a file has its name only when it is whole."""

    def __init__(self, path: Path) -> None:
        self.dir = path.parent / "blobs"
        self.dir.mkdir(exist_ok=True)
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS names (name TEXT PRIMARY KEY, digest TEXT)")

    def write(self, file: Path, data: bytes) -> None:
        draft = file.with_suffix(".tmp")
        try:
            self.fill(draft, data)
            draft.rename(file)
        except OSError:
            draft.unlink(missing_ok=True)
            raise

    def fill(self, file: Path, data: bytes) -> None:
        with file.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())

    def put(self, name: str, data: bytes) -> None:
        digest = hashlib.sha256(data).hexdigest()
        if not (self.dir / digest).exists():
            self.write(self.dir / digest, data)
        self.db.execute("INSERT OR REPLACE INTO names VALUES (?, ?)", (name, digest))

    def get(self, name: str) -> bytes | None:
        file = self.where(name)
        return None if file is None else Path(file).read_bytes()

    def where(self, name: str) -> str | None:
        """The path of a file, which is another one for each directory."""
        row = self.db.execute("SELECT digest FROM names WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(self.dir / row[0])

    def close(self) -> None:
        self.db.close()


class Counts(Drafts):
    """Sound: it counts what has failed since it was opened."""

    failures = 0

    def write(self, file: Path, data: bytes) -> None:
        try:
            super().write(file, data)
        except OSError:
            self.failures += 1
            raise

    def stats(self) -> dict[str, int]:
        return {"files": len(self.db.execute("SELECT name FROM names").fetchall()), "failures": self.failures}


class InPlace(Drafts):
    """Wrong: a file that is there is taken for whole."""

    def write(self, file: Path, data: bytes) -> None:
        self.fill(file, data)


class Exclusive(Drafts):
    """Wrong: what a failed write has left refuses each later one."""

    def put(self, name: str, data: bytes) -> None:
        digest = hashlib.sha256(data).hexdigest()
        file = self.dir / f"{name}-{digest}"
        if self.where(name) == str(file):
            return
        with file.open("xb") as out:
            out.write(data)
        self.db.execute("INSERT OR REPLACE INTO names VALUES (?, ?)", (name, f"{name}-{digest}"))


class Hushed(Drafts):
    """Wrong: an error of the write is swallowed."""

    def write(self, file: Path, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.fill(file, data)


class ByName(Drafts):
    """Wrong: a new version is written over the old one, which a failed write leaves half-way."""

    def put(self, name: str, data: bytes) -> None:
        self.fill(self.dir / name, data)
        self.db.execute("INSERT OR REPLACE INTO names VALUES (?, ?)", (name, hashlib.sha256(data).hexdigest()))

    def where(self, name: str) -> str | None:
        return str(self.dir / name)


class RowFirst(Drafts):
    """Wrong: the row is there before its file is, and stays without one."""

    def put(self, name: str, data: bytes) -> None:
        digest = hashlib.sha256(data).hexdigest()
        self.db.execute("INSERT OR REPLACE INTO names VALUES (?, ?)", (name, digest))
        if not (self.dir / digest).exists():
            self.write(self.dir / digest, data)

    def get(self, name: str) -> bytes | None:
        file = self.where(name)
        return None if file is None else Path(file).read_bytes() if Path(file).exists() else b""


class Exports(Drafts):
    """Sound: it exports its rows into a file, and may fail after the file was replaced."""

    def export(self) -> None:
        draft = self.dir / "names.tmp"
        draft.write_text(repr(self.db.execute("SELECT name FROM names").fetchall()))
        draft.rename(self.dir / "names.txt")
        held = os.open(self.dir, os.O_RDONLY)
        try:
            os.fsync(held)
        finally:
            os.close(held)

    def exported(self) -> str:
        return (self.dir / "names.txt").read_text()


class Published(Drafts):
    """Sound: after each commit the names are published in a file, whole; a call that fails there says so."""

    def publish(self) -> None:
        draft = self.dir / "names.tmp"
        draft.write_text(self.names())
        draft.rename(self.dir / "names.json")

    def names(self) -> str:
        return json.dumps(sorted(name for (name,) in self.db.execute("SELECT name FROM names")))

    def add(self, name: str) -> None:
        self.db.execute("INSERT OR REPLACE INTO names VALUES (?, '')", (name,))
        self.publish()

    def published(self) -> Any:
        file = self.dir / "names.json"
        return json.loads(file.read_text()) if file.exists() else []


class PublishedInPlace(Published):
    """Wrong: a write that failed has left what can't be read, although the names are stored."""

    def publish(self) -> None:
        (self.dir / "names.json").write_text(self.names())


class Parts(Drafts):
    """Wrong for two callers: the one that ends an upload removes the parts that the other one is about to read."""

    def part(self, number: int, data: str) -> None:
        (self.dir / f"part-{number}").write_text(data)

    def finish(self, name: str) -> int:
        parts = sorted(self.dir.glob("part-*"))
        if not parts:
            raise LookupError(name)
        self.db.execute("INSERT OR REPLACE INTO names VALUES (?, ?)", (name, "".join(one.read_text() for one in parts)))
        for one in parts:
            one.unlink(missing_ok=True)
        return len(parts)

    def upload(self, name: str) -> None:
        self.db.execute("INSERT OR REPLACE INTO names VALUES (?, 'whole')", (name,))


class BlobsTarget(SimpleTarget):
    title = "bytes in files"
    file = "names.db"
    configurations = (Configuration("delete", "FULL"),)
    calls = (
        Action("put", {"name": "a", "data": b"first"}),
        Action("get", {"name": "a"}),
        Action("where", {"name": "a"}),
        Action("put", {"name": "a", "data": b"second"}),
    )
    beat = Action("put", {"name": "beat", "data": b"third"})
    kind: Any = Drafts

    def make(self, path: Path, configuration: Any, environment: Any) -> Any:
        return self.kind(path)

    def view(self, store: Any) -> Any:
        return self.rows(store.db)

    def rows(self, connection: Any) -> Any:
        return dict(connection.execute("SELECT name, digest FROM names").fetchall())


class CountsTarget(BlobsTarget):
    kind = Counts
    calls = (*BlobsTarget.calls, Action("stats"))


class InPlaceTarget(BlobsTarget):
    kind = InPlace


class ExclusiveTarget(BlobsTarget):
    kind = Exclusive


class HushedTarget(BlobsTarget):
    kind = Hushed


class RowFirstTarget(BlobsTarget):
    kind = RowFirst


class ByNameTarget(BlobsTarget):
    kind = ByName


class ExportsTarget(BlobsTarget):
    kind = Exports
    calls = (
        Action("put", {"name": "a", "data": b"first"}),
        Action("export"),
        Action("exported"),
        Action("put", {"name": "b", "data": b"second"}),
        Action("export"),
    )


class PublishedTarget(BlobsTarget):
    kind: Any = Published
    calls = (Action("add", {"name": "a"}), Action("published"), Action("add", {"name": "b"}))
    beat = Action("add", {"name": "beat"})


class PublishedInPlaceTarget(PublishedTarget):
    kind = PublishedInPlace


class PartsTarget(BlobsTarget):
    kind = Parts
    calls = (Action("part", {"number": 0, "data": "he"}), Action("finish", {"name": "a"}))
    beat = Action("upload", {"name": "beat"})
