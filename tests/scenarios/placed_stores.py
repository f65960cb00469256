"""Stores of a program of its own in places and shapes of their own, by its first argument; some with a defect."""

import json
import os
import sqlite3
import sys
from pathlib import Path

MODE = sys.argv[1]
PLACES = {
    "subfolder": "data/deep/store.db",
    "unsynced": "data/deep/store.db",
    "chosen": "",
    "chosen-and-silent": "",
    "random": "",
}
DESCRIPTION = {
    "database": PLACES.get(MODE, "store.db"),
    "calls": [
        {"name": "put", "args": {"key": "a", "value": 1}},
        {"name": "put", "args": {"key": "b", "value": 2}},
    ],
    "beat": {"name": "put", "args": {"key": "beat", "value": 0}},
    "rows": ["SELECT key, value FROM t"],
}
if MODE == "several":
    DESCRIPTION["attached"] = {"users": "more/users.db"}
    DESCRIPTION["rows"].append("SELECT 'user ' || name, length(name) FROM users.people")
if MODE.startswith("steps"):
    DESCRIPTION["rows"].append("SELECT 'late ' || key, value FROM late")


def file_in(directory: str) -> Path:
    if MODE == "random":
        return Path(directory, f"store-{os.getpid()}-{os.urandom(4).hex()}.db")
    return Path(directory, DESCRIPTION["database"] or "year/2024.db")


def make(folder: Path) -> None:
    """A folder that is new is durable only when the one above it was synced."""
    if not folder.is_dir():
        make(folder.parent)
        folder.mkdir()
    if MODE != "unsynced":
        above = os.open(folder.parent, os.O_RDONLY)
        os.fsync(above)
        os.close(above)


class Store:
    def __init__(self, directory: str) -> None:
        self.file = file_in(directory)
        make(self.file.parent)
        self.db = sqlite3.connect(self.file, isolation_level=None, timeout=1)
        try:
            self.set_up(directory)
        except BaseException:
            self.db.close()
            raise

    def set_up(self, directory: str) -> None:
        self.db.execute("PRAGMA journal_mode=WAL").fetchall()
        self.db.execute("PRAGMA synchronous=FULL")
        is_new = not self.db.execute("SELECT 1 FROM sqlite_master").fetchall()
        self.db.execute("CREATE TABLE IF NOT EXISTS t(key TEXT PRIMARY KEY, value)")
        # What looks only whether the first table is there never makes the second one.
        if MODE == "steps" or (MODE == "steps-once" and is_new):
            self.db.execute("CREATE TABLE IF NOT EXISTS late(key TEXT PRIMARY KEY, value)")
        if MODE == "several":
            other = Path(directory, "more", "users.db")
            make(other.parent)
            self.db.execute("ATTACH ? AS users", (str(other),))
            self.db.execute("PRAGMA users.journal_mode=WAL").fetchall()
            self.db.execute("CREATE TABLE IF NOT EXISTS users.people(name PRIMARY KEY)")

    def put(self, key: str, value: int) -> None:
        if MODE == "several" and key != "beat":
            self.db.execute("INSERT OR REPLACE INTO users.people VALUES(?)", (f"of {key}",))
        else:
            self.db.execute("INSERT OR REPLACE INTO t VALUES(?, ?)", (key, value))

    def view(self) -> dict:
        view = dict(self.db.execute("SELECT key, value FROM t").fetchall())
        if MODE == "several":
            view |= {f"user {name}": len(name) for (name,) in self.db.execute("SELECT name FROM users.people")}
        return view


STORE: list[Store] = []


def answer(request: dict) -> dict:
    asked = request["do"]
    if asked == "describe":
        return {"protocol": 1, "description": DESCRIPTION}
    if asked == "open":
        STORE[:] = [Store(request["directory"])]
        is_told = not DESCRIPTION["database"] and MODE != "chosen-and-silent"
        return {"database": str(STORE[0].file)} if is_told else {}
    if asked == "call":
        STORE[0].put(**request["args"])
    elif asked == "view":
        return {"view": STORE[0].view()}
    elif asked == "close":
        STORE[0].db.close()
    return {}


for line in sys.stdin:
    try:
        said = {"answer": "done"} | answer(json.loads(line))
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
        said = {"answer": "failed", "message": str(error)}
    os.write(1, (json.dumps(said) + "\n").encode())
