"""Two processes that each change one ledger 2,000 times: no update is lost, and both memories equal disk at the end.

Each process has work of its own, whose end it can foretell exactly, and shares tasks with the other one in three ways:
tasks of which each writes other fields (a write from a stale cache would take the other's back), tasks that both try to
end, and tasks that both try to delete (exactly one may succeed).

Only a documented BUSY may fail a call: SQLite's locks are not fair, and on a slow disk the busy timeout may pass while
the other process commits again and again. In a rollback mode there are fewer mutations, since each takes several syncs.
"""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tornpage import ledger

ROOT = Path(ledger.__file__).parents[2]
SHARED, RACED = 20, 120

# Arguments: state directory, journal mode, name (a or b), numbers of mutations, of shared tasks and of raced ones.
MUTATOR = """
import json, random, sys; from tornpage import ledger

state_dir, mode, name = sys.argv[1:4]
wanted, shared_tasks, raced_tasks = map(int, sys.argv[4:])
choose = random.Random(name)
opened = ledger.Ledger.open(state_dir, journal_mode=mode)
worker = opened.workers.hold(name)
tasks, history = opened.tasks, opened.history
expected = {}       # own tasks: id to the fields foretold, None when deleted
runs = {}           # own runs: id to status and cost
in_flight = []
shared = {"policy": {}, "progress": {}, "origin": {}, "notified": {}}
won = {"ended": [], "deleted": []}
count = busy = 0

def attempt(call, *arguments, **options):
    # One mutation; a BUSY is tried again, a refusal is an answer, anything else ends the test.
    global count, busy
    while True:
        try:
            answer = call(*arguments, **options)
        except ledger.StoreBusy as error:
            assert (error.outcome, error.retryable) == ("unchanged", True)
            busy += 1
            continue
        except (ledger.IllegalTransition, ledger.NotFound):
            return None
        count += 1
        return answer

def new_task():
    task = attempt(tasks.create, runtime="cli", task="own", owner_key=name, requester_origin={"by": name})
    expected[task.task_id] = {"status": "queued"}
    return task.task_id

def begin():
    task_id = new_task()
    run = attempt(history.start, task_id, worker_id=name, model=name)
    expected[task_id].update(status="running", run_id=run.id)
    attempt(history.open_session, run.id)
    runs[run.id] = ("running", None)
    in_flight.append(run)

def end():
    if not in_flight:
        return begin()
    run = in_flight.pop(choose.randrange(len(in_flight)))
    cost = choose.randrange(100) / 4
    status, task_status = choose.choice([("success", "succeeded"), ("failure", "failed"), ("cancelled", "cancelled")])
    attempt(history.finish, run.id, status, cost_usd=cost)
    runs[run.id] = (status, cost)
    expected[run.task_id]["status"] = task_status

def together():
    # A task, its run, and the run's end in one transaction.
    global count
    def all_of_it():
        with opened.batch():
            task = tasks.create(runtime="cli", task="own", owner_key=name)
            run = history.start(task.task_id, worker_id=name)
            history.finish(run.id, "success", cost_usd=1)
        return run
    run = attempt(all_of_it)
    count += 2
    runs[run.id] = ("success", 1.0)
    expected[run.task_id] = {"status": "succeeded", "run_id": run.id}

def drop():
    gone = attempt(tasks.delete, new_task())
    expected[gone.task_id] = None

def touch_own():
    task_id = choose.choice([one for one, fields in expected.items() if fields is not None] or [new_task()])
    text = f"{name} {count}"
    attempt(tasks.progress, task_id, text)
    expected[task_id]["progress_summary"] = text

def touch_shared():
    task_id = f"shared-{choose.randrange(shared_tasks)}"
    if name == "a":
        policy = choose.choice(["done_only", "state_changes", "silent"])
        attempt(tasks.set_notify_policy, task_id, policy)
        shared["policy"][task_id] = policy
        attempt(tasks.set_delivery_state, task_id, requester_origin={"n": count})
        shared["origin"][task_id] = {"n": count - 1}
    else:
        attempt(tasks.progress, task_id, f"step {count}")
        shared["progress"][task_id] = f"step {count - 1}"
        attempt(tasks.set_delivery_state, task_id, last_notified_event_at=count)
        shared["notified"][task_id] = count - 1

def race():
    number = choose.randrange(raced_tasks)
    if attempt(tasks.finish, f"raced-{number}", "succeeded" if name == "a" else "failed"):
        won["ended"].append(number)
    if attempt(tasks.delete, f"doomed-{number}"):
        won["deleted"].append(number)

def look():
    # Reading now and then makes the memory follow the other process's changes.
    assert tasks.list_for_owner(name) == tasks.list_fresh_for_owner(name)

actions = [begin, end, end, together, drop, touch_own, touch_shared, touch_shared, race]
print("ready", flush=True)
sys.stdin.readline()
steps = 0
while count < wanted:
    choose.choice(actions)()
    steps += 1
    if steps % 40 == 0:
        look()
print(json.dumps({"expected": expected, "runs": runs, "shared": shared, "won": won, "count": count, "busy": busy}),
      flush=True)
sys.stdin.readline()
import msgspec
view = [msgspec.to_builtins(task) for task in tasks.list()]
states = {task["task_id"]: msgspec.to_builtins(tasks.get_delivery(task["task_id"])) for task in view}
mine = [[task.task_id for task in of(key)] for of, key in ((tasks.list_for_owner, "a"), (tasks.list_for_owner, "b"))]
print(json.dumps({"tasks": view, "states": states, "owners": mine}), flush=True)
sys.stdin.readline()
opened.close()
"""


def as_json(record):
    return msgspec.json.encode(record).decode()


def tell(children):
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()


def answers(children):
    return [json.loads(child.stdout.readline()) for child in children]


@pytest.fixture
def children(tmp_path, request):
    place, (mode, mutations) = tmp_path / "state", request.param
    kinds = (("shared", SHARED), ("raced", RACED), ("doomed", RACED))
    ids = [f"{kind}-{number}" for kind, many in kinds for number in range(many)]
    with ledger.Ledger.open(place, journal_mode=mode, new_id=iter(ids).__next__) as opened, opened.batch():
        for _ in ids:
            opened.tasks.create(runtime="cli", task="x", owner_key="both")
    started = [
        subprocess.Popen(
            [sys.executable, "-c", MUTATOR, str(place), mode, name, str(mutations), str(SHARED), str(RACED)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "ab"
    ]
    yield started
    for child in started:
        child.kill()
        child.communicate(timeout=60)


def check_own_work(opened, report):
    """What each process foretold of its own tasks and runs is what is there."""
    for task_id, fields in report["expected"].items():
        task = opened.tasks.get(task_id)
        if fields is None:
            assert task is None
        else:
            assert {name: getattr(task, name) for name in fields} == fields
    runs = {run.id: run for run in opened.history.list()}
    for run_id, (status, cost) in report["runs"].items():
        assert (runs[run_id].status, runs[run_id].cost_usd) == (status, cost)


def check_shared_work(opened, reports):
    """Of each shared task, the fields that each process wrote last are there side by side."""
    by_a, by_b = (report["shared"] for report in reports)
    for number in range(SHARED):
        task_id = f"shared-{number}"
        task = opened.tasks.get(task_id)
        state = opened.tasks.get_delivery(task_id) or ledger.DeliveryState(task_id)
        assert task.notify_policy == by_a["policy"].get(task_id, "done_only")
        assert task.progress_summary == by_b["progress"].get(task_id)
        assert state.requester_origin == by_a["origin"].get(task_id)
        assert state.last_notified_event_at == by_b["notified"].get(task_id)
    # The test means something only where many were written by both.
    assert len(set(by_a["policy"]) & set(by_b["progress"])) > SHARED / 2


def check_races(opened, reports):
    """Each raced task was ended by one process, and each doomed one deleted by one, and it stayed so."""
    for kind in ("ended", "deleted"):
        every = [number for report in reports for number in report["won"][kind]]
        assert len(every) == len(set(every))
        assert all(report["won"][kind] for report in reports)
    for report, status in zip(reports, ("succeeded", "failed"), strict=True):
        assert {opened.tasks.get(f"raced-{number}").status for number in report["won"]["ended"]} == {status}
        assert {opened.tasks.get(f"doomed-{number}") for number in report["won"]["deleted"]} == {None}


@pytest.mark.slow
@pytest.mark.parametrize("children", [("wal", 2000), ("delete", 300)], indirect=True)
def test_two_processes_change_one_ledger_many_times_each_and_lose_nothing(children, tmp_path):
    for child in children:
        assert child.stdout.readline() == "ready\n"
    tell(children)
    reports = answers(children)
    assert all(report["count"] >= int(child.args[6]) for report, child in zip(reports, children, strict=True))
    tell(children)
    views = answers(children)
    tell(children)
    assert [child.wait(timeout=60) for child in children] == [0, 0]
    assert views[0] == views[1]
    mode = children[0].args[4]
    with ledger.Ledger.open(tmp_path / "state", journal_mode=mode) as opened:
        disk = [json.loads(as_json(task)) for task in opened.tasks.list()]
        assert disk == views[0]["tasks"]
        states = {task["task_id"]: json.loads(as_json(opened.tasks.get_delivery(task["task_id"]))) for task in disk}
        assert states == views[0]["states"]
        for report in reports:
            check_own_work(opened, report)
        check_shared_work(opened, reports)
        check_races(opened, reports)
        own = {run_id for report in reports for run_id in report["runs"]}
        assert {run.id for run in opened.history.list()} == own
        known = {task_id for report in reports for task_id, fields in report["expected"].items() if fields is not None}
        assert {task["task_id"] for task in disk if task["owner_key"] != "both"} == known
        # Both are gone now: what they left in flight is found, all of it and nothing else.
        left = {run_id for report in reports for run_id, (status, _) in report["runs"].items() if status == "running"}
        assert {run.id for run in opened.recover().interrupted} == left
        assert opened.database.connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
