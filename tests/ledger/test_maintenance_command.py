"""``ledger tasks maintenance``: a preview that writes nothing, and what --apply does."""

import json
import time

import pytest
from click.testing import CliRunner

from tornpage import ledger
from tornpage.ledger.command import ledger_group
from tornpage.ledger.rules.times import RETENTION_MS


@pytest.fixture
def state_dir(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def run(state_dir):
    def call(*arguments):
        return CliRunner().invoke(ledger_group, ["--state-dir", str(state_dir), "tasks", "maintenance", *arguments])

    return call


@pytest.fixture
def ids(state_dir):
    """One task whose worker is dead, one to prune, one to stamp, and one with which nothing is wrong."""
    now = [time.time_ns() // 1_000_000 - RETENTION_MS]
    with ledger.Ledger.open(state_dir, clock=lambda: now[0]) as opened:

        def make(**fields):
            return opened.tasks.create(runtime="cli", task="water", owner_key="owner", **fields).task_id

        made = {"lost": make(), "pruned": make(status="failed"), "stamped": make(status="failed")}
        with opened.workers.hold() as worker:
            opened.history.start(made["lost"], worker_id=worker.id)
        now[0] += RETENTION_MS
        made["kept"] = make(status="failed")
        opened.database.connection.execute(
            "UPDATE tasks SET cleanup_after = NULL WHERE task_id = ?", (made["stamped"],)
        )
    return made


def statuses(state_dir):
    with ledger.Ledger.open(state_dir) as opened:
        return {task.task_id: task.status.value for task in opened.tasks.list()}


def test_a_preview_says_what_would_be_done_and_writes_nothing(run, ids, state_dir):
    before, content = statuses(state_dir), (state_dir / "ledger.sqlite").read_bytes()
    result = run()
    assert result.exit_code == 0
    assert result.stdout == (
        "Task maintenance would do: 1 mark lost · 1 prune · 1 stamp; nothing was written, --apply does it\n"
    )
    assert json.loads(run("--json").stdout) == {
        "applied": False,
        "reconciled": 1,
        "pruned": 1,
        "stamped": 1,
        "checkpointed": None,
    }
    assert (state_dir / "ledger.sqlite").read_bytes() == content
    assert statuses(state_dir) == before


def test_apply_does_it_and_then_nothing_is_left_to_do(run, ids, state_dir):
    result = run("--apply")
    assert (result.exit_code, result.stdout) == (
        0,
        "Task maintenance: 1 marked lost · 1 pruned · 1 stamped\n",
    )
    assert statuses(state_dir) == {ids["lost"]: "lost", ids["stamped"]: "failed", ids["kept"]: "failed"}
    # What was stamped is long over, so the next pass prunes it.
    assert json.loads(run("--apply", "--json").stdout) == {
        "applied": True,
        "reconciled": 0,
        "pruned": 1,
        "stamped": 0,
        "checkpointed": True,
    }
    assert run().stdout == "Task maintenance would do: 0 mark lost · 0 prune · 0 stamp\n"


def test_where_there_is_no_ledger_a_preview_makes_none(run, state_dir):
    assert run().stdout.startswith("Task maintenance would do: 0 mark lost")
    assert not state_dir.exists()


@pytest.mark.parametrize("arguments", [[], ["--apply"]])
def test_a_store_that_fails_ends_with_2(run, state_dir, arguments):
    state_dir.write_text("a file")
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is not a directory" in result.stderr


def test_misuse_ends_with_2_and_help_explains(run):
    assert run("--explode").exit_code == 2
    assert "--apply" in run("--help").stdout
