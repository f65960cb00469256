"""How much is searched: the profiles of ``tornpage check``."""

from collections.abc import Mapping
from typing import Final

import msgspec


class Profile(msgspec.Struct, frozen=True):
    """The size of a run.

    `configurations`: how many of the target's, in its own order (None: all). `points_per_call`: the most fault points
    of one call and configuration, sampled by the seed beyond that (None: all). `stories`, `steps`: for the machine.
    """

    name: str
    configurations: int | None
    points_per_call: int | None
    stories: int
    steps: int


PROFILES: Final[Mapping[str, Profile]] = {
    profile.name: profile
    for profile in (
        Profile("quick", configurations=3, points_per_call=60, stories=200, steps=20),
        Profile("ci", configurations=None, points_per_call=100, stories=1_200, steps=30),
        Profile("nightly", configurations=None, points_per_call=None, stories=1_000_000, steps=50),
    )
}
