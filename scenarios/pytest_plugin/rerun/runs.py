"""One run of a test: its setup, its call under a fault, a look at what is left, its teardown.

Each run has fixtures of its own with the scope of a function; those with a wider scope live on, as between two tests.
The fault is in force while the test is called. What setup and teardown do is not faulted (of a ``unittest.TestCase``
they are a part of the call).
"""

import contextlib
import shutil
import sqlite3
import sys
import traceback
import unittest
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import CodeType
from typing import Any, Final

import pytest

from tornpage import faults
from tornpage.scenarios.pytest_plugin import judging
from tornpage.scenarios.pytest_plugin.judging import FAILED, Verdict
from tornpage.scenarios.pytest_plugin.points import Operation, is_certain
from tornpage.scenarios.pytest_plugin.rerun.connections import Connections, tracked
from tornpage.scenarios.pytest_plugin.rerun.limit import TookTooLongError, limit
from tornpage.scenarios.pytest_plugin.rerun.retry import Repeats, Retrying
from tornpage.scenarios.pytest_plugin.rerun.sleep import faulted_by
from tornpage.scenarios.pytest_plugin.watchers import Commits, Databases, Operations, Unsynced

_PASSED_ON: Final = (pytest.exit.Exception, KeyboardInterrupt)
Call = pytest.CallInfo[Any]


@dataclass
class Run:
    """What a run came to. `call` is None where the setup failed; `verdict` is None without a fault."""

    setup: Call
    call: Call | None = None
    teardown: Call | None = None
    verdict: Verdict | None = None
    # The report of the phase that went wrong, made while its frames were alive.
    report: pytest.TestReport | None = None
    operations: list[Operation] = field(default_factory=list)
    # Connections that somebody forgot to close.
    left_open: int = 0
    in_transaction: bool = False
    repeated: bool = False
    fired: bool = False

    @property
    def passed(self) -> bool:
        """Whether setup, call and teardown all passed."""
        return all(one is not None and one.excinfo is None for one in (self.setup, self.call, self.teardown))


class Runner:
    """Runs one test, as often as it takes."""

    def __init__(
        self,
        item: pytest.Item,
        shim: faults.Shim,
        timeout_s: float,
        shared: list[sqlite3.Connection],
        *,
        leaves_transactions: bool = False,
    ) -> None:
        self.item = item
        self.shim = shim
        self.timeout_s = timeout_s
        # Connections of fixtures that outlive the test.
        self.shared = shared
        self._nextitem: pytest.Item | None = None
        # The test with its statements repeated, where the caller is to try again.
        self.retrying: Retrying | None = None
        # The connections of the run that is on; the fixtures tell it of their scope.
        self.connections: Connections | None = None
        # It may leave a transaction open: it does so without any fault, too, or the marker says so.
        self.leaves_transactions = leaves_transactions
        # What comes next where the test is to be run again.
        parent: Any = item.parent
        self.again: pytest.Item = _Again.from_parent(parent, name=f"{item.name} again")

    def without_fault(self, nextitem_after: Callable[[Run], pytest.Item | None]) -> Run:
        """Run it once, and write down its operations; `nextitem_after` says what comes after the teardown."""
        operations = Operations()

        def call(run: Run, connections: Connections) -> None:
            def watched() -> None:
                with self.shim.watching(Unsynced(self.shim, operations)):
                    self.item.ihook.pytest_runtest_call(item=self.item)

            run.call = self._phase("call", watched)
            self._report(run.call)
            run.operations = operations.made
            run.in_transaction = bool(connections.in_transaction())

        return self._run(call, nextitem_after, judged=False)

    def under(self, plan: faults.FaultPlan, nextitem: pytest.Item | None) -> Run:
        """Run it once with a fault armed, and judge it."""

        def call(run: Run, connections: Connections) -> None:
            armed = faults.Armed(plan)
            commits = Commits(armed)
            repeats = Repeats(connections, commits, lambda error: bool(armed.firings) and _is_injected(error))

            # A plan that was written by hand may leave open whether anything has happened.
            retrying = self.retrying if all(map(is_certain, plan.faults)) else None

            def watched() -> None:
                with contextlib.ExitStack() as stack:
                    stack.enter_context(limit(self.timeout_s))
                    stack.enter_context(faulted_by(armed))
                    if retrying is not None:
                        stack.enter_context(retrying.in_force(repeats))
                        stack.enter_context(self.shim.watching(commits))
                    stack.enter_context(self.shim.watching(Unsynced(self.shim, armed.injector)))
                    stack.enter_context(self.shim.telling())
                    self.item.ihook.pytest_runtest_call(item=self.item)

            run.call = self._phase("call", watched)
            run.repeated, run.fired = repeats.line is not None, bool(armed.firings)
            self._judge(run, armed, connections, repeats, retrying)

        return self._run(call, lambda _: nextitem, judged=True)

    def finish(self, nextitem: pytest.Item | None) -> None:
        """Tear down what was kept for another run that does not come."""
        if self._nextitem is self.again:
            session: Any = self.item.session
            session._setupstate.teardown_exact(nextitem)

    # -- the phases ----------------------------------------------------------------------------------------

    def _run(
        self,
        call: Callable[[Run, Connections], None],
        nextitem_after: Callable[[Run], pytest.Item | None],
        *,
        judged: bool,
    ) -> Run:
        item: Any = self.item
        _make_new(item)
        databases = Databases()
        with tracked(self.shared) as self.connections, self.shim.watching(databases), _request_of(item):
            with self.shim.watching(Unsynced(self.shim)):
                run = Run(self._phase("setup", lambda: item.ihook.pytest_runtest_setup(item=item)))
            if run.setup.excinfo is None:
                self._report(_passed("setup"))
                call(run, self.connections)
            elif judged:
                self._failed(run, run.setup, f"the setup fails: {judging.in_words(run.setup.excinfo.value)}")
            else:
                self._report(run.setup)
            locked = self._require_sound(run, [*databases.paths, *self._open_before(databases)])
            scratch = (getattr(item, "funcargs", None) or {}).get("tmp_path")
            self._nextitem = nextitem = nextitem_after(run)
            with self.shim.watching(Unsynced(self.shim)):
                run.teardown = self._phase(
                    "teardown", lambda: item.ihook.pytest_runtest_teardown(item=item, nextitem=nextitem)
                )
            if judged and run.teardown.excinfo is not None and not _is_injected(run.teardown.excinfo.value):
                self._failed(run, run.teardown, f"the teardown fails: {judging.in_words(run.teardown.excinfo.value)}")
            left_open = self.connections.end()
            # A test that was cut short by an error has not come to the closing.
            run.left_open = left_open if run.call is not None and run.call.excinfo is None else 0
            self._require_sound(run, locked)
        self._forget(run)
        if scratch is not None and (run.verdict is None or run.verdict.kind != FAILED) and nextitem is self.again:
            shutil.rmtree(scratch, ignore_errors=True)
        return run

    def _phase(self, when: Any, run: Callable[[], object]) -> Call:
        call = pytest.CallInfo.from_call(run, when=when, reraise=_PASSED_ON)
        # A TestCase hands its exceptions over, and raises none.
        handed_over = getattr(self.item, "_excinfo", None) if _is_unittest(self.item) else None
        if handed_over and call.excinfo is None:
            call.excinfo = handed_over[0]
        if handed_over:
            handed_over.clear()
        return call

    # -- judging -------------------------------------------------------------------------------------------

    def _judge(
        self, run: Run, armed: faults.Armed, connections: Connections, repeats: Repeats, retrying: Retrying | None
    ) -> None:
        assert run.call is not None  # noqa: S101 - it has just been made
        error = run.call.excinfo.value if run.call.excinfo is not None else None
        verdict = self._verdict(error, armed, repeats)
        if verdict.kind != FAILED and not (self.leaves_transactions or repeats.line is not None):
            code = retrying.code if retrying is not None else self._code()
            wrong = judging.left_open(connections.in_transaction(), error, code)
            verdict = Verdict(FAILED, wrong) if wrong else verdict
        run.verdict = verdict
        if verdict.kind == FAILED:
            run.report = self._report(run.call if verdict.shown else _raising(verdict.message))
        else:
            # Fixtures that ask how the test went are told that it went well: a fault that surfaces is as it should be.
            self._report(_passed("call"))

    def _verdict(self, error: BaseException | None, armed: faults.Armed, repeats: Repeats) -> Verdict:
        if isinstance(error, TookTooLongError):
            return Verdict(FAILED, str(error), shown=True)
        if repeats.line is not None and error is not None:
            again = f"line {repeats.line} raised {repeats.first}, was executed once more, and then"
            return Verdict(FAILED, f"{again} {judging.in_words(error)}", shown=True)
        if repeats.line is not None:
            return Verdict(judging.SURFACED)
        return judging.judge(error, armed)

    def _code(self) -> CodeType | None:
        function: Any = getattr(self.item, "obj", None)
        while hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        return getattr(function, "__code__", None)

    def _open_before(self, databases: Databases) -> set[str]:
        """The databases that are open and were not opened by this run."""
        names = {path for path in self.shim.paths.values() if path is not None} - databases.paths.keys()
        return {path for path in names if not path.endswith(("-wal", "-journal")) and "-mj" not in path}

    def _require_sound(self, run: Run, paths: list[str]) -> list[str]:
        if run.verdict is None or run.verdict.kind == FAILED:
            return []
        wrong, locked = judging.damage(paths)
        if wrong:
            self._failed(run, _raising(wrong), wrong)
        return locked

    def _failed(self, run: Run, call: Call, message: str) -> None:
        if run.verdict is not None and run.verdict.kind == FAILED:
            return
        run.verdict = Verdict(FAILED, message)
        run.report = self._report(call)

    def _report(self, call: Call) -> pytest.TestReport:
        """Each phase is to be reported within the run: fixtures and plugins look at it in the teardown."""
        report: pytest.TestReport = self.item.ihook.pytest_runtest_makereport(item=self.item, call=call)
        return report

    def _forget(self, run: Run) -> None:
        """Let go of what the frames of a failed run hold: cursors keep a connection open, and its locks held."""
        for call in (run.setup, run.call, run.teardown):
            if call is None or call.excinfo is None or run.verdict is None:
                continue
            for cause in faults.causes(call.excinfo.value):
                traceback.clear_frames(cause.__traceback__)
            for name in ("last_type", "last_value", "last_traceback", "last_exc"):
                vars(sys).pop(name, None)


def _is_injected(error: BaseException) -> bool:
    return judging.injected(error) is not None


def _passed(when: Any) -> Call:
    return pytest.CallInfo.from_call(lambda: None, when=when)


def _raising(message: str) -> Call:
    return pytest.CallInfo.from_call(lambda: pytest.fail(message, pytrace=False), when="call")


class _Again(pytest.Item):
    """Stands for the same test, to be run next: its parents stay set up, and it does not."""

    def runtest(self) -> None:
        """It is never run itself."""
        raise NotImplementedError


def _is_unittest(item: pytest.Item) -> bool:
    owner = getattr(item, "cls", None)
    return owner is not None and issubclass(owner, unittest.TestCase)


def _make_new(item: Any) -> None:
    """A new instance of the test's class, and nothing of what earlier runs have printed."""
    if getattr(item, "cls", None) is not None:
        for name in ("_instance", "_obj"):
            vars(item).pop(name, None)
    getattr(item, "_report_sections", []).clear()


@contextlib.contextmanager
def _request_of(item: Any) -> Iterator[None]:
    """As pytest's own `runtestprotocol` does: a new request for each run, and none after it."""
    has_request = hasattr(item, "_request")
    if has_request and not item._request:
        item._initrequest()
    try:
        yield
    finally:
        if has_request:
            item._request = False
            item.funcargs = None
