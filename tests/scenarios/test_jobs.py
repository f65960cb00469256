"""Searches beside each other tell the same as one after the other; a process that dies or is stopped costs no truth."""

import json
import multiprocessing
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest
import tiny_stores
from click import Context

from tornpage.scenarios.cli import options, searches
from tornpage.scenarios.model.events import Event, PointTried
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.target import Configuration
from tornpage.scenarios.model.work import Done, Part, Shard
from tornpage.scenarios.report.merge import merge
from tornpage.scenarios.run import campaign
from tornpage.scenarios.run import record as run_record
from tornpage.scenarios.run.many_cores import worker_pool
from tornpage.scenarios.run.many_cores.worker_pool import DiedError, Result
from tornpage.scenarios.search.recorder import Recorder, Transcript
from tornpage.scenarios.selftest import gate
from tornpage.scenarios.targets.known_bugs import find_bug
from tornpage.scenarios.targets.registry import find

Command = Callable[..., Any]
SMALL = Profile(
    "small", 1, 10, scenarios=20, steps=5, crash_states=10, kills=2, rival_points=3, limit_points=3, shrinks=False
)
SEARCHES = ("sweep", "crash", "contend", "fuzz")


# The contract is checked in the process that asked for the work, the work is done in others.
IS_WORKER = multiprocessing.parent_process() is not None


class DiesOnce(tiny_stores.Tiny):
    """Its process, which is not the one that asked for the work, is killed while it is opened for the first time."""

    name = "test_jobs:DiesOnce"

    def open(self, directory: Path, *arguments: Any) -> tiny_stores.TinySession:
        if not IS_WORKER:
            return super().open(directory, *arguments)
        try:
            Path(os.environ["TORNPAGE_TEST_MARK"]).touch(exist_ok=False)
        except FileExistsError:
            return super().open(directory, *arguments)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("killed")


class DiesAlways(tiny_stores.Tiny):
    """Its process, which is not the one that asked for the work, is killed whenever it is opened."""

    name = "test_jobs:DiesAlways"
    by = signal.SIGKILL

    def open(self, directory: Path, *arguments: Any) -> tiny_stores.TinySession:
        if not IS_WORKER:
            return super().open(directory, *arguments)
        os.kill(os.getpid(), self.by)
        raise AssertionError("killed")


class CrashesAlways(DiesAlways):
    """C code ends its process whenever it is opened."""

    name = "test_jobs:CrashesAlways"
    by = signal.SIGSEGV


class DeafOnce(tiny_stores.Tiny):
    """In a process that does the work it hangs while it is opened, and no signal reaches it."""

    name = "test_jobs:DeafOnce"

    def open(self, directory: Path, *arguments: Any) -> tiny_stores.TinySession:
        if IS_WORKER:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
            threading.Event().wait()
        return super().open(directory, *arguments)


def run(target: Any, jobs: int, searches: tuple[str, ...] = SEARCHES, **options: Any) -> Recorder:
    return campaign.run(target, Plan(searches, SMALL, report=None, jobs=jobs, **options))


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


@pytest.mark.parametrize(
    ("target", "reason", "stack"),
    [
        (DiesAlways(), "its process died twice: was it killed, or did memory run out?", ""),
        (CrashesAlways(), "its process crashed twice, by SIGSEGV: standard error has the line", "in open"),
    ],
)
def test_a_search_whose_processes_are_killed_or_crash_is_vacuous(
    target: Any, reason: str, stack: str, capfd: pytest.CaptureFixture[str]
) -> None:
    recorder = run(target, 2, ("sweep",))
    assert [one.reason.startswith(reason) for one in recorder.vacuous] == [True], recorder.vacuous
    assert stack in capfd.readouterr().err
    assert campaign.verdict(recorder) is campaign.Exit.NOT_TESTED


def test_a_process_that_hangs_where_nothing_stops_it_does_not_keep_the_run_from_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_pool, "_STOPS_WITHIN_S", 0.5)
    recorder = run(DeafOnce(), 2, ("sweep",), max_time_s=1.0, call_timeout_s=0.1)
    assert not recorder.complete
    assert campaign.verdict(recorder) is campaign.Exit.NOT_TESTED


def test_searches_that_no_worker_had_time_for_have_tested_nothing() -> None:
    recorder = run(tiny_stores.Tiny(), 2, max_time_s=0.0)
    assert campaign.verdict(recorder) is campaign.Exit.NOT_TESTED
    assert [one.search for one in recorder.vacuous] == list(SEARCHES)
    assert all(one.reason.startswith("the time was up before anything was tried") for one in recorder.vacuous)


def test_each_search_of_the_workers_has_its_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(("sweep", "limits", "fuzz"), SMALL, report=None, jobs=2, max_time_s=90.0)
    now = 0.0
    monkeypatch.setattr(worker_pool, "monotonic", lambda: now)
    later = Part(Configuration("wal", "FULL"), first=1)
    jobs = iter([("sweep", later), ("limits", later)])
    pool = worker_pool.WorkerPool(Mock(), "tiny", plan, Mock(), jobs, Mock())
    assert pool._seconds_of("sweep") == 30
    now = 31.0
    # Its share is used up; the next one gets half of what is left.
    assert pool._next() == ("limits", later)
    assert pool._seconds_of("limits") == 29.5
    ended = pool._results["sweep", later]
    assert ended is not None
    assert not ended.done.complete


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
@pytest.mark.parametrize("cluster", [None, "local"])
def test_known_bugs_are_caught_alike_whoever_does_the_work(cluster: str | None, tmp_path: Path) -> None:
    if cluster is not None:
        pytest.importorskip("distributed", reason="the extra cluster is not installed")
    bugs = [find_bug(name) for name in ("delete-memory-first", "permanent-retried")]

    def caught(over: gate.Map) -> list[gate.Catch]:
        return [catch for _, catch in gate.catches(bugs, 0, tmp_path, over)]

    with gate.over(2, cluster) as over:
        there, heard = caught(over), list(gate.noise([find_bug("restore-torn")], 0, over))
    # What a try took is another matter.
    alone = [msgspec.structs.replace(one, cpu_s=0.0) for one in caught(map)]
    assert [msgspec.structs.replace(one, cpu_s=0.0) for one in there] == alone
    assert all(catch.caught for catch in there)
    assert heard == []
    files = [Path(shlex.split(catch.replay)[2]) for catch in there]
    assert files
    assert all(file.parent == tmp_path and file.exists() for file in files)


def test_a_command_works_on_every_processor_unless_it_is_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    option = next(one for one in searches.sweep.params if one.name == "jobs")
    context = Context(searches.sweep)
    monkeypatch.delenv("TORNPAGE_JOBS", raising=False)
    monkeypatch.setattr(options.os, "sched_getaffinity", lambda _: {0, 2, 5}, raising=False)
    assert option.consume_value(context, {})[0] == "auto"
    assert [option.type_cast_value(context, value) for value in ("auto", "1", "12")] == [3, 1, 12]
    monkeypatch.setenv("TORNPAGE_JOBS", "2")
    assert option.type_cast_value(context, option.consume_value(context, {})[0]) == 2


@pytest.mark.parametrize("jobs", ["0", "-1", "many", "1.5"])
def test_a_number_of_processes_that_is_none_is_a_usage_error_that_says_what_is(jobs: str, command: Command) -> None:
    ran = command("sweep", "--jobs", jobs)
    assert ran.code == 2
    assert f"'{jobs}' is not a number of processes: give 1 or more, or auto" in ran.err


def test_error_paths_need_no_word_about_the_number_of_processes(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORNPAGE_JOBS", "2")
    plan = ("--plan", "write:wal@1=FULL", "--configuration", "wal/FULL")
    ran = command("sweep", "--target", "tiny_stores:Tiny", *plan, "--error-paths", "tiny_stores", "--quiet")
    assert ran.code == 0, ran


def test_error_paths_are_seen_in_one_process_only(command: Command) -> None:
    ran = command("check", "--jobs", 2, "--error-paths", "tornpage.ledger")
    assert ran.code == 2
    assert "one process only" in ran.err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Declared", "RemembersFirst"])
def test_a_cluster_tells_the_same_as_one_process(name: str) -> None:
    pytest.importorskip("distributed", reason="the extra cluster is not installed")
    target = getattr(tiny_stores, name)()
    target.name = f"tiny_stores:{name}"
    searches = ("sweep", "kill", "fuzz")
    there = told(run(target, 2, searches, cluster="local"))
    assert there == told(run(target, 1, searches))
    assert bool(there[0]) is (name == "RemembersFirst")


@pytest.mark.slow
def test_a_worker_of_a_cluster_that_dies_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="the extra cluster is not installed")
    monkeypatch.setenv("TORNPAGE_TEST_MARK", str(tmp_path / "mark"))
    killed = told(run(DiesOnce(), 2, ("sweep",), cluster="local"))
    assert (tmp_path / "mark").exists()
    assert killed == told(run(DiesOnce(), 1, ("sweep",)))


@pytest.mark.slow
def test_a_cluster_that_is_lost_costs_nothing_that_was_told(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="the extra cluster is not installed")

    def dask(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "dask", *words]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path)

    scheduler = dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    address = next(found[1] for line in scheduler.stderr or () if (found := re.search(r"(tcp://[\d.:]+)", line)))
    worker = dask("worker", address, "--nthreads", "1", "--no-dashboard", "--no-nanny")
    try:
        with distributed.Client(address) as client:
            client.wait_for_workers(1)

        def lose(search: str, event: Event) -> None:
            if search == "contend" and isinstance(event, PointTried):
                scheduler.kill()

        size = msgspec.structs.replace(SMALL, points_per_call=1, rival_points=1)
        plan = Plan(("sweep", "contend"), size, report=None, cluster=address)
        recorder = campaign.run(find("reference"), plan, live=lose)
    finally:
        for process in (worker, scheduler):
            process.kill()
            process.communicate()
    assert recorder.count("tried") > 0
    assert {one.reason for one in recorder.vacuous} == {
        f"the cluster at {address} was lost; its results until then are reported"
    }
    assert campaign.verdict(recorder) is campaign.Exit.NOT_TESTED


class _Future:
    """A task of a cluster that has ended, or whose scheduler is gone."""

    def __init__(self, ended: Any = None) -> None:
        self.status = "cancelled" if ended is None else "finished"
        self._ended = ended

    def done(self) -> bool:
        return True

    def result(self) -> Any:
        if self._ended is None:
            raise CancelledError
        return self._ended


def test_what_has_ended_before_its_cluster_was_lost_is_handed_over() -> None:
    module = pytest.importorskip(
        "tornpage.scenarios.run.many_cores.dask_cluster", reason="the extra cluster is not installed"
    )
    one, two, three = jobs = [("sweep", Part(Configuration(), number)) for number in range(3)]
    ended = Result(Transcript([], [], frozenset(), Counter(), {}), Done())
    plan = Plan(("sweep",), SMALL, report=None, cluster="tcp://nowhere")
    lost = module.Cluster(None, "tiny", plan, None, iter(()), lambda *_: None)
    lost._futures = dict(zip(jobs, (_Future(), _Future(ended), _Future()), strict=True))
    with pytest.raises(DiedError, match="was lost; its results until then are reported") as died:
        lost.result(one)
    assert not died.value.ends
    assert lost.result(two) is ended
    assert lost.result(three) is None


def test_a_cluster_that_is_not_there_is_told_in_a_line(command: Command) -> None:
    pytest.importorskip("distributed", reason="the extra cluster is not installed")
    ran = command("sweep", "--target", "tiny_stores:Tiny", "--cluster", "nowhere", "--quiet")
    assert ran.code == 2
    assert "no cluster answers at nowhere" in ran.err


def test_shards_share_all_points_among_them_and_repeat_none() -> None:
    def tried(shard: Shard | None) -> list[str]:
        points: list[str] = []

        def hear(event: Event) -> None:
            if isinstance(event, PointTried):
                points.append(f"{event.place}")

        size = msgspec.structs.replace(SMALL, configurations=2, points_per_call=4)
        plan = Plan(("sweep", "contend"), size, report=None, shard=shard)
        campaign.run(tiny_stores.Tiny(), plan, (hear,))
        return points

    shares = [tried(Shard(number, 3)) for number in (1, 2, 3)]
    assert sorted(point for share in shares for point in share) == sorted(tried(None))
    assert all(shares)


@pytest.mark.usefixtures("quick_is_small")
def test_shards_are_judged_together(command: Command, tmp_path: Path) -> None:
    for number in (1, 2):
        home = tmp_path / str(number)
        ran = command("limits", "--target", "tiny_stores:Tiny", "--shard", f"{number}/2", "--report", home)
        assert "no call ever met" not in ran.out
        assert f"(share {number}/2 of the work; tornpage report merge judges the whole)" in ran.out
    one, two = (run_record.read(tmp_path / str(number) / "run.json") for number in (1, 2))
    assert (one.shard, two.shard) == ("1/2", "2/2")
    assert not merge([one, two]).record.vacuous
    unlucky = [
        msgspec.structs.replace(
            record,
            searches=tuple(
                msgspec.structs.replace(ended, seen={}, counts={**ended.counts, "limits": 0})
                for ended in record.searches
            ),
        )
        for record in (one, two)
    ]
    assert "no call ever met a limit" in {one.reason for one in merge(unlucky).record.vacuous}


@pytest.mark.usefixtures("quick_is_small")
def test_a_shard_that_is_missing_is_told(command: Command, tmp_path: Path) -> None:
    for number in (1, 3):
        command("sweep", "--target", "tiny_stores:Tiny", "--shard", f"{number}/3", "--report", tmp_path / str(number))
    merged = merge(run_record.read(tmp_path / str(number) / "run.json") for number in (1, 3)).record
    assert [one.reason for one in merged.vacuous] == ["of tiny_stores:Tiny with seed 0 these are missing: 2/3"]
    assert merged.exit_code == campaign.Exit.NOT_TESTED


@pytest.mark.usefixtures("quick_is_small")
def test_a_shard_alone_is_not_the_whole(command: Command, tmp_path: Path) -> None:
    ran = command("sweep", "--target", "tiny_stores:Tiny", "--shard", "1/2", "--report", tmp_path)
    assert ran.code == 0
    ran = command("report", "merge", tmp_path / "run.json", "--output", tmp_path / "all.json")
    assert ran.code == 2
    assert "vacuous: shards: of tiny_stores:Tiny with seed 0 these are missing: 2/2" in ran.out


@pytest.mark.usefixtures("quick_is_small")
def test_a_shard_without_a_part_takes_nothing_from_the_others(command: Command, tmp_path: Path) -> None:
    homes = [tmp_path / str(number) for number in (1, 2, 3)]
    one = ("--target", "tiny_stores:Tiny", "--configuration", "wal/FULL")
    for number, home in enumerate(homes, start=1):
        assert command("sweep", *one, "--shard", f"{number}/3", "--report", home).code == 0
    points = [len(run_record.read(home / "run.json").points) for home in homes]
    assert 0 in points
    ran = command("report", "merge", *(home / "run.json" for home in homes), "--output", tmp_path / "all.json")
    assert ran.code == 0, ran
    whole = command("sweep", *one, "--report", tmp_path / "whole")
    assert whole.code == 0
    assert sum(points) == len(run_record.read(tmp_path / "whole/run.json").points)


@pytest.mark.parametrize("place", ["", "http://host", "file", "file/below"])
def test_where_no_example_can_be_kept_nothing_is_begun(place: str, command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    where = str(tmp_path / place) if place.startswith("file") else place
    ran = command("fuzz", "--target", "tiny_stores:Tiny", "--examples", where, "--quiet")
    assert ran.code == 2, ran
    assert "examples" in ran.err


def test_what_is_no_shard_is_told(command: Command) -> None:
    ran = command("sweep", "--shard", "4/3")
    assert ran.code == 2
    assert "'4/3' is not a shard; write NUMBER/OF, such as 1/3, 2/3 and 3/3" in ran.err


def test_shared_examples_are_told_first_by_the_machine_that_found_them(tmp_path: Path) -> None:
    target = tiny_stores.RemembersFirst()
    first = run(target, 1, ("fuzz",), examples=str(tmp_path))
    assert first.findings
    # Another seed begins with what the first has found.
    again = run(target, 1, ("fuzz",), examples=str(tmp_path), seed=7)
    assert again.count("steps_to_failure") < 12
    assert not run(tiny_stores.Tiny(), 1, ("fuzz",), examples=str(tmp_path)).findings


def test_a_place_for_examples_that_is_none_is_told(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = command("fuzz", "--target", "tiny_stores:Tiny", "--examples", tmp_path / "file")
    assert ran.code == 2
    assert "is not a directory" in ran.err
