"""A batch under way sees what a memory would hold that had applied its changes, and copies nothing of it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_samples import a_task
from msgspec import UNSET

from tornpage.ledger.cache.draft import Draft
from tornpage.ledger.cache.memory import Memory
from tornpage.ledger.disk.rows import Quarantined
from tornpage.ledger.records import DeliveryState
from tornpage.ledger.rules.indexes import Indexes
from tornpage.ledger.stores.store import Change, Snapshot

IDS = ["a", "b", "c", "d", "e"]
KEYS = ["", "x", "y"]


def memory_of(*task_ids: str) -> Memory:
    tasks = {task_id: a_task(task_id, run_id="x", child_session_key="y") for task_id in task_ids}
    return Memory(Snapshot(tasks, {task_id: DeliveryState(task_id) for task_id in task_ids}))


@st.composite
def changes(draw: st.DrawFn) -> Change:
    task_id = draw(st.sampled_from(IDS))
    keys = st.sampled_from(KEYS)
    task = st.builds(
        lambda run, owner, flow, child: a_task(
            task_id, run_id=run, owner_key=owner, parent_flow_id=flow, child_session_key=child
        ),
        keys,
        keys,
        keys,
        keys,
    )
    delivery = st.builds(lambda at: DeliveryState(task_id, last_notified_event_at=at), st.integers(0, 3))
    nothing = st.sampled_from([None, UNSET])
    return Change(task_id, task=draw(nothing | task), delivery=draw(nothing | delivery))


def all_that_can_be_asked(view) -> list[object]:
    known = list(view.tasks)
    lookups = ("by_run", "by_owner", "by_parent_flow", "by_session")
    return [
        known,
        list(view.tasks.values()),
        len(view.tasks),
        [view.tasks.get(task_id) for task_id in IDS],
        list(view.deliveries.items()),
        [view.deliveries.get(task_id) for task_id in IDS],
        view.in_order(reversed(known)),
        view.in_order(known[1:]),
        view.indexes,
        [getattr(view.indexes, lookup)(key) for lookup in lookups for key in KEYS],
        view.snapshot(),
    ]


@settings(deadline=None)
@given(
    present=st.lists(st.sampled_from(IDS), unique=True),
    batch=st.lists(changes(), max_size=8),
    asked_at=st.integers(0, 8),
)
def test_a_draft_says_what_a_memory_with_the_same_changes_says(present, batch, asked_at):
    beneath, expected = memory_of(*present), memory_of(*present)
    before = all_that_can_be_asked(memory_of(*present))
    draft = Draft(beneath)
    for place, change in enumerate(batch):
        if place == asked_at:
            # Asked before it is complete: whatever was built must follow.
            assert all_that_can_be_asked(draft) == all_that_can_be_asked(expected)
        draft.apply(change)
        expected.apply(change)
    assert all_that_can_be_asked(draft) == all_that_can_be_asked(expected)
    assert draft.indexes == Indexes.rebuild(draft.tasks.values())
    assert all_that_can_be_asked(beneath) == before


def test_what_was_deleted_and_made_again_comes_last():
    draft = Draft(memory_of("a", "b"))
    for change in (Change("a", task=None), Change("c", task=a_task("c")), Change("a", task=a_task("a"))):
        draft.apply(change)
    assert list(draft.tasks) == ["b", "c", "a"]
    assert [task.task_id for task in draft.in_order({"a", "b", "c"})] == ["b", "c", "a"]


def test_a_draft_names_the_rows_that_could_not_be_read():
    bad = Quarantined("tasks", "z", "no such status")
    assert Draft(Memory(Snapshot({}, {}, (bad,)))).quarantined == (bad,)


def test_a_task_that_is_not_there_is_no_key_of_a_draft():
    draft = Draft(memory_of("a"))
    draft.apply(Change("a", task=None))
    with pytest.raises(KeyError):
        draft.tasks["a"]
    assert "a" not in draft.tasks


def test_a_draft_goes_through_no_more_than_it_changes(monkeypatch):
    class Counted(dict):
        def __iter__(self):
            raise AssertionError("the whole memory was gone through")

        values = items = keys = copy = __iter__

    beneath = memory_of("a", "b")
    beneath.tasks, beneath.deliveries = Counted(beneath.tasks), Counted(beneath.deliveries)
    draft = Draft(beneath)
    for change in (
        Change("a", task=a_task("a", label="new"), delivery=None),
        Change("b", task=None),
        Change("c", task=a_task("c")),
    ):
        draft.apply(change)
    assert (draft.tasks["a"].label, draft.tasks.get("b"), len(draft.tasks)) == ("new", None, 2)
    assert (draft.deliveries.get("a"), draft.deliveries.get("b")) == (None, DeliveryState("b"))
