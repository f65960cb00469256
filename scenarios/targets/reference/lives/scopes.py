"""Scopes that an error of the caller's own leaves: it gets out, and the scope has ended as by any other way out."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tornpage.ledger import Ledger, StoreUnavailable
from tornpage.scenarios.targets.reference.lives.openings import place


class _CallersOwnError(Exception):
    """Neither the ledger nor a store raises it."""


def left(home: Path, clock: Callable[[], int]) -> list[str]:
    """What was wrong with the scopes of a ledger, a batch, a batch in it and a worker; empty if nothing was."""
    wrong: list[str] = []
    with place(home) as directory:
        ledger = Ledger.open(directory, clock=clock, observers=())
        worker = ledger.workers.hold("w")
        for name, scope in (
            ("a batch", ledger.batch), ("a batch in a batch", lambda: _inner(ledger)), ("a worker", lambda: worker),
            ("a ledger", lambda: ledger),
        ):  # fmt: skip
            if not _gets_out(scope, ledger):
                wrong.append(f"the caller's error does not get out of the scope of {name}")
            if name.startswith("a batch") and ledger.tasks.list():
                wrong.append(f"{name} was left by an error, and has made a task")
            if name == "a worker" and ledger.workers.is_alive("w"):
                wrong.append("a worker's scope was left, and it lives")
        with contextlib.suppress(StoreUnavailable):
            ledger.tasks.list()
            wrong.append("a ledger's scope was left, and it answers")
        ledger.close()
    return wrong


def _gets_out(scope: Callable[[], Any], ledger: Ledger) -> bool:
    """Whether an error after a change gets out; what a scope of a batch has begun goes with it."""
    try:
        with scope():
            _fail(ledger)
    except _CallersOwnError:
        return True
    return False


def _fail(ledger: Ledger) -> None:
    if ledger.database is not None and ledger.database.active is not None:
        ledger.tasks.create(runtime="cli", owner_key="me", task="work")
    raise _CallersOwnError


@contextlib.contextmanager
def _inner(ledger: Ledger) -> Iterator[None]:
    with ledger.batch(), ledger.batch():
        yield
