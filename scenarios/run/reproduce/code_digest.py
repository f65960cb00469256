"""A digest of the code of a finding, to detect on replay whether any of it has changed.

It holds a digest of the file of each loaded Python module that belongs neither to Python nor to this harness (and of
SQL files beside it), and the version of each installed package. For a target that ships, its modules count, too. Of a
program in any language it holds its files (`program_digest`). That is more than the store uses, on purpose: no possible
fix must be missed, so that "unchanged" is always true.

Not covered: files other than modules and SQL, and the effect of environment variables.
"""

import hashlib
import importlib.metadata
import shlex
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from tornpage.scenarios.model.target import Target
from tornpage.scenarios.run.reproduce.program_digest import files_of
from tornpage.scenarios.targets.names import COMMAND_PREFIX, is_imported

_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})
_HARNESS: Final = "tornpage"
_UNDER_TEST: Final = ("tornpage.ledger", "tornpage.scenarios.targets")
_DIGITS: Final = 16


def code_of(target: Target) -> dict[str, str]:
    """Digest or version of each part of the code that is loaded, by its name."""
    if target.name.startswith(COMMAND_PREFIX):
        return files_of(tuple(shlex.split(target.name.removeprefix(COMMAND_PREFIX))))
    return dict(sorted(_parts(ships=not is_imported(target.name))))


def is_unchanged(recorded: Mapping[str, str], target: Target) -> bool:
    """Whether all recorded code is loaded now and unchanged; False if nothing was recorded."""
    now = code_of(target)
    return bool(recorded) and all(now.get(name, _version(name)) == digest for name, digest in recorded.items())


def _parts(*, ships: bool) -> Iterator[tuple[str, str]]:
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        top = name.partition(".")[0]
        if not file or top in sys.stdlib_module_names or top.startswith("__"):
            continue
        if top == _HARNESS:
            if ships and name.startswith(_UNDER_TEST):
                yield name, _digest(Path(file))
        elif _INSTALLED.isdisjoint(Path(file).parts):
            yield name, _digest(Path(file))
        else:
            for distribution in _distributions().get(top, ()):
                yield f"{distribution}==", _version(f"{distribution}==")


def _digest(file: Path) -> str:
    made = hashlib.sha256()
    for one in (file, *sorted(file.parent.glob("*.sql"))):
        try:
            made.update(one.read_bytes())
        except OSError:
            # A module may come from an archive.
            continue
    return made.hexdigest()[:_DIGITS]


@cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


@cache
def _version(name: str) -> str:
    """The version of the installed package of this name; "" for none."""
    try:
        return importlib.metadata.version(name.removesuffix("=="))
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return ""
