"""Plain arguments for a signature: how to create a store, and how to call its methods."""

import enum
import inspect
import itertools
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from tornpage.scenarios.model.functions import PATHS
from tornpage.scenarios.run.first_steps.left_out import NotLearned
from tornpage.scenarios.run.first_steps.values import (
    BY_TYPE,
    another,
    distinct,
    is_importable,
    is_made,
    is_of_records,
    made,
    second_of,
)

# Those that may also name a connection.
_EITHER: Final = {"db", "database"}
# Class methods that may make a store.
_MAKERS: Final = ("open", "connect", "create", "from_path", "load", "new")
_MOST_TRIES: Final = 8
_LISTS: Final = (list, Sequence, Iterable, Collection)
# A number that creation takes by such a name is a bound: reached at the second call, it would remove or refuse what the
# first one added.
_BOUNDS: Final = frozenset(
    "max maximum maxsize limit size capacity entries items ttl seconds window timeout age expire expires expiry "  # noqa: SIM905
    "expiration lifetime duration".split()
)
_FAR: Final = 10_000


def ways_to_make(store: Callable[..., Any]) -> list[str]:
    """Expressions that may create it, the likeliest first; raises `NotLearned`."""
    name = getattr(store, "__name__", "Store")
    makers = [one for one in _MAKERS if isinstance(inspect.getattr_static(store, one, None), classmethod)]
    others = [way for one in makers for way in _ways(getattr(store, one), f"{name}.{one}")]
    if inspect.isgeneratorfunction(inspect.unwrap(store)):
        # A context manager, entered once, or for each call.
        return [f"entered({more}{way})" for more in ("", "lambda: ") for way in _ways(store, name)]
    return [*_ways(store, name), *others]


def _ways(store: Callable[..., Any], name: str) -> list[str]:
    try:
        parameters = _parameters(store)
    except (TypeError, ValueError) as error:
        raise NotLearned(f"its signature can't be read: {error}") from error
    plain = [
        one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.POSITIONAL_ONLY, one.KEYWORD_ONLY)
    ]
    place = next((one for one in plain if _is_path(one.name)), None) or next(iter(plain), None)
    if place is None:
        raise NotLearned("it takes no arguments, and so no path: give it a path, or name a function that does")
    others = [f"{one.name}={_to_make(one)!r}" for one in plain if one is not place and one.default is one.empty]
    values = ["path", "str(path)", "path.parent", *(["environment.connect(path)"] if _may_connect(place) else [])]
    if place.name in ("conn", "connection", "con") or "Connection" in str(place.annotation):
        values.reverse()
    if place.name in ("url", "uri", "dsn"):
        values.insert(0, "f'sqlite:///{path}'")
    first = "" if place is plain[0] and place.kind is not place.KEYWORD_ONLY else f"{place.name}="
    return [f"{name}({', '.join([first + value, *others])})" for value in values]


def bounds_in(expression: str) -> list[str]:
    """The bounds that such an expression sets out of reach."""
    return re.findall(rf"\b(\w+)={_FAR}\b", expression)


def _to_make(parameter: inspect.Parameter) -> Any:
    """A value to create the store with; raises `NotLearned`."""
    samples = [one for one in _samples(parameter) if isinstance(one, (str, int, float, bytes, dict, list))]
    if not samples:
        raise NotLearned(f"it needs {parameter.name!r}, whose value is unknown: name a function instead")
    takes_a_number = any(isinstance(one, (int, float)) and not isinstance(one, bool) for one in samples)
    is_bound = takes_a_number and not _BOUNDS.isdisjoint(parameter.name.lower().split("_"))
    return _FAR if is_bound else samples[0]


def _is_path(name: str) -> bool:
    return any(part in PATHS for part in name.lower().split("_"))


def _may_connect(parameter: inspect.Parameter) -> bool:
    """Whether it may take a connection; one that takes a path would take it for the name of a file."""
    if "Connection" in str(parameter.annotation):
        return True
    if any(_name(wanted) in ("str", "Path", "PathLike") for wanted in _types(parameter.annotation)):
        return False
    return all(part not in PATHS or part in _EITHER for part in parameter.name.lower().split("_"))


def _samples(parameter: inspect.Parameter) -> Iterator[Any]:
    """Plain values for a parameter, the likeliest first; none if it needs an object."""
    for wanted in _types(parameter.annotation):
        if isinstance(wanted, type) and issubclass(wanted, enum.Enum):
            members = list(wanted) if is_importable(wanted) else []
            yield from [one.value if issubclass(wanted, str) else one for one in members][:2]
        elif typing.get_origin(wanted) is typing.Literal:
            yield from typing.get_args(wanted)[:1]
        elif records := _records(wanted):
            yield records
        else:
            yield from BY_TYPE.get(_name(wanted), ()) or made(wanted, lambda one: list(_samples(one)))


def _records(wanted: Any) -> list[Any]:
    """Two things with keys of their own, for a list of tuples or of objects; none for a list of anything else."""
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    if origin not in _LISTS or len(inner) != 1:
        return []
    kinds = typing.get_args(inner[0])
    if typing.get_origin(inner[0]) is tuple and kinds and ... not in kinds:
        values = [next(_samples(_parameter(f"value{number}", kind)), None) for number, kind in enumerate(kinds)]
        one = tuple(distinct({str(number): value for number, value in enumerate(values)}).values())
        return [one, *second_of(one)] if None not in one else []
    found = list(itertools.islice(made(inner[0], lambda one: list(_samples(one))), 1))
    return [*found, *(other for one in found for other in second_of(one))]


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation)


def _types(annotation: Any) -> list[Any]:
    """The types that an annotation allows; of a union each, but for None."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _types(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [one for one in typing.get_args(annotation) if one is not type(None)]
    if isinstance(annotation, str):
        # It could not be evaluated: names that are defined for type checkers only.
        inner = re.sub(r"^(?:typing\.)?(?:Optional|Union)\[(.*)\]$", r"\1", annotation.strip()).replace(",", "|")
        return [one.strip() for one in inner.split("|") if one.strip() not in ("None", "")] or [""]
    return [annotation]


def _name(wanted: Any) -> str:
    """The name of a type without its parameters; a type variable may be anything."""
    if isinstance(wanted, typing.TypeVar):
        return "Any"
    name = wanted if isinstance(wanted, str) else getattr(wanted, "__name__", "")
    return str(name).split("[")[0].rpartition(".")[2].strip()


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Its parameters, with evaluated annotations where that is possible."""
    try:
        return list(inspect.signature(function, eval_str=True).parameters.values())
    except (NameError, AttributeError, SyntaxError, TypeError):
        return list(inspect.signature(function).parameters.values())


def needed(method: Any) -> list[inspect.Parameter]:
    """The parameters without a default, but for ``self``."""
    return [
        one
        for one in _parameters(method)
        if one.default is one.empty
        and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
        and one.name.strip("_") != "self"
    ]


def takes_a_list(method: Any) -> str:
    """The name of its ``*args``; empty without."""
    return next((one.name for one in _parameters(method) if one.kind is one.VAR_POSITIONAL), "")


def arguments(method: Any, better: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Keyword arguments to try, simpler ones first; none if it needs an object that we can't make.

    `better` are values to try first, by parameter.
    """
    required = needed(method)
    samples = [[*([better[one.name]] if one.name in better else ()), *_samples(one)] for one in required]
    if not all(samples):
        return
    tried = [
        distinct({parameter.name: value for parameter, value in zip(required, values, strict=True)})
        for values in itertools.islice(itertools.product(*samples), _MOST_TRIES)
    ]
    yield from tried
    # What is there already may not be added again.
    yield from ({**args, name: "gamma"} for args in tried[:1] for name, value in args.items() if value == "alpha")


def with_known(tried: Iterable[dict[str, Any]], known: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each of these arguments, first with the values that other calls have had under the same names.

    At last with references to what may be a key, and a single text as any that was given under another name.
    """
    listed = list(tried)
    for args in listed:
        same = {name for name, value in args.items() if type(known.get(name)) is type(value)}
        shared = {name: known[name] if name in same else value for name, value in args.items()}
        yield from (args,) if shared == args else (shared, args)
    for args in listed[:1]:
        if len(args) > 1 and "alpha" in known.values() and "one" in args.values():
            yield {name: "alpha" if value == "one" else value for name, value in args.items()}
        if [*map(type, args.values())] == [str]:
            had = {value for one in listed for value in one.values()}
            texts = [one for one in known.values() if type(one) is str and one not in had]
            yield from ({name: one} for name in args for one in dict.fromkeys(texts[:_MOST_TRIES]))


def other_values(method: Any, args: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The same arguments with another value for one of them, the last first: what comes first is often the key."""
    free = [one.name for one in needed(method) if not any(map(_is_closed, _types(one.annotation)))]
    has_more = len(args) > 1 or any(
        is_made(one) or isinstance(one, dict) or is_of_records(one) for one in args.values()
    )
    for name in reversed(list(args)[-_MOST_TRIES:]) if has_more else ():
        if name in free and (value := another(args[name])) is not None:
            yield {**args, name: value}


def _is_closed(wanted: Any) -> bool:
    """Whether a type has a list of values that we don't know to be exchangeable."""
    is_enum = isinstance(wanted, type) and issubclass(wanted, enum.Enum)
    return is_enum or typing.get_origin(wanted) is typing.Literal
