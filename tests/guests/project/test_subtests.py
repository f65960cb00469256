"""pytest-subtests, and unittest's: the errors that they keep to themselves are seen."""

import tempfile
import unittest

import pytest
from store import Hides, Store


@pytest.mark.every_fault(operations="write,sync")
def test_marked(tmp_path, subtests):
    store = Store(tmp_path / "a.db")
    with subtests.test(msg="one"):
        store.add(1)
    store.close()


@pytest.mark.every_fault(operations="write,sync")
def test_marked_fails(tmp_path, subtests):
    store = Hides(tmp_path / "a.db")
    with subtests.test(msg="one"):
        store.add(1)
        assert store.all() == [1]
    store.close()


def test_unmarked(tmp_path, subtests):
    store = Store(tmp_path / "a.db")
    with subtests.test(msg="one"):
        store.add(1)
    store.close()


class TestOfUnittest(unittest.TestCase):
    def test_unmarked(self):
        for number in range(2):
            with self.subTest(number=number):
                assert number < 2

    @pytest.mark.every_fault(operations="write,sync")
    def test_marked(self):
        with tempfile.TemporaryDirectory() as home:
            store = Store(f"{home}/a.db")
            for number in range(2):
                with self.subTest(number=number):
                    store.add(number)
            store.close()

    @pytest.mark.every_fault(operations="write,sync")
    def test_marked_fails(self):
        with tempfile.TemporaryDirectory() as home:
            store = Hides(f"{home}/a.db")
            with self.subTest("one"):
                store.add(1)
                assert store.all() == [1]
            store.close()
