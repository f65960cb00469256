"""The shadow of a session: the same target on its own files, which never meet a fault, at the same path.

A store may store the path at which it runs, or get it as an argument: so whenever the shadow makes a call, its
directory takes the place of the real one for that time (`in_place`). Armed faults and recordings ignore it. A store
that shares state with every other one at its path has a shadow at another path (`same_path`).
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from tornpage.scenarios.execution.crash.program_tape import settle
from tornpage.scenarios.execution.in_place import in_the_place_of
from tornpage.scenarios.execution.preflight.same_path import are_joined
from tornpage.scenarios.execution.reopen import fails_later
from tornpage.scenarios.execution.snapshots import Files, place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.oracle import Answer
from tornpage.scenarios.model.target import Action, Configuration, Target, View


class Shadow(Trial):
    """A trial that runs in `directory`, which others use too; its files stay in `home` meanwhile."""

    def __init__(self, target: Target, configuration: Configuration, directory: Path, home: Path, before: View) -> None:
        is_apart = are_joined(target, configuration, home.with_name("joined"))
        super().__init__(target, configuration, home if is_apart else directory, before)
        self.home = home
        self._is_there = is_apart

    @contextlib.contextmanager
    def _in_place(self) -> Iterator[None]:
        if self._is_there:
            yield
            return
        with in_the_place_of(self.directory, self.home):
            self._is_there = True
            try:
                yield
            finally:
                self._is_there = False

    def open(self) -> Self:
        """Open the session in its place."""
        with self._in_place():
            return super().open()

    def close(self) -> None:
        """Close the session in its place."""
        with self._in_place():
            super().close()

    def call_by_stages(self, action: Action) -> tuple[Answer, tuple[View, ...]]:
        """Make one call in its place; see `Trial.call_by_stages`."""
        with self._in_place():
            return super().call_by_stages(action)

    def go_ahead(
        self, action: Action, *, keeps_files: bool, settles: bool
    ) -> tuple[Files | None, Answer, tuple[View, ...], View]:
        """Make a call before the real session does, taking its place once for all of it.

        Returns the files before the call, if they are to be kept, its answer, its stages, and the view after it; with
        `settles` a program of its own has finished its work by then.
        """
        with self._in_place():
            files = self.crash_copy() if keeps_files else None
            answer, stages = self.call_by_stages(action)
            if settles:
                settle(self)
            return files, answer, stages, self.fresh_view()

    def live_view(self) -> View:
        """What its session answers, in its place: a store may connect only when it is first used."""
        with self._in_place():
            return super().live_view()

    def fresh_view(self, *, integrity: bool = True) -> View:
        """The view of a fresh reader in its place."""
        with self._in_place():
            return super().fresh_view(integrity=integrity)

    def crash_copy(self) -> Files:
        """The files as a crash of its process would leave them."""
        with self._in_place():
            return super().crash_copy()

    def journal_mode(self) -> str:
        """SQLite's journal mode in its place."""
        with self._in_place():
            return super().journal_mode()

    def contents(self) -> list[Any]:
        """Every row of the database in its place."""
        with self._in_place():
            return super().contents()

    def put(self, files: Files, life: int | None = None) -> None:
        """Start again on these files, if told so in another life of the process; raises `Violation` if it can't."""
        self.close()
        if life is not None:
            self.life = life
        place(files, self.home, self.directory)
        try:
            self.open()
        except Violation:
            raise
        except Exception as error:
            raise fails_later("with nothing armed, opening the store fails", error) from error
