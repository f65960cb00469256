"""The files of a finding, for inspection with any tool: before the failing step, and after it.

The scenario is replayed to get them. They are stored compressed in the replay file if they are small.
"""

import contextlib
import os
import zlib
from pathlib import Path, PurePath
from typing import Final

import msgspec

from tornpage.faults.files.links import is_link, path_of_link, target_at
from tornpage.scenarios.execution.executor import Executor
from tornpage.scenarios.execution.injection import prepared
from tornpage.scenarios.execution.kill.executor import kills
from tornpage.scenarios.execution.snapshots import Files
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import CrashAt, Damage, Scenario
from tornpage.scenarios.model.target import Target

LARGEST_BYTES: Final = 131_072
_LARGEST_UNPACKED_BYTES: Final = 16_777_216
_MOST_FILES: Final = 1_000


class ArtifactError(ValueError):
    """Files that can't be written, or are invalid: the error."""


class Artifact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Each file by its relative name, compressed by zlib: before the step that violates a check, and after it."""

    before: dict[str, bytes] = {}
    after: dict[str, bytes] = {}

    def __bool__(self) -> bool:
        return bool(self.before or self.after)


def artifact_of(scenario: Scenario, target: Target, directory: Path) -> Artifact:
    """The files of a scenario that fails; none if it does not, kills its process, or leaves too much."""
    if kills(scenario):
        return Artifact()
    record = any(isinstance(step, CrashAt | Damage) for step in scenario.steps)
    before: Files = {}
    with prepared(scenario.steps), Executor(target, scenario.configuration, directory, record=record) as executor:
        try:
            for step in (*scenario.steps, None):
                before = executor.real.crash_copy()
                if step is None:
                    executor.end()
                else:
                    executor.do(step)
        except Violation:
            after = executor.real.crash_copy()
            with contextlib.suppress(Violation):
                executor.close()
            return _small_enough(before, after)
    return Artifact()


def _small_enough(before: Files, after: Files) -> Artifact:
    """The packed files; none if they are larger than a replay file should carry."""
    unpacked = sum(map(len, (*before.values(), *after.values())))
    if unpacked > _LARGEST_UNPACKED_BYTES or len(before) + len(after) > _MOST_FILES:
        return Artifact()
    packed = Artifact(_packed(before), _packed(after))
    total = sum(map(len, (*packed.before.values(), *packed.after.values())))
    return packed if total <= LARGEST_BYTES else Artifact()


def put_down(artifact: Artifact, directory: Path) -> list[Path]:
    """Write the files into ``before`` and ``after`` of a directory without them; raises `ArtifactError`, OSError."""
    if not artifact:
        raise ArtifactError("the replay file has no database files: they were too large, or a process was killed")
    if (many := len(artifact.before) + len(artifact.after)) > _MOST_FILES:
        raise ArtifactError(f"the replay file has {many:,} database files; at most {_MOST_FILES:,} are put down")
    for name in (*artifact.before, *artifact.after):
        # Before anything is written: a name that is none must not leave half of the others behind.
        _sound(path_of_link(name))
    left = _LARGEST_UNPACKED_BYTES
    written = []
    for side, files in (("before", artifact.before), ("after", artifact.after)):
        if (directory / side).exists():
            raise ArtifactError(f"{directory / side} is here already; move it away first, nothing was overwritten")
        (directory / side).mkdir(parents=True)
        # Links last: no file is written through one.
        for name, packed in sorted(files.items(), key=lambda one: is_link(one[0])):
            content = _unpacked(name, packed, left)
            left -= len(content)
            path = directory / side / _sound(path_of_link(name))
            if name.endswith(os.sep):
                path.mkdir(parents=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if is_link(name):
                path.symlink_to(os.fsdecode(target_at(os.fspath(directory / side), content)))
            else:
                path.write_bytes(content)
            written.append(path)
    return written


def _packed(files: Files) -> dict[str, bytes]:
    return {name: zlib.compress(content, 9) for name, content in files.items()}


def _unpacked(name: str, packed: bytes, most: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(packed, max(most, 1))
    except zlib.error as error:
        raise ArtifactError(f"{name} can't be unpacked: {error}") from error
    if not unpacker.eof:
        raise ArtifactError(f"{name} is cut short, or the files are larger than {_LARGEST_UNPACKED_BYTES:,} bytes")
    return content


def _sound(name: str) -> PurePath:
    path = PurePath(name)
    if path.is_absolute() or ".." in path.parts or not path.name or not name.isprintable():
        raise ArtifactError(f"{name!r} is not the name of a file in the store's directory")
    return path
