"""The list of threads is taken without a garbage collection."""

import gc
import threading
from collections.abc import Iterator

import pytest

from tornpage.faults.locks import live_threads


class WaitsForItsThread:
    """Waits in its finaliser for a thread, as a writer of a database may."""

    def __init__(self) -> None:
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._ends.wait, daemon=True)
        self._thread.start()
        self.itself = self

    def __del__(self) -> None:
        self._ends.set()
        self._thread.join(5)
        ended.append(not self._thread.is_alive())


ended: list[bool] = []


@pytest.fixture
def eager_collector() -> Iterator[None]:
    thresholds = gc.get_threshold()
    gc.collect()
    gc.set_threshold(1, 1, 1)
    yield
    gc.set_threshold(*thresholds)


@pytest.mark.usefixtures("eager_collector")
def test_an_object_that_waits_for_its_thread_is_not_collected_while_the_list_is_locked() -> None:
    ended.clear()
    for _ in range(20):
        WaitsForItsThread()
        live_threads()
    gc.collect()
    assert ended == [True] * 20
    assert gc.isenabled()
