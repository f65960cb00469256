"""Values for the arguments of a store's methods, by type, and how each is written in Python.

A class whose constructor takes plain values and that has an equality of its own (a dataclass, a named tuple, a model)
is made with such values. Not covered: classes that hide what they are made with, and those inside a function.
"""

import datetime
import enum
import inspect
import itertools
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Final

from tornpage.scenarios.model.target import Action

# Values for a parameter of that type; without a type it may be text or a number.
_EITHER: Final = ("alpha", 1)
_DAY: Final = datetime.datetime(2024, 2, 29, 12, 30)
_PATH: Final = PurePath("alpha")
BY_TYPE: Final[dict[str, tuple[Any, ...]]] = {
    "int": (1,), "float": (1.5,), "bool": (True,), "str": ("alpha",), "dict": ({"one": 1},), "Dict": ({"one": 1},),
    "Mapping": ({"one": 1},), "list": (["one"],), "List": (["one"],), "Sequence": (["one"],), "Iterable": (["one"],),
    "Any": _EITHER, "object": _EITHER, "_empty": _EITHER, "": _EITHER,
    "bytes": (b"alpha",), "set": ({"one"},), "tuple": (("one",),), "Path": (_PATH,),
    "PurePath": (_PATH,), "PathLike": (_PATH,), "datetime": (_DAY,), "date": (_DAY.date(),),
    "timedelta": (datetime.timedelta(hours=1),), "Decimal": (Decimal("1.5"),), "UUID": (uuid.UUID(int=1),),
}  # fmt: skip
_IMPORTS: Final = {
    "datetime.": "import datetime", "PurePath(": "from pathlib import PurePath",
    "Decimal(": "from decimal import Decimal", "UUID(": "from uuid import UUID",
}  # fmt: skip


def made(kind: Any, samples: Callable[[inspect.Parameter], list[Any]]) -> Iterator[Any]:
    """An object of a class that plain values make, if it can be compared; `samples` gives those of a parameter."""
    if not isinstance(kind, type) or not is_importable(kind):
        return
    try:
        required = _required(kind)
        values = distinct({one.name: samples(one)[0] for one in required})
        value = kind(**values)
        if values and all(getattr(value, name) == given for name, given in values.items()) and value == kind(**values):
            yield value
    except Exception:  # noqa: BLE001 - a class of the user's may raise anything
        return


def distinct(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with different texts and ascending numbers: a value must not equal its key, nor an end its start."""
    texts, numbers = iter(("alpha", *("one" for _ in values))), itertools.count(1)
    return {
        name: next(texts) if value == "alpha" else next(numbers) if type(value) is int and value == 1 else value
        for name, value in values.items()
    }


def _required(kind: type) -> list[inspect.Parameter]:
    return [one for one in _named(kind) if one.default is one.empty]


def _named(kind: type) -> list[inspect.Parameter]:
    try:
        parameters = inspect.signature(kind, eval_str=True).parameters
    except (NameError, AttributeError, SyntaxError, TypeError):
        parameters = inspect.signature(kind).parameters
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [one for one in parameters.values() if one.kind in named]


def is_importable(kind: type) -> bool:
    """Whether a class is found in its module under its name."""
    module = sys.modules.get(kind.__module__)
    return kind.__module__ != "builtins" and getattr(module, kind.__qualname__, None) is kind


def is_made(value: Any) -> bool:
    """Whether a value is an object that `made` has made."""
    return type(value).__name__ not in BY_TYPE and not isinstance(value, (PurePath, type(None), enum.Enum))


def another(value: Any) -> Any:
    """Another value of the same type, of an object one with another part that is not its first; None for none."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float, Decimal)):
        return value + 1
    if isinstance(value, datetime.date):
        return value + datetime.timedelta(days=1)
    if is_of_records(value) or (type(value) is tuple and value):
        # Of a list the first record, of a record its last value.
        first, last = (value[:0], value[0]) if isinstance(value, list) else (value[:-1], value[-1])
        other = another(last)
        return None if other is None else first + type(value)([other])
    if is_made(value):
        optional = (
            (one.name, getattr(value, one.name, None)) for one in _named(type(value)) if one.default is not one.empty
        )
        choices = [*reversed(list(parts(value).items())[1:]), *((name, one) for name, one in optional if is_plain(one))]
        found = ((name, another(one)) for name, one in choices if one is not None)
        return next((with_parts(value, {name: one}) for name, one in found if one is not None), None)
    others: dict[type, Any] = {
        str: "other", list: ["other"], dict: {"one": 2}, bytes: b"other", type(_PATH): PurePath("other")
    }  # fmt: skip
    return others.get(type(value))


def parts(value: Any) -> dict[str, Any]:
    """The values that such an object was made with, but for those that are left at their defaults."""
    found = {one.name: (getattr(value, one.name, one.default), one.default) for one in _named(type(value))}
    return {name: one for name, (one, default) in found.items() if not (is_plain(one) and one == default)}


def with_parts(value: Any, values: Mapping[str, Any]) -> Any:
    """Such an object, with other values."""
    return type(value)(**{**parts(value), **values})


def is_of_records(value: Any) -> bool:
    """Whether a value is a list of tuples, or of objects that `made` has made."""
    return isinstance(value, list) and bool(value) and all(type(one) is tuple or is_made(one) for one in value)


def second_of(value: Any) -> list[Any]:
    """The same with a second key, as of another call; empty for one without a key."""
    return [one for one in (_key(value, "beta", 7, within=True),) if one is not None]


def is_plain(value: Any) -> bool:
    """Whether a value is one of Python's own, which `literal` writes and any two readers can compare."""
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(is_plain(one) for item in value.items() for one in item)
    return value is None or type(value) in (str, bytes, int, float, bool)


def literal(value: Any) -> str:
    """A value as Python source."""
    if isinstance(value, PurePath):
        return f"PurePath({literal(str(value))})"
    if is_of_records(value):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if is_made(value):
        return f"{type(value).__name__}({', '.join(f'{name}={literal(one)}' for name, one in parts(value).items())})"
    return f'"{value}"' if isinstance(value, str) and not {*value} & {*'"\\\n'} else repr(value)


def imports_of(values: Iterator[Any]) -> list[str]:
    """The imports that the source of these values needs."""
    found: dict[str, None] = {}
    for value in values:
        text = literal(value)
        found |= {line: None for name, line in _IMPORTS.items() if name in text}
        waiting = [value]
        while waiting:
            one = waiting.pop()
            if is_made(one) or isinstance(one, enum.Enum):
                found[f"from {type(one).__module__} import {type(one).__name__}"] = None
            waiting += parts(one).values() if is_made(one) else one if is_of_records(one) else ()
    return sorted(found, key=lambda line: (line.startswith("from"), line))


def beats_of(action: Action) -> list[Action]:
    """The call with another key, so that it adds something again; and with other values wherever there may be any.

    A first value is likely the key, and the others may have to be what is there already; or they are unique, too.
    """
    return _with_key(action, "heartbeat", 999)


def second_keys_of(action: Action) -> list[Action]:
    """The call with a second key, as `beats_of`."""
    return _with_key(action, "beta", 7)


def _with_key(action: Action, text: str, number: int) -> list[Action]:
    others: dict[str, Any] = {}
    # A list or a mapping has keys where nothing else is one.
    for within in (False, True):
        keys = ((name, _key(value, text, number, within=within)) for name, value in action.args.items())
        others = others or {name: key for name, key in keys if key is not None}
    first = dict(itertools.islice(others.items(), 1))
    return [Action(action.name, action.args | one) for one in (first, others) if one is first or len(others) > 1]


def _key(value: Any, text: str, number: int, *, within: bool = False) -> Any:
    """Another value that no other call has; None for a value that is hardly a key."""
    if is_made(value):
        found = ((name, _key(one, text, number)) for name, one in parts(value).items())
        return next((with_parts(value, {name: one}) for name, one in found if one is not None), None)
    if within and is_of_records(value):
        return [one for one in (_key(value[0], text, number, within=True),) if one is not None] or None
    if within and type(value) is tuple:
        keys = [_key(one, text, number) for one in value]
        first = next((index for index, one in enumerate(keys) if one is not None), None)
        return None if first is None else (*value[:first], keys[first], *value[first + 1 :])
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return text if isinstance(value, str) else number
    if within and isinstance(value, dict):
        return dict.fromkeys([text], *value.values()) if len(value) == 1 else None
    return [text] if within and isinstance(value, list) and all(isinstance(one, str) for one in value) else None
