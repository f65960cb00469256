"""What a target does not promise may be narrowed to searches and conditions; the rest of the check stays promised."""

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec
import others_stores
import pytest

from tornpage.scenarios.model.events import Finding
from tornpage.scenarios.model.judging.checks import CHECKS
from tornpage.scenarios.model.judging.unpromised import (
    NO_MEMORY_EITHER,
    in_words,
    reason_for,
    reason_not_promised,
    what_is_wrong,
)
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Arm, CrashAt, Limit, Rival, Scenario, Step
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.run.campaign import Exit, run, verdict
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.declaration import what_is_wrong as what_is_wrong_with

CODE = "memory-equals-disk"
HEAP, SYNC, WRITER = Limit("heap", 0), Arm("sync:wal@1=IOERR_FSYNC"), Rival("writer", "lock", 1)


def let_off(search: str, *steps: Step, **reasons: str) -> str:
    scenario = Scenario("store", others_stores.WAL[0], steps)
    return reason_for({CODE: {key.replace("no_", "no "): why for key, why in reasons.items()}}, CODE, scenario, search)


def test_a_search_is_named_or_what_it_puts_in_the_way_of_another() -> None:
    assert let_off("limits", HEAP, limits="no memory") == "no memory"
    assert let_off("fuzz", HEAP, limits="no memory") == "no memory"
    assert let_off("fuzz", SYNC, limits="no memory") == ""
    assert let_off("kill", limits="no memory") == ""


@pytest.mark.parametrize(
    ("key", "step"),
    [
        ("heap", HEAP), ("NOMEM", HEAP), ("sync", SYNC), ("IOERR", SYNC), ("IOERR_FSYNC", SYNC), ("writer", WRITER),
        ("BUSY", WRITER), ("power", CrashAt(3)), ("process", CrashAt(3, power=False)), ("awaits", Limit("awaits", 1)),
        ("CANCELLED", Limit("awaits", 1)),
    ],
)  # fmt: skip
def test_a_condition_is_named_by_what_it_is_or_does(key: str, step: Step) -> None:
    assert let_off("fuzz", step, **{key: "why"}) == "why"
    assert let_off("fuzz", step, pages="why") == ""


def test_each_condition_that_a_finding_needs_has_to_be_named() -> None:
    assert let_off("fuzz", HEAP, SYNC, heap="why") == ""
    assert let_off("fuzz", HEAP, SYNC, heap="why", sync="because") == "why"
    assert let_off("fuzz", HEAP, no_fault="why") == ""
    assert let_off("fuzz", no_fault="why") == "why"


def test_the_whole_check_or_none() -> None:
    scenario = Scenario("store", others_stores.WAL[0], (SYNC,))
    assert reason_for({CODE: "a cache"}, CODE, scenario, "sweep") == "a cache"
    assert reason_for({}, CODE, scenario, "sweep") == ""


def test_a_wrong_declaration_is_told_with_what_is_allowed() -> None:
    assert what_is_wrong({CODE: {"limits": "why", "sync:wal": "why", "no fault": "why"}}, CHECKS) == ""
    assert "give a search (sweep, " in what_is_wrong({CODE: {"limitz": "why"}}, CHECKS)
    assert "a mapping from searches to reasons" in what_is_wrong({CODE: 3}, CHECKS)
    assert "not a check" in what_is_wrong({"memory": "why"}, CHECKS)
    target = others_stores.Sound()
    target.unpromised = {CODE: {"limitz": "why"}}
    assert "limits 'memory-equals-disk' to" in what_is_wrong_with(target)


@pytest.mark.parametrize("key", ["file-fsync", "file-fsync:.json", "EIO"])
def test_a_fault_of_a_plain_file_is_named_by_its_operation_or_its_error(key: str) -> None:
    assert what_is_wrong({CODE: {key: "it closes itself"}}, CHECKS) == ""
    assert let_off("sweep", Arm("file-fsync:.json@1=EIO"), **{key: "it closes itself"}) == "it closes itself"
    assert let_off("sweep", Arm("file-write:.txt@1=ENOSPC"), **{key: "it closes itself"}) == ""


@pytest.mark.parametrize("key", ["file-sync", "EWHY", "sync:.json"])
def test_a_fault_that_does_not_exist_is_no_condition(key: str) -> None:
    assert "an operation such as" in what_is_wrong({CODE: {key: "why"}}, CHECKS)


def test_the_reasons_are_a_line() -> None:
    assert in_words({"limits": "no memory", "BUSY": "a cache"}) == "limits: no memory; BUSY: a cache"


class Idiom(others_stores.ShelfTarget):
    """Python's own idiom; where ROLLBACK finds no memory, the transaction stays open."""

    class kind(others_stores.Shelf):  # noqa: N801 - the attribute's name
        def __init__(self, path: object) -> None:
            self.db = sqlite3.connect(str(path))
            self.db.execute(self.schema)
            self.db.commit()

        def put(self, key: str, value: object = 1) -> None:
            with self.db:
                super().put(key, value)

    calls = (Action("put", {"key": "a"}),)


class IdiomInAThread(Idiom):
    """The same on a worker's thread, which hands its error over."""

    class kind(Idiom.kind):  # noqa: N801 - the attribute's name
        def __init__(self, path: object) -> None:
            super().__init__(path)
            self.db.close()
            self.db = sqlite3.connect(str(path), check_same_thread=False)
            self.worker = ThreadPoolExecutor(1)

        def put(self, key: str, value: object = 1) -> None:
            self.worker.submit(super().put, key, value).result()

        def close(self) -> None:
            self.worker.shutdown()
            super().close()


@pytest.fixture
def limited() -> Callable[[others_stores.ShelfTarget], Recorder]:
    def limited(target: others_stores.ShelfTarget) -> Recorder:
        return run(target, Plan(("limits",), Profile("test", 1, None, 0, 0, limit_points=160), report=None))

    return limited


@pytest.mark.slow
@pytest.mark.parametrize("target", [Idiom, IdiomInAThread])
def test_a_finding_of_memory_says_that_rollback_had_none_and_is_let_off_by_its_search(
    target: type[Idiom], limited: Callable[[others_stores.ShelfTarget], Recorder]
) -> None:
    recorder = limited(target())
    assert verdict(recorder) is Exit.FINDING
    messages = [found.finding.message for found in recorder.findings]
    assert any("ROLLBACK had no memory either: the transaction is still open" in one for one in messages)
    narrowed = target()
    narrowed.unpromised = {found.finding.code: {"limits": "no memory for ROLLBACK"} for found in recorder.findings}
    assert verdict(limited(narrowed)) is Exit.HOLDS


def test_a_rollback_without_memory_is_due_to_the_limit_alone() -> None:
    scenario = Scenario("store", others_stores.WAL[0], (SYNC, HEAP))
    found = Finding(CODE, f"{CODE}: {NO_MEMORY_EITHER}", scenario, {}, "fuzz")
    assert reason_not_promised({CODE: {"heap": "why"}}, found) == "why"
    assert reason_not_promised({CODE: {"sync": "why"}}, found) == ""
    other = msgspec.structs.replace(found, message=CODE)
    assert reason_not_promised({CODE: {"heap": "why"}}, other) == ""


class NoMemory(others_stores.ShelfTarget):
    """As if it had no memory to roll back after any fault."""

    class kind(others_stores.Shelf):  # noqa: N801 - the attribute's name
        def put(self, key: str, value: object = 1) -> None:
            self.db.execute("BEGIN")
            try:
                super().put(key, value)
                self.db.execute("COMMIT")
            except (sqlite3.Error, MemoryError) as error:
                if not self.db.in_transaction:
                    raise
                error.__cause__ = MemoryError()
                raise MemoryError from error

    calls = (Action("put", {"key": "a"}),)


@pytest.mark.parametrize(
    "unpromised", [{}, dict.fromkeys((CODE, "still-usable-after-the-fault"), "as with any such store")]
)
def test_fuzz_goes_on_after_a_rollback_without_memory(unpromised: dict[str, str]) -> None:
    target, profile = NoMemory(), Profile("test", None, None, 40, 8, 0, 0, shrinks=False)
    target.unpromised = unpromised
    recorder = run(target, Plan(("fuzz",), profile, report=None))
    minor, others = recorder.findings, recorder.observations
    if unpromised:
        minor, others = others, minor
    assert any(NO_MEMORY_EITHER in one.finding.message for one in minor)
    assert not others
    # Both batches, to their ends.
    assert recorder.count("scenarios") >= 40
