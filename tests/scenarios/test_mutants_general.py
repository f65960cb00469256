"""General mutants: each is one small mistake, and the scripts see those that need no fault to be seen."""

import ast

import pytest

from tornpage.scenarios.selftest.mutants.general import OPERATORS, files, general_mutants, sample
from tornpage.scenarios.selftest.mutants.run import Trials

SCRIPTS = ("scripts at wal/FULL",)


@pytest.mark.usefixtures("few_mutants")
def test_every_operator_makes_mutants_and_each_is_another_program() -> None:
    mutants = general_mutants()
    assert {one.operator for one in mutants.values()} == OPERATORS.keys()
    for one in list(mutants.values())[::5]:
        assert ast.dump(ast.parse(one.text)) != ast.dump(ast.parse(one.original)), one.id


@pytest.mark.slow
def test_all_of_the_ledger_has_mutants() -> None:
    mutants = general_mutants()
    assert {one.operator for one in mutants.values()} == OPERATORS.keys()
    assert len(mutants) > 3_000
    assert {one.file for one in mutants.values()} <= set(files())


@pytest.mark.usefixtures("few_mutants")
def test_the_same_seed_gives_the_same_sample() -> None:
    assert [one.id for one in sample(20, 1)] == [one.id for one in sample(20, 1)]
    assert [one.id for one in sample(20, 1)] != [one.id for one in sample(20, 2)]


@pytest.mark.slow
@pytest.mark.quality
@pytest.mark.parametrize(
    "name",
    [
        "comparison:ledger/rules/times.py:ordered:1",
        "removed-guard:ledger/rules/creation.py:_refuse_terminal_fields:1",
        "dropped-call:ledger/rules/transitions.py:start:1",
        "returned:ledger/rules/lookup.py:newest_first:1",
        # A module that is loaded at its first use.
        "returned:ledger/command/output.py:as_utc:1",
    ],
)
def test_a_small_mistake_is_seen_by_the_scripts(name: str) -> None:
    verdict = Trials().verdict(general_mutants()[name], SCRIPTS)
    assert (verdict.killed, verdict.hunt) == (True, *SCRIPTS), verdict


@pytest.mark.slow
@pytest.mark.quality
def test_a_small_mistake_is_met_by_a_walk() -> None:
    verdict = Trials().verdict(general_mutants()["comparison:ledger/rules/times.py:ordered:1"], ("walk",))
    assert (verdict.killed, verdict.hunt) == (True, "walk at wal/FULL"), verdict
    assert Trials().verdict(None, ("walk",)).error == ""
