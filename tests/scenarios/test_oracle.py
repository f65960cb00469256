"""The oracle's rules, one by one: what each answer allows in each journal mode, and what is accused by which check."""

import pickle
from typing import Any

import pytest

from tornpage.scenarios.model.judging.checks import CHECKS, Violation, describe, differences
from tornpage.scenarios.model.judging.oracle import Answer, Oracle
from tornpage.scenarios.model.target import JOURNAL_MODES, Configuration, View

BEFORE: View = {"a": 1, "b": 2}
AFTER: View = {"a": 1, "c": 3}
BETWEEN: View = {"a": 1, "b": 2, "c": 3}
OTHER: View = {"a": 1, "b": 2, "d": 4}
BOTH: View = {"a": 1, "c": 3, "d": 4}

DONE = Answer("done")
REFUSED = Answer("refused", ValueError("no such key"))
FAILED = Answer("raised", OSError("disk"))
UNKNOWN = Answer("raised", OSError("disk"), "unknown")
UNCHANGED = Answer("raised", OSError("disk"), "unchanged")

ROLLBACK_MODES = tuple(mode for mode in JOURNAL_MODES if mode != "wal")


def oracle_at(journal_mode: str, settled: View = BEFORE) -> Oracle:
    return Oracle(Configuration(journal_mode, "FULL"), settled)


def accused_of(judge: object, *seen: View) -> str | None:
    try:
        judge(*seen)
    except Violation as violation:
        return violation.code
    return None


# (answer, what the disk shows, what is accused)
DISK = [
    (DONE, AFTER, None),
    (DONE, BEFORE, "no-resurrection"),  # "b" was deleted, and acknowledged as deleted
    (DONE, {"a": 1}, "acknowledged-is-durable"),
    (REFUSED, BEFORE, None),
    (REFUSED, AFTER, "failed-write-changed-nothing"),
    (FAILED, BEFORE, None),
    (FAILED, AFTER, None),
    (FAILED, BETWEEN, "all-or-nothing"),
    (FAILED, {}, "all-or-nothing"),
    (UNKNOWN, BEFORE, None),
    (UNKNOWN, AFTER, None),
    (UNKNOWN, BETWEEN, "all-or-nothing"),
    (UNCHANGED, BEFORE, None),
    (UNCHANGED, AFTER, "failed-write-changed-nothing"),
    (UNCHANGED, BETWEEN, "failed-write-changed-nothing"),
]


@pytest.mark.parametrize("journal_mode", JOURNAL_MODES)
@pytest.mark.parametrize(("answer", "disk", "accused"), DISK)
def test_a_fresh_reader_may_see_only_what_the_answer_allows(
    journal_mode: str, answer: Answer, disk: View, accused: str | None
) -> None:
    oracle = oracle_at(journal_mode)
    oracle.heard(answer, AFTER)
    assert accused_of(oracle.saw_disk, disk) == accused


def test_an_acknowledged_insert_that_is_lost_is_not_called_a_resurrection() -> None:
    oracle = oracle_at("wal")
    oracle.heard(DONE, BETWEEN)
    assert accused_of(oracle.saw_disk, BEFORE) == "acknowledged-is-durable"


@pytest.mark.parametrize("journal_mode", JOURNAL_MODES)
def test_whoever_looks_settles_it(journal_mode: str) -> None:
    oracle = oracle_at(journal_mode)
    oracle.heard(FAILED, AFTER)
    oracle.saw_disk(AFTER)
    assert oracle.settled == AFTER
    assert accused_of(oracle.saw_disk, BEFORE) is not None


def test_without_a_call_in_between_the_disk_stays_as_it_was() -> None:
    oracle = oracle_at("wal")
    assert accused_of(oracle.saw_disk, AFTER) == "acknowledged-is-durable"


def test_memory_has_to_be_what_the_disk_is() -> None:
    oracle = oracle_at("delete")
    oracle.heard(FAILED, AFTER)
    oracle.saw_disk(BEFORE)
    assert accused_of(oracle.saw_memory, BEFORE) is None
    assert accused_of(oracle.saw_memory, AFTER) == "memory-equals-disk"


# (answer, what the disk shows, what the reopened copy shows, what is accused)
CRASHES = [
    (DONE, AFTER, AFTER, None),
    (DONE, AFTER, BEFORE, "no-resurrection"),
    (DONE, AFTER, {"a": 1}, "acknowledged-is-durable"),
    (REFUSED, BEFORE, AFTER, "failed-write-changed-nothing"),
    (REFUSED, BEFORE, {}, "failed-write-changed-nothing"),
    (FAILED, BEFORE, BEFORE, None),
    (FAILED, AFTER, AFTER, None),
    (FAILED, BEFORE, BETWEEN, "failed-write-changed-nothing"),
    (UNCHANGED, BEFORE, BEFORE, None),
    (UNCHANGED, BEFORE, AFTER, "failed-write-changed-nothing"),
]


@pytest.mark.parametrize("journal_mode", JOURNAL_MODES)
@pytest.mark.parametrize(("answer", "disk", "reopened", "accused"), CRASHES)
def test_a_crash_may_bring_only_what_the_answer_allows(
    journal_mode: str, answer: Answer, disk: View, reopened: View, accused: str | None
) -> None:
    oracle = oracle_at(journal_mode)
    oracle.heard(answer, AFTER)
    oracle.saw_disk(disk)
    assert accused_of(oracle.saw_after_crash, reopened) == accused


# -- maybe_committed ------------------------------------------------------------------------------------------------


def with_a_maybe_committed_write() -> Oracle:
    oracle = oracle_at("wal")
    oracle.heard(FAILED, AFTER)
    oracle.saw_disk(BEFORE)
    return oracle


def test_a_failed_commit_in_a_wal_leaves_a_maybe_committed_write_that_a_crash_may_bring() -> None:
    oracle = with_a_maybe_committed_write()
    assert oracle.maybe_committed == [AFTER]
    assert accused_of(oracle.saw_after_crash, AFTER) is None
    assert accused_of(oracle.saw_after_crash, BEFORE) is None


@pytest.mark.parametrize("journal_mode", ROLLBACK_MODES)
def test_there_are_no_ghosts_in_a_rollback_journal(journal_mode: str) -> None:
    oracle = oracle_at(journal_mode)
    oracle.heard(FAILED, AFTER)
    oracle.saw_disk(BEFORE)
    assert oracle.maybe_committed == []
    assert accused_of(oracle.saw_after_crash, AFTER) == "failed-write-changed-nothing"


def test_a_store_that_says_unchanged_has_no_ghost() -> None:
    oracle = oracle_at("wal")
    oracle.heard(UNCHANGED, AFTER)
    assert oracle.maybe_committed == []


def test_the_next_acknowledged_change_erases_the_ghost() -> None:
    oracle = with_a_maybe_committed_write()
    oracle.heard(DONE, OTHER)
    oracle.saw_disk(OTHER)
    assert oracle.maybe_committed == []
    assert accused_of(oracle.saw_after_crash, AFTER) is not None


@pytest.mark.parametrize("answer", [DONE, REFUSED, UNCHANGED])
def test_a_call_that_commits_nothing_leaves_the_ghost(answer: Answer) -> None:
    oracle = with_a_maybe_committed_write()
    oracle.heard(answer, BEFORE)
    oracle.saw_disk(BEFORE)
    assert accused_of(oracle.saw_after_crash, AFTER) is None


def test_a_failed_call_that_has_committed_erases_the_ghost_too() -> None:
    oracle = with_a_maybe_committed_write()
    oracle.heard(FAILED, OTHER)
    oracle.saw_disk(OTHER)
    assert accused_of(oracle.saw_after_crash, AFTER) is not None


def test_a_crash_makes_the_ghost_real_or_ends_it() -> None:
    alive, dead = with_a_maybe_committed_write(), with_a_maybe_committed_write()
    alive.crashed(AFTER)
    alive.saw_disk(AFTER)
    dead.crashed(BEFORE)
    dead.saw_disk(BEFORE)
    assert (alive.settled, dead.settled) == (AFTER, BEFORE)
    assert alive.maybe_committed == dead.maybe_committed == []
    assert accused_of(dead.saw_after_crash, AFTER) is not None


def test_a_crash_brings_one_of_two_ghosts_and_never_both_nor_a_part() -> None:
    oracle = with_a_maybe_committed_write()
    oracle.heard(FAILED, OTHER)
    oracle.saw_disk(BEFORE)
    assert [accused_of(oracle.saw_after_crash, one) for one in (BEFORE, AFTER, OTHER)] == [None, None, None]
    assert accused_of(oracle.saw_after_crash, BOTH) == "failed-write-changed-nothing"
    assert accused_of(oracle.saw_after_crash, BETWEEN) == "failed-write-changed-nothing"


def test_a_maybe_committed_write_is_not_seen_without_a_crash() -> None:
    oracle = with_a_maybe_committed_write()
    assert accused_of(oracle.saw_disk, AFTER) is not None


# -- calls that commit more than once ----------------------------------------------------------------------

STAGE: View = {"a": 1, "b": 2, "c": 3}


def test_a_call_of_many_commits_may_stop_at_any_of_them() -> None:
    oracle = oracle_at("wal")
    oracle.heard(FAILED, AFTER, (STAGE,))
    assert accused_of(oracle.saw_disk, STAGE) is None
    assert oracle.settled == STAGE
    assert accused_of(oracle.saw_after_crash, AFTER) is None


def test_a_call_of_many_commits_may_not_bring_what_is_at_none_of_them() -> None:
    oracle = oracle_at("wal")
    oracle.heard(FAILED, AFTER, (STAGE,))
    assert accused_of(oracle.saw_disk, {**STAGE, "d": 4}) == "all-or-nothing"


def test_a_call_of_many_commits_that_was_acknowledged_is_done_to_its_end() -> None:
    oracle = oracle_at("wal")
    oracle.heard(DONE, AFTER, (STAGE,))
    assert accused_of(oracle.saw_disk, STAGE) == "no-resurrection"


# -- violations --------------------------------------------------------------------------------------------


def test_a_violation_carries_a_known_code_and_the_sides_that_tell() -> None:
    violation = Violation("integrity", "it is damaged", {"disk": {"a": 1}})
    assert isinstance(violation, AssertionError)
    assert (violation.code, str(violation), violation.sides) == (
        "integrity",
        "integrity: it is damaged",
        {"disk": {"a": 1}},
    )


def test_a_code_that_nobody_knows_is_a_mistake_and_the_known_ones_are_named() -> None:
    with pytest.raises(ValueError, match="memory-equals-disk"):
        Violation("typo", "never mind")


def test_every_check_says_what_it_means_where_it_comes_from_and_what_to_do() -> None:
    for code, check in CHECKS.items():
        assert code == check.code
        assert check.meaning
        assert check.source
        assert check.advice


def test_a_missing_key_differs_from_one_whose_value_is_none() -> None:
    assert [difference.key for difference in differences({"a": None, "b": 1}, {"b": 1})] == ["a"]


def test_views_differ_whatever_their_keys_are() -> None:
    assert [one.key for one in differences({"b": 1, None: 2}, {"a": 1})] == [None, "a", "b"]  # type: ignore[dict-item]


def test_a_violation_comes_from_another_process_as_it_was() -> None:
    found = pickle.loads(pickle.dumps(Violation("integrity", "damage", {"disk": {"a": 1}}, "done")))  # noqa: S301
    assert (found.code, found.message, found.sides, found.answer) == ("integrity", "damage", {"disk": {"a": 1}}, "done")


@pytest.mark.parametrize(
    ("view", "shown"), [({"a": None}, "None"), ({}, "nothing"), ({"a": {"n": 1}}, "{'n': 1}"), ({"a": 0}, "0")]
)
def test_a_value_that_is_none_is_no_missing_key(view: dict[str, Any], shown: str) -> None:
    assert describe(differences({"a": 1}, view), "memory", "the file") == f"a: memory has 1, the file has {shown}"
    assert describe(differences(view, {"a": 1}), "memory", "the file") == f"a: memory has {shown}, the file has 1"


def test_an_answer_says_the_text_of_its_error_where_there_is_one() -> None:
    assert str(FAILED) == "failed with OSError: disk"
    assert str(Answer("raised", MemoryError())) == "failed with MemoryError"
    assert str(Answer("raised", MemoryError(), "unknown")) == "failed with MemoryError, outcome unknown"


@pytest.mark.parametrize("call", ["a call", "the opening"])
def test_what_differs_is_said_to_be_after_a_call_or_after_the_opening(call: str) -> None:
    oracle = Oracle(Configuration("wal", "FULL"), {})
    oracle.heard(DONE, {}, call=call)
    with pytest.raises(Violation, match=rf"^memory-equals-disk: after {call} \(acknowledged\): "):
        oracle.saw_memory({"a": 1})


def test_a_call_that_may_commit_often_and_has_committed_once_is_held_to_unchanged() -> None:
    oracle = oracle_at("wal")
    oracle.heard(UNCHANGED, AFTER, (BEFORE, AFTER))
    assert accused_of(oracle.saw_disk, AFTER) == "failed-write-changed-nothing"
    oracle = oracle_at("wal")
    oracle.heard(UNCHANGED, AFTER, (BEFORE, BETWEEN, AFTER))
    assert accused_of(oracle.saw_disk, BETWEEN) is None


def test_a_key_that_looks_like_another_one_is_spelled_out() -> None:
    words = describe(differences({"tag/cafe\u0301": 1}, {"tag/caf\u00e9": 1}), "memory", "the file")
    assert words == "'tag/cafe\\u0301': memory has 1, the file has nothing (and 1 more)"
    assert describe(differences({"tag/caf\u00e9": 1}, {}), "memory", "the file").startswith("tag/caf\u00e9: ")
