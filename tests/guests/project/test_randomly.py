"""pytest-randomly: the order is another one, and `random` is seeded before each run."""

import random

import pytest
from store import Store

SEEN = set()


@pytest.mark.every_fault(operations="write,sync")
def test_marked(tmp_path):
    SEEN.add(random.random())
    assert len(SEEN) == 1, "each run begins with the same seed"
    store = Store(tmp_path / "a.db")
    store.add(random.randrange(10))
    store.close()


def test_unmarked():
    random.random()
