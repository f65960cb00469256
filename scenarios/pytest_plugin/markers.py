"""The arguments of the two markers, parsed and checked after collection."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import pytest

from tornpage import faults
from tornpage.scenarios.pytest_plugin import guests
from tornpage.scenarios.pytest_plugin.points import Choice, ChoiceError

_ARGUMENTS: Final = (
    "retry",
    "effects",
    "operations",
    "sticky",
    "max_points",
    "timeout",
    "open_transactions",
    "hidden_errors",
)


class MarkerError(Exception):
    """An invalid marker: what was given, and what is allowed."""


@dataclass(frozen=True, slots=True)
class EveryFault:
    """The arguments of ``@pytest.mark.every_fault``."""

    choice: Choice
    retry: bool = False
    max_points: int | None = None
    timeout_s: float | None = None
    open_transactions: bool = False
    hidden_errors: bool = False


def plan_of(text: object) -> faults.FaultPlan:
    """Read a fault plan that is to be armed in this process; raises `MarkerError`."""
    if not isinstance(text, str):
        raise MarkerError(f"a fault plan is text such as 'write:wal@1=FULL', not {text!r}")
    try:
        plan = faults.FaultPlan.parse(text)
        faults.require_possible(plan)
    except faults.FaultError as error:
        raise MarkerError(str(error)) from error
    if any(fault.effect == faults.KILL for fault in plan.faults):
        raise MarkerError(f"{plan} would kill pytest itself; tornpage kill has processes for it")
    if strange := [fault.kind for fault in plan.faults if fault.kind in faults.STATEMENT_KINDS]:
        raise MarkerError(
            f"{plan}: {strange[0]} is not an operation below SQLite or on plain files: "
            f"{', '.join((*faults.VFS_KINDS, *faults.FILE_KINDS))}, any"
        )
    return plan


def faults_of(item: pytest.Item) -> faults.FaultPlan | None:
    """The plan of the nearest ``with_faults`` marker; raises `MarkerError`."""
    mark = item.get_closest_marker("with_faults")
    if mark is None:
        return None
    if item.get_closest_marker("every_fault") is not None:
        raise MarkerError("a test has either with_faults(plan) or every_fault, not both")
    if len(mark.args) != 1 or mark.kwargs:
        raise MarkerError("with_faults takes one fault plan: @pytest.mark.with_faults('write:wal@1=FULL')")
    return plan_of(mark.args[0])


def every_fault_of(item: pytest.Item) -> EveryFault | None:
    """The arguments of the nearest ``every_fault`` marker; raises `MarkerError`."""
    mark = item.get_closest_marker("every_fault")
    if mark is None:
        return None
    if mark.args:
        raise MarkerError(f"every_fault takes its arguments by name: {', '.join(_ARGUMENTS)}; not {mark.args[0]!r}")
    for name in mark.kwargs:
        if name not in _ARGUMENTS:
            near = difflib.get_close_matches(name, _ARGUMENTS, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise MarkerError(f"every_fault has no argument {name}{hint}; it has: {', '.join(_ARGUMENTS)}")
    _require_supported(item)
    return _read(**mark.kwargs)


def _read(
    *,
    retry: object = False,
    effects: object = None,
    operations: object = None,
    sticky: object = False,
    max_points: Any = None,
    timeout: Any = None,
    open_transactions: object = False,
    hidden_errors: object = False,
) -> EveryFault:
    flags = {"retry": retry, "sticky": sticky, "open_transactions": open_transactions, "hidden_errors": hidden_errors}
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise MarkerError(f"every_fault: {name} is True or False, not {flag!r}")
    if retry and sticky:
        raise MarkerError(
            "every_fault: a caller that tries again needs a fault that is over: retry or sticky, not both"
        )
    if max_points is not None and (not isinstance(max_points, int) or max_points < 1):
        raise MarkerError(f"every_fault: max_points is a whole number from 1 on, not {max_points!r}")
    if timeout is not None and (not isinstance(timeout, int | float) or not 0 < timeout < float("inf")):
        raise MarkerError(f"every_fault: timeout is a number of seconds above 0, not {timeout!r}")
    try:
        choice = Choice(_names("effects", effects), _names("operations", operations), bool(sticky), bool(retry))
    except ChoiceError as error:
        raise MarkerError(f"every_fault: {error}") from error
    return EveryFault(choice, bool(retry), max_points, timeout, bool(open_transactions), bool(hidden_errors))


def _names(argument: str, given: object) -> tuple[str, ...] | None:
    """Names in any allowed form: one, several with commas, or a sequence of them."""
    if given is None:
        return None
    if isinstance(given, str):
        given = [one.strip() for one in given.split(",")]
    names = list(given) if isinstance(given, Iterable) else []
    if not names or not all(isinstance(one, str) for one in names):
        raise MarkerError(f"every_fault: {argument} is a name, or several, not {given!r}")
    return tuple(names)


def _require_supported(item: pytest.Item) -> None:
    if hasattr(getattr(item, "obj", None), "hypothesis"):
        raise MarkerError("every_fault can't sweep a Hypothesis test: its I/O differs each time; see tornpage fuzz")
    if reason := guests.why_not(item):
        raise MarkerError(reason)
