"""Findings that may have one cause: a report shows them together, and the headline counts the causes.

Method. Findings are alike if the same check fails at the same line of the code under test. Beyond that:

- where ROLLBACK had no memory, or memory ran out and a transaction is still open, the cause is that connection,
  whatever check and call have met it;
- a transaction that a failed call has left open is met by many checks, at the lines of the calls that come next; a
  cancelled call, which no ``except Exception`` handles, is another cause;
- what a crash has taken of acknowledged changes is one cause, whichever calls made them, and whether they added or
  deleted: no error was raised, so the line says only which call it was.

Not covered: two defects at one line, which are shown together; so the wording is "maybe".
"""

from collections.abc import Sequence
from typing import Final

from tornpage.scenarios.execution.generic_checks.open_connections import CANNOT_ROLL_BACK, STILL_OPEN
from tornpage.scenarios.model.events import NOT_SHOWN
from tornpage.scenarios.model.fingerprint import causes_of, is_cancelled
from tornpage.scenarios.run.record import FoundRecord

_LOST: Final = frozenset(("acknowledged-is-durable", "no-resurrection"))
_CRASHES: Final = frozenset(("crash", "kill", "power cut"))


def by_cause(findings: Sequence[FoundRecord]) -> list[list[int]]:
    """The numbers of the findings, those that may have one cause together, in their order.

    What a replay does not show comes last, within a cause and among the causes.
    """
    found: dict[tuple[str, ...], list[int]] = {}
    for number in sorted(range(len(findings)), key=lambda number: NOT_SHOWN in findings[number].message):
        found.setdefault(_cause_of(findings[number], number), []).append(number)
    return list(found.values())


def _cause_of(found: FoundRecord, number: int) -> tuple[str, ...]:
    causes = causes_of(found.scenario)
    is_of_memory = causes == ("limit",) and not is_cancelled(found.scenario)
    if CANNOT_ROLL_BACK in found.message or (is_of_memory and STILL_OPEN in found.message):
        return (CANNOT_ROLL_BACK,)
    if STILL_OPEN in found.message:
        return STILL_OPEN, "cancelled" if is_cancelled(found.scenario) else ""
    if found.check in _LOST and causes and _CRASHES.issuperset(causes):
        return ("lost", *causes)
    return found.check, found.where or str(number)
