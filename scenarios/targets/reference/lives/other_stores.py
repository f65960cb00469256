"""Other stores of tasks instead of SQLite: each subset of the optional methods, and one that fails sometimes."""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from unittest import mock

import msgspec

from tornpage.ledger import (
    AuditCode,
    IllegalTransition,
    Ledger,
    LedgerError,
    NotFound,
    Runtime,
    Snapshot,
    StoreError,
    StoreFull,
    Task,
    UsageError,
)
from tornpage.ledger.disk.database import Database
from tornpage.ledger.disk.files import DATABASE_NAME
from tornpage.ledger.disk.rows import TASKS, Unreadable
from tornpage.ledger.stores import JsonSnapshotStore, MemoryStore, SqliteStore
from tornpage.ledger.stores.store import OPTIONAL_METHODS
from tornpage.scenarios.model.target import TargetError
from tornpage.scenarios.targets.reference.environment import spoil

_SNAPSHOT: Final = "tasks.json"
_STORES: Final[Mapping[str, Callable[[Path], Any]]] = {
    "json": lambda directory: JsonSnapshotStore(directory / _SNAPSHOT),
    "memory": lambda _: MemoryStore(),
    # Not as the ledger's own, but by the interface of any other store.
    "sqlite": lambda directory: SqliteStore(Database.open(directory)),
}

_AFTER_CLOSE: Final[tuple[Mapping[str, Any], ...]] = (
    {"name": "tasks.list", "args": {}},
    {"name": "tasks.list_fresh_for_owner", "args": {"owner_key": "main"}},
    {"name": "tasks.create", "args": {"runtime": "cli", "owner_key": "main", "task": "too late"}},
)
_METHODS: Final = frozenset({"load_snapshot", "save_snapshot", *OPTIONAL_METHODS})


def _driver_error(raises: Mapping[str, Any]) -> Exception:
    """An error of an SQLite driver, with a code and its name, or with a text alone; or one of the ledger's own."""
    if raises.get("ours"):
        return StoreFull("it is full", outcome="unknown", retryable=True)
    if raises.get("memory"):
        return MemoryError()
    error = sqlite3.OperationalError(raises.get("text", ""))
    if "code" in raises:
        error.sqlite_errorcode, error.sqlite_errorname = raises["code"], "SQLITE_SO"
    return error


class FailingStore:
    """A store that lacks some of the optional methods; with `nones` it has None in their place.

    It fails at the first write after `fail`: before its work (``before``), after it (``after``), in one of these ways
    so that it can't be asked either (``gone``, ``gone after``), or so that the next write fails, too (``twice``,
    ``twice after``); or it can't be asked at all (``away``); all that until `back`. In a call after that the first
    write secures what is there, and fails, too (``securing``).
    """

    def __init__(
        self, store: Any, lacks: Iterable[str], raises: Mapping[str, Any] | None, *, nones: bool = False
    ) -> None:
        self._store = store
        self._nones = nones
        self._raises = raises
        self._lacks = frozenset(lacks)
        self._is_gone = False
        self.fails: str | None = None
        # Whether what it holds would be there after a power cut: a write that failed leaves that open, until all of it
        # is saved.
        self.is_secured = True
        # The complete states that it was passed, with copies made at that moment.
        self.handed: list[tuple[Snapshot, dict[str, Any], dict[str, Any]]] = []
        # The tasks that could not be read when it was loaded, and whether each of these states had them.
        self._unreadable: list[str] = []
        self._is_whole = True

    def __getattr__(self, name: str) -> Any:
        if self._nones and name in self._lacks:
            return None
        if name in self._lacks or name not in _METHODS:
            raise AttributeError(name)
        method = getattr(self._store, name)
        return method if name in ("list_for_owner", "close") else lambda *args: self._made(name, method, *args)

    def _made(self, name: str, method: Callable[..., Any], *args: Any) -> Any:
        if name == "load_snapshot":
            if self._is_gone:
                raise self._failure("the store is gone")
            loaded = method()
            self._unreadable = _unreadable_tasks(loaded)
            return loaded
        if name == "save_snapshot":
            self._is_whole = self._is_whole and _unreadable_tasks(args[0]) == self._unreadable
            self.handed.append((args[0], dict(args[0].tasks), dict(args[0].deliveries)))
        fails, self.fails = self.fails, None
        if fails is not None:
            self.is_secured, self._is_gone = False, fails.startswith("gone")
            self.fails = "before" if fails.startswith("twice") else None
        if fails is None or fails.endswith("after"):
            method(*args)
        if fails is not None:
            raise self._failure("the store has failed")
        self.is_secured = self.is_secured or name == "save_snapshot"
        return None

    def _failure(self, text: str) -> Exception:
        return OSError(text) if self._raises is None else _driver_error(self._raises)

    def fail(self, how: str | None) -> None:
        """From now on it fails in this way."""
        self.fails, self._is_gone = (None, True) if how == "away" else (how, False)

    def back(self) -> None:
        """From now on it can be asked again."""
        self._is_gone, self.fails = False, None

    def held(self) -> tuple[list[str], list[str]]:
        """The ids of the tasks and of the delivery states that it holds."""
        # A snapshot is read by a store of its own: to load is no look, since it notes what can't be read.
        store = JsonSnapshotStore(self._store.path) if isinstance(self._store, JsonSnapshotStore) else self._store
        snapshot = store.load_snapshot()
        return list(snapshot.tasks), sorted(snapshot.deliveries)

    @property
    def keeps_what_it_was_handed(self) -> bool:
        """Whether no caller has changed a snapshot after it was handed over, or left out what can't be read."""
        return self._is_whole and all(
            dict(one.tasks) == tasks and dict(one.deliveries) == states for one, tasks, states in self.handed
        )


def _unreadable_tasks(snapshot: Snapshot) -> list[str]:
    return [one.key for one in snapshot.quarantined if one.table == TASKS.name]


def store_of(kind: str, directory: Path) -> Any:
    """A new store of this kind; what was in its directory goes."""
    if kind not in _STORES:
        raise TargetError(f"unknown store {kind!r}; known: {', '.join(_STORES)}")
    directory.mkdir(exist_ok=True)
    for file in directory.iterdir():
        file.unlink()
    return _STORES[kind](directory)


def life_of_a_store(
    directory: Path,
    clock: Callable[[], int],
    *,
    kind: str,
    calls: Iterable[Mapping[str, Any]],
    lacks: Iterable[str] = (),
    fails: Mapping[str, str] | None = None,
    raises: Mapping[str, Any] | None = None,
    nones: bool = False,
    **parts: Any,
) -> list[Any]:
    """The answers, or errors, of calls on a ledger on such a store; then the state after a restart.

    `fails` gives the number of the call at which the store fails, and how; `raises` the driver's error, if any. The
    `parts` are further arguments of `Ledger.open`. Two are no calls: ``spoiled_row`` makes a record unreadable, which
    one in memory never is, and ``removed_file`` is an end of the snapshot's file by another's hand.
    """
    store, answers = FailingStore(store_of(kind, directory), lacks, raises, nones=nones), list[Any]()
    names: list[str] = ["unnamed"]
    with contextlib.closing(Ledger.open(store=store, clock=clock, new_id=lambda: names[-1], **parts)) as ledger:
        for number, call in enumerate(calls):
            if call["name"] == "spoiled_row":
                _spoil(kind, directory, **call["args"])
                continue
            if call["name"] == "removed_file":
                (directory / _SNAPSHOT).unlink()
                continue
            store.fail((fails or {}).get(str(number)))
            answer = _answer(ledger, call, names)
            store.back()
            # A later save of everything would hide the result of this call.
            answers.append([answer, *store.held(), store.is_secured])
    answers.append([store.is_secured, *(_answer(ledger, call, names) for call in _AFTER_CLOSE)])
    if kind == "sqlite":
        store = FailingStore(_STORES[kind](directory), lacks, raises)
    with contextlib.closing(Ledger.open(store=store, clock=clock)) as ledger:
        answers.append({
            "tasks": ledger.tasks.list(),
            "deliveries": [ledger.tasks.get_delivery(task.task_id) for task in ledger.tasks.list()],
            "copies": store.keeps_what_it_was_handed,
            "modes": sorted({f"{file.stat().st_mode & 0o777:o}" for file in directory.iterdir()}),
        })  # fmt: skip
    return answers


def _spoil(kind: str, directory: Path, *, table: str, key: str, column: str, value: Any) -> None:
    if kind == "sqlite":
        spoil(directory / DATABASE_NAME, table, key, column, value)
        return
    path = directory / _SNAPSHOT
    document = msgspec.json.decode(path.read_bytes())
    for one in document["tasks" if table == "tasks" else "deliveries"]:
        if one["task_id"] == key:
            one[column] = value
    path.write_bytes(msgspec.json.encode(document))


def _answer(ledger: Ledger, call: Mapping[str, Any], names: list[str]) -> Any:
    try:
        return msgspec.json.decode(msgspec.json.encode(_made(ledger, call["name"], dict(call["args"]), names)))
    except Unreadable:
        return Unreadable.__name__
    except StoreError as error:
        said = error.outcome, error.retryable, error.sqlite_errorcode, error.sqlite_errorname
        return " ".join(map(str, (type(error).__name__, *said)))
    except LedgerError as error:
        return type(error).__name__


def _made(ledger: Ledger, name: str, args: dict[str, Any], names: list[str]) -> Any:
    if name == "batch":
        with ledger.batch():
            return [_made(ledger, one["name"], dict(one["args"]), names) for one in args["calls"]]
    if name == "batch.nested":
        return _nested(ledger, names, **args)
    if name == "maintenance":
        done = msgspec.structs.asdict(ledger.maintenance(**{"apply": True, **args}))
        return {key: value for key, value in done.items() if key != "checkpointed"}
    names.append(args.pop("id", "unnamed"))
    part, _, method = name.rpartition(".")
    return getattr(getattr(ledger, part) if part else ledger, method)(**args)


def _nested(ledger: Ledger, names: list[str], *, calls: list[Any], inner: list[Any], after: list[Any]) -> Any:
    """A batch in a batch, whose refusal its caller swallows."""
    answers: list[Any] = []

    def make(some: list[Any]) -> None:
        answers.extend(_made(ledger, one["name"], dict(one["args"]), names) for one in some)

    with ledger.batch():
        make(calls)
        with contextlib.suppress(IllegalTransition, NotFound, UsageError), ledger.batch():
            make(inner)
        make(after)
    return answers


def _times(task: Task) -> list[int | None]:
    return [task.created_at, task.started_at, task.ended_at, task.last_event_at]


def _has_delivery(ledger: Ledger, task_id: str) -> bool:
    with contextlib.suppress(Unreadable):
        return ledger.tasks.get_delivery(task_id) is not None
    return False


def opened_snapshot(directory: Path, clock: Callable[[], int], *, document: Any, errno: int | None = None) -> Any:
    """The view of a ledger on a JSON snapshot that others have written, and the file after two more tasks.

    `document` is the file's value, or its text if it is a text. With `errno` the system fails to sync the file (0: once
    Ctrl-C comes instead), and the answer is the error of a change, and the files after it.
    """
    directory.mkdir(exist_ok=True)
    path = directory / "written.json"
    path.write_bytes(document.encode() if isinstance(document, str) else msgspec.json.encode(document))
    before, names, asked = path.read_bytes(), ["one more"], dict[str, Any]()
    hooks = dict.fromkeys(Runtime, lambda task: asked.update({task.task_id: _times(task)}))
    try:
        ledger = Ledger.open(store=JsonSnapshotStore(path), clock=clock, new_id=names.pop, session_hooks=hooks)
    except StoreError as error:
        return {"error": type(error).__name__, "left": path.read_bytes() == before}
    with contextlib.closing(ledger):
        if errno is not None:
            fails = OSError(errno, os.strerror(errno)) if errno else [KeyboardInterrupt, *[None] * 9]
            with mock.patch.object(os, "fsync", side_effect=fails):
                said = _error_of(lambda: ledger.tasks.create(runtime="cli", owner_key="me", task="new"))
            return [said, sorted(file.name for file in directory.iterdir()), path.read_bytes() == before]
        tasks = ledger.tasks.list()
        named = sorted({task.task_id for task in tasks} | {"nobody"})
        shown = {
            "tasks": sorted(task.task_id for task in tasks),
            "times": {one.task_id: _times(one) for one in tasks},
            "fresh": [_fresh_as_listed(ledger), _in_memory(path)],
            "contradictions": ledger.audit().summary.by_code[AuditCode.INCONSISTENT_TIMESTAMPS],
            "deliveries": [task_id for task_id in named if _has_delivery(ledger, task_id)],
            "quarantined": [[one.table, one.key] for one in ledger.tasks.quarantined()],
        }
        # Whether a session backs it was asked of each that may be lost, by its times in order.
        shown["asked"] = dict(asked)
        audited = [[one.table, one.key] for one in ledger.audit().quarantined]
        # The second one is saved by a store that has saved before.
        durable: list[bool] = []
        with _renames(durable):
            ledger.tasks.create(runtime="cli", owner_key="me", task="new")
        names.append("another")
        with _renames(durable):
            ledger.tasks.create(runtime="cli", owner_key="me", task="newer")
    written = msgspec.json.decode(path.read_bytes())
    kept = [len(written["tasks"]), len(written["deliveries"])]
    return {**shown, "unaudited": audited, "kept": kept, "durable": durable}


@contextlib.contextmanager
def _renames(durable: list[bool]) -> Iterator[None]:
    """Add whether each file that takes another one's place in this scope was synced whole, and its directory after."""
    fsync, replace = os.fsync, os.replace
    # By file, its size at that time.
    synced: dict[int, int] = {}
    renamed: list[tuple[bool, int]] = []

    def watched_fsync(descriptor: int) -> None:
        fsync(descriptor)
        found = os.fstat(descriptor)
        synced[found.st_ino] = found.st_size

    def watched_replace(source: Any, target: Any, **how: Any) -> None:
        found = Path(source).stat()
        # A rename from another file system is none.
        is_whole = synced.get(found.st_ino) == found.st_size and Path(source).parent.samefile(Path(target).parent)
        renamed.append((is_whole, Path(target).parent.stat().st_ino))
        synced.pop(renamed[-1][1], None)
        replace(source, target, **how)

    with mock.patch.object(os, "fsync", watched_fsync), mock.patch.object(os, "replace", watched_replace):
        yield
    durable.append(bool(renamed) and all(was_synced and place in synced for was_synced, place in renamed))


def _error_of(make: Callable[[], object]) -> str:
    try:
        make()
    except StoreError as error:
        return f"{type(error).__name__} {error.outcome}"
    except KeyboardInterrupt:
        return "KeyboardInterrupt"
    return ""


def _fresh_as_listed(ledger: Ledger) -> bool:
    return ledger.tasks.list_fresh_for_owner("me") == ledger.tasks.list_for_owner("me")


def _in_memory(path: Path) -> bool:
    """The same records in a store that lists an owner's tasks itself."""
    store, read = MemoryStore(), JsonSnapshotStore(path).load_snapshot()
    store.tasks, store.deliveries = dict(read.tasks), dict(read.deliveries)
    with contextlib.closing(Ledger.open(store=store)) as ledger:
        return _fresh_as_listed(ledger)
