"""Whether a call that the store has refused leaves a transaction open: ``still-usable-after-the-fault``.

Method. Before a call that is refused without any fault, and after it, another connection begins to write to the
database, and ends that without a change. If it may before the call and not after it, and a connection of the store has
a transaction open, then the call has begun that: an INSERT whose constraint was broken has, and an exception of the
store's own between BEGIN and COMMIT. Not judged: connections with ``autocommit=False`` or ``locking_mode=EXCLUSIVE``.
Of a program nothing is known of its connections: the lock alone counts.

Not covered: databases that are attached.
"""

import contextlib
from functools import partial
from pathlib import Path

from tornpage import faults
from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.execution.at_rest import others_rest, read_at_rest
from tornpage.scenarios.execution.generic_checks.open_connections import leaves_a_transaction, locks_for_good
from tornpage.scenarios.execution.reopen import kept_logs
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.target import Action, Session
from tornpage.scenarios.targets.process import ProcessSession


def lets_write(database: Path, session: Session | None) -> bool:
    """Whether another connection can begin to write to a database; an error that is not about a lock counts as yes.

    A lock that a thread of the `session`, or of its program, holds for a moment is waited for.
    """
    if not database.exists():
        return True
    try:
        read_at_rest(partial(_begin_to_write, database), session)
    except sqlite3.Error as error:
        return getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY
    return True


def _begin_to_write(database: Path) -> None:
    directory = database.parent
    with faults.spare(), kept_logs(directory), contextlib.closing(faults.connect_unwatched(database)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")


def require_no_transaction_left(action: Action, database: Path, session: Session | None) -> None:
    """Raise `Violation` if a refused call of the session, before which others could write, keeps them out."""
    others_rest()
    directory = database.parent
    is_open = isinstance(session, ProcessSession) or leaves_a_transaction(directory)
    if not is_open or locks_for_good(directory) or lets_write(database, session):
        return
    raise Violation(
        "still-usable-after-the-fault",
        f"{action} was refused without any fault, and leaves a transaction open: every other writer of {database.name} "
        "gets: database is locked",
    )
