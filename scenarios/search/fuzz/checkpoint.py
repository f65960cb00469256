"""The progress of a fuzz, in a small file: a stopped campaign continues with the next batch.

Each batch of scenarios has its own seed, derived from the run's; so the file holds the number of finished batches,
their results, and their inputs. The same seed and range give the same scenarios and the same trace, stopped or not, as
long as target, Hypothesis and SQLite are the same.
"""

import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import Any, Final

import msgspec

from tornpage.scenarios.model.target import Configuration, TargetError

FORMAT: Final = "tornpage fuzz"
VERSION: Final = 1
_LARGEST_BYTES: Final = 64 * 1024 * 1024


class Range(msgspec.Struct, frozen=True):
    """The inputs of the scenarios: two runs with an equal range draw the same ones."""

    target: str
    seed: int
    steps: int
    scenarios_a_batch: int
    machines: tuple[str, ...]
    configurations: tuple[Configuration, ...]
    shard: str = ""


class Checkpoint(msgspec.Struct):
    """The results of the first `batches` of a range.

    `totals`, and by machine `steps`, `rules` used and `acknowledged` calls, are counts; `cells` counts the answers of
    each machine by action, outcome and circumstance; `shapes` are the distinct kinds of states that were reached;
    `trace` is a digest of all steps, answers and states; `seconds` is the time taken.
    """

    range: Range
    batches: int = 0
    totals: dict[str, int] = {}
    steps: dict[str, int] = {}
    rules: dict[str, dict[str, int]] = {}
    acknowledged: dict[str, dict[str, int]] = {}
    cells: dict[str, dict[str, int]] = {}
    shapes: list[str] = []
    trace: str = ""
    seconds: float = 0.0
    format: str = FORMAT
    version: int = VERSION

    def add(
        self, machine: str, totals: Counter[str], rules: Counter[str], acknowledged: Counter[str], shapes: set[str]
    ) -> None:
        """Add the results of a batch, as far as it got."""
        self.totals = _added(self.totals, totals)
        self.steps[machine] = self.steps.get(machine, 0) + totals["steps"]
        self.rules[machine] = _added(self.rules.get(machine, {}), rules)
        self.acknowledged[machine] = _added(self.acknowledged.get(machine, {}), acknowledged)
        self.shapes = sorted({*self.shapes, *(hashlib.sha256(shape.encode()).hexdigest()[:12] for shape in shapes)})

    def take(self, batch: "Checkpoint") -> None:
        """Add the results of a batch that ran elsewhere; its trace is the digest of the batch alone."""
        self.totals = _added(self.totals, batch.totals)
        self.steps = _added(self.steps, batch.steps)
        for name in batch.rules:
            self.rules[name] = _added(self.rules.get(name, {}), batch.rules[name])
            self.acknowledged[name] = _added(self.acknowledged.get(name, {}), batch.acknowledged[name])
            self.cells[name] = _added(self.cells.get(name, {}), batch.cells.get(name, {}))
        self.shapes = sorted({*self.shapes, *batch.shapes})
        self.trace = hashlib.sha256(f"{self.trace}{batch.trace}".encode()).hexdigest()

    def write(self, path: Path) -> None:
        """Replace the file by this; a write that is cut short leaves the old one. Raises `TargetError`."""
        content = msgspec.json.encode(self)
        beside = path.with_name(path.name + ".new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError as error:
            raise TargetError(f"cannot write {path}, from which a campaign continues: {error.strerror}") from error

    @classmethod
    def read(cls, path: Path, wanted: Range) -> "Checkpoint":
        """The progress of the wanted range; empty without a file. Raises `TargetError`."""
        found = _decoded(path)
        if found is None:
            return cls(wanted)
        for name, value in msgspec.structs.asdict(found.range).items():
            asked = getattr(wanted, name)
            if value != asked:
                raise TargetError(
                    f"{path} is of a campaign with {name} {_shown(value)}, not {_shown(asked)}: "
                    "give the same to continue, or start again without --continue"
                )
        return found


def seed_in(path: Path) -> int | None:
    """The seed of the campaign of a file, None without a file. Raises `TargetError`."""
    found = _decoded(path)
    return found.range.seed if found is not None else None


def _decoded(path: Path) -> Checkpoint | None:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TargetError(f"cannot read {path}: {error.strerror}") from error
    try:
        found = msgspec.json.decode(content, type=Checkpoint)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TargetError(f"{path} has no valid progress of a campaign: {error}") from error
    if found.format != FORMAT or found.version > VERSION:
        raise TargetError(f"{path} is {found.format!r} of version {found.version}, not {FORMAT!r} of {VERSION}")
    return found


def _added(counts: dict[str, int], others: dict[str, int]) -> dict[str, int]:
    return dict(Counter(counts) + Counter(others))


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
