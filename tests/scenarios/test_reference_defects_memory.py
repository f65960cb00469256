"""Realistic defects in memory, observers and stores, one at a time: a script's call then differs from the model."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import UNSET
from put_into_the_ledger import Patch, after, is_seen, put

from tornpage.ledger import (
    observers,
)
from tornpage.ledger.cache import draft, plain, reading
from tornpage.ledger.cache.engine import RegistryEngine
from tornpage.ledger.cache.memory import Memory
from tornpage.ledger.rules import times
from tornpage.ledger.stores import JsonSnapshotStore, MemoryStore, json_snapshot
from tornpage.ledger.stores import sqlite as sqlite_store
from tornpage.ledger.stores.store import Snapshot
from tornpage.scenarios.targets.reference.scripts import (
    circumstances,
    drivers,
    edges,
    outside,
    together,
)


def tell_and_fail(listener: Any, arguments: tuple[Any, ...]) -> None:
    listener.method(*arguments)


def load_in_doubt(self: Any, load: Any = RegistryEngine._load_memory) -> None:
    was_in_doubt = self._in_doubt
    load(self)
    self._in_doubt = was_in_doubt


def outdated_by_others(self: Any) -> bool:
    return bool(self._in_doubt or self.backend.version() != self._version)


def replace_by_name(self: Any, content: bytes) -> None:
    new = self.path.with_name("new")
    new.write_bytes(content)
    new.replace(self.path)


def by_the_first_place(memory: Memory, task_ids: Iterable[str]) -> list[str]:
    places = memory.__dict__.setdefault("places", {})
    for task_id in memory.tasks:
        places.setdefault(task_id, len(places))
    return sorted(task_ids, key=places.__getitem__)


def settle_silently(self: Any, found: Any, settled: Any = RegistryEngine.settled) -> None:
    self._announce = lambda _: None
    settled(self, found)
    del self._announce


def settle_and_keep_the_draft(self: Any, found: Any, settled: Any = RegistryEngine.settled) -> None:
    working = self._working
    settled(self, found)
    self._working = working


def snapshot_in_order(snapshot: Snapshot) -> Snapshot:
    tasks = {name: times.ordered(task) for name, task in snapshot.tasks.items()}
    return Snapshot(tasks, snapshot.deliveries, snapshot.quarantined)


def configure_by_two_reads(self: Any, given: Any = UNSET, configure: Any = observers.Observers.configure) -> None:
    if given is not UNSET and isinstance(given, Iterable):
        several = list(given)
        configure(self, several)
        configure(self, list(given))
        return
    configure(self, given)


def load_and_keep_bad_ones(self: Any, load: Any = JsonSnapshotStore.load_snapshot) -> Any:
    unreadable, is_there = self._unreadable, self.path.exists()
    loaded = load(self)
    self._unreadable = self._unreadable if is_there else unreadable
    return loaded


def save_and_forget(self: Any, snapshot: Any, save: Any = JsonSnapshotStore.save_snapshot) -> None:
    save(self, snapshot)
    self._unreadable = ([], [])


def close_unhealed(self: Any, close: Any = plain.PlainBackend.close) -> None:
    self.save_owed = False
    close(self)


def load_and_keep(self: Any, load: Any = RegistryEngine._load_memory) -> None:
    pending = [*self._pending]
    load(self)
    self._pending.extend(pending)


def settle_tasks(self: Any, found: Any, settled: Any = RegistryEngine.settled) -> None:
    settled(self, None if found is None else [change for change in found if change.task is not UNSET])


def save_unnoted(self: Any, snapshot: Any, save: Any = JsonSnapshotStore.save_snapshot) -> None:
    noted = self._unreadable, self._tasks
    save(self, snapshot)
    self._unreadable, self._tasks = noted


def settle_and_tell(self: Any, found: Any, settle: Any = RegistryEngine.settled) -> None:
    settle(self, found)
    for change in found or ():
        self._observers.upserted(change.task, change.task)


def replace_unflushed(self: Any, content: bytes) -> None:
    name = self.path.with_name("written.new")
    with name.open("wb") as file:
        file.write(content)
        os.fsync(file.fileno())
    name.chmod(0o600)
    name.replace(self.path)
    json_snapshot._sync_directory(self.path.parent)


DEFECTS: dict[str, tuple[Patch, Callable[[], Any]]] = {
    "a change that failed is announced": (put(RegistryEngine, "settled", settle_and_tell), circumstances.followers),
    "a task made again has the bad state of the one before": (
        put(JsonSnapshotStore, "save_snapshot", save_unnoted), outside.spoiled_stores),
    "observers do not hear what changed before they were added": (
        after(RegistryEngine, "_unheard", lambda _: []), together.elsewhere),
    "observers do not hear of deletions": (
        put(RegistryEngine, "_announce", lambda self, change: change.task is None or self._observers.upserted(
            change.task, change.previous)), together.batches),
    "one failing observer silences the others": (put(observers, "_tell", tell_and_fail), circumstances.callbacks),
    "observers hear of a change before memory has it": (
        put(RegistryEngine, "_adopt", lambda self, change, adopt=RegistryEngine._adopt: (
            self._announce(change), adopt(self, change))), circumstances.callbacks),
    "an observer's own call is reported in the middle": (
        put(observers.Observers, "together", lambda _: contextlib.nullcontext()), circumstances.callbacks),
    "no observers at all is no change": (
        put(observers.Observers, "configure", lambda self, found=UNSET, own=observers.Observers.configure: (
            own(self, UNSET if found is None else found))), circumstances.observers),
    "an observer without a method is taken": (put(observers, "_EVENTS", ("__class__",)), circumstances.observers),
    "a store gets the live map": (
        put(plain.PlainBackend, "project", lambda _self, view, _changes: view), outside.other_stores),
    "a delivery state is deleted apart": (
        after(plain, "_finest_call", lambda call: call and (call[0].replace("_with_delivery", ""), call[1][:1])),
        outside.other_stores),
    "a store that has done it is not asked": (
        put(plain.PlainUnit, "_same", lambda *_: False), outside.other_stores),
    "a store that can't be asked is believed": (
        after(plain, "from_sqlite", lambda error: error.__class__("it failed", outcome="unchanged")),
        outside.other_stores),
    "a task made again keeps its place": (put(Memory, "sorted_ids", by_the_first_place), edges.equal_times),
    "an observer of restores alone is refused": (
        put(observers, "_EVENTS", ("upserted", "deleted")), circumstances.followers),
    "what a failed commit has left is not announced": (
        put(RegistryEngine, "settled", settle_silently), drivers.two_faults),
    "a batch begins with what is left of one that failed": (
        put(RegistryEngine, "settled", settle_and_keep_the_draft), drivers.two_faults),
    "times of another store stay as they are": (put(plain, "ordered", lambda task: task), outside.snapshots),
    "an audit of another store is of rows put in order": (
        after(plain.PlainBackend, "load_raw", snapshot_in_order),
        outside.snapshots),
    "a batch shows the bad state of a task that it has deleted": (
        put(draft, "without_state_of", lambda _, quarantined: quarantined), circumstances.spoiled_rows),
    "observers are read twice": (
        put(observers.Observers, "configure", configure_by_two_reads), circumstances.observers),
    "what can't be read outlives its file": (
        put(JsonSnapshotStore, "load_snapshot", load_and_keep_bad_ones), outside.spoiled_stores),
    "a snapshot is renamed from where temporary files are": (
        put(json_snapshot, "tempfile", SimpleNamespace(mkstemp=lambda **_: tempfile.mkstemp())), outside.snapshots),
    "what can't be read is kept once": (put(JsonSnapshotStore, "save_snapshot", save_and_forget), outside.snapshots),
    "a method is offered that is None": (put(plain, "offers", hasattr), outside.odd_stores),
    "what is owed at the end stays so": (
        put(plain.PlainBackend, "close", close_unhealed), outside.odd_stores),
    "a snapshot leaves rows in their places": (
        put(sqlite_store, "_in_place", lambda present, wanted: {*present} & {*wanted}), outside.other_stores),
    "an owner's key is a prefix": (
        put(MemoryStore, "list_for_owner", lambda self, key: [
            task for task in self.tasks.values() if task.owner_key.startswith(key.strip())]), outside.other_stores),
    "a snapshot is as wide as the umask": (put(JsonSnapshotStore, "_replace", replace_by_name), outside.other_stores),
    "memory stays in doubt after it was loaded": (
        put(RegistryEngine, "_load_memory", load_in_doubt), drivers.two_faults),
    "what was interrupted before memory had it is forgotten": (
        put(RegistryEngine, "_is_outdated", outdated_by_others), drivers.interrupts),
    "a snapshot's directory is not synced": (
        put(json_snapshot, "_sync_directory", lambda _: None), outside.snapshots),
    "a delivery state in doubt is not taken from the rows": (
        put(RegistryEngine, "settled", settle_tasks), drivers.unfenced),
    "what was interrupted and loaded is announced once more": (
        put(RegistryEngine, "_load_memory", load_and_keep), drivers.interrupts),
    "what can't be read is what it was": (
        put(reading.TaskReader, "quarantined", lambda self: self._memory.quarantined), drivers.two_faults),
    "a fresh list is of exact keys": (
        put(plain.PlainBackend, "fresh_for_owner", lambda self, key: [
            task for task in self.load()[1].tasks.values() if task.owner_key == key]), outside.snapshots),
    "a snapshot is synced before it is written": (
        put(JsonSnapshotStore, "_replace", replace_unflushed), outside.snapshots),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.quality
@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_seen(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_seen(DEFECTS[name], tmp_path, monkeypatch)
