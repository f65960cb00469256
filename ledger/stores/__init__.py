"""The stores that ship: SQLite (the default), a JSON snapshot file, and memory for tests."""

from ledger.stores.json_snapshot import JsonSnapshotStore
from ledger.stores.memory import MemoryStore
from ledger.stores.plain import PlainBackend
from ledger.stores.sqlite import SqliteStore

__all__ = ["JsonSnapshotStore", "MemoryStore", "PlainBackend", "SqliteStore"]
