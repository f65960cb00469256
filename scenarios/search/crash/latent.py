"""Which latent faults are tried: of each call's end a sample of the pages of all files, each way as often."""

import random
from collections.abc import Iterator, Mapping
from typing import Final

from tornpage.faults.files.links import is_link
from tornpage.scenarios.execution.crash.latent import PAGE
from tornpage.scenarios.execution.crash.recording import Recording
from tornpage.scenarios.execution.session_in_use import CLOSE, OPEN
from tornpage.scenarios.model.scenario import Damage

# A store that makes more reads than that to open and to return its view is not tried at each read.
_MOST_READS: Final = 40
WAYS: Final = ("unreadable", "bad-page", "flipped", "old")


def latent_faults(recording: Recording, generator: random.Random) -> list[tuple[int, Damage]]:
    """The faults of the files that each call, or start, has left, each with the number of its step."""
    states = recording.states()
    database = recording.trial.target.database(recording.trial.directory)
    found, before = [], dict(recording.base)
    for span in recording.history.spans:
        if span.call not in (OPEN.name, CLOSE.name):
            before = dict(states.process(span.begin).files)
        if span.call != CLOSE.name:
            files = dict(states.process(span.end).files)
            found += [(span.step, one) for one in _faults_of(files, before, database.name, generator)]
    return found


def _faults_of(
    files: Mapping[str, bytes], before: Mapping[str, bytes], database: str, generator: random.Random
) -> Iterator[Damage]:
    readable = {database, f"{database}-wal", f"{database}-journal"} if database in files else set()
    if readable:
        yield Damage("unreadable", database, 1)
    for name, content in files.items():
        for at in range(0, 0 if is_link(name) else len(content), PAGE):
            page = content[at : at + PAGE]
            if name in readable:
                yield Damage("bad-page", name, at)
            yield Damage("flipped", name, 8 * at + generator.randrange(8 * len(page)))
            if before.get(name, b"")[at : at + PAGE] not in (b"", page):
                yield Damage("old", name, at)


def from_here_on(damage: Damage) -> Iterator[Damage]:
    """The damage; for reads that fail from one on, also the later starting points."""
    yield damage
    if damage.way == "unreadable":
        yield from (Damage(damage.way, damage.file, number) for number in range(damage.at + 1, _MOST_READS + 1))
