"""A walk: thousands of random calls on a series of ledgers, without any fault, each compared with the model.

The fast path: the session is driven directly, without a shadow, a shim or a crash. After each call its answer, the
notifications, the log and the rows on disk are compared with the model; every `_STEPS_A_LOOK` calls memory, the lists,
look-ups, indexes and the audit, too. After `_STEPS_A_LEDGER` calls a new ledger begins, and half-way the same one is
reopened.

Syncs are covered by another search: nothing is synced here.
"""

import contextlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec

from tornpage import faults
from tornpage.scenarios.model.judging.checks import Violation, describe, differences
from tornpage.scenarios.model.target import Action, Configuration, Environment, Refused, View
from tornpage.scenarios.targets.reference.compared.lockstep import check_call
from tornpage.scenarios.targets.reference.compared.looks import check_lists, check_looks
from tornpage.scenarios.targets.reference.draws.whole_space import one_call
from tornpage.scenarios.targets.reference.session import ReferenceSession
from tornpage.scenarios.targets.reference.target import Reference

_EPOCH_MS: Final = 1_700_000_000_000
_STEP_MS: Final = 60_000
_STEPS_A_LOOK: Final = 16
_STEPS_A_LEDGER: Final = 400
_SHOWN: Final = 12
_FAST: Final = Configuration("wal", "OFF")


class Astray(msgspec.Struct, frozen=True):
    """Where a walk has left the model: at which step, by which check, and the calls on that ledger."""

    step: int
    violation: Violation
    calls: tuple[Action, ...]

    def __str__(self) -> str:
        calls = "\n".join(f"  {call}" for call in self.calls[-_SHOWN:])
        return f"step {self.step}: {self.violation}\n{calls}"


def walk(seed: int, steps: int, home: Path, parts: Mapping[str, Any] | None = None) -> Astray | None:
    """Walk so many steps, on ledgers in temporary directories in `home`; None: the model always matched.

    `parts` are arguments of `Ledger.open`, as of a build with a defect.
    """
    chance = Random(seed)  # noqa: S311 - the same seed gives the same walk
    for first in range(0, steps, _STEPS_A_LEDGER):
        many = min(_STEPS_A_LEDGER, steps - first)
        with tempfile.TemporaryDirectory(dir=home) as directory:
            one = _Walk(Path(directory), parts or {})
            try:
                one.go(chance, many)
            except Violation as violation:
                return Astray(first + len(one.calls), violation, tuple(one.calls))
            finally:
                one.close()
    return None


class _Walk:
    """Calls on one ledger."""

    def __init__(self, directory: Path, parts: Mapping[str, Any]) -> None:
        self.calls: list[Action] = []
        self._target = Reference()
        self._directory = directory
        self._parts = parts
        self._environment = Environment()
        self._session = self._opened()
        self._reader = faults.connect_unwatched(self._target.database(directory))

    def _opened(self) -> ReferenceSession:
        return ReferenceSession(self._directory, _FAST, self._environment, self._parts)

    def close(self) -> None:
        """Release the files, whatever state the ledger is in."""
        self._reader.close()
        with contextlib.suppress(Exception):
            self._session.close()

    def go(self, chance: Random, many: int) -> None:
        """Make so many calls. Raises `Violation`."""
        view = self._look()
        for step in range(1, many + 1):
            self._environment.now_ms = _EPOCH_MS + step * _STEP_MS
            action = one_call(chance, view)
            self.calls.append(action)
            view = self._call(action, view)
            # Earlier imports have to be known.
            if step % _STEPS_A_LOOK == 0 or "import_legacy" in str(action):
                self._look(action)
            if step == many // 2:
                self._session.close()
                self._session = self._opened()
                view = self._look()

    def _call(self, action: Action, before: View) -> View:
        session, kind = self._session, "done"
        try:
            session.call(action)
        except Refused:
            kind = "refused"
        except TypeError:
            # An argument of a kind that the call's own signature does not allow.
            kind = "refused"
        except Exception as error:
            raise Violation("as-specified", f"no fault is armed, and {action} fails: {error!r}") from error
        after = self._disk()
        session.note_unreadable_keys(before)
        check_call(before, action, after, kind, session.told, self._environment.now_ms)
        return after

    def _disk(self) -> View:
        return self._target.fresh_view(self._reader)

    def _look(self, called: Action | None = None) -> View:
        now_ms, session = self._environment.now_ms, self._session
        disk, memory = self._disk(), session.live_view()
        if disk != memory:
            raise Violation("memory-equals-disk", describe(differences(disk, memory), "the file", "memory"))
        self._target.check_view(disk)
        session.self_check()
        check_lists(session.listed, disk, now_ms)
        if called is not None:
            check_looks(session.ledger, disk, now_ms)
        return disk
