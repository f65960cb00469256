"""The harness collects what a store has dropped, and no warning about that reaches the suite of a user."""

import gc
import warnings

import pytest

from tornpage.faults.garbage import collect


class Dropped:
    """Refers to itself, and warns at its end, as a connection does from Python 3.13 on."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        warnings.warn("unclosed", ResourceWarning, stacklevel=1)


def test_what_is_collected_warns_of_nothing() -> None:
    gc.collect()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        Dropped()
        collect(1)
        assert told == []
        Dropped()
        gc.collect()
        assert [one.category for one in told] == [ResourceWarning]


class Old(Dropped):
    def __del__(self) -> None:
        warnings.warn("old", DeprecationWarning, stacklevel=1)


def test_other_warnings_are_told() -> None:
    Old()
    with pytest.warns(DeprecationWarning, match="old"):
        collect()
