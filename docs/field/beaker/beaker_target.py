"""Beaker: its `ext:database` namespace, which keeps a whole namespace as one pickled row."""

import pickle

import sqlalchemy
from beaker.ext.database import DatabaseNamespaceManager

from tornpage import Action, Configuration, SimpleTarget


class Cache:
    """One namespace; each change takes its lock, as Beaker's own sessions and caches do."""

    def __init__(self, path):
        self._url = f"sqlite:///{path}"
        try:
            self.manager = DatabaseNamespaceManager("one", url=self._url, lock_dir=str(path.parent / "locks"))
        except BaseException:
            self.close()
            raise

    def set(self, key, value):
        self.manager.acquire_write_lock()
        try:
            self.manager[key] = value
        finally:
            self.manager.release_write_lock()

    def delete(self, key):
        self.manager.acquire_write_lock()
        try:
            del self.manager[key]
        finally:
            self.manager.release_write_lock()

    def items(self):
        self.manager.acquire_read_lock()
        try:
            return {key: self.manager[key] for key in self.manager.keys()}
        finally:
            self.manager.release_read_lock()

    def close(self):
        for known in (DatabaseNamespaceManager.binds, DatabaseNamespaceManager.tables):
            for key in list(known.dict):
                if key.startswith(self._url):
                    gone = known.dict.pop(key)
                    if isinstance(gone, sqlalchemy.Engine):
                        gone.dispose()


class Namespace(SimpleTarget):
    title = "Beaker: ext:database"
    configurations = (Configuration("delete", "FULL"),)
    file = "beaker.sqlite"
    calls = (
        Action("set", {"key": "a", "value": "1"}),
        Action("set", {"key": "b", "value": "x" * 6_000}),
        Action("set", {"key": "a", "value": "2"}),
        Action("delete", {"key": "a"}),
    )
    beat = Action("set", {"key": "heartbeat", "value": "1"})

    def make(self, path, configuration, environment):
        return Cache(path)

    def view(self, store):
        return store.items()

    def rows(self, connection):
        rows = connection.execute("SELECT data FROM beaker_cache").fetchall()
        return {key: value for (data,) in rows for key, value in pickle.loads(data).items()}
