"""python blob_program.py ADAPTER [unsynced]: texts in files beside a database, which are not synced if told so."""

import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

sys.path.append(sys.argv[1])
from tornpage_adapter import Where, serve  # type: ignore[import-not-found]

IS_SYNCED = "unsynced" not in sys.argv
DESCRIPTION = {
    "title": "blobs",
    "database": "blobs.sqlite",
    "calls": [
        {"name": "put", "args": {"name": "a", "text": "one"}},
        {"name": "get", "args": {"name": "a"}},
        {"name": "put", "args": {"name": "b", "text": "two"}},
    ],
    "beat": {"name": "put", "args": {"name": "heartbeat", "text": "alive"}},
    "rows": ["SELECT name, length FROM blob"],
}


class Blobs:
    def __init__(self, where: Where) -> None:
        self.directory = Path(where.directory)
        self.db = sqlite3.connect(self.directory / "blobs.sqlite", isolation_level=None, timeout=1)
        try:
            self.db.execute(f"PRAGMA journal_mode = {where.journal_mode}").fetchall()
            self.db.execute(f"PRAGMA synchronous = {where.synchronous}")
            self.db.execute("CREATE TABLE IF NOT EXISTS blob (name TEXT PRIMARY KEY, length INTEGER)")
        except BaseException:
            self.db.close()
            raise

    def call(self, action: str, args: dict[str, str], _now_ms: int) -> str | None:
        path = self.directory / f"{args['name']}.txt"
        if action == "get":
            return path.read_text()
        with path.open("w") as file:
            file.write(args["text"])
            file.flush()
            sync(file.fileno())
        directory = os.open(self.directory, os.O_RDONLY)
        sync(directory)
        os.close(directory)
        self.db.execute("INSERT OR REPLACE INTO blob VALUES (?, ?)", (args["name"], len(args["text"])))
        return None

    def view(self) -> dict[str, Any]:
        return dict(self.db.execute("SELECT name, length FROM blob").fetchall())

    def close(self) -> None:
        self.db.close()


def sync(descriptor: int) -> None:
    if IS_SYNCED:
        os.fsync(descriptor)


serve(DESCRIPTION, Blobs)
