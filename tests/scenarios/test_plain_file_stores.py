"""Stores of plain files: sound ones are silent however they write, wrong ones are found, what is not seen is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import plain_stores
import pytest

from tornpage import Configuration, faults
from tornpage.faults.files.in_place import is_supported
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.target import TargetError
from tornpage.scenarios.run.campaign import run, searches_for
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.search.sweep import Sweep
from tornpage.scenarios.targets.libraries.json_file import JsonFile
from tornpage.scenarios.targets.reference.target import Reference

Command = Callable[..., Any]

pytestmark = pytest.mark.skipif(not is_supported(), reason="built-in functions of this interpreter are out of reach")

SOUND = [
    "SoundByBoundNames", "SoundBySyncedDescriptor", "SoundByFileIO", "SoundByLink", "SoundByCopy", "SoundByVectors",
    "SoundByTempfile", "SoundBySyncOfAll",
]  # fmt: skip


def searched(
    target: Any, *searches: str, points: int | None = None, states: int = 40, most_findings: int = 25
) -> Recorder:
    profile = Profile("test", None, points, 0, 0, crash_states=states)
    return run(target, Plan(searches, profile, report=None, most_findings=most_findings))


# From Python 3.12 on, tempfile says of a file whose write has failed that it goes with its object.
@pytest.mark.filterwarnings("ignore:Exception ignored.*_TemporaryFileCloser:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", SOUND)
def test_a_sound_store_is_never_accused(name: str) -> None:
    target = getattr(plain_stores, name)()
    recorder = searched(target, "crash", states=10)
    assert not recorder.findings
    assert not recorder.vacuous
    recorder = searched(target, "sweep", points=40)
    assert not recorder.findings
    assert not recorder.vacuous
    assert recorder.count("fired") > 100


def test_a_reader_of_the_wrong_file_is_told_by_its_name() -> None:
    class ReadsAnother(plain_stores.SoundByFileIO):
        def files_view(self, directory: Path) -> dict[str, Any]:
            return plain_stores.Store.read(directory / "another.json")

    with pytest.raises(TargetError, match="`files_view` finds nothing in the file although the store, opened again"):
        searched(ReadsAnother(), "sweep")


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("ByMap", "store.tmp was mapped into memory"),
        ("ByChild", "a child process was started"),
    ],
)
def test_a_change_that_is_not_seen_ends_the_search_at_the_call_that_made_it(
    command: Command, name: str, way: str
) -> None:
    ran = command("crash", "--target", f"plain_stores:{name}")
    assert ran.code == 2, ran
    assert f"put(name='a', value=1): store.json was changed in a way that the recorder does not see ({way}" in ran.err


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("SyncedByChild", "a child process was started: sync"),
        ("SyncedThroughCtypes", "fsync was called through ctypes"),
        ("SyncedThroughOneLibrary", "fdatasync was called through ctypes"),
    ],
)
def test_a_sync_that_is_not_seen_is_no_finding(command: Command, name: str, way: str) -> None:
    try:
        ran = command("crash", "--target", f"plain_stores:{name}", "--states", "1")
    finally:
        # It is found for as long as its library lives: other tests are in the same process.
        vars(plain_stores.C_LIBRARY).pop("fdatasync", None)
    assert ran.code == 2, ran
    assert f"but {way}, and the recorder does not see such syncs" in ran.out


@pytest.mark.parametrize(
    ("name", "search"),
    [
        ("CopiedUnsynced", "crash"),
        ("LinkedUnsynced", "crash"),
        ("MovedByShutil", "crash"),
        ("IgnoresHowMuch", "sweep"),
        ("InPlace", "sweep"),
        ("InPlace", "crash"),
        ("SwallowsBlobErrors", "sweep"),
    ],
)
def test_a_wrong_store_is_found(name: str, search: str) -> None:
    recorder = searched(getattr(plain_stores, name)(), search, points=10, states=10, most_findings=1)
    code = "acknowledged-is-durable" if name == "SwallowsBlobErrors" else "integrity"
    assert code in {found.finding.code for found in recorder.findings}


def test_a_descriptor_that_a_start_leaks_is_found_and_does_not_end_the_search() -> None:
    recorder = searched(plain_stores.LeaksItsLock(), "crash", states=10)
    assert {found.finding.code for found in recorder.findings} == {"still-usable-after-the-fault"}
    assert not recorder.vacuous


def test_a_finding_under_a_fault_of_a_plain_file_replays(command: Command) -> None:
    plan = ("--plan", "file-write@1=ENOSPC")
    ran = command("sweep", "--target", "plain_stores:SwallowsBlobErrors", "--quiet", *plan)
    assert ran.code == 1, ran
    assert "arm file-write@1=ENOSPC" in ran.out
    line = next(line for line in ran.out.splitlines() if "tornpage replay" in line)
    assert command(*line.split()[1:]).code == 1
    # The same defect is not in the sound store.
    again = command("replay", line.split()[2], "--target", "plain_stores:SoundBlobs")
    assert "FIXED" in again.out, again


def test_blobs_that_are_written_first_are_never_accused() -> None:
    recorder = searched(plain_stores.SoundBlobs(), "sweep", "crash", points=30, states=10)
    assert not recorder.findings
    assert not recorder.vacuous


@pytest.mark.parametrize("plan", ["file-rename:.json@1=ENOSPC", "file-write:.new@1/half=ENOSPC", "file-fsync@1..=EIO"])
def test_a_plan_by_hand_reaches_plain_files(command: Command, plan: str) -> None:
    ran = command("sweep", "--target", "json-file", "--plan", plan)
    assert ran.code == 0, ran
    assert "faults fired" in ran.out


def test_the_ledgers_json_file_is_swept_crashed_killed_and_fuzzed() -> None:
    target = JsonFile()
    assert searches_for(target) == ("sweep", "crash", "kill", "fuzz")
    profile = Profile("test", None, 8, 6, 8, kills=2, scenarios_a_batch=6)
    recorder = run(target, Plan(("sweep", "kill", "fuzz"), profile, report=None))
    assert not recorder.findings
    assert recorder.count("fired") > 50
    assert recorder.count("kills") == 2


def test_a_target_of_plain_files_has_no_locks_to_contend_for(command: Command) -> None:
    ran = command("contend", "--target", "json-file")
    assert ran.code == 2, ran
    assert "json-file declares plain files (file/FULL); it supports: sweep, crash, kill, fuzz" in ran.err


def test_the_references_import_of_old_files_is_swept(home: Path, shim: faults.Shim) -> None:
    recorder = Recorder()
    wal = Configuration("wal", "FULL")
    sweep = Sweep(Reference(), recorder, home, configurations=(wal,), depths=("vfs",))
    start = next(start for start in sweep.starts(wal) if start.action.name == "outbox.import_legacy")
    points = [point for point in sweep.points_of(wal, start) if point.series.kind in faults.FILE_KINDS]
    assert {(point.series.kind, point.series.role) for point in points} == {
        ("file-open", ".json"), ("file-unlink", ".json"),
    }  # fmt: skip
    for point in points:
        sweep.try_point(wal, point)
    assert not recorder.findings
    assert sweep.counts["fired"] == sweep.counts["tried"] == len(points)
