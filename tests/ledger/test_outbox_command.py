"""The commands under ``ledger outbox``: what they print, what they leave behind, and their exit codes."""

import json
import os
import select
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tornpage import ledger
from tornpage.ledger.command import ledger_group

RECEIVER = """
import json, os, pathlib, signal, sys
place = pathlib.Path(sys.argv[1])
envelope = json.load(sys.stdin)
with place.open("a") as file:
    file.write(json.dumps(envelope) + "\\n")
print("this goes nowhere")
what = envelope["payload"]
if what == "signal":
    os.kill(os.getpid(), signal.SIGTERM)
if what == "hang":
    signal.pause()
if what != "fine":
    print("x" * 10_000, "because of", what, file=sys.stderr)
    sys.exit({"later": 75, "one": 1}.get(what, 3))
"""


@pytest.fixture
def run(tmp_path):
    def call(*arguments):
        return CliRunner().invoke(ledger_group, ["--state-dir", str(tmp_path / "state"), "outbox", *arguments])

    return call


@pytest.fixture
def receiver(tmp_path):
    """A command line for RECEIVER, whose words hold spaces, and the file that it writes to."""
    script = tmp_path / "my receiver.py"
    script.write_text(RECEIVER)
    place = tmp_path / "received so far"
    place.touch()
    return f"'{sys.executable}' '{script}' '{place}'", place


def enqueued(run, payload, *options):
    result = run("enqueue", "mail", "me", json.dumps(payload), *options)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def shown(run, message_id):
    return json.loads(run("show", message_id, "--json").stdout)


def test_a_program_gets_every_message_as_json_and_answers_by_its_exit_code(run, receiver):
    command, place = receiver
    ids = {what: enqueued(run, what, "--key", f"key-{what}") for what in ("fine", "later", "one", "three", "signal")}
    result = run("recover", "--deliver-command", command, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    done = json.loads(result.stdout)
    assert (done["recovered"], done["failed"], done["over_budget"]) == (1, 4, 0)
    found = {what: shown(run, message_id) for what, message_id in ids.items()}
    assert {what: one["status"] for what, one in found.items()} == {
        "fine": "delivered",
        "later": "failed_retryable",
        "one": "failed_terminal",
        "three": "failed_terminal",
        "signal": "failed_retryable",
    }
    assert found["later"]["last_error"].startswith("the deliver command ended with exit code 75: xxx")
    assert found["later"]["last_error"].endswith("because of later")
    assert len(found["later"]["last_error"]) < 2100
    assert "exit code 3" in found["three"]["terminal_reason"]
    assert found["signal"]["last_error"] == "the deliver command died of SIGTERM"
    received = [json.loads(line) for line in place.read_text().splitlines()]
    assert [one["idempotency_key"] for one in received] == [f"key-{what}" for what in ids]
    assert received[0] == {
        "id": ids["fine"], "idempotency_key": "key-fine", "turn_id": None, "channel": "mail", "account_id": None,
        "target": "me", "dispatch_kind": None, "payload": "fine", "queued_at": found["fine"]["queued_at"], "attempt": 1,
    }  # fmt: skip


def test_a_program_that_hangs_is_killed_and_the_message_tried_again(run, receiver):
    message_id = enqueued(run, "hang")
    result = run("recover", "--deliver-command", receiver[0], "--timeout-ms", "300")
    assert result.exit_code == 0
    now = shown(run, message_id)
    assert (now["status"], now["last_error"]) == (
        "failed_retryable",
        "the deliver command gave no answer within 300 ms",
    )


def test_a_program_that_hangs_is_killed_with_its_children(run, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        enqueued(run, "hang")
        run("recover", "--deliver-command", f"sh -c 'sleep 60 > {fifo} & wait'", "--timeout-ms", "300")
        # The end of the file comes when the last process that could write is gone.
        assert select.select([reader], [], [], 30)[0]
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)


def test_what_a_program_prints_is_not_what_the_command_prints(run, capfd):
    enqueued(run, "noise")
    assert run("recover", "--deliver-command", "echo noise", "--json").exit_code == 0
    assert "noise" not in "".join(capfd.readouterr())


def test_a_program_that_reads_nothing_delivers_all_the_same(run):
    message_id = enqueued(run, "x" * 200_000)
    assert run("recover", "--deliver-command", "true").exit_code == 0
    assert shown(run, message_id)["status"] == "delivered"


def test_no_shell_looks_at_the_command(run, tmp_path):
    enqueued(run, "x")
    run("recover", "--deliver-command", f"true ; touch {tmp_path / 'made'}")
    assert not (tmp_path / "made").exists()


def test_a_program_that_vanishes_or_breaks_fails_softly(run, tmp_path):
    script = tmp_path / "broken"
    script.write_text("#!/nowhere/at/all\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    message_id = enqueued(run, "x")
    assert run("recover", "--deliver-command", str(script)).exit_code == 0
    now = shown(run, message_id)
    assert (now["status"], "could not be started" in now["last_error"]) == ("failed_retryable", True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["recover"], "--deliver-command"),
        (["recover", "--deliver-command", ""], "is empty"),
        (["recover", "--deliver-command", "'unfinished"], "can't be split"),
        (["recover", "--deliver-command", "no-such-program-anywhere x"], "not a program"),
        (["recover", "--deliver-command", "true", "--budget-ms", "nan"], "budget_ms"),
        (["recover", "--deliver-command", "true", "--max-age-ms", "0"], "max_age_ms"),
        (["recover", "--deliver-command", "true", "--timeout-ms", "0"], "timeout-ms"),
        (["prune"], "--age-ms"),
        (["prune", "--age-ms", "0"], "more than 0"),
        (["prune", "--age-ms", "-5"], "more than 0"),
        (["prune", "--age-ms", "nan"], "finite"),
        (["prune", "--age-ms", "inf"], "finite"),
        (["prune", "--age-ms", "week"], "valid float"),
        (["list", "--status", "exploded"], "failed_retryable"),
        (["enqueue", "mail", "me", "{"], "PAYLOAD must be JSON"),
        (["enqueue", "mail", "me", "NaN"], "PAYLOAD must be JSON"),
        (["enqueue", "mail", "me", '{"a": 1, "a": 2}'], "two keys are 'a'"),
        (["enqueue", "mail", " ", "1"], "target must not be blank"),
        (["import", "/nowhere/at/all"], "there is no directory"),
        (["explode"], "No such command"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_leaves_everything_as_it_was(run, arguments, says):
    message_id = enqueued(run, "x")
    before = shown(run, message_id)
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr
    assert shown(run, message_id) == before
    assert len(json.loads(run("list", "--json").stdout)["messages"]) == 1


def test_what_is_not_there_is_exit_code_1(run):
    result = run("show", "nobody")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "there is no message 'nobody'" in result.stderr


def test_lists_are_tab_separated_in_a_pipe_and_complete_in_json(run):
    first, second = enqueued(run, {"n": 10**30}), enqueued(run, "x", "--kind", "final")
    lines = [line.split("\t") for line in run("list").stdout.splitlines()]
    assert [line[0] for line in lines] == ["id", first, second]
    assert lines[1][1:5] == ["mail", "me", "queued", "0"]
    document = json.loads(run("list", "--json", "--status", "queued", "--channel", "mail").stdout)
    assert [one["payload"] for one in document["messages"]] == [{"n": 10**30}, "x"]
    assert document["filters"] == {"status": "queued", "channel": "mail"}
    assert json.loads(run("list", "--json", "--channel", "chat").stdout)["count"] == 0


def test_the_same_key_prints_the_same_id(run):
    assert enqueued(run, 1, "--key", "k") == enqueued(run, 2, "--key", "k")
    assert run("show", enqueued(run, 3, "--key", "k")).stdout.count("\n") >= 8


def test_show_prints_what_is_there_and_a_payload_that_is_not_json_as_text(run, tmp_path):
    message_id = enqueued(run, {"a": 1})
    output = run("show", message_id).stdout
    assert 'payload                {"a":1}' in output
    assert "delivered_at" not in output
    assert "queued_at              20" in output
    with ledger.Ledger.open(tmp_path / "state") as opened:
        opened.database.connection.execute("UPDATE message_outbox SET payload = '{'")
    document = shown(run, message_id)
    assert (document["payload"], "can't be parsed" in document["payload_error"]) == ("{", True)


def test_rows_that_cannot_be_read_are_named_on_standard_error(run, tmp_path):
    message_id = enqueued(run, 1)
    with ledger.Ledger.open(tmp_path / "state") as opened:
        opened.database.connection.execute("PRAGMA ignore_check_constraints = 1")
        opened.database.connection.execute("UPDATE message_outbox SET status = 'exploded'")
    result = run("list")
    assert (result.exit_code, message_id in result.stdout) == (0, False)
    assert f"quarantined: message_outbox {message_id}: Invalid enum value 'exploded'" in result.stderr
    assert run("show", message_id).exit_code == 1


def test_prune_deletes_what_ended_long_ago_in_as_many_steps_as_it_takes(run, tmp_path, monkeypatch):
    monkeypatch.setattr("tornpage.ledger.command.outbox._PRUNE_STEP", 2)
    with ledger.Ledger.open(tmp_path / "state", clock=lambda: 1_000_000) as opened:
        for _ in range(5):
            opened.outbox.ack(opened.outbox.enqueue(channel="c", target="t", payload=1).id)
    enqueued(run, 1)
    assert run("prune", "--age-ms", "1e15").stdout == "pruned 0\n"
    assert json.loads(run("prune", "--age-ms", "3600000", "--json").stdout) == {"pruned": 5}
    assert json.loads(run("list", "--json").stdout)["count"] == 1


def test_import_takes_files_over_and_says_which_stay(run, tmp_path):
    queue = tmp_path / "queue"
    queue.mkdir()
    for name in ("a", "b"):
        (queue / f"{name}.json").write_text(json.dumps({"id": name, "channel": "c", "to": "t"}))
    result = run("import", str(queue))
    assert (result.exit_code, result.stdout) == (0, "imported 2, known before 0, files removed 2\n")
    (queue / "bad.json").write_text("{")
    result = run("import", str(queue), "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["problems"][0]["file"] == "bad.json"
    assert "bad.json: not imported: it is not JSON" in result.stderr
    assert f"files still in {queue}: 1" in result.stderr


@pytest.mark.parametrize("command", [[], ["recover"], ["prune"], ["import"], ["enqueue"], ["list"], ["show"]])
def test_every_level_explains_itself(run, command):
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Usage: ledger outbox" in result.stdout


def test_python_dash_m_delivers_by_a_real_program_and_loads_nothing_of_the_harness(tmp_path, receiver):
    command, place = receiver
    arguments = ["--state-dir", str(tmp_path / "state"), "outbox"]

    def call(*rest, **options):
        return subprocess.run(
            [sys.executable, *options.get("flags", []), "-m", "tornpage.ledger", *arguments, *rest],
            cwd=Path(ledger.__file__).parents[2], capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": ""},
        )  # fmt: skip

    made = call("enqueue", "mail", "me", '"fine"')
    assert (made.returncode, made.stderr) == (0, "")
    sent = call("recover", "--deliver-command", command, "--json", flags=["-X", "importtime"])
    assert json.loads(sent.stdout)["recovered"] == 1
    loaded = {line.rsplit("|", 1)[-1].strip() for line in sent.stderr.splitlines()}
    assert "tornpage.ledger" in loaded
    assert not loaded & {"pytest", "hypothesis", "tornpage.faults", "tornpage.scenarios", "_pytest"}
    assert json.loads(place.read_text())["id"] == made.stdout.strip()
