"""A store that can't be opened after a crash of its process, without any fault: nothing can be searched from there."""

from typing import Final

from tornpage import faults
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.execution.finding.shrink import shown
from tornpage.scenarios.model.events import Finding
from tornpage.scenarios.model.judging.checks import OpeningFails
from tornpage.scenarios.model.scenario import Call, Restart, Scenario, Step
from tornpage.scenarios.search.base import Search

_SEARCH: Final = "sweep"


def finds_that_it_opens_no_more(search: Search) -> bool:
    """Whether the store fails to open after a crash in the middle of the workload; if so, that is recorded."""
    target = search.target
    steps: tuple[Step, ...] = (Restart(), *map(Call, target.workload()))
    with faults.install() as shim, shim.deterministic():
        for configuration in search.configurations:
            scenario = Scenario(target.name, configuration, steps)
            violation, _ = play(scenario, target, search.directory / "after-a-crash")
            if isinstance(violation, OpeningFails):
                short = shown(scenario, violation, target, search.directory / "minimise")
                finding = Finding.of(short.violation, short.scenario, _SEARCH, short.note, shows_again=short.again)
                search.recorder.found(finding, target)
                return True
    return False
