"""Several real processes on one ledger: nobody overwrites anybody, and what was acknowledged survives SIGKILL."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tornpage import ledger

ROOT = Path(ledger.__file__).parents[2]

OPEN_AND_CREATE = """
import sys; from tornpage import ledger
with ledger.Ledger.open(sys.argv[1], journal_mode=sys.argv[2]) as opened:
    sys.stdin.readline()
    for number in range(20):
        opened.tasks.create(runtime="cli", task=f"{sys.argv[3]}/{number}", owner_key="owner")
    print(len(opened.tasks.list()))
"""

RACE_TO_THE_END = """
import json, sys; from tornpage import ledger
won = []
with ledger.Ledger.open(sys.argv[1], journal_mode=sys.argv[2]) as opened:
    tasks = sorted(task.task_id for task in opened.tasks.list())
    print("ready", flush=True)
    sys.stdin.readline()
    for task_id in tasks:
        try:
            opened.tasks.finish(task_id, sys.argv[3])
            won.append(task_id)
        except ledger.IllegalTransition:
            pass
    view = {task.task_id: task.status.value for task in opened.tasks.list()}
print(json.dumps({"won": won, "view": view}))
"""

ACKNOWLEDGE = """
import sys; from tornpage import ledger
opened = ledger.Ledger.open(sys.argv[1], journal_mode=sys.argv[2])
while True:
    task = opened.tasks.create(runtime="cli", task="work", owner_key="owner", requester_origin={"n": 1})
    print("created", task.task_id, flush=True)
    opened.tasks.finish(task.task_id, "succeeded")
    print("ended", task.task_id, flush=True)
    gone = opened.tasks.create(runtime="cli", task="gone", owner_key="owner", requester_origin={"n": 2})
    opened.tasks.delete(gone.task_id)
    print("deleted", gone.task_id, flush=True)
"""


def spawn(script, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_processes_that_make_a_new_ledger_at_once_all_succeed(tmp_path, mode):
    children = [spawn(OPEN_AND_CREATE, tmp_path / "state", mode, name) for name in "abc"]
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        child.communicate(timeout=60)
        assert child.returncode == 0
    with ledger.Ledger.open(tmp_path / "state", journal_mode=mode) as opened:
        assert len({task.task for task in opened.tasks.list()}) == 60
        assert opened.tasks.list_for_owner("owner") == opened.tasks.list_fresh_for_owner("owner")


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_two_processes_that_end_the_same_tasks_agree_on_who_did(tmp_path, mode):
    with ledger.Ledger.open(tmp_path / "state", journal_mode=mode) as opened:
        with opened.batch():
            for number in range(60):
                opened.tasks.create(runtime="cli", task=str(number), owner_key="owner")
        statuses = ("succeeded", "cancelled")
        children = {status: spawn(RACE_TO_THE_END, tmp_path / "state", mode, status) for status in statuses}
        for child in children.values():
            assert child.stdout.readline() == "ready\n"
        for child in children.values():
            child.stdin.write("go\n")
            child.stdin.flush()
        reports = {status: json.loads(child.communicate(timeout=60)[0]) for status, child in children.items()}
        final = {task.task_id: task.status.value for task in opened.tasks.list()}
    expected = {task_id: status for status, report in reports.items() for task_id in report["won"]}
    assert sum(len(report["won"]) for report in reports.values()) == 60
    assert final == expected
    # Each saw, at its own end, only ends that became final.
    for report in reports.values():
        assert all(final[task_id] == status for task_id, status in report["view"].items() if status != "queued")


@pytest.mark.parametrize("mode", ["wal", "delete", "truncate", "persist"])
def test_what_was_acknowledged_survives_sigkill_and_what_was_deleted_stays_so(tmp_path, mode):
    said = {"created": [], "ended": [], "deleted": []}
    for _ in range(3):
        child = spawn(ACKNOWLEDGE, tmp_path / "state", mode)
        for _ in range(31):
            what, task_id = child.stdout.readline().split()
            said[what].append(task_id)
        child.send_signal(signal.SIGKILL)
        # What `readline` has read ahead would be lost to `communicate`.
        with child:
            rest = child.stdout.read()
        for line in rest.splitlines(keepends=True):
            if line.endswith("\n"):
                what, task_id = line.split()
                said[what].append(task_id)
        assert child.returncode == -signal.SIGKILL
        with ledger.Ledger.open(tmp_path / "state", journal_mode=mode) as opened:
            status = {task.task_id: task.status.value for task in opened.tasks.list()}
            assert set(said["created"]) <= set(status)
            assert {status[task_id] for task_id in said["ended"]} == {"succeeded"}
            assert not set(said["deleted"]) & set(status)
            assert opened.tasks.list_for_owner("owner") == opened.tasks.list_fresh_for_owner("owner")
