"""The fault points of a test: each operation of its run without faults, with the selected effects.

The points are in the order of the operations. By default an operation gets one effect, or two if SQLite handles them
differently (a busy lock, a failed lock); all of them are in the catalogue. With ``effects="all"`` it gets every effect
that a real system can produce.

``retry`` uses only faults after which nothing can have changed: those before the operation, and of the syncs only the
database's own (after a sync of a journal or a WAL the transaction may be committed; see docs/sqlite-under-faults.md).
It uses none of plain files: earlier effects of a statement on other files are unknown.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from tornpage import faults

Operation = tuple[str, str]

DEFAULTS: Final = {
    "open": ("before=CANTOPEN",),
    "read": ("before=IOERR_READ",),
    "write": ("before=FULL",),
    "truncate": ("before=IOERR_TRUNCATE",),
    "sync": ("before=IOERR_FSYNC",),
    "delete": ("before=IOERR_DELETE",),
    "access": ("before=IOERR_ACCESS",),
    "lock": ("before=BUSY", "before=IOERR_LOCK"),
    "unlock": ("after=IOERR_UNLOCK",),
    "shmmap": ("before=IOERR_SHMMAP",),
    "shmlock": ("before=BUSY", "before=IOERR_SHMLOCK"),
    faults.SHM_RELEASE: ("after=IOERR_SHMLOCK",),
    "file-open": ("before=EMFILE",),
    "file-create": ("before=ENOSPC",),
    "file-write": ("before=ENOSPC", "half=ENOSPC"),
    "file-truncate": ("before=EIO",),
    "file-fsync": ("before=EIO",),
    "file-close": ("after=EIO",),
    "file-rename": ("before=EIO",),
    "file-link": ("before=EIO",),
    "file-unlink": ("before=EACCES",),
    "file-mkdir": ("before=ENOSPC",),
    "file-rmdir": ("before=EACCES",),
}
# The name of a lock release in a plan.
_PLAN_KINDS: Final = {faults.SHM_RELEASE: "shmlock"}
ALL: Final = "all"


class ChoiceError(ValueError):
    """An unknown effect or operation, with the known ones."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The selection of a sweep. `effects`: names, each alone or after its timing (``half=FULL``); None: the defaults.

    `operations`: kinds, each alone or with its role (``write:wal``); None: all.
    """

    effects: tuple[str, ...] | None = None
    operations: tuple[str, ...] | None = None
    sticky: bool = False
    certain: bool = False

    def __post_init__(self) -> None:
        known = sorted({effect for line in faults.possibilities() for effect in line.effects} - {faults.KILL})
        for effect in self.effects or ():
            timing, equals, name = effect.rpartition("=")
            if (name not in known and name != ALL) or (equals and timing not in faults.TIMINGS):
                raise ChoiceError(
                    f"no effect {effect!r}; write {ALL!r}, or any of these, alone or after its timing "
                    f"(before=, half=, after=): {', '.join(known)}"
                )
        for operation in self.operations or ():
            kind, colon, role = operation.partition(":")
            is_plain = kind in faults.FILE_KINDS and (role or not colon)
            if not is_plain and (kind not in faults.VFS_KINDS or (colon and role not in faults.ROLES)):
                raise ChoiceError(
                    f"no operation {operation!r}; write one of: {', '.join(faults.VFS_KINDS)}, alone or with a role: "
                    f":{', :'.join(faults.ROLES)}; or one of: {', '.join(faults.FILE_KINDS)}, alone or with a suffix: "
                    ":.json, :other, :dir"
                )

    def effects_of(self, operation: Operation) -> Iterator[tuple[str, str]]:
        """The (timing, effect) pairs to try on an operation, all of them possible."""
        kind, role = operation
        plan_kind = _PLAN_KINDS.get(kind, kind)
        if self.operations is not None and not {plan_kind, f"{plan_kind}:{role}", f"{plan_kind}:any"} & set(
            self.operations
        ):
            return
        for timing, effect in faults.effects_of(plan_kind, role):
            fault = faults.Fault(plan_kind, effect, role, timing=timing)
            if kind not in faults.operations_of(fault) or (self.certain and not is_certain(fault)):
                continue
            wanted = self.effects if self.effects is not None else DEFAULTS.get(kind, ())
            if any(one in (ALL, effect, f"{timing}={effect}", f"{timing}={ALL}") for one in wanted):
                yield timing, effect

    def points(self, operations: Iterable[Operation]) -> list[faults.FaultPlan]:
        """Every fault point of a run that made these operations, in order."""
        ordinals: Counter[Operation] = Counter()
        plans = []
        for operation in operations:
            ordinals[operation] += 1
            kind, role = operation
            ordinal = ordinals[operation]
            when = faults.When(ordinal, None if self.sticky else ordinal)
            plans += [
                faults.FaultPlan((faults.Fault(_PLAN_KINDS.get(kind, kind), effect, role, when, timing),))
                for timing, effect in self.effects_of(operation)
            ]
        return plans


def is_certain(fault: faults.Fault) -> bool:
    """Whether its error proves, for processes that stay alive, that the operation changed nothing."""
    if fault.kind in faults.FILE_KINDS:
        return False
    return fault.timing == "before" and (fault.kind != "sync" or fault.role == "db")


def sample(plans: list[faults.FaultPlan], most: int | None) -> list[faults.FaultPlan]:
    """At most so many of them, the same ones every time, in order."""
    if most is None or len(plans) <= most:
        return plans
    chosen = random.Random(0).sample(range(len(plans)), most)  # noqa: S311 - the same sample every time is the point
    return [plans[index] for index in sorted(chosen)]
