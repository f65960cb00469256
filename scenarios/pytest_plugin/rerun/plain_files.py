"""The plain files of a test: those below a temporary directory, pytest's ``tmp_path`` or that of `tempfile`.

Files that Python and pytest keep there (sources, byte code, caches, coverage data) do not count.

Not covered: files that a test has elsewhere, and those of processes that it starts.
"""

import os
import tempfile
from contextlib import AbstractContextManager
from typing import Any, Final

import pytest

from tornpage import faults
from tornpage.faults.files import watching

_NO_STORE: Final = ("__pycache__", ".pytest_cache", ".coverage", ".hypothesis", ".git")
_NO_STORE_SUFFIXES: Final = (".py", ".pyc", ".pyi", ".so")


class OfTheTest:
    """Asks another injector about the plain files of one test."""

    def __init__(self, inner: faults.Injector, item: pytest.Item) -> None:
        self._inner = inner
        self.kinds = inner.kinds & frozenset(faults.FILE_KINDS)
        self._roots = tuple(f"{root}{os.sep}" for root in _temporary(item))

    def decide(self, kind: str, role: str, path: str | None) -> faults.Fault | None:
        """Ask it about the test's own files only."""
        if path is None or not path.startswith(self._roots) or path.endswith(_NO_STORE_SUFFIXES):
            return None
        if any(f"{os.sep}{name}" in path for name in _NO_STORE):
            return None
        return self._inner.decide(kind, role, path)


def watched(injector: faults.Injector, item: pytest.Item) -> AbstractContextManager[None]:
    """Ask `injector` about the plain files of a test inside this scope, if it wants to know of any."""
    return watching(OfTheTest(injector, item))


def _temporary(item: pytest.Item) -> set[str]:
    """The directories below which files are temporary, links resolved."""
    config: Any = item.config
    factory = getattr(config, "_tmp_path_factory", None)
    given = [tempfile.gettempdir(), *([factory.getbasetemp()] if factory is not None else [])]
    return {os.path.realpath(one) for one in given}
