"""agno: the memories of its agents in `SqliteDb`, on SQLAlchemy."""

import json
import logging

from agno.db.schemas import UserMemory
from agno.db.sqlite import SqliteDb

from tornpage import Action, Configuration, SimpleTarget

logging.getLogger("agno").setLevel(logging.CRITICAL + 1)


class Memories:
    """The database, and its memories by their ids."""

    def __init__(self, path):
        self.db = SqliteDb(db_file=str(path), memory_table="memories")

    def upsert(self, id, memory):
        self.db.upsert_user_memory(UserMemory(memory=memory, memory_id=id, user_id="u", created_at=1, updated_at=1))

    def delete(self, id):
        self.db.delete_user_memory(id)

    def clear(self):
        self.db.clear_memories()

    def items(self):
        return {one.memory_id: one.memory for one in self.db.get_user_memories(user_id="u")}

    def close(self):
        self.db.close()


class Agent(SimpleTarget):
    title = "agno: SqliteDb"
    configurations = (Configuration("wal", "NORMAL"),)
    file = "agno.db"
    calls = (
        Action("upsert", {"id": "a", "memory": "1"}),
        Action("upsert", {"id": "b", "memory": "x" * 6_000}),
        Action("upsert", {"id": "a", "memory": "2"}),
        Action("delete", {"id": "a"}),
        Action("clear"),
    )
    beat = Action("upsert", {"id": "heartbeat", "memory": "1"})

    def make(self, path, configuration, environment):
        return Memories(path)

    def view(self, store):
        return store.items()

    def rows(self, connection):
        rows = connection.execute("SELECT memory_id, memory FROM memories").fetchall()
        return {id: json.loads(memory) for id, memory in rows}
