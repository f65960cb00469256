"""The environment of a ledger at a call: the time, the next name, which workers live, and the answers of hooks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tornpage.scenarios.targets.reference.model.values import Refusal, a_worker_id

# How the worker of a pass over the outbox is called.
_SENDER: Final = "pass-"


@dataclass(frozen=True, slots=True)
class World:
    """`now_ms` is the clock; `new_id` the name of the next new object.

    `is_booting`: no worker of a run lives, and no session backs a task (§4). `controls` are the runtimes whose work
    can be asked to stop (§2, cancel), each with what it answers; `backs` are those that know of their sessions
    (§3, lost). `files` are the files of the old queue by name, each with its document (None: there is no such
    directory), and `imported` what was ever taken over (§5): a fingerprint by id. `program` is
    what the deliver program of a command comes to, whatever the message: nothing where it delivers, else what its
    failure names (`says`) and whether it is `permanent`. `as_written` are the rows of tasks
    whose times contradict each other (§3), as somebody's hand has left them: every look puts them in order.
    """

    now_ms: int
    new_id: str = "unnamed"
    is_booting: bool = False
    controls: Mapping[str, str] = field(default_factory=dict)
    backs: frozenset[str] = frozenset()
    files: Mapping[str, Any] | None = None
    imported: Mapping[str, str] = field(default_factory=dict)
    program: Mapping[str, Any] | None = None
    as_written: Mapping[str, Any] = field(default_factory=dict)

    def is_alive(self, worker_id: Any) -> bool:
        """Whether a worker lives: outside a boot all do, except passes over the outbox, which have ended by then.

        An id that no worker can have belongs to none (§4).
        """
        try:
            return not a_worker_id(worker_id).startswith(_SENDER) and not self.is_booting
        except Refusal:
            return False
