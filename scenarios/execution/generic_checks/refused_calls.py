"""Whether a call that the store has refused leaves a transaction open: ``still-usable-after-the-fault``.

Method. Before a call that is refused without any fault, and after it, another connection begins to write to the
database, and ends that without a change. If it may before the call and not after it, and a connection of the store has
a transaction open, then the call has begun that: an INSERT whose constraint was broken has, and an exception of the
store's own between BEGIN and COMMIT. Not judged: connections with ``autocommit=False`` or ``locking_mode=EXCLUSIVE``.

Not covered: databases that are attached, and those of a program.
"""

import contextlib
from pathlib import Path

from tornpage import faults
from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.execution.at_rest import others_rest
from tornpage.scenarios.execution.generic_checks.open_connections import leaves_a_transaction, locks_for_good
from tornpage.scenarios.execution.reopen import kept_logs
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.target import Action


def lets_write(database: Path) -> bool:
    """Whether another connection can begin to write to a database; an error that is not about a lock counts as yes."""
    if not database.exists():
        return True
    directory = database.parent
    with faults.spare(), kept_logs(directory), contextlib.closing(faults.connect_unwatched(database)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            return getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY
        connection.execute("ROLLBACK")
    return True


def require_no_transaction_left(action: Action, database: Path) -> None:
    """Raise `Violation` if a refused call, before which others could write, keeps them out."""
    others_rest()
    directory = database.parent
    if lets_write(database) or not leaves_a_transaction(directory) or locks_for_good(directory):
        return
    raise Violation(
        "still-usable-after-the-fault",
        f"{action} was refused without any fault, and leaves a transaction open: every other writer of {database.name} "
        "gets: database is locked",
    )
