"""Searches beside each other tell the same as one after the other; a process that dies or is stopped costs no truth."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_stores

from scenarios import campaign, gate
from scenarios.bugs import find_bug
from scenarios.profiles import Plan, Profile
from scenarios.recorder import Recorder

Command = Callable[..., Any]
SMALL = Profile(
    "small", 1, 10, stories=20, steps=5, crash_states=10, kills=2, rival_points=3, limit_points=3, shrinks=False
)
SEARCHES = ("sweep", "crash", "contend", "fuzz")


class DiesOnce(tiny_stores.Tiny):
    """Its process is killed while it is opened for the first time."""

    name = "test_jobs:DiesOnce"

    def open(self, directory: Path, *arguments: Any) -> tiny_stores.TinySession:
        try:
            Path(os.environ["TORNPAGE_TEST_MARK"]).touch(exist_ok=False)
        except FileExistsError:
            return super().open(directory, *arguments)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("killed")


class DiesAlways(tiny_stores.Tiny):
    """Its process is killed whenever it is opened."""

    name = "test_jobs:DiesAlways"

    def open(self, directory: Path, *arguments: Any) -> tiny_stores.TinySession:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("killed")


def run(target: Any, jobs: int, searches: tuple[str, ...] = SEARCHES) -> Recorder:
    return campaign.run(target, Plan(searches, SMALL, report=None, jobs=jobs))


def told(recorder: Recorder) -> Any:
    return (
        [(found.finding, found.promised) for found in recorder.findings],
        recorder.vacuous,
        recorder.repeats,
        [(one.search, one.counts, one.complete, one.notes) for one in recorder.ended],
        [(str(series), tally.tried, tally.fired, tally.surfaced) for series, tally in recorder.tallies.items()],
        recorder.crashes,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Declared", "RemembersFirst"])
def test_the_number_of_jobs_changes_nothing_that_is_told(name: str) -> None:
    target = getattr(tiny_stores, name)()
    target.name = f"tiny_stores:{name}"
    first, *others = (told(run(target, jobs)) for jobs in (1, 3))
    assert all(other == first for other in others)
    assert bool(first[0]) is (name == "RemembersFirst")


def test_a_search_whose_process_is_killed_begins_anew_and_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORNPAGE_TEST_MARK", str(tmp_path / "mark"))
    killed = told(run(DiesOnce(), 2, ("sweep", "fuzz")))
    assert (tmp_path / "mark").exists()
    assert killed == told(run(DiesOnce(), 1, ("sweep", "fuzz")))


def test_a_search_whose_processes_are_killed_is_vacuous() -> None:
    recorder = run(DiesAlways(), 2, ("sweep", "fuzz"))
    assert [one.reason for one in recorder.vacuous] == [
        "its process died twice: was it killed, or did memory run out?"
    ] * 2
    assert campaign.verdict(recorder) is campaign.Exit.NOT_TESTED


def test_what_keeps_a_search_from_running_is_told_as_it_is(command: Command) -> None:
    ran = command("check", "--target", "tiny_stores:NeverOpens", "--jobs", 2, "--quiet")
    assert ran.code == 2
    assert "no such store" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.slow
def test_ctrl_c_stops_all_of_them_and_reports(tornpage: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    process = tornpage("check", "--target", "tiny_stores:Tiny", "--profile", "nightly", "--jobs", "2", "--json")
    with process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("sweep tiny_stores:Tiny: "):
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    data = json.loads(out)
    assert data["verdict"] == "INTERRUPTED"
    assert data["searches"][0]["counts"]["tried"] > 0


@pytest.mark.slow
def test_known_bugs_are_caught_alike_whatever_the_number_of_jobs() -> None:
    bugs = [find_bug(name) for name in ("delete-memory-first", "permanent-retried")]
    first, second = ([catch for _, catch in gate.catches(bugs, 0, None, jobs=jobs)] for jobs in (1, 2))
    assert first == second
    assert all(catch.caught for catch in first)


def test_error_paths_are_seen_in_one_process_only(command: Command) -> None:
    ran = command("check", "--jobs", 2, "--error-paths", "ledger")
    assert ran.code == 2
    assert "one process only" in ran.err
