"""The commands ``ledger runs`` and ``ledger recover``: what they print and their exit codes."""

import json

import pytest
from click.testing import CliRunner

from tornpage import ledger
from tornpage.ledger.command import ledger_group


@pytest.fixture
def run(tmp_path):
    def call(*arguments):
        return CliRunner().invoke(ledger_group, ["--state-dir", str(tmp_path / "state"), *arguments])

    return call


@pytest.fixture
def filled(tmp_path):
    """Worker w1 is dead with r1 in flight; r2 is a success."""
    with ledger.Ledger.open(tmp_path / "state") as opened, opened.workers.hold("w1"):
        tasks = [opened.tasks.create(runtime="cli", task="x", owner_key="owner") for _ in range(2)]
        for number, task in enumerate(tasks, 1):
            opened.history.start(task.task_id, worker_id="w1", run_id=f"r{number}", agent="[red]agent")
            opened.history.open_session(f"r{number}", f"s{number}")
        opened.history.finish("r2", "success", cost_usd=0.5)
    return [task.task_id for task in tasks]


def test_runs_are_listed_newest_first_as_lines_or_as_json(run, filled):
    lines = [line.split("\t") for line in run("runs", "list").stdout.splitlines()]
    assert lines[0] == ["id", "status", "started", "finished", "worker", "agent", "task"]
    assert [(line[0], line[1], line[4], line[5], line[6]) for line in lines[1:]] == [
        ("r2", "success", "w1", "[red]agent", filled[1]),
        ("r1", "running", "w1", "[red]agent", filled[0]),
    ]
    document = json.loads(run("runs", "list", "--status", "running", "--json").stdout)
    assert (document["count"], [one["id"] for one in document["runs"]]) == (1, ["r1"])
    assert document["filters"] == {"status": "running", "task_id": None, "worker_id": None}
    assert json.loads(run("runs", "list", "--worker", "nobody", "--json").stdout)["count"] == 0
    assert json.loads(run("runs", "list", "--task", filled[0], "--json").stdout)["count"] == 1


def test_show_takes_a_run_or_a_task(run, filled):
    by_run, by_task = (json.loads(run("runs", "show", token, "--json").stdout) for token in ("r1", filled[0]))
    assert by_run == by_task
    assert (by_run["run"]["status"], by_run["worker_alive"]) == ("running", False)
    assert [one["session_id"] for one in by_run["sessions"]] == ["s1"]
    text = run("runs", "show", "r2").stdout
    assert "cost_usd               0.5" in text
    assert "worker                 dead" in text
    assert "session                s2 (valid)" in text
    result = run("runs", "show", "nobody")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no run is called 'nobody'" in result.stderr


@pytest.mark.parametrize("command", [["recover"], ["runs", "recover"]])
def test_recover_names_what_it_interrupted_and_twice_is_fine(run, filled, command, caplog):
    result = run(*command)
    assert result.exit_code == 0
    assert [line.split("\t")[:2] for line in result.stdout.splitlines()[1:]] == [["r1", "interrupted"]]
    assert "interrupted: 1, sessions invalidated: 1, left running: 0" in result.stderr
    assert [text.split(":")[0] for text in caplog.messages] == ["[recovery] run r1 interrupted"]
    again = json.loads(run(*command, "--json").stdout)
    assert again == {"interrupted": [], "sessions_invalidated": 0, "left_running": 0, "quarantined": []}
    assert json.loads(run("tasks", "show", filled[0], "--json").stdout)["status"] == "lost"
    assert "invalid: worker w1 died" in run("runs", "show", "r1").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["runs", "list", "--status", "exploded"], 2, "aborted_no_skill"),
        (["runs", "explode"], 2, "No such command"),
        (["recover", "now"], 2, "unexpected extra argument"),
        (["runs", "show"], 2, "Missing argument"),
    ],
)
def test_misuse_is_exit_code_2(run, arguments, code, says):
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr


def test_rows_that_cannot_be_read_are_named_on_standard_error(run, filled, tmp_path):
    with ledger.Ledger.open(tmp_path / "state") as opened:
        opened.database.connection.execute("UPDATE task_history SET artifacts = '{' WHERE id = 'r1'")
    result = run("runs", "list")
    assert (result.exit_code, "r1" in result.stdout) == (0, False)
    assert "quarantined: task_history r1" in result.stderr
    assert json.loads(run("recover", "--json").stdout)["quarantined"][0]["key"] == "r1"


@pytest.mark.parametrize("arguments", [["runs"], ["runs", "list"], ["runs", "show"], ["runs", "recover"], ["recover"]])
def test_every_level_explains_itself(arguments):
    result = CliRunner().invoke(ledger_group, [*arguments, "--help"])
    assert result.exit_code == 0
    assert "Usage: ledger" in result.stdout
