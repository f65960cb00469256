"""pruned-and-queued-again: a prune in a batch reads keys alone, and a failed COMMIT is settled by them."""

from pathlib import Path
from typing import Any
from unittest import mock

from tornpage.ledger.disk.transaction import Transaction
from tornpage.scenarios.model.target import Action, Configuration, Environment, Session
from tornpage.scenarios.targets.known_bugs.build import KnownBug, OfOneScript
from tornpage.scenarios.targets.reference.lives.faults_in_pairs import pairs
from tornpage.scenarios.targets.reference.session import ReferenceSession


class _Session(ReferenceSession):
    """A prune reads no more of what it deletes than the keys, whatever else its batch does to these rows."""

    def _do_driver_pairs(self, **how: Any) -> Any:
        with mock.patch.object(Transaction, "is_joined", new=False):
            return pairs(self._place[0] / "driver", self._clock, **how)


class _Target(OfOneScript):
    """The build, whose one script is a batch whose COMMIT fails."""

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> Session:
        """Open the ledger."""
        return _Session(directory, configuration, environment, {})


_PAIRS = Action("driver.pairs", {"journal_mode": "wal", "synchronous": "full", "batch": True})

BUG = KnownBug(
    name="pruned-and-queued-again",
    source="our own ledger, found by reading it against its specification",
    defect="a batch is said to have changed nothing, and is made again, although its message was queued",
    checks=("as-specified",),
    make=lambda name: _Target(name, (_PAIRS,)),
    searches=("sweep",),
)
