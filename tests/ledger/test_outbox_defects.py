"""Defects that were found in the outbox once, and stay away: leases, deaths, ids, lock files, and deliver commands."""

import contextlib
import os
import select
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from ledger_samples import T0, queued

from tornpage import ledger
from tornpage.ledger.command import ledger_group
from tornpage.ledger.command.program import DeliveryProgram
from tornpage.ledger.outbox import DeliveryFailed, Envelope

ROOT = Path(ledger.__file__).parents[2]
SURROGATE = "\ud800"
BYTE_OF_A_COMMAND_LINE = b"caf\xe9".decode(errors="surrogateescape")


@pytest.fixture
def opened(bench, time):
    # Nothing here can tell how durable a commit is, and a busy disk would cost minutes.
    return bench.open(clock=time, synchronous="off")


def disk(bench):
    return bench.rows("SELECT * FROM message_outbox ORDER BY insertion")


def never(_envelope):
    pytest.fail("nothing is to be sent")


# Whether an error is permanent: yes, no, or let the text tell


@pytest.mark.parametrize(
    ("permanent", "status"), [(None, "failed_terminal"), (False, "failed_retryable"), (True, "failed_terminal")]
)
def test_a_known_text_decides_only_where_the_caller_leaves_it_open(outbox, permanent, status):
    message = queued(outbox)
    assert outbox.fail(message.id, "chat not found", permanent=permanent).message.status == status
    other = queued(outbox)

    def deliver(_envelope):
        raise DeliveryFailed("chat not found", permanent=permanent)

    outbox.recover(deliver)
    assert outbox.get(other.id).status == status


@pytest.mark.parametrize("said", ["yes", 1, object()])
def test_what_another_exception_calls_permanent_counts_only_where_it_is_yes_or_no(outbox, said):
    message = queued(outbox)
    error = OSError("connection reset")
    error.permanent = said

    def deliver(_envelope):
        raise error

    outbox.recover(deliver)
    assert outbox.get(message.id).status == "failed_retryable"


ENVELOPE = Envelope("m", "m", None, "mail", None, "me", None, {"text": "hi"}, T0, 1)


@pytest.mark.parametrize(
    ("script", "timeout_ms", "status", "says"),
    [
        ("echo chat not found >&2; exit 75", 30_000, "failed_retryable", "ended with exit code 75: chat not found"),
        ("echo chat not found >&2; kill -KILL $$", 30_000, "failed_retryable", "died of SIGKILL: chat not found"),
        ("echo chat not found >&2; exec sleep 1000", 500, "failed_retryable", "gave no answer within 500 ms"),
        ("exit 1", 30_000, "failed_terminal", "ended with exit code 1"),
    ],
)
def test_only_an_exit_code_that_is_a_no_is_permanent_whatever_was_written(outbox, script, timeout_ms, status, says):
    message = queued(outbox)
    outbox.recover(DeliveryProgram(shlex.join(["sh", "-c", script]), timeout_ms=timeout_ms))
    now = outbox.get(message.id)
    assert (now.status, says in now.last_error) == (status, True)


def test_a_program_that_cannot_be_started_has_not_said_no_whatever_its_name(outbox, tmp_path):
    broken = tmp_path / "chat not found"
    broken.write_text("#!/nowhere/at/all\n")
    broken.chmod(0o700)
    message = queued(outbox)
    outbox.recover(DeliveryProgram(shlex.quote(str(broken)), timeout_ms=30_000))
    now = outbox.get(message.id)
    assert (now.status, "could not be started" in now.last_error) == ("failed_retryable", True)
    assert "chat not found" in now.last_error


# What a deliver command has started


@pytest.fixture
def pipe(tmp_path):
    """A FIFO that programs can be given by name, and its reading end."""
    place = tmp_path / "pipe"
    os.mkfifo(place)
    end = os.open(place, os.O_RDONLY | os.O_NONBLOCK)
    yield SimpleNamespace(place=place, end=end)
    os.close(end)


STARTS_A_CHILD = """
sh -c 'echo $$ >&3; exec sleep 1000' 3>"$0" &
wait
"""


def told_until_its_end(end):
    """What was written into a pipe, once nobody has it open for writing any more; fails where somebody still has."""
    told = b""
    while select.select([end], [], [], 20)[0]:
        read = os.read(end, 100)
        if not read:
            return told.decode()
        told += read
    os.kill(int(told), signal.SIGKILL)
    return pytest.fail(f"process {int(told)} lives on")


def test_a_program_that_hangs_takes_what_it_has_started_with_it(pipe):
    command = shlex.join(["sh", "-c", STARTS_A_CHILD, str(pipe.place)])
    for timeout_ms in (300, 3_000, 30_000):
        with pytest.raises(DeliveryFailed, match="gave no answer"):
            DeliveryProgram(command, timeout_ms=timeout_ms)(ENVELOPE)
        if told_until_its_end(pipe.end):
            return
    pytest.fail("the child was never started")


RECOVER_INTERRUPTIBLY = """
import signal, sys
from tornpage.ledger.command import ledger_group
signal.signal(signal.SIGINT, signal.default_int_handler)
ledger_group(sys.argv[1:])
"""


def test_an_interrupt_ends_the_program_with_what_it_has_started_and_gives_the_message_back(bench, opened, pipe):
    message = queued(opened.outbox)
    opened.database.connection.execute("UPDATE message_outbox SET queued_at = unixepoch() * 1000")
    before = disk(bench)
    command = shlex.join(["sh", "-c", STARTS_A_CHILD, str(pipe.place)])
    arguments = ["--state-dir", bench.state_dir, "outbox", "recover", "--deliver-command", command]
    sender = subprocess.Popen([sys.executable, "-c", RECOVER_INTERRUPTIBLY, *arguments], cwd=ROOT, stderr=-1)
    with sender:
        # Once the child has told its number, everything is under way.
        assert select.select([pipe.end], [], [], 60)[0]
        sender.send_signal(signal.SIGINT)
        told_until_its_end(pipe.end)
        assert b"Aborted" in sender.communicate(timeout=60)[1]
    assert (disk(bench), opened.outbox.get(message.id).leased_by) == (before, None)


def test_an_answer_counts_though_what_the_program_leaves_behind_has_not_read_the_message(pipe):
    """The rest of a message that is longer than a pipe was once waited for until the time was over."""
    script = """
import os, subprocess, sys
child = subprocess.Popen(["sleep", "1000"])
with open(sys.argv[1], "w") as told:
    told.write(str(child.pid))
"""
    command = shlex.join([sys.executable, "-c", script, str(pipe.place)])
    long = Envelope("m", "m", None, "mail", None, "me", None, "x" * 1_000_000, T0, 1)
    try:
        DeliveryProgram(command, timeout_ms=20_000)(long)
    finally:
        os.kill(int(os.read(pipe.end, 100)), signal.SIGKILL)


# Leases


@pytest.mark.parametrize("call", ["fail", "fail for good", "move_to_failed"])
@pytest.mark.parametrize("stranger", [None, "second", "never-lived"])
def test_a_stranger_cannot_end_a_living_workers_attempt(bench, opened, call, stranger):
    outbox = opened.outbox
    message = queued(outbox)
    calls = {
        "fail": lambda worker: outbox.fail(message.id, "no", worker_id=worker),
        "fail for good": lambda worker: outbox.fail(message.id, "no", permanent=True, worker_id=worker),
        "move_to_failed": lambda worker: outbox.move_to_failed(message.id, "no", worker_id=worker),
    }
    with opened.workers.hold("first"), opened.workers.hold("second"):
        outbox.claim(message.id, "first")
        before = disk(bench)
        refused = calls[call](stranger)
        assert (refused.changed, refused.reason) == (False, "worker first is sending it")
        assert disk(bench) == before
        assert calls[call]("first").changed


def test_anybody_may_fail_what_nobody_alive_is_sending(opened):
    free, leased = queued(opened.outbox), queued(opened.outbox)
    with opened.workers.hold("dead"):
        opened.outbox.claim(leased.id, "dead")
    assert opened.outbox.fail(free.id, "no", worker_id="anybody").changed
    assert opened.outbox.fail(leased.id, "no").message.attempt_count == 1


@pytest.mark.parametrize("payload", ["fine", "broken"])
def test_a_pass_that_lost_its_lease_records_no_failure_of_somebody_elses_attempt(bench, opened, payload):
    outbox = opened.outbox
    message = queued(outbox)
    queued(outbox, idempotency_key="behind")
    if payload == "broken":
        opened.database.connection.execute("UPDATE message_outbox SET payload = '{' WHERE id = ?", (message.id,))
    lost = []

    def lose_it(_envelope=None):
        """Somebody frees the message and another one begins to send it."""
        outbox.release(message.id, outbox.get(message.id).leased_by)
        outbox.claim(message.id, "other")
        lost.extend(disk(bench)[:1])

    def deliver(envelope):
        if envelope.id == message.id:
            lose_it()
            raise DeliveryFailed("no")

    made = outbox._envelope

    def envelope_of(one):
        if one.id == message.id and payload == "broken":
            lose_it()
        return made(one)

    outbox._envelope = envelope_of
    with opened.workers.hold("other"):
        done = outbox.recover(deliver)
    assert (done.leased, done.failed, done.recovered) == (1, 0, 1)
    assert disk(bench)[:1] == lost


def test_a_message_that_was_acked_and_pruned_while_it_was_sent_ends_no_pass(outbox, time):
    first, second = queued(outbox), queued(outbox)

    def deliver(envelope):
        if envelope.id == first.id:
            outbox.ack(first.id)
            time.now += 10
            assert outbox.prune(5) == 1

    assert outbox.recover(deliver).recovered == 1
    assert [(one.id, one.status.value) for one in outbox.list()] == [(second.id, "delivered")]


# Attempts that nobody lived to report


def dies(opened, message, worker_id):
    """A sender that leases the message and dies."""
    with opened.workers.hold(worker_id):
        assert opened.outbox.claim(message.id, worker_id).changed


def test_taking_over_from_a_dead_worker_counts_its_attempt_and_waits_for_nothing(opened, time):
    message = queued(opened.outbox)
    dies(opened, message, "w1")
    time.now += 7
    seen = []
    assert opened.outbox.recover(lambda envelope: seen.append(envelope.attempt)).recovered == 1
    now = opened.outbox.get(message.id)
    assert seen == [2]
    assert (now.attempt_count, now.last_attempt_at, now.error_class) == (1, T0 + 7, "transient")
    assert now.last_error == "worker w1 died while sending it"


KILLED_BY_IT = """
import os, signal, sys; from tornpage import ledger
with ledger.Ledger.open(sys.argv[1], clock=lambda: int(sys.argv[2])) as opened:
    def deliver(envelope):
        print(envelope.id, envelope.attempt, flush=True)
        if envelope.payload == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
    print(opened.outbox.recover(deliver).failed, flush=True)
"""


def test_a_message_that_kills_every_sender_is_given_up_after_its_attempts_and_frees_those_behind_it(bench, opened):
    poison, behind = queued(opened.outbox, payload="poison"), queued(opened.outbox, payload="fine")

    def send():
        command = [sys.executable, "-c", KILLED_BY_IT, str(bench.state_dir), str(T0)]
        return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)

    for attempt in range(1, 6):
        died = send()
        assert (died.returncode, died.stdout) == (-signal.SIGKILL, f"{poison.id} {attempt}\n")
    assert send().stdout == f"{behind.id} 1\n1\n"
    now = opened.outbox.get(poison.id)
    assert (now.status, now.attempt_count, now.leased_by) == ("failed_terminal", 5, None)
    assert now.terminal_reason.startswith("gave up after 5 attempts: worker ")
    assert now.terminal_reason.endswith(" died while sending it")


def test_a_sender_gets_no_sixth_attempt_by_claiming(bench, opened):
    message = queued(opened.outbox)
    for number in range(5):
        dies(opened, message, f"w{number}")
    assert opened.outbox.get(message.id).attempt_count == 4
    before = disk(bench)
    with opened.workers.hold("w5"):
        refused = opened.outbox.claim(message.id, "w5")
    assert (refused.changed, refused.reason) == (False, "it has had its 5 attempts")
    assert disk(bench) == before
    assert opened.outbox.recover(never).failed == 1
    assert opened.outbox.get(message.id).terminal_reason == "gave up after 5 attempts: worker w4 died while sending it"


def test_a_message_given_back_counts_only_the_attempts_that_ended_in_a_death(opened):
    message = queued(opened.outbox)
    dies(opened, message, "w1")
    with opened.workers.hold("w2"):
        opened.outbox.claim(message.id, "w2")
        opened.outbox.release(message.id, "w2")
    with opened.workers.hold("w3"):
        assert opened.outbox.claim(message.id, "w3").message.attempt_count == 1


# Lock files


@pytest.mark.parametrize("ends", ["well", "interrupted", "with a lease that stays"])
def test_a_pass_leaves_no_lock_file_behind(bench, outbox, ends):
    message = queued(outbox)

    def deliver(_envelope):
        if ends == "interrupted":
            raise KeyboardInterrupt
        if ends != "well":
            bench.faults.fail("UPDATE", times=2)

    with contextlib.suppress(KeyboardInterrupt, ledger.StoreIOError):
        outbox.recover(deliver)
    assert (outbox.get(message.id).leased_by is not None) == (ends == "with a lease that stays")
    assert list((bench.state_dir / "workers").glob("*.lock")) == [bench.state_dir / "workers" / ".registration.lock"]
    # The worker that still has the lease is dead for everybody.
    queued(outbox)
    assert outbox.recover(lambda _: None).recovered == (1 if ends == "well" else 2)


def test_a_pass_with_a_given_id_leaves_it_used_until_the_next_recovery(opened):
    queued(opened.outbox)
    opened.outbox.recover(lambda _: None, worker_id="mine")
    with pytest.raises(ledger.IllegalTransition, match="used before"):
        opened.workers.hold("mine")
    opened.recover()
    opened.workers.hold("mine").release()


# Ids that are no Unicode


CALLS_BY_ID = {
    "get": lambda outbox, bad: outbox.get(bad),
    "list": lambda outbox, bad: outbox.list(channel=bad),
    "claim": lambda outbox, bad: outbox.claim(bad, "w1"),
    "claim for": lambda outbox, bad: outbox.claim(outbox.list()[0].id, bad),
    "release": lambda outbox, bad: outbox.release(bad, "w1"),
    "ack": lambda outbox, bad: outbox.ack(bad),
    "fail": lambda outbox, bad: outbox.fail(bad, "no"),
    "move_to_failed": lambda outbox, bad: outbox.move_to_failed(bad),
    "enqueue": lambda outbox, bad: queued(outbox, message_id=bad),
}


@pytest.mark.parametrize("call", CALLS_BY_ID)
@pytest.mark.parametrize("bad", [SURROGATE, BYTE_OF_A_COMMAND_LINE, 7, b"m"])
def test_an_id_that_is_no_text_is_refused_and_spoils_no_batch(opened, hold, call, bad):
    hold(opened)
    first = queued(opened.outbox)
    with opened.batch():
        opened.outbox.ack(first.id)
        with pytest.raises(ledger.UsageError):
            CALLS_BY_ID[call](opened.outbox, bad)
        second = queued(opened.outbox)
    assert [one.status.value for one in map(opened.outbox.get, (first.id, second.id))] == ["delivered", "queued"]


@pytest.mark.parametrize("arguments", [["show"], ["list", "--channel"]])
def test_a_command_line_that_is_no_unicode_is_wrong_usage(tmp_path, arguments):
    call = ["--state-dir", str(tmp_path / "state"), "outbox", *arguments, BYTE_OF_A_COMMAND_LINE]
    result = CliRunner().invoke(ledger_group, call)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "must be valid Unicode, not 'caf\\udce9'" in result.stderr
