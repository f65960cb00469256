"""Which tasks a run id means, which one a token means, and the order of lists."""

import ledger_samples
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tornpage.ledger.records import Runtime, ScopeKind, Task
from tornpage.ledger.rules import by_preference, find_by_token, newest_first, select_for_run


def a_task(task_id: str, **changes: object) -> Task:
    return ledger_samples.a_task(
        task_id, **{"runtime": Runtime.SUBAGENT, "child_session_key": "child", "run_id": "run-1", **changes}
    )


def names(tasks):
    return [task.task_id for task in tasks]


# Lists.


def test_lists_are_by_created_at_descending_and_ties_by_newest_insertion():
    inserted = [a_task(name, created_at=at) for name, at in (("a", 2), ("b", 1), ("c", 2), ("d", 3), ("e", 1))]
    assert names(newest_first(inserted)) == ["d", "c", "a", "e", "b"]


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(min_value=0, max_value=3), max_size=8))
def test_a_list_is_by_created_at_and_then_insertion_both_descending(created):
    inserted = [a_task(str(place), created_at=at) for place, at in enumerate(created)]
    expected = sorted(enumerate(created), key=lambda pair: (pair[1], pair[0]), reverse=True)
    assert names(newest_first(iter(inserted))) == [str(place) for place, _ in expected]


# By run id.


def test_with_a_session_key_a_child_match_wins():
    child, owner = a_task("child", child_session_key=" s "), a_task("owner", owner_key="s")
    assert select_for_run([owner, child], "s\n") == [child]


def test_with_a_session_key_an_owner_match_is_next():
    owner, other = a_task("owner", owner_key=" s"), a_task("other")
    assert select_for_run([other, owner], "s") == [owner]


def test_with_a_session_key_that_matches_nothing_there_is_no_task():
    assert select_for_run([a_task("a")], "s") == []


def test_all_tasks_that_match_the_session_are_meant():
    both = [a_task("a", child_session_key="s"), a_task("b", child_session_key="s", owner_key="another")]
    assert select_for_run(both, "s") == both


@pytest.mark.parametrize("key", [None, "", "  "])
def test_without_a_session_key_all_tasks_of_one_party_are_meant(key):
    both = [a_task("a", label="one"), a_task("b", owner_key=" owner ", child_session_key="child\t")]
    assert select_for_run(both, key) == both


@pytest.mark.parametrize(
    ("field", "another"),
    [
        ("runtime", Runtime.CLI),
        ("scope_kind", ScopeKind.SYSTEM),
        ("owner_key", "another"),
        ("child_session_key", "another"),
        ("child_session_key", None),
    ],
)
@pytest.mark.parametrize("key", [None, "  "])
def test_without_a_session_key_more_than_one_party_is_ambiguous(field, another, key):
    assert select_for_run([a_task("a"), a_task("b", **{field: another})], key) == []


def test_of_no_tasks_none_is_meant():
    assert select_for_run([], None) == []
    assert select_for_run([], "s") == []


# By token.


class Ledger:
    """Answers the three questions from a list in insertion order, and notes which were asked."""

    def __init__(self, *tasks: Task) -> None:
        self.tasks = tasks
        self.asked: list[tuple[str, str]] = []

    def find(self, token: str) -> Task | None:
        return find_by_token(token, self._by_id, self._by_run, self._by_session)

    def _by_id(self, key):
        self.asked.append(("id", key))
        return next((task for task in self.tasks if task.task_id == key), None)

    def _by_run(self, key):
        self.asked.append(("run", key))
        return (task for task in self.tasks if task.run_id == key)

    def _by_session(self, key):
        self.asked.append(("session", key))
        return (task for task in self.tasks if key in (task.owner_key, task.child_session_key))


def test_a_token_is_a_task_id_before_a_run_id_before_a_session():
    session = a_task("c", owner_key="x", created_at=9)
    run = a_task("b", run_id="x")
    exact = a_task("x")
    assert Ledger(session, run, exact).find("x") is exact
    assert Ledger(session, run).find("x") is run
    assert Ledger(session).find("x") is session


def test_a_token_is_trimmed_and_asked_for_in_that_order():
    ledger = Ledger()
    assert ledger.find(" x\n") is None
    assert ledger.asked == [("id", "x"), ("run", "x"), ("session", "x")]


@pytest.mark.parametrize("blank", ["", "  "])
def test_a_blank_token_is_nothing_and_nobody_is_asked(blank):
    ledger = Ledger(a_task("", run_id="", owner_key=""))
    assert ledger.find(blank) is None
    assert ledger.asked == []


def test_of_a_run_a_task_that_is_not_cli_goes_before_one_that_is():
    watcher = a_task("watcher", runtime=Runtime.CLI, created_at=1)
    worker = a_task("worker", runtime=Runtime.ACP, created_at=2)
    assert Ledger(watcher, worker).find("run-1") is worker
    assert Ledger(watcher).find("run-1") is watcher


def test_of_a_run_the_oldest_task_is_meant_and_of_equally_old_ones_the_first_inserted():
    tasks = [a_task(name, created_at=at) for name, at in (("a", 3), ("b", 1), ("c", 1))]
    assert Ledger(*tasks).find("run-1") is tasks[1]
    assert names(by_preference(tasks)) == ["b", "c", "a"]


def test_of_a_session_the_newest_task_is_meant_and_of_equally_new_ones_the_last_inserted():
    tasks = [
        a_task(name, created_at=at, owner_key=owner, child_session_key=child)
        for name, at, owner, child in (("a", 1, "s", None), ("b", 3, "s", None), ("c", 3, "o", "s"), ("d", 2, "s", "s"))
    ]
    assert Ledger(*tasks).find("s") is tasks[2]
