"""The ledger and its model, step by step: answers, refusals, states, notifications and log lines of each call.

The model has no memory: it begins each step with the state that the disk showed before it. So after a fault, a crash or
a change by another process, the possible states are those that the oracle has settled on; after a failed call the state
has to be the one before or the one after, by the specification.

Not compared with the model: texts for people, the stages of a call that commits more than once and was cut short (the
oracle checks these), what `OPEN_TO_THE_STORE` names, and, while a fault is armed, reads beyond those of the oracle.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from tornpage.scenarios.model.judging.checks import Violation, describe, differences
from tornpage.scenarios.model.target import Action, View
from tornpage.scenarios.targets.reference import model
from tornpage.scenarios.targets.reference.compared.differing import accuse, as_data, is_alike
from tornpage.scenarios.targets.reference.compared.told import Event, Told


def check_call(before: View, action: Action, after: View, kind: str, told: Told, now_ms: int) -> None:
    """Compare one call with the model; `kind` is "done", "refused" or "raised". Raises `Violation`."""
    special = _SPECIAL.get(action.name)
    if special is not None:
        special(before, action.args, after, kind, told, now_ms)
    elif "tick_ms" not in action.args:
        _check(model.State.of(before), _Call.of(action, now_ms), after, kind, told)
    else:
        _check_moving(before, action, after, kind, told)


def _check_moving(before: View, action: Action, after: View, kind: str, told: Told) -> None:
    """A call during which the clock moves matches the model at one of the times that it has read."""
    args = {name: value for name, value in action.args.items() if name not in ("tick_ms", "later_ms")}
    state, wrong = model.State.of(before), None
    for now_ms in told.readings:
        try:
            return _check(state, _Call.of(Action(action.name, args), now_ms), after, kind, told)
        except Violation as violation:
            wrong = violation
    if wrong is not None:
        raise wrong
    return None


def _check(state: model.State, call: "_Call", after: View, kind: str, told: Told) -> None:
    if call.name not in model.ACTIONS and call.name != "batch":
        return
    if call.name == "outbox.import_legacy" and "files" not in told.circumstances:
        # The state before could not be read.
        return
    world = model.World(call.now_ms, **told.circumstances)
    try:
        outcome = model.observed(model.step, world, model.step(world, state, call.name, call.args))
    except model.Refusal as refusal:
        if kind == "done" or (kind == "refused" and told.error != refusal.error):
            accuse(call, f"refused with {refusal.error}", told.error or f"answered with {told.answer}")
        if kind == "refused" and refusal.error == "UsageError":
            _hold_reason(call, refusal.about, told.reason)
        _hold_state(f"{call} was refused", state.view(), after)
        if any(" interrupted: " in line for line in told.lines):
            accuse(f"{call} was refused, the log", "no line of an interrupted run", told.lines)
    except TypeError:
        # It lacks an argument, or has one too many: not a call at all.
        return
    else:
        _hold_outcome(call, outcome, kind, state.view(), after, told)


def _overtaken(before: View, args: dict[str, Any], after: View, kind: str, told: Told, now_ms: int) -> None:
    state = model.State.of(before)
    if told.is_overtaken or "at" not in args:
        state = _made_by_other(state, args["first"], now_ms, told).state
    _check(state, _Call.of(_action(args["then"]), now_ms), after, kind, told)


def _cancel_while(before: View, args: dict[str, Any], after: View, kind: str, told: Told, now_ms: int) -> None:
    """§2, cancel: it calls the hook first, then reads the row again: a completion in between is kept."""
    state, task_id = model.State.of(before), args["task_id"]
    is_asked = state.task.get(task_id, {}).get("status") in ("queued", "running")
    meanwhile = model.Outcome(state)
    if is_asked and args.get("meanwhile") is not None:
        meanwhile = _made_by_other(state, args["meanwhile"], now_ms, told)
    says = "agrees" if args["says"] in ("agrees", "nothing") else "refuses"
    there = model.World(now_ms, controls={"acp": says})
    outcome = model.step(there, meanwhile.state, "tasks.cancel", {"task_id": task_id})
    if args.get("thread"):
        # The observers of the same ledger were notified of it.
        outcome = replace(outcome, heard=(*meanwhile.heard, *outcome.heard))
    call = _Call("cancel_while", args, now_ms)
    _hold_outcome(call, outcome, kind, state.view(), after, told)


def _maintenance_while(before: View, args: dict[str, Any], after: View, kind: str, told: Told, now_ms: int) -> None:
    """§3, maintenance: each row is re-read in its own transaction before it is changed."""
    call = _Call("maintenance_while", args, now_ms + args.get("later_ms", 0))
    state, world = model.State.of(before), model.World(call.now_ms, **told.circumstances)
    meanwhile = model.Outcome(state)
    if told.is_overtaken:
        by_other = args["meanwhile"]
        meanwhile = (
            model.Outcome(model.without_readable(state, **by_other["args"]))
            if by_other["name"] == "spoiled_row"
            else _made_by_other(state, by_other, call.now_ms, told)
        )
    outcome = model.step(world, state, "maintenance", {"apply": True, "meanwhile": meanwhile.state})
    _hold_outcome(call, outcome, kind, state.view(), after, told)


def _command(before: View, args: dict[str, Any], after: View, kind: str, told: Told, now_ms: int) -> None:
    """§3: a command is its call in another process; it prints the call's answer, and its exit code is the result."""
    if kind == "raised":
        return
    argv, state = args["argv"], model.State.of(before)
    outcome, error = _meant(state, args, told, now_ms)
    wanted, answer = model.exit_code(argv, outcome, error), as_data(told.answer)
    if answer["exit"] != wanted:
        accuse(f"{' '.join(argv)}, its exit code", wanted, answer)
    _hold_state(" ".join(argv), (outcome.state if outcome is not None else state).view(), after)
    if outcome is not None:
        _hold_printed(argv, args, outcome, wanted, answer)


def _meant(
    state: model.State, args: dict[str, Any], told: Told, now_ms: int
) -> tuple[model.Outcome | None, str | None]:
    """The result of the call that a command stands for, or the error that refuses it."""
    if "refused" in args:
        return None, args["refused"]
    argv, call = args["argv"], _Call.of(_action(args["means"]), now_ms + args.get("later_ms", 0))
    # A look past the ledger finds no worker's lock here.
    is_alone = argv[:2] == ["tasks", "audit"] or (argv[:2] == ["tasks", "maintenance"] and "--apply" not in argv)
    known = ("files", "imported", "as_written", "unreadable_keys", "unreadable_runs")
    there = {name: told.circumstances[name] for name in known if name in told.circumstances}
    booting = is_alone or "recover" in argv[:2]
    world = model.World(call.now_ms, is_booting=booting, program=args.get("program"), **there)
    try:
        return model.step(world, state, call.name, call.args), None
    except model.Refusal as refusal:
        return None, refusal.error


def _hold_printed(
    argv: list[str], args: dict[str, Any], outcome: model.Outcome, wanted: int, answer: dict[str, Any]
) -> None:
    if (wanted == 0 or answer["printed"] is not None) and "--json" in argv:
        printed = answer["printed"]
        if isinstance(printed, dict):
            printed.pop("checkpointed", None)
        if printed != model.printed(argv, outcome):
            accuse(f"{' '.join(argv)}, what it prints", model.printed(argv, outcome), printed)
    if wanted == 0 and "--json" not in argv:
        shown = model.on_terminal if args.get("terminal") else model.lines
        expected, lines = shown(argv, outcome), answer["lines"]
        if expected is not None and expected not in (lines, sorted(lines)):
            accuse(f"{' '.join(argv)}, its lines", expected, lines)
    is_told = (wanted == 0 and "--json" not in argv) or argv[:2] == ["outbox", "import"]
    if is_told and answer["warnings"] != model.warnings(argv, outcome):
        accuse(f"{' '.join(argv)}, its warnings", model.warnings(argv, outcome), answer["warnings"])


_SPECIAL: Final = {
    "overtaken": _overtaken,
    "cancel_while": _cancel_while,
    "maintenance_while": _maintenance_while,
    "command": _command,
}


def _action(data: dict[str, Any]) -> Action:
    return Action(data["name"], data["args"])


# The circumstances that another process meets, too.
_OF_ALL_PROCESSES: Final = ("controls", "backs", "files", "imported", "unreadable_keys", "unreadable_runs")


def _made_by_other(state: model.State, call: dict[str, Any], now_ms: int, told: Told) -> model.Outcome:
    """The result of another process's call, which may have been refused; its runtimes and sessions are the same."""
    made = _Call.of(_action(call), now_ms)
    met = {name: told.circumstances[name] for name in _OF_ALL_PROCESSES if name in told.circumstances}
    world = model.World(made.now_ms, **met)
    try:
        return model.step(world, state, made.name, made.args)
    except model.Refusal:
        return model.Outcome(state)


# The fields without which there is no new task; they are the fields of one argument.
_NEEDED: Final = {"tasks.create": frozenset({"runtime", "task"})}


class _Call(msgspec.Struct, frozen=True):
    """The call of the ledger in an action, in every process, and when."""

    name: str
    args: dict[str, Any]
    now_ms: int

    @classmethod
    def of(cls, action: Action, now_ms: int) -> "_Call":
        name, args = action.name, dict(action.args)
        if name == "elsewhere":
            name, args = args["call"]["name"], dict(args["call"]["args"])
        args.pop("booting", None)
        if name == "maintenance":
            # The harness's action makes the change that the ledger's own call only previews.
            args.setdefault("apply", True)
        return cls(name, args, now_ms + args.pop("later_ms", 0))

    def __str__(self) -> str:
        return str(Action(self.name, self.args))


def _hold_reason(call: _Call, about: str | None, reason: str) -> None:
    """A refusal of a value says what it is about: an argument, unless the specification says what else."""
    if about is not None and about not in re.findall(r"\w+", reason):
        accuse(f"{call}, its error", f"a text that names {about}", reason)
    if about is None and not _names_an_argument(reason, call):
        accuse(f"{call}, its error", f"a text that names one of {', '.join(call.args)}", reason)


def _names_an_argument(reason: str, call: _Call) -> bool:
    """Whether a refusal says which argument it is about: by its name, or, for an id, as in "worker 'a'"."""
    if call.name in ("batch", "outbox.import_legacy") or not call.args:
        # It is about one of the calls in it, or about what is on disk; what `changes` meanwhile is no argument.
        return True
    # Of those that it needs and lacks, or else of those that it has.
    named = _NEEDED.get(call.name, frozenset()) - call.args.keys() or call.args.keys()
    known = (f"{name.removesuffix('_id')} {value!r}" for name, value in call.args.items() if name.endswith("_id"))
    return not named.isdisjoint(re.findall(r"\w+", reason)) or any(one in reason for one in known)


def _hold_outcome(call: _Call, outcome: model.Outcome, kind: str, before: View, after: View, told: Told) -> None:
    if kind == "raised":
        if call.name not in _MANY_COMMITS and after != before:
            _hold_state(f"{call} failed, and changed something", outcome.state.view(), after)
        if call.name == "recover":
            _hold_lines_after_failure(before, after, told)
        return
    if told.error is not None:
        accuse(call, f"answered with {outcome.answer}", f"refused with {told.error}")
    _hold_state(str(call), outcome.state.view(), after)
    _hold_answer(str(call), outcome, told)


def _hold_lines_after_failure(before: View, after: View, told: Told) -> None:
    """§4: then one line each. A line is of a run that is interrupted, and a run that is so has its line.

    A pass that can't read the rows says that it can't tell; a later one finds nothing to say.
    """
    for key in after:
        now, was = (view.get(key, {}).get("status") for view in (after, before))
        if not key.startswith("run/"):
            continue
        line = f"[recovery] run {key.removeprefix('run/')} interrupted"
        is_said = any(one.startswith(line) for one in told.lines)
        if is_said and now != "interrupted":
            accuse("the log of a recovery that failed", f"nothing of a run that is {now}", told.lines)
        is_known = not (told.doubts and told.is_suspect)
        if not is_said and (was, now) == ("running", "interrupted") and is_known:
            accuse("the log of a recovery that failed", f"{line} …", told.lines)


_MANY_COMMITS: Final = frozenset({"maintenance", "outbox.recover", "outbox.import_legacy"})


# The rows that hold a caller's JSON values.
_WITH_JSON: Final = ("delivery/", "run/")


def _hold_state(said: str, wanted: View, after: View) -> None:
    if wanted != after:
        found = describe(differences(wanted, after), "the specification", "the file")
        raise Violation("as-specified", f"{said}: {found}", {"expected": _plain(wanted), "disk": after})
    for key in (one for one in wanted if one.startswith(_WITH_JSON)):
        if not is_alike(wanted[key], after[key]):
            accuse(f"{said}, {key} in the file", wanted[key], after[key])
    if (order := _task_order(wanted)) != (found_order := _task_order(after)):
        accuse(f"{said}, the order of the rows", order, found_order)


def _task_order(view: View) -> list[str]:
    return [key for key in view if key.startswith("task/")]


def _plain(view: View) -> Any:
    """The view with alternatives of text as text."""
    return msgspec.to_builtins(view, enc_hook=repr)


def _hold_answer(said: str, outcome: model.Outcome, told: Told) -> None:
    answer, sent = as_data(told.answer), as_data(told.sent)
    if answer != outcome.answer or not is_alike(outcome.answer, answer):
        accuse(f"{said}, its answer", outcome.answer, answer)
    if not is_alike(list(outcome.sent), sent):
        accuse(f"{said}, what was sent", list(outcome.sent), sent)
    if [*outcome.lines] != told.lines[len(told.lines) - len(outcome.lines) :] or len(told.lines) > len(outcome.lines):
        accuse(f"{said}, the log", list(outcome.lines), told.lines)
    _hold_events(said, outcome.heard, [tuple(one) for one in as_data(told.heard)])


def _hold_events(said: str, wanted: Sequence[Event], heard: Sequence[Event]) -> None:
    """Other processes' changes may be notified first: a session is notified of one when it reads the same row."""
    met = 0
    for event in heard:
        if met < len(wanted) and event == wanted[met]:
            met += 1
        elif event[2] == event[3] or event[1] not in {one[1] for one in wanted[met:]}:
            break
    else:
        if met == len(wanted):
            return
    accuse(f"{said}, the notifications of observers", [_short(one) for one in wanted], [_short(one) for one in heard])


def _short(event: Event) -> tuple[str, str, str | None]:
    return event[0], event[1], event[2] and event[2]["status"]
