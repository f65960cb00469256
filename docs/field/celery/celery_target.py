"""celery: its database result backend, the results of tasks in one SQLite file."""

import celery
from celery.backends.database import DatabaseBackend

from tornpage import Action, Configuration, SimpleTarget


class Results:
    """The backend, used by the methods that a worker and a client use."""

    def __init__(self, path):
        self._app = celery.Celery("field", set_as_current=False)
        # It retries three times, and waits in between.
        self._app.conf.update(result_backend_base_sleep_between_retries_ms=0)
        self.backend = DatabaseBackend(app=self._app, url=f"sqlite:///{path}")

    def store_result(self, id, result, state):
        self.backend.store_result(id, result, state)

    def save_group(self, id, results):
        self.backend.save_group(id, results)

    def delete_group(self, id):
        self.backend.delete_group(id)

    def forget(self, id):
        self.backend.forget(id)

    def seen(self, ids):
        found = {}
        for id in ids:
            self.backend._cache.clear()
            meta = self.backend.get_task_meta(id)
            if meta["status"] != "PENDING":
                found[f"task/{id}"] = [meta["status"], meta["result"]]
        return found

    def close(self):
        self.backend.session_manager.invalidate(self.backend.url)
        self._app.close()


class Backend(SimpleTarget):
    title = "celery: the database result backend"
    configurations = (Configuration("delete", "FULL"),)
    file = "results.sqlite"
    calls = (
        Action("store_result", {"id": "a", "result": None, "state": "STARTED"}),
        Action("store_result", {"id": "a", "result": 7, "state": "SUCCESS"}),
        Action("store_result", {"id": "b", "result": "x" * 6_000, "state": "SUCCESS"}),
        Action("forget", {"id": "a"}),
    )
    beat = Action("store_result", {"id": "heartbeat", "result": 1, "state": "SUCCESS"})

    def make(self, path, configuration, environment):
        return Results(path)

    def view(self, store):
        return store.seen(("a", "b", "heartbeat"))

    def rows(self, connection):
        decode = celery.Celery("field", set_as_current=False).backend.decode
        rows = connection.execute("SELECT task_id, status, result FROM celery_taskmeta").fetchall()
        return {f"task/{id}": [status, decode(result) if result else None] for id, status, result in rows}
