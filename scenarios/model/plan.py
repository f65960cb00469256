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
    of one call and configuration; above that the seed samples them (None: all). With `every_operation` each operation
    of each call fails at least once, whatever the number. `scenarios`, `steps`: the size of the fuzz;
    `scenarios_a_batch` share a seed, and a stopped campaign continues with the next batch. `crash_states`: the most
    crash states of one call and configuration. `kills`: processes to kill. `rival_points`, `limit_points`: the most
    points of one call and configuration at which a rival holds a lock, or a limit applies. `schedules`: the most
    schedules of two callers in one configuration, per kind of callers (None: all). `shrinks`: whether Hypothesis also
    shrinks a failing scenario, which takes most of the time of a finding. `shorter`: the most shorter scenarios, and
    crash states of these, that are tried for a finding (None: until no shorter one shows it).
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
    shorter: int | None = None


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
    """The plan of a campaign: which searches, how much, from which seed, for how long.

    `report` is the directory of its replay files; None: none are written.
    """

    searches: tuple[str, ...]
    profile: Profile
    seed: int = 0
    max_time_s: float | None = None
    report: Path | None = Path(".tornpage")
    configurations: tuple[Configuration, ...] | None = None
    # The target's machines to run, by name; empty: all of them in turn.
    machines: tuple[str, ...] = ()
    # The directory of the fuzz's progress, for a later run to continue from; None: not kept.
    progress: Path | None = None
    # The number of worker processes.
    jobs: int = 1
    # The address of a dask.distributed cluster, or "local" to start one; None: no cluster.
    cluster: str | None = None
    # The share of the work that this run does; None: all of it.
    shard: Shard | None = None
    goes_on: bool = False
    # The directory or Redis URL where Hypothesis keeps failing examples for the next run; None: not kept.
    examples: str | None = None
    depths: tuple[str, ...] | None = None
    most_findings: int = 25
    # One fault plan for every call, instead of all points.
    by_hand: FaultPlan | None = None
    # The time limit of one call.
    call_timeout_s: float = 10.0
    # Whether the contract of view, rows and beat is tried before any search.
    rehearses: bool = True
    # The directory for the stores under test; None: as `run.scratch` chooses it.
    scratch: Path | None = None
    # The kinds of two callers, None: as the target declares; and the most preemptions of a schedule.
    callers: tuple[Callers, ...] | None = None
    preemptions: int = 2
    # The guarantees of the disk on a power cut.
    device: Device = Device()
    # Whether the crash search also damages files at rest, as a failing disk does.
    latent: bool = False


# The part of an address up to the last @ before its path: a password may hold an @, too.
_PASSWORD: Final = re.compile(r"(\w+://)[^\s/]*@")


def without_password(text: str) -> str:
    """The text with the user and password of each address replaced by ***."""
    return _PASSWORD.sub(r"\1***@", text)
