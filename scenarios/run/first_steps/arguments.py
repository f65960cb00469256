"""Plain arguments for a signature: how to create a store, and how to call its methods."""

import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any, Final

from tornpage.scenarios.model.target import TargetError

_PATHS: Final = ("path", "file", "filename", "db", "database", "uri", "url", "dsn", "dir", "directory", "folder")
# Values for a parameter of that type; without a type it may be text or a number.
_EITHER: Final = ("alpha", 1)
_BY_TYPE: Final[dict[str, tuple[Any, ...]]] = {
    "int": (1,), "float": (1.5,), "bool": (True,), "str": ("alpha",), "dict": ({"one": 1},), "Mapping": ({"one": 1},),
    "list": (["one"],), "Sequence": (["one"],), "Any": _EITHER, "object": _EITHER, "_empty": _EITHER, "": _EITHER,
}  # fmt: skip

_MOST_TRIES: Final = 8


class NotLearned(TargetError):  # noqa: N818 - an answer, not an error
    """Nothing can be proposed, and why."""


def ways_to_make(store: Callable[..., Any]) -> list[str]:
    """Expressions that may create it, the likeliest first; raises `NotLearned`."""
    try:
        parameters = list(inspect.signature(store).parameters.values())
    except (TypeError, ValueError) as error:
        raise NotLearned(f"its signature can't be read: {error}") from error
    plain = [
        one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.POSITIONAL_ONLY, one.KEYWORD_ONLY)
    ]
    place = next((one for one in plain if _is_path(one.name)), None) or next(iter(plain), None)
    if place is None:
        raise NotLearned("it takes no arguments, and so no path: give it a path, or name a function that does")
    others = []
    for one in plain:
        if one is not place and one.default is one.empty:
            sample = next(iter(_samples(one)), None)
            if sample is None:
                raise NotLearned(f"it needs {one.name!r}, whose value is unknown: name a function instead")
            others.append(f"{one.name}={sample!r}")
    values = ["path", "str(path)", "path.parent", "environment.connect(path)"]
    if place.name in ("conn", "connection", "con") or "Connection" in str(place.annotation):
        values.reverse()
    if place.name in ("url", "uri", "dsn"):
        values.insert(0, "f'sqlite:///{path}'")
    first = "" if place is plain[0] and place.kind is not place.KEYWORD_ONLY else f"{place.name}="
    name = getattr(store, "__name__", "Store")
    return [f"{name}({', '.join([first + value, *others])})" for value in values]


def _is_path(name: str) -> bool:
    return any(part in _PATHS for part in name.lower().split("_"))


def _samples(parameter: inspect.Parameter) -> Iterator[Any]:
    """Plain values for a parameter, the likeliest first; none if it needs an object."""
    wanted = (
        parameter.annotation if isinstance(parameter.annotation, str) else getattr(parameter.annotation, "__name__", "")
    )
    wanted = str(wanted).split("[")[0].split("|")[0].strip()
    yield from _BY_TYPE.get(wanted, ())


def needed(method: Any) -> list[inspect.Parameter]:
    """The parameters without a default, but for ``self``."""
    return [
        one
        for one in inspect.signature(method).parameters.values()
        if one.default is one.empty and one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY) and one.name != "self"
    ]


def arguments(method: Any) -> Iterator[dict[str, Any]]:
    """Keyword arguments to try, simpler ones first; none if it needs an object."""
    required = needed(method)
    samples = [list(_samples(one)) for one in required]
    if not all(samples):
        return
    for values in itertools.islice(itertools.product(*samples), _MOST_TRIES):
        # Different texts for different parameters: a value must not equal its key.
        texts = iter(("alpha", *("one" for _ in values)))
        yield {
            parameter.name: next(texts) if value == "alpha" else value
            for parameter, value in zip(required, values, strict=True)
        }
