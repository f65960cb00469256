"""session-revived: opening an invalid session again makes it valid."""

from tornpage.ledger import RunHistory, Session
from tornpage.ledger.runs import SESSIONS
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import CREATE, OPEN_SESSION, START, KnownBug


class _Touches(RunHistory):
    """Opens a session without a look at whether it has ended."""

    def open_session(self, run_id: str, session_id: str | None = None) -> Session:
        if session_id is None or self.get_session(session_id) is None:
            return super().open_session(run_id, session_id)
        with self.database.transaction() as transaction:
            session = Session(session_id, run_id)
            transaction.write(SESSIONS, SESSIONS.encode(session))
        return session


BUG = KnownBug(
    name="session-revived",
    source="twisted issue 3458",
    defect="a session that was ended is valid again as soon as somebody uses it",
    checks=("as-specified",),
    parts=lambda: {"history": _Touches},
    calls=(
        CREATE,
        START,
        OPEN_SESSION,
        Action("history.invalidate_session", {"session_id": "session-a", "reason": "logout"}),
        OPEN_SESSION,
    ),
    searches=("sweep",),
)
