"""The markers ``interleave`` and ``every_cancel``: a test is run again for each point at which it can be switched.

Two runs without a switch come first: the first shows that the test passes, the second that it passes again, and it
counts (what a fixture with a wider scope creates once is there by then): how often the first of two callables takes a
lock, how often a coroutine awaits, how often a call goes into a connection. Each further run has its own fixtures and
is switched, or cut short, at one of these points (`scenarios.pytest_plugin.rerun.concurrent_calls`); then the
assertions of the test judge the result. The first failure is the test's, with the point in its message.

The test stays one test: one report for each of its phases, with the time of all runs. Timers of other plugins count
one run.
"""

import contextlib
import functools
import inspect
import traceback
from collections.abc import Callable, Generator, Iterator
from typing import Any, Final

import pytest

from tornpage import faults
from tornpage.faults.garbage import living
from tornpage.faults.locks import live_threads
from tornpage.faults.replaced import replaced
from tornpage.faults.sqlite_library import sqlite3
from tornpage.faults.vfs import shared_files
from tornpage.scenarios.pytest_plugin import guests, reports, settings
from tornpage.scenarios.pytest_plugin.rerun.concurrent_calls import Callers, Cancelling, Point
from tornpage.scenarios.pytest_plugin.rerun.connections import Shared, shared_of, tracked
from tornpage.scenarios.pytest_plugin.rerun.limit import limit, limit_of
from tornpage.scenarios.pytest_plugin.rerun.runs import PASSED_ON
from tornpage.scenarios.pytest_plugin.rerun.sleep import know, sleeping
from tornpage.scenarios.pytest_plugin.rerun.threads import dying_of
from tornpage.scenarios.pytest_plugin.session import describe_sqlite

MARKERS: Final = ("interleave", "every_cancel")
_MOST_POINTS: Final = 500
_AGAIN: Final = (
    "The test passed once, and fails when it is run again without any switch: some state stays from one run to the "
    "next. Nothing was switched."
)
Reports = dict[str, pytest.TestReport]


class Run:
    """One run of a test: the reports of its phases, how its call ended, and how long it took."""

    def __init__(self) -> None:
        self.reports: Reports = {}
        self.errors: dict[str, BaseException | None] = {}
        self.seconds = 0.0
        # A database that two SQLite libraries had open at once, in words.
        self.two_libraries = ""

    @property
    def has_passed(self) -> bool:
        """Whether setup, call and teardown all ended without an exception."""
        return not any(self.errors.values())


class Schedules:
    """The plugin that runs marked tests as often as it takes."""

    def __init__(self) -> None:
        self._points: dict[str, Point] = {}
        self.unreachable = ""
        try:
            faults.shim_for()
        except faults.ShimUnavailableError as error:
            self.unreachable = error.reason

    def point_of(self, item: pytest.Item) -> Point:
        """The point of a test's current run."""
        return self._points.setdefault(item.nodeid, Point())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, Any, Any]:
        """Threads that exist before the tests work on no test's database."""
        know(live_threads())
        return (yield)

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> None:
        """A timer of pytest-timeout applies to one run."""
        guests.remember_timeout(item, settings)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """A test is run again by one marker only."""
        if not any(map(item.get_closest_marker, MARKERS)):
            return
        names = [name for name in (*MARKERS, "every_fault") if item.get_closest_marker(name)]
        if self.unreachable:
            pytest.fail(f"nothing can be switched: {describe_sqlite(self.unreachable)}", pytrace=False)
        if reason := guests.why_not_switched(item):
            pytest.fail(reason, pytrace=False)
        if len(names) > 1:
            pytest.fail(f"a test has one of the markers {' and '.join(names)}; write a test for each", pytrace=False)
        if any(mark.args or mark.kwargs for mark in item.iter_markers("interleave")):
            pytest.fail("interleave takes no arguments; its fixture does: callers(one, other, errors=…)", pytrace=False)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run a marked test for each of its points, and report it once."""
        if not any(map(item.get_closest_marker, MARKERS)) or item.get_closest_marker("every_fault"):
            return None
        if self.unreachable or item.config.getoption("setuponly", default=False):
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        try:
            made = _Schedule(item, nextitem, self._points).guarded()
        finally:
            self._points.pop(item.nodeid, None)
        for report in made:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True


class _Schedule:
    """All runs of one test."""

    def __init__(self, item: Any, nextitem: pytest.Item | None, points: dict[str, Point]) -> None:
        self._item = item
        self._nextitem = nextitem
        self._points = points
        self._properties = list(item.user_properties)
        self._seconds = self._usual_s = 0.0
        # Whether the fixtures that only this test needs wait for another run.
        self._is_kept = False
        self._again: pytest.Item = _Again.from_parent(item.parent, name=f"{item.name} again")
        self._connections = Shared()

    def guarded(self) -> list[pytest.TestReport]:
        """The reports of its setup, call and teardown. Raises only on an interrupt."""
        try:
            return self._run_all()
        except PASSED_ON:
            raise
        except BaseException as error:  # noqa: BLE001 - a test may fail, the session goes on
            said = "internal error in tornpage, or in a hook that it called: no verdict on this test"
            made = reports.by_itself(self._item, f"{said}\n{''.join(traceback.format_exception(error))}")
        ended = pytest.CallInfo.from_call(self._finish, when="teardown", reraise=PASSED_ON)
        if ended.excinfo is not None:
            made[-1] = pytest.TestReport.from_item_and_call(self._item, ended)
        return made

    def _run_all(self) -> list[pytest.TestReport]:
        # Those opened before: by wider fixtures, by modules.
        existing = living(lambda kind: issubclass(kind, sqlite3.Connection))
        self._connections.of_fixtures += existing
        with faults.install(virtual_sleep=False) as shims, sleeping(shims), _untied_connections():
            made = self._runs()
        new = [one for one in self._connections.of_fixtures if not any(one is other for other in existing)]
        shared_of(self._item.config).of_fixtures += new
        if self._is_kept:
            call = pytest.CallInfo.from_call(self._finish, when="teardown", reraise=_reraised(self._item))
            if call.excinfo is not None and made.errors.get("teardown") is None:
                # The fixtures are gone, which a hook that makes reports may read.
                made.reports["teardown"] = pytest.TestReport.from_item_and_call(self._item, call)
        for report in made.reports.values():
            report.user_properties = list(self._item.user_properties)
        if "call" in made.reports:
            made.reports["call"].duration = self._seconds
        return list(made.reports.values())

    def _finish(self) -> None:
        self._item.session._setupstate.teardown_exact(self._nextitem)

    def _runs(self) -> Run:
        counted, first = Point(), self._run(Point(), last=None)
        if first.two_libraries and "call" in first.reports:
            return self._not_judged(first)
        if not first.has_passed:
            return first
        made = self._run(counted, last=lambda: not any(counted.seen))
        if not made.has_passed:
            return _with_section(made, _AGAIN)
        points = list(_points_of(self._item, counted))
        for number, point in enumerate(points, start=1):
            made = self._run(point, last=lambda: point is points[-1])  # noqa: B023 - called in this turn only
            if not made.has_passed:
                return self._failed(made, f"schedule {number} of {len(points)}", str(point))
        if not points:
            made.reports["call"] = reports.failed(
                self._item, made.reports["call"], _why_vacuous(self._item, counted), may_be_expected=False
            )
            return made
        self._item.user_properties.append(("tornpage_searched", _searched(points, counted)))
        return made

    def _not_judged(self, made: Run) -> Run:
        """What two libraries do to one file is wrong without any switch."""
        name = next(name for name in MARKERS if self._item.get_closest_marker(name))
        message = f"{name} can't judge this test: {made.two_libraries}"
        if not made.has_passed:
            return _with_section(made, message)
        made.reports["call"] = reports.failed(self._item, made.reports["call"], message, may_be_expected=False)
        return made

    def _failed(self, made: Run, schedule: str, point: str) -> Run:
        if made.errors["setup"] is not None:
            return _with_section(made, f"{schedule} was not tried: an earlier one has left what the setup fails on.")
        error = made.errors.get("call")
        if isinstance(error, pytest.skip.Exception):
            message = f"{schedule}: {point}: the test skips there ({error}), which proves nothing"
            made.reports["call"] = reports.failed(self._item, made.reports["call"], message)
        elif error is None:
            _with_section(made, f"{schedule}: {point}")
        elif point in str(error):
            _add_headline(made.reports["call"], schedule)
        else:
            _add_headline(made.reports["call"], f"{schedule}: {point}")
        return made

    # -- one run -------------------------------------------------------------------------------------------

    def _run(self, point: Point, last: Callable[[], bool] | None) -> Run:
        """Run it once; `last` is asked after the call whether no other run follows (None: as soon as it fails)."""
        item, run = self._item, Run()
        self._points[item.nodeid] = point
        self._make_new()
        with (
            tracked(self._connections) as connections,
            faults.shims().watching(point.databases),
            shared_files.shared() as shared,
            dying_of(lambda _: False) if point.number else contextlib.nullcontext(),
        ):
            point.connections = connections
            with guests.timers_of(item), guests.request_of(item):
                self._phase(run, "setup", item.ihook.pytest_runtest_setup)
                if run.has_passed:
                    self._phase(run, "call", functools.partial(self._limited_call, point))
                self._is_kept = run.has_passed and not (last is not None and last())
                nextitem = self._again if self._is_kept else self._nextitem
                teardown = functools.partial(item.ihook.pytest_runtest_teardown, nextitem=nextitem)
                self._phase(run, "teardown", teardown)
            connections.end(is_faulted=False)
        run.two_libraries = str(shared[0]) if shared else ""
        self._seconds += run.seconds
        self._usual_s = max(self._usual_s, 0 if point.number else run.seconds)
        return run

    def _limited_call(self, point: Point, item: pytest.Item) -> None:
        """Call it; a call that is cut short may never return, two callers that wait for each other are a deadlock."""
        if not point.number or item.get_closest_marker("interleave"):
            item.ihook.pytest_runtest_call(item=item)
            return
        with limit(limit_of(settings.value_of(item.config, "timeout"), self._usual_s)):
            item.ihook.pytest_runtest_call(item=item)

    def _phase(self, run: Run, when: Any, hook: Callable[..., object]) -> None:
        item = self._item
        call = pytest.CallInfo.from_call(lambda: hook(item=item), when=when, reraise=_reraised(item))
        report = item.ihook.pytest_runtest_makereport(item=item, call=call)
        run.reports[when], run.seconds = report, run.seconds + call.duration
        run.errors[when] = call.excinfo.value if call.excinfo is not None else None
        if call.excinfo is not None and not hasattr(report, "wasxfail") and report.failed:
            item.ihook.pytest_exception_interact(node=item, call=call, report=report)

    def _make_new(self) -> None:
        """A new instance of the test's class, without output or records of earlier runs."""
        guests.drop_instance(self._item)
        getattr(self._item, "_report_sections", []).clear()
        self._item.user_properties[:] = self._properties


def _reraised(item: pytest.Item) -> tuple[type[BaseException], ...]:
    interrupts = () if item.config.getoption("usepdb", default=False) else (KeyboardInterrupt,)
    return (pytest.exit.Exception, *interrupts)


def _with_section(run: Run, text: str) -> Run:
    for report in run.reports.values():
        if report.failed:
            report.sections.append(("what was switched", text))
    return run


def _add_headline(report: pytest.TestReport, schedule: str) -> None:
    """Put the schedule before the error's message, and below its traceback."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        crash.message = f"{schedule}: {crash.message}"
    add = getattr(report.longrepr, "addsection", None)
    if add is not None:
        add("what was switched", schedule)
    else:
        report.longrepr = f"{report.longreprtext}\n{schedule}"


class _Again(pytest.Item):
    """A stand-in for the next run of a test: fixtures wider than a function stay until then."""

    def runtest(self) -> None:
        raise NotImplementedError


def _points_of(item: pytest.Item, counted: Point) -> Iterator[Point]:
    first, second = (min(one, _MOST_POINTS) for one in counted.seen)
    shares = counted.shares
    returns = [[-one for one in each if shares and one <= _MOST_POINTS] for each in counted.returns]
    yield from (Point(number, shares=shares) for number in (*range(1, first + 1), *returns[0]))
    if item.get_closest_marker("interleave"):
        yield from (Point(number, turned=True, shares=shares) for number in (*range(1, second + 1), *returns[1]))


def _searched(points: list[Point], counted: Point) -> str:
    """What was tried, and what was left out."""
    words = "1 schedule" if len(points) == 1 else f"{len(points):,} schedules"
    if counted.shares and any(point.has_met for point in points):
        words += ", at calls into a connection that both used and at no lock inside one call"
    elif counted.shares and not any(point.was_lent for point in points):
        words += (
            ", at calls into a connection that both used; while one stood at a call the other one never called into "
            "it: a lock kept it out, or it needed none"
        )
    elif counted.shares:
        words += (
            ", at calls into a connection that a pool lent to one after the other and at no lock inside one call: one "
            "that commits more than once (executescript, executemany) is not switched in its middle"
        )
    if max(counted.seen) > _MOST_POINTS:
        words += f"; of {max(counted.seen):,} points the first {_MOST_POINTS}"
    if missing := sum(not point.was_switched for point in points):
        words += f"; {missing} of them without a switch, since fewer points came than when they were counted"
    return words


def _why_vacuous(item: pytest.Item, counted: Point) -> str:
    """Nothing can be switched, and why."""
    is_cancel = item.get_closest_marker("interleave") is None
    name, fixture, did = ("every_cancel", "cancelled", "cancel") if is_cancel else ("interleave", "callers", "switch")
    why = "has no point at which it could be switched: no lock is taken, no plain file is opened, nothing is awaited"
    if counted.is_due:
        why = f"never awaited what `{fixture}` returned"
    elif not counted.was_used:
        why = f"never called its fixture `{fixture}`, so there was nothing to {did}"
    return f"{item.nodeid} is marked {name} and {why}"


def plugin_of(config: pytest.Config) -> Schedules:
    """The plugin, registered on first use."""
    name = "tornpage-schedules"
    found: Schedules | None = config.pluginmanager.get_plugin(name)
    if found is None:
        found = Schedules()
        config.pluginmanager.register(found, name)
    return found


def callers_of(request: pytest.FixtureRequest) -> Callers:
    """The object of the fixture ``callers``; raises if the test is not marked."""
    if request.node.get_closest_marker("interleave") is None:
        pytest.fail("the fixture `callers` is for tests that are marked @pytest.mark.interleave", pytrace=False)
    return Callers(plugin_of(request.config).point_of(request.node), request.node)


def cancelled_of(request: pytest.FixtureRequest) -> Cancelling:
    """The object of the fixture ``cancelled``; raises if the test is not marked."""
    mark = request.node.get_closest_marker("every_cancel")
    if mark is None:
        pytest.fail("the fixture `cancelled` is for tests that are marked @pytest.mark.every_cancel", pytrace=False)
    raising = mark.kwargs.get("raising", KeyboardInterrupt)
    if (
        mark.args
        or set(mark.kwargs) - {"raising"}
        or not (inspect.isclass(raising) and issubclass(raising, BaseException))
    ):
        pytest.fail("every_cancel takes one argument by name: raising, a class of exceptions", pytrace=False)
    return Cancelling(plugin_of(request.config).point_of(request.node), raising)


@contextlib.contextmanager
def _untied_connections() -> Iterator[None]:
    """Let connections be used on any thread."""
    connect = sqlite3.connect

    @functools.wraps(connect)
    def untied(database: Any, *args: Any, **kwargs: Any) -> Any:
        if len(args) < 4:
            kwargs["check_same_thread"] = False
        return connect(database, *args, **kwargs)

    with replaced(sqlite3, connect=untied), replaced(sqlite3.dbapi2, connect=untied):
        yield
