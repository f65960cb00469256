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
def collector() -> Iterator[None]:
    thresholds = gc.get_threshold()
    gc.collect()
    yield
    gc.set_threshold(*thresholds)
    gc.enable()


@pytest.mark.usefixtures("collector")
def test_an_object_that_waits_for_its_thread_is_not_collected_while_the_list_is_locked() -> None:
    ended.clear()
    gc.disable()
    WaitsForItsThread()
    # From here on the next container that is allocated starts a collection: that is the list of threads.
    gc.set_threshold(1)
    gc.enable()
    live_threads()
    gc.collect()
    assert ended == [True]
    assert gc.isenabled()
