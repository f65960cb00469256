"""The child processes of this process, apart from those that the harness has started for itself.

A store that sleeps may be waiting for a process that it has started. It never waits for one of the harness's: a rival,
a second caller, the supervisor of kills, multiprocessing's resource tracker.

Method. ``waitid`` says at once whether there is any child. Where the harness has some of its own, those in ``/proc``
whose parent this process is are compared with them.

Not covered: children of children; systems without ``waitid``, where no child is seen; and those without ``/proc``,
where the harness's own are not left out.
"""

import os
import sys
from pathlib import Path
from typing import Any, Final

_LISTS_PROCESSES: Final = Path("/proc/self/stat").exists()
# A session may be given another number: that of a process after a crash.
_getpid: Final = os.getpid
_own: Final[set[int]] = set()


def belongs_to_the_harness(pid: int) -> None:
    """Leave the child process `pid` out of account."""
    _own.add(pid)


def has_others() -> bool:
    """Whether there is a child process that the harness has not started, alive or not waited for yet."""
    if not _has_any():
        return False
    own = _own | _trackers()
    return not (own and _LISTS_PROCESSES) or bool(_children() - own)


def _has_any() -> bool:
    if not hasattr(os, "waitid"):
        return False
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _trackers() -> set[int]:
    # There is none where nothing has imported it.
    module = sys.modules.get("multiprocessing.resource_tracker")
    tracker: Any = getattr(module, "_resource_tracker", None)
    pid = getattr(tracker, "_pid", None)
    return set() if pid is None else {pid}


def _children() -> set[int]:
    """The processes whose parent this one is, as Linux says."""
    me = str(_getpid()).encode()
    found = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                stat = Path(entry.path, "stat").read_bytes()
            except OSError:
                continue
            # The name, in parentheses, may hold anything; state and parent follow it.
            if stat.rpartition(b")")[2].split()[1] == me:
                found.add(int(entry.name))
    return found
