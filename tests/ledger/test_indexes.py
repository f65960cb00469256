"""The look-ups hold what the rows say, and nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_samples import a_task
from msgspec.structs import replace

from tornpage.ledger.records import Task
from tornpage.ledger.rules.indexes import Indexes

LOOK_UPS = {"run_id": "by_run", "owner_key": "by_owner", "parent_flow_id": "by_parent_flow"}


@pytest.mark.parametrize(("field", "look_up"), LOOK_UPS.items())
def test_a_task_is_found_by_its_run_its_owner_and_its_flow(field, look_up):
    indexes = Indexes.rebuild([a_task("a", **{field: "x"}), a_task("b", **{field: "x"}), a_task("c")])
    find = getattr(indexes, look_up)
    assert find("x") == {"a", "b"}
    assert find("y") == frozenset()


def test_the_related_session_is_the_owner_or_the_child():
    tasks = [
        a_task("owner", owner_key="s"),
        a_task("child", child_session_key="s"),
        a_task("both", owner_key="s", child_session_key="s"),
        a_task("neither", requester_session_key="s", run_id="s", parent_flow_id="s"),
    ]
    assert Indexes.rebuild(tasks).by_session("s") == {"owner", "child", "both"}


def test_keys_are_trimmed_when_filed_and_when_asked_for():
    indexes = Indexes.rebuild([a_task("a", run_id=" r ", owner_key="o\n", child_session_key="\tc")])
    assert indexes.by_run("r\n") == indexes.by_owner(" o") == indexes.by_session(" c ") == {"a"}


@pytest.mark.parametrize("blank", [None, "", "  "])
def test_blank_keys_are_not_indexed(blank):
    task = a_task("a", run_id=blank, owner_key=blank or "", parent_flow_id=blank, child_session_key=blank)
    indexes = Indexes.rebuild([task])
    assert indexes.snapshot() == {name: {} for name in ("run_id", "owner_key", "parent_flow_id", "related_session")}
    for find in (indexes.by_run, indexes.by_owner, indexes.by_parent_flow, indexes.by_session):
        assert find(blank or "") == frozenset()


def test_empty_sets_are_dropped():
    task = a_task("a", run_id="r", parent_flow_id="f", child_session_key="c")
    indexes = Indexes.rebuild([task])
    indexes.remove(task)
    assert indexes == Indexes()
    assert not any(indexes.snapshot().values())


def test_asking_for_an_unknown_key_files_nothing():
    indexes = Indexes()
    indexes.by_run("x")
    indexes.by_session("x")
    assert indexes == Indexes()


def test_an_update_moves_a_task_from_its_old_keys_to_its_new_ones():
    indexes = Indexes.rebuild([a_task("a", run_id="old", child_session_key="old")])
    indexes.add(a_task("a", run_id="new", child_session_key="owner"))
    assert indexes.by_run("old") == indexes.by_session("old") == frozenset()
    assert indexes.by_run("new") == indexes.by_session("owner") == {"a"}


def test_a_task_is_removed_from_where_it_was_filed_whatever_the_record_at_hand_says():
    indexes = Indexes.rebuild([a_task("a", run_id="r")])
    indexes.remove(a_task("a", run_id="another"))
    assert indexes == Indexes()


def test_removing_a_task_that_is_not_in_changes_nothing():
    indexes = Indexes.rebuild([a_task("a")])
    indexes.remove(a_task("b"))
    assert indexes == Indexes.rebuild([a_task("a")])


def test_an_answer_is_a_copy_that_later_changes_leave_alone():
    indexes = Indexes.rebuild([a_task("a", run_id="r")])
    answer, snapshot = indexes.by_run("r"), indexes.snapshot()
    indexes.add(a_task("b", run_id="r"))
    assert answer == {"a"}
    assert snapshot["run_id"] == {"r": {"a"}}


@pytest.mark.parametrize("field", [*LOOK_UPS, "child_session_key", "task_id"])
def test_indexes_that_differ_in_one_key_are_not_equal(field):
    task = a_task("a", run_id="x", owner_key="x", parent_flow_id="x", child_session_key="z")
    assert Indexes.rebuild([task]) != Indexes.rebuild([replace(task, **{field: "y"})])
    assert Indexes.rebuild([task]) != [task]


def test_the_order_of_insertion_makes_no_difference():
    tasks = [a_task("a", run_id="r"), a_task("b", run_id="r")]
    assert Indexes.rebuild(tasks) == Indexes.rebuild(reversed(tasks))


def test_indexes_change_and_so_can_not_be_hashed():
    with pytest.raises(TypeError, match="unhashable"):
        hash(Indexes())


def test_indexes_show_what_they_hold():
    assert "'run_id': {'r': frozenset({'a'})}" in repr(Indexes.rebuild([a_task("a", run_id="r")]))


keys = st.sampled_from([None, "", " ", "x", " x ", "y", "z"])
tasks = st.builds(
    lambda name, run, owner, flow, child: a_task(
        name, run_id=run, owner_key=owner or "", parent_flow_id=flow, child_session_key=child
    ),
    st.sampled_from("abcd"),
    keys,
    keys,
    keys,
    keys,
)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(["add", "remove"]), tasks), max_size=20))
def test_indexes_kept_up_to_date_equal_those_rebuilt_from_the_rows(changes):
    rows: dict[str, Task] = {}
    indexes = Indexes()
    for change, task in changes:
        if change == "add":
            rows[task.task_id] = task
            indexes.add(task)
        else:
            rows.pop(task.task_id, None)
            indexes.remove(task)
        assert indexes == Indexes.rebuild(rows.values())


@settings(derandomize=True, deadline=None)
@given(st.lists(tasks, unique_by=lambda task: task.task_id, max_size=4), st.sampled_from(["x", "y", "z", "w"]))
def test_every_look_up_finds_exactly_the_rows_that_a_scan_finds(rows, key):
    def scan(*fields):
        return {row.task_id for row in rows if key in [(getattr(row, field) or "").strip() for field in fields]}

    indexes = Indexes.rebuild(rows)
    assert indexes.by_run(key) == scan("run_id")
    assert indexes.by_owner(key) == scan("owner_key")
    assert indexes.by_parent_flow(key) == scan("parent_flow_id")
    assert indexes.by_session(key) == scan("owner_key", "child_session_key")
