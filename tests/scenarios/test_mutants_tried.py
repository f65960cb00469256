"""Mutants that are tried: one of each operator is killed, a harmless one survives, and the command says so."""

import json
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

import msgspec
import pytest

import tornpage.scenarios.cli.selftest.mutants as command_module
from tornpage.scenarios.selftest.mutants import OPERATORS, Mutant, all_mutants
from tornpage.scenarios.selftest.mutants.equivalent import Reviewed
from tornpage.scenarios.selftest.mutants.general import general_mutants
from tornpage.scenarios.selftest.mutants.hunt import Verdict
from tornpage.scenarios.selftest.mutants.run import TIMEOUT, Trials, Tried

COMMIT = "drop-commit:ledger/disk/transaction.py:Transaction._commit:1"
SWEEP = "sweep at wal/FULL"
# One of each operator, with a search that reaches it and the checks of which one has to notice it.
KILLED = {
    # A script of calls without any fault meets it first.
    COMMIT: (SWEEP, {"acknowledged-is-durable", "still-usable-after-the-fault"}),
    # The transaction that was never ended is met by the next look already, without any fault.
    "drop-rollback:ledger/disk/database.py:Database._read_transaction:1": (SWEEP, {"does-not-run"}),
    "drop-fsync:ledger/disk/database.py:Database.settle:1": (SWEEP, {"failed-write-changed-nothing"}),
    "drop-reread:ledger/disk/database.py:Database.settle:1": (SWEEP, {"acknowledged-is-durable", "memory-equals-disk"}),
    "swap-commit-and-memory:ledger/cache/engine.py:RegistryEngine._persist:1": (
        SWEEP,
        {"memory-equals-disk", "observers-saw-exactly-the-commits"},
    ),
    "observer-before-commit:ledger/disk/transaction.py:Transaction._commit:1": (
        SWEEP,
        {"observers-saw-exactly-the-commits"},
    ),
    "swallow-except:ledger/disk/transaction.py:Transaction._execute:1": (SWEEP, {"error-is-not-hidden"}),
    "weaken-pragma:ledger/disk/connections.py:open_connection:1": (
        "crash at wal/FULL",
        {"acknowledged-is-durable", "integrity", "no-resurrection"},
    ),
    "drop-where-guard:ledger/disk/transaction.py:Transaction.delete:1": (SWEEP, {"as-specified"}),
}


@pytest.fixture
def trials() -> Iterator[Trials]:
    """Trials whose children end with the test."""
    some = Trials()
    yield some
    some.stop()


@pytest.mark.slow
@pytest.mark.quality
@pytest.mark.parametrize("name", KILLED)
def test_a_mutant_is_killed_by_the_check_that_it_breaks(name: str, trials: Trials) -> None:
    search, checks = KILLED[name]
    verdict = trials.verdict(all_mutants()[name], [search])
    assert verdict.killed, verdict
    assert verdict.check in checks, verdict


def test_there_is_one_for_each_operator() -> None:
    assert {all_mutants()[name].operator for name in KILLED} == set(OPERATORS)


def harmless(name: str = COMMIT, text: str | None = None) -> Mutant:
    """A mutant whose text is the original, or another one."""
    one = all_mutants()[name]
    return msgspec.structs.replace(one, text=one.original + "# Nothing else.\n" if text is None else text)


@pytest.mark.slow
def test_a_mutant_that_changes_nothing_survives_the_same_search_that_kills(trials: Trials) -> None:
    verdict = trials.verdict(harmless(), [SWEEP])
    assert (verdict.killed, verdict.error) == (False, "")
    assert verdict.seconds > 0
    assert trials.verdict(all_mutants()[COMMIT], [SWEEP]).killed


def test_a_mutant_that_cannot_be_loaded_is_killed_as_one_that_does_not_run(trials: Trials) -> None:
    verdict = trials.verdict(harmless(text="raise RuntimeError('no')\n"))
    assert (verdict.killed, verdict.check) == (True, "does-not-run")
    assert "RuntimeError('no')" in verdict.message


@pytest.mark.parametrize("hunt", ["scripts", "walk", "sweep"])
@pytest.mark.parametrize("raised", ["TypeError('no')", "SystemExit('no')"])
def test_a_mutant_that_fails_at_its_first_use_is_killed_as_one_that_does_not_run(
    hunt: str, raised: str, trials: Trials
) -> None:
    name = next(name for name in all_mutants() if ":ledger/disk/database.py:" in name)
    begins = "self._connection: Any = open_connection(settings, check_content=True)\n"
    assert begins in harmless(name).original
    verdict = trials.verdict(harmless(name, harmless(name).original.replace(begins, f"raise {raised}\n")), [hunt])
    assert (verdict.killed, verdict.check) == (True, "does-not-run"), verdict


def test_a_mutant_that_never_ends_is_killed_by_its_time_limit() -> None:
    verdict = Trials(timeout_s=0.5).verdict(harmless(text="while True: pass\n"))
    assert (verdict.killed, verdict.check) == (True, TIMEOUT)


def test_a_child_that_gives_no_verdict_leaves_the_mutant_unknown(trials: Trials) -> None:
    verdict = trials.verdict(harmless(text="import os\nos._exit(3)\n"))
    assert not verdict.killed
    assert "exit code 3" in verdict.error
    assert Tried(harmless(), verdict).fate == "unknown"


def test_what_is_at_work_ends_with_stop_and_nothing_begins_after_it() -> None:
    trials = Trials()
    trials.stop()
    assert trials.verdict(harmless()).error == "stopped"


@pytest.mark.usefixtures("few_mutants")
def test_a_mutant_of_either_kind_is_named_by_its_id(command: Callable[..., Any]) -> None:
    ordinary = next(name for name in general_mutants() if name.startswith("comparison:ledger/rules/times.py"))
    ran = command("mutants", "--list", ordinary, COMMIT)
    assert ran.code == 0, ran
    assert [line.split("  ")[0] for line in ran.out.splitlines()[:-1]] == [ordinary, COMMIT]


@pytest.mark.slow
def test_only_the_hunts_that_are_named_are_made() -> None:
    # The scripts come first, and would have killed it.
    verdict = Trials(hunts=("sweep",)).verdict(all_mutants()[COMMIT])
    assert (verdict.killed, verdict.hunt) == (True, SWEEP), verdict


def test_nothing_begins_after_the_deadline(trials: Trials) -> None:
    assert list(trials.verdicts([harmless()], jobs=1, deadline=time.monotonic() - 1)) == []


DEAD = Verdict(killed=True, hunt="sweep at wal/FULL", check="integrity", message="it is damaged")
ALIVE = Verdict(killed=False)


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Callable[[Verdict, Verdict], None]:
    """Puts verdicts in the place of hunts: one for every mutant, one for the ledger as it is."""

    def put(of_a_mutant: Verdict, of_the_ledger: Verdict = ALIVE) -> None:
        def verdict(_: Trials, mutant: Mutant | None, _hunts: Collection[str] = ()) -> Verdict:
            return of_a_mutant if mutant is not None else of_the_ledger

        monkeypatch.setattr(Trials, "verdict", verdict)

    return put


@pytest.mark.parametrize(
    ("verdict", "control", "code"),
    [
        (DEAD, ALIVE, 0),
        (ALIVE, ALIVE, 1),
        (DEAD, DEAD, 2),
        (Verdict(killed=False, error="no verdict"), ALIVE, 2),
    ],
)
def test_the_exit_code_says_whether_every_survivor_is_explained(
    command: Callable[..., object], says: Callable[..., None], verdict: Verdict, control: Verdict, code: int
) -> None:
    says(verdict, control)
    assert command("mutants", COMMIT).code == code


def test_a_survivor_is_shown_with_its_diff(command: Callable[..., object], says: Callable[..., None]) -> None:
    says(ALIVE)
    ran = command("mutants", COMMIT)
    assert f"survived: {COMMIT}" in ran.out
    assert '    -            self._connection.execute("COMMIT")' in ran.out


def test_a_reviewed_survivor_is_shown_with_its_reason(
    command: Callable[..., object], says: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    says(ALIVE)
    monkeypatch.setattr(command_module, "REVIEWED", {COMMIT: Reviewed("equivalent", "Nobody can tell.")})
    ran = command("mutants", COMMIT)
    assert ran.code == 0
    assert f"equivalent: {COMMIT}" in ran.out
    assert "Nobody can tell." in ran.out


@pytest.mark.parametrize(("name", "why"), [(COMMIT, "it was killed by integrity"), ("gone:x:y:1", "no such mutant")])
def test_an_explanation_that_no_longer_holds_is_an_error(
    command: Callable[..., object], says: Callable[..., None], monkeypatch: pytest.MonkeyPatch, name: str, why: str
) -> None:
    says(DEAD)
    monkeypatch.setattr(command_module, "REVIEWED", {name: Reviewed("equivalent", "Nobody can tell.")})
    ran = command("mutants", COMMIT)
    assert ran.code == 1
    assert f"{name}: " in ran.out
    assert why in ran.out


def test_json_holds_every_mutant_with_its_fate_and_its_diff(
    command: Callable[..., object], says: Callable[..., None]
) -> None:
    says(DEAD)
    data = json.loads(command("mutants", COMMIT, "--json").out)
    assert data["counts"]["killed"] == 1
    assert data["not_tried"] == 0
    (row,) = data["mutants"]
    assert (row["id"], row["fate"], row["check"]) == (COMMIT, "killed", "integrity")
    assert row["diff"].startswith("--- a/ledger/disk/transaction.py")


def test_no_time_means_that_nothing_was_tried(command: Callable[..., object]) -> None:
    ran = command("mutants", "--max-time", "0.000001", COMMIT)
    assert ran.code == 2
    assert "no mutant was tried" in ran.err


def test_a_mutant_that_there_is_not_is_a_usage_error(command: Callable[..., object]) -> None:
    ran = command("mutants", "nobody")
    assert ran.code == 2
    assert "unknown mutant 'nobody'" in ran.err
