"""Scopes that an error of the caller's own leaves: it gets out, and the scope has ended as by any other way out."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from tornpage.ledger import Ledger, StoreUnavailable
from tornpage.ledger.stores import MemoryStore
from tornpage.scenarios.targets.reference.lives.openings import place


class _CallersOwnError(Exception):
    """Neither the ledger nor a store raises it."""


_ERRORS: Final = (_CallersOwnError, KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError)
"""Also what is no error, and ends a program, a generator or a coroutine."""


def left(home: Path, clock: Callable[[], int]) -> list[str]:
    """What was wrong with the scopes of a ledger, a batch, a batch in it and a worker; empty if nothing was."""
    return [wrong for error in _ERRORS for store in (None, MemoryStore()) for wrong in _left(home, clock, error, store)]


def _left(home: Path, clock: Callable[[], int], error: type[BaseException], store: MemoryStore | None) -> Iterator[str]:
    with place(home) as directory:
        ledger = Ledger.open(directory, clock=clock, observers=(), store=store)
        worker = ledger.workers.hold("w") if store is None else contextlib.nullcontext()
        for name, scope in (
            ("a batch", ledger.batch), ("a batch in a batch", lambda: _inner(ledger)), ("a worker", lambda: worker),
            ("a ledger", lambda: ledger),
        ):  # fmt: skip
            if not _gets_out(scope, ledger, error):
                yield f"{error.__name__} does not get out of the scope of {name}"
            if name.startswith("a batch") and ledger.tasks.list():
                yield f"{name} was left by {error.__name__}, and has made a task"
            if name == "a worker" and store is None and ledger.workers.is_alive("w"):
                yield "a worker's scope was left, and it lives"
        with contextlib.suppress(StoreUnavailable):
            ledger.tasks.list()
            yield "a ledger's scope was left, and it answers"
        ledger.close()


def _gets_out(scope: Callable[[], Any], ledger: Ledger, error: type[BaseException]) -> bool:
    """Whether an error after a change gets out; what a scope of a batch has begun goes with it."""
    try:
        with scope():
            _fail(ledger, error)
    except error:
        return True
    return False


def _fail(ledger: Ledger, error: type[BaseException]) -> None:
    with contextlib.suppress(StoreUnavailable):
        if ledger.tasks.backend.writing():
            ledger.tasks.create(runtime="cli", owner_key="me", task="work")
    raise error


@contextlib.contextmanager
def _inner(ledger: Ledger) -> Iterator[None]:
    with ledger.batch(), ledger.batch():
        yield
