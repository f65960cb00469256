"""What a fault has left of a file beside the rows: seen by the call made again, and by what is read later."""

from pathlib import Path
from typing import Any

import blob_stores
import msgspec
import pytest

from tornpage import faults
from tornpage.faults.files.in_place import is_supported
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.as_json import for_a_file
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Arm, Call, Scenario
from tornpage.scenarios.model.simple_target import SimpleTarget
from tornpage.scenarios.model.target import Action, Configuration, View
from tornpage.scenarios.run.campaign import run
from tornpage.scenarios.run.reproduce.replay_file import Verdict, read, replay
from tornpage.scenarios.run.reproduce.replay_file import write as write_file
from tornpage.scenarios.search.recorder import Recorder

pytestmark = pytest.mark.skipif(not is_supported(), reason="built-in functions of this interpreter are out of reach")


def swept(target: Any) -> Recorder:
    return run(target, Plan(("sweep",), Profile("test", 1, 20, 0, 0), report=None))


@pytest.mark.parametrize("name", ["BlobsTarget", "ExportsTarget", "PublishedTarget", "CountsTarget"])
def test_a_store_that_leaves_no_half_file_is_silent(name: str) -> None:
    recorder = swept(getattr(blob_stores, name)())
    assert not recorder.findings
    assert not recorder.vacuous


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("InPlaceTarget", "wrong-answer", "get(name='a') was acknowledged and returned 'bytes '"),
        ("ExclusiveTarget", "still-usable-after-the-fault", "FileExistsError"),
        ("HushedTarget", "wrong-answer", "get(name='a') was acknowledged and returned 'bytes '"),
        ("PublishedInPlaceTarget", "still-usable-after-the-fault", "published() failed with JSONDecodeError"),
        ("ByNameTarget", "wrong-answer", "get(name='a') was acknowledged and returned"),
        ("RowFirstTarget", "all-or-nothing", "failed, and get(name='a') then returned 'bytes '; before the call"),
    ],
)
def test_what_a_failed_write_has_left_is_found_and_replays(name: str, code: str, message: str, tmp_path: Path) -> None:
    target = getattr(blob_stores, name)()
    findings = [one.finding for one in swept(target).findings]
    found = [one for one in findings if one.code == code and message in one.message]
    assert found, name
    assert found[0].shows_again
    assert found[0].scenario.faults == 1
    with faults.install():
        made = read(write_file(found[0], tmp_path, 0))
        assert replay(made, target, tmp_path / "broken")[0] is Verdict.FAILED
        sound = blob_stores.PublishedTarget() if "Published" in name else blob_stores.BlobsTarget()
        assert replay(made, sound, tmp_path / "sound")[0] is Verdict.FIXED


def test_a_file_may_be_as_before_a_call_that_failed_after_its_commit(tmp_path: Path) -> None:
    target = blob_stores.PublishedTarget()
    one, published, other = target.calls
    steps = (Call(one), Call(published), Arm("file-rename:.json@1=EIO"), Call(other, ends=True), Call(published))
    scenario = Scenario(target.name, target.configurations[0], steps)
    with faults.install():
        violation, counts = play(scenario, target, tmp_path)
    assert violation is None
    assert counts["fired"] == 1


def test_the_small_change_is_known_again_in_a_scenario_from_a_file(tmp_path: Path) -> None:
    target = blob_stores.BlobsTarget()
    steps = tuple(map(Call, (target.calls[0], target.beat, target.calls[1])))
    written = msgspec.json.encode(Scenario(target.name, target.configurations[0], steps), enc_hook=for_a_file)
    with faults.install():
        violation, _ = play(msgspec.json.decode(written, type=Scenario), target, tmp_path)
    assert violation is None


class Forgetful:
    """Knows the names of files that an earlier process has written, and not what is in them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)
        self.held: dict[str, str] = {}

    def put(self, name: str) -> None:
        (self.directory / name).write_text(name)
        self.held[name] = name

    def get(self, name: str) -> str:
        return self.held[name]

    def close(self) -> None:
        pass


class ForgetfulTarget(SimpleTarget):
    configurations = (Configuration("file", "OFF"),)
    file = "files"
    calls = (Action("put", {"name": "a"}), Action("get", {"name": "a"}))
    beat = Action("put", {"name": "heartbeat"})

    def make(self, path: Path, *_: object) -> Forgetful:
        return Forgetful(path)

    def view(self, store: Forgetful) -> View:
        return {one.name: store.held[one.name] for one in store.directory.iterdir()}

    def files_view(self, directory: Path) -> View:
        return {one.name: one.read_text() for one in directory.glob("files/*")}


@pytest.mark.parametrize("search", ["sweep", "crash"])
def test_a_view_that_fails_after_a_restart_is_a_finding_and_ends_no_search(search: str) -> None:
    recorder = run(ForgetfulTarget(), Plan((search,), Profile("test", 1, 20, 0, 0, crash_states=20), report=None))
    assert "still-usable-after-the-fault" in {one.finding.code for one in recorder.findings}
    assert not [one for one in recorder.vacuous if "internal error" in one.reason]
