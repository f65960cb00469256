"""For how long threads of this process were ready to run, and no processor ran them, because the machine was busy.

Method. Linux counts it for each thread, in ``/proc/self/task/*/schedstat``: the second number, in nanoseconds.

Not covered: other systems and kernels without these accounts, where it is always zero; child processes; and what a
virtual machine itself waits for.
"""

import os
from collections.abc import Mapping
from typing import Final

_TASKS: Final = "/proc/self/task"
_NS: Final = 1_000_000_000
# As they were before a search replaces them.
_open, _read, _close, _list = os.open, os.read, os.close, os.listdir

Starved = Mapping[str, float]
"""For each thread, by its number, the seconds that it has waited for a processor in its life."""


def starved() -> Starved:
    """All threads of this process."""
    try:
        return {task: _of(task) for task in _list(_TASKS)}
    except OSError:
        return {}


def longest_since(before: Starved) -> float:
    """The longest wait of one thread since `before`, in seconds."""
    return max((seconds - before.get(task, 0.0) for task, seconds in starved().items()), default=0.0)


def _of(task: str) -> float:
    try:
        descriptor = _open(f"{_TASKS}/{task}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        # It has ended, or this kernel keeps no such accounts.
        return 0.0
    try:
        return int(_read(descriptor, 100).split()[1]) / _NS
    except (OSError, IndexError, ValueError):
        return 0.0
    finally:
        _close(descriptor)
