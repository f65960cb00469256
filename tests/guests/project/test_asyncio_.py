"""pytest-asyncio runs the coroutine; each run of the sweep has an event loop of its own."""

import asyncio

import pytest
from store import Store


@pytest.mark.asyncio
@pytest.mark.every_fault(operations="write,sync")
async def test_marked(tmp_path):
    store = Store(tmp_path / "a.db")
    store.add(1)
    await asyncio.sleep(0)
    assert store.all() == [1]
    store.close()


@pytest.mark.asyncio
async def test_unmarked(tmp_path):
    store = Store(tmp_path / "a.db")
    await asyncio.sleep(0)
    store.close()
