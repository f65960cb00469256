"""The ways to make a store of a module's plain functions: which of them opens it, and which closes it.

A function opens the store if its name says so and the path is all that it needs; a variable whose name says that it is
the path of a database takes it, too.
"""

import inspect
from collections.abc import Iterator
from pathlib import PurePath
from types import FunctionType, ModuleType
from typing import Any, Final

from tornpage.scenarios.model.functions import PATHS, given, own_functions
from tornpage.scenarios.run.first_steps.arguments import needed
from tornpage.scenarios.run.first_steps.left_out import NotLearned

_OPENS: Final = frozenset(
    "open connect init initialize initialise setup start configure use load create get make".split()  # noqa: SIM905
)
_CLOSES: Final = frozenset("close shutdown disconnect teardown stop quit".split())  # noqa: SIM905


def ways_to_use(module: ModuleType) -> list[str]:
    """Expressions that make the store of its functions, the likeliest first; raises `NotLearned`."""
    own = own_functions(module)
    if not own:
        raise NotLearned(f"{module.__name__} defines no public function; name a class of it: {module.__name__}:Store")
    closing = next((f', closing="{name}"' for name, one in own if _ends(name, one)), "")
    return [
        f'functions("{module.__name__}", {path}{opened}{closing})'
        for opened in _opened(module, own)
        for path in ("path", "str(path)")
    ]


def _opened(module: ModuleType, own: list[tuple[str, FunctionType]]) -> Iterator[str]:
    places = [f', place="{name}"' for name, value in vars(module).items() if _is_place(name, value)]
    openings = [f', opening="{name}"' for name, one in own if _opens(name, one) and given(one, "path", None)]
    yield from places
    yield from openings
    yield ""


def _is_place(name: str, value: Any) -> bool:
    words = name.lower().split("_")
    return isinstance(value, (str, PurePath)) and not name.startswith("__") and any(word in PATHS for word in words)


def _opens(name: str, function: FunctionType) -> bool:
    is_generator = inspect.isgeneratorfunction(inspect.unwrap(function))
    return bool(_OPENS & {*name.lower().split("_")}) and len(needed(function)) == 1 and not is_generator


def _ends(name: str, function: FunctionType) -> bool:
    left = needed(function)[len(given(function, "path", "opened")) :]
    return bool(_CLOSES & {*name.lower().split("_")}) and not left
