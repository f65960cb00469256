"""Refuses subinterpreters while a shim is installed: SQLite would call our functions in them.

All interpreters of a process use the same libraries, so they all call the functions that the shim puts into SQLite's
VFS. These belong to the main interpreter. In another interpreter, which has its own allocator since Python 3.12, they
corrupt memory, and the process aborts (`realloc(): invalid pointer`, seen on 3.12 and 3.13). Code in Python can't check
that before it runs. So while a shim is installed, creating a subinterpreter fails; and if one exists already,
installing the shim fails.

Not covered: interpreters that C code makes (``Py_NewInterpreter``), as mod_wsgi does.
"""

import contextlib
import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final

from tornpage.faults.errors import SubinterpreterError

# Up to Python 3.11 all interpreters share one allocator, and this is safe.
_SEPARATE_SINCE: Final = (3, 12)
_MODULES: Final = ("_interpreters", "_xxsubinterpreters")


class _Refusal:
    """The number of open scopes, and the functions that they have replaced."""

    def __init__(self) -> None:
        self.scopes = 0
        self.lock = threading.Lock()
        self.aside: list[tuple[ModuleType, Callable[..., Any]]] = []


_refusal = _Refusal()


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """Refuse subinterpreters inside this scope; raises `SubinterpreterError` if one exists. Scopes nest."""
    if sys.version_info < _SEPARATE_SINCE:
        yield
        return
    with _refusal.lock:
        if not _refusal.scopes:
            _begin()
        _refusal.scopes += 1
    try:
        yield
    finally:
        with _refusal.lock:
            _refusal.scopes -= 1
            if not _refusal.scopes:
                _end()


def _begin() -> None:
    modules = list(_modules())
    others = max((len(module.list_all()) for module in modules), default=1) - 1
    if others:
        raise SubinterpreterError(
            f"this process has {others} subinterpreter{'s' if others > 1 else ''}: SQLite would call the shim's "
            "functions there, which aborts the process. End them before faults.install(), or use processes instead"
        )
    for module in modules:
        _refusal.aside.append((module, module.create))
        vars(module)["create"] = _create


def _end() -> None:
    for module, create in _refusal.aside:
        if vars(module).get("create") is _create:
            vars(module)["create"] = create
    _refusal.aside.clear()


def _create(*_: object, **__: object) -> Any:
    raise SubinterpreterError(
        "no subinterpreter can be made inside faults.install(): SQLite would call the shim's functions there, which "
        "aborts the process. Make it when the scope has ended, or use a process instead"
    )


def _modules() -> Iterator[Any]:
    for name in _MODULES:
        with contextlib.suppress(ImportError):
            yield importlib.import_module(name)
