"""The output of a command for people in a pipe (§3): tables by tabs, records by lines, one line for a count.

The wording of sentences is not specified, except the headline of the audit; the values in them are.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from tornpage.scenarios.targets.reference.model.state import Outcome, Row
from tornpage.scenarios.targets.reference.model.values import Printable, Text

_TASKS: Final = ("id", "runtime", "status", "owner", "created", "task")
_RUNS: Final = ("id", "status", "started", "finished", "worker", "agent", "task")
_MESSAGES: Final = ("id", "channel", "target", "status", "attempts", "queued", "next attempt", "reason")
_FINDINGS: Final = ("Severity", "Code", "Task", "Status", "Age", "Detail")
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def lines(argv: Sequence[str], outcome: Outcome) -> list[Any] | None:
    """The lines, those of a record sorted; None if they are not specified."""
    command, answer = " ".join(argv[:2]), outcome.answer
    if command == "runs show":
        sessions = [one for one in outcome.state.session.values() if one["run_id"] == answer["id"]]
        return sorted([*record(answer), f"{'worker':<22} alive", *map(_session_line, sessions)])
    if command in _SHOWN:
        return list(_SHOWN[command](answer))
    if argv[0] == "recover":
        return list(_SHOWN["runs list"](answer["interrupted"]))
    counts = _counts(argv, answer)
    return None if counts is None else [Text(*map(str, counts))]


def on_terminal(argv: Sequence[str], outcome: Outcome) -> list[Any] | None:
    """The same on a terminal: a table has its cells in columns, and reports that it is empty."""
    found = lines(argv, outcome)
    if argv[1:2] != ["list"] or found is None:
        return found
    if len(found) == 1:
        return [{"tasks": "No tasks.", "runs": "No runs.", "outbox": "No messages."}[argv[0]]]
    return [Text(*line.split("\t")) for line in found]


QUARANTINED: Final = {
    "tasks list": ("tasks", "task_delivery_state"), "tasks audit": ("tasks",), "runs list": ("task_history",),
    "outbox list": ("message_outbox",),
}  # fmt: skip
"""The tables of whose rows a command says which of them can't be read."""


def warnings(argv: Sequence[str], outcome: Outcome) -> list[Any]:
    """§1: the rows that can't be read are named, on standard error."""
    if argv[:2] == ["outbox", "import"]:
        # The last line says how many stay.
        left = outcome.answer["problems"]
        said = [Text(name, ": imported" if is_there else ": not imported") for name, is_there in left]
        return [*said, *([Text(str(len(left)))] if left else [])]
    tables = QUARANTINED.get(" ".join(argv[:2]), ())
    if argv[0] == "recover":
        answer = outcome.answer
        counts = (len(answer["interrupted"]), answer["sessions_invalidated"], answer["left_running"])
        return [Text("interrupted: {}, sessions invalidated: {}, left running: {}".format(*counts))]
    return [Text(one["table"], one["key"]) for one in outcome.state.quarantined(*tables)]


def _counts(argv: Sequence[str], answer: Any) -> list[Any] | None:
    """The values in the one line that reports how much was done."""
    if argv[1:2] == ["maintenance"]:
        done = [answer[name] for name in ("reconciled", "pruned", "stamped")]
        return [": ".join(["Task maintenance" + (" would do" if not answer["applied"] else ""), f"{done[0]} "]), *done]
    return [f"pruned {answer}"] if argv[1:2] == ["prune"] else None


def _utc(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _task_line(task: Row) -> str:
    cells = (
        task["task_id"],
        task["runtime"],
        task["status"],
        task["owner_key"],
        _utc(task["created_at"]),
        task["task"],
    )
    return "\t".join(map(_one_line, cells))


def _run_line(run: Row) -> str:
    ended = _utc(run["finished_at"]) if run["finished_at"] is not None else ""
    cells = (
        run["id"],
        run["status"],
        _utc(run["started_at"]),
        ended,
        run["worker_id"],
        run["agent"] or "",
        run["task_id"],
    )
    return "\t".join(map(_one_line, cells))


def _session_line(session: Row) -> str:
    return (
        f"{'session':<22} {session['session_id']} ({'valid' if session['valid'] else 'invalid: ' + session['reason']})"
    )


def _message_line(message: Row) -> str:
    next_attempt = message["next_attempt_at"]
    cells = (
        *(message[name] for name in ("id", "channel", "target", "status")), str(message["attempt_count"]),
        _utc(message["queued_at"]), _utc(next_attempt) if next_attempt is not None else "",
        message["terminal_reason"] or message["last_error"] or "",
    )  # fmt: skip
    return "\t".join(map(_one_line, cells))


def record(row: Mapping[str, Any]) -> list[Any]:
    """One record, a field a line, sorted; absent fields are left out, and times have both forms."""
    shown = []
    for name, value in sorted(row.items()):
        if value is None or value == "":
            continue
        is_time = name.endswith("_at") or name == "cleanup_after"
        shown.append(f"{name:<22} " + (f"{_utc(value)} ({value})" if is_time else _one_line(str(value))))
    return sorted(shown)


# -- the audit -------------------------------------------------------------------------------------------------


def _head(report: Mapping[str, Any]) -> Iterable[Any]:
    """§3: ``Task audit: N findings · E errors · W warnings``, then the filters in force."""
    summary, filters = report["summary"], dict(report["filters"])
    counts = ((summary["total"], "finding"), (summary["errors"], "error"), (summary["warnings"], "warning"))
    yield "Task audit: " + " · ".join(f"{many} {word}{'' if many == 1 else 's'}" for many, word in counts)
    if report["displayed"] == report["filtered_count"]:
        # A limit that has left nothing out is not in force.
        del filters["limit"]
    given = [f"{name} {value}" for name, value in filters.items() if value is not None]
    if given:
        yield Text(*given, f"{report['displayed']} of {report['filtered_count']}")


def _table(findings: Sequence[Row]) -> list[Any]:
    """§3: an aligned table (severity, code, task, status, age, detail)."""
    if not findings:
        return ["No task audit findings."]
    rows = [(one["severity"], one["code"], one["task_id"], one["status"], _age(one["age_ms"])) for one in findings]
    widths = [max(map(len, column)) for column in zip(_FINDINGS[:-1], *rows, strict=True)]
    heading = "  ".join(f"{cell:<{width}}" for cell, width in zip(_FINDINGS, [*widths, 0], strict=True))
    return [
        heading,
        *(Printable("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))) for row in rows),
    ]


def _age(age_ms: int | None) -> str:
    """The two largest units of a span; ``-`` if time does not apply."""
    if age_ms is None:
        return "-"
    seconds = age_ms // 1_000
    for number, (unit, size) in enumerate(_UNITS[:-1]):
        if seconds >= size:
            lower, lower_size = _UNITS[number + 1]
            rest = seconds % size // lower_size
            return f"{seconds // size}{unit}" + (f"{rest}{lower}" if rest else "")
    return f"{seconds}s"


_SHOWN: Final[Mapping[str, Callable[[Any], Iterable[Any]]]] = {
    "tasks list": lambda tasks: ["\t".join(_TASKS), *map(_task_line, tasks)],
    "tasks create": lambda task: [task["task_id"]],
    "tasks delete": lambda task: [Text(task["task_id"])],
    "tasks cancel": lambda answer: record(answer["task"]),
    **dict.fromkeys(("tasks show", "tasks start", "tasks finish", "tasks notify", "outbox show"), record),
    "tasks audit": lambda report: [*_head(report), *_table(report["findings"])],
    "runs list": lambda runs: ["\t".join(_RUNS), *map(_run_line, runs)],
    "outbox list": lambda messages: ["\t".join(_MESSAGES), *map(_message_line, messages)],
    "outbox enqueue": lambda message: [message["id"]],
}
