"""Ledgers beside that of a session, each in its own place: openings, other stores, workers, observers, drivers.

For scripts only: each is one action, whose answer has the result of every call in it. They run under the umask that
hides nothing, since files have to be private whatever it is; a session itself runs under the strictest one.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tornpage.scenarios.targets.reference.lives.faults_in_pairs import interrupts, pairs
from tornpage.scenarios.targets.reference.lives.file_calls import openers as openers_between_files
from tornpage.scenarios.targets.reference.lives.file_calls import refusals, twice
from tornpage.scenarios.targets.reference.lives.file_calls import workers as workers_between_files
from tornpage.scenarios.targets.reference.lives.listeners import life_of_a_follower, life_of_observers
from tornpage.scenarios.targets.reference.lives.openings import opening, too_old
from tornpage.scenarios.targets.reference.lives.other_stores import life_of_a_store, opened_snapshot
from tornpage.scenarios.targets.reference.lives.programs import interrupted
from tornpage.scenarios.targets.reference.lives.real_workers import life_of_a_ledger, life_of_workers
from tornpage.scenarios.targets.reference.lives.schema import unchecked
from tornpage.scenarios.targets.reference.lives.scopes import left
from tornpage.scenarios.targets.reference.lives.threads import beside
from tornpage.scenarios.targets.reference.lives.typed import pruned, typed, unwritten
from tornpage.scenarios.targets.reference.lives.unfenced import unfenced
from tornpage.scenarios.targets.reference.lives.watched_driver import broken_openings, imports, openers, switch

_LIVES: Final[Mapping[str, Callable[..., Any]]] = {
    "workers.life": lambda home, _clock, **how: life_of_workers(home / "real-workers", **how),
    "workers.work": lambda home, clock, **how: life_of_a_ledger(home / "real-work", clock, **how),
    "observers.life": lambda home, clock, **how: life_of_observers(home / "observed", clock, **how),
    "observers.follow": lambda home, clock, **how: life_of_a_follower(home / "observed", clock, **how),
    "stores.life": lambda home, clock, **how: life_of_a_store(home / "other-stores", clock, **how),
    "open.snapshot": lambda home, clock, **how: opened_snapshot(home / "snapshots", clock, **how),
    "open.unchecked": lambda home, clock, **how: unchecked(home / "another", clock, **how),
    "open.once": lambda home, _clock, **how: opening(home / "another", **how),
    "open.too_old": lambda home, _clock, **how: too_old(home / "another", **how),
    "driver.pairs": lambda home, clock, **how: pairs(home / "driver", clock, **how),
    "driver.interrupts": lambda home, clock, **how: interrupts(home / "driver", clock, **how),
    "driver.imports": lambda home, clock, **how: imports(home / "driver", clock, **how),
    "driver.openers": lambda home, clock, **how: openers(home / "driver", clock, **how),
    "files.openers": lambda home, clock, **how: openers_between_files(home / "files", clock, **how),
    "files.refused": lambda home, clock, **how: refusals(home / "files", clock, **how),
    "files.workers": lambda home, clock: workers_between_files(home / "files", clock),
    "files.twice": lambda home, clock: twice(home / "files", clock),
    "threads.beside": lambda home, clock: beside(home / "threads", clock),
    "driver.broken": lambda home, clock, **how: broken_openings(home / "driver", clock, **how),
    "driver.switch": lambda home, clock, **how: switch(home / "driver", clock, **how),
    "driver.unfenced": lambda home, clock, **how: unfenced(home / "driver", clock, **how),
    "scopes.left": lambda home, clock: left(home / "scopes", clock),
    "program.interrupted": lambda home, clock: interrupted(home / "programs", clock),
    "outbox.pruned": lambda home, _clock, **how: pruned(home / "another", **how),
    "open.unwritten": lambda home, _clock, **how: unwritten(home / "another", **how),
    "open.typed": lambda home, _clock, **how: typed(home / "another", **how),
}


def is_life(name: str) -> bool:
    """Whether the action of this name is one of them."""
    return name in _LIVES


def live(name: str, home: Path, clock: Callable[[], int], **how: Any) -> Any:
    """The answer of the action `name`, with its arguments; `home` and `clock` are the session's."""
    with _open_umask():
        return _LIVES[name](home, clock, **how)


@contextlib.contextmanager
def _open_umask() -> Iterator[None]:
    outer = os.umask(0)
    try:
        yield
    finally:
        os.umask(outer)
