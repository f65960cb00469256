"""Contention: a patient store is left alone, each defect is caught by its check, and each finding replays."""

import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_stores

from tornpage import faults
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.events import PointTried
from tornpage.scenarios.model.scenario import Call, Restart, Rival, Scenario
from tornpage.scenarios.model.target import Action, Configuration
from tornpage.scenarios.run.campaign import SEARCHES, Exit, verdict
from tornpage.scenarios.run.reproduce.replay_file import Verdict, read, replay
from tornpage.scenarios.search.contention import Contend, Point
from tornpage.scenarios.search.recorder import Recorder

WAL, DELETE = Configuration("wal", "FULL"), Configuration("delete", "FULL")
Search = Callable[..., Recorder]
Command = Callable[..., Any]


class PatientSession(tiny_stores.TinySession):
    """Waits five seconds for a lock, for a new file's journal mode too."""

    def set_up(self, configuration: Configuration) -> None:
        self.connection.execute("PRAGMA busy_timeout = 5000")
        for _ in range(100):
            try:
                super().set_up(configuration)
            except sqlite3.OperationalError:
                # SQLite does not wait for what it needs to change it.
                time.sleep(0.05)
            else:
                return
        super().set_up(configuration)


class Patient(tiny_stores.Tiny):
    """Right: it waits."""

    name = "patient"
    session = PatientSession


class StuckSession(PatientSession, tiny_stores.StuckSession):
    """Leaves the transaction of a COMMIT that was BUSY open."""


class Stuck(tiny_stores.Tiny):
    session = StuckSession


class RemembersFirstSession(tiny_stores.RemembersFirstSession, PatientSession):
    """Changes memory before the write."""


class RemembersFirst(tiny_stores.Tiny):
    session = RemembersFirstSession


class SwallowsSession(tiny_stores.SwallowsSession, PatientSession):
    """Says done though it was busy."""


class Swallows(tiny_stores.Tiny):
    session = SwallowsSession


class UpgradesSession(PatientSession):
    """Reads, and then writes, in one deferred transaction."""

    def transact(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        try:
            self.connection.execute("BEGIN")
            self.connection.execute("SELECT count(*) FROM t").fetchall()
            for statement in statements:
                self.connection.execute(*statement)
            self.connection.execute("COMMIT")
        except BaseException:
            self.roll_back()
            raise


class Upgrades(tiny_stores.Tiny):
    session = UpgradesSession


def contended(target: tiny_stores.Tiny, home: Path, *configurations: Configuration, **options: Any) -> Recorder:
    recorder = Recorder(options.pop("handlers", ()))
    Contend(target, recorder, home, configurations=configurations or (WAL, DELETE), **options).run()
    return recorder


def codes(recorder: Recorder) -> set[str]:
    return {found.finding.code for found in recorder.findings}


@pytest.mark.slow
def test_a_store_that_waits_has_no_finding_and_every_kind_of_rival_was_in_its_way(search: Search) -> None:
    recorder = search(Patient(), "contend")
    assert [found.finding.message for found in recorder.findings] == []
    assert verdict(recorder) is Exit.HOLDS, recorder.vacuous
    kinds = {series.kind for series, tally in recorder.tallies.items() if tally.fired}
    # A store that makes no checkpoint of its own still meets a checkpointer's locks when it opens or closes.
    assert kinds == faults.RIVAL_KINDS.keys()
    assert recorder.count("points") == recorder.count("tried") > 300
    tried, contentions = recorder.count("tried"), recorder.count("contentions")
    assert tried == contentions + recorder.count("unblocked") + recorder.count("missed")
    assert contentions > 150
    assert recorder.count("waited") > 50
    assert recorder.count("surfaced") > 50


def test_a_held_lock_takes_no_real_time(shim: faults.Shim, home: Path) -> None:
    before_us = shim.slept_us
    recorder = contended(Patient(), home, DELETE, most_points_per_call=12)
    assert recorder.count("surfaced") >= 10
    # Each of those has waited five seconds, and what the shim sleeps is virtual.
    assert shim.slept_us - before_us > recorder.count("surfaced") * 4_900_000


DEFECTS = [
    (Stuck, DELETE, "still-usable-after-the-fault"),
    (RemembersFirst, WAL, "memory-equals-disk"),
    (Swallows, WAL, "acknowledged-is-durable"),
    (tiny_stores.Tiny, WAL, "waits-for-a-short-lock"),
    (tiny_stores.Tiny, DELETE, "waits-for-a-short-lock"),
    (Upgrades, WAL, "waits-for-a-short-lock"),
]


@pytest.mark.quality
@pytest.mark.parametrize(("target", "configuration", "code"), DEFECTS)
def test_a_defect_is_caught_by_its_check_and_its_scenario_shows_it_again(
    target: type[tiny_stores.Tiny], configuration: Configuration, code: str, shim: faults.Shim, home: Path
) -> None:
    recorder = contended(target(), home / "search", configuration, most_points_per_call=8)
    assert code in codes(recorder)
    for found in recorder.findings:
        again, counts = play(found.finding.scenario, target(), home / "again")
        assert again is not None, found.finding.scenario
        assert again.code == found.finding.code
        assert len(found.finding.scenario.steps) <= 4
        assert any(isinstance(step, Rival) for step in found.finding.scenario.steps)
        assert counts["armed"] == 1


def scenario(rival: Rival, *before: Call) -> Scenario:
    return Scenario("patient", WAL, (*before, Restart(), rival, Call(Action("put", {"key": "a", "value": 1}))))


def test_a_scenario_with_a_rival_counts_it_as_fired_and_lets_it_go_before_the_end(
    shim: faults.Shim, home: Path
) -> None:
    for place in ("connection", "process"):
        violation, counts = play(scenario(Rival("writer", "shmlock", 1, place)), Patient(), home)
        assert violation is None
        assert (counts["armed"], counts["fired"], counts["surfaced"], counts["raised"]) == (1, 1, 1, 1)
        violation, counts = play(scenario(Rival("writer", "shmlock", 1, place, held_ms=50)), Patient(), home)
        assert violation is None
        assert (counts["fired"], counts["surfaced"], counts["raised"]) == (1, 0, 0)


def test_a_rival_that_keeps_readers_out_makes_way_for_the_harness(shim: faults.Shim, home: Path) -> None:
    steps = (
        Call(Action("put", {"key": "a", "value": 1})),
        Rival("exclusive", "lock", 1, "process"),
        Call(Action("remove", {"key": "a"})),
    )
    violation, counts = play(Scenario("patient", DELETE, steps), Patient(), home)
    assert violation is None
    assert counts["surfaced"] == 1


def test_a_restart_while_the_rival_is_there_makes_it_let_go_of_the_files(shim: faults.Shim, home: Path) -> None:
    steps = (*scenario(Rival("writer", "shmlock", 1)).steps, Restart(crash=True))
    violation, counts = play(Scenario("patient", WAL, steps), Patient(), home)
    assert violation is None
    assert counts["crashes"] == 1


def test_the_same_seed_takes_the_same_sample_and_it_holds_every_kind(shim: faults.Shim, home: Path) -> None:
    def sampled(seed: int) -> list[PointTried]:
        tried: list[PointTried] = []
        keep = [lambda event: tried.append(event) if isinstance(event, PointTried) else None]
        contended(Patient(), home, WAL, most_points_per_call=8, seed=seed, handlers=keep)
        return tried

    first, second, third = sampled(3), sampled(3), sampled(4)
    assert first == second
    assert first != third
    fits = {kind.name for kind in faults.RIVAL_KINDS.values() if kind.fits("wal")}
    assert {point.series.kind for point in first} == fits


def points(home: Path, configuration: Configuration) -> list[Point]:
    one = Contend(Patient(), Recorder(), home, configurations=(configuration,))
    return [point for start in one.starts(configuration) for point in one.points_of(configuration, start)]


def test_only_rivals_that_the_journal_mode_knows_come(shim: faults.Shim, home: Path) -> None:
    assert {point.step.operation for point in points(home, DELETE)} == {"lock"}
    assert {point.step.kind for point in points(home, DELETE)} == {"reader", "writer", "exclusive", "committer"}
    in_wal = points(home, WAL)
    assert {point.start.action.name for point in in_wal if point.step.kind == "recoverer"} == {"open"}
    assert "exclusive" not in {point.step.kind for point in in_wal}


class DoesNothing(Patient):
    """Offers a workload without calls."""

    calls = ()


def test_a_workload_without_calls_tests_nothing(shim: faults.Shim, home: Path) -> None:
    recorder = contended(DoesNothing(), home, DELETE, most_points_per_call=1)
    assert "makes no call" in recorder.vacuous[0].reason
    assert verdict(recorder) is Exit.NOT_TESTED


def test_a_kind_of_rival_that_was_never_in_the_way_is_told(
    shim: faults.Shim, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play_one = Contend.play

    def never_but_for_readers(self: Contend, configuration: Configuration, point: Point) -> Any:
        contention = play_one(self, configuration, point)
        if point.series.kind != "reader":
            rival = contention.rival
            rival.asked = rival.granted = rival.surfaced = rival._waited_us = 0
        return contention

    monkeypatch.setattr(Contend, "play", never_but_for_readers)
    recorder = contended(Patient(), home, DELETE, most_points_per_call=10)
    told = " ".join(recorder.ended[0].notes)
    assert "rival 'writer' (" in told
    assert "blocked the store at no point" in told
    assert "rival 'reader'" not in told
    assert verdict(recorder) is Exit.HOLDS


def test_a_kind_that_a_sample_missed_is_tried_further_and_nothing_is_said(
    shim: faults.Shim, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play_one, came = Contend.play, Counter[str]()

    def not_at_first(self: Contend, configuration: Configuration, point: Point) -> Any:
        contention = play_one(self, configuration, point)
        came[point.series.kind] += 1
        if point.series.kind == "writer" and came["writer"] <= 12:
            rival = contention.rival
            rival.asked = rival.granted = rival.surfaced = rival._waited_us = 0
        return contention

    monkeypatch.setattr(Contend, "play", not_at_first)
    recorder = contended(Patient(), home, DELETE, most_points_per_call=10)
    assert came["writer"] > 12
    assert recorder.ended[0].notes == ()
    assert verdict(recorder) is Exit.HOLDS


def test_a_time_limit_cuts_it_short_and_no_process_is_left(
    shim: faults.Shim, home: Path, rivals_started: list[int]
) -> None:
    recorder = Recorder(deadline=0.0)
    Contend(Patient(), recorder, home).run()
    assert not recorder.complete
    assert recorder.count("tried") == 0
    (pid,) = rivals_started
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_it_is_a_search_of_the_campaign() -> None:
    assert SEARCHES["contend"] == Contend.of


# -- the command -------------------------------------------------------------------------------------------

TINY = ("--target", "tiny_stores:Tiny", "--configuration", "wal/FULL", "--points", 4)


def test_the_command_finds_prints_and_its_line_pasted_shows_it_again(command: Command) -> None:
    ran = command("contend", *TINY)
    assert ran.code == 1
    assert "waits-for-a-short-lock" in ran.out
    assert re.search(r"\d+ contentions, ", ran.out)
    (line, *_) = re.findall(r"Reproduce with:\n\s+tornpage (replay .*)", ran.out)
    again = command(*shlex.split(line))
    assert again.code == 1
    assert again.out.rstrip().endswith("FAILED: waits-for-a-short-lock on tiny_stores:Tiny")


@pytest.mark.slow
def test_the_commands_json_has_the_counts(command: Command) -> None:
    data = json.loads(command("contend", *TINY, "--json").out)
    (searched,) = data["searches"]
    assert searched["search"] == "contend"
    assert searched["counts"]["contentions"] > 0
    assert {one["check"] for one in data["findings"]} == {"waits-for-a-short-lock"}


def test_its_help_teaches(command: Command) -> None:
    text = command("contend", "--help").out
    for said in ("50 ms", "virtual time", "--profile nightly", "reported in a note"):
        assert said in text


def test_a_replay_file_with_a_rival_that_there_is_not_is_an_error(command: Command) -> None:
    ran = command("contend", *TINY)
    file = Path(shlex.split(re.findall(r"tornpage (replay .*)", ran.out)[0])[1])
    file.write_text(re.sub(r'"kind": "\w+"', '"kind": "nobody"', file.read_text()))
    again = command("replay", file, *TINY[:2])
    assert again.code == int(Exit.NOT_TESTED)
    assert "no rival 'nobody'" in again.out


@pytest.mark.slow
def test_ctrl_c_ends_it_in_good_order_and_leaves_no_process(
    tornpage: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    running = tornpage("contend", "--profile", "nightly", "--configuration", "wal/FULL")
    deadline_s = time.monotonic() + 60
    children: list[int] = []
    listed = Path(f"/proc/{running.pid}/task/{running.pid}/children")
    if not listed.exists():
        running.kill()
        running.communicate()
        pytest.skip("this system does not say which children a process has")
    while not children and time.monotonic() < deadline_s:
        children = [int(pid) for pid in listed.read_text().split()]
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == int(Exit.INTERRUPTED), (out, err)
    while any(map(is_running, children)) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert not any(map(is_running, children))


def is_running(pid: int) -> bool:
    """Whether a process lives; one that has ended, and that nobody has asked about since, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# -- what is shipped ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "wal/FULL",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("delete/EXTRA", "truncate/FULL", "persist/FULL")),
    ],
)
def test_the_reference_is_silent(name: str, command: Command) -> None:
    ran = command("contend", "--configuration", name, "--points", 3, "--seed", 1, "--json", "--quiet")
    data = json.loads(ran.out)
    assert data["findings"] == []
    (searched,) = data["searches"]
    assert searched["counts"]["contentions"] > 20
    assert searched["complete"]


# A cache that could not be opened leaves its connection to the garbage collector; Python 3.13 warns of that.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.quality
def test_diskcache_leaves_a_transaction_open_after_a_busy_commit(command: Command) -> None:
    ran = command("contend", "--target", "diskcache", "--configuration", "delete/FULL", "--points", 6)
    assert ran.code == 1
    assert "still-usable-after-the-fault" in ran.out
    line = re.findall(r"tornpage (replay .*still-usable.*)", ran.out)[0]
    reproducer = read(Path(shlex.split(line)[1]))
    with faults.install():
        said, _lines = replay(reproducer, _diskcache(), Path.cwd() / "again")
    assert said is Verdict.FAILED


def _diskcache() -> Any:
    from tornpage.scenarios.targets.registry import find

    return find("diskcache")
