"""The outbox's rows one at a time: queueing, leasing, ack, fail, giving up, pruning; and that an end is an end."""

import math
import sqlite3

import pytest
from ledger_samples import T0, queued

from tornpage import ledger
from tornpage.ledger.disk.schema import SCHEMA_VERSION
from tornpage.ledger.outbox import PERMANENT_ERRORS, MessageStatus
from tornpage.ledger.outbox.messages import MESSAGES

HOUR = 3_600_000
ENDS = {
    "delivered": lambda outbox, one: outbox.ack(one),
    "failed_terminal": lambda outbox, one: outbox.fail(one, "broken", permanent=True),
    "expired": lambda outbox, _: outbox.recover(lambda _: None, max_age_ms=1),
}


@pytest.fixture
def opened(bench, time):
    # Nothing here can tell how durable a commit is, and a busy disk would cost minutes.
    return bench.open(clock=time, synchronous="off")


def finish_and_announce(opened, task):
    opened.tasks.finish(task.task_id, "succeeded")
    return queued(opened.outbox)


def disk(bench):
    return bench.rows("SELECT * FROM message_outbox ORDER BY insertion")


# Queueing


def test_a_new_message_is_queued_and_due_at_once(outbox):
    message = queued(outbox, turn_id="turn", account_id="account", dispatch_kind="final", idempotency_key="key")
    assert message == outbox.get(message.id)
    assert (message.status, message.queued_at, message.next_attempt_at) == ("queued", T0, T0)
    assert (message.attempt_count, message.completed_at, message.leased_by) == (0, None, None)
    assert (message.turn_id, message.account_id, message.dispatch_kind) == ("turn", "account", "final")
    assert message.payload == '{"text":"hi"}'


def test_the_same_idempotency_key_gives_back_the_first_message_unchanged(bench, outbox, time):
    first = queued(outbox, idempotency_key="key")
    before = disk(bench)
    time.now += 5
    again = queued(outbox, idempotency_key=" key ", payload="something else", target="you", message_id="other")
    assert again == first
    assert disk(bench) == before


@pytest.mark.parametrize("status", ENDS)
def test_a_known_key_stays_known_after_the_end(bench, outbox, time, status):
    message = queued(outbox, idempotency_key="key")
    time.now += 10
    ENDS[status](outbox, message.id)
    before = disk(bench)
    assert queued(outbox, idempotency_key="key").status == status
    assert disk(bench) == before


def test_messages_without_a_key_are_all_kept(outbox):
    assert len({queued(outbox).id, queued(outbox).id, queued(outbox, idempotency_key="  ").id}) == 3


@pytest.mark.parametrize(
    "payload", [math.nan, math.inf, {"a": math.nan}, b"bytes", {1, 2}, object(), "\ud800", {"k": "\udfff"}]
)
def test_a_payload_that_is_not_json_is_refused_and_nothing_queued(bench, outbox, payload):
    with pytest.raises(ledger.UsageError, match="payload must be a JSON value"):
        queued(outbox, payload=payload)
    assert disk(bench) == []


def test_a_payload_that_contains_itself_is_refused(outbox):
    cycle = []
    cycle.append(cycle)
    with pytest.raises(ledger.UsageError, match="payload"):
        queued(outbox, payload=cycle)


@pytest.mark.parametrize("payload", [None, 0, "", [], {}, 10**40, {"a": [1, {"b": "ä\u2028"}]}, 1e308])
def test_any_json_payload_comes_out_as_it_went_in(outbox, payload):
    message = queued(outbox, payload=payload)
    seen = []
    assert outbox.recover(seen.append).recovered == 1
    assert seen[0].payload == payload
    assert outbox.get(message.id).status == "delivered"


@pytest.mark.parametrize("fields", [{"channel": " "}, {"target": ""}, {"message_id": ""}, {"channel": 5}])
def test_what_a_message_needs_must_be_given(bench, outbox, fields):
    with pytest.raises(ledger.UsageError, match=next(iter(fields))):
        queued(outbox, **fields)
    assert disk(bench) == []


def test_an_id_that_is_taken_is_refused(bench, outbox):
    queued(outbox, message_id="m")
    before = disk(bench)
    with pytest.raises(ledger.UsageError, match="taken"):
        queued(outbox, message_id="m")
    assert disk(bench) == before


def test_a_task_ends_and_its_message_is_queued_together_or_not_at_all(bench, opened):
    task = opened.tasks.create(runtime="cli", task="work", owner_key="owner")
    with opened.batch():
        message = finish_and_announce(opened, task)
        assert opened.outbox.get(message.id) == message
    assert bench.rows("SELECT status FROM tasks") == [("succeeded",)]
    assert len(disk(bench)) == 1

    other = opened.tasks.create(runtime="cli", task="more", owner_key="owner")
    with pytest.raises(ledger.IllegalTransition), opened.batch():
        [finish_and_announce(opened, one) for one in (other, task)]
    assert opened.tasks.get(other.task_id).status == "queued"
    assert len(disk(bench)) == 1


def test_a_commit_that_fails_loses_both_the_end_and_the_message(bench, opened):
    task = opened.tasks.create(runtime="cli", task="work", owner_key="owner")
    bench.faults.fail("COMMIT")
    with pytest.raises(ledger.StoreIOError) as caught, opened.batch():
        finish_and_announce(opened, task)
    assert caught.value.outcome == "unchanged"
    assert (opened.tasks.get(task.task_id).status, opened.outbox.list()) == ("queued", [])
    assert disk(bench) == []


def test_lists_are_in_the_order_of_queueing_and_can_be_narrowed(outbox, time):
    first = queued(outbox)
    time.now -= HOUR
    earlier = queued(outbox, channel="chat")
    same = queued(outbox)
    assert [one.id for one in outbox.list()] == [earlier.id, same.id, first.id]
    outbox.ack(same.id)
    assert [one.id for one in outbox.list(status="delivered")] == [same.id]
    assert [one.id for one in outbox.list(channel=" chat ", status=MessageStatus.QUEUED)] == [earlier.id]
    assert outbox.get("nobody") is None
    with pytest.raises(ledger.UsageError, match="failed_retryable"):
        outbox.list(status="exploded")


def test_another_store_has_no_outbox_and_memory_has_one(tmp_path):
    from tornpage.ledger.stores.memory import MemoryStore

    with (
        ledger.Ledger.open(store=MemoryStore()) as other,
        pytest.raises(ledger.UsageError, match="SQLite"),
    ):
        _ = other.outbox
    with ledger.Ledger.open(":memory:") as opened:
        message = queued(opened.outbox)
        assert opened.outbox.recover(lambda _: None).recovered == 1
        assert opened.outbox.get(message.id).status == "delivered"


def test_a_key_is_not_called_known_while_a_crash_could_still_lose_its_row(bench, outbox):
    bench.faults.fail("COMMIT", when="after")
    bench.faults.fail("INSERT INTO ledger_fence", times=5)
    with pytest.raises(ledger.StoreError) as caught:
        queued(outbox, idempotency_key="key")
    assert caught.value.outcome == "unknown"
    with pytest.raises(ledger.StoreUnavailable, match="secured") as caught:
        queued(outbox, idempotency_key="key")
    assert (caught.value.outcome, caught.value.retryable) == ("unknown", True)
    bench.faults.heal()
    assert queued(outbox, idempotency_key="key").status == "queued"
    assert len(outbox.list()) == 1


# The ends


def test_ack_delivers(outbox, time):
    message = queued(outbox)
    time.now += 7
    result = outbox.ack(message.id)
    assert result.changed
    assert result.message == outbox.get(message.id)
    now = result.message
    assert (now.status, now.delivered_at, now.completed_at) == ("delivered", T0 + 7, T0 + 7)
    assert (now.next_attempt_at, now.attempt_count, now.terminal_reason) == (None, 0, None)


@pytest.mark.parametrize("status", ENDS)
@pytest.mark.parametrize("call", ["ack", "fail", "fail for good", "move_to_failed", "claim", "release"])
def test_what_has_ended_stays_as_it_ended_and_the_caller_is_told(bench, opened, time, status, call):
    outbox = opened.outbox
    message = queued(outbox)
    time.now += 10
    ENDS[status](outbox, message.id)
    before = disk(bench)
    time.now += 10
    with opened.workers.hold() as worker:
        result = {
            "ack": lambda: outbox.ack(message.id),
            "fail": lambda: outbox.fail(message.id, "again"),
            "fail for good": lambda: outbox.fail(message.id, "again", permanent=True),
            "move_to_failed": lambda: outbox.move_to_failed(message.id, "because"),
            "claim": lambda: outbox.claim(message.id, worker.id),
            "release": lambda: outbox.release(message.id, worker.id),
        }[call]()
    assert (result.changed, result.reason) == (False, f"it is already {status}")
    assert result.message == outbox.get(message.id)
    assert disk(bench) == before


@pytest.mark.parametrize("call", ["ack", "fail", "move_to_failed", "claim", "release"])
def test_a_message_that_is_not_there_is_not_found(opened, call):
    with opened.workers.hold() as worker, pytest.raises(ledger.NotFound, match="nobody"):
        getattr(opened.outbox, call)("nobody", *{"fail": ["x"], "claim": [worker.id], "release": ["x"]}.get(call, []))


def test_failures_back_off_and_the_fifth_is_the_end(outbox, time):
    message = queued(outbox)
    for attempt, wait in enumerate([5_000, 25_000, 120_000, 600_000], start=1):
        now = outbox.fail(message.id, f"no {attempt}").message
        assert (now.status, now.attempt_count, now.error_class) == ("failed_retryable", attempt, "transient")
        assert (now.last_attempt_at, now.next_attempt_at, now.last_error) == (
            time.now,
            time.now + wait,
            f"no {attempt}",
        )
        assert (now.completed_at, now.terminal_reason) == (None, None)
        time.now += wait
    now = outbox.fail(message.id, "no 5").message
    assert (now.status, now.attempt_count, now.completed_at) == ("failed_terminal", 5, time.now)
    assert (now.last_attempt_at, now.next_attempt_at) == (time.now, None)
    assert now.terminal_reason == "gave up after 5 attempts: no 5"


@pytest.mark.parametrize("known", PERMANENT_ERRORS)
def test_a_permanent_error_ends_it_and_counts_its_attempt(outbox, known):
    now = outbox.fail(queued(outbox).id, f"Telegram: {known.upper()}!").message
    assert (now.status, now.error_class, now.attempt_count) == ("failed_terminal", "permanent", 1)
    assert (now.last_attempt_at, now.completed_at, now.next_attempt_at) == (T0, T0, None)
    assert known.upper() in now.terminal_reason


@pytest.mark.parametrize("error", ["", "   ", "chat found", "user not foun"])
def test_other_errors_are_transient_and_never_blank(outbox, error):
    now = outbox.fail(queued(outbox).id, error).message
    assert now.status == "failed_retryable"
    assert now.last_error == (error if error.strip() else "no reason given")


def test_move_to_failed_keeps_a_reason_and_what_is_known_of_attempts(bench, outbox, time):
    first, second = queued(outbox), queued(outbox)
    outbox.fail(first.id, "flaky")
    time.now += 1
    now = outbox.move_to_failed(first.id, "nobody wants it").message
    assert (now.status, now.terminal_reason, now.completed_at) == ("failed_terminal", "nobody wants it", time.now)
    assert (now.last_error, now.attempt_count, now.next_attempt_at) == ("flaky", 1, None)
    bench.ledgers[0].database.connection.execute(
        "UPDATE message_outbox SET terminal_reason = 'old' WHERE id = ?", (second.id,)
    )
    assert outbox.move_to_failed(second.id, "new").message.terminal_reason == "old"


# Leases


def test_a_leased_message_is_nobody_elses_while_the_worker_lives(opened):
    outbox = opened.outbox
    message = queued(outbox)
    with opened.workers.hold("first") as first, opened.workers.hold("second") as second:
        assert outbox.claim(message.id, first.id).message.leased_by == "first"
        for worker in (second, first):
            refused = outbox.claim(message.id, worker.id)
            assert (refused.changed, refused.reason) == (False, "worker first is sending it")
        assert outbox.recover(lambda _: pytest.fail("it must not be sent")).leased == 1
        assert not outbox.release(message.id, second.id).changed
        assert outbox.release(message.id, first.id).changed
        assert outbox.claim(message.id, second.id).changed


def test_a_lease_ends_with_its_worker(opened):
    outbox = opened.outbox
    message = queued(outbox)
    with opened.workers.hold("first"):
        outbox.claim(message.id, "first")
    assert outbox.get(message.id).leased_by == "first"
    with opened.workers.hold("second"):
        assert outbox.claim(message.id, "second").message.leased_by == "second"


@pytest.mark.parametrize("call", ["ack", "fail", "move_to_failed"])
def test_a_lease_ends_with_the_attempt(opened, call):
    outbox = opened.outbox
    message = queued(outbox)
    with opened.workers.hold() as worker:
        outbox.claim(message.id, worker.id)
        mine = {} if call == "ack" else {"worker_id": worker.id}
        result = getattr(outbox, call)(message.id, *(["no"] if call == "fail" else []), **mine)
    assert result.message.leased_by is None


@pytest.mark.parametrize("worker_id", ["never-lived", "", "../evil"])
def test_only_the_living_can_claim(bench, outbox, worker_id):
    message = queued(outbox)
    before = disk(bench)
    with pytest.raises(ledger.UsageError, match="not alive"):
        outbox.claim(message.id, worker_id)
    assert disk(bench) == before


def test_recovery_of_runs_keeps_the_lock_files_of_leaseholders(opened):
    message = queued(opened.outbox)
    with opened.workers.hold("holder"), opened.workers.hold("nobody-refers-to-it"):
        opened.outbox.claim(message.id, "holder")
    opened.recover()
    with pytest.raises(ledger.IllegalTransition, match="used before"):
        # If the id could be taken again, the old lease would look alive.
        opened.workers.hold("holder")
    opened.workers.hold("nobody-refers-to-it").release()


# Pruning


@pytest.mark.parametrize("age", [0, 0.0, -1, -0.5, math.nan, math.inf, -math.inf, None, "5", True])
def test_an_age_that_is_none_deletes_nothing(bench, outbox, time, age):
    outbox.ack(queued(outbox).id)
    time.now += HOUR
    before = disk(bench)
    with pytest.raises(ledger.UsageError, match="age_ms must be a finite number"):
        outbox.prune(age)
    assert disk(bench) == before


def test_only_what_ended_longer_ago_is_pruned(outbox, time):
    old, pending = queued(outbox), queued(outbox)
    outbox.ack(old.id)
    time.now += 1000
    edge, failed = queued(outbox), queued(outbox)
    outbox.ack(edge.id)
    outbox.move_to_failed(failed.id)
    assert outbox.prune(1000) == 0
    time.now += 1
    assert outbox.prune(1000) == 1
    assert [one.id for one in outbox.list()] == [pending.id, edge.id, failed.id]
    assert outbox.prune(10**400) == 0
    time.now += HOUR
    assert outbox.prune(0.5) == 2
    assert [one.id for one in outbox.list()] == [pending.id]


def test_a_limited_prune_takes_the_oldest_rows_first(outbox, time):
    messages = [queued(outbox) for _ in range(5)]
    for message in messages:
        outbox.ack(message.id)
    time.now += 10
    assert [outbox.prune(1, limit=2) for _ in range(4)] == [2, 2, 1, 0]
    for wrong in (0, "1", 1.5, True):
        with pytest.raises(ledger.UsageError, match="limit"):
            outbox.prune(1, limit=wrong)
    assert outbox.prune(1, limit=2**63) == 0


def test_a_worker_is_named_by_a_text_that_can_be_written(outbox):
    message = queued(outbox)
    for call in (outbox.release, outbox.move_to_failed, outbox.fail):
        with pytest.raises(ledger.UsageError, match="worker_id"):
            call(message.id, **({"error": "x"} if call == outbox.fail else {}), worker_id="\ud800")
    assert outbox.get(message.id) == message


def test_a_clock_that_jumped_back_prunes_nothing(outbox, time):
    outbox.ack(queued(outbox).id)
    time.now -= HOUR
    assert outbox.prune(1) == 0


def test_a_pending_row_is_never_pruned_whatever_it_says_of_its_end(opened, time):
    message = queued(opened.outbox)
    opened.database.connection.execute("UPDATE message_outbox SET completed_at = 1")
    assert opened.outbox.prune(1) == 0
    assert opened.outbox.get(message.id).status == "queued"


def test_a_prune_that_fails_deletes_nothing(bench, outbox, time):
    for _ in range(3):
        outbox.ack(queued(outbox).id)
    time.now += 10
    before = disk(bench)
    bench.faults.fail("DELETE", skip=1)
    with pytest.raises(ledger.StoreIOError) as caught:
        outbox.prune(1)
    assert (caught.value.outcome, disk(bench)) == ("unchanged", before)
    assert outbox.prune(1) == 3


# The store


CALLS = {
    "enqueue": lambda outbox, _: queued(outbox, idempotency_key="new"),
    "ack": lambda outbox, one: outbox.ack(one),
    "fail": lambda outbox, one: outbox.fail(one, "no"),
    "move_to_failed": lambda outbox, one: outbox.move_to_failed(one),
    "claim": lambda outbox, one: outbox.claim(one, "worker"),
    "release": lambda outbox, one: outbox.release(one, "worker"),
    "expire": lambda outbox, _: outbox.recover(lambda _: None, max_age_ms=1, budget_ms=0),
    "prune": lambda outbox, _: outbox.prune(1),
}


@pytest.fixture
def prepared(bench, opened, time):
    """A pending message, leased where it is to be released, an old one, one that has ended; returns the first."""

    def prepare(call):
        outbox = opened.outbox
        opened.workers.hold("worker")
        outbox.ack(queued(outbox).id)
        queued(outbox)
        message = queued(outbox)
        if call == "release":
            outbox.claim(message.id, "worker")
        time.now += 10
        return message.id

    yield prepare
    opened.workers.release("worker")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("place", ["BEGIN IMMEDIATE", "COMMIT"])
def test_a_call_that_fails_has_changed_nothing_and_works_afterwards(bench, opened, prepared, call, place):
    message_id = prepared(call)
    before = disk(bench)
    bench.faults.fail(place)
    with pytest.raises(ledger.StoreError) as caught:
        CALLS[call](opened.outbox, message_id)
    assert (caught.value.outcome, bench.faults.fired) == ("unchanged", 1)
    assert disk(bench) == before
    CALLS[call](opened.outbox, message_id)
    assert disk(bench) != before


@pytest.mark.parametrize("call", CALLS)
def test_a_commit_that_raised_but_happened_is_a_success(bench, opened, prepared, call):
    message_id = prepared(call)
    before = disk(bench)
    bench.faults.fail("COMMIT", when="after")
    CALLS[call](opened.outbox, message_id)
    assert bench.faults.fired == 1
    assert disk(bench) != before


def test_a_row_that_cannot_be_read_is_reported_once_and_the_others_work(bench, opened, time, caplog):
    outbox = opened.outbox
    bad, good = queued(outbox), queued(outbox)
    connection = opened.database.connection
    connection.execute("PRAGMA ignore_check_constraints = 1")
    connection.execute("UPDATE message_outbox SET error_class = 'exploded' WHERE id = ?", (bad.id,))
    assert [one.id for one in outbox.list()] == [good.id]
    (quarantined,) = outbox.quarantined()
    assert (quarantined.key, "exploded" in quarantined.reason) == (bad.id, True)
    with pytest.raises(ledger.StoreCorrupt):
        outbox.get(bad.id)
    with pytest.raises(ledger.StoreCorrupt):
        outbox.ack(bad.id)
    done = outbox.recover(lambda _: None)
    assert (done.recovered, done.unreadable) == (1, 1)
    time.now += HOUR
    caplog.clear()
    done = outbox.recover(lambda _: None)
    assert (done.expired, done.unreadable) == (0, 1)
    assert [bad.id in one.getMessage() for one in caplog.records] == [True]
    connection.execute("UPDATE message_outbox SET queued_at = 'soon' WHERE id = ?", (bad.id,))
    caplog.clear()
    assert outbox.recover(lambda _: None).unreadable == 1
    assert [bad.id in one.getMessage() for one in caplog.records] == [True]


def test_the_schema_knows_every_status_and_the_records_every_column(bench, opened):
    connection = bench.raw()
    try:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(message_outbox)")]
        assert columns == ["insertion", *MESSAGES.columns]
        for column, value in (("status", "exploded"), ("error_class", "exploded"), ("attempt_count", -1)):
            with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
                connection.execute(
                    "INSERT INTO message_outbox (id, channel, target, payload, queued_at, status, attempt_count,"
                    f" error_class) VALUES ('x', 'c', 't', '1', 1, {'?' if column == 'status' else repr('queued')},"
                    f" {'?' if column == 'attempt_count' else 0}, {'?' if column == 'error_class' else 'NULL'})",
                    (value,),
                )
    finally:
        connection.close()


def test_an_older_ledger_gets_its_outbox(bench):
    opened = bench.open()
    task = opened.tasks.create(runtime="cli", task="work", owner_key="owner")
    opened.close()
    connection = bench.raw()
    connection.executescript("DROP TABLE message_outbox; DROP TABLE outbox_imports; PRAGMA user_version = 2")
    connection.close()
    again = bench.open()
    assert queued(again.outbox).status == "queued"
    assert again.tasks.get(task.task_id) == task
    assert bench.rows("PRAGMA user_version") == [(SCHEMA_VERSION,)]
