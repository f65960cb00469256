"""Traces the code under test while a campaign runs: coverage.py, with a context for each point.

A context begins when a fault or condition comes into force, and ends when its point is reported; so it covers the call
and all checks after it. Code that runs in between, without a fault, has the empty context.

Contexts need coverage.py's own tracer (``ctrace``); the newer ``sysmon`` has none. Not covered: other processes, so
kills are missing.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from tornpage.scenarios.execution.session_in_use import trouble_heard_by
from tornpage.scenarios.model.events import Event, PointTried
from tornpage.scenarios.run.error_paths.join import ErrorPaths, join
from tornpage.scenarios.run.error_paths.places import Place, SourceError, places_of, sources_of

_SCENARIO: Final = "a scenario"


class ErrorPathTracer:
    """A handler of a campaign's events, which traces the code of some packages inside its `running` scope.

    Raises `SourceError` for a package that doesn't exist.
    """

    def __init__(self, packages: Sequence[str], directory: Path) -> None:
        self.places: list[Place] = []
        self._files: dict[str, str] = {}
        self._packages = {package: sources_of(package) for package in packages}
        self._left_out: dict[str, None] = {}
        for package, sources in self._packages.items():
            for name, path in sources.items():
                self._add(package, name, path)
        import coverage  # noqa: PLC0415 - takes long to load, and few runs need it

        # In a file, since an open database in memory would be a connection in the process under test.
        self._coverage = coverage.Coverage(
            data_file=str(directory / "coverage"),
            # Without a pattern everything would be traced.
            include=list(self._files.values()) or [os.devnull],
            config_file=False,
            messages=False,
        )
        self._coverage.set_option("run:core", "ctrace")
        self._data = self._coverage.get_data()
        self._labels: dict[str, str] = {}
        self._context = ""

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Watch inside this scope."""
        self._coverage.start()
        try:
            with trouble_heard_by(self._begin):
                yield
        finally:
            # Collected lines are stored only when the context changes.
            self._coverage.switch_context("")
            self._coverage.stop()

    def __call__(self, event: Event) -> None:  # noqa: D102 - a handler's one method
        if isinstance(event, PointTried):
            if self._context:
                # A fault that did not fire does not count.
                self._labels[self._context] = str(event.series) if event.fired or event.is_finding else ""
            self._switch("")

    def result(self) -> ErrorPaths:
        """The error paths that ran, and under which faults."""
        ran = {name: self._data.contexts_by_lineno(path) for name, path in self._files.items()}
        self._data.close()
        found = join(self.places, ran, self._labels)
        return msgspec.structs.replace(
            found,
            packages=tuple(self._packages),
            left_out=tuple(self._left_out),
            never_imported=self._never_imported({self._files[name] for name, lines in ran.items() if lines}),
        )

    def _add(self, package: str, name: str, path: Path) -> None:
        """Collect the error paths of one file, once; a package may hold other files, such as templates."""
        if os.path.realpath(path) in self._files.values():
            return
        try:
            places = places_of(path, name)
        except SourceError:
            if name == package.replace(".", "/") + ".py":
                raise
            self._left_out[name] = None
            return
        # The name that coverage uses, whatever links lead there.
        self._files[name] = os.path.realpath(path)
        self.places += places

    def _never_imported(self, ran: set[str]) -> tuple[str, ...]:
        files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
        imported = {os.path.realpath(file) for file in (*ran, *files) if isinstance(file, str)}
        return tuple(
            package
            for package, sources in self._packages.items()
            if not any(os.path.realpath(path) in imported for path in sources.values())
        )

    def _begin(self) -> None:
        context = str(len(self._labels) + 1)
        self._labels[context] = _SCENARIO
        self._switch(context)

    def _switch(self, context: str) -> None:
        if context != self._context:
            self._context = context
            self._coverage.switch_context(context)
            self._data.close()
