"""After a failed call the store's session goes on and the shadow starts again: an answer of either may be right."""

from pathlib import Path

import pytest
from reading_stores import Settings, SettingsTarget

from tornpage import Action
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.scenario import Arm, Call, Clear, Restart, Scenario, Step

POLL, CLAIM, PEEK = (Call(Action(name)) for name in ("poll", "claim", "peek"))
ROLLED_BACK, HAPPENED = Arm("write@1=FULL"), Arm("delete:journal@1/after=IOERR_DELETE")


def put(name: str) -> Call:
    return Call(Action("put", {"name": name, "value": "1"}))


class AnswersNothing(Settings):
    """Returns no names once a call has failed."""

    has_failed = False

    def put(self, name: str, value: str) -> None:
        self.has_failed = True
        super().put(name, value)
        self.has_failed = False

    def names(self) -> list[str]:
        return [] if self.has_failed else super().names()


def wrong(kind: type[Settings], *steps: Step, home: Path) -> str:
    target = SettingsTarget()
    target.kind = kind
    violation, counts = play(Scenario(target.name, target.configurations[0], steps), target, home)
    assert counts["fired"] == 1
    return violation.code if violation else ""


@pytest.mark.parametrize("fault", [ROLLED_BACK, HAPPENED])
@pytest.mark.usefixtures("shim")
def test_what_is_new_since_the_last_call_is_right_after_a_failed_one(fault: Arm, tmp_path: Path) -> None:
    steps = put("a"), POLL, fault, put("b"), Clear(), POLL
    assert wrong(Settings, *steps, home=tmp_path / "sound") == ""
    assert wrong(AnswersNothing, put("a"), fault, put("b"), Clear(), POLL, home=tmp_path / "broken") == "wrong-answer"


@pytest.mark.usefixtures("shim")
def test_what_was_claimed_before_a_restart_is_claimed_by_nobody(tmp_path: Path) -> None:
    steps = put("a"), put("b"), put("c"), CLAIM, Restart(), CLAIM, ROLLED_BACK, put("d"), Clear(), PEEK
    assert wrong(Settings, *steps, home=tmp_path) == ""
