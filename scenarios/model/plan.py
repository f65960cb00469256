"""How much is searched: the profiles of ``tornpage check``, and the plan of one run."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from tornpage.faults import Device, FaultPlan
from tornpage.scenarios.model.scenario import Callers
from tornpage.scenarios.model.target import Configuration
from tornpage.scenarios.model.work import Shard


class Profile(msgspec.Struct, frozen=True):
    """The size of a run.

    `configurations`: how many of the target's, in its own order (None: all). `points_per_call`: the most fault points
    of one call and configuration, sampled by the seed beyond that (None: all); with `every_operation` each operation of
    each call fails at least once, whatever the number. `scenarios`, `steps`: for the machine;
    `scenarios_a_batch` share a seed, and a campaign that was stopped goes on with the next batch.
    `crash_states`: the most crash states of one call and configuration. `kills`: processes to kill. `rival_points`,
    `limit_points`: the most points of one call and configuration at which a rival holds a lock, or a limit is met.
    `schedules`: the most schedules of two callers in one configuration, per kind of callers (None: all).
    `shrinks`: whether Hypothesis, too, makes a failing scenario simpler; that is most of the time that a finding takes.
    """

    name: str
    configurations: int | None
    points_per_call: int | None
    scenarios: int
    steps: int
    crash_states: int | None = None
    kills: int = 0
    rival_points: int | None = None
    limit_points: int | None = None
    scenarios_a_batch: int = 20
    shrinks: bool = True
    schedules: int | None = None
    every_operation: bool = False


PROFILES: Final[Mapping[str, Profile]] = {
    profile.name: profile
    for profile in (
        Profile(
            "quick",
            3,
            40,
            scenarios=200,
            steps=20,
            crash_states=60,
            kills=20,
            rival_points=10,
            limit_points=10,
            shrinks=False,
            schedules=120,
            every_operation=True,
        ),
        Profile(
            "ci",
            None,
            100,
            scenarios=1_200,
            steps=30,
            crash_states=200,
            kills=100,
            rival_points=40,
            limit_points=40,
            shrinks=False,
            schedules=480,
            every_operation=True,
        ),
        Profile("nightly", None, None, scenarios=1_000_000, steps=50, kills=2_000),
    )
}


class Plan(msgspec.Struct, frozen=True):
    """What a campaign does: which searches, how much, from which seed, how long.

    `report` is where its replay files go; None: nowhere.
    """

    searches: tuple[str, ...]
    profile: Profile
    seed: int = 0
    max_time_s: float | None = None
    report: Path | None = Path(".tornpage")
    configurations: tuple[Configuration, ...] | None = None
    # Of the target's machines, by name; none named: all of them in turn.
    machines: tuple[str, ...] = ()
    # Where the machine keeps how far it has come, and whether it goes on from there; None: nowhere.
    progress: Path | None = None
    # How many processes do the work.
    jobs: int = 1
    # Where a cluster of dask.distributed is reached, "local" for one of our own; None: there is none.
    cluster: str | None = None
    # Which share of the work is done here; None: all of it.
    shard: Shard | None = None
    goes_on: bool = False
    # Where Hypothesis keeps failing examples for the next run: a directory, or a Redis URL; None: nowhere.
    examples: str | None = None
    depths: tuple[str, ...] | None = None
    most_findings: int = 25
    # One fault plan for every call, in the place of all that there are.
    by_hand: FaultPlan | None = None
    # How long a call may take before it is stopped.
    call_timeout_s: float = 10.0
    # Whether the contract of view, rows and beat is tried before any search.
    rehearses: bool = True
    # Below which directory the stores under test are kept; None: where this system has room for them.
    scratch: Path | None = None
    # Who the two callers are, where that is not left to the target; and how often a schedule switches before an end.
    callers: tuple[Callers, ...] | None = None
    preemptions: int = 2
    # What the disk promises when its power fails.
    device: Device = Device()
    # Whether crash also tries what a disk may give back of files at rest.
    latent: bool = False


# All of an address up to the last @ before its path: a password may hold one, too.
_PASSWORD: Final = re.compile(r"(\w+://)[^\s/]*@")


def without_password(text: str) -> str:
    """A text in which whatever stands before the host of an address is hidden."""
    return _PASSWORD.sub(r"\1***@", text)
