"""Observers (§2): their notifications and when, also if one of them writes, fails, is added or removed."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from tornpage.scenarios.targets.reference.model.state import Outcome, State
from tornpage.scenarios.targets.reference.model.values import Anything, Refusal
from tornpage.scenarios.targets.reference.model.world import World

# A new task with this label is written to by an observer, which notes that it has seen it.
_IS_SEEN: Final = "observer writes"
_SEEN: Final = {"text": "seen"}
_EVENTS: Final = ("restored", "upserted", "deleted")

Step = Callable[[World, State, str, Mapping[str, Any]], Outcome]


def observed(step: Step, world: World, outcome: Outcome) -> Outcome:
    """§2: after the commit only, in commit order: what an observer causes comes after the whole unit."""
    state, heard = outcome.state, outcome.heard
    for event, name, row, previous in outcome.heard:
        if event == "upserted" and previous is None and row is not None and row["label"] == _IS_SEEN:
            try:
                more = step(world, state, "tasks.progress", {"task_id": name, **_SEEN})
            except Refusal:
                # It is gone by now; an observer that raises is logged.
                continue
            state, heard = more.state, (*heard, *more.heard)
    return replace(outcome, state=state, heard=heard)


def life(_world: World, state: State, *, calls: Iterable[tuple[str, Any]], kind: str | None = None) -> Outcome:
    """§2: `restored` always, also when empty; None clears, leaving the argument out keeps; one that raises stops none.

    The answer has, for each call, its refusal and the notifications: the same on every kind of store.
    """
    del kind
    listening: list[str] = []
    tasks: dict[str, None] = {}
    answers: list[Any] = []
    owed: list[Any] = []
    for name, argument in calls:
        try:
            heard = _heard(listening, tasks, name, argument)
        except Refusal as refusal:
            answers.append([refusal.error, []])
            continue
        # Not in the specification: an observer that was removed is notified of nothing more.
        owed = [event for event in owed if event[0] in listening]
        if name in ("observe", "configure"):
            answers.append([None, []])
            continue
        # Not in the specification: what ends the process gets through, and the rest is made up for with the next event.
        ends = [number for number, event in enumerate(owed + heard, start=1) if event[0] == "exits"]
        many = ends[0] if ends else len(owed + heard)
        answers.append(["it ended" if ends else None, (owed + heard)[:many]])
        owed = (owed + heard)[many:]
    # §2: an observer that raises is logged; of the first call, which opens the ledger, the log is not looked at.
    failures = [event for _, heard in answers[1:] for event in heard if event[0] == "fails"]
    return Outcome(state, [*answers, [True] * len(failures)])


def _heard(listening: list[str], tasks: dict[str, None], name: str, argument: Any) -> list[Any]:
    if name in ("open", "observe", "configure"):
        if argument == "left out":
            return []
        chosen = [] if argument is None else argument
        if not isinstance(chosen, list) or "deaf" in chosen:
            raise Refusal("UsageError")
        listening[:] = chosen
        return _told(listening, "restored", []) if name == "open" else []
    if name == "restore":
        return _told(listening, "restored", [*tasks])
    if name == "batch":
        return [event for inner, one in argument for event in _heard(listening, tasks, inner, one)]
    if name == "delete":
        if argument not in tasks:
            raise Refusal("NotFound")
        del tasks[argument]
        return _told(listening, "deleted", argument)
    is_new = argument not in tasks
    tasks[argument] = None
    return _told(listening, "upserted", [argument, is_new])


def _told(listening: list[str], event: str, what: Any) -> list[Any]:
    """The observers that are notified: all that have a method for it, in the order in which they were named."""
    return [[one, event, what] for one in listening if _hears(one, event)]


def _hears(name: str, event: str) -> bool:
    return name != f"no {event}" and (not name.startswith("only ") or name == f"only {event}")


def follow(
    _world: World,
    state: State,
    *,
    kind: str,
    calls: Iterable[tuple[str, Any]],
    fails: Mapping[str, str],
    lacks: Iterable[str] = (),
) -> Outcome:
    """§2, observers: after the commit only, in commit order: they say what there is, and was.

    §0, 2: a call that failed and changed nothing is not announced. One whose outcome is unknown may be announced by
    itself or by a later call; after the next look the observer knows what is there.
    """
    del kind, lacks
    tasks: dict[str, str | None] = {}
    answers: list[Any] = []
    made = 0
    for number, (name, argument) in enumerate(calls):
        how = fails.get(str(number))
        after, made = _followed(tasks, name, argument, made)
        if how is None or how.endswith("after"):
            tasks = after
        error = None if how in (None, "after") else "StoreError"
        known = tasks if how in (None, "before", "after") else Anything()
        answers.append([error, known, tasks, None])
    return Outcome(state, answers)


def _followed(
    tasks: Mapping[str, str | None], name: str, argument: Any, made: int
) -> tuple[dict[str, str | None], int]:
    """The progress of each task after a call, and the number of changes that were tried so far."""
    after = dict(tasks)
    if name == "delete":
        del after[argument]
        return after, made
    if name == "batch":
        for inner, one in argument:
            after, made = _followed(after, inner, one, made)
        return after, made
    after[argument] = f"turn {made + 1}" if argument in after else None
    return after, made + 1
