"""A run as short Markdown: caveats first, then the verdict, then the findings."""

from collections.abc import Iterator

from tornpage.scenarios.model.fingerprint import in_words
from tornpage.scenarios.report.terminal.progress import summary as counted
from tornpage.scenarios.report.words import headline, searches_of
from tornpage.scenarios.run.record import FoundRecord, RunRecord


def summary(record: RunRecord) -> str:
    """The whole text, for a step's summary or a comment."""
    return "\n".join([f"### tornpage: {_text(record.target)}", "", *_lines(record), ""])


def _lines(record: RunRecord) -> Iterator[str]:
    for one in record.vacuous:
        yield f"- **vacuous**, {one.search}: {_text(one.reason)}"
    if record.vacuous:
        yield ""
    yield f"**{_text(headline(record))}**"
    yield ""
    if record.findings:
        yield "| check | where | what | reproduce with |"
        yield "| --- | --- | --- | --- |"
        yield from map(_row, record.findings)
        yield ""
    for note in record.baseline_notes:
        yield f"- baseline: {_text(note)}"
    for found in record.accepted:
        yield f"- accepted: {found.check}, {_cell(in_words(found.scenario))}: {_text(found.accepted_because)}"
    for found in record.observations:
        yield f"- observed, not promised: {found.check}: {_text(found.unpromised_because)}"
    if record.baseline_notes or record.accepted or record.observations:
        yield ""
    for ended in searches_of(record):
        yield f"- {ended.search} {_text(ended.target) if record.runs else ''}".rstrip() + f": {counted(ended)}"
    yield ""
    versions = f"SQLite {record.sqlite_version} · Python {record.python_version}"
    yield f"seed {record.seed} · profile {record.profile} · {versions}"


def _row(found: FoundRecord) -> str:
    where = f"`{found.where}`" if found.where else ""
    return f"| {found.check} | {where} | {_cell(found.message)} | {_code(found.replay)} |"


def _code(text: str) -> str:
    fence = "``" if "`" in text else "`"
    return f"{fence}{_one_line(text).replace('|', chr(92) + '|')}{fence}" if text else ""


def _cell(text: str) -> str:
    return _text(_one_line(text)).replace("|", "\\|")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _text(text: str) -> str:
    """Literal text: characters that would be markup, or a mention, in Markdown are escaped."""
    for character in "\\`*_<>[]@#":
        text = text.replace(character, f"\\{character}")
    return text
