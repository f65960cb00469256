"""The stores that ship, and the registry over a store that offers only some of the interface."""

# ruff: noqa: PT012 - what a batch does at its end is the thing under test, so its whole block is inside `raises`.

import errno
import json
import os
import stat

import pytest

from tornpage.ledger import (
    DeliveryState,
    IllegalTransition,
    Ledger,
    Snapshot,
    Status,
    StoreConstraint,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreSchemaNewer,
    StoreUnavailable,
)
from tornpage.ledger.disk.rows import Unreadable
from tornpage.ledger.rules import NewTask, new_task
from tornpage.ledger.stores import JsonSnapshotStore, MemoryStore, SqliteStore
from tornpage.ledger.stores.store import OPTIONAL_METHODS, offers

NOW = 1_700_000_000_000


def record(task_id, **fields):
    return new_task(
        NewTask(**{"runtime": "cli", "task": "water", "owner_key": "owner", **fields}), task_id=task_id, now=NOW
    )


@pytest.fixture(params=["sqlite", "json", "memory"])
def store(request, bench, tmp_path):
    if request.param == "sqlite":
        return SqliteStore(bench.open().database)
    return JsonSnapshotStore(tmp_path / "ledger.json") if request.param == "json" else MemoryStore()


def test_a_store_gives_back_what_was_saved_in_the_same_order(store):
    tasks = {task_id: record(task_id) for task_id in ("b", "a", "c")}
    states = {"a": DeliveryState("a", {"x": [1, None]}, NOW)}
    assert store.load_snapshot() == Snapshot({}, {})
    store.save_snapshot(Snapshot(tasks, states))
    loaded = store.load_snapshot()
    assert (dict(loaded.tasks), list(loaded.tasks), dict(loaded.deliveries)) == (tasks, ["b", "a", "c"], states)
    store.save_snapshot(Snapshot({"c": tasks["c"]}, {}))
    assert dict(store.load_snapshot().tasks) == {"c": tasks["c"]}
    assert dict(store.load_snapshot().deliveries) == {}


@pytest.mark.parametrize("store", ["sqlite", "memory"], indirect=True)
def test_every_optional_method_does_what_it_says(store):
    assert all(offers(store, method) for method in OPTIONAL_METHODS)
    one, two = record("one"), record("two", owner_key="other")
    state = DeliveryState("one", "origin", None)
    store.upsert_task_with_delivery(one, state)
    store.upsert_task(two)
    store.upsert_delivery(DeliveryState("two"))
    assert store.list_for_owner("owner") == [one]
    store.upsert_delivery(DeliveryState("one", "elsewhere"))
    assert store.load_snapshot().deliveries["one"].requester_origin == "elsewhere"
    store.delete_delivery("two")
    store.delete_task("two")
    store.delete_task_with_delivery("one")
    assert store.load_snapshot() == Snapshot({}, {})


def test_sqlite_refuses_to_leave_a_delivery_state_without_its_task(bench):
    store = SqliteStore(bench.open().database)
    store.upsert_task_with_delivery(record("one"), DeliveryState("one"))
    with pytest.raises(StoreConstraint) as raised:
        store.delete_task("one")
    assert raised.value.outcome == "unchanged"
    assert list(store.load_snapshot().tasks) == ["one"]


# The JSON file


def test_the_json_file_is_private_and_replaced_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "ledger.json"
    store = JsonSnapshotStore(path)
    before = os.umask(0)
    try:
        store.save_snapshot(Snapshot({"a": record("a")}, {}))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = path.read_bytes()

    steps = []
    real_sync, real_replace = os.fsync, type(path).replace
    monkeypatch.setattr(os, "fsync", lambda handle: (steps.append("sync"), real_sync(handle))[1])
    monkeypatch.setattr(
        type(path), "replace", lambda self, target: (steps.append("rename"), real_replace(self, target))[1]
    )
    store.save_snapshot(Snapshot({}, {}))
    assert steps == ["sync", "rename", "sync"]
    monkeypatch.undo()

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    path.write_bytes(content)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreFull):
        store.save_snapshot(Snapshot({}, {}))
    assert path.read_bytes() == content
    assert [one.name for one in tmp_path.iterdir()] == ["ledger.json"]


def test_a_json_file_that_cannot_be_read_is_an_error_and_never_an_empty_ledger(tmp_path, monkeypatch):
    path = tmp_path / "ledger.json"
    for content, kind in (
        (b"{", StoreCorrupt),
        (b"[]", StoreCorrupt),
        (b'{"version":2,"tasks":[],"deliveries":[]}', StoreSchemaNewer),
    ):
        path.write_bytes(content)
        with pytest.raises(kind):
            Ledger.open(store=JsonSnapshotStore(path))
        assert path.read_bytes() == content

    def refused(self):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(type(path), "read_bytes", refused)
    with pytest.raises(StoreReadOnly):
        JsonSnapshotStore(path).load_snapshot()


def test_an_unreadable_record_in_the_json_file_is_quarantined_and_kept(tmp_path):
    path = tmp_path / "ledger.json"
    JsonSnapshotStore(path).save_snapshot(Snapshot({"a": record("a"), "b": record("b")}, {}))
    document = json.loads(path.read_text())
    document["tasks"][0]["status"] = "exploded"
    path.write_text(json.dumps(document))
    with Ledger.open(store=JsonSnapshotStore(path)) as ledger:
        assert [task.task_id for task in ledger.tasks.list()] == ["b"]
        assert [one.key for one in ledger.tasks.quarantined()] == ["a"]
        ledger.tasks.start("b")
    kept = {task["task_id"]: task["status"] for task in json.loads(path.read_text())["tasks"]}
    assert kept == {"a": "exploded", "b": "running"}


def test_the_delivery_state_of_an_unreadable_task_stays_in_the_json_file_with_it(tmp_path):
    """Nothing shows it, and the next save left it out."""
    path = tmp_path / "ledger.json"
    states = {key: DeliveryState(key, {"channel": key}, NOW) for key in ("a", "b")}
    JsonSnapshotStore(path).save_snapshot(Snapshot({key: record(key) for key in ("a", "b")}, states))
    document = json.loads(path.read_text())
    document["tasks"][0]["status"] = "a newer one"
    path.write_text(json.dumps(document))
    with Ledger.open(store=JsonSnapshotStore(path)) as ledger:
        with pytest.raises(Unreadable):
            ledger.tasks.get_delivery("a")
        ledger.tasks.create(runtime="cli", task="another", owner_key="owner")
    document = json.loads(path.read_text())
    assert sorted(one["task_id"] for one in document["deliveries"]) == ["a", "b"]
    document["tasks"] = [{**one, "status": "queued"} for one in document["tasks"]]
    path.write_text(json.dumps(document))
    with Ledger.open(store=JsonSnapshotStore(path)) as ledger:
        assert ledger.tasks.get_delivery("a") == states["a"]


# The registry over any store


class Partial:
    """A store that offers only the optional methods named, notes every call, and fails on command."""

    def __init__(self, *methods):
        self.inner = MemoryStore()
        self.calls = []
        self.failures = []
        self.kept = []
        for method in methods:
            setattr(self, method, self._method(method))

    def load_snapshot(self):
        return self._method("load_snapshot")()

    def save_snapshot(self, snapshot):
        self.kept.append(snapshot)
        self._method("save_snapshot")(snapshot)

    def fail(self, method, when="before", times=1, error=RuntimeError):
        self.failures.append({"method": method, "when": when, "times": times, "error": error})

    def _method(self, name):
        def call(*arguments):
            self.calls.append(name)
            failure = next((one for one in self.failures if one["method"] == name and one["times"] > 0), None)
            if failure is not None:
                failure["times"] -= 1
                if failure["when"] == "after":
                    getattr(self.inner, name)(*arguments)
                raise failure["error"](f"injected into {name}")
            return getattr(self.inner, name)(*arguments)

        return call


def opened(store):
    ids, now = (f"task-{number}" for number in range(1, 1000)), iter(range(NOW, NOW + 10**6))
    return Ledger.open(store=store, clock=lambda: next(now), new_id=lambda: next(ids))


def made(ledger, **fields):
    return ledger.tasks.create(**{"runtime": "cli", "task": "water", "owner_key": "owner", **fields})


def mutate(ledger, method):
    """The call that makes the registry use this method of a store that offers it."""
    if method == "upsert_task":
        ledger.tasks.start("task-1")
    elif method == "upsert_task_with_delivery":
        made(ledger, requester_origin=1)
    elif method == "delete_task_with_delivery":
        ledger.tasks.delete("task-1")
    elif method == "delete_task":
        ledger.tasks.delete("task-2")
    else:
        ledger.tasks.set_delivery_state("task-1", last_notified_event_at=5)


def prepared(*methods):
    store = Partial(*methods)
    ledger = opened(store)
    made(ledger, requester_origin={"a": 1})
    made(ledger)
    store.calls.clear()
    store.kept.clear()
    return store, ledger


CALLS = ["upsert_task", "upsert_task_with_delivery", "delete_task_with_delivery", "delete_task", "upsert_delivery"]


def held(store):
    return dict(store.inner.tasks), dict(store.inner.deliveries)


def remembered(ledger):
    tasks = {task.task_id: task for task in ledger.tasks.list()}
    states = {key: ledger.tasks.get_delivery(key) for key in tasks}
    return tasks, {key: state for key, state in states.items() if state is not None}


@pytest.mark.parametrize("method", CALLS)
def test_the_finest_method_is_used_where_it_is_offered(method):
    store, ledger = prepared(method)
    mutate(ledger, method)
    assert store.calls == [method]
    assert remembered(ledger) == held(store)


@pytest.mark.parametrize("method", CALLS)
def test_otherwise_one_snapshot_of_the_state_as_it_will_be_is_saved(method):
    store, ledger = prepared()
    before = remembered(ledger)
    mutate(ledger, method)
    assert store.calls == ["save_snapshot"]
    assert remembered(ledger) == held(store) != before


def test_a_task_with_a_delivery_state_is_never_deleted_in_two_calls():
    store, ledger = prepared("delete_task", "delete_delivery")
    ledger.tasks.delete("task-1")
    assert store.calls == ["save_snapshot"]
    assert "task-1" not in store.inner.tasks
    assert "task-1" not in store.inner.deliveries


def test_the_store_never_gets_the_live_map():
    store, ledger = prepared()
    ledger.tasks.start("task-1")
    (kept,) = store.kept
    tasks, deliveries = dict(kept.tasks), dict(kept.deliveries)
    ledger.tasks.delete("task-1")
    made(ledger, requester_origin=2)
    assert (dict(kept.tasks), dict(kept.deliveries)) == (tasks, deliveries)
    kept.tasks.clear()
    assert len(ledger.tasks.list()) == 2


@pytest.mark.parametrize("fine", [False, True])
@pytest.mark.parametrize("method", CALLS)
def test_a_store_that_fails_before_its_work_changes_nothing(method, fine):
    store, ledger = prepared(*([method] if fine else []))
    before = remembered(ledger)
    store.fail(method if fine else "save_snapshot")
    with pytest.raises(StoreError) as raised:
        mutate(ledger, method)
    assert raised.value.outcome == "unchanged"
    assert isinstance(raised.value.__cause__, RuntimeError)
    assert remembered(ledger) == before == held(store)


def test_true_is_another_value_than_1_also_where_the_store_fails():
    store, ledger = prepared()
    ledger.tasks.set_delivery_state("task-1", requester_origin=[1])
    store.fail("save_snapshot")
    with pytest.raises(StoreError):
        ledger.tasks.set_delivery_state("task-1", requester_origin=[True])
    assert store.inner.deliveries["task-1"].requester_origin[0] is not True
    ledger.tasks.set_delivery_state("task-1", requester_origin=[True])
    assert store.inner.deliveries["task-1"].requester_origin[0] is True


@pytest.mark.parametrize("fine", [False, True])
@pytest.mark.parametrize("method", CALLS)
def test_a_store_that_fails_after_its_work_has_succeeded(method, fine):
    store, ledger = prepared(*([method] if fine else []))
    before = remembered(ledger)
    store.fail(method if fine else "save_snapshot", "after")
    mutate(ledger, method)
    assert remembered(ledger) == held(store) != before


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_store_that_cannot_be_secured_leaves_the_outcome_unknown(when):
    store, ledger = prepared("upsert_task")
    store.fail("upsert_task", when)
    store.fail("save_snapshot")
    with pytest.raises(StoreError) as raised:
        ledger.tasks.start("task-1")
    assert raised.value.outcome == "unknown"
    assert remembered(ledger) == held(store)
    store.calls.clear()
    ledger.tasks.start("task-2")
    assert store.calls[:2] == ["save_snapshot", "upsert_task"] or store.calls[-1] == "upsert_task"
    assert remembered(ledger) == held(store)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_store_that_cannot_be_asked_makes_reads_raise_until_it_can(when):
    store, ledger = prepared("upsert_task")
    store.fail("upsert_task", when)
    # Each call asks twice: to save what it holds once more, and to load it.
    store.fail("load_snapshot", times=5)
    with pytest.raises(StoreError) as raised:
        ledger.tasks.start("task-1")
    assert raised.value.outcome == "unknown"
    with pytest.raises(StoreUnavailable):
        ledger.tasks.list()
    with pytest.raises(StoreUnavailable):
        ledger.tasks.start("task-2")
    assert remembered(ledger) == held(store)
    ledger.tasks.start("task-2")
    assert remembered(ledger) == held(store)


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupt_in_a_store_gets_out_and_memory_follows_the_store(when):
    store, ledger = prepared()
    store.fail("save_snapshot", when, error=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        ledger.tasks.start("task-1")
    assert remembered(ledger) == held(store)


def test_a_batch_is_one_save_and_a_failed_one_is_none():
    store, ledger = prepared("upsert_task")
    with ledger.batch():
        ledger.tasks.start("task-1")
        with pytest.raises(IllegalTransition):
            ledger.tasks.start("task-1")
        ledger.tasks.finish("task-1", "succeeded")
        assert ledger.tasks.get("task-1").status is Status.SUCCEEDED
        assert store.calls == []
    assert store.calls == ["save_snapshot"]
    before = remembered(ledger)
    store.fail("save_snapshot")
    with pytest.raises(StoreError), ledger.batch():
        made(ledger)
        ledger.tasks.delete("task-1")
    assert remembered(ledger) == before == held(store)


def test_a_first_restore_that_fails_is_sticky_and_nothing_is_overwritten():
    from tornpage.ledger import TaskRegistry

    store = Partial()
    store.inner.upsert_task(record("kept"))
    store.fail("load_snapshot")
    tasks = TaskRegistry(store, clock=lambda: NOW, new_id=lambda: "new")
    with pytest.raises(StoreError):
        tasks.restore()
    for call in (tasks.list, lambda: tasks.create(runtime="cli", task="x", owner_key="o"), lambda: tasks.get("kept")):
        with pytest.raises(StoreUnavailable, match="not restored"):
            call()
    assert store.calls == ["load_snapshot"]
    tasks.restore()
    assert [task.task_id for task in tasks.list()] == ["kept"]
