"""Shrinking a failing scenario: steps and faults that aren't needed are dropped, and the rest is simplified.

First the scenario is replayed unchanged. If it doesn't reproduce the finding, nothing is dropped: a shorter scenario
would show a different one. It is also played without any fault or condition: if it still fails, the fault isn't needed,
and the finding is reported without it.

Then, in this order, until nothing changes; each change is kept if the scenario still shows the same difference:

- runs of steps are dropped: half the scenario, then a quarter, down to single steps;
- a fault is armed only just before the last call, with a smaller ordinal;
- each of several faults in one plan is dropped; a sticky one (``@1..``) becomes a single one (``@1``); a rare one
  becomes a more common one: a full disk, a failed write;
- without a fault, the last call is dropped if opening the store shows the difference, too;
- a call is made at its own minute;
- a target may offer simpler calls to replace one (`simpler_actions`), of which each is tried once, unless a step can be
  dropped then. Arguments are otherwise left alone: only the target knows which of them a call needs.

So every fault that a shrunk scenario still has is needed; `what_suffices` lists them in words.

Where the whole has passed without its faults, no scenario is played in which none is in force during any step; that the
shortest one needs them is checked at the end. Nor is a fault at a later operation than one that was not reached.

A search with a time limit ends this early: the scenario is then the shortest so far.

Not covered: replacing a needed call by another one, and other kinds of crash (the crash search shrinks those itself).
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from tornpage import faults
from tornpage.faults.strace import SyscallFault, possible_effects
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.execution.finding.difference import difference_of, is_same
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import (
    Arm,
    Call,
    Clear,
    Conditional,
    CrashAt,
    Interleave,
    Limit,
    Restart,
    Scenario,
    Step,
    Syscall,
)
from tornpage.scenarios.model.target import Target

Play = Callable[[Scenario, Target, Path], tuple[Violation | None, Counter[str]]]
NO_FAULT: Final = "no fault is needed"
# From the most common fault to the rarest.
_ORDINARY: Final = (
    ("write", "FULL"), ("write", "IOERR_WRITE"), ("sync", "IOERR_FSYNC"), ("read", "IOERR_READ"), ("lock", "BUSY"),
)  # fmt: skip
_ORDINARY_OF_FILES: Final = (
    ("file-write", "ENOSPC"), ("file-create", "ENOSPC"), ("file-write", "EIO"), ("file-fsync", "EIO"),
)  # fmt: skip
# At how many writes the most common fault is tried.
_MOST_WRITES: Final = 8
_ORDINARY_CALLS: Final = (("pwrite64", "ENOSPC"), ("pwrite64", "EIO"), ("fdatasync", "EIO"), ("pread64", "EIO"))


class Shown(NamedTuple):
    """The shrunk scenario of a finding and its violation; `again` is whether it reproduces the finding."""

    scenario: Scenario
    violation: Violation
    again: bool = True
    note: str = ""


def _never() -> bool:
    return False


def shown(
    scenario: Scenario,
    seen: Violation,
    target: Target,
    directory: Path,
    play: Play = play,
    *,
    is_over: Callable[[], bool] = _never,
) -> Shown:
    """The shortest scenario that shows the violation `seen` at a point reached by `scenario`; `play` plays it.

    With `is_over` the shortest until that returns True. If another check fails even without the fault, the violation
    under the fault is still reported, and the other is named.
    """
    without = failure_without_faults(scenario, target, directory, play)
    if without is None or without.code != seen.code:
        found = _played(scenario, target, directory, play)
        if found is not None and _reproduces(found, seen):
            needed = without is None and without_faults(scenario).steps != scenario.steps
            # A call that fails may leave what fails without it, too, such as a full queue.
            needed = needed and _played(_out_of_force(scenario), target, directory, play) is None
            short, violation = minimise(scenario, found, target, directory, play, needs_fault=needed, is_over=is_over)
            return Shown(short, violation, note=note_of(without))
    if without is not None:
        plain = without_faults(scenario)
        return Shown(*minimise(plain, without, target, directory, play, is_over=is_over), note=NO_FAULT)
    return Shown(scenario, seen, again=False)


def failure_without_faults(scenario: Scenario, target: Target, directory: Path, play: Play = play) -> Violation | None:
    """What fails where nothing is wrong with the world; None if nothing does, or the scenario has no fault."""
    plain = without_faults(scenario)
    return _played(plain, target, directory, play) if plain.steps != scenario.steps else None


def note_of(without: Violation | None) -> str:
    """The note on a finding under a fault, without which another check fails."""
    return f"without the fault {without.code} fails" if without else ""


def without_faults(scenario: Scenario) -> Scenario:
    """The scenario with nothing wrong with the world."""
    steps = tuple(step for step in scenario.steps if not isinstance(step, Conditional | Clear))
    return msgspec.structs.replace(scenario, steps=steps)


def minimise(
    scenario: Scenario,
    violation: Violation,
    target: Target,
    directory: Path,
    play: Play = play,
    *,
    needs_fault: bool = False,
    is_over: Callable[[], bool] = _never,
) -> tuple[Scenario, Violation]:
    """The shortest scenario that shows the same difference, and its violation; `play` plays one.

    `needs_fault`: without its faults the whole scenario shows nothing. With `is_over` the shortest until that returns
    True.
    """
    seen = violation
    # Each pass over the steps comes to most of the same scenarios once more.
    in_vain: list[Scenario] = []
    unreached: dict[tuple[str, ...], int] = {}

    def still_fails(shorter: Scenario) -> Violation | None:
        if shorter in in_vain or is_over() or (needs_fault and not _meets_one(shorter)):
            return None
        kind, ordinal = _single_fault(shorter)
        if ordinal >= unreached.get(kind, ordinal + 1):
            return None
        found, counts = _outcome(shorter, target, directory, play)
        if found is not None and is_same(found, seen):
            return found
        in_vain.append(shorter)
        if counts.get("fired") == 0:
            unreached.setdefault(kind, ordinal)
        return None

    while True:
        scenario, violation = _drop_steps(scenario, violation, still_fails)
        simpler = _first_of(_simpler(scenario, target), still_fails)
        if simpler is None:
            fewer = _with_fewer_arguments(scenario, violation, target, still_fails)
            # Then a step may be needed no more; if all are, nothing that could not be simplified is tried again.
            again = fewer if fewer[0] is scenario else _drop_steps(*fewer, still_fails, largest=1)
            simpler, (scenario, violation) = None if again[0] is fewer[0] else again, again
        if simpler is None and needs_fault:
            # The whole may have passed without its faults only by what has been dropped.
            needs_fault = False
            simpler = _first_of(iter((without_faults(scenario), _out_of_force(scenario))), still_fails)
        if simpler is None:
            return scenario, violation
        scenario, violation = simpler


def _meets_one(scenario: Scenario) -> bool:
    """Whether any step is played while a fault or a condition is in force."""
    return len(_out_of_force(scenario).steps) < len(without_faults(scenario).steps)


def _out_of_force(scenario: Scenario) -> Scenario:
    """The scenario without its faults and conditions, and without the steps that are played while one is in force."""
    left, is_armed = list[Step](), False
    for step in scenario.steps:
        if isinstance(step, Conditional | Clear):
            is_armed = isinstance(step, Conditional)
            continue
        if not is_armed:
            left.append(step)
        # A step may end what is in force.
        is_armed = is_armed and getattr(step, "ends", None) is not True
    return msgspec.structs.replace(scenario, steps=tuple(left))


def _single_fault(scenario: Scenario) -> tuple[tuple[str, ...], int]:
    """The scenario but for the ordinal of its only fault, and that; 0 where it has no fault, or is not alone."""
    conditions = [step for step in scenario.steps if isinstance(step, Conditional)]
    arm = conditions[0] if len(conditions) == 1 else None
    plan = faults.FaultPlan.parse(arm.plan).faults if isinstance(arm, Arm) else ()
    # The arguments of a call have no hash.
    if arm is None or len(plan) != 1:
        return tuple(map(repr, scenario.steps)), 0
    first = f"{arm.slot} {plan[0].at(faults.When(1, 1))}"
    return tuple(first if step is arm else repr(step) for step in scenario.steps), plan[0].when.first


def _outcome(scenario: Scenario, target: Target, directory: Path, play: Play) -> tuple[Violation | None, Counter[str]]:
    try:
        return play(scenario, target, directory)
    except RuntimeError:
        # After a needed step was dropped, a later one may be meaningless even without a fault.
        return None, Counter()


def _played(scenario: Scenario, target: Target, directory: Path, play: Play) -> Violation | None:
    return _outcome(scenario, target, directory, play)[0]


def _reproduces(found: Violation, seen: Violation) -> bool:
    """Whether a scenario shows the violation seen at the point, whose message may differ."""
    one, other = difference_of(found), difference_of(seen)
    return one.code == other.code and (one.ways == other.ways or not (one.ways and other.ways))


def what_suffices(scenario: Scenario) -> str:
    """The faults that a scenario from `minimise` needs, in words; "" for none."""
    needed = [
        str(fault)
        for step in scenario.steps
        for fault in (faults.FaultPlan.parse(step.plan).faults if isinstance(step, Arm) else ())
    ] + [str(step) for step in scenario.steps if isinstance(step, Conditional) and not isinstance(step, Arm)]
    if not needed:
        return ""
    if len(needed) > 1:
        return f"needs {' and '.join(needed)}: without any one of them the check holds"
    # A limit is a clause, the others are names.
    is_limit = any(isinstance(step, Limit) for step in scenario.steps)
    return f"it suffices that {needed[0]}" if is_limit else f"{needed[0]} alone suffices"


Fails = Callable[[Scenario], Violation | None]


def _first_of(scenarios: Iterator[Scenario], still_fails: Fails) -> tuple[Scenario, Violation] | None:
    for scenario in scenarios:
        found = still_fails(scenario)
        if found is not None:
            return scenario, found
    return None


def _drop_steps(
    scenario: Scenario, violation: Violation, still_fails: Fails, *, largest: int | None = None
) -> tuple[Scenario, Violation]:
    """Drop every run of steps, up to half of them or the `largest`, without which it still fails."""
    size = largest or max(len(scenario.steps) // 2, 1)
    while size:
        dropped = False
        for start in range(len(scenario.steps) - size, -1, -1):
            if start + size > len(scenario.steps):
                continue
            shorter = _with(scenario, start, size)
            found = still_fails(shorter)
            if found is not None:
                scenario, violation, dropped = shorter, found, True
        if not dropped:
            size //= 2
    return scenario, violation


def _with(scenario: Scenario, start: int, size: int, *steps: Any) -> Scenario:
    """The scenario with some steps replaced."""
    return msgspec.structs.replace(scenario, steps=(*scenario.steps[:start], *steps, *scenario.steps[start + size :]))


def _simpler(scenario: Scenario, target: Target) -> Iterator[Scenario]:
    """Simpler scenarios, none of them longer, with the same calls; each is simpler than the one before."""
    yield from _at_their_own_minute(scenario)
    if _calls_only(scenario):
        # A call opens the store, and so does every other one: they are one finding.
        yield msgspec.structs.replace(scenario, steps=(Restart(),))
    yield from _armed_late(scenario)
    for index, step in enumerate(scenario.steps):
        for simpler in _simpler_step(step, target):
            yield _with(scenario, index, 1, simpler)
    yield from _opened_before(scenario, target)


def _with_fewer_arguments(
    scenario: Scenario, violation: Violation, target: Target, still_fails: Fails
) -> tuple[Scenario, Violation]:
    """The scenario with simpler calls; each that shows nothing is tried once.

    Later calls come first: they may name what an earlier one has made.
    """
    for index in reversed(range(len(scenario.steps))):
        tried = 0
        while tried < len(simpler := list(_simpler_calls(scenario.steps[index], target))):
            shorter = _with(scenario, index, 1, simpler[tried])
            if (found := still_fails(shorter)) is None:
                tried += 1
                continue
            # Those before it would leave out another argument; of another call all are new.
            tried = tried if _names(shorter.steps[index]) == _names(scenario.steps[index]) else 0
            scenario, violation = shorter, found
    return scenario, violation


def _names(step: Step) -> tuple[str, ...]:
    actions = step.actions if isinstance(step, Interleave) else (step.action,) if isinstance(step, Call) else ()
    return tuple(action.name for action in actions)


def _calls_only(scenario: Scenario) -> bool:
    """Whether it has a call, and nothing but calls and restarts."""
    kinds = {type(step) for step in scenario.steps}
    return Call in kinds and kinds <= {Call, Restart}


def _opened_before(scenario: Scenario, target: Target) -> Iterator[Scenario]:
    """A common fault in a store that was opened before it was armed: one step more, for a well-known fault."""
    first = scenario.steps[0] if scenario.steps else None
    if isinstance(first, Arm) and "vfs" in target.depths:
        for plan in _more_ordinary(faults.FaultPlan.parse(first.plan)):
            yield _with(scenario, 0, 1, Restart(), Arm(str(plan)))


def _simpler_step(step: Step, target: Target) -> Iterator[Step]:
    if isinstance(step, Arm):
        plan = faults.FaultPlan.parse(step.plan)
        if "vfs" in target.depths:
            yield from (Arm(str(one)) for one in _more_ordinary(plan))
        yield from (Arm(str(one), step.depth) for one in _fewer_faults(plan))
    elif isinstance(step, Syscall):
        yield from (Syscall(str(fault)) for fault in _more_ordinary_calls(SyscallFault.parse(step.fault)))
    elif isinstance(step, Interleave):
        yield from _simpler_schedules(step)


def _simpler_calls(step: Step, target: Target) -> Iterator[Step]:
    if isinstance(step, Call) and step.action != target.heartbeat():
        # The small change is kept: the player of a scenario's end must know that it was made.
        yield from (msgspec.structs.replace(step, action=action) for action in target.simpler_actions(step.action))
    elif isinstance(step, Interleave):
        yield from (msgspec.structs.replace(step, first=one) for one in target.simpler_actions(step.first))
        yield from (msgspec.structs.replace(step, second=one) for one in target.simpler_actions(step.second))


def _simpler_schedules(step: Interleave) -> Iterator[Interleave]:
    """A schedule of new sessions; one that switches once instead of twice, or not at all, or earlier."""
    if step.earlier is not None:
        yield msgspec.structs.replace(step, earlier=None)
    if step.killed:
        yield msgspec.structs.replace(step, killed=False)
        yield from (msgspec.structs.replace(step, back=back) for back in range(1, step.back))
    elif step.back:
        yield msgspec.structs.replace(step, back=0)
        yield msgspec.structs.replace(step, first=step.second, second=step.first, switch=step.back, back=0)
    yield from (msgspec.structs.replace(step, switch=switch) for switch in range(abs(step.switch)))


def _at_their_own_minute(scenario: Scenario) -> Iterator[Scenario]:
    """A scenario without the minutes of its steps, and without `ends`."""
    plain = tuple(_plainly(step) for step in scenario.steps)
    if plain != scenario.steps:
        yield msgspec.structs.replace(scenario, steps=plain)
    for index, step in enumerate(scenario.steps):
        if isinstance(step, Call | Restart | CrashAt):
            for field in ("ends", "at"):
                if getattr(step, field) is not msgspec.UNSET:
                    yield _with(scenario, index, 1, msgspec.structs.replace(step, **{field: msgspec.UNSET}))


def _plainly(step: Step) -> Step:
    if isinstance(step, Call | Restart | CrashAt):
        return msgspec.structs.replace(step, at=msgspec.UNSET, ends=msgspec.UNSET)
    return step


def rarity(plan: faults.FaultPlan) -> int:
    """How rare the first fault of a plan is: 0 for the most common one; an error after the effect is the rarest."""
    fault = plan.faults[0]
    common = _common_like(fault)
    return len(common) + 1 if fault.timing == "after" else _rank(common, (fault.kind, fault.effect))


def _common_like(fault: faults.Fault) -> tuple[tuple[str, str], ...]:
    """The common faults of plain files for one of them, and else SQLite's."""
    return _ORDINARY_OF_FILES if fault.kind.startswith("file-") else _ORDINARY


def _more_ordinary(plan: faults.FaultPlan) -> Iterator[faults.FaultPlan]:
    """Plans of one fault that is more common than that of a plan."""
    fault = plan.faults[0]
    if len(plan.faults) != 1 or fault.effect == faults.KILL:
        return
    common = _common_like(fault)
    rank = _rank(common, (fault.kind, fault.effect) if fault.timing == "before" else None)
    for kind, effect in common[:rank]:
        for last in (1, None):
            yield faults.FaultPlan((faults.Fault(kind, effect, when=faults.When(1, last)),))
    # The same operation with what happens to it more often; which errors a statement can have depends on where it is.
    is_statement = fault.kind in faults.STATEMENT_KINDS
    for timing, effect in () if is_statement else faults.effects_of(fault.kind, fault.role):
        if (timing, effect) == (fault.timing, fault.effect):
            break
        yield faults.FaultPlan((dataclasses.replace(fault, effect=effect, timing=timing),))
    if rank:
        # The first write may come before what the finding needs.
        kind, effect = common[0]
        for number in range(2, _MOST_WRITES + 1):
            yield faults.FaultPlan((faults.Fault(kind, effect, when=faults.When(number, number)),))


def _more_ordinary_calls(fault: SyscallFault) -> Iterator[SyscallFault]:
    """System calls that fail more often in the world, and the same one once, or earlier."""
    rank = _rank(_ORDINARY_CALLS, (fault.call, fault.effect))
    tried = [(call, role, effect) for call, effect in _ORDINARY_CALLS[:rank] for role in ("wal", "db", "journal")]
    for call, role, effect in (*tried, (fault.call, fault.role, fault.effect)):
        for when in (faults.When(1, 1), faults.When(1, None)):
            simpler = SyscallFault(call, role, when, effect)
            if (effect, when.sticky) in possible_effects(call, role) and _is_simpler(simpler, fault):
                yield simpler


def _is_simpler(one: SyscallFault, other: SyscallFault) -> bool:
    if (one.call, one.role, one.effect) != (other.call, other.role, other.effect):
        return True
    return (one.when.sticky, one.when.first) < (other.when.sticky, other.when.first)


def _rank(order: tuple[tuple[str, str], ...], what: tuple[str, str] | None) -> int:
    return next((number for number, one in enumerate(order) if one == what), len(order))


def _armed_late(scenario: Scenario) -> Iterator[Scenario]:
    """A fault that is armed only just before the last call, with a smaller ordinal: it counts no earlier calls."""
    last = max((index for index, step in enumerate(scenario.steps) if isinstance(step, Call)), default=0)
    for index, step in enumerate(scenario.steps[: max(last - 1, 0)]):
        if not isinstance(step, Arm):
            continue
        others = scenario.steps[:index] + scenario.steps[index + 1 : last]
        for plan in _earlier(faults.FaultPlan.parse(step.plan)):
            yield msgspec.structs.replace(scenario, steps=(*others, Arm(str(plan), step.depth), *scenario.steps[last:]))


def _earlier(plan: faults.FaultPlan) -> Iterator[faults.FaultPlan]:
    """A plan of one fault with each ordinal up to its own."""
    if len(plan.faults) == 1:
        fault = plan.faults[0]
        for ordinal in range(1, fault.when.first + 1):
            yield faults.FaultPlan((fault.at(faults.When(ordinal, None if fault.when.sticky else ordinal)),))


def _fewer_faults(plan: faults.FaultPlan) -> Iterator[faults.FaultPlan]:
    """A plan without one of its faults, or with a sticky one made single."""
    for index, fault in enumerate(plan.faults):
        before, after = plan.faults[:index], plan.faults[index + 1 :]
        if before or after:
            yield faults.FaultPlan((*before, *after))
        once = faults.When(fault.when.first, fault.when.first)
        if fault.when != once:
            yield faults.FaultPlan((*before, fault.at(once), *after))
