"""The audit of a large ledger from the command line: how much the first page takes of Python's work, and of memory.

The work is counted in calls of functions, which are as many on a busy machine. The bounds are a multiple of what was
measured (20 calls for a task, and 3 MiB above an empty ledger), so that an audit that restores the ledger (200 MiB)
fails, and so does one that looks at other tasks for each task.
"""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tornpage import ledger
from tornpage.ledger.disk.rows import TASKS
from tornpage.ledger.records import Status

TASK_COUNT = 100_000
AUDIT = """
import json, resource, sys
from tornpage.ledger.command import ledger_group

calls = 0


def count(frame, event, argument):
    global calls
    calls += event in ("call", "c_call")


sys.setprofile(count)
try:
    ledger_group(["--state-dir", sys.argv[1], "tasks", "audit", "--json", "--limit", "20"], prog_name="ledger")
finally:
    sys.setprofile(None)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, calls, file=sys.stderr)
"""


def audited(state_dir):
    """The report, the peak of resident memory in KiB and the calls of functions that it took."""
    done = subprocess.run(
        [sys.executable, "-c", AUDIT, str(state_dir)],
        cwd=Path(ledger.__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    memory_kib, calls = map(int, done.stderr.split()[-2:])
    return json.loads(done.stdout), memory_kib, calls


@pytest.mark.slow
def test_the_first_page_of_100_000_tasks_comes_without_loading_them(tmp_path):
    large, empty = tmp_path / "large", tmp_path / "empty"
    ledger.Ledger.open(empty).close()
    with ledger.Ledger.open(large) as opened:
        one = opened.tasks.create(runtime="cli", task="water the plants " * 4, owner_key="owner", status="lost")
        # Inserted past the ledger, which would take a durable transaction or a large batch for the same rows.
        connection = opened.database.connection
        connection.execute("BEGIN")
        connection.executemany(
            TASKS.insert,
            (
                TASKS.parameters(
                    TASKS.encode(
                        msgspec.structs.replace(
                            one, task_id=f"task-{number}", status=list(Status)[number % 7], created_at=number
                        )
                    )
                )
                for number in range(TASK_COUNT - 1)
            ),
        )
        connection.execute("COMMIT")
    _, memory_of_none, calls_for_none = audited(empty)
    report, memory, calls = audited(large)
    assert report["summary"]["by_code"]["lost"] > TASK_COUNT // 7
    assert report["displayed"] == 20
    assert memory - memory_of_none < 16 * 1024
    assert calls - calls_for_none < 40 * TASK_COUNT
