"""pytest-timeout: its timer counts one run, not the whole sweep."""

import sqlite3
import threading

import pytest
from store import Store


@pytest.mark.timeout(1)
@pytest.mark.every_fault(operations="write,sync")
def test_marked(tmp_path):
    store = Store(tmp_path / "a.db")
    store.add(1)
    # Some twenty runs of a tenth of a second are longer than the limit; none alone is.
    threading.Event().wait(0.1)
    assert store.all() == [1]
    store.close()


@pytest.mark.timeout(0.2)
def test_unmarked_fails():
    threading.Event().wait(20)


@pytest.mark.timeout(0.5)
@pytest.mark.every_fault(operations="sync")
def test_marked_fails(tmp_path):
    store = Store(tmp_path / "a.db")
    try:
        store.add(1)
    except sqlite3.Error:
        threading.Event().wait(20)
    store.close()
