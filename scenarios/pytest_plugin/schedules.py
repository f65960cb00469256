"""The markers ``interleave`` and ``every_cancel``: a test is run again for each point at which it can be switched.

The first run counts: how often the first of two callables takes a lock, how often a coroutine awaits, how often a call
goes into a connection. Each further run has its own fixtures and is switched, or cancelled, at one of these points;
then the test's own assertions judge the result. The first failure is the test's, with the point in its report.

Two callables run on threads of their own, one at a time (`faults.contention.turns`). Both may use a connection that the
test has opened: inside such a run ``sqlite3.connect`` does not tie connections to threads. If the first run sees both
of them call into one connection, they are switched at such calls: at a lock the stopped one would hold the connection's
own mutex.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from unittest import mock

import pytest
from _pytest.runner import runtestprotocol

from tornpage import faults
from tornpage.faults.contention.awaits import Awaits, Calls, holds_a_lock, quiet
from tornpage.faults.contention.turns import Caller, Deadlock, Ended, Gate, Hop, Paused, connections_called, switch
from tornpage.faults.sqlite_library import sqlite3

MARKERS: Final = ("interleave", "every_cancel")
_MOST_POINTS: Final = 500
_OTHER_THREAD: Final = "created in a thread can only be used in that same thread"


class Point:
    """The point of this run: `number` 0 counts, others switch at that point; `turned`: the second callable goes first.

    `seen` are the points of the first callable, and of the second; `shares`: points are calls into one connection that
    both use; `hops` describe what happened.
    """

    def __init__(self, number: int = 0, *, turned: bool = False, shares: bool = False) -> None:
        self.number = number
        self.turned = turned
        self.shares = shares
        self.seen = [0, 0]
        self.was_used = False
        self.hops: list[str] = []
        self.databases: set[Path] = set()

    def __str__(self) -> str:
        who = "B" if self.turned else "A"
        return "; ".join(self.hops) or f"{who} at point {self.number}"


class Callers:
    """The fixture ``callers``: call it with two callables, or two coroutine functions, without arguments.

    Returns both results. A busy error of SQLite is a result like any other, and so is one of the classes in `errors`;
    any other exception is raised.
    """

    def __init__(self, point: Point) -> None:
        self._point = point

    def __call__(self, first: Any, second: Any, *, errors: tuple[type[Exception], ...] = ()) -> Any:
        """The results; to be awaited if the callables are coroutine functions."""
        if self._point.was_used:
            pytest.fail("callers is called once in a test: one schedule, one pair of calls", pytrace=False)
        self._point.was_used = True
        check = functools.partial(_checked, errors=errors)
        if inspect.iscoroutinefunction(first) and inspect.iscoroutinefunction(second):
            return self._in_one_loop(first, second, check)
        if not callable(first) or not callable(second) or any(map(inspect.iscoroutinefunction, (first, second))):
            pytest.fail(f"callers takes two callables or two coroutine functions, not {first!r} and {second!r}")
        return self._on_threads(first, second, check)

    async def _in_one_loop(self, first: Any, second: Any, check: Callable[[Any], Any]) -> list[Any]:
        point = self._point
        one, other = (second, first) if point.turned else (first, second)
        awaits = Awaits(point.number)
        results = list(await awaits.beside(one(), other))
        if not point.number:
            point.seen = [awaits.seen, awaits.seen]
        else:
            point.hops = [f"{'B' if point.turned else 'A'} up to its await {point.number}, then the other one"]
        return [check(one) for one in (reversed(results) if point.turned else results)]

    def _on_threads(self, first: Any, second: Any, check: Callable[[Any], Any]) -> list[Any]:
        point, gate, called = self._point, Gate(), list[list[sqlite3.Connection]]([[], []])
        shims = faults.shims()
        watching = contextlib.nullcontext() if point.shares else shims.watching(gate)
        with faults.waiting_in_virtual_time(shims), watching:
            callers = [Caller(name, gate, at_calls=point.shares) for name in "AB"]
            works = (first, second) if point.number else map(_noting, (first, second), called)
            try:
                for caller, work in zip(callers, works, strict=True):
                    caller.start(work, frozenset())
                leading = callers[::-1] if point.turned else callers
                if point.number:
                    leading[0].begin(frozenset({point.number}))
                hops = _switched(leading)
            finally:
                for caller in callers:
                    caller.close()
        ended = {hop.caller: hop.event for hop in hops if isinstance(hop.event, Ended)}
        point.hops = [_in_words(hop) for hop in hops]
        if not point.number:
            point.shares = not {*map(id, called[0])}.isdisjoint(map(id, called[1]))
            point.seen = [*map(len, called)] if point.shares else [ended["A"].points, ended["B"].points]
        return [check(ended[name].result) for name in "AB"]


def _noting(work: Callable[[], Any], called: list[sqlite3.Connection]) -> Callable[[], Any]:
    """The same work; the connections that it calls into are written down."""

    def noted() -> Any:
        with connections_called(called):
            return work()

    return noted


def _switched(leading: list[Caller]) -> list[Hop]:
    try:
        return switch(leading[0], leading[1])
    except Deadlock as deadlock:
        where = "; ".join(f"{name} at {stack}" for name, stack in sorted(deadlock.stacks.items()))
        pytest.fail(f"deadlock: {deadlock}: {where}", pytrace=False)


def _in_words(hop: Hop) -> str:
    event = hop.event
    if isinstance(event, Paused):
        return f"[{hop.caller}] up to {event.point.operation} {event.point.number}, at {event.point.where}"
    return f"[{hop.caller}] {'to its end' if isinstance(event, Ended) else 'waits'}"


def _checked(result: Any, *, errors: tuple[type[Exception], ...]) -> Any:
    if not isinstance(result, BaseException):
        return result
    if isinstance(result, sqlite3.ProgrammingError) and _OTHER_THREAD in str(result):
        pytest.fail(
            f"{result}: the two callables share a connection that is tied to a thread; open it inside each callable, "
            "or with check_same_thread=False",
            pytrace=False,
        )
    if isinstance(result, errors) or any(map(faults.is_busy, faults.causes(result))):
        return result
    raise result


class Cancelling:
    """The fixture ``cancelled``: ``await cancelled(coroutine)``, or ``cancelled(callable)`` for code without awaits.

    Returns True if it was cut short. Afterwards no transaction may be open, and no lock held.
    """

    def __init__(self, point: Point, raising: type[BaseException]) -> None:
        self._point = point
        self._raising = raising

    def __call__(self, work: Any) -> Any:
        """Cut it short at this run's point; to be awaited if it is a coroutine."""
        self._point.was_used = True
        if inspect.iscoroutine(work):
            return self._cancel(work)
        if not callable(work):
            pytest.fail(f"cancelled takes a coroutine, or a callable of no arguments; not {work!r}")
        return self._raise_in(work)

    async def _cancel(self, work: Any) -> bool:
        import asyncio  # noqa: PLC0415 - only if it is used

        awaits, was_cut = Awaits(self._point.number), False
        try:
            await awaits.cancelled(work)
        except asyncio.CancelledError:
            if not awaits.was_cancelled:
                raise
            was_cut = True
        self._point.seen = [awaits.seen, 0]
        self._point.hops = [f"cancelled at its await {self._point.number}"]
        await quiet()
        self._require_no_lock()
        return was_cut

    def _raise_in(self, work: Callable[[], Any]) -> bool:
        calls, was_cut = Calls(self._point.number, self._raising), False
        try:
            with calls.counted():
                work()
        except self._raising:
            was_cut = True
        self._point.seen = [calls.seen, 0]
        self._point.hops = [f"{self._raising.__name__} at its call {self._point.number} into sqlite3"]
        self._require_no_lock()
        return was_cut

    def _require_no_lock(self) -> None:
        for database in sorted(self._point.databases):
            if said := holds_a_lock(database):
                pytest.fail(
                    f"still-usable-after-the-fault: {self._point}: a transaction is left open, and every other writer "
                    f"of {database.name} gets: {said}",
                    pytrace=False,
                )


# -- running the test again ---------------------------------------------------------------------------------


class Schedules:
    """The plugin that runs marked tests as often as it takes."""

    def __init__(self) -> None:
        self._points: dict[str, Point] = {}

    def point_of(self, item: pytest.Item) -> Point:
        """The point of a test's current run."""
        return self._points.setdefault(item.nodeid, Point())

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run a marked test for each of its points, and report it once."""
        if not any(item.get_closest_marker(name) for name in MARKERS):
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports = self._all_runs(item, nextitem)
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _all_runs(self, item: pytest.Item, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
        counting, parent = Point(), item.parent
        assert parent is not None  # noqa: S101 - a test is always in something
        again = _Again.from_parent(parent, name=f"{item.name} again")
        reports = self._run(item, counting, again)
        if any(report.failed or report.skipped for report in reports):
            return self._ended(item, nextitem, reports)
        points = list(_points_of(item, counting))
        if not points:
            reports = [_vacuous(item, reports, counting)]
            return self._ended(item, nextitem, reports)
        for number, point in enumerate(points, start=1):
            reports = self._run(item, point, again)
            if failed := [report for report in reports if report.failed]:
                text = f"schedule {number} of {len(points)}: {point}"
                failed[0].sections.append(("what was switched", text))
                return self._ended(item, nextitem, reports)
        reports[0].user_properties.append(("tornpage_searched", _searched(points, counting)))
        return self._ended(item, nextitem, reports)

    def _run(self, item: Any, point: Point, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
        self._points[item.nodeid] = point
        if hasattr(item, "_initrequest"):
            item._initrequest()
        with _untied_connections(point.databases), faults.install():
            reports: list[pytest.TestReport] = runtestprotocol(item, log=False, nextitem=nextitem)
        return reports

    def _ended(
        self, item: pytest.Item, nextitem: pytest.Item | None, reports: list[pytest.TestReport]
    ) -> list[pytest.TestReport]:
        """Tear down what the next test does not need."""
        item.session._setupstate.teardown_exact(nextitem)
        self._points.pop(item.nodeid, None)
        return reports


class _Again(pytest.Item):
    """A stand-in for the next run of a test: fixtures wider than a function stay until then."""

    def runtest(self) -> None:
        raise NotImplementedError


def _points_of(item: pytest.Item, counted: Point) -> Iterator[Point]:
    first, second = (min(one, _MOST_POINTS) for one in counted.seen)
    shares = counted.shares
    yield from (Point(number, shares=shares) for number in range(1, first + 1))
    if item.get_closest_marker("interleave"):
        yield from (Point(number, turned=True, shares=shares) for number in range(1, second + 1))


def _searched(points: list[Point], counted: Point) -> str:
    """What was tried, and what was left out."""
    words = f"{len(points)} schedules"
    if counted.shares:
        words += ", at calls into a connection that both used and at no lock inside one call"
    if max(counted.seen) > _MOST_POINTS:
        words += f"; of {max(counted.seen):,} points the first {_MOST_POINTS}"
    return words


def _vacuous(item: pytest.Item, reports: list[pytest.TestReport], counted: Point) -> pytest.TestReport:
    """A failure: nothing can be switched, and why."""
    name = "interleave" if item.get_closest_marker("interleave") else "every_cancel"
    fixture = "callers" if name == "interleave" else "cancelled"
    why = "has no point at which it could be switched: no lock is taken, nothing is awaited"
    if not counted.was_used:
        why = f"never called its fixture `{fixture}`, so there was nothing to switch"
    call = next(report for report in reports if report.when == "call")
    call.outcome, call.longrepr = "failed", f"{item.nodeid} is marked {name} and {why}"
    return call


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
    return Callers(plugin_of(request.config).point_of(request.node))


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
def _untied_connections(databases: set[Path]) -> Iterator[None]:
    """Let connections be used on any thread, and record which databases are opened."""
    connect = sqlite3.connect

    @functools.wraps(connect)
    def untied(database: Any, *args: Any, **kwargs: Any) -> Any:
        if len(args) < 4:
            kwargs["check_same_thread"] = False
        made = connect(database, *args, **kwargs)
        if isinstance(database, str | Path) and not kwargs.get("uri") and str(database) != ":memory:":
            databases.add(Path(database).absolute())
        return made

    with mock.patch.object(sqlite3, "connect", untied), mock.patch.object(sqlite3.dbapi2, "connect", untied):
        yield
