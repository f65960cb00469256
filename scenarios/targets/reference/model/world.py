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

    `is_booting`: no worker of a run lives, and no session backs a task (§4). `controls` are the runtimes whose work can
    be asked to stop (§2, cancel), each with its answer; `backs` are those that know of their sessions (§3, lost).
    `files` are the files of the old queue by name, each with its document (None: the directory is missing), and
    `imported` all earlier imports (§5): a fingerprint by id. `program` is the result of a command's deliver program,
    whatever the message: empty if it delivers, else the text of its failure (`says`) and whether it is `permanent`.
    `hidden` are the runs of the sessions that can't be read, which no answer has.
    `unreadable_keys` are the idempotency keys of the messages that can't be read, by id, and `unreadable_runs` the runs
    of such tasks: no answer has them.
    `as_written` are the rows of tasks with contradicting times (§3), as edited by hand: every read puts the times in
    order.
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
    hidden: Mapping[str, str] = field(default_factory=dict)
    unreadable_keys: Mapping[str, str] = field(default_factory=dict)
    unreadable_runs: Mapping[str, str] = field(default_factory=dict)

    def is_alive(self, worker_id: Any) -> bool:
        """Whether a worker lives: outside a boot all do, except passes over the outbox, which have ended by then.

        An id that no worker can have belongs to none (§4).
        """
        try:
            return not a_worker_id(worker_id).startswith(_SENDER) and not self.is_booting
        except Refusal:
            return False
