"""pytest-benchmark: its hooks read the fixtures of an item whose runs are over."""

import pytest
from store import Store


# A fault in the store's opening ends a run before the benchmark, which the plugin warns of.
@pytest.mark.filterwarnings("ignore:Benchmark fixture was not used at all")
@pytest.mark.every_fault(operations="write,sync")
def test_marked(tmp_path, benchmark):
    store = Store(tmp_path / "a.db")
    benchmark.pedantic(store.add, args=(1,), rounds=1)
    assert store.all() == [1]
    store.close()


def test_unmarked(tmp_path, benchmark):
    store = Store(tmp_path / "a.db")
    benchmark.pedantic(store.all, rounds=3)
    store.close()


# As above.
@pytest.mark.filterwarnings("ignore:Benchmark fixture was not used at all")
@pytest.mark.every_fault(operations="read:db,write")
def test_marked_without_measuring(tmp_path, benchmark):
    store = Store(tmp_path / "a.db")
    store.add(1)
    # As often as it takes to measure it; in a sweep once.
    assert benchmark(store.all) == [1]
    store.close()
