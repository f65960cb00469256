"""The sweep on a tiny store: every point fires and a right store is left alone; each defect is caught by its check."""

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_stores

from tornpage import faults
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.events import PointTried
from tornpage.scenarios.model.target import Action, Configuration, Target, TargetError
from tornpage.scenarios.run.campaign import Exit, verdict
from tornpage.scenarios.search import base as searching
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.search.sweep import Sweep

WAL = (Configuration("wal", "FULL"),)

Search = Callable[..., Recorder]


def codes(recorder: Recorder) -> set[str]:
    return {found.finding.code for found in recorder.findings}


@pytest.mark.slow
@pytest.mark.parametrize("target", [tiny_stores.Tiny, tiny_stores.CommitsThenReads])
def test_a_right_store_has_no_finding_and_every_point_fires(target: type[Target], search: Search) -> None:
    recorder = search(target())
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.vacuous == []
    assert recorder.count("points") == recorder.count("tried") == recorder.count("fired") > 1_000
    assert recorder.complete
    assert verdict(recorder) is Exit.HOLDS


def test_the_table_of_points_adds_up_and_reaches_both_depths(search: Search) -> None:
    recorder = search(tiny_stores.Tiny(), points=20)
    for name in ("tried", "fired", "surfaced"):
        assert sum(getattr(tally, name) for tally in recorder.tallies.values()) == recorder.count(name)
    kinds = {series.kind for series in recorder.tallies}
    assert {"write", "sync", "shmlock", "begin", "commit", "delete"} <= kinds


def test_an_error_that_the_store_swallows_has_not_surfaced(search: Search) -> None:
    # No error of a write reaches a caller, and none is absorbed: the change is lost.
    recorder = search(tiny_stores.Swallows(), points=40, configurations=1)
    tallies = recorder.tallies.values()
    assert all(tally.fired == tally.surfaced + tally.absorbed + tally.failed for tally in tallies)
    assert sum(tally.failed for tally in tallies) == recorder.count("findings") > 0
    (full,) = [tally for series, tally in recorder.tallies.items() if str(series) == "write:wal=FULL"]
    assert full.absorbed == 0
    assert full.failed > 0


@pytest.fixture
def few_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for a leftover is dear, and each leak is like the others."""
    monkeypatch.setattr(searching, "MOST_LEAKS", 5)


DEFECTS = [
    (tiny_stores.RemembersFirst, {"memory-equals-disk"}),
    (tiny_stores.TwoTransactions, {"all-or-nothing"}),
    (tiny_stores.Swallows, {"acknowledged-is-durable", "no-resurrection"}),
    (tiny_stores.Stuck, {"still-usable-after-the-fault"}),
    (tiny_stores.Sulks, {"still-usable-after-the-fault"}),
    (tiny_stores.Leaks, {"still-usable-after-the-fault"}),
    (tiny_stores.Forgets, {"memory-equals-disk"}),
    (tiny_stores.Scribbles, {"integrity"}),
]


@pytest.mark.quality
@pytest.mark.parametrize(("target", "caught"), DEFECTS)
def test_a_defect_is_caught_by_its_check_and_every_finding_replays(
    target: type[tiny_stores.Tiny], caught: set[str], search: Search, shim: faults.Shim, home: Path, few_leaks: None
) -> None:
    recorder = search(target(), points=8, configurations=1)
    assert caught <= codes(recorder)
    for found in recorder.findings:
        again, _ = play(found.finding.scenario, target(), home)
        assert again is not None, found.finding.scenario
        assert again.code == found.finding.code


@pytest.mark.slow
@pytest.mark.quality
def test_a_finding_is_as_short_as_it_can_be(search: Search) -> None:
    recorder = search(tiny_stores.RemembersFirst(), points=70)
    sizes = [len(found.finding.scenario.steps) for found in recorder.findings]
    # The fault, and the call that meets it; where an ordinary fault needs an open store, opening it.
    assert sizes[:1] in ([2], [3])
    assert max(sizes) <= 4


@pytest.mark.quality
def test_a_store_that_leaks_is_let_alone_before_descriptors_run_out(search: Search, few_leaks: None) -> None:
    recorder = search(tiny_stores.Leaks())
    assert codes(recorder) == {"still-usable-after-the-fault"}
    assert "files open" in recorder.vacuous[0].reason
    assert not recorder.complete
    assert verdict(recorder) is Exit.FINDING


BROKEN = [
    (tiny_stores.NeverWorks, r"move\(key='a', to='a'\) fails without any fault.*UNIQUE"),
    (tiny_stores.NeverOpens, "no such store"),
    (tiny_stores.LeaksAlways, "fails without any fault.*still open"),
    (tiny_stores.FailsToClose, "fails without any fault.*closed already"),
]


@pytest.mark.parametrize(("target", "message"), BROKEN)
def test_a_target_that_fails_without_a_fault_is_named_and_not_swept(
    target: type[Target], message: str, search: Search
) -> None:
    with pytest.raises(TargetError, match=message):
        search(target(), points=0)


def test_a_workload_without_calls_tests_nothing(search: Search) -> None:
    recorder = search(tiny_stores.DoesNothing(), points=20)
    assert "makes no call" in recorder.vacuous[0].reason
    assert verdict(recorder) is Exit.NOT_TESTED


def sampled(target: Target, directory: Path, seed: int) -> list[PointTried]:
    tried: list[PointTried] = []
    recorder = Recorder([lambda event: tried.append(event) if isinstance(event, PointTried) else None])
    Sweep(target, recorder, directory, configurations=WAL, most_points_per_call=12, seed=seed).run()
    return tried


def test_the_same_seed_takes_the_same_sample_and_another_seed_another(shim: faults.Shim, home: Path) -> None:
    first, second, third = (sampled(tiny_stores.Tiny(), home, seed) for seed in (7, 7, 8))
    assert first == second
    assert first != third
    assert len(first) == len(third)


class Longer(tiny_stores.Tiny):
    """A workload of as many calls as asked for, each like the others."""

    def __init__(self, calls: int) -> None:
        self.calls = tuple(Action("put", {"key": f"key {number}", "value": 1}) for number in range(calls))


def test_the_work_grows_with_the_number_of_calls_and_not_with_its_square(shim: faults.Shim, home: Path) -> None:
    points = []
    for calls in (2, 4, 8):
        one = Sweep(Longer(calls), Recorder(), home / str(calls), configurations=WAL)
        points.append(sum(len(list(one.points_of(WAL[0], start))) for start in one.starts(WAL[0])))
    first, second = points[1] - points[0], points[2] - points[1]
    # Twice the calls are twice the points, but for what opening and closing cost with a longer WAL.
    assert 1.5 * first < second < 2.5 * first


class NeverTwiceAlike(tiny_stores.Tiny):
    """Reads more in its dry runs than afterwards: points that were counted do not come."""

    def open(self, directory: Path, *arguments: object) -> tiny_stores.TinySession:
        session = super().open(directory, *arguments)  # type: ignore[arg-type]
        # The path is the same for all of them, so that a store can't tell: the opener can.
        if any(frame.function == "_start" for frame in inspect.stack(0)):
            session.do_put = lambda key, value: [  # type: ignore[method-assign]
                tiny_stores.TinySession.do_put(session, key, value) for _ in range(2)
            ]
        return session


@pytest.mark.slow
def test_a_point_that_never_fires_is_told_and_not_passed_over(search: Search) -> None:
    recorder = search(NeverTwiceAlike(), "sweep", points=60)
    assert recorder.count("fired") < recorder.count("tried")
    assert any("never fired" in vacuous.reason for vacuous in recorder.vacuous)
    assert verdict(recorder) is not Exit.HOLDS


def test_what_is_not_promised_is_an_observation(search: Search) -> None:
    target = tiny_stores.RemembersFirst()
    target.unpromised = {"memory-equals-disk": "it is a cache"}
    recorder = search(target, points=8, configurations=1)
    assert recorder.findings == []
    assert recorder.observations
    assert verdict(recorder) is Exit.HOLDS


def test_a_time_limit_cuts_a_sweep_short_and_says_so(shim: faults.Shim, home: Path) -> None:
    recorder = Recorder(deadline=0.0)
    Sweep(tiny_stores.Tiny(), recorder, home).run()
    assert not recorder.complete
    assert recorder.count("tried") == 0
    assert verdict(recorder) is Exit.NOT_TESTED
