"""One run of a test: its setup, its call under a fault, the checks after it, its teardown.

Each run has its own fixtures with function scope; those with a wider scope stay, as between two tests. The fault is in
force while the test is called. Setup and teardown are not faulted (for a ``unittest.TestCase`` they are part of the
call).
"""

import contextlib
import os
import shutil
import sys
import threading
import traceback
import unittest
from collections.abc import Callable
from dataclasses import dataclass, field
from types import CodeType
from typing import Any, Final

import pytest

from tornpage import faults
from tornpage.faults.locks import live_threads
from tornpage.faults.vfs import passed_by, shared_files
from tornpage.scenarios.execution.left_threads import daemons, do_not_wait_for
from tornpage.scenarios.pytest_plugin import guests, reports
from tornpage.scenarios.pytest_plugin.points import Operation, is_certain
from tornpage.scenarios.pytest_plugin.rerun import judging
from tornpage.scenarios.pytest_plugin.rerun.connections import Connections, Shared, quiet, tracked
from tornpage.scenarios.pytest_plugin.rerun.judging import FAILED, Verdict
from tornpage.scenarios.pytest_plugin.rerun.limit import TookTooLongError, limit, limit_of
from tornpage.scenarios.pytest_plugin.rerun.plain_files import watched as watched_files
from tornpage.scenarios.pytest_plugin.rerun.retry import Repeats, Retrying
from tornpage.scenarios.pytest_plugin.rerun.sleep import faulted_by, know_also
from tornpage.scenarios.pytest_plugin.rerun.threads import Threads, dying_of
from tornpage.scenarios.pytest_plugin.rerun.watchers import Commits, Databases, Operations, Unsynced, Workers

PASSED_ON: Final = (pytest.exit.Exception, KeyboardInterrupt)
Call = pytest.CallInfo[Any]
# What comes after a run: the test itself again, or the next one.
NextItem = Callable[["Run"], pytest.Item | None]


@dataclass
class Run:
    """The result of a run. `call` is None if the setup failed; `verdict` is None without a fault."""

    setup: Call
    call: Call | None = None
    teardown: Call | None = None
    verdict: Verdict | None = None
    # The reports of the phases, made within the run: hooks read fixtures and frames that are alive.
    reports: dict[str, pytest.TestReport] = field(default_factory=dict)
    # The report of the failure under the fault.
    report: pytest.TestReport | None = None
    operations: list[Operation] = field(default_factory=list)
    # How many threads made operations below SQLite during the call.
    workers: int = 0
    # How often the plan's faults could have been due.
    matches: list[int] = field(default_factory=list)
    # Connections that the run did not close and that nothing keeps; threads that are still alive.
    left_open: int = 0
    threads: list[threading.Thread] = field(default_factory=list)
    # Databases that could not be checked while the run had them open.
    locked: list[str] = field(default_factory=list)
    # Databases written past every watched library, in words; and whether another process may have done so.
    passed_by: str = ""
    by_a_process: bool = False
    # A database that two libraries had open at once, in words: what it reads then is wrong without any fault.
    two_libraries: str = ""
    # Whether other connections outlive it than before.
    changed_shared: bool = False
    # Whether the fault hit a file that other runs have open, too.
    hit_shared: bool = False
    in_transaction: bool = False
    repeated: bool = False
    fired: bool = False
    timed_out: bool = False

    @property
    def passed(self) -> bool:
        """Whether setup, call and teardown all passed."""
        return all(one is not None and one.excinfo is None for one in (self.setup, self.call, self.teardown))

    @property
    def seconds(self) -> float:
        """The duration of its phases."""
        return sum(one.duration for one in (self.setup, self.call, self.teardown) if one is not None)

    @property
    def failed_phase(self) -> Call | None:
        """The first phase that did not pass."""
        phases = (self.setup, self.call, self.teardown)
        return next((one for one in phases if one is not None and one.excinfo is not None), None)


class Runner:
    """Runs one test, as often as it takes."""

    def __init__(
        self,
        item: pytest.Item,
        shim: faults.Shims,
        timeout_s: float | None,
        shared: Shared,
        *,
        leaves_transactions: bool = False,
        hides_errors: bool = False,
    ) -> None:
        self.item = item
        self.shim = shim
        self._asked_timeout_s = timeout_s
        self.timeout_s = limit_of(timeout_s, 0)
        # Connections that outlive the test.
        self.shared = shared
        self._nextitem: pytest.Item | None = None
        # The directory of the run that is on.
        self._scratch: Any = None
        # The databases that two libraries have had open at once in it.
        self._shared_files: list[shared_files.SharedFile] = []
        self._threads = Threads()
        self._properties = list(item.user_properties)
        # The test with its statements repeated, for retry.
        self.retrying: Retrying | None = None
        # The connections of the current run; the fixtures report their scope to it.
        self.connections: Connections | None = None
        # It may leave a transaction open: it does so without any fault, too, or the marker allows it.
        self.leaves_transactions = leaves_transactions
        self._hides_errors = hides_errors
        # What comes next if the test is to be run again.
        parent: Any = item.parent
        self.again: pytest.Item = _Again.from_parent(parent, name=f"{item.name} again")

    def without_fault(self, nextitem_after: NextItem) -> Run:
        """Run it once, and record its operations; `nextitem_after` decides what comes after the call."""
        operations = Operations()

        def call(run: Run, connections: Connections) -> None:
            def watched() -> None:
                with self.shim.watching(Unsynced(self.shim, operations)), watched_files(operations, self.item):
                    self.item.ihook.pytest_runtest_call(item=self.item)

            with passed_by.heard() as written:
                run.call = self._phase("call", watched)
            run.reports["call"] = self._report(run.call)
            run.two_libraries = str(self._shared_files[0]) if self._shared_files else ""
            if self._scratch is not None and (files := passed_by.passed_by(self._scratch, written)):
                run.passed_by = passed_by.in_words(files, has_processes=written.has_processes)
                run.by_a_process = written.has_processes
            run.operations, run.workers = operations.made, len(operations.workers)
            run.in_transaction = bool(connections.left_in_transaction())

        run = self._run(call, nextitem_after, is_faulted=False)
        self.timeout_s = max(self.timeout_s, limit_of(self._asked_timeout_s, run.seconds))
        return run

    def under(self, plan: faults.FaultPlan, nextitem_after: NextItem) -> Run:
        """Run it once with a fault armed, and judge it."""

        def call(run: Run, connections: Connections) -> None:
            armed, workers = faults.Armed(plan), Workers()
            commits = Commits(armed)
            # A plan written by hand may leave open whether anything has happened.
            retrying = self.retrying if all(map(is_certain, plan.faults)) else None
            code = retrying.code if retrying is not None else self._code()
            repeats = Repeats(
                connections,
                commits,
                lambda error: bool(armed.firings) and _is_injected(error),
                lambda error: judging.hidden(error, code),
            )

            def watched() -> None:
                with contextlib.ExitStack() as stack:
                    stack.enter_context(faulted_by(armed))
                    if retrying is not None:
                        stack.enter_context(retrying.in_force(repeats))
                        stack.enter_context(self.shim.watching(commits))
                    stack.enter_context(self.shim.watching(workers))
                    stack.enter_context(self.shim.watching(Unsynced(self.shim, armed.injector)))
                    stack.enter_context(watched_files(armed.injector, self.item))
                    stack.enter_context(self.shim.telling())
                    self.item.ihook.pytest_runtest_call(item=self.item)

            run.call = self._phase("call", watched, self.timeout_s)
            run.repeated, run.fired = repeats.line is not None, bool(armed.firings)
            run.timed_out = run.call.excinfo is not None and _hung(run.call.excinfo.value) is not None
            run.workers, run.matches = len(workers.seen), list(armed.injector.matches)
            run.hit_shared = self._is_shared({firing.path for firing in armed.firings})
            self._judge(run, armed, connections, repeats, code)

        return self._run(call, nextitem_after, is_faulted=True)

    def finish(self, nextitem: pytest.Item | None, *, in_any_case: bool = False) -> Call | None:
        """Tear down what was kept for another run that does not come; None if nothing was.

        `in_any_case`: a run was cut short in its middle.
        """
        if self._nextitem is not self.again and not in_any_case:
            return None
        self._nextitem = nextitem
        session: Any = self.item.session
        return self._phase("teardown", lambda: session._setupstate.teardown_exact(nextitem))

    # -- the phases ----------------------------------------------------------------------------------------

    def _run(self, call: Callable[[Run, Connections], None], nextitem_after: NextItem, *, is_faulted: bool) -> Run:
        item: Any = self.item
        self._make_new()
        databases, before = Databases(), set(live_threads())
        with (
            tracked(self.shared) as self.connections,
            self.shim.watching(databases),
            shared_files.shared() as self._shared_files,
            daemons() if is_faulted else contextlib.nullcontext(),
            dying_of(_is_injected) if is_faulted else contextlib.nullcontext(),
        ):
            with guests.timers_of(item), guests.request_of(item):
                run = self._phases(call, nextitem_after, databases, is_faulted=is_faulted)
            self._forget(run)
            left_open = self.connections.collect()
            threads = self._threads.left_behind(before)
            left_open += self.connections.end(is_faulted=is_faulted)
            # A test that an error cut short has not reached its own closing.
            run.left_open = left_open if run.call is not None and run.call.excinfo is None else 0
            run.changed_shared = self.connections.have_changed
            self._require_sound(run, run.locked)
        self._after(run, threads, is_faulted=is_faulted)
        return run

    def _phases(
        self,
        call: Callable[[Run, Connections], None],
        nextitem_after: NextItem,
        databases: Databases,
        *,
        is_faulted: bool,
    ) -> Run:
        """Setup, call, checks, teardown; each is reported while its fixtures are alive."""
        item: Any = self.item
        seconds = self.timeout_s if is_faulted else None
        with self.shim.watching(Unsynced(self.shim)):
            run = Run(self._phase("setup", lambda: item.ihook.pytest_runtest_setup(item=item), seconds))
        run.reports["setup"] = self._report(run.setup)
        self._scratch = (getattr(item, "funcargs", None) or {}).get("tmp_path")
        if run.setup.excinfo is None:
            guests.make_ready(item, self.shim)
            call(run, self._connections)
        elif is_faulted:
            self._failed(run, f"the setup fails: {judging.in_words(run.setup.excinfo.value)}", run.reports["setup"])
        seen = self._connections.databases() - databases.paths.keys()
        run.locked = self._require_sound(run, [*databases.paths, *seen])
        self._nextitem = nextitem = nextitem_after(run)
        with self.shim.watching(Unsynced(self.shim)):
            run.teardown = self._phase(
                "teardown", lambda: item.ihook.pytest_runtest_teardown(item=item, nextitem=nextitem), seconds
            )
        run.reports["teardown"] = self._report(run.teardown)
        error = run.teardown.excinfo.value if run.teardown.excinfo is not None else None
        if is_faulted and error is not None and not _is_injected(error):
            self._failed(run, f"the teardown fails: {judging.in_words(error)}", run.reports["teardown"])
        return run

    def _after(self, run: Run, threads: list[threading.Thread], *, is_faulted: bool) -> None:
        """What a run leaves in the process and on the disk."""
        # From now on they are known: no run has to wait for them in real time.
        know_also(threads)
        if is_faulted:
            run.threads = threads
            for thread in threads:
                do_not_wait_for(thread)
        has_failed = run.verdict is not None and run.verdict.kind == FAILED
        if self._scratch is not None and self._nextitem is self.again and not has_failed:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self.shared.close_below(str(self._scratch))

    def _is_shared(self, paths: set[str | None]) -> bool:
        own = f"{os.path.realpath(self._scratch)}{os.sep}" if self._scratch is not None else None
        others = [path for path in paths if path is not None and not (own is not None and path.startswith(own))]
        return bool(others) and any(True for _ in self.shared)

    @property
    def _connections(self) -> Connections:
        assert self.connections is not None  # noqa: S101 - a run is on
        return self.connections

    def _phase(self, when: Any, run: Callable[[], object], seconds: float | None = None) -> Call:
        def limited() -> None:
            with limit(seconds) if seconds is not None else contextlib.nullcontext():
                run()

        call = pytest.CallInfo.from_call(limited, when=when, reraise=PASSED_ON)
        # A TestCase hands its exceptions over, and raises none.
        handed_over = getattr(self.item, "_excinfo", None) if _is_unittest(self.item) else None
        if handed_over and call.excinfo is None:
            call.excinfo = handed_over[0]
        if handed_over:
            handed_over.clear()
        return call

    def _make_new(self) -> None:
        """A new instance of the test's class, without output or records of earlier runs."""
        item: Any = self.item
        self._scratch = None
        guests.drop_instance(item)
        getattr(item, "_report_sections", []).clear()
        item.user_properties[:] = self._properties

    # -- judging -------------------------------------------------------------------------------------------

    def _judge(
        self, run: Run, armed: faults.Armed, connections: Connections, repeats: Repeats, code: CodeType | None
    ) -> None:
        assert run.call is not None  # noqa: S101 - it has just been made
        error = run.call.excinfo.value if run.call.excinfo is not None else None
        verdict = self._verdict(error, armed, repeats)
        if verdict.kind != FAILED and not (self.leaves_transactions or repeats.line is not None):
            wrong = judging.left_open(connections.left_in_transaction(), error, code)
            verdict = Verdict(FAILED, wrong) if wrong else verdict
        if verdict.kind == judging.SURFACED and not self._hides_errors:
            wrong = judging.hidden(error, code) if error is not None else repeats.hidden
            verdict = Verdict(FAILED, wrong, shown=error is not None) if wrong else verdict
        run.verdict = verdict
        if verdict.kind == FAILED:
            run.report = run.reports["call"] = self._report(run.call if verdict.shown else _raising(verdict.message))
        else:
            # Fixtures that check the result of the test see a pass: a fault that surfaces is correct.
            run.reports["call"] = self._report(_passed("call"))

    def _verdict(self, error: BaseException | None, armed: faults.Armed, repeats: Repeats) -> Verdict:
        if (hung := _hung(error)) is not None:
            return Verdict(FAILED, f"still-usable-after-the-fault: {hung}", shown=True)
        if repeats.line is not None and error is not None:
            again = f"line {repeats.line} raised {repeats.first}, was executed again, and then"
            return Verdict(FAILED, f"{again} {judging.in_words(error)}{judging.cure_of(error)}", shown=True)
        if repeats.line is not None:
            return Verdict(judging.SURFACED)
        return judging.judge(error, armed)

    def _code(self) -> CodeType | None:
        function: Any = getattr(self.item, "obj", None)
        while hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        return getattr(function, "__code__", None)

    def _require_sound(self, run: Run, paths: list[str]) -> list[str]:
        if run.verdict is None or run.verdict.kind == FAILED:
            return []
        wrong, locked = judging.damage(paths)
        if wrong:
            self._failed(run, wrong, reports.failed(self.item, run.reports["call"], wrong))
        return locked

    def _failed(self, run: Run, message: str, report: pytest.TestReport) -> None:
        if run.verdict is None or run.verdict.kind != FAILED:
            run.verdict, run.report = Verdict(FAILED, message), report

    def _report(self, call: Call) -> pytest.TestReport:
        """Report each phase within the run: fixtures and plugins read it in the teardown."""
        report: pytest.TestReport = self.item.ihook.pytest_runtest_makereport(item=self.item, call=call)
        return report

    def _forget(self, run: Run) -> None:
        """Release what the frames of a failed run hold: cursors keep a connection open, and its locks held.

        Warnings at their release, such as for a coroutine that was never awaited, are caused by the error. A cleared
        frame still holds its function's closure, so nothing may hold the frame either.
        """
        guests.drop_instance(self.item)
        with quiet():
            for call in (run.setup, run.call, run.teardown):
                if call is None or call.excinfo is None:
                    continue
                error = call.excinfo.value
                for cause in faults.causes(error):
                    traceback.clear_frames(cause.__traceback__)
                    cause.__traceback__ = None
                call.excinfo = pytest.ExceptionInfo.from_exc_info((type(error), error, None))  # type: ignore[arg-type]
                for name in ("last_type", "last_value", "last_traceback", "last_exc"):
                    vars(sys).pop(name, None)


def _is_injected(error: BaseException) -> bool:
    return judging.injected(error) is not None


def _hung(error: BaseException | None) -> BaseException | None:
    """The error that ended a run over the time limit, even if the code wrapped it."""
    causes = faults.causes(error) if error is not None else ()
    return next((one for one in causes if isinstance(one, TookTooLongError) or guests.is_timeout(one)), None)


def _passed(when: Any) -> Call:
    return pytest.CallInfo.from_call(lambda: None, when=when)


def _raising(message: str) -> Call:
    return pytest.CallInfo.from_call(lambda: pytest.fail(message, pytrace=False), when="call")


class _Again(pytest.Item):
    """A stand-in for the same test as the next one: its parents stay set up, and it does not."""

    def runtest(self) -> None:
        """It is never run itself."""
        raise NotImplementedError


def _is_unittest(item: pytest.Item) -> bool:
    owner = getattr(item, "cls", None)
    return owner is not None and issubclass(owner, unittest.TestCase)
