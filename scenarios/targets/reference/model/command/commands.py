"""The command (§3): what ``ledger … --json`` prints, and its exit code: 0 fine; 1 not found or refused; 2 usage."""

from collections.abc import Mapping, Sequence
from typing import Any

from tornpage.scenarios.targets.reference.model.command.shown import QUARANTINED
from tornpage.scenarios.targets.reference.model.state import Outcome
from tornpage.scenarios.targets.reference.model.values import Text, as_json

# The output for a run or a message is not the answer of its call.
_MESSAGES = frozenset({"list", "show", "enqueue"})


def exit_code(argv: Sequence[str], outcome: Outcome | None, error: str | None) -> int:
    """The exit code of the process if the call that it stands for had this outcome, or was refused with this error."""
    if outcome is None:
        return 2 if error == "UsageError" else 1
    answer = outcome.answer
    if argv[1:2] == ["show"] and answer is None:
        return 1
    if isinstance(answer, Mapping) and (answer.get("cancelled") is False or answer.get("problems")):
        return 1
    if "--fail-on" in argv and isinstance(answer, Mapping):
        worst = argv[argv.index("--fail-on") + 1]
        return int(any(worst == "warn" or one["severity"] == "error" for one in answer["findings"]))
    return 0


def printed(argv: Sequence[str], outcome: Outcome) -> Any:
    """The JSON output."""
    group, command, *_ = [*argv, ""]
    answer = outcome.answer
    if command == "list":
        rows = [_shown(one) for one in answer] if group == "outbox" else answer
        noun = {"tasks": "tasks", "runs": "runs", "outbox": "messages"}[group]
        names = {"tasks": ("runtime", "status", "owner"), "runs": ("status", "task_id", "worker_id")}
        filters = {name: _option(argv, name) for name in names.get(group, ("status", "channel"))}
        bad = outcome.state.quarantined(*QUARANTINED[f"{group} list"])
        return {"count": len(rows), "filters": filters, noun: rows, "quarantined": bad}
    if command == "import":
        bad = [{"file": name, "reason": Text(), "imported": is_there} for name, is_there in answer["problems"]]
        return {**{name: answer[name] for name in ("imported", "already_there", "removed")}, "problems": bad}
    if group == "outbox" and command in _MESSAGES:
        return _shown(answer)
    if group == "runs" and command == "show":
        sessions = [one for one in outcome.state.session.values() if one["run_id"] == answer["id"]]
        return {"run": answer, "sessions": sessions, "worker_alive": True}
    return {"pruned": answer} if command == "prune" else answer


def _option(argv: Sequence[str], name: str) -> str | None:
    flag = "--" + name.removesuffix("_id")
    return argv[argv.index(flag) + 1] if flag in argv else None


def _shown(message: Mapping[str, Any]) -> Any:
    """A message with its payload as the JSON that it is, or as the text that it is, and why."""
    try:
        return {**message, "payload": as_json(message["payload"])}
    except ValueError:
        return {**message, "payload_error": Text()}
