"""Two callers, one of which forks a process in its call: that process takes no turns."""

import os
import sqlite3
from typing import Any

import others_stores

from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.run.campaign import run


class Forking(others_stores.Shelf):
    def put_elsewhere(self, key: str) -> Any:
        child = os.fork()
        if child:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        try:
            # Not closed: the parent's connection to the same file would lose its locks with it.
            other = sqlite3.connect(self.path, isolation_level=None, timeout=20)
            other.execute("INSERT OR REPLACE INTO item VALUES(?, 2)", (key,))
        finally:
            os._exit(0)


class ForkingTarget(others_stores.ShelfTarget):
    name = "test_forks_in_a_call:ForkingTarget"
    kind = Forking
    callers = ("processes",)
    calls = (*others_stores.ShelfTarget.calls, Action("put_elsewhere", {"key": "a"}))


def test_a_process_that_a_call_forks_goes_on_beside_the_other_caller() -> None:
    plan = Plan(("interleave",), Profile("test", 1, None, 0, 0, schedules=12), report=None)
    recorder = run(ForkingTarget(), plan)
    assert not recorder.findings
    assert not recorder.vacuous
