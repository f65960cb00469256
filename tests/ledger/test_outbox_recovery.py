"""The recovery pass: order, expiry, budget, cutoff, what it passes over, and clocks that jump."""

import itertools
import math
import threading

import pytest
from ledger_samples import T0, queued

from tornpage import ledger
from tornpage.ledger.outbox import DeliveryFailed, MessageStatus

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE


@pytest.fixture
def opened(bench, time):
    # Nothing here can tell how durable a commit is, and a busy disk would cost minutes.
    return bench.open(clock=time, synchronous="off")


def counts(done, *names):
    """The named counts, after checking that all others are 0."""
    assert {name for name in done.__struct_fields__ if getattr(done, name)} <= set(names), done
    return tuple(getattr(done, name) for name in names)


def never(_envelope):
    pytest.fail("nothing is to be sent")


def refuse(_envelope):
    raise DeliveryFailed("not now")


def test_the_receiver_gets_what_was_queued_with_its_key(outbox, time):
    message = queued(outbox, idempotency_key="key", turn_id="turn", account_id="account", dispatch_kind="final")
    keyless = queued(outbox, payload=["x"])
    time.now += 3
    seen = []
    assert counts(outbox.recover(seen.append), "recovered") == (2,)
    first, second = seen
    assert (first.id, first.idempotency_key, first.attempt, first.queued_at) == (message.id, "key", 1, T0)
    assert (first.turn_id, first.account_id, first.dispatch_kind) == ("turn", "account", "final")
    assert (first.channel, first.target, first.payload) == ("mail", "me", {"text": "hi"})
    assert (second.idempotency_key, second.payload) == (keyless.id, ["x"])
    now = outbox.get(message.id)
    assert (now.status, now.delivered_at, now.leased_by) == ("delivered", T0 + 3, None)
    assert counts(outbox.recover(never)) == ()


def test_due_messages_go_in_the_order_in_which_they_were_queued(outbox, time):
    times = [T0 + 5, T0, T0 + 9, T0, T0 + 1]
    messages = []
    for time.now in times:
        messages.append(queued(outbox).id)
    time.now = T0 + MINUTE
    seen = []
    outbox.recover(lambda envelope: seen.append(envelope.id))
    assert seen == [messages[1], messages[3], messages[4], messages[0], messages[2]]


def test_a_message_that_is_not_due_blocks_none_behind_it(outbox, time):
    waiting = [queued(outbox).id for _ in range(3)]
    assert outbox.recover(refuse).failed == 3
    due = [queued(outbox).id for _ in range(3)]
    seen = []
    done = outbox.recover(lambda envelope: seen.append(envelope.id))
    assert counts(done, "recovered", "deferred") == (3, 3)
    assert seen == due
    time.now += 5 * SECOND - 1
    assert counts(outbox.recover(never), "deferred") == (3,)
    time.now += 1
    seen.clear()
    outbox.recover(lambda envelope: seen.append((envelope.id, envelope.attempt)))
    assert seen == [(one, 2) for one in waiting]


def test_failures_are_counted_and_end_nothing(outbox):
    good, flaky, hopeless, strange = (queued(outbox).id for _ in range(4))
    errors = {flaky: DeliveryFailed("later"), hopeless: DeliveryFailed("no", permanent=True), strange: RuntimeError()}

    def deliver(envelope):
        if envelope.id in errors:
            raise errors[envelope.id]

    assert counts(outbox.recover(deliver), "recovered", "failed") == (1, 3)
    found = {one.id: (one.status.value, one.last_error, one.attempt_count) for one in outbox.list()}
    assert found == {
        good: ("delivered", None, 0),
        flaky: ("failed_retryable", "later", 1),
        hopeless: ("failed_terminal", "no", 1),
        strange: ("failed_retryable", "RuntimeError", 1),
    }


def test_an_error_that_is_known_to_be_permanent_is_not_tried_again(outbox, time):
    message = queued(outbox)

    def deliver(_envelope):
        raise OSError("Forbidden: bot was kicked from the group")

    outbox.recover(deliver)
    assert outbox.get(message.id).status == "failed_terminal"
    time.now += HOUR
    assert counts(outbox.recover(never)) == ()


def test_an_error_whose_text_is_no_unicode_is_kept_readably(outbox):
    message = queued(outbox)

    def deliver(_envelope):
        raise ValueError("broken \udcff name")

    outbox.recover(deliver)
    assert outbox.get(message.id).last_error == r"broken \udcff name"


@pytest.mark.parametrize(
    "stored", ["", "{", "NaN", "[1, Infinity]", "1e999", '{"a":', "[" * 100_000, b"\xff\xfe", b'"caf\xe9"']
)
def test_a_payload_that_cannot_be_parsed_fails_that_message_alone(bench, opened, stored):
    outbox = opened.outbox
    first, bad, last = (queued(outbox).id for _ in range(3))
    connection = opened.database.connection
    if isinstance(stored, bytes):
        connection.execute("UPDATE message_outbox SET payload = CAST(? AS TEXT) WHERE id = ?", (stored, bad))
    else:
        connection.execute("UPDATE message_outbox SET payload = ? WHERE id = ?", (stored, bad))
    raw = bench.rows(f"SELECT CAST(payload AS BLOB) FROM message_outbox WHERE id = '{bad}'")
    seen = []
    done = outbox.recover(lambda envelope: seen.append(envelope.id))
    assert counts(done, "recovered", "failed") == (2, 1)
    assert seen == [first, last]
    now = outbox.get(bad)
    assert (now.status, now.error_class, now.attempt_count) == ("failed_terminal", "permanent", 1)
    assert "can't be parsed" in now.terminal_reason
    # What was stored stays as it was, to be looked into.
    assert bench.rows(f"SELECT CAST(payload AS BLOB) FROM message_outbox WHERE id = '{bad}'") == raw


@pytest.mark.parametrize(("last_error", "because"), [("old", ": old"), (None, "")])
def test_messages_that_had_their_attempts_elsewhere_are_given_up_unsent(opened, last_error, because):
    message = queued(opened.outbox)
    opened.database.connection.execute("UPDATE message_outbox SET attempt_count = 5, last_error = ?", (last_error,))
    assert counts(opened.outbox.recover(never), "failed") == (1,)
    now = opened.outbox.get(message.id)
    assert (now.status, now.attempt_count, now.terminal_reason) == (
        "failed_terminal",
        5,
        f"gave up after 5 attempts{because}",
    )


# Expiry


def test_what_is_too_old_expires_unsent_with_its_reason(outbox, time):
    old = queued(outbox)
    tried = queued(outbox)
    outbox.fail(tried.id, "no")
    time.now += 1
    edge = queued(outbox)
    time.now = T0 + 1 + 30 * MINUTE
    seen = []
    assert counts(outbox.recover(seen.append), "recovered", "expired") == (1, 2)
    assert [one.id for one in seen] == [edge.id]
    for one in (old, tried):
        now = outbox.get(one.id)
        assert (now.status, now.completed_at, now.next_attempt_at) == (MessageStatus.EXPIRED, time.now, None)
        assert now.terminal_reason == "not delivered within 1800000 ms: it was 1800001 ms old"
    assert outbox.get(tried.id).attempt_count == 1


def test_what_somebody_is_sending_does_not_expire_under_their_hands(opened, time):
    outbox = opened.outbox
    message = queued(outbox)
    with opened.workers.hold() as worker:
        outbox.claim(message.id, worker.id)
        time.now += HOUR
        assert counts(outbox.recover(never), "leased") == (1,)
        assert outbox.ack(message.id).changed
    other = queued(outbox)
    with opened.workers.hold() as dead:
        outbox.claim(other.id, dead.id)
    time.now += HOUR
    assert counts(outbox.recover(never), "expired") == (1,)


def test_expiry_is_all_or_nothing(bench, outbox, time):
    for _ in range(3):
        queued(outbox)
    time.now += HOUR
    bench.faults.fail("UPDATE", skip=2)
    with pytest.raises(ledger.StoreIOError) as caught:
        outbox.recover(never)
    assert caught.value.outcome == "unchanged"
    assert {one.status.value for one in outbox.list()} == {"queued"}
    assert outbox.recover(never).expired == 3


# Budget and cutoff


def test_past_the_budget_the_rest_stays_as_it_was(bench, outbox, time):
    messages = [queued(outbox) for _ in range(5)]
    rest = bench.rows("SELECT * FROM message_outbox ORDER BY insertion")[2:]

    def slowly(_envelope):
        time.now += 30 * SECOND

    assert counts(outbox.recover(slowly), "recovered", "over_budget") == (2, 3)
    assert bench.rows("SELECT * FROM message_outbox ORDER BY insertion")[2:] == rest
    assert counts(outbox.recover(slowly, budget_ms=MINUTE + 1), "recovered") == (3,)
    assert {outbox.get(one.id).attempt_count for one in messages} == {0}


def test_no_budget_sends_nothing_but_expires(outbox, time):
    queued(outbox)
    time.now += HOUR
    queued(outbox)
    assert counts(outbox.recover(never, budget_ms=0), "expired", "over_budget") == (1, 1)


def test_the_cutoff_leaves_newer_messages_to_whoever_queued_them(outbox, time):
    old = queued(outbox)
    time.now += 10
    queued(outbox)
    seen = []
    assert counts(outbox.recover(seen.append, cutoff=T0 + 10), "recovered", "skipped_cutoff") == (1, 1)
    assert [one.id for one in seen] == [old.id]


@pytest.mark.parametrize("name", ["budget_ms", "max_age_ms"])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, -math.inf, "5", None, True])
def test_a_span_that_is_none_is_refused_and_nothing_is_sent(outbox, time, name, value):
    queued(outbox)
    time.now += HOUR
    with pytest.raises(ledger.UsageError, match=name):
        outbox.recover(never, **{name: value})
    assert outbox.list()[0].status == "queued"


@pytest.mark.parametrize("options", [{"max_age_ms": 0}, {"cutoff": 1.5}, {"cutoff": math.nan}, {"worker_id": "../x"}])
def test_other_bad_limits_are_refused(outbox, options):
    queued(outbox)
    with pytest.raises(ledger.UsageError):
        outbox.recover(never, **options)
    assert outbox.list()[0].status == "queued"


# Clocks that jump


def test_after_a_jump_back_what_waits_is_tried_at_once_and_then_backs_off_as_ever(outbox, time):
    fresh, tried = queued(outbox), queued(outbox)
    outbox.fail(tried.id, "no")
    time.now -= HOUR
    assert counts(outbox.recover(refuse), "failed") == (2,)
    assert outbox.get(fresh.id).next_attempt_at == time.now + 5 * SECOND
    assert outbox.get(tried.id).next_attempt_at == time.now + 25 * SECOND
    assert counts(outbox.recover(never), "deferred") == (2,)
    time.now += 25 * SECOND
    assert counts(outbox.recover(lambda _: None), "recovered") == (2,)


def test_a_jump_back_in_the_middle_loses_nothing_and_keeps_the_budget_finite(outbox, time):
    messages = [queued(outbox) for _ in range(6)]
    steps = itertools.chain([10 * SECOND, -HOUR], itertools.repeat(20 * SECOND))

    def deliver(_envelope):
        time.now += next(steps)

    # 10 s, an hour back (which costs nothing), then 20 s each: the sixth would begin after 70 s.
    assert counts(outbox.recover(deliver), "recovered", "over_budget") == (5, 1)
    assert counts(outbox.recover(deliver), "recovered") == (1,)
    assert {outbox.get(one.id).status.value for one in messages} == {"delivered"}


def test_a_jump_forward_in_the_middle_ends_the_pass_early_and_harms_nothing(outbox, time):
    for _ in range(3):
        queued(outbox)

    def deliver(_envelope):
        time.now += HOUR

    assert counts(outbox.recover(deliver), "recovered", "over_budget") == (1, 2)
    assert [one.status.value for one in outbox.list()] == ["delivered", "queued", "queued"]
    # From now on they are an hour old as far as anybody can tell, and end with that reason.
    assert counts(outbox.recover(never), "expired") == (2,)
    assert all("ms old" in one.terminal_reason for one in outbox.list(status="expired"))


# Leases, threads, interrupts


def test_a_pass_refuses_to_run_inside_a_batch(opened):
    queued(opened.outbox)
    with opened.batch(), pytest.raises(ledger.UsageError, match="batch"):
        opened.outbox.recover(never)
    assert opened.outbox.list()[0].leased_by is None


def test_the_message_is_leased_while_it_is_sent_and_no_lock_is_held(bench, opened):
    outbox = opened.outbox
    message = queued(outbox)
    other = bench.open()

    def deliver(envelope):
        holder = outbox.get(envelope.id).leased_by
        assert opened.workers.is_alive(holder)
        with other.workers.hold() as second:
            assert not other.outbox.claim(envelope.id, second.id).changed
        assert other.outbox.recover(never).leased == 1
        # Another thread of this process can use the ledger meanwhile.
        thread = threading.Thread(target=queued, args=(outbox,), kwargs={"idempotency_key": "meanwhile"})
        thread.start()
        thread.join(timeout=30)
        assert not thread.is_alive()

    assert outbox.recover(deliver).recovered == 1
    assert outbox.get(message.id).status == "delivered"
    assert [one.status.value for one in outbox.list()] == ["delivered", "queued"]


def test_a_delivery_that_acks_by_itself_counts_as_recovered(outbox):
    queued(outbox)
    assert counts(outbox.recover(lambda envelope: outbox.ack(envelope.id)), "recovered") == (1,)


def test_an_interrupt_gives_the_message_back_without_an_attempt(bench, outbox):
    queued(outbox)
    before = bench.rows("SELECT * FROM message_outbox")

    def deliver(_envelope):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        outbox.recover(deliver)
    assert bench.rows("SELECT * FROM message_outbox") == before


def test_messages_that_vanish_or_end_meanwhile_are_passed_over(bench, opened):
    outbox = opened.outbox
    first, gone, ended = (queued(outbox).id for _ in range(3))

    def deliver(envelope):
        if envelope.id == first:
            opened.database.connection.execute("DELETE FROM message_outbox WHERE id = ?", (gone,))
            outbox.ack(ended)
        else:
            pytest.fail("it is gone or has ended")

    assert counts(outbox.recover(deliver), "recovered") == (1,)


# An ack that fails


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_ack_that_fails_is_raised_and_the_message_goes_again_with_its_key(bench, outbox, when):
    message = queued(outbox, idempotency_key="key")
    seen = []

    def deliver(envelope):
        seen.append(envelope.idempotency_key)
        if len(seen) == 1:
            bench.faults.fail("COMMIT", when=when)

    if when == "after":
        # The commit had happened, so nothing failed.
        assert outbox.recover(deliver).recovered == 1
        assert seen == ["key"]
        return
    with pytest.raises(ledger.StoreIOError) as caught:
        outbox.recover(deliver)
    assert caught.value.outcome == "unchanged"
    now = outbox.get(message.id)
    assert (now.status, now.attempt_count, now.leased_by) == ("queued", 0, None)
    assert outbox.recover(deliver).recovered == 1
    assert seen == ["key", "key"]


def test_a_lease_that_cannot_be_given_back_ends_with_the_pass(bench, outbox):
    message = queued(outbox)

    def deliver(_envelope):
        bench.faults.fail("UPDATE", times=2)

    with pytest.raises(ledger.StoreIOError):
        outbox.recover(deliver)
    assert outbox.get(message.id).leased_by is not None
    assert outbox.recover(lambda _: None).recovered == 1


def test_a_claim_whose_commit_fails_sends_nothing(bench, outbox):
    queued(outbox)
    bench.faults.fail("COMMIT")
    with pytest.raises(ledger.StoreIOError):
        outbox.recover(never)
    assert outbox.recover(lambda _: None).recovered == 1


def test_a_message_that_another_pass_has_tried_meanwhile_waits_its_time(bench, outbox, time):
    first, second = queued(outbox), queued(outbox)
    other = bench.open(clock=lambda: time.now).outbox

    def deliver(envelope):
        assert envelope.id == first.id
        other.fail(second.id, "tried by somebody else")

    assert counts(outbox.recover(deliver), "recovered", "deferred") == (1, 1)
    assert outbox.get(second.id).attempt_count == 1
