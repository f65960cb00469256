"""The replay file: one finding as data, and its verdict on replay.

The file is JSON with a schema and a version. It is never executed: it names a target that ships (or one that the
command line names), and its steps are parsed strictly. Size, number of steps and number of faults are limited before
anything is played. It does not depend on the version of Hypothesis.
"""

import contextlib
import hashlib
import platform
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from tornpage import faults
from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.execution.finding.shrink import Play
from tornpage.scenarios.execution.kill.executor import kills, play_killed
from tornpage.scenarios.execution.kill.supervisor import Supervisor
from tornpage.scenarios.execution.session_in_use import OPEN
from tornpage.scenarios.model.as_json import for_a_file
from tornpage.scenarios.model.events import Finding
from tornpage.scenarios.model.scenario import Arm, Call, Clear, Interleave, Restart, Scenario, Step
from tornpage.scenarios.model.target import JOURNAL_MODES, SYNCHRONOUS_LEVELS, Action, Target
from tornpage.scenarios.run.reproduce.artifacts import Artifact
from tornpage.scenarios.run.reproduce.code_digest import is_unchanged
from tornpage.scenarios.run.whole_file import write_whole

FORMAT: Final = "tornpage-replay"
VERSION: Final = 2
LARGEST_FILE_BYTES: Final = 1_048_576
_MOST_STEPS: Final = 10_000
_MOST_FAULTS: Final = 100
_MOST_LIVES: Final = 1_000
_RUNS: Final = 3
NOTHING: Final = "nothing violated"
"""How the line of a run begins that has violated no check."""


class ReplayFileError(ValueError):
    """An unusable replay file: the error, and what to do."""


class Origin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The environment of a finding: to find out why it doesn't reproduce elsewhere."""

    python: str
    sqlite: str
    compile_options: tuple[str, ...]
    system: str


class Reproducer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The contents of a replay file."""

    format: str = FORMAT
    version: int = VERSION
    check: str
    message: str
    search: str
    seed: int
    scenario: Scenario
    sides: dict[str, Any] = {}
    files: Artifact = Artifact()
    origin: Origin
    # Whether a replay of the scenario after the finding showed it again.
    shows_again: bool = True
    # The code of the finding, from `run.reproduce.code_digest`; {}: unknown.
    code: dict[str, str] = {}


class Verdict(StrEnum):
    """The result of a replay."""

    FIXED = "FIXED"
    FAILED = "FAILED"
    FLAKY = "FLAKY"
    NOT_REPRODUCED = "NOT REPRODUCED"
    ERROR = "ERROR"


def origin() -> Origin:
    """This machine's."""
    connection = sqlite3.connect(":memory:")
    options = tuple(str(row[0]) for row in connection.execute("PRAGMA compile_options"))
    connection.close()
    return Origin(platform.python_version(), sqlite3.sqlite_version, options, platform.platform())


def write(
    finding: Finding,
    directory: Path,
    seed: int,
    files: Artifact = Artifact(),  # noqa: B008 - frozen
    code: Mapping[str, str] | None = None,
) -> Path:
    """Write the replay file of a finding; its name has the target and the check. Returns its path."""
    reproducer = Reproducer(
        check=finding.code,
        message=finding.message,
        search=finding.search,
        seed=seed,
        scenario=finding.scenario,
        sides=finding.sides,
        files=files,
        origin=origin(),
        shows_again=finding.shows_again,
        code=dict(code or {}),
    )
    content = msgspec.json.encode(reproducer, enc_hook=for_a_file)
    if len(content) > LARGEST_FILE_BYTES // 2:
        # The views are for people only; a file that can't be read back would be useless.
        content = msgspec.json.encode(msgspec.structs.replace(reproducer, sides={}), enc_hook=for_a_file)
    digest = hashlib.sha256(msgspec.json.encode(finding.scenario, enc_hook=for_a_file)).hexdigest()[:8]
    name = re.sub(r"[^\w-]+", "-", finding.scenario.target.removeprefix("bug:")).strip("-")
    path = directory / f"{name}-{finding.code}-{digest}.json"
    write_whole(path, msgspec.json.format(content, indent=2) + b"\n")
    return path


def read(path: Path) -> Reproducer:
    """Read a replay file; raises `ReplayFileError` with the reason and what to do."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise ReplayFileError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > LARGEST_FILE_BYTES:
        raise ReplayFileError(f"{path} is larger than {LARGEST_FILE_BYTES} bytes; no replay file is")
    _require_version(path, content)
    try:
        reproducer = msgspec.convert(_with_present_names(msgspec.json.decode(content)), type=Reproducer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ReplayFileError(f"{path} is not a replay file of version {VERSION}: {error}") from error
    _require_sound(path, reproducer.scenario)
    return reproducer


def _with_present_names(data: Any) -> Any:
    """Version 1 called the scenario a story; all else is the same in both."""
    if isinstance(data, dict) and data.get("version") == 1 and "story" in data:
        return {"scenario" if name == "story" else name: value for name, value in data.items()}
    return data


class _Head(msgspec.Struct):
    """The fields of any version that identify the version."""

    format: str = ""
    version: int = 0


def _require_version(path: Path, content: bytes) -> None:
    try:
        head = msgspec.json.decode(content, type=_Head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ReplayFileError(f"{path} is not a replay file, or only a part of one: {error}") from error
    if head.format != FORMAT:
        raise ReplayFileError(f"{path} is JSON, but not a replay file: its format is {head.format!r}, not {FORMAT!r}")
    if head.version > VERSION:
        raise ReplayFileError(
            f"{path} was written by a newer tornpage (version {head.version} of the format; this one reads {VERSION}): "
            "upgrade"
        )


def _require_sound(path: Path, scenario: Scenario) -> None:
    configuration = scenario.configuration
    if configuration.journal_mode not in JOURNAL_MODES or configuration.synchronous not in SYNCHRONOUS_LEVELS:
        raise ReplayFileError(f"{path} has the unknown configuration {configuration}")
    if len(scenario.steps) > _MOST_STEPS:
        raise ReplayFileError(f"{path} has {len(scenario.steps)} steps; at most {_MOST_STEPS} are played")
    for step in scenario.steps:
        if isinstance(step, Arm):
            _require_sound_plan(path, step.plan)
        if isinstance(step, Interleave) and step.killed and not (step.back and step.callers == "processes"):
            raise ReplayFileError(f"{path} kills a caller that has no process of its own, or at no switch point")
        if (
            isinstance(step, Interleave)
            and OPEN in step.actions
            and (step.callers != "processes" or step.earlier == OPEN)
        ):
            raise ReplayFileError(f"{path} lets a caller open the store that has no process of its own, or has it open")
    _require_sound_kills(path, scenario)


def require_calls_of(target: Target, scenario: Scenario) -> None:
    """Raise `ReplayFileError` for a call that is no action: most targets look a method up by that name.

    A name that the target itself gives a call is one, such as `__setitem__`, or `add-item` of a program.
    """
    own = {action.name for action in (*target.workload(), target.heartbeat())}
    for step in scenario.steps:
        for action in _actions_of(step):
            if action.name not in own and not all(_is_public(part) for part in action.name.split(".")):
                raise ReplayFileError(f"{action.name!r} is not the name of an action of {target.name}")


def _actions_of(step: Step) -> tuple[Action, ...]:
    if isinstance(step, Interleave):
        return step.actions
    return (step.action,) if isinstance(step, Call) else ()


def _is_public(name: str) -> bool:
    # Some targets look methods up by name; a private one is never an action.
    return name.isidentifier() and not name.startswith("_")


def _require_sound_plan(path: Path, text: str) -> None:
    try:
        plan = faults.FaultPlan.parse(text)
        faults.require_possible(plan)
    except faults.FaultError as error:
        raise ReplayFileError(f"{path}: {error}") from error
    if len(plan.faults) > _MOST_FAULTS:
        raise ReplayFileError(f"{path} arms {len(plan.faults)} faults at once; at most {_MOST_FAULTS} are")


def _require_sound_kills(path: Path, scenario: Scenario) -> None:
    """Require that a scenario that kills has no other faults: child processes can't play them."""
    if not kills(scenario):
        return
    for step in scenario.steps:
        if isinstance(step, Call | Clear | Restart):
            continue
        plan = faults.FaultPlan.parse(step.plan) if isinstance(step, Arm) else None
        if plan is None or any(fault.effect != faults.KILL for fault in plan.faults):
            raise ReplayFileError(f"{path}: beside {step} a KILL would kill this process; such a scenario only kills")
    lives = sum(isinstance(step, Restart) for step in scenario.steps)
    if lives > _MOST_LIVES:
        raise ReplayFileError(f"{path} starts {lives} processes; at most {_MOST_LIVES} are")


def replay(reproducer: Reproducer, target: Target, directory: Path) -> tuple[Verdict, list[str]]:
    """Play the scenario three times. FIXED: no violation; FAILED: each time the same check; else FLAKY.

    NOT REPRODUCED: no violation, but the scenario never showed the finding, or no longer shows it although the target's
    code has not changed; so there is no verdict.

    A scenario that kills is played in child processes, which are killed.
    """
    require_calls_of(target, reproducer.scenario)
    with playing(reproducer.scenario, target, directory) as play:
        return _replay(reproducer, target, directory, play)


@contextlib.contextmanager
def playing(scenario: Scenario, target: Target, directory: Path) -> Iterator[Play]:
    """The player of a scenario: in this process, or in child processes if it kills."""
    if not kills(scenario):
        yield play
        return
    with Supervisor(target.name, directory / "jobs") as supervisor:
        yield partial(play_killed, supervisor=supervisor)


def _replay(reproducer: Reproducer, target: Target, directory: Path, play: Play) -> tuple[Verdict, list[str]]:
    outcomes: list[str] = []
    lines: list[str] = []
    for run in range(_RUNS):
        violation, counts = play(reproducer.scenario, target, directory / f"run-{run}")
        outcomes.append(violation.code if violation else "")
        fired = f"{counts['fired']} of {counts['armed']} faults fired"
        lines.append(str(violation) if violation else f"{NOTHING} ({fired})")
    if not any(outcomes):
        is_same = target.name == reproducer.scenario.target and is_unchanged(reproducer.code, target)
        return (Verdict.NOT_REPRODUCED if is_same or not reproducer.shows_again else Verdict.FIXED), lines
    return (Verdict.FAILED if len(set(outcomes)) == 1 else Verdict.FLAKY), lines
