"""What code a finding was made with: enough of it to know, when it is played again, that nothing of it has changed.

Of each Python module that is loaded, and is neither Python's nor this harness's own, a digest of its file (and of SQL
beside it); of what is installed, its version. For a target that ships, the modules that it is made of count, too. That
is more than the store uses, on purpose: what may have fixed it must not be overlooked, so that "unchanged" is true
wherever it is said.

Not covered: programs of other languages, files other than modules and SQL, and what an environment variable changes.
"""

import hashlib
import importlib.metadata
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from tornpage.scenarios.model.target import Target
from tornpage.scenarios.targets.names import COMMAND_PREFIX, is_imported

_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})
_HARNESS: Final = "tornpage"
_UNDER_TEST: Final = ("tornpage.ledger", "tornpage.scenarios.targets")
_DIGITS: Final = 16


def code_of(target: Target) -> dict[str, str]:
    """Digest or version of each part of the code that is loaded, by its name; empty for a program."""
    if target.name.startswith(COMMAND_PREFIX):
        return {}
    return dict(sorted(_parts(ships=not is_imported(target.name))))


def is_unchanged(recorded: Mapping[str, str], target: Target) -> bool:
    """Whether all of the code that was recorded is loaded now and is what it was; False where nothing was recorded."""
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
            # A module may come out of an archive.
            continue
    return made.hexdigest()[:_DIGITS]


@cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


@cache
def _version(name: str) -> str:
    """The version of what is installed under this name; "" where nothing is."""
    try:
        return importlib.metadata.version(name.removesuffix("=="))
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return ""
