"""The task API on SQLite: what each call does, refreshing across connections, quarantine, restoring."""

import itertools
import logging

import pytest

import tornpage.ledger.disk.database as ledger_database
from tornpage.ledger import (
    DeliveryStatus,
    IllegalTransition,
    NotFound,
    Runtime,
    Status,
    StoreCorrupt,
    StoreError,
    StoreIOError,
    TaskRegistry,
    UsageError,
)
from tornpage.ledger.rules.indexes import Indexes

DAY_MS = 86_400_000


def made(ledger, **fields):
    return ledger.tasks.create(**{"runtime": "cli", "task": "water", "owner_key": "owner", **fields})


def test_a_task_lives_from_queued_to_its_end_and_every_row_says_so(bench):
    ledger = bench.open()
    task = made(ledger)
    assert bench.rows() == [(task.task_id, "queued")]
    running = ledger.tasks.start(task.task_id)
    assert bench.rows() == [(task.task_id, "running")]
    assert running.started_at is not None
    ledger.tasks.progress(task.task_id, " half\n done ")
    ended = ledger.tasks.finish(task.task_id, "succeeded", terminal_summary="all wet")
    assert (ended.status, ended.progress_summary, ended.terminal_summary) == (Status.SUCCEEDED, "half done", "all wet")
    assert ended.cleanup_after == ended.ended_at + 7 * DAY_MS
    for refused in (
        lambda: ledger.tasks.start(task.task_id),
        lambda: ledger.tasks.finish(task.task_id, "failed"),
        lambda: ledger.tasks.finish(task.task_id, "succeeded"),
    ):
        with pytest.raises(IllegalTransition):
            refused()
    assert ledger.tasks.get(task.task_id) == ended
    ledger.close()
    assert bench.open().tasks.list() == [ended]


def test_lost_is_an_inference_that_its_own_run_may_correct(bench):
    ledger = bench.open()
    task = made(ledger, run_id="run")
    lost = ledger.tasks.finish(task.task_id, "lost", error="its worker died")
    assert lost.cleanup_after == lost.ended_at + DAY_MS
    for run in (None, "another"):
        with pytest.raises(IllegalTransition):
            ledger.tasks.finish(task.task_id, "succeeded", run_id=run)
    assert ledger.tasks.finish(task.task_id, "succeeded", run_id="run").status is Status.SUCCEEDED


def test_a_refused_call_writes_nothing_at_all(bench):
    ledger = bench.open()
    task = made(ledger)
    ledger.tasks.finish(task.task_id, "cancelled")
    version = bench.raw()
    before = version.execute("PRAGMA data_version").fetchall()
    for error, call in (
        (IllegalTransition, lambda: ledger.tasks.start(task.task_id)),
        (NotFound, lambda: ledger.tasks.start("nobody")),
        (NotFound, lambda: ledger.tasks.delete("nobody")),
        (NotFound, lambda: ledger.tasks.set_delivery_state("nobody", requester_origin=1)),
        (UsageError, lambda: ledger.tasks.finish(task.task_id, "queued")),
        (UsageError, lambda: ledger.tasks.finish(task.task_id, "exploded")),
        (UsageError, lambda: ledger.tasks.set_notify_policy(task.task_id, "loud")),
        (UsageError, lambda: ledger.tasks.list(runtime="abacus")),
        (UsageError, lambda: made(ledger, owner_key=" ", scope_kind="session")),
    ):
        with pytest.raises(error):
            call()
    assert version.execute("PRAGMA data_version").fetchall() == before
    version.close()


def test_creating_the_same_task_of_a_run_again_returns_it_and_fills_what_it_lacks(bench):
    ledger = bench.open()
    recorder = bench.recorder()
    ledger.tasks.observe(recorder)
    first = made(ledger, run_id=" run ", notify_policy="silent")
    assert made(ledger, run_id="run", notify_policy="silent") == first
    assert len(recorder.events) == 1
    filled = made(ledger, run_id="run", agent_id="gardener", requester_origin={"channel": 7})
    assert (filled.task_id, filled.agent_id, filled.notify_policy) == (first.task_id, "gardener", "done_only")
    assert recorder.events[1] == ("upserted", filled, first)
    assert ledger.tasks.get_delivery(first.task_id).requester_origin == {"channel": 7}
    assert made(ledger, run_id="run", task="other").task_id != first.task_id
    assert len(bench.rows()) == 2


def test_deleting_takes_the_delivery_state_along_and_nothing_comes_back(bench):
    ledger = bench.open()
    task = made(ledger, requester_origin={"channel": 7}, run_id="run")
    ledger.tasks.set_delivery_status(task.task_id, "delivered")
    gone = ledger.tasks.delete(task.task_id)
    assert gone.delivery_status is DeliveryStatus.DELIVERED
    assert bench.rows("SELECT * FROM task_delivery_state") == []
    assert ledger.tasks.get(task.task_id) is None
    assert ledger.tasks.get_delivery(task.task_id) is None
    assert ledger.tasks.list_by_run("run") == ledger.tasks.list_fresh_for_owner("owner") == []
    ledger.close()
    assert bench.open().tasks.list() == []


def test_the_delivery_state_keeps_what_is_left_out_and_hands_out_copies(bench):
    ledger = bench.open()
    task = made(ledger)
    origin = {"to": ["a"]}
    ledger.tasks.set_delivery_state(task.task_id, requester_origin=origin)
    ledger.tasks.set_delivery_state(task.task_id, last_notified_event_at=5)
    origin["to"].append("b")
    ledger.tasks.get_delivery(task.task_id).requester_origin["to"].append("c")
    state = ledger.tasks.get_delivery(task.task_id)
    assert (state.requester_origin, state.last_notified_event_at) == ({"to": ["a"]}, 5)
    ledger.tasks.set_delivery_state(task.task_id, requester_origin=None)
    assert bench.rows("SELECT requester_origin, last_notified_event_at FROM task_delivery_state") == [(None, 5)]


def test_lists_are_newest_first_and_ties_go_to_the_latest_insertion(bench):
    ledger = bench.open(clock=lambda: 1_700_000_000_000)
    ids = [made(ledger, parent_flow_id="flow", child_session_key="child").task_id for _ in range(4)]
    ledger.tasks.start(ids[1])
    expected = ids[::-1]
    for _ in range(2):
        for listed in (
            ledger.tasks.list(),
            ledger.tasks.list_for_owner(" owner "),
            ledger.tasks.list_fresh_for_owner("owner"),
            ledger.tasks.list_by_parent_flow("flow"),
            ledger.tasks.list_for_session("child"),
            ledger.tasks.list_for_session("owner"),
        ):
            assert [task.task_id for task in listed] == expected
        ledger.tasks.restore()
    assert [task.task_id for task in ledger.tasks.list(status="running")] == [ids[1]]
    assert ledger.tasks.list(runtime=Runtime.ACP) == []
    assert ledger.tasks.list_for_owner("  ") == ledger.tasks.list_fresh_for_owner("  ") == []


def test_indexes_kept_step_by_step_equal_rebuilt_ones(bench):
    ledger = bench.open()
    memory = ledger.tasks._memory
    assert memory.indexes == Indexes()
    one, two = made(ledger, run_id="run"), made(ledger, owner_key="else", child_session_key="owner")
    ledger.tasks.finalize_by_run("run", "failed")
    ledger.tasks.delete(one.task_id)
    assert ledger.tasks._memory is memory
    assert memory.indexes == Indexes.rebuild(memory.tasks.values())
    assert ledger.tasks.find("owner").task_id == two.task_id


def test_a_token_is_a_task_id_then_a_run_then_a_session(bench):
    ledger = bench.open()
    watched = made(ledger, run_id="run", runtime="acp", task="work")
    made(ledger, run_id="run", task="watch")
    assert ledger.tasks.find(watched.task_id) == watched
    assert ledger.tasks.find(" run ") == watched
    assert ledger.tasks.find("owner").task == "watch"
    assert ledger.tasks.find("nothing") is None


# By run id


def test_calls_by_run_touch_the_tasks_of_that_run_only(bench):
    ledger = bench.open()
    first, other = made(ledger, run_id="run"), made(ledger, run_id="other")
    assert [task.task_id for task in ledger.tasks.mark_running_by_run(" run ")] == [first.task_id]
    assert ledger.tasks.mark_running_by_run("run") == []
    assert [task.progress_summary for task in ledger.tasks.progress_by_run("run", "on it")] == ["on it"]
    assert [task.status for task in ledger.tasks.finalize_by_run("run", "timed_out")] == [Status.TIMED_OUT]
    assert ledger.tasks.finalize_by_run("run", "succeeded") == []
    assert ledger.tasks.get(first.task_id).status is Status.TIMED_OUT
    assert ledger.tasks.get(other.task_id) == other
    assert ledger.tasks.finalize_by_run(" ", "failed") == []


def test_an_ambiguous_run_touches_nothing_until_a_session_says_which(bench):
    ledger = bench.open()
    mine = made(ledger, run_id="run", child_session_key="mine")
    made(ledger, run_id="run", child_session_key="theirs")
    assert ledger.tasks.mark_running_by_run("run") == []
    assert [task.task_id for task in ledger.tasks.mark_running_by_run("run", session_key="mine")] == [mine.task_id]


def test_the_real_end_of_a_run_replaces_lost(bench):
    ledger = bench.open()
    task = made(ledger, run_id="run")
    ledger.tasks.finish(task.task_id, "lost")
    assert [task.status for task in ledger.tasks.finalize_by_run("run", "succeeded")] == [Status.SUCCEEDED]


def test_several_tasks_of_a_run_change_together_or_not_at_all(bench):
    ledger = bench.open()
    made(ledger, run_id="run", task="one")
    made(ledger, run_id="run", task="two")
    before = ledger.tasks.list()
    bench.faults.fail("UPDATE", skip=1)
    with pytest.raises(StoreIOError):
        ledger.tasks.mark_running_by_run("run")
    assert ledger.tasks.list() == before
    assert {status for _, status in bench.rows()} == {"queued"}
    assert len(ledger.tasks.mark_running_by_run("run")) == 2


# Cancel


def test_cancel_asks_the_runtime_first_and_keeps_an_end_that_came_meanwhile(bench):
    asked = []
    answers = {}

    def hook(task):
        asked.append(task.task_id)
        return answers[task.task_id]()

    ledger = bench.open(control_hooks={Runtime.ACP: hook})
    agreed, refused, broken, ended, deleted = (made(ledger, runtime="acp", task=str(n)).task_id for n in range(5))
    answers[agreed] = lambda: None
    answers[refused] = lambda: False
    answers[broken] = lambda: 1 / 0
    answers[ended] = lambda: bool(ledger.tasks.finish(ended, "succeeded"))
    answers[deleted] = lambda: bool(ledger.tasks.delete(deleted))
    results = {one: ledger.tasks.cancel(one) for one in (agreed, refused, broken, ended, deleted, "nobody")}
    assert asked == [agreed, refused, broken, ended, deleted]
    assert {one: (result.found, result.cancelled) for one, result in results.items()} == {
        agreed: (True, True),
        refused: (True, False),
        broken: (True, False),
        ended: (True, False),
        deleted: (False, False),
        "nobody": (False, False),
    }
    assert results[agreed].task.status is Status.CANCELLED
    assert "division by zero" in results[broken].reason
    assert results[ended].task.status is Status.SUCCEEDED
    again = ledger.tasks.cancel(agreed)
    assert (again.cancelled, again.reason) == (False, "it is already cancelled")


def test_a_cli_task_is_only_recorded_and_an_uncontrolled_runtime_is_refused(bench):
    ledger = bench.open()
    assert ledger.tasks.cancel(made(ledger).task_id).cancelled
    result = ledger.tasks.cancel(made(ledger, runtime="cron").task_id)
    assert (result.cancelled, result.task.status) == (False, Status.QUEUED)
    assert "cron" in result.reason


# Observers


def test_observers_hear_commits_in_order_and_one_that_raises_stops_nobody(bench, caplog):
    ledger = bench.open()

    class Broken:
        def upserted(self, task, previous):
            raise ZeroDivisionError

    recorder = bench.recorder()
    ledger.tasks.observe(Broken(), recorder)
    with caplog.at_level(logging.ERROR, "ledger.observers"):
        task = made(ledger)
        running = ledger.tasks.start(task.task_id)
        ledger.tasks.delete(task.task_id)
    assert "ZeroDivisionError" in caplog.text
    assert recorder.events == [
        ("upserted", task, None),
        ("upserted", running, task),
        ("deleted", task.task_id, running),
    ]
    ledger.tasks.configure_observers()
    made(ledger)
    ledger.tasks.configure_observers(None)
    made(ledger)
    assert len(recorder.events) == 4
    ledger.tasks.observe(recorder)
    ledger.tasks.restore()
    assert recorder.events[4][0] == "restored"


def test_a_restore_is_announced_on_an_empty_ledger_too(bench):
    ledger = bench.open()
    recorder = bench.recorder()
    ledger.tasks.observe(recorder)
    ledger.tasks.restore()
    assert recorder.events == [("restored", ())]


# Other connections


def test_two_ledgers_on_one_directory_see_each_other_at_the_next_read(bench, journal_mode):
    one, two = bench.open(journal_mode=journal_mode), bench.open(journal_mode=journal_mode)
    recorder = bench.recorder()
    two.tasks.observe(recorder)
    task = made(one, run_id="run")
    assert two.tasks.get(task.task_id) == task
    assert recorder.events == [("restored", (task.task_id,))]
    two.tasks.start(task.task_id)
    assert one.tasks.list(status="running") == two.tasks.list()
    two.tasks.delete(task.task_id)
    for read in (one.tasks.list, lambda: one.tasks.list_for_owner("owner"), lambda: one.tasks.list_by_run("run")):
        assert read() == []


def test_no_change_is_made_from_a_stale_memory(bench):
    one, two = bench.open(), bench.open()
    task = made(one, run_id="run")
    two.tasks.list()
    one.tasks.finish(task.task_id, "succeeded")
    with pytest.raises(IllegalTransition):
        two.tasks.start(task.task_id)
    assert two.tasks.progress(task.task_id, "late").status is Status.SUCCEEDED
    assert made(two, run_id="run").task_id == task.task_id
    one.tasks.delete(task.task_id)
    with pytest.raises(NotFound):
        two.tasks.progress(task.task_id, "later")
    assert bench.rows() == []


def test_a_foreign_commit_and_an_own_one_together_leave_memory_equal_to_disk(bench):
    one, two = bench.open(), bench.open()
    task = made(one)
    two.tasks.list()
    foreign = made(one, task="foreign")
    two.tasks.start(task.task_id)
    assert {found.task_id for found in two.tasks.list()} == {task.task_id, foreign.task_id}
    assert two.tasks.list() == one.tasks.list()


def test_looking_for_foreign_commits_may_fail_and_then_the_read_raises(bench):
    ledger = bench.open()
    made(ledger)
    bench.faults.fail("PRAGMA data_version")
    with pytest.raises(StoreIOError):
        ledger.tasks.list()
    assert len(ledger.tasks.list()) == 1


def test_a_reload_that_fails_raises_and_keeps_memory_for_nobody(bench):
    one, two = bench.open(), bench.open()
    made(one)
    bench.faults.fail('SELECT "task_id"')
    with pytest.raises(StoreError):
        two.tasks.list()
    assert len(two.tasks.list()) == 1


# Restoring


def test_tasks_and_delivery_states_are_read_as_of_one_moment(bench, monkeypatch):
    ledger = bench.open()
    task = made(ledger, requester_origin=1)
    writer = bench.open()
    original = ledger_database.chunks

    def interleaved(connection, statement):
        yield from original(connection, statement)
        if '"tasks"' in statement and connection is ledger.database.connection:
            writer.tasks.delete(task.task_id)

    monkeypatch.setattr(ledger_database, "chunks", interleaved)
    snapshot = ledger.tasks.backend.load_snapshot()
    assert (list(snapshot.tasks), list(snapshot.deliveries)) == ([task.task_id], [task.task_id])
    assert bench.rows() == []
    monkeypatch.undo()
    assert ledger.tasks.list() == []


def test_a_failed_restore_is_sticky_until_it_is_repeated(bench):
    made(bench.open())
    database = bench.ledgers[0].database
    tasks = TaskRegistry(bench.ledgers[0].tasks.backend, clock=lambda: 1, new_id=lambda: "new")
    bench.faults.fail('SELECT "task_id"')
    with pytest.raises(StoreIOError):
        tasks.list()
    for call in (tasks.list, lambda: tasks.create(runtime="cli", task="x", owner_key="o")):
        with pytest.raises(StoreError, match="was not restored"):
            call()
    assert not database.fence_owed
    tasks.restore()
    assert len(tasks.list()) == 1


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("UPDATE tasks SET status = 'exploded' WHERE task_id = ?", "exploded"),
        ("UPDATE tasks SET created_at = 'yesterday' WHERE task_id = ?", "int"),
        ("UPDATE tasks SET task = CAST(X'ff' AS TEXT) WHERE task_id = ?", "str"),
        ("UPDATE tasks SET label = X'00' WHERE task_id = ?", "str"),
    ],
)
def test_an_unreadable_row_is_quarantined_and_the_others_load(bench, damage, reason):
    ledger = bench.open()
    bad, good = made(ledger), made(ledger)
    raw = bench.raw()
    raw.execute("PRAGMA ignore_check_constraints = 1")
    raw.execute(damage, (bad.task_id,))
    raw.close()
    assert ledger.tasks.list() == [good]
    (found,) = ledger.tasks.quarantined()
    assert (found.table, found.key) == ("tasks", bad.task_id)
    assert reason in found.reason
    ledger.tasks.start(good.task_id)
    with pytest.raises(StoreError):
        ledger.tasks.start(bad.task_id)
    assert [task.task_id for task in ledger.tasks.list_fresh_for_owner("owner")] == [good.task_id]
    assert len(bench.rows("SELECT task_id FROM tasks")) == 2
    ledger.close()
    again = bench.open()
    assert [task.task_id for task in again.tasks.list()] == [good.task_id]
    assert [one.key for one in again.tasks.quarantined()] == [bad.task_id]


def test_a_delivery_state_that_is_no_json_is_quarantined_and_its_task_loads(bench):
    ledger = bench.open()
    task = made(ledger, requester_origin=1)
    raw = bench.raw()
    raw.execute("UPDATE task_delivery_state SET requester_origin = '{'")
    raw.close()
    assert ledger.tasks.list() == [task]
    assert [one.table for one in ledger.tasks.quarantined()] == ["task_delivery_state"]
    with pytest.raises(StoreCorrupt):
        ledger.tasks.set_delivery_state(task.task_id, last_notified_event_at=5)


def test_times_out_of_order_in_a_row_are_put_in_order_in_memory_and_in_fresh_reads(bench):
    ledger = bench.open()
    task = made(ledger)
    raw = bench.raw()
    raw.execute("UPDATE tasks SET created_at = 900, started_at = 500, last_event_at = 100")
    raw.close()
    (live,) = ledger.tasks.list()
    assert (live.created_at, live.started_at, live.last_event_at) == (100, 500, 500)
    assert ledger.tasks.list_fresh_for_owner("owner") == [live]
    assert ledger.tasks.progress(task.task_id, "x").created_at == 100
    assert bench.rows("SELECT created_at FROM tasks") == [(100,)]


def test_a_clock_that_jumps_back_leaves_times_in_order(bench):
    now = itertools.chain([5000, 3000, 1000], itertools.repeat(10))
    ledger = bench.open(clock=lambda: next(now))
    task = made(ledger)
    ledger.tasks.start(task.task_id)
    ended = ledger.tasks.finish(task.task_id, "succeeded")
    assert ended.created_at <= ended.started_at <= ended.ended_at
    ledger.close()
    assert bench.open().tasks.get(task.task_id) == ended
