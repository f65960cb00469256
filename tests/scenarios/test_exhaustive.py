"""--exhaustive tries all there is, says so, and says before that how long it takes."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import meeting_stores
import pytest
import tiny_stores

from tornpage import faults
from tornpage.faults.contention.idle import real_monotonic
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Callers
from tornpage.scenarios.model.simple_target import SimpleTarget
from tornpage.scenarios.model.target import Action, Configuration, Environment, View
from tornpage.scenarios.run import campaign
from tornpage.scenarios.run.estimate import estimated
from tornpage.scenarios.search.interleave.search import Interleavings
from tornpage.scenarios.search.recorder import Recorder

Command = Callable[..., Any]

TINY = ("--target", "tiny_stores:Tiny", "--configuration", "delete/FULL")


@pytest.mark.slow
def test_a_sweep_of_everything_is_told_before_and_after(command: Command) -> None:
    ran = command("sweep", *TINY, "--exhaustive", "--json")
    assert ran.code == 0, ran
    (told,) = re.findall(
        r"^exhaustive: about ([\d,]+) fault variants; that takes about [\d.]+ (?:s|min|h)$", ran.err, re.MULTILINE
    )
    data = json.loads(ran.out)
    counts = data["searches"][0]["counts"]
    assert int(told.replace(",", "")) == counts["points"] == counts["tried"] == counts["fired"]
    assert counts["operations"] == counts["operations_failed"]
    assert counts["equivalent"] > 0
    assert data["extent"] == "EXHAUSTIVE"
    # Before the search has begun.
    assert ran.err.index("exhaustive:") < ran.err.index("sweep tiny_stores:Tiny:")


def test_of_what_nobody_has_counted_no_number_and_no_time_is_told() -> None:
    plan = Plan(("kill",), Profile("small", 1, None, 0, 0), report=None)
    told = estimated(tiny_stores.Tiny(), plan)
    assert told == "exhaustive: the number of points of kill is not known in advance"


@pytest.mark.parametrize(("callers", "preemptions"), [("threads", 1), ("threads", 2), ("processes", 2)])
def test_the_number_of_schedules_of_two_callers_is_told_before_they_are_played(
    callers: Callers, preemptions: int
) -> None:
    target = meeting_stores.ReturnsStatusTarget(callers=(callers,))
    profile = Profile("small", 1, None, 0, 0)
    plan = Plan(("interleave",), profile, report=None, callers=(callers,), preemptions=preemptions)
    (number,) = re.findall(r"^exhaustive: about (\d+) schedules of two callers; ", estimated(target, plan))
    assert int(number) == campaign.run(target, plan).count("schedules") > 20


def test_the_time_of_a_schedule_is_real_and_each_part_counts_its_own(tmp_path: Path) -> None:
    target = meeting_stores.JobsTarget(meeting_stores.ReturnsStatus, ("threads",))
    target.calls = target.calls[1:]
    plan = Plan(("interleave",), Profile("small", 2, None, 0, 0), report=None, callers=("threads",), preemptions=1)
    with faults.install() as shims, shims.deterministic():
        search = Interleavings.of(target, Recorder(), tmp_path, plan)
        for part in search.parts():
            before, began = search.counts["tried"], real_monotonic()
            forecast = search.forecast(part)
            took = real_monotonic() - began
            assert took / 20 < forecast.each_s * (search.counts["tried"] - before) <= took


class Lines:
    """Appends to one file, and syncs it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, line: str) -> None:
        with self.path.open("a") as file:
            file.write(f"{line}\n")
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        pass


class LinesTarget(SimpleTarget):
    title = "lines"
    configurations = (Configuration("file", "FULL"),)
    file = "lines"
    calls = (Action("add", {"line": "a"}), Action("add", {"line": "b"}))
    beat = Action("add", {"line": "heartbeat"})

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Lines:
        return Lines(path)

    def view(self, store: Lines) -> View:
        return self.files_view(store.path.parent)

    def files_view(self, directory: Path) -> View:
        path = directory / self.file
        return dict.fromkeys(path.read_text().splitlines(), True) if path.exists() else {}


def test_the_number_of_crash_states_is_told_before_they_are_read() -> None:
    plan = Plan(("crash",), Profile("small", 1, None, 0, 0), report=None)
    told = re.fullmatch(
        r"exhaustive: about ([\d,]+) crash states; that takes about \d+ s", estimated(LinesTarget(), plan)
    )
    assert told is not None
    foretold, tried = int(told[1].replace(",", "")), campaign.run(LinesTarget(), plan).count("states")
    # Of faults after which there are fewer states than after others, one of each kind is tried.
    assert tried / 2 < foretold < tried * 2, (foretold, tried)


class OneLine(LinesTarget):
    calls = LinesTarget.calls[:1]


def test_every_crash_state_is_told_before_it_is_tried(command: Command) -> None:
    ran = command("crash", "--target", "test_exhaustive:OneLine", "--every-state")
    assert ran.err.index("exhaustive: about") < ran.err.index("crash test_exhaustive:OneLine:")


def test_a_store_for_one_caller_has_no_schedules_to_estimate() -> None:
    plan = Plan(("interleave",), Profile("test", 1, None, 0, 0, schedules=None), report=None)
    for target in (meeting_stores.RemembersTarget(), meeting_stores.OpensOnceTarget()):
        assert "about 0 schedules of two callers" in estimated(target, plan)


def test_a_sample_is_no_exhaustive_run_and_needs_no_estimate(command: Command) -> None:
    ran = command("sweep", *TINY, "--json")
    assert json.loads(ran.out)["extent"] == "SAMPLED"
    assert "exhaustive:" not in ran.err


@pytest.mark.parametrize(
    ("search", "limit"),
    [
        ("contend", ("--points", 3)),
        ("limits", ("--points", 3)),
        ("crash", ("--states", 3)),
        ("interleave", ("--schedules", 3)),
    ],
)
def test_everything_and_a_limit_exclude_each_other(search: str, limit: tuple[str, int], command: Command) -> None:
    ran = command(search, *TINY, "--exhaustive", *limit)
    assert ran.code == 2
    assert "--exhaustive tries all: leave out the option that limits" in ran.err
