"""A ledger that can't secure a failed COMMIT for a while: every fence fails, too.

The change is on disk, and a crash may still undo it. Calls that would change nothing rely on it as if it were
acknowledged: the same message again, the same end of a run. Each is made while fences fail, and has to be refused with
an outcome that is unknown and worth a retry; and once more when they don't, when it succeeds and nothing is owed.
Memory has what the rows show all the time.

The end of such a ledger does not wait: what other processes still read in the log stays there.

Not covered: what a power cut leaves in the meantime.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from tornpage.ledger import Ledger, StoreError
from tornpage.scenarios.targets.reference.compared.told import Told, recovery_lines
from tornpage.scenarios.targets.reference.lives.failing_driver import Driver
from tornpage.scenarios.targets.reference.lives.openings import place

_FENCE: Final = "INSERT INTO ledger_fence"


def unfenced(home: Path, clock: Callable[[], int], *, journal_mode: str) -> list[str]:
    """What was wrong with calls that change nothing; empty if nothing was."""
    wrong: list[str] = []
    with place(home) as directory:
        driver = Driver()
        how: dict[str, Any] = {"clock": clock, "journal_mode": journal_mode, "busy_timeout_ms": 70}
        with Ledger.open(directory, connect=driver, observers=(), **how) as ledger, ledger.workers.hold("w"):
            wrong += _wrong_restore(driver, ledger)
            for name, make in _calls(ledger).items():
                wrong += [f"{name}: {one}" for one in _wrong(driver, ledger, make)]
            for commit_fails in ("before", "after"):
                wrong += _wrong_recovery(driver, ledger, commit_fails)
            wrong += [] if ledger.database is None or not ledger.database.fence_owed else ["a fence is still owed"]
    wrong += ["the end waits for other processes"] if any(driver.waits_of_truncates) else []
    return wrong


def _calls(ledger: Ledger) -> Mapping[str, Callable[[], object]]:
    """Calls of which the second one changes nothing."""
    task = ledger.tasks.create(runtime="cli", owner_key="me", task="work").task_id
    sent = ledger.outbox.enqueue(channel="mail", target="me", payload={}).id
    run = ledger.history.start(task, worker_id="w").id
    return {
        "enqueue": lambda: ledger.outbox.enqueue(channel="mail", target="me", payload={}, idempotency_key="key"),
        "ack": lambda: ledger.outbox.ack(sent),
        "create": lambda: ledger.tasks.create(runtime="cli", owner_key="me", task="again", run_id="again"),
        "set_delivery_state": lambda: ledger.tasks.set_delivery_state(task, last_notified_event_at=1),
        "open_session": lambda: ledger.history.open_session(run, session_id="session"),
        "finish": lambda: ledger.history.finish(run, "success"),
    }


def _wrong(driver: Driver, ledger: Ledger, make: Callable[[], object]) -> list[str]:
    driver.failing = {_FENCE: "before", "COMMIT": "after"}
    first = _said(make)
    # Neither looks whether the other is up to date.
    known, stored = ledger.tasks.view(), ledger.tasks.backend.load()[1]
    if (dict(known.tasks), dict(known.deliveries)) != (dict(stored.tasks), dict(stored.deliveries)):
        driver.failing = {}
        return ["memory is not as the rows are"]
    driver.failing = {_FENCE: "before"}
    second = _said(make)
    # A change that a lock refuses at its COMMIT settles nothing of the earlier one.
    driver.failing = {_FENCE: "before", "COMMIT": "busy"}
    _said(lambda: ledger.tasks.create(runtime="cli", owner_key="me", task="refused"))
    driver.failing = {_FENCE: "before"}
    later = _said(make)
    driver.failing = {}
    last = _said(make)
    wanted = ["unknown", "unknown, again", "unknown, again", "done"]
    said = [first.partition(",")[0], second, later, last]
    return [] if said == wanted else [f"{wanted} is true of a change that can't be secured, and it says {said}"]


def _wrong_restore(driver: Driver, ledger: Ledger) -> list[str]:
    """§1: a restore that fails as a whole is sticky: every call is refused until one succeeds."""
    calls: Mapping[str, Callable[[], object]] = {
        "list": ledger.tasks.list,
        "create": lambda: ledger.tasks.create(runtime="cli", owner_key="me", task="work"),
        "batch": lambda: _empty_batch(ledger),
    }
    driver.failing = {"SELECT": "before"}
    said = {"restore": _said(ledger.tasks.restore)}
    driver.failing = {}
    said |= {name: _said(make) for name, make in calls.items()}
    ledger.tasks.restore()
    found = len(ledger.tasks.list())
    is_refused = all(one.startswith("unchanged") for one in said.values())
    return [] if is_refused and not found else [f"a restore has failed: {said}; then there are {found} tasks"]


def _empty_batch(ledger: Ledger) -> None:
    with ledger.batch():
        pass


def _wrong_recovery(driver: Driver, ledger: Ledger, how: str) -> list[str]:
    """The runs that a recovery has interrupted on disk have their lines, since no later one finds them; no others."""
    task, name = ledger.tasks.create(runtime="cli", owner_key="me", task="of a dead worker").task_id, f"lost {how}"
    with ledger.workers.hold(f"dead-{how}") as worker:
        ledger.history.start(task, worker_id=worker.id, run_id=name)
    told = Told()
    driver.failing = {_FENCE: "before", "COMMIT": how}
    with recovery_lines(told):
        said = _said(ledger.recover)
    driver.failing = {}
    run = ledger.history.get(name)
    is_there = run is not None and run.status == "interrupted"
    lines = sum(f"run {name} interrupted" in line for line in told.lines)
    return [] if said.startswith("unknown") and lines == is_there else [f"recover: {said}, {run}, {told.lines}"]


def _said(make: Callable[[], object]) -> str:
    try:
        make()
    except StoreError as error:
        return error.outcome + ", again" * error.retryable
    return "done"
