"""The markers in a session of pytest; registered when a collected test has one of them.

From the first test on the shim is SQLite's default VFS, so that it reaches connections of fixtures with any scope; with
nothing armed files run on SQLite's own code. How SQLite sleeps in a test with a marker:
`scenarios.pytest_plugin.rerun.sleep`.
"""

import contextlib
from collections.abc import Generator, Iterable
from typing import Any

import pytest

from tornpage import faults
from tornpage.faults.locks import live_threads
from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.pytest_plugin import guests, markers, settings
from tornpage.scenarios.pytest_plugin.markers import EveryFault, MarkerError
from tornpage.scenarios.pytest_plugin.rerun import judging
from tornpage.scenarios.pytest_plugin.rerun.connections import current, shared_of, tracked
from tornpage.scenarios.pytest_plugin.rerun.plain_files import watched as watched_files
from tornpage.scenarios.pytest_plugin.rerun.runs import Runner
from tornpage.scenarios.pytest_plugin.rerun.sleep import faulted_by, know, sleeping
from tornpage.scenarios.pytest_plugin.sweep import sweep

_wrong = pytest.StashKey[str]()
_plan = pytest.StashKey[faults.FaultPlan]()
_every = pytest.StashKey[EveryFault]()


class Session:
    """The plugin object: its hooks are pytest's."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.shim: faults.Shims | None = None
        self.unreachable = ""
        self._marked = False
        self._shared = shared_of(config)
        text = config.getoption("tornpage_at")
        try:
            self.only = markers.plan_of(text) if text is not None else None
        except MarkerError as error:
            raise pytest.UsageError(f"--tornpage-at: {error}") from None
        try:
            faults.shim_for()
            self.shim = faults.shims()
        except faults.ShimUnavailableError as error:
            self.unreachable = error.reason

    def prepare(self, items: Iterable[pytest.Item]) -> None:
        """Parse the markers; an invalid one fails only its own test."""
        for item in items:
            try:
                plan, every = markers.faults_of(item), markers.every_fault_of(item)
            except MarkerError as error:
                item.stash[_wrong] = str(error)
                continue
            if plan is not None:
                item.stash[_plan] = plan
            if every is not None:
                item.stash[_every] = every
            self._marked |= plan is not None or every is not None

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Reject a plan for tests without a marker: it would never be armed."""
        worker = hasattr(self.config, "workerinput") or getattr(self.config.option, "dist", "no") != "no"
        if self.only is not None and not worker and not any(_every in item.stash for item in session.items):
            raise pytest.UsageError("--tornpage-at runs tests with @pytest.mark.every_fault, and none is selected")

    def pytest_report_collectionfinish(self) -> list[str]:
        """The lines that name what is under test."""
        notes = () if self.shim is None else self.shim.notes()
        return [f"tornpage: {describe_sqlite(self.unreachable)}", *notes] if self._marked else []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, Any, Any]:
        """Install the shim below SQLite while the tests run."""
        know(live_threads())
        with contextlib.ExitStack() as stack:
            if self.shim is not None:
                stack.enter_context(self.shim.installed())
            return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run a test with ``every_fault`` again and again; the others as they always are."""
        asked = item.stash.get(_every, None)
        if asked is None or self.shim is None or self.config.getoption("setuponly", default=False):
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        timeout_s = asked.timeout_s or settings.value_of(self.config, "timeout")
        most = asked.max_points or settings.value_of(self.config, "max_points")
        runner = Runner(
            item, self.shim, timeout_s, self._shared,
            leaves_transactions=asked.open_transactions, hides_errors=asked.hidden_errors,
        )  # fmt: skip
        with sleeping(self.shim):
            reports = sweep(runner, nextitem, asked, most, self.only)
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """A marker that can't be obeyed fails its test."""
        if _wrong in item.stash:
            pytest.fail(item.stash[_wrong], pytrace=False)
        if self.shim is None and (_plan in item.stash or _every in item.stash):
            pytest.fail(f"no fault can be armed: {describe_sqlite(self.unreachable)}", pytrace=False)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Arm the plan of a test with ``with_faults`` while it is called."""
        plan = item.stash.get(_plan, None)
        if plan is None or self.shim is None:
            return (yield)
        armed = faults.Armed(plan)
        try:
            with (
                sleeping(self.shim),
                faulted_by(armed),
                self.shim.watching(armed.injector),
                watched_files(armed.injector, item),
                self.shim.telling(),
            ):
                result = yield
        finally:
            item.user_properties += [("tornpage_armed", armed.armed), ("tornpage_fired", armed.fired)]
        if armed.fired < armed.armed:
            pytest.fail(judging.never_fired(armed), pytrace=False)
        return result

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> None:
        """A timer of pytest-timeout applies to one run."""
        guests.remember_timeout(item, settings)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        """Connections of a fixture that outlives the run are not the run's to close."""
        if fixturedef.scope == "function":
            return (yield)
        with contextlib.ExitStack() as stack:
            connections = current() or stack.enter_context(tracked(self._shared))
            stack.enter_context(connections.sharing_all())
            return (yield)


def describe_sqlite(unreachable: str) -> str:
    """Which SQLite, and whether it can be reached."""
    if unreachable:
        return f"SQLite {sqlite3.sqlite_version}, which can't be reached: {unreachable}"
    return f"SQLite {sqlite3.sqlite_version}, faults can be armed beneath it"
