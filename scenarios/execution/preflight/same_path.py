"""Whether two stores of one target, open in one process at one path, know nothing of each other.

The harness opens a second store where a first one is open: the shadow at the path of the session under fault, a copy of
the files at the path where they were written (`in_place`). A program whose stores share something by their path, an
engine for each URL or a connection for each file, would be handed the first store's connection there, and with it the
other one's files. In two processes, which is what the harness means, they would share nothing. So such stores are
recognised, and each of theirs works at a path of its own.

Method, without any fault: while a first store is open, a second one is made at the same path in an empty directory that
is put there; the beat is made on both. Where either sees or changes anything of the other, they are joined.

Not covered: a joined store that also writes down its path: what it finds there in a copy is another directory's.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tornpage import faults
from tornpage.scenarios.execution.in_place import another_process, in_the_place_of
from tornpage.scenarios.execution.snapshots import held_open, place
from tornpage.scenarios.model.target import Configuration, Session, Target, View, environment_of
from tornpage.scenarios.targets.process import ProcessTarget

# What was tried in this process already.
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
        with _open(target, configuration, path) as first:
            first.call(target.heartbeat())
            before = _seen(target, first, path)
            with in_the_place_of(path, other), another_process(), _open(target, configuration, path) as second:
                begun = _seen(target, second, path)
                second.call(target.heartbeat())
                made = _seen(target, second, path)
            after = _seen(target, first, path)
        # The rows of a store that was just made have none of what the other one has written.
        return begun == ({}, {}) and made == before == after and not held_open(home)
    except Exception:  # noqa: BLE001 - whatever it is, they were in each other's way
        return False


@contextlib.contextmanager
def _open(target: Target, configuration: Configuration, path: Path) -> Iterator[Session]:
    session = target.open(path, configuration, environment_of(target))
    try:
        yield session
    finally:
        session.close()


def _seen(target: Target, session: Session, path: Path) -> tuple[View, View]:
    """What a session answers, and what a reader of the files sees."""
    if target.files_view is not None:
        return dict(session.live_view()), dict(target.files_view(path))
    view = dict(session.live_view())
    if not target.database(path).exists():
        return view, {}
    with contextlib.closing(faults.connect_unwatched(target.database(path))) as connection:
        return view, dict(target.fresh_view(connection))
