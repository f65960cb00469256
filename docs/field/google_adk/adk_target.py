"""google-adk: the events of a session that `SqliteSessionService` keeps, appended by who holds it."""

import asyncio
import json

from google.adk.events import Event, EventActions
from google.adk.sessions.sqlite_session_service import SqliteSessionService

from tornpage import Action, Configuration, SimpleTarget

WHO = {"app_name": "app", "user_id": "user", "session_id": "s"}


class Agent:
    """A service and the session that it has handed out, as a runner holds it."""

    def __init__(self, path):
        self._loop = asyncio.new_event_loop()
        try:
            self.service = SqliteSessionService(str(path))
            self.session = self._run(self.service.get_session(**WHO))
            if self.session is None:
                self.session = self._run(self.service.create_session(**WHO))
        except BaseException:
            self._loop.close()
            raise

    def append(self, id, state):
        # Who does not know whether an append was done has to ask for the session again.
        if self.session is None:
            self.session = self._run(self.service.get_session(**WHO))
        # An event's id is used once.
        taken = sum(event.author == id for event in self.session.events)
        now = self.session.last_update_time + 1
        actions = EventActions(state_delta=state)
        event = Event(id=f"{id}-{taken}", author=id, invocation_id=id, timestamp=now, actions=actions)
        session, self.session = self.session, None
        self._run(self.service.append_event(session, event))
        self.session = session

    def visit(self, id):
        """What a tool does: it reads the state that it was handed, and adds to it."""
        if self.session is None:
            self.session = self._run(self.service.get_session(**WHO))
        self.append(id, {"visits": self.session.state.get("visits", 0) + 1})

    def stored(self):
        stored = self._run(self.service.get_session(**WHO))
        state = {f"state/{key}": value for key, value in stored.state.items()}
        return state | {f"event/{event.id}": event.actions.state_delta for event in stored.events}

    def _run(self, coroutine):
        return self._loop.run_until_complete(coroutine)

    def close(self):
        self._loop.close()


class Events(SimpleTarget):
    title = "google-adk: SqliteSessionService"
    configurations = (Configuration("delete", "FULL"),)
    file = "sessions.db"
    calls = (
        Action("append", {"id": "one", "state": {"city": "Ulm"}}),
        Action("visit", {"id": "two"}),
        Action("append", {"id": "three", "state": {"user:name": "ada", "note": "x" * 6_000}}),
        Action("visit", {"id": "four"}),
        Action("append", {"id": "five", "state": {"app:mode": "fast", "city": "Bonn"}}),
    )
    beat = Action("append", {"id": "heartbeat", "state": {}})
    callers = ("processes",)

    def make(self, path, configuration, environment):
        return Agent(path)

    def view(self, store):
        return store.stored()

    def rows(self, connection):
        events = dict(connection.execute("SELECT id, event_data FROM events"))
        found = {f"event/{id}": json.loads(data)["actions"]["state_delta"] for id, data in events.items()}
        for table, prefix in (("sessions", ""), ("user_states", "user:"), ("app_states", "app:")):
            for (text,) in connection.execute(f"SELECT state FROM {table}"):
                found |= {f"state/{prefix}{key}": value for key, value in json.loads(text).items()}
        return found
