"""No other plugin's names: what pytest-xdist and pytest-cov run is here, too."""

import pytest
from store import Hides, Store


@pytest.mark.every_fault(operations="write,sync")
def test_marked(tmp_path):
    store = Store(tmp_path / "a.db")
    store.add(1)
    assert store.all() == [1]
    store.close()


@pytest.mark.every_fault(operations="write,sync")
def test_marked_fails(tmp_path):
    store = Hides(tmp_path / "a.db")
    store.add(1)
    assert store.all() == [1]
    store.close()


def test_unmarked(tmp_path):
    store = Store(tmp_path / "a.db")
    store.add(1)
    assert store.all() == [1]
    store.close()
