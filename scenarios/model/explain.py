"""The text of ``tornpage explain`` for a check, an SQLite result code or a fault."""

import errno
import os

from tornpage import faults
from tornpage.faults.plan import FILE_EFFECTS
from tornpage.faults.strace import CALLS, SyscallFault
from tornpage.scenarios.model.judging.checks import CHECKS

_RESULTS = {
    "BUSY": "another connection holds the lock that is needed. Nothing happened, and the transaction, if one is open, "
    "is still open. Try again, or roll back and try the whole transaction again.",
    "FULL": "no space is left. SQLite has already rolled the transaction back: check in_transaction before ROLLBACK.",
    "IOERR": "the operating system reported an error. SQLite has already rolled the transaction back; a COMMIT that "
    "ends like this may have happened: read the rows again before you report an outcome.",
    "CANTOPEN": "a file could not be opened: no permission, no descriptor left, no such directory. The transaction, if "
    "one is open, is still open.",
    "CORRUPT": "the file is damaged, or was changed behind SQLite's back. Stop writing; keep the file.",
    "NOMEM": "an allocation failed. Python raises MemoryError, which is no sqlite3.Error.",
    "PROTOCOL": "SQLite could not get the WAL lock after many tries. Nothing happened; try again.",
    "LOCKED": "a table is locked by another statement of the same process. Nothing happened.",
    "PERM": "the operating system refuses the lock. Nothing happened.",
    "READONLY": "the file or its directory can't be written.",
    "INTERRUPT": "another thread called interrupt(). A writing statement has been rolled back.",
}
_KILL = (
    "KILL: the process dies of SIGKILL before or after an operation, or half-way through a write. All that reached the "
    "operating system stays: after the restart every acknowledged change must be there, and of the pending call all or "
    "nothing. See tornpage kill; plans that kill, such as write:wal@3/half=KILL, are played in child processes only."
)
_ELSEWHERE = "see https://sqlite.org/rescode.html"


def codes() -> list[str]:
    """Every code that ``explain`` knows by name: checks, result codes, errors of plain files, and the kill."""
    return [*CHECKS, *faults.RESULT_CODES, *sorted({*FILE_EFFECTS} - {*faults.RESULT_CODES}), faults.KILL]


def explanation(code: str) -> str | None:
    """The explanation as text; None for an unknown code."""
    name = code.upper().removeprefix("SQLITE_")
    if code in CHECKS:
        check = CHECKS[code]
        return (
            f"{check.code}: {check.meaning}.\n\nApplies to: {check.applies_to}.\n\n"
            f"Source: {check.source}\n\nWhat to do: {check.advice}"
        )
    if name in faults.RESULT_CODES:
        return _result(name)
    if name == faults.KILL or name in FILE_EFFECTS:
        return _KILL if name == faults.KILL else _of_plain_files(name)
    try:
        plan = faults.FaultPlan.parse(code)
        return "\n".join(_fault(fault) for fault in plan.faults)
    except faults.ImpossibleFaultError as error:
        return str(error)
    except faults.PlanError:
        return _system_call(code)


def _system_call(text: str) -> str | None:
    """The explanation of a fault in a system call; None for text that is not one."""
    try:
        fault = SyscallFault.parse(text)
    except faults.ImpossibleFaultError as error:
        call = text.partition(":")[0]
        return str(error) if call in CALLS and call not in faults.KINDS else None
    where = f"call {fault.when.first}{' and all after it' if fault.when.sticky else ''}"
    where += f" of {fault.call} on the {fault.role} file"
    if fault.effect == faults.KILL:
        return f"{fault}: SIGKILL ends the process as it enters {where}."
    return (
        f"{fault}: {where} is not run and returns {fault.effect}: {fault.reason}. SQLite maps that to its own error, "
        "or to none; see docs/any-language.md."
    )


def _of_plain_files(name: str) -> str:
    number = getattr(errno, name, None)
    lines = [f"{name}: a write that is not whole, and no error" if number is None else f"{name}: {os.strerror(number)}"]
    lines += [
        f"  {line.kind}{'' if line.timing == 'before' else f' ({line.timing})'}: {line.reason}"
        for line in faults.possibilities()
        if name in line.effects
    ]
    return "\n".join(lines)


def _result(name: str) -> str:
    meaning = _RESULTS.get(name.split("_", maxsplit=1)[0], _ELSEWHERE)
    lines = [f"SQLITE_{name} ({faults.RESULT_CODES[name]}): {meaning}"]
    for line in faults.possibilities():
        if name in line.effects:
            timing = "" if line.timing == "before" else f" ({line.timing})"
            lines.append(f"  {line.kind}:{', '.join(line.roles)}{timing}: {line.reason}")
    if len(lines) == 1:
        lines.append("  no fault here raises it.")
    return "\n".join(lines)


def _fault(fault: faults.Fault) -> str:
    times = "each" if fault.when.first == 1 and fault.when.sticky else f"number {fault.when}"
    where = "any file" if fault.role == "any" else f"the {fault.role} file"
    timing = {
        "before": "is skipped and",
        "after": "is done and then",
        "half": "is done by half and then",
    }[fault.timing]
    what = f"reports SQLITE_{fault.effect}"
    if fault.kind in faults.FILE_KINDS:
        what = f"raises OSError with {fault.effect}"
        what = {"half": "returns the number of bytes written", "before": what, "after": what}[fault.timing]
        where = {"any": "any plain file", "dir": "a directory", "other": "a plain file without a suffix"}.get(
            fault.role, f"a plain file like {fault.role}"
        )
    if fault.effect == faults.KILL:
        what = "kills the process"
    return f"{fault}: {times} {fault.kind} on {where} {timing} {what}: {faults.reason_for(fault)}."
