"""``error-is-not-hidden``: what a caller is told under a fault names the fault, or the check fails."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import others_stores
import pytest

from tornpage import faults
from tornpage.faults.plan import Fault
from tornpage.faults.result_codes import error_for
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.events import NOT_SHOWN
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.hidden_errors import names_a_fault, require_named
from tornpage.scenarios.model.judging.oracle import Answer
from tornpage.scenarios.model.scenario import Arm, Call, Scenario
from tornpage.scenarios.model.target import Action, Refused
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.process import StoreError
from tornpage.scenarios.targets.process.protocol import Failed

Search = Callable[..., Recorder]
PUT = Action("put", {"key": "a"})


class StoreFailedError(Exception):
    pass


class StoreBusy(Exception):  # noqa: N818 - named as a store would
    pass


def full() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


def raised(make: Callable[[], None]) -> BaseException:
    try:
        make()
    except BaseException as error:  # noqa: BLE001 - it is what is looked at
        return error
    raise AssertionError("nothing was raised")


def from_it() -> None:
    try:
        raise full()
    except sqlite3.Error as error:
        raise StoreFailedError("not saved") from error


def in_its_handler() -> None:
    try:
        raise full()
    except sqlite3.Error:
        raise StoreFailedError("not saved")  # noqa: B904 - as many stores do


def from_none() -> None:
    try:
        raise full()
    except sqlite3.Error:
        raise StoreFailedError("not saved") from None


def from_none_in_its_words() -> None:
    try:
        raise full()
    except sqlite3.Error as error:
        raise StoreFailedError(f"not saved: {error}") from None


def from_none_with_the_drivers_error() -> None:
    # Python's sqlite3 has words of its own for a function that SQLite had no memory for.
    error = sqlite3.OperationalError("Error creating function")
    raise StoreFailedError(f"not saved. {type(error).__name__}: {error}") from None


def from_none_with_the_name_alone() -> None:
    raise StoreFailedError("MemoryError") from None


def from_none_with_a_consequence() -> None:
    raise StoreFailedError("not saved. OperationalError: cannot rollback - no transaction is active") from None


def from_none_with_an_error_of_another_kind() -> None:
    raise StoreFailedError("not saved. KeyError: 'a'") from None


def rolled_back_blindly() -> None:
    try:
        raise full()
    except sqlite3.Error:
        raise sqlite3.OperationalError("cannot rollback - no transaction is active") from None


def masked_with_a_context() -> None:
    try:
        raise full()
    except sqlite3.Error:
        raise sqlite3.OperationalError("cannot rollback - no transaction is active")  # noqa: B904 - that is the defect


def masked_and_wrapped() -> None:
    try:
        masked_with_a_context()
    except sqlite3.Error as error:
        raise StoreFailedError("not saved") from error


def on_a_closed_connection() -> None:
    try:
        raise full()
    except sqlite3.Error:
        raise sqlite3.ProgrammingError("Cannot operate on a closed database.")  # noqa: B904 - as above


def something_else() -> None:
    raise KeyError("a")


def in_a_group() -> None:
    raise ExceptionGroup("both", [ValueError("no"), full()])


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (from_it, True),
        (in_its_handler, True),
        (from_none, False),
        (from_none_in_its_words, True),
        (from_none_with_the_drivers_error, True),
        (from_none_with_the_name_alone, True),
        (from_none_with_a_consequence, False),
        (from_none_with_an_error_of_another_kind, False),
        (rolled_back_blindly, False),
        (masked_with_a_context, False),
        (masked_and_wrapped, False),
        (on_a_closed_connection, False),
        (something_else, False),
        (in_a_group, True),
    ],
)
def test_an_error_names_the_fault_by_itself_its_causes_or_its_words(make: Callable[[], None], names: bool) -> None:
    assert names_a_fault(raised(make)) is names


@pytest.mark.parametrize(
    "error", [full(), MemoryError(), OSError(5, "Input/output error"), StoreBusy(), TimeoutError()]
)
def test_an_error_of_the_database_the_system_or_by_name_is_enough(error: BaseException) -> None:
    assert names_a_fault(error)


def test_an_error_of_the_store_s_own_that_repeats_a_message_of_sqlite_names_the_fault() -> None:
    # What the catalogue makes a SQLite operation end with, and what SQLite makes of a lock that is never free.
    effects = {effect for one in faults.possibilities() for effect in one.effects} | {"PROTOCOL", "NOMEM", "INTERRUPT"}
    of_sqlite = effects & faults.RESULT_CODES.keys() - {"ABORT_ROLLBACK"}
    unnamed = {
        effect: str(error)
        for effect in of_sqlite
        if str(error := error_for(Fault("write", effect)))
        and not names_a_fault(StoreFailedError(f"put failed: {error}"))
    }
    assert not unnamed
    assert "IOERR_WRITE" in of_sqlite


def hides(answer: Answer) -> bool:
    try:
        require_named(PUT, answer, "write:wal@1=FULL")
    except Violation:
        return True
    return False


def test_of_a_program_only_a_message_that_speaks_of_a_consequence_is_held_against_it() -> None:
    for message, is_hidden in (
        ("could not save", False),
        ("cannot rollback - no transaction is active", True),
        ("database or disk is full; cannot rollback - no transaction is active", False),
    ):
        assert hides(Answer("raised", StoreError(Failed(message)))) is is_hidden


def test_a_refusal_hides_the_fault_unless_it_repeats_sqlites_message() -> None:
    refusal = Refused("no such key: disk")
    refusal.__cause__ = full()
    assert hides(Answer("refused", refusal))
    assert not hides(Answer("refused", Refused("database is locked")))
    assert not hides(Answer("done"))


# -- whole stores ------------------------------------------------------------------------------------------------------


class Ledger(others_stores.Shelf):
    """Every put is a transaction of two statements; `undo` and `failed` say how a failure is dealt with."""

    def put(self, key: str, value: object = 1) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            super().put(key, value)
            self.db.execute("COMMIT")
        except sqlite3.Error as error:
            self.undo()
            self.failed(error)

    def undo(self) -> None:
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")

    def failed(self, error: sqlite3.Error) -> None:
        raise StoreFailedError("not saved") from error


class SoundLedger(others_stores.ShelfTarget):
    kind = Ledger


class SoundRaisesInTheHandler(others_stores.ShelfTarget):
    class kind(Ledger):  # noqa: N801 - the attribute's name
        def failed(self, error: sqlite3.Error) -> None:
            raise StoreFailedError("not saved")


class SoundTriesAgain(others_stores.ShelfTarget):
    """Handles the error, tries once more, and is told the second error if there is one."""

    class kind(Ledger):  # noqa: N801
        def put(self, key: str, value: object = 1) -> None:
            try:
                super().put(key, value)
            except StoreFailedError:
                super().put(key, value)


class BlindRollback(others_stores.ShelfTarget):
    class kind(Ledger):  # noqa: N801
        def undo(self) -> None:
            self.db.execute("ROLLBACK")


class SaysNothing(others_stores.ShelfTarget):
    class kind(Ledger):  # noqa: N801
        def failed(self, error: sqlite3.Error) -> None:
            raise StoreFailedError("not saved") from None


class MissesOnError(others_stores.ShelfTarget):
    """Takes a key that it can't read for one that is not there."""

    class kind(others_stores.Shelf):  # noqa: N801
        def remove(self, key: str) -> None:
            try:
                found = self.db.execute("SELECT 1 FROM item WHERE key = ?", (key,)).fetchall()
            except sqlite3.Error:
                found = []
            if not found:
                raise Refused(f"no such key: {key}")
            self.db.execute("DELETE FROM item WHERE key = ?", (key,))

    calls = (*others_stores.ShelfTarget.calls, Action("remove", {"key": "a"}))


def codes(recorder: Recorder) -> set[str]:
    return {found.finding.code for found in recorder.findings}


@pytest.mark.parametrize("target", [SoundLedger, SoundRaisesInTheHandler, SoundTriesAgain])
def test_a_store_that_wraps_or_handles_its_errors_is_left_alone(target: Any, search: Search) -> None:
    recorder = search(target(), points=24, configurations=1)
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.count("surfaced")


@pytest.mark.parametrize("target", [BlindRollback, SaysNothing, MissesOnError])
@pytest.mark.usefixtures("shim")
def test_a_store_that_hides_the_error_is_found_and_its_scenario_shows_it_again(
    target: Any, search: Search, home: Path
) -> None:
    recorder = search(target(), points=24, configurations=1)
    assert codes(recorder) == {"error-is-not-hidden"}
    again, _ = play(recorder.findings[0].finding.scenario, target(), home / "again")
    assert again is not None
    assert again.code == "error-is-not-hidden"


class HidesAndSticks(others_stores.ShelfTarget):
    """Hides the error, and takes no change any more."""

    class kind(others_stores.Shelf):  # noqa: N801
        is_changing = False

        def put(self, key: str, value: object = 1) -> None:
            if self.is_changing:
                raise StoreFailedError("a change is being made")
            self.is_changing = True
            try:
                super().put(key, value)
            except sqlite3.Error:
                raise StoreFailedError("not saved") from None
            self.is_changing = False


@pytest.mark.usefixtures("shim")
def test_what_is_wrong_once_the_fault_is_gone_is_said_first_by_the_point_and_by_its_scenario(
    search: Search, home: Path
) -> None:
    recorder = search(HidesAndSticks(), points=20)
    assert codes(recorder) == {"still-usable-after-the-fault"}
    for found in recorder.findings:
        assert NOT_SHOWN not in found.finding.message
        again, _ = play(found.finding.scenario, HidesAndSticks(), home / "again")
        assert again is not None
        assert again.code == "still-usable-after-the-fault"


@pytest.mark.usefixtures("shim")
def test_a_fault_that_is_over_is_not_hidden_by_a_later_refusal(home: Path) -> None:
    steps = (Call(PUT), Arm("write:journal@1=FULL"), Call(Action("put", {"key": "b"})))
    scenario = Scenario("others_stores:Sound", others_stores.DELETE[0], steps)
    assert play(scenario, others_stores.Sound(), home / "played")[0] is None
