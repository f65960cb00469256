"""What a known bug is: a defect put back into the reference by exchanging one class, and what must notice it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tornpage.ledger import TaskRegistry
from tornpage.ledger.stores.store import Change, Unit
from tornpage.scenarios.model.target import Action, Configuration, Environment, Session, Target
from tornpage.scenarios.targets.names import SOUND
from tornpage.scenarios.targets.reference.lives.other_stores import life_of_a_store
from tornpage.scenarios.targets.reference.scripts import Script
from tornpage.scenarios.targets.reference.session import ReferenceSession
from tornpage.scenarios.targets.reference.target import Reference

CREATE: Final = Action("tasks.create", {"id": "a", "runtime": "cli", "requester_session_key": "main", "task": "work"})
START: Final = Action("history.start", {"task_id": "a", "worker_id": "w-1", "run_id": "run-a"})
OPEN_SESSION: Final = Action("history.open_session", {"run_id": "run-a", "session_id": "session-a"})
ENQUEUE: Final = Action(
    "outbox.enqueue",
    {"message_id": "m1", "channel": "mail", "target": "you", "payload": {}, "idempotency_key": "key-1"},
)
DELIVER: Final = Action("outbox.recover", {"cutoff": None})


@dataclass(frozen=True)
class KnownBug:
    """A build with one defect.

    `source` is where it was reported; `defect` what a user saw; `parts` the arguments of `Ledger.open` that put it
    back; `checks` the codes of which one must be the first finding; `searches` the ways of search that reach it;
    `budget` the most calls and fault points a sweep, or steps a machine, may take; `calls` the workload in which the
    defect shows, where the reference's doesn't show it or takes long to come to it; `make` builds a target that is
    more than the reference with other parts, from its name, and `sound` the same store without the defect.
    """

    name: str
    source: str
    defect: str
    checks: tuple[str, ...]
    parts: Callable[[], dict[str, Any]] = dict
    searches: tuple[str, ...] = ("sweep", "fuzz")
    budget: int = 2_000
    calls: tuple[Action, ...] = ()
    make: Callable[[str], Target] | None = None
    sound: Callable[[str], Target] | None = None

    def target(self) -> Target:
        """The build as a target."""
        if self.make is not None:
            return self.make(f"bug:{self.name}")
        return Reference(f"bug:{self.name}", calls=self.calls, **self.parts())

    def twin(self) -> Target | None:
        """The same store without the defect, as a target; None where that is the reference."""
        return None if self.sound is None else self.sound(f"bug:{self.name}{SOUND}")


class MemoryFirst(TaskRegistry):
    """Changes memory before the write that may throw, for the changes that `too_early` names, and never mends it."""

    def too_early(self, change: Change) -> bool:
        """Whether memory takes this change before the store has it."""
        raise NotImplementedError

    def _persist(self, unit: Unit, change: Change) -> None:
        if self.too_early(change):
            self._adopt(change)
        super()._persist(unit, change)

    def _unheard(self, changes: Sequence[Change]) -> list[Change]:
        """Take nothing of its own for another process's change: memory is ahead of the rows here."""
        return super()._unheard([change for change in changes if not self.too_early(change)])

    def settled(self, found: Sequence[Change] | None) -> None:
        """After a COMMIT that failed, leave alone what memory took too early."""
        early = {change.task_id for change in self._pending if self.too_early(change)}
        super().settled(found and [change for change in found if change.task_id not in early])


class _SessionOnOthers(ReferenceSession):
    """A session whose ledgers on other stores have a registry of the build's."""

    registry: type[TaskRegistry] = TaskRegistry

    def _do_stores_life(self, **how: Any) -> Any:
        return life_of_a_store(self._place[0] / "other-stores", self._clock, registry=self.registry, **how)


class OfOneScript(Reference):
    """The reference, or a build with other `parts`, of which one script is played, and a task is made."""

    def __init__(self, name: str, script: Script, **parts: Any) -> None:
        super().__init__(name, **parts)
        self._script = script

    def workload(self) -> tuple[Action, ...]:
        """A task."""
        return (CREATE,)

    @property
    def scripts(self) -> tuple[Script, ...]:  # type: ignore[override]  # read, never set
        """The one."""
        return (self._script,)


class OnAnotherStore(OfOneScript):
    """The reference, whose one script is the life of a registry on a store that fails.

    `calls` are those of the script; `how` says at which of them the store fails, and what it lacks.
    """

    def __init__(self, name: str, registry: type[TaskRegistry], calls: tuple[Action, ...], **how: Any) -> None:
        made = [{"name": one.name, "args": one.args} for one in calls]
        super().__init__(name, (Action("stores.life", {"kind": "memory", "calls": made, **how}),))
        self._registry = registry

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> Session:
        """Open the ledger; those on other stores have the registry."""
        session = _SessionOnOthers(directory, configuration, environment, {})
        session.registry = self._registry
        return session
