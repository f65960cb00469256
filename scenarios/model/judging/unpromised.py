"""The checks that a target does not promise: code and reason, or reasons for some searches or conditions only.

``{"memory-equals-disk": "it is a cache"}`` switches the check to observations everywhere; ``{"memory-equals-disk":
{"limits": "…"}}`` only for findings of the search ``limits``, and for findings of other searches (such as ``fuzz``)
whose only condition is a limit. A key names a search, a limit ("heap"), a rival ("writer"), an operation ("sync",
"sync:wal"), a result code ("NOMEM", "FULL"), "power" or "process" for crashes, or "no fault". A finding becomes an
observation if every condition that its scenario needs is named.
"""

from collections.abc import Iterator, Mapping
from typing import Final, get_args

import msgspec

from tornpage import faults
from tornpage.scenarios.model.events import Finding
from tornpage.scenarios.model.scenario import (
    LIMIT_EFFECTS,
    Arm,
    CrashAt,
    Damage,
    Limit,
    LimitKind,
    Rival,
    Scenario,
    Step,
    Syscall,
)

Reasons = str | Mapping[str, str]
Unpromised = Mapping[str, Reasons]

NO_FAULT: Final = "no fault"
NO_MEMORY_EITHER: Final = "ROLLBACK had no memory either"
"""What the message of a finding says if the store tried to roll back, and that failed for lack of memory, too."""
SEARCHES: Final = ("sweep", "crash", "contend", "limits", "kill", "fuzz", "syscalls", "interleave")


def reason_for(unpromised: Unpromised, code: str, scenario: Scenario, search: str) -> str:
    """The declared reason why a finding is only an observation, by its check, scenario and search; "" for none."""
    reasons = unpromised.get(code, "")
    if isinstance(reasons, str):
        return reasons
    if search in reasons:
        return reasons[search]
    covering: list[str] = []
    for words in list(_conditions(scenario)) or [frozenset({NO_FAULT})]:
        named = [reason for key, reason in reasons.items() if key in words]
        if not named:
            return ""
        covering += named
    return covering[0]


def reason_not_promised(unpromised: Unpromised, finding: Finding) -> str:
    """The declared reason why this finding is only an observation; "" for none.

    A rollback without memory is due to the limit alone: what came before only decides which allocation failed.
    """
    scenario = finding.scenario
    if NO_MEMORY_EITHER in finding.message:
        limits = tuple(step for step in scenario.steps if isinstance(step, Limit))
        scenario = msgspec.structs.replace(scenario, steps=limits)
    return reason_for(unpromised, finding.code, scenario, finding.search)


def in_words(reasons: Reasons) -> str:
    """The reasons of one check as a line."""
    if isinstance(reasons, str):
        return reasons
    return "; ".join(f"{key}: {reason}" for key, reason in reasons.items())


def what_is_wrong(unpromised: object, known: Mapping[str, object]) -> str:
    """The error in a declaration, and what is allowed; "" for a valid one. `known` has the codes of checks."""
    if not isinstance(unpromised, Mapping):
        return f"unpromised is {unpromised!r}; give a mapping from the codes of checks to reasons"
    if unknown := sorted(set(unpromised) - known.keys()):
        return f"unpromised names {unknown[0]!r}, which is not a check; known: {', '.join(known)}"
    for code, reasons in unpromised.items():
        if isinstance(reasons, str):
            continue
        if not isinstance(reasons, Mapping) or not all(isinstance(one, str) for one in reasons.values()):
            return f"unpromised gives {reasons!r} for {code!r}; give a reason, or a mapping from searches to reasons"
        if unknown := [key for key in reasons if not _is_known(key)]:
            return (
                f"unpromised limits {code!r} to {unknown[0]!r}; give a search ({', '.join(SEARCHES)}), a limit "
                f"({', '.join(get_args(LimitKind))}), a rival ({', '.join(faults.RIVAL_KINDS)}), an operation such as "
                f"sync, sync:wal or file-fsync, an error such as NOMEM or EIO, power, process, or {NO_FAULT!r}"
            )
    return ""


def _is_known(key: object) -> bool:
    words = {*SEARCHES, *get_args(LimitKind), *faults.RIVAL_KINDS, *faults.RESULT_CODES, "power", "process", NO_FAULT}
    words |= {effect for line in faults.possibilities() for effect in line.effects}
    kind, _, role = str(key).partition(":")
    # The role of a plain file is the end of its name.
    is_role = role in ("", *faults.ROLES) or kind.startswith("file-")
    return key in words or (kind in faults.KINDS and is_role)


def _conditions(scenario: Scenario) -> Iterator[frozenset[str]]:
    """The names of each condition of a scenario."""
    for step in scenario.steps:
        yield from _words(step)


def _words(step: Step) -> Iterator[frozenset[str]]:
    if isinstance(step, Arm):
        for fault in faults.FaultPlan.parse(step.plan).faults:
            effect = {fault.effect, fault.effect.partition("_")[0]}
            yield frozenset({"sweep", fault.kind, f"{fault.kind}:{fault.role}"} | effect)
    elif isinstance(step, Limit):
        yield frozenset({"limits", step.kind, LIMIT_EFFECTS[step.kind]})
    elif isinstance(step, Rival):
        yield frozenset({"contend", step.kind, "BUSY"})
    elif isinstance(step, Syscall):
        yield frozenset({"syscalls"})
    elif isinstance(step, Damage):
        yield frozenset({"crash", "latent"})
    elif isinstance(step, CrashAt):
        yield frozenset({"crash", "power" if step.power else "process"})
