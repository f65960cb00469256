"""The search `limits`: a right store is left alone under each of them, a defect is caught, and a finding replays."""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tiny_stores

from tornpage import faults
from tornpage.scenarios.execution.executor import Executor, play
from tornpage.scenarios.execution.finding.shrink import minimise
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Call, Clear, Limit, Restart, Scenario
from tornpage.scenarios.model.target import Action, Configuration, Environment, Target, View
from tornpage.scenarios.run.campaign import Exit, run, verdict
from tornpage.scenarios.run.reproduce.replay_file import ReplayFileError, Verdict, read, replay
from tornpage.scenarios.search.limits import Limits, limits_up_to
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.reference.target import Reference

WAL = Configuration("wal", "FULL")
KINDS = {"allocation", "heap", "pages", "steps"}


def limited(
    target: Target, points: int | None = 12, seed: int = 0, report: Path | None = None, **options: Any
) -> Recorder:
    profile = Profile("test", None, None, 0, 0, limit_points=points)
    return run(target, Plan(("limits",), profile, seed=seed, report=report, **options))


def codes(recorder: Recorder) -> set[str]:
    return {found.finding.code for found in recorder.findings}


@pytest.mark.slow
def test_a_right_store_holds_at_every_point_of_every_limit() -> None:
    recorder = limited(Sturdy(), points=None)
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.vacuous == []
    assert recorder.complete
    assert {series.kind for series in recorder.tallies} == KINDS
    assert recorder.count("limits") == recorder.count("fired") > 3_000
    assert recorder.count("surfaced") > 0.9 * recorder.count("fired")
    assert verdict(recorder) is Exit.HOLDS


@pytest.mark.slow
def test_the_reference_holds_under_every_kind_of_limit_in_every_configuration() -> None:
    recorder = limited(Reference(), points=2)
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.vacuous == []
    assert recorder.count("limits") > 250
    assert {series.kind for series, tally in recorder.tallies.items() if tally.fired} == KINDS
    assert verdict(recorder) is Exit.HOLDS


class SturdySession(tiny_stores.TinySession):
    """Gives up a connection that can't even roll back, and opens another one when it is needed."""

    broken = False

    def __init__(self, directory: Path, configuration: Configuration, environment: Environment) -> None:
        self.open_again = lambda: tiny_stores.TinySession(directory, configuration, environment).connection
        super().__init__(directory, configuration, environment)

    def call(self, action: Action) -> None:
        self.mend()
        super().call(action)

    def live_view(self) -> View:
        self.mend()
        return super().live_view()

    def mend(self) -> None:
        if self.broken:
            self.connection = self.open_again()
            self.broken = False

    def roll_back(self) -> None:
        try:
            super().roll_back()
        except (sqlite3.Error, MemoryError):
            self.broken = True
            self.connection.close()


class Sturdy(tiny_stores.Tiny):
    """Right under every limit. (Tiny isn't: without memory its ROLLBACK fails, and its transaction stays open.)"""

    session = SturdySession


class ForgetsMemoryErrorSession(SturdySession):
    """Rolls back after an error of SQLite's, and has never heard of MemoryError."""

    tidies = False

    def transact(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            for statement in statements:
                self.connection.execute(*statement)
            self.connection.execute("COMMIT")
        except sqlite3.Error:
            self.roll_back()
            raise


class ForgetsMemoryError(Sturdy):
    """still-usable-after-the-fault: a MemoryError leaves its transaction open."""

    session = ForgetsMemoryErrorSession


class IgnoresFullSession(SturdySession):
    """Takes a full disk for no reason to stop."""

    def transact(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        try:
            super().transact(*statements)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise


class IgnoresFull(Sturdy):
    """acknowledged-is-durable: says done when the disk is full."""

    session = IgnoresFullSession
    calls = (Action("put", {"key": "a", "value": 1}), Action("put", {"key": "b", "value": "x" * 20_000}))


class IgnoresInterruptsSession(SturdySession):
    """Goes on with the next statement where one was interrupted."""

    def transact(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            with contextlib.suppress(sqlite3.OperationalError):
                self.connection.execute(*statement)
        if self.connection.in_transaction:
            self.connection.execute("COMMIT")


class IgnoresInterrupts(Sturdy):
    """acknowledged-is-durable: half of a call that is acknowledged was never done."""

    session = IgnoresInterruptsSession


DEFECTS = [
    (ForgetsMemoryError, "still-usable-after-the-fault", {"allocation", "heap"}),
    (tiny_stores.RemembersFirst, "memory-equals-disk", KINDS),
    (tiny_stores.TwoTransactions, "all-or-nothing", KINDS),
    (tiny_stores.Swallows, "acknowledged-is-durable", KINDS),
    (tiny_stores.Forgets, "memory-equals-disk", KINDS),
    (IgnoresFull, "acknowledged-is-durable", {"pages"}),
    (IgnoresInterrupts, "acknowledged-is-durable", {"steps"}),
]


@pytest.mark.quality
@pytest.mark.parametrize(("target", "code", "kinds"), DEFECTS)
def test_a_defect_is_caught_by_its_check_and_every_finding_replays(
    target: type[tiny_stores.Tiny], code: str, kinds: set[str], home: Path, shim: faults.Shim
) -> None:
    recorder = limited(target(), points=12, configurations=(WAL,), most_findings=4)
    assert code in codes(recorder)
    for found in recorder.findings:
        again, _ = play(found.finding.scenario, target(), home)
        assert again is not None, found.finding.scenario
        assert again.code == found.finding.code
    scenarios = [found.finding.scenario for found in recorder.findings if found.finding.code == code]
    assert {step.kind for scenario in scenarios for step in scenario.steps if isinstance(step, Limit)} & kinds


@pytest.mark.slow
@pytest.mark.quality
def test_a_finding_is_a_file_that_replays_and_a_store_that_is_corrected_is_fixed(
    home: Path, tmp_path: Path, shim: faults.Shim
) -> None:
    recorder = limited(ForgetsMemoryError(), points=60, report=tmp_path)
    files = sorted(tmp_path.glob("*.json"))
    assert len(files) == len(recorder.findings) >= 1
    for file in files:
        assert replay(read(file), ForgetsMemoryError(), home)[0] is Verdict.FAILED
        # The fixed store lies in the same module here, whose code has not changed.
        elsewhere = msgspec.structs.replace(read(file), code={})
        assert replay(elsewhere, Sturdy(), home)[0] is Verdict.FIXED


def test_a_replay_file_with_a_limit_below_nothing_is_refused(tmp_path: Path) -> None:
    limited(ForgetsMemoryError(), points=4, report=tmp_path, most_findings=1)
    file = next(iter(tmp_path.glob("*.json")))
    text = file.read_text()
    before, _, after = text.partition('"at": ')
    file.write_text(before + '"at": -' + after)
    with pytest.raises(ReplayFileError, match=">= 0"):
        read(file)


def test_the_same_seed_meets_the_same_limits_and_another_seed_others(home: Path, shim: faults.Shim) -> None:
    def sampled(seed: int) -> list[str]:
        search = Limits(tiny_stores.Tiny(), Recorder(), home, most_points_per_call=12, seed=seed)
        start = list(search.starts(WAL))[1]
        return [str(point.step) for point in search.points_under(WAL, start, ("pages", "steps"))]

    assert sampled(1) == sampled(1) != sampled(2)


def test_points_end_where_the_call_ended() -> None:
    assert limits_up_to("allocation", 2) == [
        Limit("allocation", 1), Limit("allocation", 1, sticky=True),
        Limit("allocation", 2), Limit("allocation", 2, sticky=True),
    ]  # fmt: skip
    assert limits_up_to("pages", 2) == [Limit("pages", 0), Limit("pages", 1)]
    assert limits_up_to("heap", 1025) == [Limit("heap", 0), Limit("heap", 512), Limit("heap", 1024)]
    assert limits_up_to("steps", 0) == []


class ConnectsByItself(Sturdy):
    """Not within reach of limits on connections."""

    depths = ("vfs",)


def test_a_target_that_connects_by_itself_meets_the_limits_of_memory_only() -> None:
    recorder = limited(ConnectsByItself(), points=8)
    assert {series.kind for series in recorder.tallies} == {"allocation", "heap"}
    assert verdict(recorder) is Exit.HOLDS


def test_a_limit_that_nothing_ever_meets_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults.PageLimit, "put_on", lambda _limit, _connection: None)
    recorder = limited(Sturdy(), points=8)
    assert recorder.vacuous == []
    assert "the limit on pages was met by no call, at none of all 0 points" in recorder.ended[0].notes
    assert verdict(recorder) is Exit.HOLDS


def test_where_a_connection_is_open_single_allocations_are_vacuous_and_the_rest_is_tried(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "another.db")) as connection:
        connection.execute("CREATE TABLE t(a)")
        recorder = limited(Sturdy(), points=8)
    assert "a connection is open" in recorder.vacuous[0].reason
    assert {series.kind for series in recorder.tallies} == KINDS - {"allocation"}
    assert verdict(recorder) is Exit.NOT_TESTED


def test_a_time_limit_cuts_it_short(home: Path, shim: faults.Shim) -> None:
    recorder = Recorder(deadline=0.0)
    Limits(tiny_stores.Tiny(), recorder, home).run()
    assert not recorder.complete
    assert recorder.count("tried") == 0
    with faults.exact_allocations() as allocator:
        pass
    assert not allocator.installed


def test_a_limit_is_in_force_only_while_the_target_is_at_work(home: Path, shim: faults.Shim) -> None:
    with faults.exact_allocations(), Executor(tiny_stores.Tiny(), WAL, home) as executor:
        for step in (Restart(), Limit("allocation", 1, sticky=True), Call(Action("put", {"key": "a", "value": 1}))):
            executor.do(step)
        # The shadow, the fresh reader and the crash copy had memory all the time.
        assert executor.counts["raised"] == 1
        assert executor.shadow.fresh_view() == executor.view == {}
        executor.do(Clear())
        executor.do(Call(Action("put", {"key": "a", "value": 1})))
        executor.end()


def test_a_scenario_with_an_allocation_is_minimised_like_any_other(home: Path, shim: faults.Shim) -> None:
    put = Call(Action("put", {"key": "a", "value": 1}))
    other = Call(Action("put", {"key": "b", "value": 1}))
    scenario = Scenario("tiny", WAL, (Restart(), Limit("allocation", 1, sticky=True), put, Clear(), other, other))
    target = tiny_stores.RemembersFirst()
    violation, _ = play(scenario, target, home)
    assert violation is not None
    shortest, _ = minimise(scenario, violation, target, home)
    assert [type(step) for step in shortest.steps] == [Restart, Limit, Call]  # without memory it would not open


@pytest.mark.slow
def test_the_command_teaches_and_runs(command: Callable[..., Any]) -> None:
    taught = command("limits", "--help")
    assert taught.code == 0
    assert all(word in taught.out for word in ("allocation", "heap", "pages", "steps", "replay"))
    ran = command("limits", "--configuration", "wal/FULL", "--points", "4", "--json", "--quiet")
    assert ran.code == 0, ran
    assert '"verdict": "HOLDS"' in ran.out
    found = command("limits", "--target", "tiny_stores:RemembersFirst", "--points", "8", "--quiet")
    assert found.code == 1, found
    assert "tornpage replay" in found.out


def test_a_cancelled_call_that_leaves_its_transaction_open_is_found_and_the_corrected_store_is_silent() -> None:
    from tornpage.scenarios.model.plan import Plan
    from tornpage.scenarios.run.campaign import run
    from tornpage.scenarios.targets.registry import find

    plan = Plan(("limits",), Profile("test", 1, None, 0, 0, limit_points=30), report=None, most_findings=1)
    for name, wanted in (("bug:cancelled-leaves-begin", True), ("bug:cancelled-leaves-begin/sound", False)):
        recorder = run(find(name), plan)
        found = [one.finding for one in recorder.findings]
        assert any("the call is cancelled at its await" in str(one.scenario) for one in found) is wanted
        assert bool(found) is wanted
        assert sum(tally.fired for series, tally in recorder.tallies.items() if series.kind == "awaits") > 0


def test_a_limit_that_only_the_look_before_an_import_meets_is_no_error_of_the_ledgers(
    home: Path, shim: faults.Shim
) -> None:
    steps = (
        Call(Action("legacy_file", {"name": "old.json", "content": {"channel": "mail", "id": "old", "to": "you"}})),
        Restart(crash=True),
        Limit("heap", 8192),
        Call(Action("outbox.import_legacy")),
    )
    violation, _ = play(Scenario("reference", WAL, steps), Reference(), home)
    assert violation is None
