"""Which points are tried where not all are: each operation, and each pair of an effect with a call or a kind."""

from pathlib import Path
from random import Random

import pytest
import tiny_stores
from run_records import record

from tornpage import faults
from tornpage.scenarios.model.covering import Covering, Variant
from tornpage.scenarios.model.events import CrashesTried, PointTried, SearchEnded
from tornpage.scenarios.model.target import Configuration
from tornpage.scenarios.model.work import Part
from tornpage.scenarios.report.junit import junit
from tornpage.scenarios.report.merge import merge
from tornpage.scenarios.report.words import headline
from tornpage.scenarios.search import sweep as sweeping
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.search.sweep import Sweep

WAL = Configuration("wal", "FULL")
EFFECTS = (("before", "FULL"), ("before", "IOERR"), ("half", "FULL"), ("after", "IOERR"))


def seeded(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - the same seed gives the same choice


def a_call(writes: int, syncs: int = 0) -> list[Variant]:
    """All variants of a call that writes and syncs so many times; a sync has one effect that a write has not."""
    return [
        Variant((kind, "db"), ordinal, effect, sticky)
        for kind, count, effects in (("write", writes, EFFECTS), ("sync", syncs, (EFFECTS[1], ("before", "FSYNC"))))
        for ordinal in range(1, count + 1)
        for effect in effects
        for sticky in (False, True)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_every_operation_effect_and_pair_is_chosen_whatever_the_budget(seed: int) -> None:
    covering, pairs = Covering(), set()
    calls = [a_call(9, 3), a_call(2), a_call(1, 1)]
    for variants in calls:
        chosen = [variants[index] for index in covering.choose(variants, 0, seeded(seed))]
        assert {one[:2] for one in chosen} == {one[:2] for one in variants}
        assert {one.effect for one in chosen} == {one.effect for one in variants}
        pairs |= {(one.kind, one.effect) for one in chosen}
    assert pairs == {(one.kind, one.effect) for variants in calls for one in variants}


def test_effects_and_stickiness_are_spread_evenly_over_many_operations() -> None:
    variants = a_call(80)
    chosen = [variants[index] for index in Covering().choose(variants, 0, seeded(1))]
    assert len(chosen) == 80
    shares = [sum((one.effect, one.is_sticky) == (effect, sticky) for one in chosen)
              for effect in EFFECTS for sticky in (False, True)]  # fmt: skip
    assert shares == [10] * 8


def test_the_rest_of_the_budget_is_used_up_in_order_and_by_the_seed() -> None:
    variants = a_call(9, 3)
    first, again, other = (Covering().choose(variants, 40, seeded(seed)) for seed in (1, 1, 2))
    assert first == again == sorted(set(first))
    assert first != other
    assert len(first) == len(other) == 40
    assert Covering().choose(variants, len(variants), seeded(1)) == list(range(len(variants)))


def test_a_sweep_with_a_small_budget_makes_each_operation_of_each_call_fail(shim: faults.Shim, home: Path) -> None:
    tried: list[PointTried] = []
    recorder = Recorder([lambda event: tried.append(event) if isinstance(event, PointTried) else None])
    search = Sweep(
        tiny_stores.Tiny(), recorder, home, configurations=(WAL,), most_points_per_call=2, every_operation=True
    )
    points = Sweep(tiny_stores.Tiny(), Recorder(), home, configurations=(WAL,)).points(Part(WAL))
    every = {_operation(one.start.step, one.start.call, one.condition) for one in points}
    search.run()
    failed = {_operation(one.place.step, one.place.call, one.place.condition) for one in tried if one.fired}
    counts = recorder.ended[0].counts
    assert failed == every
    assert counts["operations"] == counts["operations_failed"] == len(every)
    assert counts["tried"] < counts["points"] / 3
    assert recorder.ended[0].extent == "sampled"


def _operation(step: int, call: str, plan: str) -> tuple[object, ...]:
    (fault,) = faults.FaultPlan.parse(plan).faults
    return step, call, fault.kind, fault.role, fault.when.first, faults.operations_of(fault)


# -- what is said of it ------------------------------------------------------------------------------------


def swept(extent: str, search: str = "sweep", *, complete: bool = True, **counts: int) -> SearchEnded:
    return SearchEnded(search, "tiny", {"fired": 2, **counts}, 1.0, complete, extent=extent)  # type: ignore[arg-type]


ALL = {"operations": 40, "operations_failed": 40, "points": 900, "tried": 90}


def test_a_sample_says_which_share_it_is() -> None:
    states = CrashesTried("tiny", WAL, states=5, enumerable=1_000, left_out={"faults of a recovery": 3})
    made = record(
        searches=(
            swept("sampled", **ALL),
            SearchEnded("limits", "tiny", {"limits_in_all": 7, "tried": 3}, 1.0, extent="sampled"),
            swept("random", "kill"),
            swept("sampled", "crash"),
        ),
        crash_states=(states,),
        extent="SAMPLED",
    )
    assert headline(made).endswith(
        ". SAMPLED: every operation failed (40 of 40), 90 of 900 variants; 3 of 7 limits; 5 of 1,000 crash states; "
        "faults and recoveries before a crash in part; kill in part"
    )
    assert '<property name="extent" value="SAMPLED" />' in junit(made)


def test_what_has_tried_everything_says_so() -> None:
    made = record(searches=(swept("exhaustive", **{**ALL, "tried": 900}),), extent="EXHAUSTIVE")
    assert headline(made).endswith(". EXHAUSTIVE: every operation failed (40 of 40), all 900 variants")


def test_a_run_that_was_cut_short_claims_no_operation_that_it_did_not_reach() -> None:
    made = record(searches=(swept("sampled", complete=False, **ALL),), extent="SAMPLED", complete=False)
    assert "every operation" not in headline(made)
    assert "operations failed (40 of 40 of the calls reached)" in headline(made)


def test_a_run_that_was_cut_short_claims_no_rival_of_a_call_that_it_did_not_reach() -> None:
    def contended(*, complete: bool) -> SearchEnded:
        return SearchEnded("contend", "tiny", {"points": 80, "tried": 80}, 1.0, complete, extent="sampled")

    made = record(searches=(contended(complete=False),), extent="SAMPLED", complete=False)
    assert headline(made).endswith("SAMPLED: all 80 rivals of the calls reached")
    assert headline(record(searches=(contended(complete=True),), extent="SAMPLED")).endswith("SAMPLED: all 80 rivals")


def test_shares_are_exhaustive_together_only_where_each_is() -> None:
    def share(extent: str, number: int) -> SearchEnded:
        return swept(extent, **{**ALL, "operations": number, "operations_failed": number})

    whole = merge([record(run_id="1", searches=(share("exhaustive", 3),)),
                    record(run_id="2", searches=(share("exhaustive", 4),))]).record  # fmt: skip
    part = merge([record(run_id="1", searches=(share("exhaustive", 3),)),
                   record(run_id="2", searches=(share("sampled", 4),))]).record  # fmt: skip
    assert (whole.extent, part.extent) == ("EXHAUSTIVE", "SAMPLED")
    assert "every operation failed (7 of 7)" in headline(whole)


# -- points that are equivalent ----------------------------------------------------------------------------


def told_of(target: tiny_stores.Tiny, home: Path, part: Part) -> tuple[list[PointTried], list[str], int]:
    """What a sweep of a part tells of its points, the checks that failed, and how many were played by another one."""
    tried: list[PointTried] = []
    recorder = Recorder([lambda event: tried.append(event) if isinstance(event, PointTried) else None])
    done = Sweep(target, recorder, home, configurations=(part.configuration,)).do(part)
    assert done.error is None, done.error
    return tried, [found.finding.code for found in recorder.findings], done.counts["equivalent"]


@pytest.mark.parametrize(
    ("target", "mode"),
    [
        (tiny_stores.Tiny, "wal"),
        pytest.param(tiny_stores.Tiny, "delete", marks=pytest.mark.slow),
        pytest.param(tiny_stores.RemembersFirst, "wal", marks=pytest.mark.slow),
    ],
)
def test_what_is_told_of_equivalent_points_is_what_playing_them_comes_to(
    target: type[tiny_stores.Tiny], mode: str, shim: faults.Shim, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = Part(Configuration(mode, "FULL"), 2, 3)
    tried, codes, equivalent = told_of(target(), home, part)
    monkeypatch.setattr(sweeping, "_is_for_good", lambda *_: False)
    every, wanted, none = told_of(target(), home, part)
    assert tried == every
    assert codes == wanted
    assert bool(codes) is (target is tiny_stores.RemembersFirst)
    assert equivalent > none == 0


def test_a_fault_for_good_that_meets_more_than_the_one_operation_is_played(shim: faults.Shim, home: Path) -> None:
    tried, _, equivalent = told_of(tiny_stores.Tiny(), home, Part(WAL, 2, 3))
    pairs: dict[tuple[object, ...], set[bool]] = {}
    for one in tried:
        (fault,) = faults.FaultPlan.parse(one.place.condition).faults
        pairs.setdefault((fault.kind, fault.role, fault.timing, fault.effect, fault.when.first), set()).add(
            one.surfaced
        )
    # Some are absorbed once and surface for good: these were told apart.
    assert {True, False} in pairs.values()
    assert 0 < equivalent < len(tried) / 2
