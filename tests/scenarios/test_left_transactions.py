"""A call that fails since an earlier one has left its transaction open: that is what is wrong, and no hidden error."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import others_stores
import pytest

from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.execution.generic_checks.open_connections import STILL_OPEN
from tornpage.scenarios.execution.hidden_errors import HiddenErrors
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.oracle import Answer
from tornpage.scenarios.model.judging.unpromised import NO_MEMORY_EITHER
from tornpage.scenarios.model.scenario import Call, Clear, Limit, Restart, Scenario

STUCK = sqlite3.OperationalError("cannot start a transaction within a transaction")


class RollsBack(others_stores.ShelfTarget):
    """Writes in a transaction of its own; a look at the rows has a connection of its own."""

    class kind(others_stores.Shelf):  # noqa: N801 - the attribute's name
        def put(self, key: str, value: object = 1) -> None:
            self.db.execute("BEGIN IMMEDIATE")
            try:
                super().put(key, value)
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise

        def all(self) -> dict[str, Any]:
            with closing(sqlite3.connect(self.path)) as reader:
                return dict(reader.execute("SELECT key, value FROM item"))


class RollsBackByWith(RollsBack):
    """Begins inside of ``with``: the call that fails to begin is the one that rolls back."""

    class kind(RollsBack.kind):  # noqa: N801 - the attribute's name
        def put(self, key: str, value: object = 1) -> None:
            with self.db:
                self.db.execute("BEGIN IMMEDIATE")
                others_stores.Shelf.put(self, key, value)


class Met:
    """A fault that was met."""

    is_known_late = False
    fired = 1

    def saw(self, _error: BaseException) -> bool:
        return True


@pytest.mark.parametrize(
    ("left_open", "code"), [("", "error-is-not-hidden"), (f"; {STILL_OPEN}", "still-usable-after-the-fault")]
)
def test_a_transaction_that_is_open_already_is_named(left_open: str, code: str) -> None:
    hidden = HiddenErrors()
    answer = Answer("raised", STUCK)
    hidden.keep(RollsBack.calls[0], answer, Met(), "no memory", is_met=True, left_open=lambda: left_open)
    with pytest.raises(Violation) as raised:
        hidden.require_none()
    assert raised.value.code == code
    assert left_open in raised.value.message


@pytest.mark.parametrize("error", [sqlite3.OperationalError("disk I/O error"), LookupError("no such key")])
def test_no_open_transaction_is_looked_for_where_the_error_speaks_of_none(error: Exception) -> None:
    def look() -> str:
        raise AssertionError("to look takes as long as all the rest of a call")

    HiddenErrors().keep(RollsBack.calls[0], Answer("raised", error), Met(), "a fault", is_met=True, left_open=look)


@pytest.mark.usefixtures("shim")
@pytest.mark.parametrize("is_over", [False, True], ids=["still", "over"])
def test_a_call_that_meets_such_a_transaction_and_rolls_it_back_names_it(is_over: bool, home: Path) -> None:
    ends = [Clear()] if is_over else []
    codes = set()
    for number, too_few in enumerate(range(512, 12_288, 512)):
        one, other = map(Call, RollsBackByWith.calls[:2])
        steps = (Restart(), Limit("heap", too_few, sticky=not is_over), one, *ends, other)
        violation, _ = play(Scenario("store", others_stores.DELETE[0], steps), RollsBackByWith(), home / str(number))
        codes.add(violation and violation.code)
        assert violation is None or NO_MEMORY_EITHER in violation.message
    assert codes > {None}


@pytest.mark.usefixtures("shim")
def test_where_rollback_has_no_memory_the_next_call_does_not_count_as_hiding_an_error(home: Path) -> None:
    """How many bytes are too few depends on the version of SQLite."""
    codes = set()
    for number, too_few in enumerate(range(512, 12_288, 512)):
        steps = (Restart(), Limit("heap", too_few, sticky=True), *map(Call, RollsBack.calls))
        violation, _ = play(Scenario("store", others_stores.DELETE[0], steps), RollsBack(), home / str(number))
        codes.add(violation and violation.code)
        assert violation is None or NO_MEMORY_EITHER in violation.message
    assert codes == {None, "still-usable-after-the-fault"}
