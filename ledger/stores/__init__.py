"""The stores that ship: SQLite (the default), a JSON snapshot file, and memory for tests."""

from tornpage.ledger.stores.json_snapshot import JsonSnapshotStore
from tornpage.ledger.stores.memory import MemoryStore
from tornpage.ledger.stores.sqlite import SqliteStore

__all__ = ["JsonSnapshotStore", "MemoryStore", "SqliteStore"]
