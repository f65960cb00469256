"""After an error inside the harness earlier findings are still reported; a store's own failure is named as that."""

from collections.abc import Callable
from typing import Any

import pytest
import tiny_stores

from tornpage.scenarios.model.target import TargetError
from tornpage.scenarios.run import campaign
from tornpage.scenarios.search.limits import Limits
from tornpage.scenarios.search.recorder import Recorder


def broken(*_: object, **__: object) -> None:
    raise ZeroDivisionError("a defect of ours")


def test_findings_are_kept_where_a_later_search_breaks(
    search: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limits, "run", broken)
    recorder = search(tiny_stores.RemembersFirst(), "sweep", "limits", points=10)
    assert recorder.findings
    assert [one.search for one in recorder.vacuous] == ["limits"]
    assert "internal error in tornpage" in recorder.vacuous[0].reason
    assert "ZeroDivisionError('a defect of ours') at " in recorder.vacuous[0].reason
    assert campaign.verdict(recorder) == campaign.Exit.FINDING


def test_with_nothing_found_the_error_is_all_there_is(
    search: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limits, "run", broken)
    with pytest.raises(ZeroDivisionError, match="a defect of ours"):
        search(tiny_stores.Tiny(), "sweep", "limits", points=5)


class OpensMostTimes(tiny_stores.Tiny):
    """Fails when it is opened for the nth time."""

    def __init__(self, nth: int) -> None:
        super().__init__()
        self.openings, self.nth = 0, nth

    def open(self, *args: Any) -> Any:
        self.openings += 1
        if self.openings == self.nth:
            raise LookupError("no backend")
        return super().open(*args)


@pytest.mark.parametrize("name", ["sweep", "crash"])
def test_a_store_that_fails_by_itself_is_named_and_not_the_harness(search: Callable[..., Recorder], name: str) -> None:
    said: list[str] = []
    for nth in range(10, 40, 6):
        try:
            recorder = search(OpensMostTimes(nth), name, points=5, configurations=1, crash_states=5)
        except TargetError as error:
            said.append(str(error))
        else:
            said += [one.reason for one in recorder.vacuous] + [one.finding.message for one in recorder.findings]
            said += [note for ended in recorder.ended for note in ended.notes]
    assert "LookupError('no backend')" in "".join(said)
    assert not any("internal error" in one for one in said)


def test_a_finding_is_kept_where_its_files_can_not_be_made(
    search: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(campaign, "artifact_of", broken)
    assert (
        campaign._artifact(
            search(tiny_stores.RemembersFirst(), points=10).findings[0].finding.scenario, tiny_stores.RemembersFirst()
        )
        == campaign.Artifact()
    )
