"""The rehearsal: requirements on a program before any fault.

The same calls are made twice, in two directories, one after the other. They have to lead to the same view; the second
store must not touch the files of the first, and must have its database in its own directory; the beat has to add one
key. Any other failure without a fault is found by the search that follows.
"""

import tempfile
from pathlib import Path

from tornpage.scenarios.model.beats_key import own_keys
from tornpage.scenarios.model.judging.checks import describe, differences
from tornpage.scenarios.model.target import Configuration, Environment, Refused, TargetError, View
from tornpage.scenarios.targets.process.target import ProcessTarget


def rehearse(target: ProcessTarget, configuration: Configuration, home: Path) -> None:
    """Make the workload twice below `home`; raises `TargetError` with the error and the remedy."""
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home) as first, tempfile.TemporaryDirectory(dir=home) as second:
        once = _played(target, configuration, Path(first))
        left = _contents(Path(first))
        again = _played(target, configuration, Path(second))
        if changed := sorted(differences(left, _contents(Path(first))), key=lambda one: one.key):
            raise TargetError(
                f"{target.name} got a second directory, and changed {changed[0].key} in the first: "
                'use the "directory" of each "open", and forget the one before'
            )
        if not target.database(Path(second)).exists():
            raise TargetError(
                f"{target.name} has made its calls, and there is no {target.database(Path())} in the directory "
                'that it got: use the "directory" of each "open"'
            )
        if once != again:
            raise TargetError(
                f"{target.name}: the same calls lead to another state each time: "
                f"{describe(differences(once, again), 'the first run', 'the second')}; names have to come with the "
                'calls, and the time from "now_ms"'
            )


def _played(target: ProcessTarget, configuration: Configuration, directory: Path) -> View:
    """The view after the workload and the beat."""
    try:
        session = target.open(directory, configuration, Environment())
        try:
            for action in target.workload():
                try:
                    session.call(action)
                except Refused:
                    continue
            before = session.live_view()
            session.call(target.heartbeat())
            view = session.live_view()
        finally:
            session.close()
    except TargetError:
        raise
    except Exception as error:
        raise TargetError(f"{target.name} fails without any fault at {configuration}: {error}") from error
    before, after = (own_keys(one, target.beat_touches) for one in (before, view))
    if len(after) != len(before) + 1:
        raise TargetError(
            f'{target.name}: the "beat" {target.heartbeat()} has to add one key to the view, and changed the number of '
            f'keys from {len(before)} to {len(after)}; name the beginnings of others that it changes in "beat_touches"'
        )
    return view


def _contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
