"""A fingerprint is the same wherever the same defect shows, and another one where another promise is broken."""

import pytest
from run_records import scenario

from tornpage.scenarios.model.fingerprint import call_of, fingerprint, in_words
from tornpage.scenarios.model.scenario import Arm, Call, Clear, CrashAt, Limit, Restart, Rival, Scenario, Step
from tornpage.scenarios.model.target import Action, Configuration

PUT, MOVE = Call(Action("put", {"key": "a"})), Call(Action("move", {"key": "a"}))
FULL = Arm("write:wal@1=FULL")


def told(*steps: Step, target: str = "tiny") -> Scenario:
    return Scenario(target, Configuration(), steps)


def test_it_is_the_same_in_every_release() -> None:
    # Baselines hold it: changing it makes every accepted finding a new one.
    assert fingerprint("memory-equals-disk", scenario()) == "f3f86f2e94a8658d"


@pytest.mark.parametrize(
    "other",
    [
        scenario(value=2),
        scenario(configuration="delete/EXTRA"),
        scenario(plan="write:wal@7..=IOERR_WRITE"),
        told(Call(Action("remove")), FULL, PUT, Clear()),
        told(Restart(), Restart(crash=True), FULL, PUT, MOVE),
    ],
)
def test_what_a_seed_or_a_machine_decides_is_not_in_it(other: Scenario) -> None:
    assert fingerprint("memory-equals-disk", other) == fingerprint("memory-equals-disk", scenario())


@pytest.mark.parametrize(
    ("check", "other"),
    [
        ("all-or-nothing", scenario()),
        ("memory-equals-disk", scenario(call="move")),
        ("memory-equals-disk", told(FULL, PUT, target="other")),
        ("memory-equals-disk", told(Limit("pages", 1), PUT)),
        ("memory-equals-disk", told(FULL, PUT, CrashAt(7))),
        ("memory-equals-disk", told(PUT)),
        ("memory-equals-disk", told(Arm("write@1=KILL"), PUT)),
    ],
)
def test_another_promise_call_or_cause_is_another_finding(check: str, other: Scenario) -> None:
    assert fingerprint(check, other) != fingerprint("memory-equals-disk", scenario())


@pytest.mark.parametrize(
    ("steps", "call", "words"),
    [
        ((PUT, FULL, MOVE, PUT, Clear()), "move", "move under fault"),
        ((PUT, MOVE, CrashAt(9)), "move", "move under power cut"),
        ((PUT, CrashAt(3, power=False)), "put", "put under crash"),
        ((FULL, PUT, MOVE, CrashAt(9)), "move", "move under fault and power cut"),
        ((PUT, Rival("reader", "lock", 1), MOVE), "move", "move under rival"),
        ((PUT, FULL, Restart(crash=True), Clear()), "restart", "restart under fault"),
        # Only the opening after the crash can meet the fault.
        ((PUT, FULL, CrashAt(3, power=False), Clear()), "restart", "restart under crash and fault"),
        ((PUT, FULL, CrashAt(3, ends=True), MOVE), "restart", "restart under fault and power cut"),
        ((PUT, MOVE), "move", "move"),
        ((), "heartbeat", "heartbeat"),
    ],
)
def test_the_call_that_goes_wrong_is_the_one_that_meets_what_goes_wrong(
    steps: tuple[Step, ...], call: str, words: str
) -> None:
    assert call_of(told(*steps)) == call
    assert in_words(told(*steps)) == words
