"""The output of a run for GitHub Actions: annotations on lines of code, and the summary of the step.

One annotation per place: a defect that several checks see, or that shows under a fault and under a limit, is one mark
on one line, with the shortest scenario. A run that holds has no annotations, except that it was only partial, or notes
of a baseline.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tornpage.scenarios.model.exit_codes import Exit
from tornpage.scenarios.model.fingerprint import call_of
from tornpage.scenarios.report.words import is_partial, place_of, plural, shortest, why_partial
from tornpage.scenarios.run.record import FoundRecord, RunRecord

# GitHub shows no more of one kind and step.
MOST_ANNOTATIONS: Final = 10


def is_there(environment: Mapping[str, str]) -> bool:
    """Whether this process is a step of GitHub Actions."""
    return environment.get("GITHUB_ACTIONS") == "true"


def annotations(record: RunRecord, workspace: Path | None = None) -> str:
    """Workflow commands, one a line; places are relative to `workspace`. "" for none."""
    lines = [*_findings(record, workspace), *_untested(record), *_notes(record)]
    return "".join(f"{line}\n" for line in lines)


def _findings(record: RunRecord, workspace: Path | None) -> Iterator[str]:
    defects: dict[tuple[str, str, str], list[FoundRecord]] = {}
    for found in record.findings:
        defects.setdefault((found.scenario.target, found.check, call_of(found.scenario)), []).append(found)
    places: dict[tuple[str, int] | str, list[FoundRecord]] = {}
    for findings in defects.values():
        best = shortest(findings)
        places.setdefault(place_of(best) or best.check, []).extend(findings)
    for number, (place, findings) in enumerate(places.items()):
        if number == MOST_ANNOTATIONS - 1 and len(places) > MOST_ANNOTATIONS:
            yield _command("error", {"title": "tornpage"}, f"and {len(places) - number} more places: see the log")
            return
        best = shortest(findings)
        file, line = place if isinstance(place, tuple) else ("", 0)
        checks = sorted({found.check for found in findings} - {best.check})
        more = f"\n{plural(len(findings) - 1, 'more finding')} here" if len(findings) > 1 else ""
        others = f": {', '.join(checks)}" if checks else ""
        text = f"{best.meaning}\n{best.message}{more}{others}\nReproduce with: {best.replay}"
        where = {"file": _in_workspace(file, workspace), "line": str(line)} if file else {}
        yield _command("error", {**where, "title": f"tornpage: {best.check} on {best.scenario.target}"}, text)


def _untested(record: RunRecord) -> Iterator[str]:
    reasons = [f"{one.search}: {one.reason}" for one in record.vacuous]
    if reasons:
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        yield _command("error", {"title": "tornpage: not tested"}, reasons[0] + more)
    elif record.exit_code == Exit.NOT_TESTED:
        yield _command("error", {"title": "tornpage: not tested"}, f"{record.target}: nothing happened")
    if is_partial(record):
        yield _command("warning", {"title": "tornpage: partial"}, why_partial(record))


def _notes(record: RunRecord) -> Iterator[str]:
    for note in record.baseline_notes:
        yield _command("warning", {"title": "tornpage: baseline"}, note)


def _in_workspace(file: str, workspace: Path | None) -> str:
    """A file relative to the workspace; if the run is in a directory below it, with that directory in front."""
    if workspace is None or not Path.cwd().is_relative_to(workspace) or not Path(file).is_file():
        return file
    return (Path.cwd().relative_to(workspace) / file).as_posix()


def _command(name: str, properties: Mapping[str, str], text: str) -> str:
    said = ",".join(f"{key}={_escaped(value, ':,')}" for key, value in properties.items())
    return f"::{name} {said}::{_escaped(text)}"


def _escaped(text: str, more: str = "") -> str:
    """Escaped like the toolkit of GitHub Actions: percent first, then what would end the command, or a property."""
    for character in f"%\r\n{more}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def tell(record: RunRecord, summary: str, environment: Mapping[str, str] = os.environ) -> str:
    """Append the summary to the step's, and return the annotations to print; "" outside of GitHub. Raises OSError."""
    if not is_there(environment):
        return ""
    if path := environment.get("GITHUB_STEP_SUMMARY"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(summary)
    workspace = environment.get("GITHUB_WORKSPACE")
    return annotations(record, Path(workspace) if workspace else None)
