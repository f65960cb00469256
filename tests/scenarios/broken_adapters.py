"""Programs that do not keep to the protocol, one for each way: the step, and how it goes wrong there."""

import json
import os
import sqlite3
import sys
import time
from pathlib import Path

MODE = sys.argv[1]
STEP, _, HOW = MODE.partition("-")
FOREVER_S = 600
DESCRIPTION = {
    "database": "store.db",
    "calls": [{"name": "put", "args": {"key": "a"}}],
    "beat": {"name": "put", "args": {"key": "beat"}},
    "rows": ["SELECT key, 1 FROM t"],
    "answers_within_s": 1.0,
}
# What stands in the place of an answer.
LINES = {
    "garbage": b"hello there\n",
    "empty": b"\n",
    "number": b"7\n",
    "list": b'[{"answer": "done"}]\n',
    "null": b"null\n",
    "kind": b'{"answer": "ok"}\n',
    "no_kind": b'{"done": true}\n',
    "field": b'{"answer": "done", "result": 1}\n',
    "bytes": b'{"answer": "failed", "message": "\xff\xfe"}\n',
    "cut": b'{"answer": "do\n',
    "trace": b"Traceback (most recent call last):\n",
}
DESCRIPTIONS = {
    "no_calls": {"calls": []},
    "calls_text": {"calls": ["put"]},
    "calls_args": {"calls": [{"name": "put", "args": ["a"]}]},
    "no_rows": {"rows": []},
    "rows_text": {"rows": "SELECT key, 1 FROM t"},
    "beat_text": {"beat": "put"},
    "elsewhere": {"database": "/tmp/store.db"},  # noqa: S108 - it is the mistake
    "above": {"database": "../store.db"},
    "mode": {"configurations": ["wall/FULL"]},
    "level": {"configurations": ["wal/SURE"]},
    "limit": {"answers_within_s": -1},
    "typo": {"datebase": "store.db"},
    "check": {"unpromised": {"no-such-check": "because"}},
    "attached": {"attached": {"users": "/etc/users.db"}},
}
STORE: list[sqlite3.Connection] = []


def write(line: bytes) -> None:
    os.write(1, line)


def misbehave(asked: str) -> bool:
    """Do what is wrong at this step; whether there is no answer any more."""
    if asked != STEP:
        return False
    if HOW == "hangs":
        time.sleep(FOREVER_S)
    elif HOW == "dies":
        print("out of cheese", file=sys.stderr)
        sys.exit(3)
    elif HOW == "closes":
        os.close(1)
        time.sleep(FOREVER_S)
    elif HOW == "chats":
        write(b"starting up\n")
    elif HOW == "twice":
        write(b'{"answer": "done"}\n')
    elif HOW in LINES:
        write(LINES[HOW])
        return True
    return False


def described() -> dict:
    if HOW == "no_description":
        return {"protocol": 1}
    description = DESCRIPTION | (DESCRIPTIONS.get(HOW, {}) if STEP == "describe" else {})
    if HOW == "no_beat":
        del description["beat"]
    said = {"protocol": 1, "pid": os.getpid(), "description": description}
    wrong = {"newer": {"protocol": 2}, "text": {"protocol": "1"}, "pid": {"pid": 0}, "flat": description}
    return said | (wrong.get(HOW, {}) if STEP == "describe" else {})


def answer(request: dict) -> dict:
    asked = request["do"]
    if HOW == "fails" and asked == STEP:
        raise OSError("the licence has expired")
    if asked == "describe":
        return described()
    if asked == "open":
        name = "other.db" if MODE == "open-other" else "store.db"
        STORE[:] = [sqlite3.connect(Path(request["directory"], name), isolation_level=None)]
        STORE[0].execute("PRAGMA journal_mode=WAL").fetchall()
        STORE[0].execute("CREATE TABLE IF NOT EXISTS t(key PRIMARY KEY)")
        return {"database": "../store.db"} if MODE == "open-path" else {}
    if asked == "call":
        if MODE != "call-nothing":
            STORE[0].execute("INSERT OR REPLACE INTO t VALUES(?)", (request["args"]["key"],))
    elif asked == "view":
        view = {key: 1 for (key,) in STORE[0].execute("SELECT key FROM t")}
        views = {"view-as_list": list(view), "view-none": None, "view-other": {"what": 2}}
        return {} if MODE == "view-missing" else {"view": views.get(MODE, view)}
    elif MODE != "close-not":
        STORE[0].close()
    return {}


for line in sys.stdin:
    request = json.loads(line)
    if misbehave(request["do"]):
        continue
    try:
        said = {"answer": "refused" if f"{request['do']}-refuses" == MODE else "done"}
        said = {**said, "message": "no"} if said["answer"] == "refused" else {**said, **answer(request)}
    except OSError as error:
        said = {"answer": "failed", "message": str(error)}
    write(json.dumps(said).encode() + b"\n")
