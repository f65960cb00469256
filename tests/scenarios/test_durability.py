"""What a crash may leave, judged on histories made by hand."""

import pytest

from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.crash_oracle import History, Outcome, Promise, promise_of
from tornpage.scenarios.model.judging.oracle import Answer
from tornpage.scenarios.model.target import Configuration

DONE, REFUSED = Answer("done"), Answer("refused")
RAISED = Answer("raised", OSError("disk"))
EMPTY: dict[str, int] = {}
A = {"a": 1}
AB = {"a": 1, "b": 2}
ABC = {"a": 1, "b": 2, "c": 3}
WAL, NORMAL = Configuration("wal", "FULL"), Configuration("wal", "NORMAL")
DELETE, EXTRA, OFF = Configuration("delete", "FULL"), Configuration("delete", "EXTRA"), Configuration("wal", "OFF")


def history(configuration: Configuration) -> History:
    """Three acknowledged changes, told after operations 10, 20 and 30; each began five before."""
    made = History(configuration, EMPTY)
    for step, view in enumerate([A, AB, ABC], start=1):
        made.called(step, f"put {step}", 10 * step - 5, 10 * step, DONE, (), view, view)
    return made


def refused(history: History, position: int, view: dict[str, int], *, power: bool = True) -> str:
    with pytest.raises(Violation) as caught:
        history.judge(position, view, power=power)
    return caught.value.code


@pytest.mark.parametrize(
    ("configuration", "promise"),
    {
        "wal/FULL": Promise.EXACT,
        "wal/EXTRA": Promise.EXACT,
        "wal/NORMAL": Promise.PREFIX,
        "wal/OFF": Promise.NOTHING,
        "delete/EXTRA": Promise.EXACT,
        "delete/FULL": Promise.LAST,
        "delete/NORMAL": Promise.NOTHING,
        "delete/OFF": Promise.NOTHING,
        "truncate/FULL": Promise.EXACT,
        "truncate/NORMAL": Promise.NOTHING,
        "persist/FULL": Promise.EXACT,
        "file/FULL": Promise.EXACT,
    }.items(),
)
def test_each_configuration_has_its_promise_and_a_dead_process_loses_nothing_anywhere(
    configuration: str, promise: Promise
) -> None:
    parsed = Configuration.parse(configuration)
    assert promise_of(parsed, power=True) is promise
    assert promise_of(parsed, power=False) is Promise.EXACT


@pytest.mark.parametrize("configuration", [WAL, EXTRA, DELETE, NORMAL, OFF], ids=str)
@pytest.mark.parametrize("power", [True, False])
def test_what_was_acknowledged_or_that_and_the_pending_call_is_allowed_everywhere(
    configuration: Configuration, power: bool
) -> None:
    made = history(configuration)
    assert made.judge(0, EMPTY, power=power) == Outcome()
    assert made.judge(20, AB, power=power) == Outcome()
    assert made.judge(26, AB, power=power) == Outcome()
    assert made.judge(26, ABC, power=power) == Outcome()


@pytest.mark.parametrize("configuration", [WAL, EXTRA, DELETE, NORMAL, OFF], ids=str)
def test_a_dead_process_loses_and_invents_nothing(configuration: Configuration) -> None:
    made = history(configuration)
    assert refused(made, 20, A, power=False) == "acknowledged-is-durable"
    assert refused(made, 20, ABC, power=False) != ""
    assert refused(made, 25, ABC, power=False) != "", "the pending call has made no operation yet"
    assert refused(made, 26, A, power=False) == "acknowledged-is-durable"


@pytest.mark.parametrize("configuration", [WAL, EXTRA], ids=str)
def test_where_all_is_promised_no_acknowledged_change_may_be_lost(configuration: Configuration) -> None:
    made = history(configuration)
    for position in (20, 26):
        assert refused(made, position, A) == "acknowledged-is-durable"
        assert refused(made, position, EMPTY) == "acknowledged-is-durable"


def test_at_delete_and_full_the_last_one_may_be_lost_and_no_other() -> None:
    made = history(DELETE)
    assert made.judge(20, A, power=True) == Outcome(lost=1)
    assert made.judge(26, A, power=True) == Outcome(lost=1)
    assert refused(made, 20, EMPTY) == "acknowledged-is-durable"
    assert refused(made, 20, {"b": 2}) == "acknowledged-is-durable", "never one from the middle"


def test_at_wal_and_normal_any_prefix_is_allowed_and_counted_and_nothing_else() -> None:
    made = history(NORMAL)
    assert [made.judge(30, view, power=True).lost for view in (ABC, AB, A, EMPTY)] == [0, 1, 2, 3]
    assert refused(made, 30, {"b": 2, "c": 3}) == "acknowledged-is-durable"
    assert refused(made, 30, {"a": 1, "c": 3}) == "acknowledged-is-durable"
    assert refused(made, 20, ABC) != "", "from the future"


def test_where_nothing_is_promised_anything_is_allowed_and_what_was_lost_is_counted() -> None:
    made = history(OFF)
    assert made.judge(30, A, power=True) == Outcome(lost=2)
    assert made.judge(30, {"z": 9}, power=True) == Outcome()
    assert refused(made, 30, A, power=False) == "acknowledged-is-durable"


def test_a_state_that_comes_again_counts_from_the_newest_time() -> None:
    made = history(NORMAL)
    made.called(4, "back", 31, 40, DONE, (), AB, AB)
    assert made.judge(40, AB, power=True) == Outcome()
    assert made.judge(40, ABC, power=True) == Outcome(lost=1)
    assert made.judge(40, A, power=True) == Outcome(lost=3)


def test_what_was_deleted_may_not_come_back() -> None:
    made = history(WAL)
    made.called(4, "delete", 31, 40, DONE, (), AB, AB)
    assert refused(made, 40, ABC) == "no-resurrection"
    assert made.judge(35, ABC, power=True) == Outcome()


def test_a_half_of_the_pending_call_is_all_or_nothing() -> None:
    made = history(WAL)
    made.called(4, "move", 31, 40, DONE, (), {"a": 1, "b": 2, "d": 3}, {"a": 1, "b": 2, "d": 3})
    assert refused(made, 35, ABC | {"d": 3}) == "all-or-nothing"
    assert refused(made, 35, ABC | {"d": 3}, power=False) == "all-or-nothing"


def test_a_refused_call_changes_nothing_by_a_crash_either() -> None:
    made = history(WAL)
    made.called(4, "no", 31, 33, REFUSED, (), ABC, ABC)
    assert made.judge(33, ABC, power=True) == Outcome()
    assert refused(made, 33, ABC | {"d": 4}) != ""


class TestAfterAFailure:
    def failed(
        self, configuration: Configuration, settled: dict[str, int], *maybe_committed: dict[str, int]
    ) -> History:
        made = history(configuration)
        made.called(4, "fails", 31, 40, RAISED, (), ABC | {"d": 4}, settled, maybe_committed)
        return made

    def test_in_wal_a_maybe_committed_write_may_come_back_and_is_reported(self) -> None:
        made = self.failed(WAL, ABC, ABC | {"d": 4})
        for power in (True, False):
            assert made.judge(40, ABC, power=power) == Outcome()
            assert made.judge(40, ABC | {"d": 4}, power=power) == Outcome(reappeared=True)
        assert refused(made, 40, AB) == "acknowledged-is-durable"

    def test_a_change_whose_caller_was_told_unchanged_never_comes_back(self) -> None:
        made = self.failed(WAL, ABC)
        assert refused(made, 40, ABC | {"d": 4}) == "failed-write-changed-nothing"
        assert refused(made, 40, ABC | {"d": 4}, power=False) == "failed-write-changed-nothing"

    def test_the_next_acknowledged_change_ends_the_ghost(self) -> None:
        made = self.failed(WAL, ABC, ABC | {"d": 4})
        made.called(5, "put", 41, 50, DONE, (), ABC | {"e": 5}, ABC | {"e": 5})
        assert made.judge(45, ABC | {"d": 4}, power=True) == Outcome(reappeared=True)
        assert made.judge(45, ABC | {"e": 5}, power=True) == Outcome()
        assert refused(made, 45, ABC | {"d": 4, "e": 5}) == "all-or-nothing", "never both"
        assert refused(made, 50, ABC | {"d": 4}) == "failed-write-changed-nothing"

    @pytest.mark.parametrize("configuration", [EXTRA, WAL])
    def test_one_that_failed_and_is_there_may_be_gone_after_a_power_cut_only(
        self, configuration: Configuration
    ) -> None:
        made = self.failed(configuration, ABC | {"d": 4})
        assert made.judge(40, ABC, power=True) == Outcome()
        assert refused(made, 40, ABC, power=False) == "acknowledged-is-durable"
        assert refused(made, 40, AB) == "acknowledged-is-durable"
        made.called(5, "put", 41, 50, DONE, (), ABC | {"d": 4, "e": 5}, ABC | {"d": 4, "e": 5})
        assert refused(made, 50, ABC) == "acknowledged-is-durable", "the next acknowledged change ends the doubt"

    def test_one_that_failed_and_is_there_is_no_acknowledged_loss(self) -> None:
        made = self.failed(NORMAL, ABC | {"d": 4})
        assert made.judge(40, ABC, power=True).lost == 0
        assert made.judge(40, AB, power=True).lost == 1

    def test_at_wal_and_normal_a_failed_commit_may_follow_the_prefix_at_which_it_was_tried(self) -> None:
        made = self.failed(NORMAL, ABC, ABC | {"d": 4})
        made.called(5, "put", 41, 50, DONE, (), ABC | {"e": 5}, ABC | {"e": 5})
        assert made.judge(50, ABC | {"d": 4}, power=True) == Outcome(reappeared=True)
        assert refused(made, 50, ABC | {"d": 4}, power=False) == "failed-write-changed-nothing"


class TestACallOfManyCommits:
    STAGES = (ABC | {"d": 1}, ABC | {"d": 1, "e": 1})
    AFTER = ABC | {"d": 1, "e": 1, "f": 1}

    def made(self, configuration: Configuration) -> History:
        made = history(configuration)
        made.called(4, "recover", 31, 50, DONE, self.STAGES, self.AFTER, self.AFTER)
        return made

    def test_may_have_stopped_at_each_of_them_while_it_is_pending(self) -> None:
        made = self.made(WAL)
        for view in (ABC, *self.STAGES, self.AFTER):
            for power in (True, False):
                assert made.judge(40, view, power=power) == Outcome()
        assert refused(made, 40, AB) == "acknowledged-is-durable"
        assert refused(made, 40, ABC | {"z": 1}) == "all-or-nothing"

    def test_is_durable_as_a_whole_once_it_is_acknowledged(self) -> None:
        made = self.made(WAL)
        assert made.judge(50, self.AFTER, power=True) == Outcome()
        for view in (ABC, *self.STAGES):
            assert refused(made, 50, view) == "acknowledged-is-durable"

    def test_counts_each_of_its_commits_as_a_change(self) -> None:
        assert self.made(NORMAL).judge(50, ABC, power=True) == Outcome(lost=3)
        made = self.made(DELETE)
        assert made.judge(50, self.STAGES[1], power=True) == Outcome(lost=1)
        assert refused(made, 50, self.STAGES[0]) == "acknowledged-is-durable"


def test_a_violation_says_what_was_told_and_what_was_lost() -> None:
    with pytest.raises(Violation, match=r"a power cut after put 3 acknowledged \(2 acknowledged changes are lost\)"):
        history(WAL).judge(30, A, power=True)
    with pytest.raises(Violation, match="a crash of the process after put 2 acknowledged, while put 3 was pending"):
        history(WAL).judge(26, A, power=False)


def test_what_a_crash_may_lose_is_no_part_of_what_is_wrong() -> None:
    both, left = {"large": "x", "gamma": 1}, {"large": "x"}
    made = History(Configuration("delete", "FULL"), {})
    made.called(1, "set", 0, 4, DONE, (), {"large": "x"}, {"large": "x"})
    made.called(2, "add", 4, 8, DONE, (), both, both)
    made.called(3, "pop", 8, 12, DONE, (), left, left)
    # The journal's removal is not synced: the pop may be lost.
    assert made.judge(12, both, power=True) == Outcome(1)
    with pytest.raises(Violation, match=r"acknowledged-is-durable: .*: large: the expected state has 'x'") as raised:
        made.judge(12, {"large": "", "gamma": 1}, power=True)
    assert "more" not in str(raised.value)
    with pytest.raises(Violation, match="no-resurrection"):
        made.judge(12, both, power=False)


def test_a_wrong_value_is_named_before_a_deletion_that_may_be_lost() -> None:
    """A blob was deleted after its row; at DELETE and FULL the row may come back, but not without its blob."""
    made = history(DELETE)
    made.called(4, "delete", 31, 40, DONE, (), AB, AB)
    with pytest.raises(Violation) as caught:
        made.judge(40, AB | {"c": -1}, power=True)
    assert caught.value.code == "acknowledged-is-durable"
    assert "c: the expected state has 3, the reopened file has -1" in caught.value.message


def test_the_loss_after_a_failed_call_that_changes_nothing_is_a_loss() -> None:
    made = history(WAL)
    made.called(4, "rotate", 31, 40, RAISED, (), ABC, ABC)
    made.called(5, "put", 41, 50, DONE, (), ABC | {"d": 4}, ABC | {"d": 4})
    assert refused(made, 50, ABC) == "acknowledged-is-durable"


def test_each_position_belongs_to_a_step() -> None:
    made = history(WAL)
    assert [made.step_at(position) for position in (0, 5, 6, 10, 15, 16, 30, 99)] == [0, 0, 1, 1, 1, 2, 3, 3]
    made.called(3, "close", 31, 33, DONE, (), ABC, ABC)
    assert [made.is_closing_at(position) for position in (30, 31, 32, 33)] == [False, False, True, True]


def test_at_normal_a_failed_call_of_many_commits_may_lose_the_last_of_them() -> None:
    history = History(Configuration("wal", "NORMAL"), {})
    done = Answer("raised", OSError("no"), "unchanged")
    claimed, sent = {"message": "claimed"}, {"message": "sent"}
    history.called(1, "a pass", 0, 9, done, [claimed], sent, {"message": "released"})
    assert history.judge(9, {"message": "released"}, power=True) == Outcome()
    assert history.judge(9, claimed, power=True) == Outcome()
    with pytest.raises(Violation):
        history.judge(9, {"message": "never"}, power=True)
    exact = History(Configuration("wal", "FULL"), {})
    exact.called(1, "a pass", 0, 9, done, [claimed], sent, {"message": "released"})
    with pytest.raises(Violation):
        exact.judge(9, claimed, power=True)


def test_an_acknowledged_value_that_the_pending_call_leaves_alone_is_lost_and_not_half_a_change() -> None:
    made = history(WAL)
    assert refused(made, 26, {"b": 2, "c": 3}) == "acknowledged-is-durable"
    assert refused(made, 26, {"a": 1, "b": 2, "c": 4}) == "all-or-nothing"


def test_a_deleted_row_that_comes_back_with_another_value_is_no_half_of_the_pending_call() -> None:
    made = History(NORMAL, EMPTY)
    made.called(1, "put a", 1, 10, DONE, (), A, A)
    made.called(2, "delete a", 11, 20, DONE, (), EMPTY, EMPTY)
    made.called(3, "put b", 21, 30, DONE, (), {"b": 2}, {"b": 2})
    # The deletion may be lost, and the row's file is gone: not `all-or-nothing` of the put of another key.
    assert refused(made, 26, {"a": 0}) == "acknowledged-is-durable"
    assert refused(made, 26, {"half of b": 1}) == "all-or-nothing"


def test_a_loss_that_leaves_what_a_failed_call_had_shown_to_readers_is_a_loss() -> None:
    made = History(WAL, EMPTY)
    made.called(1, "put a", 1, 10, RAISED, (), A, A)
    made.called(2, "put b", 11, 20, DONE, (), AB, AB)
    assert refused(made, 20, A) == "acknowledged-is-durable"


def test_what_a_failed_call_did_beside_the_database_may_be_lost_later_and_not_in_a_crash_that_kept_it() -> None:
    made = History(WAL, EMPTY)
    made.called(1, "put a", 1, 10, RAISED, (), A, A, beside=True)
    made.called(2, "put b", 11, 20, DONE, (), AB, AB)
    assert made.judge(20, {"b": 2}, power=True) == Outcome()
    with pytest.raises(Violation):
        made.judge(20, {"b": 2}, power=True, doubts=False)
    assert refused(made, 20, {"b": 2}, power=False) != ""


def test_a_value_that_a_failed_call_may_have_left_is_also_that_of_the_pending_call() -> None:
    made = History(WAL, EMPTY)
    made.called(1, "copy", 1, 10, RAISED, (), A, EMPTY, beside=True)
    made.called(2, "put b", 11, 20, DONE, (), {"b": 2}, {"b": 2})
    made.called(3, "copy", 21, 30, DONE, (), ABC, ABC)
    for allowed in ({"b": 2}, {"a": 1, "b": 2}, ABC):
        assert made.judge(26, allowed, power=True) == Outcome()
    assert refused(made, 26, {"b": 2, "c": 3}) == "all-or-nothing"
    assert refused(made, 30, {"a": 1, "b": 2}) == "acknowledged-is-durable"
