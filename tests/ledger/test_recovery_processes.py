"""Recovery with real processes: workers that are SIGKILLed at random moments, and several who recover at once.

Half of the killed workers kill themselves right before or after a statement drawn from the seed, so a failing round can
be repeated exactly; the other half are killed from outside once they have acknowledged a number of calls, wherever they
happen to be, inside a COMMIT too.
"""

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tornpage import ledger
from tornpage.ledger import RunStatus, Status

ROOT = Path(ledger.__file__).parents[2]
SEED = 1107

# Arguments: state directory, journal mode, worker id, seed, and the number of the statement, counted from the first
# call on, at which it dies (0: never). After each call that returned it says what is now durably so.
KILLED_IN_A_RUN = """
import os, signal, sys; from tornpage import ledger

opened = ledger.Ledger.open(sys.argv[1])
opened.workers.hold("w1")
task = opened.tasks.create(runtime="cli", task="work", owner_key="owner")
opened.history.start(task.task_id, worker_id="w1")
os.kill(os.getpid(), signal.SIGKILL)
"""

WORKER = """
import json, os, random, signal, sqlite3, sys; from tornpage import ledger

state_dir, journal_mode, worker_id, seed, last = sys.argv[1:4] + [int(text) for text in sys.argv[4:]]
statements = -10**6

class Mortal(sqlite3.Connection):
    def execute(self, *arguments):
        global statements
        statements += 1
        if statements == last:
            if last % 2:
                super().execute(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(*arguments)

def connect(path, **options):
    return sqlite3.connect(path, factory=Mortal, **options)

def say(**what):
    print(json.dumps(what), flush=True)

choose = random.Random(seed)
opened = ledger.Ledger.open(state_dir, journal_mode=journal_mode, connect=connect)
opened.workers.hold(worker_id)
say(worker=worker_id)
statements = 0
in_flight = []
while True:
    task = opened.tasks.create(runtime="cli", task="work", owner_key="owner")
    say(task=task.task_id, status="queued")
    run = opened.history.start(task.task_id, worker_id=worker_id)
    say(task=task.task_id, status="running", run=run.id, run_status="running")
    in_flight.append(run)
    session = opened.history.open_session(run.id)
    say(session=session.session_id, run=run.id, run_status="running")
    opened.tasks.progress(task.task_id, "half way")
    if choose.random() < 0.6:
        run = in_flight.pop(choose.randrange(len(in_flight)))
        result = choose.choice(["success", "failure", "cancelled", "aborted_no_skill"])
        opened.history.finish(run.id, result, cost_usd=1.25, tokens_in=3)
        say(task=run.task_id, run=run.id, run_status=result)
"""

# Recovers once for each line it reads, and says what it did.
RECOVERER = """
import json, logging, sys; from tornpage import ledger
lines = []
handler = logging.Handler()
handler.emit = lambda record: lines.append(record.getMessage())
logging.getLogger("ledger.recovery").addHandler(handler)
with ledger.Ledger.open(sys.argv[1], journal_mode=sys.argv[2]) as opened:
    print("ready", flush=True)
    for _ in sys.stdin:
        del lines[:]
        done = opened.recover()
        agrees = opened.tasks.list_for_owner("owner") == opened.tasks.list_fresh_for_owner("owner")
        flagged = [run.id for run in done.interrupted]
        said = [line.split()[2] for line in lines]
        print(json.dumps({"flagged": flagged, "said": said, "agrees": agrees, "left": done.left_running}), flush=True)
"""

# Recovers and kills itself before its nth statement, which is also after the one before.
DYING_RECOVERER = """
import os, signal, sqlite3, sys; from tornpage import ledger
statements, last = -10**6, int(sys.argv[3])

class Mortal(sqlite3.Connection):
    def execute(self, *arguments):
        global statements
        statements += 1
        if statements == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(*arguments)

def connect(path, **options):
    return sqlite3.connect(path, factory=Mortal, **options)

opened = ledger.Ledger.open(sys.argv[1], journal_mode=sys.argv[2], connect=connect)
statements = 0
opened.recover()
statements = -10**6
opened.close()
"""

LEAVE_IN_FLIGHT = """
import sys; from tornpage import ledger
with ledger.Ledger.open(sys.argv[1], journal_mode=sys.argv[2]) as opened:
    opened.workers.hold(sys.argv[3])
    with opened.batch():
        for number in range(int(sys.argv[4])):
            task = opened.tasks.create(runtime="cli", task="work", owner_key="owner")
            run = opened.history.start(task.task_id, worker_id=sys.argv[3], run_id=f"{sys.argv[3]}-{number}")
            opened.history.open_session(run.id)
"""


def told_to_recover(child):
    child.stdin.write("go\n")
    child.stdin.flush()


def answer(child):
    return json.loads(child.stdout.readline())


def lived(spawn, place, mode, number):
    """A worker's life, from its birth to its SIGKILL; returns what it acknowledged."""
    choose = random.Random(SEED + number)  # noqa: S311 - a seed is what makes a round repeatable.
    dies_at = choose.randrange(1, 90) if number % 2 else 0
    child = spawn(WORKER, place, mode, f"worker-{number}", SEED + number, dies_at)
    said = [json.loads(child.stdout.readline())]
    if not dies_at:
        said += [json.loads(child.stdout.readline()) for _ in range(choose.randrange(25))]
        child.send_signal(signal.SIGKILL)
    # What `readline` has read ahead would be lost to `communicate`.
    rest = child.stdout.read()
    child.wait(timeout=60)
    assert child.returncode == -signal.SIGKILL
    return said + [json.loads(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]


def learn(known, said):
    """The last acknowledged status of every task and run, and the run of every session."""
    for one in said:
        if "status" in one:
            known["tasks"][one["task"]] = one["status"]
        if "run_status" in one:
            known["runs"][one["run"]] = one["run_status"]
        if "session" in one:
            known["sessions"][one["session"]] = one["run"]


def everything_acknowledged_is_there(known, tasks, runs, sessions):
    """An end is there as it was reported; what was acknowledged as in flight is interrupted.

    The one call under way when a worker died may have happened: a run may be over though nobody said so. Returns how
    many are.
    """
    assert set(known["tasks"]) <= set(tasks)
    assert set(known["runs"]) <= set(runs)
    assert {session_id: sessions[session_id].run_id for session_id in known["sessions"]} == known["sessions"]
    unsaid = 0
    for run_id, status in known["runs"].items():
        if status == "running":
            unsaid += runs[run_id].status is not RunStatus.INTERRUPTED
        else:
            assert runs[run_id].status == status
            assert (runs[run_id].cost_usd, runs[run_id].tokens_in) == (1.25, 3)
    return unsaid


def tasks_and_sessions_follow_their_runs(tasks, runs, sessions):
    ends = {"success": "succeeded", "cancelled": "cancelled", "interrupted": "lost"}
    for run in runs.values():
        task = tasks[run.task_id]
        assert (task.run_id, task.status) == (run.id, ends.get(run.status.value, "failed"))
    with_run = {run.task_id for run in runs.values()}
    assert {task.status for task in tasks.values() if task.task_id not in with_run} <= {Status.QUEUED}
    for session in sessions.values():
        assert session.valid is (runs[session.run_id].status is not RunStatus.INTERRUPTED)


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "rounds"), [("wal", 50), ("delete", 20)])
def test_after_each_sigkill_recovery_finds_exactly_what_was_in_flight(tmp_path, spawn, mode, rounds):
    place = tmp_path / "state"
    known = {"tasks": {}, "runs": {}, "sessions": {}}
    flagged = []
    recoverer = spawn(RECOVERER, place, mode)
    assert recoverer.stdout.readline() == "ready\n"
    with ledger.Ledger.open(place, journal_mode=mode) as opened, opened.workers.hold("bystander"):
        alive = opened.history.start(
            opened.tasks.create(runtime="cli", task="alive", owner_key="owner").task_id, worker_id="bystander"
        )
        opened.history.open_session(alive.id, "alive")
        for number in range(rounds):
            learn(known, lived(spawn, place, mode, number))
            before = {run.id: run for run in opened.history.list()}
            in_flight = {run_id for run_id, run in before.items() if run.status is RunStatus.RUNNING} - {alive.id}
            told_to_recover(recoverer)
            report = answer(recoverer)
            assert set(report["flagged"]) == in_flight
            assert report["said"] == report["flagged"]
            assert (report["agrees"], report["left"]) == (True, 1)
            flagged += report["flagged"]
            now = {run.id: run for run in opened.history.list()}
            assert set(now) == set(before)
            for run_id, run in now.items():
                if run_id in in_flight:
                    assert run.status is RunStatus.INTERRUPTED
                    assert (run.cost_usd, run.tokens_in, run.tokens_out) == (None, None, None)
                else:
                    assert run == before[run_id]
            assert opened.tasks.list_for_owner("owner") == opened.tasks.list_fresh_for_owner("owner")
        runs = {run.id: run for run in opened.history.list()}
        sessions = {session.session_id: session for session in opened.history.list_sessions()}
        tasks = {task.task_id: task for task in opened.tasks.list()}
    assert runs.pop(alive.id) == alive
    assert sessions.pop("alive").valid
    assert tasks.pop(alive.task_id).status is Status.RUNNING
    assert len(flagged) == len(set(flagged))
    assert {run_id for run_id, run in runs.items() if run.status is RunStatus.INTERRUPTED} == set(flagged)
    assert everything_acknowledged_is_there(known, tasks, runs, sessions) <= rounds
    tasks_and_sessions_follow_their_runs(tasks, runs, sessions)
    # The test means something only where both kinds are there in numbers.
    assert len(flagged) >= rounds // 3
    assert len(runs) - len(flagged) >= rounds // 3
    assert list((place / "workers").glob("worker-*")) == []


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_recovery_that_is_killed_flags_all_or_none(tmp_path, spawn, mode):
    """A sweep over its statements: killed before the nth, until it comes to its end."""
    seen = set()
    with ledger.Ledger.open(tmp_path / "state", journal_mode=mode) as opened:
        for last in range(1, 60):
            with opened.workers.hold(f"w{last}"), opened.batch():
                for _ in range(2):
                    task = opened.tasks.create(runtime="cli", task="work", owner_key="owner")
                    run = opened.history.start(task.task_id, worker_id=f"w{last}")
                    opened.history.open_session(run.id)
            ids = {run.id for run in opened.history.list(worker_id=f"w{last}")}
            child = spawn(DYING_RECOVERER, tmp_path / "state", mode, last)
            child.communicate(timeout=60)
            runs = [run for run in opened.history.list() if run.id in ids]
            sessions = [session for session in opened.history.list_sessions() if session.run_id in ids]
            statuses = {run.status for run in runs}
            assert len(statuses) == 1
            assert {opened.tasks.get(run.task_id).status is Status.LOST for run in runs} == {
                RunStatus.INTERRUPTED in statuses
            }
            assert {session.valid for session in sessions} == {RunStatus.RUNNING in statuses}
            seen |= statuses
            assert {run.id for run in opened.recover().interrupted} == (ids if RunStatus.RUNNING in statuses else set())
            if child.returncode == 0:
                break
            assert child.returncode == -signal.SIGKILL
        else:
            pytest.fail("the sweep never came to its end")
    assert seen == {RunStatus.RUNNING, RunStatus.INTERRUPTED}
    assert last >= 8


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_of_several_processes_that_recover_at_once_each_run_is_flagged_and_said_by_exactly_one(tmp_path, spawn, mode):
    place = tmp_path / "state"
    with ledger.Ledger.open(place, journal_mode=mode) as opened:
        recoverers = [spawn(RECOVERER, place, mode) for _ in range(3)]
        for child in recoverers:
            assert child.stdout.readline() == "ready\n"
        for number in range(4):
            child = spawn(LEAVE_IN_FLIGHT, place, mode, f"w{number}", 10)
            assert child.wait(timeout=60) == 0
            for child in recoverers:
                told_to_recover(child)
            reports = [answer(child) for child in recoverers]
            flagged = [run_id for report in reports for run_id in report["flagged"]]
            assert sorted(flagged) == sorted(f"w{number}-{run}" for run in range(10))
            for report in reports:
                assert report["said"] == report["flagged"]
                assert (report["agrees"], report["left"]) == (True, 0)
        assert {run.status for run in opened.history.list()} == {RunStatus.INTERRUPTED}
        assert not any(session.valid for session in opened.history.list_sessions())


def test_a_run_that_starts_while_another_process_recovers_is_never_taken_for_dead(tmp_path, spawn):
    place = tmp_path / "state"
    recoverer = spawn(RECOVERER, place, "wal")
    assert recoverer.stdout.readline() == "ready\n"
    with ledger.Ledger.open(place) as opened:
        for number in range(30):
            # It recovers while this process becomes a worker and starts.
            told_to_recover(recoverer)
            with opened.workers.hold(f"w{number}"):
                task = opened.tasks.create(runtime="cli", task="work", owner_key="owner")
                run = opened.history.start(task.task_id, worker_id=f"w{number}")
                assert answer(recoverer)["flagged"] == []
                opened.history.finish(run.id, "success")
        assert {run.status for run in opened.history.list()} == {RunStatus.SUCCESS}


def test_the_command_recovers_after_a_sigkill(tmp_path, spawn):
    place = tmp_path / "state"
    child = spawn(KILLED_IN_A_RUN, place)
    assert child.wait(timeout=60) == -signal.SIGKILL

    def command(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "tornpage.ledger", "--state-dir", str(place), *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout), done.stderr

    recovered, lines = command("recover", "--json")
    assert len(recovered["interrupted"]) == 1
    assert lines.count("[recovery] run ") == 1
    again, lines = command("runs", "recover", "--json")
    assert (again["interrupted"], lines) == ([], "")
    listed, _ = command("runs", "list", "--status", "interrupted", "--json")
    assert [run["id"] for run in listed["runs"]] == [run["id"] for run in reversed(recovered["interrupted"])]
