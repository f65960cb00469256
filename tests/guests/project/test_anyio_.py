"""anyio's own plugin runs the coroutine."""

import anyio
import pytest
from store import Store


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.anyio
@pytest.mark.every_fault(operations="write,sync")
async def test_marked(tmp_path):
    store = Store(tmp_path / "a.db")
    store.add(1)
    await anyio.lowlevel.checkpoint()
    assert store.all() == [1]
    store.close()


@pytest.mark.anyio
async def test_unmarked(tmp_path):
    store = Store(tmp_path / "a.db")
    await anyio.lowlevel.checkpoint()
    store.close()
