"""Senders that are killed for real between delivery and ack, and several passes at once.

The receiver is a file to which every delivery appends one line; what has been written survives the writer. Whether an
attempt fails is decided by a hash of the seed, the key and the attempt, so the end of every message can be told from
the attempts whose sender was killed before it could report: such an attempt counts, as one that failed.
"""

import collections
import hashlib
import inspect
import itertools
import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tornpage import ledger

ROOT = Path(ledger.__file__).parents[2]
T0 = 1_700_000_000_000
MINUTE = 60_000
MAX_ATTEMPTS = 5


def fate(seed, key, attempt):
    """What happens at an attempt: ok; transient or permanent, unsent; late: delivered, but an error is reported."""
    draw = hashlib.sha256(f"{seed}/{key}/{attempt}".encode()).digest()[0]
    if key.startswith("poison"):
        return "transient"
    return "transient" if draw < 50 else "permanent" if draw < 58 else "late" if draw < 70 else "ok"


def expected_end(seed, key, unreported=frozenset()):
    """The final status, how many attempts were counted, and which of its attempts the receiver got."""
    received = []
    for attempt in range(1, MAX_ATTEMPTS + 1):
        what = fate(seed, key, attempt)
        if what in ("ok", "late"):
            received.append(attempt)
        if what == "ok" and (key, attempt) not in unreported:
            return "delivered", attempt - 1, received
        if what == "permanent":
            return "failed_terminal", attempt, received
    return "failed_terminal", MAX_ATTEMPTS, received


SENDER = (
    "import hashlib\n"
    + inspect.getsource(fate)
    + """
import os, sys; from tornpage import ledger
from tornpage.ledger.outbox import DeliveryFailed
state, receiver, seed, now = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
received = os.open(receiver, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

def deliver(envelope):
    what = fate(seed, envelope.idempotency_key, envelope.attempt)
    if what in ("ok", "late"):
        os.write(received, f"{envelope.idempotency_key} {envelope.attempt}\\n".encode())
        print("delivered", envelope.idempotency_key, envelope.attempt, flush=True)
        sys.stdin.readline()
    if what == "late":
        raise DeliveryFailed("the connection broke after the message was sent")
    if what != "ok":
        raise DeliveryFailed(f"{what} error", permanent=what == "permanent")

with ledger.Ledger.open(state, clock=lambda: now) as opened:
    done = opened.outbox.recover(deliver)
    print("done", done.recovered, done.failed, done.leased, done.over_budget, flush=True)
"""
)

HOLD_ONE = """
import sys; from tornpage import ledger
with ledger.Ledger.open(sys.argv[1], clock=lambda: int(sys.argv[2])) as opened:
    worker = opened.workers.hold("live-sender")
    assert opened.outbox.claim(sys.argv[3], "live-sender").changed
    print("claimed", flush=True)
    sys.stdin.readline()
"""

GET_SENDING = """
import os, sys; from tornpage import ledger
received = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
with ledger.Ledger.open(sys.argv[1], clock=lambda: int(sys.argv[3])) as opened:
    print("ready", flush=True)
    sys.stdin.readline()
    done = opened.outbox.recover(lambda envelope: os.write(received, f"{envelope.idempotency_key}\\n".encode()))
    print(done.recovered, done.failed)
"""


def spawn(script, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def go(child):
    child.stdin.write("go\n")
    child.stdin.flush()


def opened_at(state, now):
    return ledger.Ledger.open(state, clock=lambda: now)


class Killer:
    """Watches a sender and kills it at chosen deliveries: before it can ack, or while it is at it."""

    def __init__(self, seed, deliveries, kills):
        chosen = random.Random(seed)  # noqa: S311 - a repeatable choice, not a secret
        self.moments = {
            one: chosen.choice(["before the ack", "during the ack"]) for one in chosen.sample(range(deliveries), kills)
        }
        self.seen = 0
        self.killed = {"before the ack": set(), "during the ack": set()}

    def run_one_pass(self, state, receiver, seed, now):
        """Run a sender to its end or its death; returns whether it came to its end."""
        child = spawn(SENDER, state, receiver, seed, now)
        with child:
            for line in child.stdout:
                if line.startswith("done"):
                    assert line.split()[3:] == ["0", "0"]
                    assert child.wait(timeout=60) == 0
                    return True
                moment = self.moments.get(self.seen)
                self.seen += 1
                if moment != "before the ack":
                    go(child)
                if moment is not None:
                    child.send_signal(signal.SIGKILL)
                    _, key, attempt = line.split()
                    self.killed[moment].add((key, int(attempt)))
                    break
        assert child.wait(timeout=60) == -signal.SIGKILL
        # Killed during an ack it may have been quick enough to deliver the next one, which it can't have acked.
        key, attempt = receiver.read_text().splitlines()[-1].split()
        if (key, int(attempt)) not in self.killed["during the ack"]:
            self.killed["before the ack"].add((key, int(attempt)))
        return False


@pytest.mark.slow
def test_a_thousand_messages_end_as_they_must_though_senders_are_killed_between_delivery_and_ack(tmp_path):
    seed, state, receiver = "2026", tmp_path / "state", tmp_path / "received"
    keys = [f"message-{number:04d}" for number in range(950)] + [f"poison-{number:02d}" for number in range(20)]
    stale = [f"stale-{number:02d}" for number in range(30)]
    random.Random(seed).shuffle(keys)  # noqa: S311 - a repeatable choice, not a secret
    with opened_at(state, T0 - 40 * MINUTE) as opened, opened.batch():
        for key in stale:
            opened.outbox.enqueue(channel="c", target="t", payload={"key": key}, idempotency_key=key)
    with opened_at(state, T0) as opened, opened.batch():
        for key in keys:
            opened.outbox.enqueue(channel="c", target="t", payload={"key": key}, idempotency_key=key)

    killer, now, passes = Killer(seed, deliveries=700, kills=40), T0, 0
    while True:
        ended = killer.run_one_pass(state, receiver, seed, now)
        passes += 1
        with opened_at(state, now) as opened:
            pending = [one for one in opened.outbox.list() if one.completed_at is None]
        if not ended:
            continue
        # The pass came to its end: nothing that was due is left, whatever waits in front of it.
        assert all(one.next_attempt_at > now for one in pending)
        if not pending:
            break
        now = min(one.next_attempt_at for one in pending)

    with opened_at(state, now) as opened:
        found = {one.idempotency_key: one for one in opened.outbox.list()}
    copies = collections.defaultdict(list)
    for key, attempt in map(str.split, receiver.read_text().splitlines()):
        copies[key].append(int(attempt))
    assert set(found) == {*keys, *stale}
    for key in stale:
        assert (found[key].status, key in copies) == ("expired", False)
        assert found[key].terminal_reason.startswith("not delivered within 1800000 ms")
    for key in keys:
        lost, doubtful = killer.killed.values()
        # Each ack that was cut short was made or was not, whatever became of the others of the same message.
        perhaps = [one for one in doubtful if one[0] == key]
        one = found[key]
        assert (one.status, one.attempt_count, copies[key]) in [
            expected_end(seed, key, lost.union(some))
            for number in range(len(perhaps) + 1)
            for some in itertools.combinations(perhaps, number)
        ]
        assert (one.terminal_reason is None) == (one.status == "delivered")
        assert (one.delivered_at is None) == (one.status != "delivered")
        assert one.leased_by is None
    # One during an ack may also have cut short the next delivery.
    assert sum(map(len, killer.killed.values())) >= 40
    assert min(map(len, killer.killed.values())) >= 10
    assert sum(fate(seed, *one) == "ok" for one in killer.killed["before the ack"]) >= 5


def test_a_message_whose_sender_died_is_sent_again_with_its_key_and_then_never_more(tmp_path):
    state, receiver = tmp_path / "state", tmp_path / "received"
    key = next(name for name in map("m{}".format, range(100)) if {fate("s", name, n) for n in (1, 2)} == {"ok"})
    with opened_at(state, T0) as opened:
        message = opened.outbox.enqueue(channel="c", target="t", payload=1, idempotency_key=key)
        killer = Killer("s", deliveries=1, kills=1)
        killer.moments = {0: "before the ack"}
        assert not killer.run_one_pass(state, receiver, "s", T0)
        left = opened.outbox.get(message.id)
        assert (left.status, left.attempt_count) == ("queued", 0)
        assert not opened.workers.is_alive(left.leased_by)
        assert killer.run_one_pass(state, receiver, "s", T0)
        now = opened.outbox.get(message.id)
        assert (now.status, now.attempt_count) == ("delivered", 1)
        assert now.last_error == f"worker {left.leased_by} died while sending it"
        assert killer.run_one_pass(state, receiver, "s", T0)
    assert receiver.read_text() == f"{key} 1\n{key} 2\n"


def test_a_pass_leaves_what_another_process_is_sending_until_that_process_dies(tmp_path):
    state = tmp_path / "state"
    with opened_at(state, T0) as opened:
        message = opened.outbox.enqueue(channel="c", target="t", payload=1)
        child = spawn(HOLD_ONE, state, T0, message.id)
        with child:
            assert child.stdout.readline() == "claimed\n"
            done = opened.outbox.recover(lambda _: pytest.fail("the other process is sending it"))
            assert (done.leased, done.recovered) == (1, 0)
            child.send_signal(signal.SIGKILL)
        assert child.wait(timeout=60) == -signal.SIGKILL
        assert opened.outbox.recover(lambda _: None).recovered == 1


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_passes_of_several_processes_at_once_send_every_message_once(tmp_path, mode):
    state, receiver = tmp_path / "state", tmp_path / "received"
    with ledger.Ledger.open(state, journal_mode=mode, clock=lambda: T0) as opened:
        with opened.batch():
            for number in range(120):
                opened.outbox.enqueue(channel="c", target="t", payload=number, idempotency_key=f"m{number}")
        script = GET_SENDING.replace("clock=", f"journal_mode={mode!r}, busy_timeout_ms=60_000, clock=")
        children = [spawn(script, state, receiver, T0) for _ in range(3)]
        for child in children:
            assert child.stdout.readline() == "ready\n"
        for child in children:
            go(child)
        sent = 0
        for child in children:
            out, _ = child.communicate(timeout=60)
            assert child.returncode == 0
            recovered, failed = map(int, out.split())
            assert failed == 0
            sent += recovered
        assert {one.status.value for one in opened.outbox.list()} == {"delivered"}
    assert sent == 120
    assert sorted(receiver.read_text().split()) == sorted(f"m{number}" for number in range(120))


def test_two_processes_that_queue_the_same_keys_make_each_message_once(tmp_path):
    script = """
import json, sys; from tornpage import ledger
with ledger.Ledger.open(sys.argv[1], busy_timeout_ms=60_000) as opened:
    print("ready", flush=True)
    sys.stdin.readline()
    ids = [opened.outbox.enqueue(channel="c", target="t", payload=1, idempotency_key=f"k{n}").id for n in range(60)]
print(json.dumps(ids))
"""
    state = tmp_path / "state"
    children = [spawn(script, state) for _ in range(2)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        go(child)
    first, second = (json.loads(child.communicate(timeout=60)[0]) for child in children)
    assert first == second
    with ledger.Ledger.open(state) as opened:
        assert sorted(one.id for one in opened.outbox.list()) == sorted(first)
