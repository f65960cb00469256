"""Findings that may have one cause: a report shows them together, and the headline counts the causes.

Method. Findings are alike if the same check fails at the same line of the code under test. Beyond that:

- where ROLLBACK had no memory, or memory ran out and a transaction is still open, the cause is that connection,
  whatever check and call have met it; but if ROLLBACK is not known to have failed, and a finding without lack of memory
  has the same line, it is that one's cause;
- a transaction that a failed call has left open is met by many checks, at the lines of the calls that come next; a
  cancelled call, which no ``except Exception`` handles, is another cause, and so is a call that leaves one open without
  any fault;
- a store that can't be used any more raises one error, wherever the fault or the crash was; what a crash has left in
  its files is another cause than what a fault has left in its memory;
- of plain files, what only a power cut shows is one cause, a sync that is missing; what is there by half after a fault,
  a crash or a kill, or can't be read then, is another;
- what a crash has left, and the next call meets, is one cause, whichever kind of crash it was;
- a call that is there by half after a fault, a crash or a kill is one cause: it is more than one transaction;
- a store that can't be used any more because its opening was stopped is one cause, whatever error that leads to: an
  opening that makes or changes its tables step by step leads to one at each step;
- an error in the place of the fault is one cause, whichever call met it; so is a call that returns False then, which is
  how some stores say that they have failed;
- what a session shows of before another caller's commit is one cause, whichever calls they were;
- what a crash has taken of acknowledged changes is one cause, whichever calls made them, and whether they added or
  deleted: no error was raised, so the line says only which call it was.

Not covered: two defects at one line, which are shown together; so the wording is "maybe".
"""

import re
from collections.abc import Sequence
from typing import Final

from tornpage.scenarios.execution.generic_checks.open_connections import CANNOT_ROLL_BACK, STILL_OPEN
from tornpage.scenarios.model.events import NOT_SHOWN
from tornpage.scenarios.model.fingerprint import call_of, causes_of, is_cancelled
from tornpage.scenarios.model.judging.unpromised import NO_MEMORY_EITHER
from tornpage.scenarios.model.scenario import Call
from tornpage.scenarios.run.record import FoundRecord

_Cause = tuple[str, ...]

_OF_MEMORY: Final[_Cause] = (CANNOT_ROLL_BACK,)
_LOST: Final = frozenset(("acknowledged-is-durable", "no-resurrection"))
_HALF: Final = frozenset(("all-or-nothing", "failed-write-changed-nothing"))
_CRASHES: Final = frozenset(("crash", "kill", "power cut"))
_MET_BY_THE_NEXT: Final = frozenset(("integrity", "still-usable-after-the-fault"))
# What the checks say of files that can't be read, and of a store that can't be used on them.
_UNREADABLE: Final = re.compile(r"(opening\b[^:]*|reader of the files|plain reader|live view) fails")
# An error as `repr` gives it, or as its name and text.
_ERROR: Final = re.compile(
    r"(?:fails(?: with|:)|is refused:|failed with|failed \() ?(\w+)"
    r"(?:\((?:\d+, )?(?:'([^']*)'|\"([^\"]*)\")|: ([^;]*))"
)
# Many defects end in these, and a transaction that is left open has a rule of its own.
_COMMON: Final = ("database is locked", "database table is locked")
_AFTER_A_CRASH: Final = "after a crash"
_NEXT_CALL: Final = "the next call was acknowledged, but changed"
# Of a database it is an open transaction, which the next call has committed.
_WROTE_WHAT_FAILED: Final = "it wrote the change of the failed call before it"
# The call that was stopped half-way by a crash or a kill.
_STOPPED: Final = re.compile(r"(?:while |killed in )([\w.]+)\(.*?\) (?:was pending|by )", re.DOTALL)
_RETURNED_FALSE: Final = re.compile(r"(?:it|was acknowledged and) returned False; ")
_IN_ITS_PLACE: Final = re.compile(r"hides the fault: the caller gets (.*?); neither", re.DOTALL)


def by_cause(findings: Sequence[FoundRecord]) -> list[list[int]]:
    """The numbers of the findings, those that may have one cause together, in their order.

    What fails without any fault comes first, and what a replay does not show last, within a cause and among the causes.
    """
    at_lines = {
        one.where: _cause_of(one, 0)
        for one in reversed(findings)
        if one.where and not _is_of_memory(one) and not is_cancelled(one.scenario)
    }
    found: dict[_Cause, list[int]] = {}
    for number in sorted(range(len(findings)), key=lambda number: _rank(findings[number])):
        one = findings[number]
        cause = _cause_of(one, number)
        if cause == _OF_MEMORY and NO_MEMORY_EITHER not in one.message:
            cause = at_lines.get(one.where, cause)
        found.setdefault(cause, []).append(number)
    return list(found.values())


def _rank(found: FoundRecord) -> tuple[bool, bool]:
    return NOT_SHOWN in found.message, bool(causes_of(found.scenario))


def _cause_of(found: FoundRecord, number: int) -> _Cause:
    causes = causes_of(found.scenario)
    if _is_of_memory(found):
        return _OF_MEMORY
    is_file = found.scenario.configuration.journal_mode == "file"
    if STILL_OPEN in found.message or (_WROTE_WHAT_FAILED in found.message and not is_file):
        return STILL_OPEN, "cancelled" if is_cancelled(found.scenario) else "failed" if causes else "no fault"
    if is_file and (cause := _cause_in_files(found, frozenset(causes))):
        return cause
    return _how_it_failed(found) or _met_later(found, frozenset(causes)) or (found.check, found.where or str(number))


def _cause_in_files(found: FoundRecord, causes: frozenset[str]) -> _Cause:
    """What a store of plain files leaves out: a sync, or a change that is whole; empty for another cause."""
    is_unreadable = found.check in _MET_BY_THE_NEXT and _UNREADABLE.search(found.message)
    if not causes or _NEXT_CALL in found.message or not (is_unreadable or found.check in _LOST | _HALF):
        return ()
    if "power cut" in causes:
        return "lost", "power cut"
    is_half = is_unreadable or found.check == "all-or-nothing" or _CRASHES.issuperset(causes)
    return ("half",) if is_half else ()


def _how_it_failed(found: FoundRecord) -> _Cause:
    """What a store says or shows in the place of what has happened, whichever call it was; empty for none."""
    if error := _IN_ITS_PLACE.search(found.message):
        return found.check, error[1]
    if found.check == "stale-view":
        return (found.check,)
    return ("returned False",) if _RETURNED_FALSE.search(found.message) else ()


def _met_later(found: FoundRecord, causes: frozenset[str]) -> _Cause:
    """What has been left to the next call or opening, by half or not at all; empty for another finding."""
    if found.check in _MET_BY_THE_NEXT and (error := _error_of(found)):
        is_left = _AFTER_A_CRASH in found.message or not _CRASHES.isdisjoint(causes)
        if is_left and causes and not any(isinstance(step, Call) for step in found.scenario.steps):
            return "error", "of the opening", "left"
        return "error", error, "left" if is_left else ""
    if "power cut" not in causes and (call := _call_by_half(found, causes)):
        return "half", call
    if found.check in _LOST and causes and _CRASHES.issuperset(causes):
        return ("next call",) if _NEXT_CALL in found.message else ("lost", *sorted(causes))
    return ()


def _call_by_half(found: FoundRecord, causes: frozenset[str]) -> str:
    """The name of the call of which a part is there, or a part of what was there is gone; "" for another finding."""
    stopped = _STOPPED.search(found.message)
    if stopped is not None and found.check in _LOST | _HALF:
        return stopped[1]
    return call_of(found.scenario) if found.check == "all-or-nothing" and causes else ""


def _error_of(found: FoundRecord) -> str:
    """The error that whoever comes next meets, as text; "" for none that says what the cause is."""
    error = _ERROR.search(found.message)
    if error is None:
        return ""
    name, *texts = error.groups()
    text = next(one for one in texts if one is not None).removesuffix(")")
    return "" if text in _COMMON else f"{name}: {text}"


def _is_of_memory(found: FoundRecord) -> bool:
    """Whether memory ran out, and a transaction is still open."""
    is_of_memory = causes_of(found.scenario) == ("limit",) and not is_cancelled(found.scenario)
    return CANNOT_ROLL_BACK in found.message or (is_of_memory and STILL_OPEN in found.message)
