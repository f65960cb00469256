"""The command ``ledger``: what it prints, what it leaves in the ledger, and its exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tornpage import ledger
from tornpage.ledger.command import ledger_group


@pytest.fixture
def run(tmp_path):
    def call(*arguments, state_dir=tmp_path / "state"):
        return CliRunner().invoke(ledger_group, ["--state-dir", str(state_dir), "tasks", *arguments])

    return call


def created(run, *arguments):
    result = run("create", "water [red]plants", "--owner", "owner", *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def shown(run, token):
    return json.loads(run("show", token, "--json").stdout)


def test_a_task_goes_through_its_life_by_commands(run):
    task_id = created(run, "--run", "run")
    assert created(run, "--run", "run") == task_id
    assert shown(run, "run")["status"] == "queued"
    assert run("start", "run").exit_code == 0
    assert shown(run, task_id)["status"] == "running"
    assert run("notify", "run", "silent").exit_code == 0
    result = run("finish", "run", "failed", "--error", "no water", "--json")
    assert json.loads(result.stdout)["error"] == "no water"
    assert shown(run, task_id)["notify_policy"] == "silent"
    assert run("delete", "run").stdout == f"deleted {task_id}\n"
    assert run("show", "run").exit_code == 1


def test_lists_are_tab_separated_in_a_pipe_and_complete_in_json(run):
    first, second = created(run), created(run, "--runtime", "cron")
    lines = [line.split("\t") for line in run("list").stdout.splitlines()]
    assert [line[0] for line in lines] == ["id", second, first]
    assert lines[1][1:4] == ["cron", "queued", "owner"]
    assert lines[1][5] == "water [red]plants"
    document = json.loads(run("list", "--json", "--runtime", "cron", "--status", "queued").stdout)
    assert (document["count"], [task["task_id"] for task in document["tasks"]]) == (1, [second])
    assert document["filters"] == {"runtime": "cron", "status": "queued", "owner": None}
    assert json.loads(run("list", "--json", "--owner", "nobody").stdout)["count"] == 0


def test_a_terminal_gets_a_table_in_which_brackets_are_text(run, monkeypatch):
    task_id = created(run)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    output = run("list").stdout
    assert task_id in output
    assert "water [red]plants" in output


def test_show_leaves_out_what_is_absent(run):
    created(run)
    output = run("show", "owner").stdout
    assert "status                 queued" in output
    assert "ended_at" not in output


def test_cancel_works_for_cli_and_is_refused_for_what_is_controlled_elsewhere(run):
    mine, other = created(run), created(run, "--runtime", "acp")
    assert run("cancel", mine).exit_code == 0
    assert shown(run, mine)["status"] == "cancelled"
    result = run("cancel", other, "--json")
    assert (result.exit_code, json.loads(result.stdout)["cancelled"]) == (1, False)
    assert "not cancelled" in result.stderr
    assert shown(run, other)["status"] == "queued"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["show", "nobody"], 1, "no task, run or session is called 'nobody'"),
        (["finish", "owner", "succeeded"], 1, "succeeded is final"),
        (["list", "--status", "exploded"], 2, "timed_out"),
        (["finish", "owner", "running"], 2, "succeeded"),
        (["create", "x", "--scope", "session"], 2, "needs an owner"),
        (["explode"], 2, "No such command"),
    ],
)
def test_exit_codes_say_whether_it_was_refused_or_misused(run, arguments, code, says):
    created(run)
    run("finish", "owner", "succeeded")
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr


def test_a_store_that_cannot_be_used_is_a_message_and_exit_code_2(run, tmp_path):
    place = tmp_path / "file"
    place.write_text("x")
    result = run("list", state_dir=place)
    assert result.exit_code == 2
    assert "is not a directory" in result.stderr


def test_a_shared_directory_is_refused_and_left_as_it_is(run, tmp_path):
    tmp_path.chmod(0o1777)
    result = run("list", state_dir=tmp_path)
    assert (result.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert "is shared by all users" in result.stderr
    assert tmp_path.stat().st_mode & 0o7777 == 0o1777


def test_a_directory_of_another_user_is_refused_and_left_as_it_is(run, tmp_path, monkeypatch):
    place = tmp_path / "theirs"
    place.mkdir(mode=0o755)
    monkeypatch.setattr(os, "geteuid", lambda: place.stat().st_uid + 1)
    result = run("list", state_dir=place)
    assert (result.exit_code, list(place.iterdir())) == (2, [])
    assert "belongs to user" in result.stderr
    assert place.stat().st_mode & 0o777 == 0o755


def test_rows_that_cannot_be_read_are_named_on_standard_error(run, tmp_path):
    task_id = created(run)
    with ledger.Ledger.open(tmp_path / "state") as opened:
        opened.database.connection.execute("PRAGMA ignore_check_constraints = 1")
        opened.database.connection.execute("UPDATE tasks SET status = 'exploded'")
    result = run("list")
    assert (result.exit_code, task_id in result.stdout) == (0, False)
    assert f"quarantined: tasks {task_id}: Invalid enum value 'exploded'" in result.stderr


@pytest.mark.parametrize(
    "command", [["show"], ["start"], ["finish", "failed"], ["cancel"], ["notify", "silent"], ["delete"]]
)
def test_a_task_that_cannot_be_read_is_refused_and_no_other_one_is_meant(run, tmp_path, command):
    bad = created(run)
    other = created(run, "--run", bad)
    with ledger.Ledger.open(tmp_path / "state") as opened:
        opened.database.connection.execute("UPDATE tasks SET created_at = 'soon' WHERE task_id = ?", (bad,))
    name, *more = command
    result = run(name, f" {bad} ", *more)
    assert (result.exit_code, "can't be read" in result.stderr) == (1, True)
    assert shown(run, other)["status"] == "queued"


@pytest.mark.parametrize("arguments", [[], ["tasks"], ["tasks", "create"], ["tasks", "finish"], ["tasks", "cancel"]])
def test_every_level_explains_itself(arguments):
    result = CliRunner().invoke(ledger_group, [*arguments, "--help"])
    assert result.exit_code == 0
    assert "Usage: ledger" in result.stdout


def test_python_dash_m_runs_it(tmp_path):
    def call(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "tornpage.ledger", "--state-dir", str(tmp_path / "state"), *arguments],
            cwd=Path(ledger.__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )

    made = call("tasks", "create", "x", "--owner", "owner")
    assert (made.returncode, made.stderr) == (0, "")
    listed = call("tasks", "list")
    assert made.stdout.strip() in listed.stdout
    assert call("tasks", "show", "nobody").returncode == 1
