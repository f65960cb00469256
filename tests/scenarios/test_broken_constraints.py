"""Rows that break a CHECK of the schema: damage, unless a target declares that others write them."""

import pytest

from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.run.campaign import run
from tornpage.scenarios.targets.reference.scripts.calls import call, create
from tornpage.scenarios.targets.reference.target import Reference

_SPOILED = call("spoiled_row", table="tasks", key="a", column="status", value="paused")


@pytest.mark.parametrize(("declared", "codes"), [(True, set()), (False, {"integrity"})])
def test_a_row_that_breaks_a_constraint_is_damage_but_where_others_write_it(declared: bool, codes: set[str]) -> None:
    target = Reference("spoiled", calls=(create("a"), _SPOILED))
    target.breaks_constraints = declared
    profile = Profile("test", 1, points_per_call=1, scenarios=0, steps=0, shrinks=False)
    plan = Plan(("sweep",), profile, seed=0, report=None, configurations=target.configurations[:1])
    assert {one.finding.code for one in run(target, plan).findings} == codes
