"""Injectors: who is counted, who fires, and on whose files."""

import threading
from pathlib import Path

import pytest

from tornpage import faults
from tornpage.faults import (
    BEGIN_LOCK,
    COMMIT_END,
    COMMIT_LOCK,
    SHM_RELEASE,
    Fault,
    FaultPlan,
    Firing,
    OnPath,
    OperationCounter,
    PlanInjector,
)


def _fired(plan: str, operations: list[tuple[str, str]]) -> list[int]:
    injector = PlanInjector(FaultPlan.parse(plan))
    return [at for at, (kind, role) in enumerate(operations, start=1) if injector.decide(kind, role, None) is not None]


@pytest.mark.parametrize(
    ("plan", "at"),
    [
        ("write@2=FULL", [2]),
        ("write@2..=FULL", [2, 3, 4, 5]),
        ("write@2..3=FULL", [2, 3]),
        ("write@*=FULL", [1, 2, 3, 4, 5]),
        ("write=FULL", [1]),
        ("write@6=FULL", []),
    ],
)
def test_the_nth_match_fires_a_range_a_sticky_one_or_all(plan: str, at: list[int]) -> None:
    assert _fired(plan, [("write", "db")] * 5) == at


def test_only_matches_are_counted() -> None:
    operations = [("read", "wal"), ("write", "db"), ("write", "wal"), ("sync", "wal"), ("write", "wal")]
    assert _fired("write:wal@2=FULL", operations) == [5]
    assert _fired("write@2=FULL", operations) == [3]
    assert _fired("any@2=IOERR", operations) == [2]


def test_each_fault_of_a_plan_counts_for_itself_and_the_first_due_fires() -> None:
    injector = PlanInjector(FaultPlan.parse("write@2=FULL;write@1..2=IOERR_WRITE"))
    effects = [fault and fault.effect for fault in (injector.decide("write", "db", "/p") for _ in range(3))]
    assert effects == ["IOERR_WRITE", "FULL", None]
    assert injector.matches == [3, 3]
    assert injector.fired == [
        Firing(injector.plan.faults[1], 1, "write", "db", "/p"),
        Firing(injector.plan.faults[0], 2, "write", "db", "/p"),
    ]
    assert str(injector.fired[1]) == "write@2=FULL at write:db #2"


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("write=FULL", {"write"}),
        ("shmlock=BUSY", {"shmlock"}),
        ("shmlock/after=IOERR_SHMLOCK", {SHM_RELEASE}),
        ("shmlock/after=KILL", {"shmlock"}),
        ("begin=BUSY", {BEGIN_LOCK}),
        ("begin=NOMEM", {"begin"}),
        ("begin=KILL", {"begin"}),
        ("commit=BUSY", {COMMIT_LOCK}),
        ("commit/after=IOERR", {COMMIT_END}),
        ("commit/after=KILL", {"commit"}),
    ],
)
def test_a_fault_matches_the_operations_that_can_end_like_this(text: str, kinds: set[str]) -> None:
    assert faults.operations_of(FaultPlan.parse(text).faults[0]) == kinds


def test_any_leaves_out_what_can_not_fail_like_this() -> None:
    before = faults.operations_of(Fault("any", "IOERR"))
    after = faults.operations_of(Fault("any", "IOERR", timing="after"))
    assert before.isdisjoint({"unlock", SHM_RELEASE, "rollback", "begin", COMMIT_END})
    assert after.isdisjoint({"open", "read", "lock", "shmlock", "access", "commit", "statement"})
    # No operation counts twice for one fault.
    assert not {"begin", BEGIN_LOCK} <= before
    assert not {"commit", COMMIT_END} <= before


def test_on_path_is_one_database_with_its_companions_or_one_directory(tmp_path: Path) -> None:
    for watched, inside, outside in (
        (tmp_path / "a.db", ["a.db", "a.db-wal", "a.db-journal", "a.db-mj01"], ["a.dbx", "b.db", "a"]),
        (tmp_path, ["a.db", "x/y.db-wal"], ["../other.db"]),
    ):
        injector = OnPath(PlanInjector(FaultPlan.parse("write@*=FULL")), watched)
        real = Path(tmp_path).resolve()
        assert all(injector.decide("write", "db", str(real / name)) for name in inside)
        assert not any(injector.decide("write", "db", str((real / name).resolve())) for name in outside)
        assert injector.decide("write", "temp", None) is None


def test_on_path_follows_a_symbolic_link_to_the_file_as_sqlite_names_it(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    injector = OnPath(PlanInjector(FaultPlan.parse("write=FULL")), tmp_path / "link" / "a.db")
    assert injector.decide("write", "db", str((tmp_path / "real" / "a.db").resolve()))


def test_the_counter_counts_by_kind_and_role_and_lets_everything_pass() -> None:
    counter = OperationCounter()
    assert [counter.decide("write", role, None) for role in ("db", "wal", "db")] == [None] * 3
    assert counter.counts == {("write", "db"): 2, ("write", "wal"): 1}


def test_no_match_is_lost_between_threads() -> None:
    injector = PlanInjector(FaultPlan.parse("write@500=FULL;write@900..=IOERR_WRITE"))
    barrier = threading.Barrier(4)

    def run() -> None:
        barrier.wait()
        for _ in range(250):
            injector.decide("write", "db", None)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert injector.matches == [1000, 1000]
    assert sorted(firing.ordinal for firing in injector.fired) == [500, *range(900, 1001)]
