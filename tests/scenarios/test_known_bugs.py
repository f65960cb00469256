"""The gate: each known bug is caught by its check within its budget, and the reference is silent."""

import pkgutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tornpage.scenarios.model.judging.checks import CHECKS
from tornpage.scenarios.run import campaign
from tornpage.scenarios.search.points import PointSearch
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.selftest import gate
from tornpage.scenarios.targets import known_bugs
from tornpage.scenarios.targets.known_bugs import all_bugs, find_bug
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.names import UnknownTargetError
from tornpage.scenarios.targets.registry import find

PROJECT = Path(__file__).parents[2]
BUGS = all_bugs()

# Every defect that was reported against the systems which the reference follows, and those found in our own.
REPORTED = {
    "backoff-blocks-the-line", "corrupt-payload-blocks", "created-after-started", "delete-memory-first",
    "delete-second-delivery-write", "delete-snapshot-not-projected", "fail-resurrects", "finish-inserts-again",
    "hooks-skip-empty", "import-before-commit", "import-into-memory", "late-success-overwrites", "live-map-to-store",
    "lost-is-also-missing-cleanup", "lost-without-cleanup", "no-busy-timeout", "offline-marks-live-lost",
    "permanent-not-counted", "permanent-retried", "prune-nothing-means-all", "recovery-keeps-session",
    "replay-after-crash", "restore-failure-is-empty", "restore-torn", "running-survives-restart",
    "sender-and-recovery-race", "session-counts-as-life", "start-not-persisted", "summary-after-filter",
    "update-memory-first", "wal-never-truncates", "world-readable",
    # Of two callers, and of one that stops waiting.
    "blob-read-outside", "cache-not-refreshed", "cancelled-leaves-begin", "claim-by-select", "counter-in-python",
    "finish-without-lease", "insert-after-lookup", "lease-renewed-late", "shared-rollback",
    # Of other registries, queues, schedulers and session stores.
    "backoff-from-the-second", "bad-row-removed", "bad-row-stops-all", "clock-set-back", "commit-forgotten",
    "commit-on-another-connection", "cron-fired-twice", "dead-letter-in-two-steps", "flush-ignores-errors",
    "journal-in-memory", "key-not-looked-up", "last-of-the-batch", "limit-counted-first", "marked-read-unseen",
    "no-rollback", "number-by-maximum", "one-attempt-too-many", "pop-by-select-and-delete", "prune-by-creation",
    "reaped-when-done", "receipt-after-the-delete", "session-revived", "session-saved-whole", "ties-by-id",
    "touch-undoes-logout", "work-taken-away-first", "written-behind",
}  # fmt: skip


def test_every_file_of_a_bug_is_found_and_the_canary_comes_first() -> None:
    files = {module.name for module in pkgutil.iter_modules(known_bugs.__path__)} - {"build", "small"}
    assert {name.replace("-", "_") for name in BUGS} == files
    assert next(iter(BUGS)) == "canary"
    assert BUGS.keys() >= REPORTED | {"canary"}


@pytest.mark.parametrize("bug", BUGS.values(), ids=list(BUGS))
def test_a_bug_says_where_it_comes_from_what_it_does_and_what_must_catch_it(bug: KnownBug) -> None:
    assert bug.source
    assert bug.defect
    assert bug.checks
    assert set(bug.checks) <= CHECKS.keys()
    assert bug.searches
    assert 0 < bug.budget <= 5_000
    assert find_bug(bug.name) is bug
    assert find(f"bug:{bug.name}").name == f"bug:{bug.name}"


def test_a_bug_that_nobody_knows_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(UnknownTargetError, match="update-memory-first"):
        find_bug("nobody")


TRIES = [(bug, search) for bug in BUGS.values() for search in bug.searches]


@pytest.mark.slow
@pytest.mark.quality
@pytest.mark.parametrize(("bug", "search"), TRIES, ids=[f"{bug.name} by {search}" for bug, search in TRIES])
def test_a_bug_is_caught_by_its_check_within_its_budget(bug: KnownBug, search: str) -> None:
    (catch,) = (catch for catch in gate.try_bug(only(bug, search), seed=0, report=None))
    assert catch.check in bug.checks, catch
    assert catch.caught
    assert gate.within_budget(catch, bug), catch
    assert catch.scenario_steps <= 8


def only(bug: KnownBug, search: str) -> KnownBug:
    """The same bug, looked for in one way."""
    return KnownBug(**{**vars(bug), "searches": (search,)})


@pytest.mark.quality
def test_the_canary_is_caught_at_once() -> None:
    sweep, fuzz = gate.try_bug(BUGS["canary"], seed=0, report=None)
    # The calls of the workload are judged before any fault.
    assert sweep.work <= 10
    assert fuzz.work <= 20


def test_the_points_of_a_build_of_one_script_are_those_of_the_reference_and_few_are_tried() -> None:
    (catch,) = gate.try_bug(only(find_bug("snapshot-id-twice"), "sweep"), 0, None)
    assert catch.caught
    assert catch.work < 50


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_reference_is_silent(seed: int, search: Callable[..., Recorder]) -> None:
    target = find("reference")
    target.configurations = target.configurations[seed : seed + 1]
    recorder = search(target, "sweep", "fuzz", points=6, scenarios=30, steps=12, seed=seed)
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.vacuous == []
    assert recorder.count("fired") > 100


@pytest.mark.slow
def test_the_calls_that_show_the_bugs_show_nothing_on_the_reference() -> None:
    assert sum(bool(bug.calls) for bug in BUGS.values()) > 20
    assert list(gate.noise(list(BUGS.values()), 0)) == []


def test_calls_that_the_reference_does_not_bear_are_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "Reference", lambda **_: BUGS["prune-nothing-means-all"].target())
    *_, last = gate.noise([BUGS["prune-nothing-means-all"]], 0)
    assert last.startswith("the calls of prune-nothing-means-all: message m1 was removed")


def test_the_same_calls_and_the_same_twin_are_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    silent: dict[str, list[str]] = {"calls": [], "twins": []}
    monkeypatch.setattr(gate, "_noise_of_search", lambda *_: [])
    monkeypatch.setattr(gate, "_noise_of_calls", lambda _seed, name: silent["calls"].append(name) or [])
    monkeypatch.setattr(gate, "_noise_of_twin", lambda _seed, name: silent["twins"].append(name) or [])
    assert list(gate.noise(list(BUGS.values()), 0)) == []
    calls = [repr(BUGS[name].calls) for name in silent["calls"]]
    assert sorted(calls) == sorted({repr(bug.calls) for bug in BUGS.values() if bug.calls})
    assert "lease-renewed-late" in silent["twins"] or "finish-without-lease" in silent["twins"]
    assert set(silent["twins"]) < {bug.name for bug in BUGS.values() if bug.sound}
    assert {BUGS[name].sound for name in silent["twins"]} == {bug.sound for bug in BUGS.values() if bug.sound}


def test_a_bug_is_not_rehearsed_and_its_idle_store_not_judged_where_a_call_shows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged: list[str] = []
    monkeypatch.setattr(campaign, "require_contract", lambda *_: judged.append("contract"))
    monkeypatch.setattr(PointSearch, "_idle_checks", lambda *_: judged.append("idle") or ())
    (catch,) = gate.try_bug(only(BUGS["backoff-blocks-the-line"], "sweep"), 0, None)
    assert (catch.caught, judged) == (True, [])
    assert gate._noise_of_twin(0, "commit-forgotten") == []
    assert judged == ["contract", "idle"]


def test_the_page_of_the_checks_names_the_bugs_that_each_catches() -> None:
    page = (PROJECT / "docs" / "checks.md").read_text()
    wanted = {
        code: ", ".join(f"`{bug.name}`" for bug in BUGS.values() if code in bug.checks)
        for code in CHECKS
        if any(code in bug.checks for bug in BUGS.values())
    }
    assert [f"| {code} | {names} |" for code, names in wanted.items()] == page.splitlines()[-len(wanted) :]


@pytest.mark.slow
def test_a_bug_that_is_not_caught_is_told_as_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    harmless = KnownBug(**{**vars(BUGS["canary"]), "searches": ("sweep",)})
    monkeypatch.setattr(KnownBug, "target", lambda _: find("reference"))
    monkeypatch.setattr(gate, "_PROFILE", gate.Profile("test", 1, 1, 1, 1))
    (catch,) = gate.try_bug(harmless, seed=0, report=None)
    assert (catch.check, catch.caught, catch.replay) == (None, False, "")
    assert catch.work > 1


def test_a_build_differs_from_the_reference_in_what_it_exchanges_only() -> None:
    reference, build = find("reference"), find("bug:canary")
    assert build.workload() == reference.workload()
    assert build.configurations == reference.configurations


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_is_found_by_its_name_without_loading_the_others(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_bugs, "all_bugs", lambda: pytest.fail("loaded all of them"))
    assert find_bug(name) is BUGS[name]
