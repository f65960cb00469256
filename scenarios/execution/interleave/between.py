"""What the file has when one of two calls on one store has ended, and the other has not.

On one connection both calls are in one transaction, and the first COMMIT commits what both have done until then. So a
call may be acknowledged while its change is part of a transaction that is still open, or it may commit a part of the
other call. Every other reader of the file sees that, and so does the next start if the process ends there; the result
of both calls does not show it.

Method. The file is read when the first of two calls has ended, if a transaction was open on a connection that they
have called. If that is the result of no serial order with this call, `require_kept` raises.

Not covered: callers with a session each, whose transactions are their own, and stores of plain files, which have none.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from tornpage.faults.contention.schedule import Hop
from tornpage.faults.contention.turns import Ended
from tornpage.scenarios.execution.interleave.serial import (
    Outcome,
    Serial,
    file_view,
    may_have_it,
    orders,
    orders_missed,
)
from tornpage.scenarios.execution.interleave.sessions import PENDING, OnThread, Session
from tornpage.scenarios.execution.reopen import view_of
from tornpage.scenarios.model.judging.checks import Violation, describe, differences
from tornpage.scenarios.model.scenario import Interleave
from tornpage.scenarios.model.target import Target, View


class Between:
    """Watches one schedule of two callers of one store; `outcome` is what the file had in between, None if not read."""

    def __init__(self, sessions: Sequence[Session], read: Callable[[], View | None]) -> None:
        self.outcome: Outcome | None = None
        self._sessions = {one.name: one for one in sessions if isinstance(one, OnThread)}
        self._read = read
        self._was_open = False

    def at_switch(self, hop: Hop) -> None:
        """Note whether a transaction is open, and read the file when the first call has ended."""
        called = {id(one): one for session in self._sessions.values() for one in session.called}
        # A store's own thread calls connections that are not seen here.
        self._was_open |= not called or any(map(_is_in_a_transaction, called.values()))
        if not isinstance(hop.event, Ended) or hop.event.result.kind != "done" or not self._was_open:
            return
        if called and not all(session.called for session in self._sessions.values()):
            # The other one has done nothing yet.
            return
        view = self._read()
        if view is not None:
            said = {name: hop.event.result if name == hop.caller else PENDING for name in self._sessions}
            self.outcome = Outcome(said["A"], said["B"], view)


def file_now(target: Target, home: Path) -> View | None:
    """What a fresh reader sees beside the open sessions; None if a lock, or half a file beside, keeps it out."""
    try:
        if target.files_view is not None:
            return file_view(target, home)
        return view_of(target, target.database(home), integrity=False)
    except Exception:  # noqa: BLE001 - what is wrong for good is found when both have ended
        return None


def is_of_whole_calls(view: View | None, step: Interleave, serial: Serial) -> bool:
    """Whether a view is that of a serial order, with or without each call."""
    return any(view == order.view for order in orders(serial, step.first, step.second))


def require_kept(outcome: Outcome, step: Interleave, serial: Serial, sessions: tuple[Session, Session]) -> None:
    """Raise `Violation` if a call that had ended was not in the file then, or a part of the other one was."""
    is_first = outcome.second == PENDING
    said, action = (outcome.first, step.first) if is_first else (outcome.second, step.second)
    # What it has answered may come from the change of the other call, which may still be undone: not judged here.
    possible = orders(serial, step.first, step.second)
    with_it = [order for order in possible if may_have_it(order, said, possible, is_first=is_first)]
    if any(outcome.view == order.view for order in with_it):
        return
    if not (possible := orders_missed(outcome, serial, step.first, step.second, sessions)):
        return
    closest = min((differences(one.view, outcome.view) for one in with_it), key=len)
    rows = describe(closest, "the nearest order", "the file then")
    answer = f"{'A' if is_first else 'B'}: {action} got {said} while the other call was not at its end"
    sides = {"before": serial.state.view, "disk": outcome.view}
    if any(outcome.view == order.view for order in possible):
        raise Violation("acknowledged-is-durable", f"{answer}, and its change was not committed: {rows}", sides)
    raise Violation("all-or-nothing", f"{answer}, and a part of that was committed with it: {rows}", sides)


def _is_in_a_transaction(connection: sqlite3.Connection) -> bool:
    # One that has been closed may not be asked.
    with contextlib.suppress(sqlite3.Error):
        return connection.in_transaction
    return False
