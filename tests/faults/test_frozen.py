"""What exists before a campaign is left alone by the garbage collector, but for open connections."""

import contextlib
import ctypes
import gc
import sqlite3
from collections.abc import Callable, Iterator

import pytest

from tornpage import faults
from tornpage.faults.files import unseen
from tornpage.faults.garbage import _FROZEN_BY_PYTHON, leave_alone, living, look_again


@pytest.fixture(autouse=True)
def nothing_is_frozen() -> Iterator[None]:
    look_again()
    gc.collect()
    yield
    look_again()


def test_inside_the_scope_only_new_objects_are_looked_through() -> None:
    old: list[object] = []
    gc.collect()
    with faults.frozen():
        new: list[object] = []
        found = {id(one) for one in gc.get_objects()}
        assert id(new) in found
        assert id(old) not in found
    assert id(old) in {id(one) for one in gc.get_objects()}


def test_an_open_connection_is_never_hidden() -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        # Python 3.12 freezes some objects of its own.
        few = gc.get_freeze_count()
        with faults.frozen():
            assert gc.get_freeze_count() == few
        faults.freeze()
        assert gc.get_freeze_count() == few
        assert any(one is connection for one in gc.get_objects())
    faults.freeze()
    assert gc.get_freeze_count() > few


def test_a_connection_that_only_a_cycle_holds_hinders_nothing() -> None:
    held: list[object] = [sqlite3.connect(":memory:")]
    held.append(held)
    del held
    with faults.frozen():
        assert not living(lambda kind: issubclass(kind, sqlite3.Connection))
        assert gc.get_freeze_count() > _FROZEN_BY_PYTHON


@pytest.mark.parametrize("freeze", [gc.freeze, lambda: leave_alone([])])
def test_what_has_been_frozen_before_stays_so(freeze: Callable[[], None]) -> None:
    freeze()
    count = gc.get_freeze_count()
    with faults.frozen():
        assert gc.get_freeze_count() == count
    assert gc.get_freeze_count() == count


def test_what_is_no_longer_frozen_for_good_is_frozen_by_the_next_scope() -> None:
    leave_alone([])
    look_again()
    old: list[object] = []
    with faults.frozen():
        assert id(old) not in {id(one) for one in gc.get_objects()}
    assert id(old) in {id(one) for one in gc.get_objects()}


def test_objects_are_found_by_type_also_beside_classes_that_have_no_hash() -> None:
    class Kind(type):
        def __eq__(cls, other: object) -> bool:
            return False

        __hash__ = None  # type: ignore[assignment] # so that it has none

    class Own(sqlite3.Connection):
        pass

    odd = Kind("Odd", (), {})()
    with contextlib.closing(Own(":memory:")) as connection:
        found = living(lambda kind: issubclass(kind, sqlite3.Connection))
        assert any(one is connection for one in found)
        assert not any(one is odd for one in found)
        # What has just been made is young.
        assert any(one is connection for one in living(lambda kind: kind is Own, 0))


def test_a_library_that_syncs_is_known_to_be_in_use_after_one_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    collections = []
    monkeypatch.setattr(unseen, "collect", lambda: collections.append(gc.collect()))
    library = ctypes.CDLL(None)
    assert library.fsync is not None
    for _ in range(2):
        assert unseen.syncing_libraries() == ["fsync"]
        assert len(collections) == 1
    # One that is dropped stays in a reference cycle; it is looked for again with each other library.
    other = ctypes.CDLL(None)
    assert other.fdatasync is not None
    del library
    assert unseen.syncing_libraries() == ["fdatasync"]
    assert len(collections) == 2


@pytest.mark.parametrize("freeze", [faults.freeze, gc.freeze])
def test_a_library_is_found_among_what_is_frozen(freeze: Callable[[], None]) -> None:
    library = ctypes.CDLL(None)
    freeze()
    assert unseen.syncing_libraries() == []
    assert library.fsync is not None
    assert unseen.syncing_libraries() == ["fsync"]


def test_a_library_is_found_inside_the_scope_and_after_it() -> None:
    library = ctypes.CDLL(None)
    with faults.frozen():
        assert unseen.syncing_libraries() == []
        assert library.fsync is not None
        assert unseen.syncing_libraries() == ["fsync"]
    assert unseen.syncing_libraries() == ["fsync"]


def test_a_look_for_libraries_of_which_none_syncs_leaves_frozen_what_is_frozen() -> None:
    library = ctypes.CDLL(None)
    old: list[object] = []
    for _ in range(2):
        faults.freeze()
        assert unseen.syncing_libraries() == []
        assert id(old) not in {id(one) for one in gc.get_objects()}
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        assert unseen.syncing_libraries() == []
        assert any(one is connection for one in gc.get_objects())
    assert library.fdatasync is not None
    assert unseen.syncing_libraries() == ["fdatasync"]
