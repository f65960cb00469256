"""Runs: one row from the start to the end, and the task that goes with it, in one transaction each."""

import math
import sqlite3

import pytest

from tornpage import ledger
from tornpage.ledger import IllegalTransition, NotFound, RunStatus, Status, StoreError, UsageError
from tornpage.ledger.runs import RESULTS, RUNS, SESSIONS, Session

RUN_ROWS = "SELECT id, task_id, worker_id, status, finished_at IS NULL FROM task_history ORDER BY insertion"
EVERYTHING = (
    "SELECT 'task', task_id, status, run_id, started_at, ended_at, last_event_at, error FROM tasks "
    "UNION ALL SELECT 'run', id, status, task_id, started_at, finished_at, cost_usd, artifacts FROM task_history "
    "UNION ALL SELECT 'session', session_id, run_id, valid, invalidated_at, reason, NULL, NULL FROM agent_sessions"
)


def queued(opened, **fields):
    return opened.tasks.create(**{"runtime": "cli", "task": "work", "owner_key": "owner", **fields})


@pytest.fixture
def opened(bench, hold):
    one = bench.open()
    hold(one)
    return one


@pytest.fixture
def run(opened):
    return opened.history.start(queued(opened).task_id, worker_id="w1", run_id="r1")


def agrees(opened):
    return opened.tasks.list_for_owner("owner") == opened.tasks.list_fresh_for_owner("owner")


def in_batch(opened, *calls):
    with opened.batch():
        for call in calls:
            call()


# Start


def test_the_row_is_there_from_the_start_and_the_task_is_running_and_the_runs(opened, bench):
    task = queued(opened)
    run = opened.history.start(
        task.task_id,
        worker_id="w1",
        repo="owner/repo",
        issue_number=7,
        user="me",
        agent="a",
        agent_type="t",
        model="m",
        provider="p",
    )
    now = opened.tasks.get(task.task_id)
    assert (now.status, now.run_id, now.started_at) == (Status.RUNNING, run.id, run.started_at)
    assert opened.tasks.list_by_run(run.id) == [now]
    assert bench.rows(RUN_ROWS) == [(run.id, task.task_id, "w1", "running", 1)]
    late = "finished_at, cost_usd, tokens_in, tokens_out, turns, artifacts"
    assert bench.rows(f"SELECT {late} FROM task_history") == [(None,) * 6]
    early = "repo, issue_number, user, agent, agent_type, model, provider"
    assert bench.rows(f"SELECT {early} FROM task_history") == [("owner/repo", 7, "me", "a", "t", "m", "p")]
    assert opened.history.get(run.id) == run
    assert agrees(opened)


def test_the_runs_id_is_the_one_given_else_the_tasks_else_a_new_one(opened):
    start = opened.history.start
    assert start(queued(opened).task_id, worker_id="w1", run_id=" given ").id == "given"
    assert start(queued(opened, run_id="of-the-task").task_id, worker_id="w1").id == "of-the-task"
    same = queued(opened, run_id="same", task="other")
    assert start(same.task_id, worker_id="w1", run_id="same").id == "same"
    assert start(queued(opened).task_id, worker_id="w1").id.startswith("task-")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"task_id": "nobody"}, NotFound),
        ({"run_id": "r1"}, IllegalTransition),
        ({"task_id": "task-0001"}, IllegalTransition),
        ({"worker_id": "never-held"}, IllegalTransition),
        ({"worker_id": "../w1"}, UsageError),
        ({"worker_id": ""}, UsageError),
        ({"issue_number": -1}, UsageError),
        ({"issue_number": True}, UsageError),
        ({"issue_number": 2**63}, UsageError),
        ({"repo": "\ud800"}, UsageError),
        ({"agent": 7}, UsageError),
        ({"started_at": 1.5}, UsageError),
        ({"started_at": 10**18}, UsageError),
        # What is given is looked at before what there is.
        ({"started_at": 1.5, "task_id": "nobody"}, UsageError),
    ],
)
def test_a_refused_start_writes_nothing_and_spoils_no_batch(opened, run, bench, arguments, error):
    task = queued(opened)
    before = bench.rows(EVERYTHING)
    given = {"task_id": task.task_id, "worker_id": "w1", **arguments}
    with pytest.raises(error):
        opened.history.start(**given)
    assert bench.rows(EVERYTHING) == before
    with opened.batch():
        opened.tasks.progress(task.task_id, "still here")
        with pytest.raises(error):
            opened.history.start(**given)
    assert opened.tasks.get(task.task_id).progress_summary == "still here"
    assert [one.id for one in opened.history.list()] == [run.id]
    assert agrees(opened)


@pytest.mark.parametrize("status", [one for one in Status if one is not Status.QUEUED])
def test_only_a_queued_task_can_be_started(opened, bench, status):
    task = queued(opened)
    opened.tasks.start(task.task_id) if status is Status.RUNNING else opened.tasks.finish(task.task_id, status)
    with pytest.raises(IllegalTransition):
        opened.history.start(task.task_id, worker_id="w1")
    assert bench.rows(RUN_ROWS) == []


def test_the_task_of_another_run_is_refused(opened, bench):
    task = queued(opened, run_id="mine")
    with pytest.raises(IllegalTransition, match="belongs to run mine"):
        opened.history.start(task.task_id, worker_id="w1", run_id="theirs")
    assert bench.rows(RUN_ROWS) == []


def test_a_worker_that_let_go_can_start_nothing(opened):
    opened.workers.release("w1")
    with pytest.raises(IllegalTransition, match="not alive"):
        opened.history.start(queued(opened).task_id, worker_id="w1")


def test_a_task_and_its_run_can_begin_in_one_transaction(opened, bench):
    with pytest.raises(ZeroDivisionError):
        in_batch(opened, lambda: opened.history.start(queued(opened).task_id, worker_id="w1"), lambda: 1 / 0)
    assert (bench.rows(EVERYTHING), opened.tasks.list(), opened.history.list()) == ([], [], [])
    with opened.batch():
        run = opened.history.start(queued(opened).task_id, worker_id="w1")
        assert opened.history.get(run.id) == run
        assert opened.tasks.get(run.task_id).status is Status.RUNNING
    assert [one[0] for one in bench.rows(EVERYTHING)] == ["task", "run"]


# Finish


@pytest.mark.parametrize(
    ("result", "reason", "status", "error"),
    [
        ("success", None, "succeeded", None),
        ("success", "with a remark", "succeeded", "with a remark"),
        ("failure", "it broke", "failed", "it broke"),
        ("failure", None, "failed", None),
        ("cancelled", "not wanted", "cancelled", "not wanted"),
        ("interrupted", "shut down", "lost", "shut down"),
        ("interrupted", None, "lost", "run r1 was interrupted"),
        ("aborted_no_skill", None, "failed", "aborted_no_skill"),
        ("aborted_no_skill", "nobody can", "failed", "aborted_no_skill: nobody can"),
    ],
)
def test_the_end_updates_the_row_and_ends_the_task(opened, bench, run, result, reason, status, error):
    ended = opened.history.finish(
        "r1", result, cost_usd=2, tokens_in=10, tokens_out=20, turns=3, artifacts={"pr": [1, None]}, reason=reason
    )
    assert bench.rows(RUN_ROWS) == [("r1", run.task_id, "w1", result, 0)]
    assert opened.history.get("r1") == ended
    assert (ended.cost_usd, ended.tokens_in, ended.tokens_out, ended.turns) == (2.0, 10, 20, 3)
    assert ended.artifacts == {"pr": [1, None]}
    task = opened.tasks.get(run.task_id)
    assert (task.status, task.error, task.ended_at) == (status, error, ended.finished_at)
    assert task.cleanup_after > task.ended_at
    assert agrees(opened)


def test_every_result_ends_a_task():
    assert set(RESULTS) == set(RunStatus) - {RunStatus.RUNNING}


@pytest.mark.parametrize("result", RESULTS)
def test_the_same_result_again_is_a_no_op_and_another_is_refused(opened, bench, run, result):
    ended = opened.history.finish("r1", result, cost_usd=1.5, artifacts={"a": 1, "b": 2}, reason="why", finished_at=0)
    assert ended.finished_at == run.started_at
    before = bench.rows(EVERYTHING)
    finish = opened.history.finish
    assert finish("r1", result) == ended
    assert finish("r1", result, cost_usd=1.5, artifacts={"b": 2, "a": 1}, reason="why", finished_at=0) == ended
    for other in set(RESULTS) - {result}:
        with pytest.raises(IllegalTransition, match=f"finished as {result}"):
            finish("r1", other)
    for said in (
        {"cost_usd": 2},
        {"tokens_in": 0},
        {"artifacts": {"a": True, "b": 2}},
        {"reason": "else"},
        {"finished_at": run.started_at + 1},
    ):
        with pytest.raises(IllegalTransition, match=next(iter(said))):
            finish("r1", result, **said)
    assert bench.rows(EVERYTHING) == before


@pytest.mark.parametrize(
    "arguments",
    [
        {"status": "running"},
        {"status": "exploded"},
        {"cost_usd": math.nan},
        {"cost_usd": math.inf},
        {"cost_usd": -0.01},
        {"cost_usd": 10**400},
        {"cost_usd": True},
        {"cost_usd": "1"},
        {"tokens_in": -1},
        {"tokens_out": 1.0},
        {"turns": 2**63},
        {"artifacts": math.nan},
        {"artifacts": {"x": object()}},
        {"artifacts": ["\ud800"]},
        {"reason": "\udfff"},
        {"finished_at": "now"},
    ],
)
def test_a_misused_finish_writes_nothing(opened, bench, run, arguments):
    before = bench.rows(EVERYTHING)
    with pytest.raises(UsageError):
        opened.history.finish("r1", **{"status": "success", **arguments})
    assert bench.rows(EVERYTHING) == before


def test_what_is_no_run_cannot_finish(opened):
    with pytest.raises(NotFound):
        opened.history.finish("nobody", "success")


def test_zero_and_large_values_come_back_as_they_were_given(opened, run):
    said = {"cost_usd": -0.0, "tokens_in": 2**63 - 1, "turns": 0, "artifacts": [0.1, 2**70 + 1, "ü", {"": []}, False]}
    ended = opened.history.finish("r1", "success", **said)
    assert opened.history.get("r1") == ended
    assert (ended.tokens_in, ended.turns, ended.artifacts) == (2**63 - 1, 0, said["artifacts"])
    assert math.copysign(1, ended.cost_usd) == 1


def test_a_clock_that_jumps_back_ends_no_run_before_its_start(bench, hold):
    clock = iter([5000, 5000, 3000])
    opened = bench.open(clock=lambda: next(clock))
    hold(opened)
    run = opened.history.start(queued(opened).task_id, worker_id="w1")
    ended = opened.history.finish(run.id, "success")
    assert (ended.started_at, ended.finished_at) == (5000, 5000)
    assert opened.tasks.get(run.task_id).ended_at == 5000


@pytest.mark.parametrize("status", ["succeeded", "failed", "timed_out", "cancelled"])
def test_a_task_that_ended_meanwhile_keeps_its_end(opened, run, status):
    # Openclaw issue 95618: a late success overwrites cancelled or timed_out.
    before = opened.tasks.finish(run.task_id, status, error="first")
    assert opened.history.finish("r1", "success").status == "success"
    assert opened.tasks.get(run.task_id) == before


def test_a_task_that_was_only_taken_for_lost_gets_the_real_end_of_its_run(opened, run):
    # Openclaw issue 127985: maintenance marks live work lost, and the real completion is dropped.
    opened.tasks.finish(run.task_id, "lost", error="no sign of life")
    opened.history.finish("r1", "success")
    task = opened.tasks.get(run.task_id)
    assert (task.status, task.error) == ("succeeded", None)


def test_a_run_ends_though_its_task_was_deleted_or_cannot_be_read(opened, bench, run):
    opened.tasks.delete(run.task_id)
    assert opened.history.finish("r1", "success").status == "success"
    second = opened.history.start(queued(opened).task_id, worker_id="w1", run_id="r2")
    connection = opened.database.connection
    connection.execute("PRAGMA ignore_check_constraints = 1")
    connection.execute("UPDATE tasks SET runtime = 'exploded'")
    assert opened.history.finish("r2", "failure").status == "failure"
    assert bench.rows("SELECT task_id, status FROM tasks") == [(second.task_id, "running")]


def test_a_tasks_end_and_something_else_commit_in_one_transaction(opened, bench, run):
    other = queued(opened)
    before = bench.rows(EVERYTHING)
    calls = (lambda: opened.history.finish("r1", "success"), lambda: opened.tasks.start(other.task_id), lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        in_batch(opened, *calls)
    assert bench.rows(EVERYTHING) == before
    assert opened.history.get("r1") == run
    assert opened.tasks.get(run.task_id).status is Status.RUNNING
    with opened.batch():
        opened.history.finish("r1", "success")
        with pytest.raises(IllegalTransition):
            opened.history.finish("r1", "failure")
        opened.tasks.start(other.task_id)
    assert opened.history.get("r1").status == "success"
    assert opened.tasks.get(other.task_id).status is Status.RUNNING
    assert agrees(opened)


# Failed writes


def every_state(opened):
    """What a caller can see, through memory and through queries."""
    return (opened.tasks.list(), opened.history.list(), opened.history.list_sessions())


@pytest.mark.parametrize("call", ["start", "finish", "interrupt", "open_session"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_whichever_statement_fails_everything_of_the_call_is_there_or_nothing(bench, hold, call, when, journal_mode):
    """A sweep: the nth statement of the call fails, for every n until nothing fires."""
    calls = {
        "start": lambda opened, task: opened.history.start(task, worker_id="w1", run_id="new"),
        "finish": lambda opened, _: opened.history.finish("r1", "success", cost_usd=1),
        "interrupt": lambda opened, _: opened.history.finish("r1", "interrupted"),
        "open_session": lambda opened, _: opened.history.open_session("r1", "s2"),
    }
    outcomes = set()
    for skip in range(50):
        bench.state_dir = bench.state_dir.with_name(f"state-{skip}")
        opened = bench.open(journal_mode=journal_mode)
        hold(opened)
        opened.history.start(queued(opened).task_id, worker_id="w1", run_id="r1")
        opened.history.open_session("r1", "s1")
        task = queued(opened).task_id
        before, fired, outcome = every_state(opened), bench.faults.fired, None
        bench.faults.fail("", skip=skip, when=when)
        try:
            calls[call](opened, task)
        except StoreError as error:
            outcome = error.outcome
        bench.faults.heal()
        outcomes.add(outcome)
        assert (every_state(opened) == before) is (outcome is not None)
        with ledger.Ledger.open(bench.state_dir, journal_mode=journal_mode) as fresh:
            assert every_state(fresh) == every_state(opened)
        if bench.faults.fired == fired:
            break
    else:
        pytest.fail("the sweep never came to its end")
    assert outcomes == {None, "unchanged"}
    assert skip >= 5


def test_a_commit_that_happened_but_reported_an_error_counts_as_done(bench, hold, journal_mode, error_of):
    opened = bench.open(journal_mode=journal_mode)
    hold(opened)
    task = queued(opened)
    bench.faults.fail("COMMIT", lambda: error_of("IOERR_FSYNC"), when="after")
    run = opened.history.start(task.task_id, worker_id="w1")
    assert bench.faults.fired == 1
    assert opened.history.get(run.id) == run
    assert opened.tasks.get(task.task_id).status is Status.RUNNING


# Sessions


def test_a_session_belongs_to_one_run_and_opening_it_twice_changes_nothing(opened, run, bench):
    session = opened.history.open_session("r1", " s1 ")
    assert session == Session("s1", "r1")
    assert opened.history.open_session("r1", "s1") == session
    assert opened.history.open_session("r1").session_id.startswith("task-")
    other = opened.history.start(queued(opened).task_id, worker_id="w1")
    with pytest.raises(IllegalTransition):
        opened.history.open_session(other.id, "s1")
    with pytest.raises(NotFound):
        opened.history.open_session("nobody", "s9")
    with pytest.raises(UsageError):
        opened.history.open_session("r1", "  ")
    assert [one.session_id for one in opened.history.list_sessions("r1")][:1] == ["s1"]
    assert opened.history.get_session("s1") == session
    assert opened.history.get_session("s9") is None
    assert len(opened.history.list_sessions()) == 2


def test_an_invalid_session_stays_so_and_says_when_and_why(opened, run):
    opened.history.open_session("r1", "s1")
    gone = opened.history.invalidate_session("s1", "revoked")
    assert (gone.valid, gone.reason) == (False, "revoked")
    assert gone.invalidated_at > run.started_at
    assert opened.history.invalidate_session("s1", "again") == gone
    with pytest.raises(IllegalTransition):
        opened.history.open_session("r1", "s1")
    with pytest.raises(NotFound):
        opened.history.invalidate_session("nobody", "x")
    opened.history.finish("r1", "interrupted", reason="later")
    assert opened.history.get_session("s1") == gone


@pytest.mark.parametrize("result", RESULTS)
def test_only_an_interrupted_run_takes_its_sessions_with_it(opened, run, result):
    opened.history.open_session("r1", "s1")
    ended = opened.history.finish("r1", result)
    session = opened.history.get_session("s1")
    assert session.valid is (result != "interrupted")
    if not session.valid:
        assert session.invalidated_at >= ended.finished_at
        assert session.reason == "run r1 was interrupted"
    with pytest.raises(IllegalTransition, match=f"is {result}"):
        opened.history.open_session("r1", "s2")


# Reading


def test_lists_are_newest_start_first_and_filtered(opened):
    tasks = [queued(opened) for _ in range(4)]
    times = [300, 100, 300, 200]
    for number, (task, time) in enumerate(zip(tasks, times, strict=True)):
        opened.history.start(task.task_id, worker_id="w1", run_id=f"r{number}", started_at=time)
    assert [run.id for run in opened.history.list()] == ["r2", "r0", "r3", "r1"]
    opened.history.finish("r0", "success")
    assert [run.id for run in opened.history.list(status="running")] == ["r2", "r3", "r1"]
    assert [run.id for run in opened.history.list(status=RunStatus.SUCCESS, worker_id="w1")] == ["r0"]
    assert [run.id for run in opened.history.list(task_id=tasks[1].task_id)] == ["r1"]
    assert opened.history.list(worker_id="w2") == []
    assert opened.history.running_workers() == {task.task_id: "w1" for task in tasks[1:]}
    with pytest.raises(UsageError, match="aborted_no_skill"):
        opened.history.list(status="exploded")


def test_a_token_is_a_run_or_the_newest_run_of_a_task(opened, run):
    assert opened.history.find(" r1 ") == run
    assert opened.history.find(run.task_id) == run
    assert opened.history.find("nobody") is None
    assert opened.history.find("  ") is None


def test_a_row_that_cannot_be_read_is_quarantined_and_the_others_load(opened, run):
    second = opened.history.start(queued(opened).task_id, worker_id="w1", run_id="r2")
    opened.database.connection.execute("UPDATE task_history SET artifacts = '{' WHERE id = 'r1'")
    runs, quarantined = opened.history.read()
    assert runs == [second]
    assert [(one.table, one.key) for one in quarantined] == [("task_history", "r1")]
    with pytest.raises(ledger.StoreCorrupt):
        opened.history.get("r1")


def test_another_process_is_seen_at_once(opened, run, bench):
    other = bench.open()
    assert other.history.get("r1") == run
    other.history.finish("r1", "failure")
    assert opened.history.get("r1").status == "failure"
    assert opened.tasks.get(run.task_id).status is Status.FAILED


# Schema and places


def test_the_schema_has_the_columns_and_enumerations_of_the_records(opened, bench):
    for table in (RUNS, SESSIONS):
        columns = [row[1] for row in bench.rows(f'PRAGMA table_info("{table.name}")')]
        assert columns == ["insertion", *table.columns]
    sql = " ".join(bench.rows("SELECT sql FROM sqlite_schema WHERE name = 'task_history'")[0][0].split())
    values = ", ".join(f"'{one}'" for one in RunStatus)
    assert f"status IN ({values})" in sql


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE task_history SET finished_at = 1",
        "UPDATE task_history SET status = 'success'",
        "UPDATE task_history SET status = 'exploded'",
        "UPDATE task_history SET worker_id = NULL",
        "UPDATE agent_sessions SET valid = 0",
        "UPDATE agent_sessions SET valid = 2, invalidated_at = 1",
        "UPDATE agent_sessions SET invalidated_at = 1",
        "INSERT INTO task_history SELECT NULL, id, task_id, worker_id, status, started_at, repo, issue_number, user, "
        "agent, agent_type, model, provider, finished_at, cost_usd, tokens_in, tokens_out, turns, artifacts, reason "
        "FROM task_history",
        "INSERT INTO agent_sessions VALUES (NULL, 'other', 'nobody', 1, NULL, NULL)",
    ],
)
def test_the_schema_refuses_rows_that_contradict_themselves(opened, run, statement):
    opened.history.open_session("r1", "s1")
    with pytest.raises(sqlite3.IntegrityError):
        opened.database.connection.execute(statement)


def test_looking_for_running_rows_does_not_read_the_whole_history(opened):
    queries = []
    opened.database.connection.set_trace_callback(queries.append)
    opened.history.running_workers()
    opened.recover()
    opened.database.connection.set_trace_callback(None)
    asked = [text for text in queries if "task_history" in text]
    assert len(asked) >= 2
    for text in asked:
        plan = opened.database.connection.execute(f"EXPLAIN QUERY PLAN {text}").fetchall()
        assert ["task_history_running" in step[3] for step in plan] == [True], text


def test_a_ledger_in_memory_has_a_history_and_another_store_has_none(bench):
    with ledger.Ledger.open(":memory:") as opened:
        opened.workers.hold("w1")
        run = opened.history.start(queued(opened).task_id, worker_id="w1")
        opened.workers.release("w1")
        assert [one.id for one in opened.recover().interrupted] == [run.id]
    with ledger.Ledger.open(store=ledger.stores.MemoryStore()) as opened:
        for ask in (lambda: opened.history, lambda: opened.workers, opened.recover):
            with pytest.raises(UsageError, match="SQLite"):
                ask()


def test_the_same_calls_make_the_same_rows(bench, hold, tmp_path):
    def rows(name):
        clock, ids = iter(range(1000, 2000)), (f"id-{n}" for n in range(100))
        with ledger.Ledger.open(tmp_path / name, clock=lambda: next(clock), new_id=lambda: next(ids)) as opened:
            worker = opened.workers.hold()
            first = opened.history.start(queued(opened).task_id, worker_id=worker.id)
            second = opened.history.start(queued(opened).task_id, worker_id=worker.id)
            opened.history.open_session(second.id)
            opened.history.finish(first.id, "success", cost_usd=0.1)
            worker.release()
            opened.recover()
            return opened.database.connection.execute(EVERYTHING).fetchall()

    assert rows("one") == rows("two")
