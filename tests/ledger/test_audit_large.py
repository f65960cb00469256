"""The audit of a large ledger from the command line: how long the first page takes, and how much memory.

The bounds are several times what was measured (0.45 s and 3 MiB above an empty ledger), so that a busy machine passes
and an audit that restores the ledger (200 MiB) doesn't.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from tornpage import ledger
from tornpage.ledger.records import Status
from tornpage.ledger.rows import TASKS

TASK_COUNT = 100_000
AUDIT = """
import json, resource, sys
from tornpage.ledger.command import ledger_group
try:
    ledger_group(["--state-dir", sys.argv[1], "tasks", "audit", "--json", "--limit", "20"], prog_name="ledger")
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def audited(state_dir):
    """The report, the peak of resident memory in KiB and the seconds it took."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", AUDIT, str(state_dir)],
        cwd=Path(ledger.__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout), int(done.stderr.split()[-1]), time.monotonic() - started


@pytest.mark.slow
def test_the_first_page_of_100_000_tasks_comes_at_once_and_without_loading_them(tmp_path):
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
    _, memory_of_none, _ = audited(empty)
    report, memory, seconds = audited(large)
    assert report["summary"]["by_code"]["lost"] > TASK_COUNT // 7
    assert report["displayed"] == 20
    assert memory - memory_of_none < 16 * 1024
    assert seconds < 5
