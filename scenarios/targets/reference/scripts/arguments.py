"""Scripts of odd arguments: each argument of each call in turn, with values that most arguments refuse."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.reference.draws.whole_space import NAMES, each_argument
from tornpage.scenarios.targets.reference.scripts.calls import call, create, enqueue

# Blank, no valid Unicode, a list where a text is wanted, a number, and what Python counts as the number 1.
_ODD: Final[tuple[Any, ...]] = ("", "\ud800", [], 5, True)
_LONG: Final = " ".join(map(str, range(2_000)))
_ROOMS: Final = ("tasks", "history", "outbox", "")


def _odd_arguments(room: str) -> Callable[[], Iterator[Action]]:
    def script() -> Iterator[Action]:
        for number in range(4):
            yield create(f"t{number}", run_id=f"r{number}")
            yield enqueue(f"m{number}")
            yield call("history.start", task_id=f"t{number}", worker_id="w0", run_id=f"r{number}")
            yield call("history.open_session", run_id=f"r{number}", session_id=f"s{number}")
        for name in NAMES:
            if name.rpartition(".")[0] == room:
                yield from each_argument(name, _ODD)

    return script


def members_in_another_form() -> Iterator[Action]:
    """A member of an enumeration in capitals, or with a blank, is none, in each place that takes one."""
    yield create("t")
    yield create("r", run_id="r")
    yield call("history.start", task_id="r", worker_id="w", run_id="r")
    for form in (str.upper, str.capitalize, "{} ".format):
        for name, member in (
            ("runtime", "acp"), ("status", "running"), ("scope_kind", "system"), ("delivery_status", "failed"),
            ("notify_policy", "silent"),
        ):  # fmt: skip
            yield create("odd", **{name: form(member)})
        yield from (
            create("odd", status="failed", terminal_outcome=form("blocked")), call("tasks.list", runtime=form("cli")),
            call("tasks.list", status=form("queued")), call("tasks.finish", task_id="t", status=form("failed")),
            call("tasks.set_notify_policy", task_id="t", policy=form("silent")),
            call("tasks.set_delivery_status", task_id="t", status=form("failed")),
            call("history.finish", run_id="r", status=form("success")), call("history.list", status=form("running")),
            call("outbox.list", status=form("queued")), call("audit", severity=form("warn")),
            call("audit", code=form("lost")),
        )  # fmt: skip


def odd_senders() -> Iterator[Action]:
    """A pass by what can be no worker: refused before anything expires."""
    yield enqueue("m")
    for value in (*_ODD, "not valid", "-w"):
        yield call("outbox.recover", cutoff=None, worker_id=value, max_age_ms=1)
        yield call("outbox.get", message_id="m")


def long_texts() -> Iterator[Action]:
    """Nothing is cut: the longest text of all is kept as it is."""
    about = (
        "task", "label", "task_kind", "source_id", "child_session_key", "parent_flow_id", "owner_key", "error",
        "progress_summary", "run_id", "requester_session_key", "parent_task_id", "agent_id", "requester_agent_id",
    )  # fmt: skip
    yield create("long", **{name: f"{name} {_LONG}" for name in about})
    yield create("run")
    yield call("tasks.progress", task_id="run", text=_LONG)
    yield call("history.start", task_id="run", worker_id="w0", run_id="run",
               **dict.fromkeys(("repo", "user", "agent", "agent_type", "model", "provider"), _LONG))  # fmt: skip
    yield call("history.open_session", run_id="run", session_id="s")
    yield call("history.invalidate_session", session_id="s", reason=_LONG)
    yield call("history.finish", run_id="run", status="failure", reason=_LONG, artifacts=[_LONG])
    yield call("tasks.finish", task_id="long", status="failed", error=_LONG, terminal_summary=_LONG)
    yield call("tasks.set_delivery_state", task_id="long", requester_origin=_LONG)
    for name in ("m", "n"):
        more = dict.fromkeys(("target", "turn_id", "account_id", "dispatch_kind"), _LONG)
        yield enqueue(name, [_LONG], **more, idempotency_key=f"{name} {_LONG}")
        yield call("outbox.fail", message_id=name, error=_LONG, permanent=name == "n")
    yield call("outbox.move_to_failed", message_id="m", reason=_LONG)
    old = {"channel": "mail", "to": "you", "id": "old", "lastError": _LONG, "accountId": _LONG, "turnId": _LONG}
    yield call("legacy_file", name="long.json", content=old)
    yield call("outbox.import_legacy")


SCRIPTS: Final = (*map(_odd_arguments, _ROOMS), members_in_another_form, odd_senders, long_texts)
