"""Whether two stores of one target, open in one process at one path, share nothing.

The harness opens a second store where a first one is open: the shadow at the path of the session under fault, a copy of
the files at the path where they were written (`in_place`). If the stores of a program share something by their path, an
engine for each URL or a connection for each file, the second store would get the first one's connection, and with it
the wrong files. In two processes, which the harness simulates, they would share nothing. So such stores are detected,
and each of theirs runs at its own path.

Method, without any fault: while a first store is open, a second one is created at the same path in an empty directory
that takes its place; the beat is made on both. If either sees or changes anything of the other, or waits
for it, they share state.

Not covered: such a store that also stores its path: in a copy it finds the path of another directory.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tornpage import faults
from tornpage.faults.contention.idle import real_monotonic
from tornpage.scenarios.execution.call_timeout import TookTooLongError, in_time, patience
from tornpage.scenarios.execution.in_place import another_process, in_the_place_of
from tornpage.scenarios.execution.snapshots import held_open, place
from tornpage.scenarios.model.target import Configuration, Session, Target, View, environment_of
from tornpage.scenarios.targets.process import ProcessTarget

# The time of a second store: so many times that of the first, and this at least.
_TIMES: Final = 20
_LEAST_S: Final = 1.0
# The results of this process so far.
_JOINED: Final[dict[tuple[type, str, Configuration], bool]] = {}


def are_joined(target: Target, configuration: Configuration, home: Path) -> bool:
    """Whether stores at one path share something in this process; it is tried once, below `home`."""
    if isinstance(target, ProcessTarget):
        return False
    key = type(target), target.name, configuration
    if key not in _JOINED:
        with faults.spare():
            _JOINED[key] = not _are_apart(target, configuration, home)
    return _JOINED[key]


def _are_apart(target: Target, configuration: Configuration, home: Path) -> bool:
    path, other = home / "one", home / "other"
    for directory in (path, other):
        place({}, directory)
    try:
        began = real_monotonic()
        with _open(target, configuration, path) as first:
            with in_time("the beat"):
                first.call(target.heartbeat())
            before = _seen(target, first, path)
            # A hang here says nothing of the store's calls: the patience with them stays as it was.
            with patience(max(_LEAST_S, _TIMES * (real_monotonic() - began))), in_time("a second store at its path"):
                begun, made = _second(target, configuration, path, other)
            after = _seen(target, first, path)
        # The rows of a newly created store have none of the other's data.
        return begun == ({}, {}) and made == before == after and not held_open(home)
    except (Exception, TookTooLongError):  # noqa: BLE001 - any error shows that they share state, such as a lock
        return False


def _second(
    target: Target, configuration: Configuration, path: Path, other: Path
) -> tuple[tuple[View, View], tuple[View, View]]:
    """What a second store at the path sees when it has been created, and after the beat."""
    with in_the_place_of(path, other), another_process(), _open(target, configuration, path) as second:
        begun = _seen(target, second, path)
        second.call(target.heartbeat())
        return begun, _seen(target, second, path)


@contextlib.contextmanager
def _open(target: Target, configuration: Configuration, path: Path) -> Iterator[Session]:
    session = target.open(path, configuration, environment_of(target))
    try:
        yield session
    finally:
        session.close()


def _seen(target: Target, session: Session, path: Path) -> tuple[View, View]:
    """The view of a session, and that of a reader of the files."""
    if target.files_view is not None:
        return dict(session.live_view()), dict(target.files_view(path))
    view = dict(session.live_view())
    if not target.database(path).exists():
        return view, {}
    with contextlib.closing(faults.connect_unwatched(target.database(path))) as connection:
        return view, dict(target.fresh_view(connection))
