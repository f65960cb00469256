"""Figures of the code's structure: files per room, layers, longest chain of imports, modules passed by one fault point.

``python -m benchmarks.structure`` prints the figures of this source tree. A chain of imports counts modules of the
package, each importing the next, without function-level imports and those for types; modules that import each other
count as one. One fault point of the sweep over the reference is traced: how often the running module changes, and over
how many files; calls inside the store itself are not traced.
"""

import ast
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, Final

from tornpage import faults
from tornpage.scenarios.execution.session_in_use import CLOSE, OPEN
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.search.sweep import Sweep
from tornpage.scenarios.targets.registry import find

_ROOT: Final = Path(__file__).resolve().parents[1]
_PACKAGES: Final = ("ledger", "faults", "scenarios")
_MOST_FILES: Final = 12


def files_per_room() -> dict[str, int]:
    """How many modules lie directly in each folder, without its ``__init__``."""
    rooms: Counter[str] = Counter()
    for package in _PACKAGES:
        for path in (_ROOT / package).rglob("*.py"):
            if path.name != "__init__.py":
                rooms[path.parent.relative_to(_ROOT).as_posix()] += 1
    return dict(sorted(rooms.items()))


def layers() -> list[str]:
    """The layers of the import contract inside the harness, from the top."""
    settings = tomllib.loads((_ROOT / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    found: list[str] = next(one["layers"] for one in contracts if one.get("containers"))
    return found


# -- imports -----------------------------------------------------------------------------------------------


def _modules() -> dict[str, Path]:
    found = {}
    for package in _PACKAGES:
        for path in (_ROOT / package).rglob("*.py"):
            parts = path.relative_to(_ROOT).with_suffix("").parts
            name = ".".join(("tornpage", *(parts[:-1] if parts[-1] == "__init__" else parts)))
            found[name] = path
    return found


def _imported(path: Path, known: dict[str, Path]) -> Iterator[str]:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield from (one for one in (inner if inner in known else node.module,) if one in known)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)


def longest_chain() -> list[str]:
    """The longest chain of modules that each import the next."""
    known = _modules()
    graph = {name: sorted(set(_imported(path, known)) - {name}) for name, path in known.items()}
    under_way: set[str] = set()

    @cache
    def below(name: str) -> tuple[str, ...]:
        under_way.add(name)
        chains = [below(one) for one in graph[name] if one not in under_way]
        under_way.discard(name)
        return (name, *max(chains, key=len, default=()))

    longest = max(map(below, graph), key=len)
    return list(longest)


# -- one fault point ---------------------------------------------------------------------------------------


class _Way:
    """Follows calls through the harness and the faults; beneath the store's own code it counts nothing."""

    def __init__(self) -> None:
        self.changes = 0
        self.files: Counter[str] = Counter()
        self._last = ""

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        """Count a call."""
        name = frame.f_code.co_filename
        if event != "call" or ("/scenarios/" not in name and "/faults/" not in name) or "/targets/" in name:
            return
        if name != self._last:
            self.changes += 1
            self.files[name] += 1
            self._last = name


def way_of_a_point() -> tuple[int, int]:
    """How often the module changes, and how many files are passed, in one point of a sweep."""
    way = _Way()
    with tempfile.TemporaryDirectory() as home, faults.install():
        sweep = Sweep(find("reference"), Recorder(), Path(home))
        configuration = sweep.configurations[0]
        start = next(one for one in sweep.starts(configuration) if one.action not in (OPEN, CLOSE))
        point = next(sweep.points_of(configuration, start))
        sweep.try_point(configuration, point)
        sys.setprofile(way)
        try:
            sweep.try_point(configuration, point)
        finally:
            sys.setprofile(None)
    return way.changes, len(way.files)


def main() -> None:
    """Print all of it."""
    rooms = files_per_room()
    for room, number in rooms.items():
        print(f"{number:4} modules in {room}")
    print(f"rooms with more than {_MOST_FILES} modules: {sum(number > _MOST_FILES for number in rooms.values())}")
    print(f"layers in the import contract of the harness: {len(layers())}")
    chain = longest_chain()
    print(f"longest chain of imports: {len(chain)} modules: {' > '.join(one.split('.')[-1] for one in chain)}")
    changes, files = way_of_a_point()
    print(f"one fault point of a sweep: {changes} changes of module over {files} files")


if __name__ == "__main__":
    main()
