"""`FaultingStore`: any store's calls fail before, in the middle of and after their transaction."""

import contextlib
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tornpage import faults
from tornpage.faults import FaultingStore, StatementDepth


class Notes:
    """A small store of the usual kind: one call is one transaction, `transaction` joins several."""

    limit = 100

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("CREATE TABLE IF NOT EXISTS notes(text)")
        self.heard: list[str] = []
        self.observer: Callable[[str], None] = self.heard.append

    def add(self, text: str, *, loud: bool = False) -> "Notes":
        """Add a note and tell the observer."""
        self._connection.execute("INSERT INTO notes VALUES(?)", (text.upper() if loud else text,))
        self.observer(text)
        return self

    def all(self) -> list[str]:
        return [row[0] for row in self._connection.execute("SELECT text FROM notes")]

    @contextlib.contextmanager
    def transaction(self) -> Iterator["Notes"]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextlib.contextmanager
    def batch(self) -> Iterator["_Batch"]:
        with self.transaction():
            yield _Batch(self)

    def close(self) -> None:
        self._connection.close()

    def __len__(self) -> int:
        return len(self.all())

    def __setitem__(self, key: int, text: str) -> None:
        self._connection.execute("UPDATE notes SET text = ? WHERE rowid = ?", (text, key + 1))

    def __enter__(self) -> "Notes":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Batch:
    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def put(self, text: str) -> int:
        self._notes.add(text)
        return len(self._notes.all())


@pytest.fixture
def depth() -> StatementDepth:
    return StatementDepth()


@pytest.fixture
def inner(tmp_path: Path) -> Iterator[Notes]:
    made = Notes(tmp_path / "notes.db")
    yield made
    made.close()


@pytest.fixture
def store(inner: Notes, depth: StatementDepth) -> Any:
    return FaultingStore(inner, depth, reads={"all"})


def _fails(depth: StatementDepth, plan: str, run: Callable[[], object], name: str) -> None:
    with depth.arm(plan) as armed:
        with pytest.raises(sqlite3.Error) as raised:
            run()
        assert armed.saw(raised.value)
    assert raised.value.sqlite_errorname == f"SQLITE_{name}"
    assert (armed.fired, armed.surfaced) == (1, 1)


def test_with_nothing_armed_it_is_the_store(store: Any, inner: Notes) -> None:
    assert store.add("a") is store
    assert store.add("b", loud=True).add("c") is store
    assert store.all() == ["a", "B", "c"] == inner.all()
    assert len(store) == 3
    store[0] = "z"
    assert inner.all()[0] == "z"
    assert store.limit == 100
    store.limit = 5
    assert inner.limit == 5
    assert store.add.__doc__ == "Add a note and tell the observer."
    assert repr(store) == f"FaultingStore({inner!r})"
    with pytest.raises(AttributeError, match="nothing"):
        _ = store.nothing
    with pytest.raises(TypeError):
        store.add()
    assert not hasattr(store, "__iter__")


@pytest.mark.parametrize("plan", ["begin@1=BUSY", "statement@1=FULL", "commit@1=IOERR_FSYNC"])
def test_a_plain_call_that_fails_before_was_never_made(
    plan: str, store: Any, inner: Notes, depth: StatementDepth
) -> None:
    _fails(depth, plan, lambda: store.add("a"), plan.split("=")[1])
    assert inner.all() == []
    assert inner.heard == []
    store.add("a")
    assert inner.all() == ["a"]


def test_a_plain_call_that_fails_after_has_been_made_and_its_answer_is_lost(
    store: Any, inner: Notes, depth: StatementDepth
) -> None:
    _fails(depth, "commit@2/after=IOERR_DELETE", lambda: store.add("a").add("b").add("c"), "IOERR_DELETE")
    assert inner.all() == ["a", "b"]


def test_a_store_in_wal_mode_is_never_ambiguous(inner: Notes, depth: StatementDepth) -> None:
    store: Any = FaultingStore(inner, depth, ambiguous=False)
    with depth.arm("commit@*/after=IOERR") as armed:
        store.add("a")
    assert armed.fired == 0


def test_a_read_is_a_statement_and_never_a_commit(store: Any, depth: StatementDepth) -> None:
    with depth.arm("commit@*=FULL;begin@*=BUSY") as armed:
        assert store.all() == []
        assert len(store) == 0
    assert armed.injector.matches == [0, 0]
    _fails(depth, "statement@2=IOERR_READ", lambda: (store.all(), len(store)), "IOERR_READ")


def test_special_methods_that_change_something_are_transactions(
    store: Any, inner: Notes, depth: StatementDepth
) -> None:
    store.add("a")

    def change() -> None:
        store[0] = "b"

    _fails(depth, "commit@1=FULL", change, "FULL")
    assert inner.all() == ["a"]
    _fails(depth, "commit@1/after=IOERR_UNLOCK", change, "IOERR_UNLOCK")
    assert inner.all() == ["b"]


def _two(store: Any) -> None:
    with store.transaction() as inside:
        inside.add("a")
        store.add("b")


@pytest.mark.parametrize(
    ("plan", "left"),
    [
        ("begin@1=BUSY", []),
        ("statement@1=FULL", []),
        ("statement@2=IOERR_WRITE", []),
        ("commit@1=IOERR_FSYNC", []),
        ("commit@1/after=IOERR_DELETE", ["a", "b"]),
    ],
)
def test_a_transaction_fails_before_in_the_middle_and_after(
    plan: str, left: list[str], store: Any, inner: Notes, depth: StatementDepth
) -> None:
    _fails(depth, plan, lambda: _two(store), plan.split("=")[1])
    assert inner.all() == left
    assert not inner._connection.in_transaction
    _two(store)
    assert inner.all() == [*left, "a", "b"]


def test_what_a_transaction_yields_is_behind_the_same_questions(
    store: Any, inner: Notes, depth: StatementDepth
) -> None:
    def run() -> None:
        with store.batch() as batch:
            assert batch.put("a") % 2 == 1
            batch.put("b")

    with depth.count_operations() as counter:
        run()
    assert {kind: count for (kind, _), count in counter.counts.items()} == {
        "begin": 1, "beginlock": 1, "statement": 2, "commit": 1, "commitlock": 1, "commitend": 1,
    }  # fmt: skip
    _fails(depth, "statement@2=FULL", run, "FULL")
    assert inner.all() == ["a", "b"]


def test_a_transaction_inside_a_transaction_is_a_statement(depth: StatementDepth) -> None:
    class Nesting:
        def __init__(self) -> None:
            self.depth = 0

        @contextlib.contextmanager
        def transaction(self) -> Iterator[None]:
            self.depth += 1
            try:
                yield
            finally:
                self.depth -= 1

        def change(self) -> int:
            return self.depth

    inner = Nesting()
    store: Any = FaultingStore(inner, depth)
    with depth.count_operations() as counter, store.transaction() as nothing:
        assert nothing is None
        with store.transaction():
            assert store.change() == 2
        assert store.change() == 1
    assert {kind: count for (kind, _), count in counter.counts.items()} == {
        "begin": 1, "beginlock": 1, "statement": 3, "commit": 1, "commitlock": 1, "commitend": 1,
    }  # fmt: skip
    assert inner.depth == 0


def test_the_bodys_own_error_goes_through_and_rolls_back_without_a_question(
    store: Any, inner: Notes, depth: StatementDepth
) -> None:
    def run() -> None:
        with store.transaction():
            store.add("a")
            raise KeyError("the body's own")

    with depth.arm("commit@*=FULL") as armed, pytest.raises(KeyError, match="own"):
        run()
    assert armed.injector.matches == [0]
    assert inner.all() == []


def test_a_store_that_swallows_errors_does_not_swallow_the_injected_one(depth: StatementDepth) -> None:
    left: list[object] = []

    class Swallowing:
        def transaction(self) -> "Swallowing":
            return self

        def __enter__(self) -> "Swallowing":
            return self

        def __exit__(self, kind: object, value: object, traceback: object) -> bool:
            left.append(value)
            return True

    store: Any = FaultingStore(Swallowing(), depth)
    with depth.arm("commit@1=FULL"), pytest.raises(sqlite3.OperationalError) as raised, store.transaction():
        pass
    assert left == [raised.value]
    assert raised.value.__context__ is not raised.value


def test_a_store_that_wraps_errors_is_heard_and_the_fault_is_recognised_within(depth: StatementDepth) -> None:
    class StoreError(Exception):
        pass

    class Wrapping:
        @contextlib.contextmanager
        def transaction(self) -> Iterator[None]:
            try:
                yield
            except sqlite3.Error as error:
                raise StoreError("could not write") from error

    store: Any = FaultingStore(Wrapping(), depth)
    with pytest.raises(StoreError, match="could not write"), depth.arm("commit@1=FULL") as armed, store.transaction():
        pass
    assert (armed.fired, armed.surfaced) == (1, 1)


def test_a_transaction_on_one_thread_is_none_on_another(store: Any, depth: StatementDepth) -> None:
    inside, done = threading.Event(), threading.Event()
    counted: list[dict[str, int]] = []

    class Plain:
        def change(self) -> None:
            pass

    other: Any = FaultingStore(Plain(), depth)

    def run() -> None:
        inside.wait(10)
        with depth.count_operations() as counter:
            other.change()
        counted.append({kind: count for (kind, _), count in counter.counts.items()})
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    with store.transaction():
        inside.set()
        assert done.wait(10)
    thread.join()
    assert counted == [{"begin": 1, "beginlock": 1, "statement": 1, "commit": 1, "commitlock": 1, "commitend": 1}]


def test_what_is_no_public_method_is_passed_through(inner: Notes, depth: StatementDepth) -> None:
    class OwnError(Exception):
        pass

    inner.Error = OwnError  # type: ignore[attr-defined] # a class that a store carries about
    store: Any = FaultingStore(inner, depth)
    with depth.arm("any@*=IOERR") as armed:
        assert store.Error is OwnError
        store.observer("heard")  # A callable that was put there is no method.
        assert store._connection is inner._connection
        with store as entered:
            assert entered is store  # Leaving it closes the store, which is no operation.
    assert armed.fired == 0
    assert inner.heard == ["heard"]


def test_a_mapping_keeps_its_special_methods(depth: StatementDepth) -> None:
    inner = {"a": 1}
    store: Any = FaultingStore(inner, depth, reads={"get", "keys", "items"})
    assert "a" in store
    assert list(store) == ["a"]
    assert store["a"] == 1
    assert store.get("b") is None
    assert bool(FaultingStore({}, depth)) is False
    with depth.arm("commit@1=FULL"), pytest.raises(sqlite3.OperationalError):
        store["b"] = 2
    with depth.arm("commit@2=FULL"):
        store.update(b=2)
        with pytest.raises(sqlite3.OperationalError):
            del store["a"]
    assert inner == {"a": 1, "b": 2}


def test_a_plan_or_an_injector_may_be_in_force_for_good() -> None:
    store: Any = FaultingStore([], "commit@2=FULL", reads={"count"})
    store.append(1)
    with pytest.raises(sqlite3.OperationalError):
        store.append(2)
    store.append(3)
    assert store.count(3) == 1
    assert len(store) == 2
    with pytest.raises(faults.ImpossibleFaultError):
        FaultingStore([], "write@1=FULL")


def test_another_modules_errors_are_raised_for_its_stores() -> None:
    other = pytest.importorskip("pysqlite3")
    store: Any = FaultingStore([], "commit@1=FULL", module=other)
    with pytest.raises(other.OperationalError, match="full"):
        store.append(1)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
@pytest.mark.parametrize(
    ("plan", "rows"),
    [("begin@1=KILL", 0), ("statement@2=KILL", 0), ("commit@1=KILL", 0), ("commit@1/after=KILL", 2)],
)
def test_killed_in_a_transaction_leaves_all_or_nothing(
    plan: str, rows: int, child: Callable[..., Any], tmp_path: Path
) -> None:
    code = """
        import contextlib, sqlite3, sys; from tornpage import faults
        class Store:
            def __init__(self):
                self.connection = sqlite3.connect("a.db", isolation_level=None)
                self.connection.execute("CREATE TABLE t(a)")
            def add(self):
                self.connection.execute("INSERT INTO t VALUES(1)")
            @contextlib.contextmanager
            def transaction(self):
                self.connection.execute("BEGIN")
                yield self
                self.connection.execute("COMMIT")
        store = faults.FaultingStore(Store(), sys.argv[1])
        with store.transaction() as inside:
            inside.add()
            inside.add()
        print("survived")
    """
    ended = child(code, plan)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-9, "", "")
    fresh = sqlite3.connect(tmp_path / "a.db")
    assert fresh.execute("SELECT count(*) FROM t").fetchone() == (rows,)
    fresh.close()
