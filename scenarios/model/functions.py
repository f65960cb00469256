"""A store of plain functions for a target: those of a module, in a copy of the module of its own.

A module has one connection and one cache for the whole process, and a search opens several stores at once. So each
store gets a copy of the module, in which its code has run again: its variables are the store's own, and its classes are
those of the module that was imported, so that values made of them are equal.

Not covered: variables of another module that these functions use, and what the module does on being imported.
"""

import contextlib
import functools as of_python
import importlib
import importlib.abc
import importlib.util
import inspect
from collections.abc import Callable
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final, cast

from tornpage.faults.reach.bindings import connection_classes

# What a first parameter is called that takes the path, or what the opening function has returned.
PATHS: Final = ("path", "file", "filename", "db", "database", "uri", "url", "dsn", "dir", "directory", "folder")
_OPENED: Final = ("conn", "con", "connection", "db", "database", "cursor", "cur", "session", "store")


def functions(module: str, path: Any, *, opening: str = "", closing: str = "", place: str = "") -> "Functions":
    """The store that a module's functions are.

    `module` is its name. `path` is given to the function `opening`, set as the variable `place`, and given to each
    function whose first parameter is a path; one whose first parameter is a connection gets what `opening` has
    returned. `closing` names the function that ends the store; without one, the connection that `opening` has returned
    is closed, and those in the module's variables. Raises what they raise.
    """
    copy = _copy_of(module)
    if place:
        setattr(copy, place, path if not isinstance(getattr(copy, place), str) else str(path))
    opened = None
    try:
        opened = getattr(copy, opening)(path) if opening else None
        left_out = {opening, closing}
        methods = {
            name: _method(getattr(copy, name), original, given(original, path, opened))
            for name, original in own_functions(importlib.import_module(module))
            if name not in left_out
        }
        kind = type("Functions", (Functions,), methods)
        store: Functions = kind(copy, opened, closing)
    except BaseException:
        _close_all(copy, opened)
        raise
    return store


class Functions:
    """What `functions` returns: each public function is a method, and each variable an attribute."""

    def __init__(self, copy: ModuleType, opened: Any, closing: str) -> None:
        vars(self).update(_copy=copy, _opened=opened, _closing=closing)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_copy"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._copy, name, value)

    def close(self) -> None:
        """Close it as its users do, and what is left of its connections then, as the end of a process does."""
        try:
            if self._closing:
                closing = getattr(self._copy, self._closing)
                closing(*given(closing, "", self._opened))
        finally:
            _close_all(self._copy, self._opened)


def own_functions(module: ModuleType) -> list[tuple[str, FunctionType]]:
    """The public functions that a module defines itself."""
    return [
        (name, one)
        for name, one in vars(module).items()
        if not name.startswith("_") and isinstance(one, FunctionType) and one.__module__ == module.__name__
    ]


def variables(store: Functions) -> dict[str, Any]:
    """The module's variables, but for what a module has anyway: functions, classes, other modules."""
    return {
        name: one
        for name, one in vars(vars(store)["_copy"]).items()
        if not name.startswith("__") and not isinstance(one, (FunctionType, type, ModuleType)) and not callable(one)
    }


def given(function: Callable[..., Any], path: Any, opened: Any) -> tuple[Any, ...]:
    """The first argument that a function gets anyway: the path, or what was opened; nothing for any other function."""
    first = next(iter(_parameters(function)), None)
    if first is None or first.kind not in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
        return ()
    words = first.name.lower().split("_")
    is_connection = "Connection" in str(first.annotation) or (first.annotation is first.empty and words[-1] in _OPENED)
    if opened is not None and is_connection:
        return (opened,)
    is_path = any(word in PATHS for word in words) and "Connection" not in str(first.annotation)
    return (path,) if is_path and first.default is first.empty else ()


def _method(function: Callable[..., Any], original: FunctionType, arguments: tuple[Any, ...]) -> Callable[..., Any]:
    @of_python.wraps(original)
    def method(_self: Functions, *args: Any, **kwargs: Any) -> Any:
        return function(*arguments, *args, **kwargs)

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    method.__signature__ = inspect.Signature([own, *_parameters(original)[len(arguments) :]])  # type: ignore[attr-defined]
    return method


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function, eval_str=True).parameters.values())
    except (NameError, AttributeError, SyntaxError, TypeError):
        return list(inspect.signature(function).parameters.values())


def _copy_of(name: str) -> ModuleType:
    original = importlib.import_module(name)
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ImportError(f"no module of the name {name!r} can be found")
    copy = importlib.util.module_from_spec(spec)
    exec(_code_of(name), vars(copy))  # noqa: S102 - the module's own code
    vars(copy).update({key: one for key, one in vars(original).items() if _is_class_of(one, name)})
    return copy


@of_python.cache
def _code_of(name: str) -> CodeType:
    spec = importlib.util.find_spec(name)
    code = spec.loader.get_code(name) if spec and isinstance(spec.loader, importlib.abc.InspectLoader) else None
    if code is None:
        raise ImportError(f"the module {name!r} has no Python code")
    return code


def _is_class_of(value: Any, name: str) -> bool:
    return isinstance(value, type) and value.__module__ == name


def _close_all(copy: ModuleType, opened: Any) -> None:
    for one in (opened, *vars(copy).values()):
        if isinstance(one, connection_classes()):
            with contextlib.suppress(Exception):
                cast("Any", one).close()
