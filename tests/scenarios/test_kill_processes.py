"""Processes that are killed: what lies on disk before, what waitpid says after, and that nobody is left behind."""

import contextlib
import json
import os
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dying_stores
import msgspec
import pytest

from tornpage import faults
from tornpage.scenarios.execution.kill import protocol as job
from tornpage.scenarios.execution.kill import supervisor
from tornpage.scenarios.execution.kill.protocol import (
    Answered,
    Begun,
    Born,
    Fired,
    Job,
    JobLog,
    Timed,
    job_events,
    read_job,
)
from tornpage.scenarios.execution.kill.supervisor import ExitStatus, Supervisor, journal_below
from tornpage.scenarios.execution.session_in_use import OPEN
from tornpage.scenarios.model.events import Finding
from tornpage.scenarios.model.scenario import Arm, Call, Restart, Scenario
from tornpage.scenarios.model.target import Configuration, TargetError
from tornpage.scenarios.run.reproduce import replay_file as reproducer

WAL = Configuration("wal", "FULL")
PUT_A, PUT_B = dying_stores.put("a"), dying_stores.put("b")

_TIMEOUT_S = 60

Start = Callable[..., subprocess.Popen[str]]
Command = Callable[..., Any]


def put_twice(home: Path, plan: str | None = None, **more: Any) -> Job:
    home.mkdir(exist_ok=True)
    calls = (Timed(0, OPEN), Timed(1, PUT_A), Timed(2, PUT_B))
    return Job(WAL, str(home), calls, plan, armed_from=2, **more)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Supervisor]:
    with Supervisor("dying_stores:Right", tmp_path / "jobs") as made:
        yield made


# -- one job --------------------------------------------------------------------------------------------


def test_waitpid_says_that_sigkill_ended_the_process_and_the_process_said_where(
    started: Supervisor, tmp_path: Path
) -> None:
    exit_status = started.run(put_twice(tmp_path / "home", "write:wal@2/half=KILL"))
    assert os.WIFSIGNALED(exit_status.status)
    assert os.WTERMSIG(exit_status.status) == signal.SIGKILL
    assert exit_status.killed
    assert [answer.kind for answer in exit_status.answers] == ["done", "done"]
    assert exit_status.pending == 2
    fired = exit_status.fired
    assert fired is not None
    assert (fired.fault, fired.kind, fired.role, fired.ordinal) == ("write:wal@2/half=KILL", "write", "wal", 2)
    assert fired.path == str(tmp_path / "home" / "tiny.db-wal")


def test_half_a_write_reaches_the_file_and_no_more(started: Supervisor, tmp_path: Path) -> None:
    def size(timing: str) -> int:
        home = tmp_path / (timing.strip("/") or "before")
        assert started.run(put_twice(home, f"write:wal@2{timing}=KILL")).killed
        return (home / "tiny.db-wal").stat().st_size

    before, half, after = size(""), size("/half"), size("/after")
    # The second write of a WAL frame is the page: the first is the frame's header.
    assert after - before == 4096
    assert half - before == 2048


def test_a_process_that_is_not_killed_ends_or_dies_between_two_calls(started: Supervisor, tmp_path: Path) -> None:
    ended = started.run(put_twice(tmp_path / "one"))
    assert (ended.status, ended.killed, ended.pending, len(ended.answers)) == (0, False, None, 3)
    died = started.run(put_twice(tmp_path / "two", dies_at_the_end=True))
    assert (died.killed, died.fired, died.pending, len(died.answers)) == (True, None, None, 3)


def test_a_plan_is_in_force_only_for_its_calls_and_the_files_of_its_store(started: Supervisor, tmp_path: Path) -> None:
    never = started.run(put_twice(tmp_path / "one", "write@1=KILL", armed_until=2))
    assert (never.killed, len(never.answers)) == (False, 3)
    elsewhere = msgspec.structs.replace(put_twice(tmp_path / "two", "write:journal@1..=KILL"))
    assert not started.run(elsewhere).killed


def test_each_child_is_a_process_of_its_own_with_nothing_of_sqlite_from_the_last_one(
    started: Supervisor, tmp_path: Path
) -> None:
    for number in range(1, 6):
        wanted = put_twice(tmp_path / "home", "sync:wal@1=KILL")
        # A row that stays as it is would not be written.
        last = Timed(2, dying_stores.put("b", number))
        exit_status = started.run(msgspec.structs.replace(wanted, calls=(*wanted.calls[:2], last)))
        assert exit_status.fired, number
    with contextlib.closing(faults.connect_unwatched(tmp_path / "home" / "tiny.db")) as connection:
        assert dict(connection.execute("SELECT key, value FROM t")) == {"a": 1, "b": 5}


# -- what lies on disk -------------------------------------------------------------------------------------


def test_the_job_and_its_directory_are_synced_before_the_child_is_asked(
    started: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    synced, asked = os.fsync, Supervisor._ask

    def fsync(descriptor: int) -> None:
        events.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        synced(descriptor)

    def ask(self: Supervisor, process: Any, directory: Path) -> None:
        events.append("asked")
        assert read_job(directory) == wanted
        asked(self, process, directory)

    monkeypatch.setattr(job.os, "fsync", fsync)
    monkeypatch.setattr(Supervisor, "_ask", ask)
    wanted = put_twice(tmp_path / "home", "sync:wal@1=KILL")
    started.run(wanted)
    assert events == ["job.json", "000001", "jobs", "asked"]
    assert not (tmp_path / "jobs" / "000001").exists()


def test_each_line_is_synced_before_the_next_thing_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job_log = JobLog(tmp_path)
    sizes: list[int] = []
    monkeypatch.setattr(job.os, "fsync", lambda descriptor: sizes.append(os.fstat(descriptor).st_size))
    lines = [Begun(0), Answered(0, "done"), Begun(1), Fired("sync@1=KILL", "sync", "wal", 1, None)]
    for line in lines:
        job_log.write(line)
    assert len(set(sizes)) == len(lines)
    assert sizes[-1] == (tmp_path / job.EVENTS).stat().st_size
    assert job_events(tmp_path) == lines


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_last_line_that_was_cut_off_was_not_told(cut: int, tmp_path: Path) -> None:
    job_log = JobLog(tmp_path)
    job_log.write(Begun(0))
    job_log.write(Answered(0, "done"))
    content = (tmp_path / job.EVENTS).read_bytes()
    (tmp_path / job.EVENTS).write_bytes(content[:-cut])
    assert job_events(tmp_path) == [Begun(0)]
    exit_status = ExitStatus(put_twice(tmp_path), int(signal.SIGKILL), tuple(job_events(tmp_path)))
    assert (exit_status.pending, exit_status.answers) == (0, ())


def test_nothing_was_told_by_a_process_that_never_began(tmp_path: Path) -> None:
    assert job_events(tmp_path) == []


def test_every_run_has_its_own_place_for_jobs_and_leaves_nothing(tmp_path: Path) -> None:
    with journal_below(tmp_path / "report", tmp_path) as one, journal_below(tmp_path / "report", tmp_path) as two:
        assert one != two
        assert one.parent == two.parent == tmp_path / "report"
    assert list((tmp_path / "report").iterdir()) == []
    (tmp_path / "file").touch()
    with journal_below(tmp_path / "file" / "report", tmp_path) as three:
        assert three.parent == tmp_path


# -- what goes wrong ---------------------------------------------------------------------------------------


def test_a_child_that_hangs_is_ended_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("alive.fifo")
    listener = os.open("alive.fifo", os.O_RDONLY | os.O_NONBLOCK)
    heard: list[list[int]] = []

    def hear(self: Supervisor, within_s: float) -> Any:
        report = heard_from(self, within_s)
        if isinstance(report, Born):
            heard.append(watched(listener))
            # From now on no time is left.
            monkeypatch.setattr(supervisor, "_LIVES_AT_MOST_S", 0)
        return report

    heard_from = Supervisor._hear
    monkeypatch.setattr(Supervisor, "_hear", hear)
    with (
        Supervisor("dying_stores:Waits", tmp_path / "jobs") as made,
        pytest.raises(TargetError, match="hangs in its own process"),
    ):
        made.run(put_twice(tmp_path / "home"))
    assert_gone(*heard)


def watched(listener: int) -> list[int]:
    """Who tells when the two processes that the store names in ``alive.fifo`` are gone."""
    os.set_blocking(listener, True)
    # Nothing can be read before the store has opened the other side, so wait for its line.
    assert select.select([listener], [], [], _TIMEOUT_S)[0]
    with os.fdopen(listener) as file:
        return [os.pidfd_open(int(pid)) for pid in file.readline().split()]


def assert_gone(watchers: list[int]) -> None:
    """Both are gone, or go now."""
    assert len(watchers) == 2
    for watcher in watchers:
        ended, _, _ = select.select([watcher], [], [], _TIMEOUT_S)
        os.close(watcher)
        assert ended


def test_a_supervisor_that_is_gone_is_told(started: Supervisor, tmp_path: Path) -> None:
    started.run(put_twice(tmp_path / "home"))
    process = started._process
    assert process is not None
    process.kill()
    process.wait()
    with pytest.raises(TargetError, match="has ended: it printed nothing"):
        started.run(put_twice(tmp_path / "home"))


def test_where_there_is_no_fork_that_is_said_and_the_exit_code_is_2(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "fork")
    ran = command("kill", "--target", "dying_stores:Right", "--kills", 1)
    assert ran.code == 2, ran
    assert "real kills need os.fork and SIGKILL" in ran.err
    assert "Traceback" not in ran.err


def test_a_child_s_own_failure_is_exit_code_2_with_its_traceback(command: Command) -> None:
    ran = command("kill", "--target", "dying_stores:FailsInTheChild", "--kills", 1)
    assert ran.code == 2, ran
    assert "RuntimeError: not in a child" in ran.err
    assert "dying_stores.py" in ran.err


# -- the command -------------------------------------------------------------------------------------------


def test_the_table_of_kills_adds_up_in_text_and_json(command: Command, tmp_path: Path) -> None:
    few = ("kill", "--target", "dying_stores:Right", "--kills", 8)
    ran = command(*few)
    assert ran.code == 0, ran
    assert "processes killed" in ran.out
    assert "dying_stores:Right: HOLDS: no check failed. 8 processes killed" in ran.out
    data = json.loads(command(*few, "--json").out)
    assert data["verdict"] == "HOLDS"
    assert {point["effect"] for point in data["fault_points"]} == {"KILL"}
    assert sum(point["fired"] for point in data["fault_points"]) == 8
    assert data["searches"][0]["counts"]["kills"] == 8
    assert {left.name for left in (tmp_path / ".tornpage").iterdir()} == {"run.json", ".gitignore"}


@pytest.mark.slow
def test_a_finding_is_replayed_in_processes_really_killed_and_is_fixed_where_the_defect_is_not(
    command: Command,
) -> None:
    ran = command("kill", "--target", "dying_stores:Halves", "--configuration", "wal/FULL", "--kills", 60, "--json")
    assert ran.code == 1, ran
    finding = next(one for one in json.loads(ran.out)["findings"] if one["message"].startswith("killed in "))
    line = shlex.split(finding["replay"])[1:]
    again = command(*line)
    assert again.code == 1, again
    assert again.out.rstrip().endswith("FAILED: all-or-nothing on dying_stores:Halves")
    assert "killed in " in again.out


def test_no_time_is_exit_code_2_and_is_called_partial(command: Command) -> None:
    ran = command("kill", "--target", "dying_stores:Right", "--max-time", 0)
    assert ran.code == 2
    assert "PARTIAL" in ran.out


def finding(*steps: Any) -> Finding:
    return Finding("acknowledged-is-durable", "gone", Scenario("reference", WAL, steps), {}, "kill")


def test_a_file_that_only_kills_is_replayed_and_this_process_lives(command: Command, tmp_path: Path) -> None:
    steps = (Call(PUT_A), Arm("write:wal@1/half=KILL"), Call(PUT_B), Restart(crash=True))
    file = reproducer.write(finding(*steps), tmp_path, seed=0)
    ran = command("replay", file, "--target", "dying_stores:Right")
    assert ran.code == 0, ran
    assert "nothing violated (1 of 1 faults fired)" in ran.out
    assert "FIXED" in ran.out


@pytest.mark.parametrize("plan", ["write:wal@1=FULL", "sync@1=IOERR_FSYNC;write@2=KILL"])
def test_a_file_that_kills_and_does_something_else_is_refused(plan: str, command: Command, tmp_path: Path) -> None:
    file = reproducer.write(finding(Arm("sync@9=KILL"), Arm(plan), Restart(crash=True)), tmp_path, seed=0)
    ran = command("replay", file, "--target", "dying_stores:Right")
    assert ran.code == 2
    assert "would kill this process; such a scenario only kills" in ran.out


def test_a_file_may_not_start_processes_without_end(command: Command, tmp_path: Path) -> None:
    file = reproducer.write(finding(Arm("sync@9=KILL"), *[Restart(crash=True)] * 1_001), tmp_path, seed=0)
    ran = command("replay", file, "--target", "dying_stores:Right")
    assert ran.code == 2
    assert "starts 1001 processes; at most 1000 are" in ran.out


# -- real processes of the command -------------------------------------------------------------------------


def waiting(tornpage: Start, tmp_path: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """``tornpage kill`` while its child hangs; and who tells when that is gone."""
    os.mkfifo(tmp_path / "alive.fifo")
    process = tornpage("kill", "--target", "dying_stores:Waits", "--configuration", "wal/FULL")
    # Opening comes back when the child has opened the other side.
    return process, watched(os.open(tmp_path / "alive.fifo", os.O_RDONLY))


def test_ctrl_c_ends_the_child_reports_and_leaves_nobody_behind(tornpage: Start, tmp_path: Path) -> None:
    process, watchers = waiting(tornpage, tmp_path)
    with process:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=_TIMEOUT_S)
    assert process.returncode == 130, (out, err)
    assert "INTERRUPTED: these are the results until then" in out
    assert "Traceback" not in err
    assert_gone(watchers)
    assert {left.name for left in (tmp_path / ".tornpage").iterdir()} == {"run.json", ".gitignore"}


def test_when_the_harness_itself_is_killed_nobody_lives_on_and_the_job_says_what_was_done(
    tornpage: Start, tmp_path: Path
) -> None:
    process, watchers = waiting(tornpage, tmp_path)
    with process:
        process.kill()
        process.communicate(timeout=_TIMEOUT_S)
    assert_gone(watchers)
    (left,) = (tmp_path / ".tornpage").glob("kill-*/*/job.json")
    job_left = read_job(left.parent)
    assert job_left.plan is not None
    assert job_left.plan.endswith("=KILL")
    assert job_events(left.parent) == [Begun(0)]


def test_two_at_once_do_not_get_in_each_other_s_way(tornpage: Start, tmp_path: Path) -> None:
    few = ("kill", "--target", "dying_stores:Right", "--kills", 12, "--json")
    processes = [tornpage(*few, "--seed", seed) for seed in (1, 2)]
    for process in processes:
        with process:
            out, err = process.communicate(timeout=_TIMEOUT_S)
        assert process.returncode == 0, (out, err)
        assert json.loads(out)["searches"][0]["counts"]["kills"] == 12
    assert {left.name for left in (tmp_path / ".tornpage").iterdir()} == {"run.json", ".gitignore"}


# An ordinary user in all but one thing: the interpreter may lie where only root may look.
AS_NOBODY = (
    "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all,+dac_read_search",
    "--ambient-caps=-all,+dac_read_search", "--bounding-set=-all,+dac_read_search",
)  # fmt: skip
AS_AN_ORDINARY_USER = """
import os, sys
os.execvp(sys.argv[1], sys.argv[1:])
"""
UNDER_ITS_OWN_NAME = "import os; assert os.getuid(); from tornpage.scenarios.cli import main; main()"


def test_an_ordinary_user_can_kill_too(start: Start, tmp_path: Path) -> None:
    python = (sys.executable, "-c", UNDER_ITS_OWN_NAME)
    if os.getuid() == 0:
        try:
            subprocess.run([*AS_NOBODY, "true"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"root can't become an ordinary user here: {error}")
        python = (*AS_NOBODY, *python)
        tmp_path.chmod(0o777)
    process = start(AS_AN_ORDINARY_USER, *python, "kill", "--target", "tiny_stores:Tiny", "--kills", 4, "--json")
    with process:
        out, err = process.communicate(timeout=_TIMEOUT_S)
    assert process.returncode == 0, (out, err)
    assert json.loads(out)["searches"][0]["counts"]["kills"] == 4


def test_the_help_teaches(command: Command) -> None:
    text = " ".join(command("kill", "--help").out.split())
    for words in (
        "SIGKILL",
        "--kills 500",
        "tornpage replay .tornpage/FILE",
        "before, after",
        "is on disk before it begins",
    ):
        assert words in text


@pytest.mark.parametrize("code", ["KILL", "kill"])
def test_explain_says_what_a_kill_is(code: str, command: Command) -> None:
    ran = command("explain", code)
    assert ran.code == 0
    assert ran.out.startswith("KILL: the process dies of SIGKILL")
