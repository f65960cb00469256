"""pytest-rerunfailures: a marked test that fails is run again as a whole, and fails again."""

import pytest
from store import Hides

TRIED = []


@pytest.mark.flaky(reruns=1)
@pytest.mark.every_fault(operations="write,sync")
def test_marked_fails(tmp_path):
    store = Hides(tmp_path / "a.db")
    store.add(1)
    assert store.all() == [1]
    store.close()


@pytest.mark.flaky(reruns=1)
def test_unmarked_passes_at_the_second_try():
    TRIED.append(1)
    assert len(TRIED) == 2
