"""The executor: each kind of step, the shadow that follows, and what only a scenario can show."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import tiny_stores

from tornpage import faults
from tornpage.scenarios.execution.executor import Executor, play
from tornpage.scenarios.execution.finding.shrink import minimise
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import Arm, Call, Clear, Interleave, Restart, Scenario, Step
from tornpage.scenarios.model.target import Action, Configuration, Target, TargetError, View
from tornpage.scenarios.targets.reference.target import Reference

WAL = Configuration("wal", "FULL")
DELETE = Configuration("delete", "FULL")


def put(key: str, value: int = 1) -> Call:
    return Call(Action("put", {"key": key, "value": value}))


NO_WRITE = Arm("write:wal@1..=FULL")
# The frames are in the file, and their sync fails: the COMMIT raises, and a crash may bring its change.
NO_SYNC = Arm("sync:wal@1..=IOERR_FSYNC")

New = Callable[..., Executor]


@pytest.fixture
def executor(shim: faults.Shim, home: Path) -> Iterator[New]:
    """Makes executors and closes them."""
    with ExitStack() as stack:
        yield lambda target=None, configuration=WAL: stack.enter_context(
            Executor(target or tiny_stores.Tiny(), configuration, home)
        )


def told(executor: Executor, *steps: Step) -> Executor:
    for step in steps:
        executor.do(step)
    return executor


def test_a_call_changes_the_store_and_its_twin(executor: New) -> None:
    done = told(executor(), Restart(), put("a"))
    assert done.view == done.real.fresh_view() == done.shadow.fresh_view() == {"a": 1}
    assert done.counts["done"] == 2  # the opening and the call


def test_a_call_opens_the_store_if_nobody_has(executor: New) -> None:
    assert told(executor(), put("a")).view == {"a": 1}


@pytest.mark.parametrize("mine_first", [True, False])
def test_a_small_change_that_one_of_two_callers_has_made_is_not_asked_for_again(
    executor: New, mine_first: bool
) -> None:
    # The ledger refuses an id that is taken: no sign that it can't be used any more.
    target = Reference()
    beat, other = target.heartbeat(), Action("tasks.list")
    pair = (beat, other) if mine_first else (other, beat)
    done = told(executor(target), Restart(), Interleave(*pair, 1))
    done.end()
    assert "task/heartbeat" in done.view


def test_the_shadow_is_put_back_after_a_call_that_failed(executor: New) -> None:
    failed = told(executor(), put("a"), NO_WRITE, put("b"))
    assert failed.counts["raised"] == 1
    assert failed.view == failed.shadow.fresh_view() == {"a": 1}
    again = told(failed, Clear(), put("b", 2))
    assert again.view == again.shadow.fresh_view() == {"a": 1, "b": 2}


def test_the_shadow_is_put_back_with_its_empty_directories(shim: faults.Shim, home: Path) -> None:
    reference = Reference()
    old = Action("legacy_file", {"name": "old.json", "content": {"id": "old", "channel": "mail", "to": "you"}})
    import_legacy, heartbeat = Call(Action("outbox.import_legacy")), Call(reference.heartbeat())
    steps = (Call(old), import_legacy, Arm("begin@1=BUSY", "statement"), heartbeat, import_legacy)
    violation, counts = play(Scenario(reference.name, reference.configurations[0], steps), reference, home)
    assert violation is None
    assert counts["fired"] == 1


def test_arming_again_at_a_depth_takes_the_place_of_what_was_armed_there(executor: New) -> None:
    armed = told(executor(), put("a"), Arm("commit@1..=FULL", "statement"), NO_WRITE, Arm("sync:wal@9=IOERR_FSYNC"))
    assert sorted(armed.armed) == ["statement", "vfs"]
    armed = told(armed, put("b"), Clear())
    assert armed.armed == {}
    assert [armed.counts[name] for name in ("armed", "fired", "surfaced")] == [3, 1, 1]


def test_a_restart_in_good_order_keeps_what_was_acknowledged(executor: New) -> None:
    restarted = told(executor(), put("a"), Restart())
    assert restarted.view == {"a": 1}
    assert (restarted.counts["restarts"], restarted.counts["crashes"]) == (1, 0)
    assert not (restarted.real.directory / "tiny.db-journal").exists()


def test_a_crash_keeps_what_was_acknowledged_and_the_wal(executor: New) -> None:
    crashed = told(executor(), put("a"), Restart(crash=True))
    assert crashed.view == {"a": 1}
    assert crashed.counts["crashes"] == 1
    assert (crashed.real.directory / "tiny.db-wal").stat().st_size > 0


def test_what_is_armed_does_not_see_how_the_harness_lets_go_of_a_session(executor: New) -> None:
    # Only a close in good order deletes the WAL; a crash doesn't, though the harness has to close the session.
    crashed = told(executor(), put("a"), Arm("delete:wal@1..=IOERR_DELETE"), Restart(crash=True))
    assert crashed.armed["vfs"].firings == []
    closed = told(crashed, Restart())
    assert len(closed.armed["vfs"].firings) == 1


def test_a_maybe_committed_write_that_a_crash_brings_to_life_takes_the_twin_along(executor: New) -> None:
    revived = told(executor(), put("a"), NO_SYNC, put("b"))
    assert revived.view == {"a": 1}
    assert revived.real.oracle.maybe_committed == [{"a": 1, "b": 1}]
    revived = told(revived, Restart(crash=True))
    assert revived.view == revived.shadow.fresh_view() == {"a": 1, "b": 1}
    assert revived.real.oracle.maybe_committed == []
    assert told(revived, Clear(), put("c")).view == {"a": 1, "b": 1, "c": 1}
    revived.end()


def test_a_maybe_committed_write_is_gone_after_the_next_change(executor: New) -> None:
    gone = told(executor(), put("a"), NO_SYNC, put("b"), Clear(), put("c"), Restart(crash=True))
    assert gone.view == gone.shadow.fresh_view() == {"a": 1, "c": 1}


def test_a_close_that_is_cut_short_may_bring_a_maybe_committed_write_as_a_crash_does(executor: New) -> None:
    # The checkpoint of the close can't sync the WAL, so the WAL stays, and the next opening recovers it.
    left = told(executor(), put("a"), NO_SYNC, put("b"), Restart())
    assert left.view == left.shadow.fresh_view() == {"a": 1, "b": 1}
    told(left, Clear(), put("c")).end()


def test_an_opening_that_fails_under_a_fault_is_an_answer_and_the_calls_after_it_fall_away(executor: New) -> None:
    closed = told(executor(), put("a"), Arm("open:db@1..=CANTOPEN"), Restart(), put("b"))
    assert closed.real.session is None
    assert closed.view == {"a": 1}
    assert told(closed, Clear(), put("b")).view == {"a": 1, "b": 1}


def test_a_refusal_without_a_fault_is_an_answer(executor: New) -> None:
    refused = told(executor(), put("a"), Call(Action("remove", {"key": "z"})))
    assert refused.counts["refused"] == 1
    assert refused.view == {"a": 1}


def test_a_store_may_not_refuse_under_a_fault_what_it_would_do_without_one(executor: New) -> None:
    guesses = told(executor(tiny_stores.Guesses()), put("a"), Restart(), Arm("shmlock:db@1..=IOERR_SHMLOCK"))
    with pytest.raises(Violation, match="without the fault it is acknowledged") as found:
        guesses.do(Call(Action("remove", {"key": "a"})))
    assert found.value.code == "error-is-not-hidden"


def test_with_nothing_armed_a_call_has_to_work(executor: New) -> None:
    sulks = told(executor(tiny_stores.Sulks()), Restart(), NO_WRITE, put("a"), Clear())
    with pytest.raises(Violation, match="no fault is armed") as found:
        sulks.do(put("b"))
    assert found.value.code == "still-usable-after-the-fault"


def test_a_call_that_fails_without_a_fault_makes_no_scenario(executor: New) -> None:
    with pytest.raises(TargetError, match="fly"):
        executor().do(Call(Action("fly")))


def test_a_store_that_can_not_be_opened_makes_no_scenario(executor: New) -> None:
    with pytest.raises(TargetError, match="no such store"):
        executor(tiny_stores.NeverOpens())


def test_a_plan_is_armed_only_where_it_can_fire(executor: New) -> None:
    with pytest.raises(faults.ImpossibleFaultError, match="vfs depth"):
        executor().do(Arm("commit@1=BUSY"))


def test_a_fault_between_two_commits_of_one_call_is_caught(executor: New) -> None:
    twice = told(executor(tiny_stores.TwoTransactions()), put("a"), Arm("begin@2=BUSY", "statement"))
    with pytest.raises(Violation) as found:
        twice.do(Call(Action("move", {"key": "a", "to": "b"})))
    assert found.value.code == "all-or-nothing"


def test_the_same_step_has_the_same_time_in_every_run(executor: New) -> None:
    first, second = executor(), executor()
    times = []
    for one in (first, second):
        told(one, put("a"), Restart())
        times.append(one.real.environment.now_ms)
    assert times[0] == times[1] > tiny_stores.Environment().now_ms


# -- whole scenarios -----------------------------------------------------------------------------------------


def scenario(*steps: Step, configuration: Configuration = WAL) -> Scenario:
    return Scenario("tiny", configuration, steps)


@pytest.mark.parametrize("configuration", [WAL, DELETE])
def test_a_right_store_violates_nothing(configuration: Configuration, shim: faults.Shim, home: Path) -> None:
    role = "wal" if configuration is WAL else "journal"
    steps = (put("a"), Arm(f"write:{role}@1=FULL"), put("b"), Restart(crash=True), put("c"), Restart(), Clear())
    violation, counts = play(scenario(*steps, configuration=configuration), tiny_stores.Tiny(), home)
    assert violation is None
    assert (counts["steps"], counts["fired"]) == (7, 1)


def test_a_leak_is_found_when_a_scenario_ends_and_spoils_no_later_one(shim: faults.Shim, home: Path) -> None:
    leaks = tiny_stores.Leaks()
    found, _ = play(scenario(Restart(), NO_WRITE, put("a")), leaks, home)
    assert found is not None
    assert found.code == "still-usable-after-the-fault"
    assert "still open" in found.message
    assert play(scenario(put("a")), leaks, home)[0] is None


def test_what_fails_first_is_told_though_the_session_can_not_be_closed_after_it(shim: faults.Shim, home: Path) -> None:
    class Both(tiny_stores.RemembersFirstSession, tiny_stores.LeaksSession):
        """Leaks, and remembers too early."""

    class Target(tiny_stores.Tiny):
        session = Both

    found, _ = play(scenario(Restart(), NO_WRITE, put("a")), Target(), home)
    assert found is not None
    assert found.code == "memory-equals-disk"


NEEDLESS = (
    Restart(), put("a"), put("b"), Arm("lock:db@9=BUSY"), Restart(crash=True), put("c"), Clear(), NO_WRITE, put("d"),
    put("a", 3), Clear(), put("b"),
)  # fmt: skip


def test_minimising_drops_every_step_and_every_fault_that_is_not_needed(shim: faults.Shim, home: Path) -> None:
    target: Target = tiny_stores.RemembersFirst()
    violation, _ = play(scenario(*NEEDLESS), target, home)
    assert violation is not None
    shortest, again = minimise(scenario(*NEEDLESS), violation, target, home)
    assert [str(step) for step in shortest.steps] == ["restart", "arm write:wal@1=FULL", "put(key='d', value=1)"]
    assert again.code == violation.code
    assert play(shortest, target, home)[0] is not None


def test_minimising_arms_late_and_counts_from_there(shim: faults.Shim, home: Path) -> None:
    target = tiny_stores.RemembersFirst()
    long = scenario(Restart(), Arm("begin@3=BUSY", "statement"), put("a"), put("b"), put("c"))
    violation, _ = play(long, target, home)
    assert violation is not None
    shortest, _ = minimise(long, violation, target, home)
    # An ordinary fault, in a store that was opened before: counted from there, too.
    assert [str(step) for step in shortest.steps[:2]] == ["restart", "arm write@1=FULL"]
    assert len(shortest.steps) == 3


class ReadsByItself(tiny_stores.Tiny):
    """Its rows are read on a connection of its own, as those of an attached database are."""

    def fresh_view(self, connection: sqlite3.Connection) -> View:
        (database,) = (file for _, name, file in connection.execute("PRAGMA database_list") if name == "main")
        with contextlib.closing(sqlite3.connect(database)) as own:
            return super().fresh_view(own)


@pytest.mark.parametrize("fault", ["lock@1..=BUSY", "read@1..=IOERR_READ"])
def test_no_fault_strikes_the_reader_though_it_opens_a_connection_by_itself(executor: New, fault: str) -> None:
    done = told(executor(ReadsByItself()), Restart(), put("a"), Arm(fault))
    assert done.real.fresh_view() == {"a": 1}
