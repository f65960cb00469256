"""The reports that pytest gets of a sweep, built from those of its runs.

Hooks that make reports may read the fixtures of the test. They have been called within the runs; after the last run the
fixtures are gone, so later messages are added to an existing report.
"""

import copy
from typing import Any

import pytest


def failed(
    item: pytest.Item, report: pytest.TestReport, message: str, *, may_be_expected: bool = True
) -> pytest.TestReport:
    """A report of a phase, turned into a failure with this message."""
    made = copy.copy(report)
    made.sections = list(report.sections)
    call = pytest.CallInfo.from_call(lambda: pytest.fail(message, pytrace=False), when="call")
    assert call.excinfo is not None  # noqa: S101 - it has just been raised
    made.longrepr = item.repr_failure(call.excinfo)
    return as_failure(made, may_be_expected=may_be_expected)


def as_failure(report: pytest.TestReport, *, may_be_expected: bool = True) -> pytest.TestReport:
    """The report of a test that failed in its call; one marked as expected to fail has failed as expected."""
    report.when = "call"
    if may_be_expected and hasattr(report, "wasxfail"):
        report.outcome = "skipped"
    else:
        report.outcome = "failed"
        vars(report).pop("wasxfail", None)
    return report


def by_itself(item: pytest.Item, message: str) -> list[pytest.TestReport]:
    """The reports of a test that could not be run: no hook is called, since one may be the cause."""
    phases: list[tuple[Any, Any]] = [
        ("setup", lambda: None),
        ("call", lambda: pytest.fail(message, pytrace=False)),
        ("teardown", lambda: None),
    ]
    calls = [pytest.CallInfo.from_call(run, when=when) for when, run in phases]
    return [pytest.TestReport.from_item_and_call(item, call) for call in calls]
