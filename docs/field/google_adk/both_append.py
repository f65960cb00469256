"""Two who hold one session add to its state: the second is refused as stale, but not where both do it at once.

Expected: of two who append from the same revision one is refused, always.
Fix: begin with BEGIN IMMEDIATE, so that the check and the write are one transaction; or let the UPDATE of the session
    name the update_time that was read, and raise where it changes no row.
"""

import asyncio
import logging
import tempfile
from pathlib import Path

from google.adk.events import Event, EventActions
from google.adk.sessions.sqlite_session_service import SqliteSessionService, StaleSessionError

logging.disable(logging.WARNING)


async def main(path):
    who = {"app_name": "app", "user_id": "user", "session_id": "s"}
    await SqliteSessionService(path).create_session(**who)
    # As two processes do: each has a service and a session of its own.
    services = [SqliteSessionService(path), SqliteSessionService(path)]
    for how in ("one after the other", "at the same time"):
        before = (await services[0].get_session(**who)).state.get("visits", 0)
        said = []
        for _ in range(20):
            sessions = [await service.get_session(**who) for service in services]
            calls = [visit(*given) for given in zip(services, sessions, ("ada", "bob"), strict=True)]
            if how == "one after the other":
                said += [await call for call in calls]
            else:
                said += await asyncio.gather(*calls)
        counted = (await services[0].get_session(**who)).state["visits"] - before
        print(f"{how}: {said.count('appended')} appended, {said.count('stale')} refused as stale, {counted} counted")


async def visit(service, session, author):
    """Reads the state that was handed out, and adds to it."""
    state = {"visits": session.state.get("visits", 0) + 1}
    event = Event(author=author, timestamp=session.last_update_time + 1, actions=EventActions(state_delta=state))
    try:
        await service.append_event(session, event)
    except StaleSessionError:
        return "stale"
    return "appended"


with tempfile.TemporaryDirectory() as directory:
    asyncio.run(main(str(Path(directory, "sessions.db"))))
