"""A store with a rollback journal keeps no other writer out between its calls: ``lets-others-write``."""

import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import others_stores
import pytest

from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.judging.checks import Violation, applied_to
from tornpage.scenarios.model.scenario import Call, OtherWriter, Scenario
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.search.recorder import Recorder

Search = Callable[..., Recorder]


class SoundReader(others_stores.ShelfTarget):
    """Keeps its cursor, and reads it to its end."""

    class kind(others_stores.Shelf):  # noqa: N801 - the attribute's name
        def first(self) -> Any:
            self.cursor = self.db.execute("SELECT key FROM item ORDER BY key")
            return self.cursor.fetchall()[0]

        def close(self) -> None:
            self.cursor = None
            super().close()

    calls = (*others_stores.ShelfTarget.calls, Action("first"))


class LeavesACursor(SoundReader):
    class kind(SoundReader.kind):  # type: ignore[name-defined, misc]  # noqa: N801
        def first(self) -> Any:
            self.cursor = self.db.execute("SELECT key FROM item ORDER BY key")
            return self.cursor.fetchone()


class LeavesAnIterator(SoundReader):
    """The same in a generator that is kept: it holds the cursor until it is run to its end."""

    class kind(SoundReader.kind):  # type: ignore[name-defined, misc]  # noqa: N801
        def _keys(self) -> Iterator[str]:
            for (key,) in self.db.execute("SELECT key FROM item ORDER BY key"):
                yield key

        def first(self) -> Any:
            self.cursor = self._keys()
            return next(self.cursor)


class LeavesATransaction(SoundReader):
    """Begins to read, and never ends it."""

    class kind(SoundReader.kind):  # type: ignore[name-defined, misc]  # noqa: N801
        def first(self) -> Any:
            reader = sqlite3.connect(self.path, isolation_level=None)
            self.readers = [*getattr(self, "readers", []), reader]
            reader.execute("BEGIN")
            return reader.execute("SELECT key FROM item ORDER BY key").fetchall()[0]

        def close(self) -> None:
            for reader in getattr(self, "readers", []):
                reader.close()
            super().close()


class SoundUnit(others_stores.ShelfTarget):
    """A transaction that the caller begins and ends: between the two it may be open."""

    class kind(others_stores.Shelf):  # noqa: N801
        def begin(self) -> None:
            self.db.execute("BEGIN IMMEDIATE")

        def commit(self) -> None:
            self.db.execute("COMMIT")

    calls = (Action("put", {"key": "a"}), Action("begin"), Action("commit"))


class SoundAutocommitFalse(SoundReader):
    """With ``autocommit=False`` a transaction is always open."""

    class kind(SoundReader.kind):  # type: ignore[name-defined, misc]  # noqa: N801
        def __init__(self, path: Any) -> None:
            self.path = path
            self.db = sqlite3.connect(path, autocommit=False)  # type: ignore[call-arg]
            self.set_up()
            self.db.commit()

        def put(self, key: str, value: object = 1) -> None:
            super().put(key, value)
            self.db.commit()


class SoundThread(SoundReader):
    """Reads on a thread of its own, which has its connection, and to the end."""

    class kind(SoundReader.kind):  # type: ignore[name-defined, misc]  # noqa: N801
        def first(self) -> Any:
            keys: list[Any] = []
            thread = threading.Thread(target=self._read, args=(keys,))
            thread.start()
            thread.join()
            return keys[0]

        def _read(self, keys: list[Any]) -> None:
            reader = sqlite3.connect(self.path, isolation_level=None)
            keys += reader.execute("SELECT key FROM item ORDER BY key").fetchall()
            reader.close()


class LeavesInAttached(SoundReader):
    """A cursor on an attached database keeps writers out of that one."""

    class kind(SoundReader.kind):  # type: ignore[name-defined, misc]  # noqa: N801
        def set_up(self) -> None:
            super().set_up()
            self.db.execute("ATTACH ? AS log", (f"{self.path}.log",))
            self.db.execute("CREATE TABLE IF NOT EXISTS log.line (text)")
            self.db.execute("INSERT INTO log.line VALUES ('one'), ('two')")

        def first(self) -> Any:
            self.cursor = self.db.execute("SELECT text FROM log.line")
            return self.cursor.fetchone()

        def all(self) -> dict[str, Any]:
            # Through its own connection it would keep the lock of this read, too.
            with closing(sqlite3.connect(self.path)) as reader:
                return dict(reader.execute("SELECT key, value FROM item"))


class SoundExclusive(LeavesInAttached):
    """Nobody else may use the attached database: its lock is kept by its own setting."""

    class kind(LeavesInAttached.kind):  # type: ignore[name-defined, misc]  # noqa: N801
        def set_up(self) -> None:
            super().set_up()
            self.db.execute("PRAGMA log.locking_mode = EXCLUSIVE")

        def first(self) -> Any:
            return self.db.execute("SELECT text FROM log.line").fetchall()[0]


def idled(target: Any, home: Path) -> Violation | None:
    steps = [step for call in target.calls for step in (OtherWriter(), Call(call))]
    scenario = Scenario("store", others_stores.DELETE[0], (*steps, OtherWriter(is_last=True)))
    return play(scenario, target(), home / "idle")[0]


SOUND = [others_stores.Sound, others_stores.SoundPerCall, SoundReader, SoundUnit, SoundExclusive, SoundThread]


@pytest.mark.usefixtures("shim")
@pytest.mark.parametrize(
    "target",
    [
        *SOUND,
        pytest.param(
            SoundAutocommitFalse, marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="has no autocommit")
        ),
    ],
)
def test_a_store_that_ends_its_reads_is_left_alone(target: Any, home: Path) -> None:
    assert idled(target, home) is None


@pytest.mark.usefixtures("shim")
@pytest.mark.parametrize(
    ("target", "why"),
    [
        (LeavesACursor, "write to store.sqlite: database is locked.* a cursor"),
        (LeavesAnIterator, "a cursor that was not read to its end"),
        (LeavesATransaction, "a transaction of the store is still open"),
        (LeavesInAttached, "write to store.sqlite.log: database is locked.* a cursor"),
    ],
)
def test_a_store_that_keeps_other_writers_out_is_found_with_its_reason(target: Any, why: str, home: Path) -> None:
    violation = idled(target, home)
    assert violation is not None
    assert violation.code == "lets-others-write"
    with pytest.raises(Violation, match=why):
        raise violation


def test_the_sweep_shows_the_call_that_keeps_others_out(search: Search) -> None:
    recorder = search(LeavesACursor(), points=1)
    (found,) = (one for one in recorder.findings if one.finding.code == "lets-others-write")
    assert [str(step) for step in found.finding.scenario.steps][-2:] == ["first()", str(OtherWriter())]


def test_the_sweep_says_nothing_of_a_store_for_one_caller_or_one_that_declares_it(search: Search) -> None:
    class Alone(LeavesACursor):
        callers = ()

    class Declared(LeavesACursor):
        unpromised: ClassVar = {"lets-others-write": "it hands out a snapshot"}

    for target in (Alone(), Declared()):
        assert "lets-others-write" not in [one.finding.code for one in search(target, points=1).findings]


def test_a_run_with_a_rollback_journal_lists_the_check() -> None:
    for modes, applies in (({"delete"}, True), ({"persist", "wal"}, True), ({"wal"}, False), ({"file"}, False)):
        codes = applied_to(("sweep",), modes, keeps_sqlite=True, has_own_rules=False)
        assert ("lets-others-write" in codes) == applies
