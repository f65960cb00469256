"""JUnit XML of a run, for Jenkins' ``junit-10.xsd`` and the test reports of GitLab and others.

A suite for each search. In it a test for each configuration in which nothing was found; a failure for each finding,
with its scenario and the line that replays it; *skipped*, with the reason, for observations and findings that a
baseline accepts; an *error* for each vacuous part.

Not in it: the time of a single test, since points of all configurations share it; the suite's is there.
"""

import re
from collections.abc import Iterator
from typing import Final
from xml.etree import ElementTree

from tornpage.scenarios.model.events import SearchEnded
from tornpage.scenarios.model.exit_codes import Exit
from tornpage.scenarios.report.words import headline, plural, searches_of
from tornpage.scenarios.run.record import FoundRecord, RunRecord

# Characters that XML 1.0 can't represent.
_NO_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(record: RunRecord) -> str:
    """The whole document."""
    searches = searches_of(record)
    # A vacuous part names its search, and not the target: it is in the first suite of that search.
    first = {ended.search: ended for ended in reversed(searches)}
    suites = [_suite(record, ended, is_first=first[ended.search] is ended) for ended in searches]
    if not searches:
        suites = [_nothing(record)]
    root = ElementTree.Element("testsuites", {"name": "tornpage", "time": f"{record.seconds:.3f}"})
    for count in ("tests", "failures", "errors"):
        root.set(count, str(sum(int(suite.attrib[count]) for suite in suites)))
    root.extend(suites)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _suite(record: RunRecord, ended: SearchEnded, *, is_first: bool) -> ElementTree.Element:
    name = f"{ended.target}.{ended.search}"
    vacuous = [one.reason for one in record.vacuous if is_first and one.search == ended.search]
    cases = list(_cases(record, ended, name, vacuous))
    suite = ElementTree.Element("testsuite", {"name": _clean(name), "time": f"{ended.seconds:.3f}"})
    suite.set("timestamp", record.started_at.removesuffix("+00:00"))
    for count, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(count, str(sum(case.find(tag) is not None for case in cases)))
    suite.set("tests", str(len(cases)))
    suite.append(_properties(record, ended))
    suite.extend(cases)
    ElementTree.SubElement(suite, "system-out").text = _clean(headline(record))
    return suite


def _cases(record: RunRecord, ended: SearchEnded, suite: str, vacuous: list[str]) -> Iterator[ElementTree.Element]:
    def of_this(found: FoundRecord) -> bool:
        return (found.search, found.scenario.target) == (ended.search, ended.target)

    findings = list(filter(of_this, record.findings))
    for found in findings:
        yield _case(suite, _title(found), "failure", found.check, found.message, _paragraph(found))
    for found in filter(of_this, record.accepted):
        yield _case(suite, _title(found), "skipped", "accepted", found.accepted_because, _paragraph(found))
    for found in filter(of_this, record.observations):
        yield _case(suite, _title(found), "skipped", "not promised", found.unpromised_because, _paragraph(found))
    for number, reason in enumerate(vacuous, start=1):
        yield _case(suite, f"vacuous {number}", "error", "vacuous", reason, reason)
    if not ended.complete and record.exit_code == Exit.INTERRUPTED:
        yield _case(suite, "interrupted", "error", "interrupted", "interrupted before it had ended", "")
    wrong = {str(found.scenario.configuration) for found in findings}
    tried = _configurations(record, ended)
    for configuration in sorted(tried - wrong):
        yield _case(suite, f"holds at {configuration}")
    if not tried and not findings and not vacuous:
        yield _case(suite, "holds" if any(ended.counts.values()) else "did nothing")


def _configurations(record: RunRecord, ended: SearchEnded) -> set[str]:
    """The configurations in which the search is known to have tried something."""
    searches = {index for index, text in enumerate(record.texts) if text == ended.search}
    tried = {record.texts[point.configuration] for point in record.points if point.search in searches}
    if ended.search == "crash":
        tried |= {str(one.configuration) for one in record.crash_states if one.target == ended.target}
    return tried


def _title(found: FoundRecord) -> str:
    return f"{found.check} at {found.scenario.configuration} ({found.fingerprint or 'no fingerprint'})"


def _paragraph(found: FoundRecord) -> str:
    lines = (
        f"{found.check}: {found.meaning}",
        found.message,
        str(found.scenario),
        f"where: {found.where or 'not known'}",
    )
    return "\n".join(
        (
            *lines,
            f"Reproduce with: {found.replay}",
            f"met {plural(found.seen, 'time')}",
            *(f"also at {line}" for line in found.also),
        )
    )


def _case(
    suite: str, name: str, tag: str = "", kind: str = "", message: str = "", text: str = ""
) -> ElementTree.Element:
    case = ElementTree.Element("testcase", {"classname": _clean(suite), "name": _clean(name)})
    if tag:
        part = ElementTree.SubElement(case, tag, {"type": _clean(kind), "message": _clean(message)})
        part.text = _clean(text)
    return case


def _properties(record: RunRecord, ended: SearchEnded) -> ElementTree.Element:
    values = {
        "seed": record.seed,
        "profile": record.profile,
        "verdict": record.verdict,
        "complete": ended.complete,
        "extent": record.extent,
        "tornpage": record.tornpage_version,
        "sqlite": record.sqlite_version,
        "python": record.python_version,
        "system": record.system,
        **ended.counts,
    }
    properties = ElementTree.Element("properties")
    for name, value in values.items():
        ElementTree.SubElement(properties, "property", {"name": _clean(name), "value": _clean(str(value))})
    return properties


def _nothing(record: RunRecord) -> ElementTree.Element:
    """The suite of a run in which no search has ended."""
    attributes = {"name": _clean(record.target), "tests": "1", "failures": "0", "errors": "1", "skipped": "0"}
    suite = ElementTree.Element("testsuite", attributes)
    suite.append(_case(record.target, "nothing was tested", "error", "vacuous", headline(record)))
    return suite


def _clean(text: str) -> str:
    return _NO_XML.sub("\ufffd", text)
