"""Whether a store takes no locks that another connection would meet: ``nolock=1``, the VFS ``unix-none``.

Such a store promises nothing to a second user of its file, and no rival can block it.

Method, without any fault: a session makes the beat. If the file has changed and no lock was requested, there are none.
Otherwise the beat is made once more, in a new directory, while a rival holds the whole file from the first request on:
a store that writes all the same, and neither waits nor is refused, asks in vain.

Not covered: WAL, whose shared memory needs locks, and a store with locks of its own that are no file locks.
"""

from pathlib import Path
from typing import Final

from tornpage import faults
from tornpage.scenarios.execution.injection import contention
from tornpage.scenarios.execution.snapshots import place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import Rival
from tornpage.scenarios.model.target import Configuration, Target, TargetError

NO_LOCKS: Final = "the store takes no locks that another connection would meet (nolock=1, or a VFS without locks)"

# The results of this process so far.
_KNOWN: Final[dict[tuple[type, str, Configuration], bool]] = {}


def takes_no_locks(target: Target, configuration: Configuration, home: Path) -> bool:
    """Whether no other connection can block the store, nor the store another one; it is tried once, in `home`."""
    if configuration.journal_mode in ("wal", "file") or "vfs" not in target.depths:
        return False
    key = type(target), target.name, configuration
    if key not in _KNOWN:
        with faults.install():
            try:
                _KNOWN[key] = _writes_unlocked(target, configuration, home)
            except (Violation, TargetError):
                _KNOWN[key] = False
    return _KNOWN[key]


def _writes_unlocked(target: Target, configuration: Configuration, home: Path) -> bool:
    place({}, home)
    with Trial(target, configuration, home, {}) as trial:
        trial.at_step(0)
        trial.open()
        with faults.count_operations(home) as counter:
            trial.beat()
        if not _written(counter.counts):
            return False
        if not counter.counts.get(("lock", "db"), 0):
            return True
    place({}, home)
    with Trial(target, configuration, home, {}) as trial:
        trial.at_step(0)
        trial.open()
        with contention(trial, Rival("exclusive", "lock", 1)) as rival, faults.count_operations(home) as counter:
            answer = trial.call(target.heartbeat(), {})
        # A store that has met the rival may refuse the next call, too: it is not judged here.
        return answer.kind == "done" and rival.rival.was_held and not rival.fired and _written(counter.counts)


def _written(counts: dict[tuple[str, str], int]) -> bool:
    return bool(counts.get(("write", "db"), 0))
