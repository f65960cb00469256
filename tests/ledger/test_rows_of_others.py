"""Rows that the ledger would not have written: unreadable ones stay and block nothing, and odd ones are unreadable."""

import contextlib
import json
import sqlite3

import pytest

from tornpage.ledger import Ledger, Snapshot, Status, StoreError, UsageError
from tornpage.ledger.disk.database import Database
from tornpage.ledger.disk.rows import Unreadable
from tornpage.ledger.records import LATEST_MS
from tornpage.ledger.stores import JsonSnapshotStore, MemoryStore, SqliteStore

MAXIMUM = 2**63 - 1
BASIC = {"runtime": "cli", "owner_key": "me", "task": "work"}


@pytest.fixture
def opened(tmp_path):
    with Ledger.open(tmp_path / "state") as ledger:
        yield ledger


def write(place, statement, *values):
    with contextlib.closing(sqlite3.connect(place / "ledger.sqlite", isolation_level=None)) as connection:
        connection.execute(statement, values)


def keys(quarantined):
    return [(one.table, one.key) for one in quarantined]


def old_file(directory, name, **more):
    directory.mkdir(exist_ok=True)
    (directory / f"{name}.json").write_text(json.dumps({"id": name, "channel": "mail", "to": "you", **more}))


def test_a_delivery_state_that_can_not_be_read_stays_when_a_snapshot_is_saved_and_goes_with_its_task(tmp_path):
    database = Database.open(tmp_path)
    store = SqliteStore(database)
    with Ledger.open(tmp_path) as ledger:
        for name in ("a", "b", "c"):
            ledger.tasks._new_id = lambda name=name: name
            ledger.tasks.create(**BASIC, requester_origin={"of": name})
    write(tmp_path, "UPDATE task_delivery_state SET requester_origin = '{' WHERE task_id <> 'b'")
    loaded = store.load_snapshot()
    assert keys(loaded.quarantined) == [("task_delivery_state", "a"), ("task_delivery_state", "c")]
    # Without b and in another order: c keeps its row, or gets it again.
    store.save_snapshot(Snapshot({name: loaded.tasks[name] for name in ("c", "a")}, {}))
    again = store.load_snapshot()
    assert (list(again.tasks), sorted(keys(again.quarantined))) == (["c", "a"], sorted(keys(loaded.quarantined)))
    store.save_snapshot(Snapshot({"a": again.tasks["a"]}, {}))
    assert keys(store.load_snapshot().quarantined) == [("task_delivery_state", "a")]
    database.close()


def test_a_deleted_task_takes_its_unreadable_delivery_state_out_of_memory_and_file(opened, tmp_path):
    task = opened.tasks.create(**BASIC, requester_origin=1).task_id
    write(tmp_path / "state", "UPDATE task_delivery_state SET requester_origin = '{'")
    assert keys(opened.tasks.quarantined()) == [("task_delivery_state", task)]
    with opened.batch():
        opened.tasks.delete(task)
        assert opened.tasks.quarantined() == ()
    assert opened.tasks.quarantined() == ()
    opened.tasks.restore()
    assert opened.tasks.quarantined() == ()


def test_a_run_with_a_task_that_can_not_be_read_gets_no_other_one_that_may_be_it(opened, tmp_path):
    fields = {**BASIC, "run_id": "r"}
    lost, kept = opened.tasks.create(**fields), opened.tasks.create(**fields, label="other")
    write(tmp_path / "state", "UPDATE tasks SET created_at = 'soon' WHERE task_id = ?", lost.task_id)
    with pytest.raises(Unreadable, match=f"'r' has a task that can't be read.*{lost.task_id}"):
        opened.tasks.create(**fields)
    assert opened.tasks.create(**fields, label="other") == kept
    assert opened.tasks.create(**BASIC, run_id="s").run_id == "s"
    assert [one.task_id for one in opened.tasks.mark_running_by_run("r")] == [kept.task_id]


def test_queries_by_the_id_of_a_task_that_can_not_be_read_are_refused_and_mean_no_other(opened, tmp_path):
    lost = opened.tasks.create(**BASIC).task_id
    for other in ({"run_id": lost}, {"child_session_key": lost}):
        opened.tasks.create(**BASIC, **other)
    write(tmp_path / "state", "UPDATE tasks SET created_at = 'soon' WHERE task_id = ?", lost)
    queries = (opened.tasks.get, opened.tasks.get_delivery, opened.tasks.find)
    for query in (*queries, lambda task: opened.tasks.find(f" {task} ")):
        with pytest.raises(Unreadable):
            query(lost)
    with opened.batch(), pytest.raises(Unreadable):
        opened.tasks.find(lost)


def test_a_json_snapshot_refuses_calls_on_what_it_can_not_read_and_drops_a_state_with_its_task(tmp_path):
    path, names = tmp_path / "tasks.json", ["c", "b", "a"]
    with Ledger.open(store=JsonSnapshotStore(path), new_id=names.pop) as ledger:
        for _ in range(3):
            ledger.tasks.create(**BASIC, requester_origin=1)
    document = json.loads(path.read_text())
    document["tasks"][0]["status"] = "paused"
    document["deliveries"][1]["last_notified_event_at"] = "soon"
    path.write_text(json.dumps(document))
    with Ledger.open(store=JsonSnapshotStore(path), new_id=lambda: "a") as ledger:
        for refused in (lambda: ledger.tasks.start("a"), lambda: ledger.tasks.set_delivery_state("b")):
            with pytest.raises(Unreadable):
                refused()
        with pytest.raises(UsageError, match="taken"):
            ledger.tasks.create(**BASIC)
        ledger.tasks.delete("b")
        assert keys(ledger.tasks.quarantined()) == [("tasks", "a")]
    left = json.loads(path.read_text())
    assert [one["task_id"] for one in left["tasks"]] == ["c", "a"]
    assert sorted(one["task_id"] for one in left["deliveries"]) == ["a", "c"]


def test_the_record_of_an_import_that_can_not_be_read_keeps_only_its_own_file(opened, tmp_path):
    directory = tmp_path / "legacy"
    old_file(directory, "a")
    opened.outbox.import_legacy(directory)
    write(tmp_path / "state", "UPDATE outbox_imports SET imported_at = 'soon'")
    for name in ("a", "b"):
        old_file(directory, name)
    report = opened.outbox.import_legacy(directory)
    assert (report.imported, [one.file for one in report.problems]) == (1, ["a.json"])


def test_the_key_of_a_message_that_can_not_be_read_is_taken(opened, tmp_path):
    message = opened.outbox.enqueue(channel="mail", target="you", payload=1, idempotency_key="k")
    write(tmp_path / "state", "UPDATE message_outbox SET queued_at = 'soon'")
    with pytest.raises(Unreadable):
        opened.outbox.enqueue(channel="mail", target="you", payload=1, idempotency_key="k")
    old_file(tmp_path / "legacy", "a", idempotencyKey="k")
    report = opened.outbox.import_legacy(tmp_path / "legacy")
    assert (report.removed, [one.file for one in report.problems]) == (0, ["a.json"])
    assert keys(opened.outbox.quarantined()) == [("message_outbox", message.id)]
    assert opened.outbox.list() == []


def test_the_file_of_an_imported_message_that_can_not_be_read_stays(opened, tmp_path):
    directory = tmp_path / "legacy"
    old_file(directory, "a")
    opened.outbox.import_legacy(directory)
    write(tmp_path / "state", "UPDATE message_outbox SET queued_at = 'soon'")
    old_file(directory, "a")
    assert [one.file for one in opened.outbox.import_legacy(directory).problems] == ["a.json"]


@pytest.mark.parametrize("column", ["created_at", "started_at", "ended_at", "last_event_at", "cleanup_after"])
@pytest.mark.parametrize("value", [MAXIMUM, -MAXIMUM])
def test_a_task_with_a_time_that_no_caller_may_give_is_quarantined_and_upkeep_goes_on(opened, tmp_path, column, value):
    bad, good = (opened.tasks.create(**BASIC, status="failed").task_id for _ in range(2))
    write(tmp_path / "state", "UPDATE tasks SET cleanup_after = NULL")
    write(tmp_path / "state", f"UPDATE tasks SET {column} = ? WHERE task_id = ?", value, bad)
    assert opened.maintenance(apply=True).stamped == 1
    assert keys(opened.tasks.quarantined()) == keys(opened.audit().quarantined) == [("tasks", bad)]
    assert [task.task_id for task in opened.tasks.list()] == [good]


def test_the_last_time_that_a_caller_may_give_can_be_read_with_its_cleanup_date(opened):
    task = opened.tasks.create(**BASIC, status="failed", ended_at=LATEST_MS).task_id
    opened.tasks.restore()
    assert opened.tasks.quarantined() == ()
    assert opened.tasks.get(task).cleanup_after > LATEST_MS


def test_a_clock_that_no_row_can_show_is_refused_by_the_outbox(tmp_path):
    with Ledger.open(tmp_path, clock=lambda: LATEST_MS + 1) as ledger, pytest.raises(UsageError, match="now"):
        ledger.outbox.enqueue(channel="mail", target="you", payload=1)


def test_a_clock_that_no_row_can_show_ends_no_session(tmp_path):
    now = [5]
    with Ledger.open(tmp_path, clock=lambda: now[0]) as ledger:
        task, worker = ledger.tasks.create(**BASIC), ledger.workers.hold()
        run = ledger.history.start(task.task_id, worker_id=worker.id)
        session = ledger.history.open_session(run.id)
        now[0] = LATEST_MS + 1
        with pytest.raises(UsageError, match="now"):
            ledger.history.finish(run.id, "interrupted", finished_at=7)
        assert ledger.history.list_sessions() == [session]
        now[0] = 8
        assert ledger.history.finish(run.id, "interrupted", finished_at=7).finished_at == 7
        assert ledger.history.get_session(session.session_id).invalidated_at == 8


def test_as_many_attempts_as_can_be_stored_are_not_exceeded(opened, tmp_path):
    message = opened.outbox.enqueue(channel="mail", target="you", payload=1).id
    write(tmp_path / "state", "UPDATE message_outbox SET attempt_count = ?", MAXIMUM)
    assert opened.outbox.fail(message, "reset").message.attempt_count == MAXIMUM


@pytest.mark.parametrize(("depth", "many"), [(64, 0), (65, 1), (300, 1)])
def test_json_that_is_nested_deeper_than_a_caller_may_give_is_quarantined(opened, tmp_path, depth, many):
    task = opened.tasks.create(**BASIC, requester_origin=1).task_id
    write(tmp_path / "state", "UPDATE task_delivery_state SET requester_origin = ?", "[" * depth + "]" * depth)
    assert len(opened.tasks.quarantined()) == many
    if many:
        with pytest.raises(Unreadable):
            opened.tasks.get_delivery(task)
        with pytest.raises(Unreadable):
            opened.tasks.set_delivery_state(task, last_notified_event_at=5)
    else:
        assert opened.tasks.get_delivery(task) is not None
        opened.tasks.set_delivery_state(task, last_notified_event_at=5)


def test_an_age_between_two_milliseconds_prunes_what_is_older(tmp_path):
    now = [1_000]
    with Ledger.open(tmp_path, clock=lambda: now[0]) as ledger:
        message = ledger.outbox.enqueue(channel="mail", target="you", payload=1)
        ledger.outbox.ack(message.id)
        now[0] = 1_002
        assert ledger.outbox.prune(2.5) == 0
        assert ledger.outbox.prune(2) == 0
        assert ledger.outbox.prune(1.5) == 1


@pytest.mark.parametrize(("effect", "queued"), [("after", True), ("before", False)])
def test_a_batch_that_prunes_a_message_and_queues_its_id_again_knows_whether_it_was_committed(tmp_path, effect, queued):
    """The prune has read the keys alone, by which the new row equals the old one."""
    armed = []

    class Fails(sqlite3.Connection):
        def execute(self, statement, *values):
            if statement == "COMMIT" and armed:
                armed.clear()
                if effect == "after":
                    super().execute(statement)
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(statement, *values)

    now = [1_000]
    connect = lambda place, **how: sqlite3.connect(place, factory=Fails, **how)  # noqa: E731 - one line
    with Ledger.open(tmp_path, clock=lambda: now[0], connect=connect) as ledger:
        ledger.outbox.enqueue(channel="mail", target="you", payload=1, message_id="m")
        ledger.outbox.ack("m")
        now[0] = 2_000
        armed.append(True)
        outcome = None
        try:
            with ledger.batch():
                ledger.outbox.prune(1)
                ledger.outbox.enqueue(channel="mail", target="another", payload=2, message_id="m")
        except StoreError as error:
            outcome = error.outcome
        (message,) = ledger.outbox.list()
        assert (outcome, message.target) == ((None, "another") if queued else ("unchanged", "you"))


def test_an_invalid_origin_is_refused_before_a_row_is_read(opened, tmp_path):
    opened.tasks.create(**BASIC, run_id="r", requester_origin=1)
    write(tmp_path / "state", "UPDATE task_delivery_state SET requester_origin = '{'")
    with pytest.raises(UsageError, match="requester_origin"):
        opened.tasks.create(**BASIC, run_id="r", requester_origin=float("nan"))
    assert opened.tasks.list()[0].status is Status.QUEUED


NO_UTF8 = "CAST(x'ff61' AS TEXT)"


def test_a_session_whose_id_is_no_utf8_becomes_invalid_with_its_run(opened, tmp_path):
    worker, task = opened.workers.hold(), opened.tasks.create(**BASIC).task_id
    run = opened.history.start(task, worker_id=worker.id)
    opened.history.open_session(run.id, "s")
    write(tmp_path / "state", f"UPDATE agent_sessions SET session_id = {NO_UTF8}")
    opened.history.finish(run.id, "interrupted")
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / "ledger.sqlite")) as connection:
        assert connection.execute("SELECT valid FROM agent_sessions").fetchall() == [(0,)]


@pytest.mark.parametrize("wrong", [f"id = {NO_UTF8}", "last_attempt_at = 'soon'", "target = x'61'"])
def test_pruning_leaves_the_ended_messages_that_can_not_be_read_and_ends(tmp_path, wrong):
    times = iter(range(10**12, 10**13, 1_000))
    with Ledger.open(tmp_path / "state", clock=lambda: next(times)) as ledger:
        made = [ledger.outbox.enqueue(channel="mail", target="you", payload=1).id for _ in range(4)]
        for one in made:
            ledger.outbox.ack(one)
        write(tmp_path / "state", f"UPDATE message_outbox SET {wrong} WHERE id = ?", made[0])
        # The oldest is none of the two.
        assert [ledger.outbox.prune(1, limit=2), ledger.outbox.prune(1), ledger.outbox.prune(1)] == [2, 1, 0]
        assert len(ledger.outbox.quarantined()) == 1


def test_a_fence_is_a_commit_that_writes_although_somebody_has_deleted_its_row(opened, tmp_path):
    write(tmp_path / "state", "DELETE FROM ledger_fence")
    for count in (1, 2):
        assert opened.database.lay_fence()
        with contextlib.closing(sqlite3.connect(tmp_path / "state" / "ledger.sqlite")) as connection:
            assert connection.execute("SELECT count FROM ledger_fence").fetchall() == [(count,)]


def test_a_key_with_white_space_around_it_is_quarantined_as_the_schema_refuses_it(opened, tmp_path):
    for column in ("owner_key", "run_id"):
        task = opened.tasks.create(**BASIC, run_id=f"r-{column}", label=column).task_id
        place = sqlite3.connect(tmp_path / "state" / "ledger.sqlite", isolation_level=None)
        place.execute("PRAGMA ignore_check_constraints = ON")
        place.execute(f"UPDATE tasks SET {column} = ' ' || {column} WHERE task_id = ?", (task,))
        place.close()
        assert task in [one.key for one in opened.tasks.quarantined()]
        assert task in [one.key for one in opened.audit().quarantined]
        with pytest.raises(Unreadable):
            opened.tasks.cancel(task)
    assert opened.tasks.list_for_owner("me") == opened.tasks.list_fresh_for_owner("me") == []


@pytest.mark.parametrize("twice", ["tasks", "deliveries"])
def test_of_two_records_with_one_id_in_a_json_snapshot_none_is_read_and_none_is_lost(tmp_path, twice):
    path, names = tmp_path / "tasks.json", ["b", "a"]
    with Ledger.open(store=JsonSnapshotStore(path), new_id=names.pop) as ledger:
        for _ in range(2):
            ledger.tasks.create(**BASIC, requester_origin=1)
    document = json.loads(path.read_text())
    field = "task" if twice == "tasks" else "requester_origin"
    document[twice].append({**document[twice][0], field: "other work"})
    path.write_text(json.dumps(document))
    with Ledger.open(store=JsonSnapshotStore(path), new_id=lambda: "c") as ledger:
        assert [one.key for one in ledger.tasks.quarantined()] == ["a", "a"]
        with pytest.raises(Unreadable):
            ledger.tasks.set_delivery_state("a", last_notified_event_at=5)
        ledger.tasks.create(**BASIC)
    left = json.loads(path.read_text())
    kept, written = ([one[field] for one in each[twice] if one["task_id"] == "a"] for each in (left, document))
    assert kept == written


def test_a_fresh_read_in_a_batch_sees_its_changes_on_each_store(tmp_path):
    for store in (None, MemoryStore(), JsonSnapshotStore(tmp_path / "tasks.json")):
        with Ledger.open(tmp_path / "state", store=store, clock=lambda: 10**12) as ledger:
            old = ledger.tasks.create(**BASIC).task_id
            with ledger.batch():
                ledger.tasks.create(**BASIC, status="failed")
                ledger.tasks.delete(old)
                assert ledger.tasks.list_fresh_for_owner("me") == ledger.tasks.list_for_owner("me")
                assert len(ledger.tasks.list_fresh_for_owner("me")) == 1
                assert ledger.audit().count == 0


@pytest.mark.parametrize("place", [0, -1, -MAXIMUM - 1])
def test_a_row_before_the_first_one_is_audited(opened, tmp_path, place):
    opened.tasks.create(**BASIC, status="lost")
    write(tmp_path / "state", "UPDATE tasks SET insertion = ?", place)
    assert opened.audit().count == len(opened.tasks.list()) == 1
