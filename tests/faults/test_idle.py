"""Whether other threads work: one that waits for a lock without a limit is recognised at the second look."""

import subprocess
import sys

import pytest

from tornpage.faults.contention.idle import is_reported

# In a process of its own: here pytest may have threads that wait for something else.
_LOOKS = """
import sys, threading
from tornpage.faults.contention.idle import Quiet, real_sleep
lock = threading.Lock()
with lock:
    threading.Thread(target=lock.acquire, args=eval(sys.argv[1]), daemon=True).start()
    quiet, looks = Quiet(at_once=eval(sys.argv[2])), 1
    # The thread may still be on its way to the lock.
    settled = Quiet()
    while not settled.lasts():
        real_sleep(0.01)
    while not quiet.lasts():
        looks += 1
        real_sleep(0.001)
print(looks)
"""


def looks_at_a_thread(arguments: tuple[object, ...], *, at_once: bool) -> int:
    """The number of looks after which a thread that takes a lock with these arguments counts as blocked."""
    told = [sys.executable, "-c", _LOOKS, repr(arguments), repr(at_once)]
    return int(subprocess.run(told, capture_output=True, check=True, text=True).stdout)


@pytest.mark.skipif(not is_reported(), reason="this system does not report what threads do")
def test_a_thread_that_waits_for_a_lock_is_seen_at_the_second_look() -> None:
    assert looks_at_a_thread((), at_once=True) == 2


@pytest.mark.skipif(not is_reported(), reason="this system does not report what threads do")
@pytest.mark.parametrize(("arguments", "at_once"), [((True, 60.0), True), ((), False)])
def test_one_that_waits_with_a_limit_gets_more_looks(arguments: tuple[object, ...], at_once: bool) -> None:
    assert looks_at_a_thread(arguments, at_once=at_once) > 2
