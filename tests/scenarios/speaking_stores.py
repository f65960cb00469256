"""A program that speaks the protocol, right; and the same with one defect each, by the word after its name.

It is what a user would write in Python, in one file, and imports nothing of the harness.
``--target 'command:python speaking_stores.py'`` names it on the command line.
"""

import json
import os
import random
import sqlite3
import sys
import time
from pathlib import Path

MODE = sys.argv[1] if len(sys.argv) > 1 else "right"
FOREVER_S = 3600

DESCRIPTION = {
    "title": f"speaking, {MODE}",
    "database": "store.db",
    "calls": [
        {"name": "put", "args": {"key": "a", "value": 1}},
        {"name": "move", "args": {"key": "a", "to": "b"}},
        {"name": "drop", "args": {"key": "nothing"}},
    ],
    "beat": {"name": "put", "args": {"key": "heartbeat", "value": 0}},
    "rows": ["SELECT key, value FROM t"],
    "answers_within_s": 1 if "hangs" in MODE else 10,
    "refuses": ["drop"],
    "dies_on_errors": MODE == "dies-on-errors-and-says-so",
    "opens_once": MODE == "opens-once",
}
CHANGES = {
    "unknown-field": {"datebase": "store.db"},
    "path-as-database": {"database": "../store.db"},
    "unknown-check": {"unpromised": {"no-such-check": "because"}},
    "unknown-mode": {"configurations": ["wall/FULL"]},
    "for-files": {"configurations": ["file/FULL"]},
    "no-calls": {"calls": []},
    "one-column": {"rows": ["SELECT key FROM t"]},
    "bad-query": {"rows": ["SELECT key, value FROM nowhere"]},
    "beat-adds-nothing": {"beat": {"name": "drop", "args": {"key": "a"}}},
    "memory-first-and-says-so": {"unpromised": {"memory-equals-disk": "memory is only a hint"}},
    "logs-and-says-so": {"beat_touches": ["log/"]},
    "delete": {"configurations": ["delete/FULL"]},
}


class Refused(Exception):  # noqa: N818 - an answer, not an error
    pass


class Store:
    def __init__(self, request: dict) -> None:
        if MODE == "fails-to-open":
            raise OSError("the licence has expired")
        self.path = place_of(request["directory"])
        self.db = sqlite3.connect(self.path, isolation_level=None, timeout=1)
        try:
            self.set_up(request["journal_mode"], request["synchronous"])
            self.db.execute("CREATE TABLE IF NOT EXISTS t(key TEXT PRIMARY KEY, value)")
            self.memory = dict(self.db.execute("SELECT key, value FROM t").fetchall())
        except BaseException:
            self.db.close()
            raise

    def set_up(self, journal_mode: str, synchronous: str) -> None:
        (mode,) = self.db.execute(f"PRAGMA journal_mode={journal_mode}").fetchone()
        if mode != journal_mode:
            # Where the WAL's shared memory can't be had, SQLite stays in the old mode and says so in this row only.
            raise OSError(f"the journal mode is {mode}")
        self.db.execute(f"PRAGMA synchronous={synchronous}")

    def put(self, key: str, value: int) -> None:
        if MODE == "random":
            value = random.random()  # noqa: S311 - it is the defect
        if MODE.startswith("memory-first"):
            self.memory[key] = value
        rows = {key: value} | ({f"log/{len(self.memory)}": key} if MODE.startswith("logs") else {})
        self.transact(*(("INSERT OR REPLACE INTO t VALUES(?, ?)", row) for row in rows.items()))
        self.memory |= rows

    def move(self, key: str, to: str) -> None:
        if key not in self.memory:
            raise Refused(f"no such key: {key}")
        if MODE == "leaves-it-open" and to in self.memory:
            self.db.execute("BEGIN IMMEDIATE")
            raise Refused(f"there is one: {to}")
        value = self.memory[key]
        statements = [("INSERT OR REPLACE INTO t VALUES(?, ?)", (to, value)), ("DELETE FROM t WHERE key = ?", (key,))]
        if MODE == "two-transactions":
            self.transact(statements[0])
            self.transact(statements[1])
        else:
            self.transact(*statements)
        del self.memory[key]
        self.memory[to] = value

    def drop(self, key: str) -> None:
        if key not in self.memory:
            raise Refused(f"no such key: {key}")
        self.transact(("DELETE FROM t WHERE key = ?", (key,)))
        del self.memory[key]

    def transact(self, *statements: tuple) -> None:
        try:
            self.db.execute("BEGIN IMMEDIATE")
            for statement in statements:
                self.db.execute(*statement)
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        if MODE != "leaves-files-open":
            self.db.close()


FIRST: list[str] = []


def place_of(directory: str) -> Path:
    FIRST.append(directory)
    if MODE == "elsewhere":
        return Path(os.environ["ELSEWHERE"], "store.db")
    if MODE == "remembers-its-first-directory":
        directory = FIRST[0]
    if MODE == "scribbles" and len(FIRST) > 1:
        Path(FIRST[0], "notes.txt").write_text("was here")
    if MODE == "other-name":
        return Path(directory, "other.db")
    return Path(directory, "store.db")


STORE: list[Store] = []


def misbehave(asked: str) -> None:
    how = MODE.removesuffix(f"-in-{asked}")
    if how == "hangs":
        time.sleep(FOREVER_S)
    elif how == "dies":
        print("out of cheese", file=sys.stderr)
        sys.exit(3)
    elif how == "garbage":
        os.write(1, b"hello there\n")


def describe() -> dict:
    if MODE == "no-description":
        return {}
    description = DESCRIPTION | CHANGES.get(MODE, {})
    return {"protocol": 2 if MODE == "newer-protocol" else 1, "pid": os.getpid(), "description": description}


def answer(request: dict) -> dict:
    asked = request["do"]
    misbehave(asked)
    if asked == "describe":
        return describe()
    if asked == "open":
        STORE[:] = [Store(request)]
    elif asked == "call":
        getattr(STORE[0], request["action"])(**request["args"])
        return {"value": {request["action"]: request["args"]["key"]}} if MODE == "answers" else {}
    elif asked == "view":
        return {"view": STORE[0].memory}
    elif asked == "close":
        STORE[0].close()
    return {}


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        try:
            said = {"answer": "done"} | answer(request)
        except Refused as refusal:
            said = {"answer": "refused", "message": str(refusal)}
        except Exception as error:
            if "dies-on-errors" in MODE:
                raise SystemExit(7) from error
            if MODE == "hangs-on-errors":
                time.sleep(FOREVER_S)
            if MODE == "garbage-on-errors":
                os.write(1, b"Traceback (most recent call last):\n")
            change = {"change": "unchanged"} if MODE == "promises-much" else {}
            said = {"answer": "failed", "message": str(error)} | change
        # One write, whether or not Python buffers its output.
        os.write(1, (json.dumps(said) + "\n").encode() * (2 if MODE == "talks-too-much" else 1))


if __name__ == "__main__":
    main()
