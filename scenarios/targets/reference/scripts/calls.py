"""Short forms of the calls in scripts."""

from typing import Any, Final

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.reference.workload import ARRIVES, message_args, task_args

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60_000
DAY_MS: Final = 24 * 60 * MINUTE_MS
# The time of a script's first call: step 0 opens the ledger.
START_MS: Final = 1_700_000_000_000 + MINUTE_MS
BLANK: Final = " \t"
EARLIEST_MS: Final = -62_135_596_800_000
LATEST_MS: Final = 253_370_764_800_000
FAIL: Final = {"error": "connection reset"}

Script = tuple[Action, ...]


def call(name: str, /, **args: Any) -> Action:
    """A call by its name."""
    return Action(name, args)


def create(name: str, /, **fields: Any) -> Action:
    """A new task."""
    return Action("tasks.create", task_args(name, **fields))


def later(since_step: int, age_ms: int, step: int) -> int:
    """The advance of the clock in a step so that the effect of another step is so old."""
    return age_ms - (step - since_step) * MINUTE_MS


def enqueue(name: str, payload: Any = None, /, **more: Any) -> Action:
    """A new message."""
    return Action("outbox.enqueue", message_args(name, ARRIVES if payload is None else payload) | more)


def batch(*calls: Action) -> Action:
    """Calls in one transaction."""
    return Action("batch", {"calls": [within(one) for one in calls]})


def as_json(means: Action, *argv: str) -> Action:
    """A command with its JSON output; `means` is the call that it stands for."""
    return Action("command", {"argv": [*argv, "--json"], "means": {"name": means.name, "args": means.args}})


def within(one: Action) -> dict[str, Any]:
    """A call as an argument of another one."""
    return {"name": one.name, "args": one.args}
