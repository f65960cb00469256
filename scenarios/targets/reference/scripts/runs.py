"""Scripts of runs, their sessions and their recovery."""

from collections.abc import Iterator
from typing import Final

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.reference.scripts.calls import BLANK, DAY_MS, START_MS, batch, call, create, within

_RESULTS: Final = ("success", "failure", "cancelled", "interrupted", "aborted_no_skill")


def starts() -> Iterator[Action]:
    """The start of a run, and invalid starts."""
    yield create("a", run_id=" mine ")
    yield call("history.start", task_id="a", worker_id="w", run_id="other")
    yield call("history.start", task_id="a", worker_id="w", run_id=" mine ", repo=" r ", user=BLANK, issue_number=0)
    yield call("history.start", task_id="a", worker_id="w", run_id="mine")
    yield create("b")
    for wrong in (
        {"worker_id": ""}, {"worker_id": "a b"}, {"worker_id": "pass-dead"}, {"issue_number": -1}, {"agent": 5},
        {"started_at": "now"}, {"run_id": "mine"}, {"task_id": "nobody"}, {"issue_number": True},
    ):  # fmt: skip
        yield call("history.start", **{"task_id": "b", "worker_id": "w", "run_id": "rb", **wrong})
    # Arguments are checked before the state.
    yield call("history.start", task_id="nobody", worker_id="w", started_at="now")
    said = {"agent": "a", "agent_type": "t", "model": "m", "provider": "p"}
    yield call("history.start", task_id="b", worker_id="w2", run_id="rb", started_at=START_MS - 5, **said)
    yield create("c")
    yield call("history.start", task_id="c", worker_id="w")
    for token in ("mine", "rb", "b", " c ", "nobody", BLANK):
        yield call("history.find", token=token)
    yield call("history.list", status="running")
    yield call("history.list", task_id="b")
    yield call("history.list", worker_id="w")
    yield call("history.list", status="over")
    yield call("history.read", worker_id="w2")
    yield call("history.running_workers")
    yield call("history.get", run_id="rb")
    yield call("tasks.delete", task_id="b")
    yield create("b")
    yield call("history.start", task_id="b", worker_id="w3", run_id="rb3", started_at=5)
    yield call("history.find", token="b")  # noqa: S106 - a task, run or session
    yield call("history.running_workers")
    yield call("history.finish", run_id="rb", status="success")
    yield call("history.finish", run_id="rb3", status="failure")


def run_ends() -> Iterator[Action]:
    """Each end, reported again, with less, and with something else."""
    said = {"cost_usd": 0.5, "tokens_in": 1, "tokens_out": 0, "turns": 3, "artifacts": {"a": [1, "x"]}}
    for result in _RESULTS:
        for why in ({}, {"reason": "so it was"}, {"reason": BLANK}):
            name = f"{result}{len(why)}{len(why.get('reason', ''))}"
            yield create(name, error="before", runtime="acp")
            yield call("history.start", task_id=name, worker_id="w", run_id=name)
            yield call("history.open_session", run_id=name, session_id=f"s-{name}")
            yield call("history.finish", run_id=name, status=result, **said, **why)
            yield call("history.finish", run_id=name, status=result)
            yield call("history.finish", run_id=name, status=result, **said, **why)
            yield call("history.finish", run_id=name, status=result, turns=4)
            yield call("history.finish", run_id=name, status="failure" if result == "success" else "success")
    yield create("z")
    yield call("history.start", task_id="z", worker_id="w", run_id="z")
    for wrong in (
        {"status": "running"}, {"status": "over"}, {"cost_usd": -1}, {"cost_usd": float("nan")}, {"turns": -1},
        {"tokens_in": 1.5}, {"tokens_out": 2**63}, {"artifacts": float("inf")}, {"run_id": "nobody"}, {"reason": 5},
        {"finished_at": 1.5}, {"cost_usd": True},
    ):  # fmt: skip
        yield call("history.finish", **{"run_id": "z", "status": "success", **wrong})
    yield call("history.finish", run_id="z", status="success", finished_at=5, cost_usd=0)
    yield call("history.finish", run_id="z", status="success", finished_at=5)
    # The same end with one other fact is another report.
    for other in (
        {"finished_at": 2 * START_MS}, {"cost_usd": 1}, {"turns": 0}, {"tokens_in": 0}, {"tokens_out": 0},
        {"artifacts": [1]}, {"reason": "x"},
    ):  # fmt: skip
        yield call("history.finish", run_id="z", status="success", **other)
    yield create("y", status="lost", run_id="late")
    yield call("tasks.finish", task_id="y", status="succeeded", run_id="late")


def sessions() -> Iterator[Action]:
    """Sessions, which belong to a run in flight and end permanently."""
    yield create("a")
    yield call("history.start", task_id="a", worker_id="w", run_id="r1")
    yield create("b")
    yield call("history.start", task_id="b", worker_id="w", run_id="r2")
    yield call("history.open_session", run_id="r1", session_id=" s1 ")
    yield call("history.open_session", run_id="r1", session_id="s1")
    yield call("history.open_session", run_id="r2", session_id="s1")
    yield call("history.open_session", run_id="r1", session_id=BLANK)
    yield call("history.open_session", run_id="nobody", session_id="s2")
    yield call("history.open_session", run_id="r1", session_id="s2")
    yield call("history.open_session", run_id="r2", session_id="s3")
    yield call("history.invalidate_session", session_id="s1", reason=" why ")
    yield call("history.invalidate_session", session_id="s1", reason="another")
    yield call("history.invalidate_session", session_id="nobody", reason="x")
    for number, blank in enumerate(("", BLANK)):
        yield create(f"blank{number}")
        yield call("history.start", task_id=f"blank{number}", worker_id="w", run_id=f"blank{number}")
        yield call("history.open_session", run_id=f"blank{number}", session_id=f"blank{number}")
        yield call("history.invalidate_session", session_id=f"blank{number}", reason=blank)
    yield call("history.open_session", run_id="r1", session_id="s1")
    yield call("history.get_session", session_id="s2")
    yield call("history.list_sessions", run_id="r1")
    yield call("history.list_sessions", run_id="nobody")
    yield call("history.list_sessions", run_id=5)
    yield call("history.finish", run_id="r1", status="interrupted")
    yield call("history.open_session", run_id="r1", session_id="s4")
    yield call("history.open_session", run_id="r1", session_id="s2")
    yield call("history.finish", run_id="r2", status="success")


def recovery() -> Iterator[Action]:
    """Runs that were in flight, ended, lost or removed when their worker died."""
    for name in ("a", "b", "c", "d", "e"):
        yield create(name, error="first" if name == "e" else None)
        yield call("history.start", task_id=name, worker_id=f"w-{name}", run_id=f"r-{name}")
        yield call("history.open_session", run_id=f"r-{name}", session_id=f"s-{name}")
    yield call("history.open_session", run_id="r-a", session_id="s-a2")
    yield call("history.invalidate_session", session_id="s-a2", reason="earlier")
    yield call("history.finish", run_id="r-b", status="success")
    yield call("tasks.finish", task_id="c", status="cancelled")
    yield call("tasks.delete", task_id="d")
    # Made again while its run goes on: it is queued, and no run of its own has begun.
    for name in ("again", "again-dead"):
        yield create(name)
        yield call("history.start", task_id=name, worker_id=f"w-{name}", run_id=f"r-{name}")
        yield call("tasks.delete", task_id=name)
        yield create(name)
    yield call("history.finish", run_id="r-again", status="failure", reason="why")
    yield call("elsewhere", call={"name": "recover", "args": {}})
    yield call("recover", later_ms=-DAY_MS)
    yield call("recover")
    yield call("history.finish", run_id="r-a", status="success")
    yield call("tasks.finalize_by_run", run_id="r-a", status="succeeded")
    yield call("tasks.finish", task_id="e", status="failed", run_id="r-e")
    yield create("f")
    yield call("history.start", task_id="f", worker_id="w-f", run_id="r-f")
    yield call("maintenance", later_ms=DAY_MS)
    # What is rolled back was not interrupted, and so there is no line of it yet.
    yield batch(call("recover"), call("tasks.start", task_id="nobody"))
    yield call("recover")
    yield create("g")
    yield call("history.start", task_id="g", worker_id="w-g", run_id="r-g")
    yield batch(call("recover"), call("tasks.get", task_id="g"))
    # Another process ends the run after this one's recovery has begun.
    yield create("h")
    yield call("history.start", task_id="h", worker_id="w-h", run_id="r-h")
    ends = call("history.finish", run_id="r-h", status="success")
    yield Action("overtaken", {"first": within(ends), "then": within(call("recover")), "at": 1})


SCRIPTS: Final = (starts, run_ends, sessions, recovery)
