"""pytest-subtests, and unittest's: they keep a failure to themselves, so a marked test with them is refused, alone."""

import unittest

import pytest
from store import Store


@pytest.mark.every_fault(operations="write,sync")
def test_marked(tmp_path, subtests):
    store = Store(tmp_path / "a.db")
    with subtests.test(msg="one"):
        store.add(1)
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
