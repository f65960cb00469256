"""Known bugs: builds of the ledger with one real defect put back, which the harness must catch.

One file a build. Each says where the defect was reported, what a user saw, the check that has to catch it, the ways of
search that reach it and a budget of work. ``bug:NAME`` is its name as a target.
"""

import contextlib
import importlib
import pkgutil
from functools import cache

from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.names import UnknownTargetError


@cache
def all_bugs() -> dict[str, KnownBug]:
    """Every known bug by name, the canary first."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        bug = getattr(importlib.import_module(f"{__name__}.{module.name}"), "BUG", None)
        if isinstance(bug, KnownBug):
            found[bug.name] = bug
    return dict(sorted(found.items(), key=lambda item: (item[0] != "canary", item[0])))


def find_bug(name: str) -> KnownBug:
    """The known bug of that name; raises `UnknownTargetError` naming all."""
    # A bug has the name of its module; to import one is enough then.
    with contextlib.suppress(ModuleNotFoundError):
        bug = getattr(importlib.import_module(f"{__name__}.{name.replace('-', '_')}"), "BUG", None)
        if isinstance(bug, KnownBug) and bug.name == name:
            return bug
    bugs = all_bugs()
    if name not in bugs:
        raise UnknownTargetError(f"unknown bug {name!r}; known: {', '.join(bugs)}")
    return bugs[name]
