"""A limit on the tries for a shorter scenario: the finding is reported, with the shortest scenario until then."""

from typing import Any

import tiny_stores

from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.run.campaign import run


def test_fewer_tries_leave_a_longer_scenario_of_the_same_finding() -> None:
    def found(shorter: int | None) -> Any:
        profile = Profile("test", 1, 20, scenarios=0, steps=0, shorter=shorter)
        plan = Plan(("sweep",), profile, report=None, most_findings=1)
        return run(tiny_stores.RemembersFirst(), plan).findings[0].finding

    whole, some, shortest = (found(most) for most in (0, 1_000, None))
    assert whole.code == shortest.code == some.code
    assert whole.shows_again
    assert len(whole.scenario.steps) > len(shortest.scenario.steps)
    assert some.scenario == shortest.scenario
