"""JUnit, SARIF and Markdown of a run say what its record says, in the form that their readers take."""

import json
import re
from xml.etree import ElementTree

import msgspec
import pytest
from run_records import found, record, scenario, vacuous

from tornpage.scenarios.model.events import SearchEnded
from tornpage.scenarios.model.fingerprint import fingerprint
from tornpage.scenarios.model.judging.checks import CHECKS
from tornpage.scenarios.report.junit import junit
from tornpage.scenarios.report.sarif import sarif
from tornpage.scenarios.report.summary import summary
from tornpage.scenarios.run.record import RunRecord

EVERYTHING = vacuous(
    record(
        found(),
        found("all-or-nothing", scenario("move", configuration="delete/FULL"), where=""),
        accepted=(found("integrity", accepted_because="known, issue 7 (until 2026-12-31)"),),
        observations=(found("waits-for-a-short-lock", unpromised_because="it has no busy timeout"),),
        searches=(
            SearchEnded("sweep", "tiny", {"points": 2, "tried": 2, "fired": 2}, 2.0),
            SearchEnded("fuzz", "tiny", {"scenarios": 5, "fired": 1}, 0.5, complete=False),
        ),
        complete=False,
        baseline_notes=("matches nothing in this run: integrity on tiny (put)",),
    )
)
RUNS = [record(), record(found()), vacuous(record()), EVERYTHING, record(searches=(), points=(), texts=())]


def parsed(text: str | bytes) -> ElementTree.Element:
    return ElementTree.fromstring(text)  # noqa: S314 - it was made here


# -- JUnit -------------------------------------------------------------------------------------------------

# What junit-10.xsd of Jenkins' xunit plugin allows: the required and the optional attributes, and what is inside.
GRAMMAR: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": (set(), {"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors"},
        {"time", "skipped", "timestamp", "hostname", "id", "package", "group", "file", "log", "url"},
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
    ),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, set(), set()),
    "testcase": (
        {"name"},
        {"time", "classname", "group"},
        {"skipped", "error", "failure", "system-out", "system-err"},
    ),
    "failure": (set(), {"type", "message"}, set()),
    "error": (set(), {"type", "message"}, set()),
    "skipped": (set(), {"type", "message"}, set()),
    "system-out": (set(), set(), set()),
}
TIME = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]*)?")


def require_grammar(element: ElementTree.Element) -> None:
    required, optional, children = GRAMMAR[element.tag]
    assert required <= element.attrib.keys() <= required | optional, element.tag
    assert TIME.fullmatch(element.get("time", ""))
    for child in element:
        assert child.tag in children, (element.tag, child.tag)
        require_grammar(child)


@pytest.mark.parametrize("run", RUNS)
def test_junit_keeps_to_its_schema_and_counts_what_is_in_it(run: RunRecord) -> None:
    root = parsed(junit(run))
    require_grammar(root)
    assert len(root) == max(len(run.searches), 1)
    for suite in root:
        cases = suite.findall("testcase")
        assert int(suite.attrib["tests"]) == len(cases) > 0
        assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure"))
        assert int(suite.attrib["errors"]) == len(suite.findall("testcase/error"))
        assert len({case.attrib["name"] for case in cases}) == len(cases)
    for count in ("tests", "failures", "errors"):
        assert int(root.attrib[count]) == sum(int(suite.attrib[count]) for suite in root)


def test_junit_of_a_run_that_holds_has_a_test_for_each_configuration() -> None:
    (suite,) = parsed(junit(record()))
    assert [case.attrib["name"] for case in suite.findall("testcase")] == ["holds at delete/FULL", "holds at wal/FULL"]
    properties = {one.attrib["name"]: one.attrib["value"] for one in suite.iter("property")}
    assert (properties["seed"], properties["sqlite"], properties["python"]) == ("7", "3.45.0", "3.12.1")


def test_junit_tells_a_finding_an_observation_and_what_was_not_tested_apart() -> None:
    sweep, fuzz = parsed(junit(EVERYTHING))
    failures = sweep.findall("testcase/failure")
    assert [one.attrib["type"] for one in failures] == ["memory-equals-disk", "all-or-nothing"]
    assert "Reproduce with: tornpage replay .tornpage/tiny.json" in (failures[0].text or "")
    assert "where: store.py:12" in (failures[0].text or "")
    skipped = {one.attrib["type"]: one.attrib["message"] for one in sweep.iter("skipped")}
    assert skipped == {
        "accepted": "known, issue 7 (until 2026-12-31)",
        "not promised": "it has no busy timeout",
    }
    (error,) = sweep.iter("error")
    assert (error.attrib["type"], error.attrib["message"]) == ("vacuous", "no fault fired at all")
    # The other search has found nothing.
    assert not list(fuzz.iter("failure"))


def test_junit_says_in_some_way_what_xml_can_not() -> None:
    text = junit(record(found(message="a\x00b\ud800c <&> \U0001f5a5")))
    failure = parsed(text.encode()).find("testsuite/testcase/failure")
    assert failure is not None
    assert failure.attrib["message"] == "a\ufffdb\ufffdc <&> \U0001f5a5"


# -- SARIF -------------------------------------------------------------------------------------------------


class Strict(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """SARIF 2.1.0 as far as it is used here: https://docs.oasis-open.org/sarif/sarif/v2.1.0/ (sections 3.13 and on)."""


class Message(Strict):
    text: str


class Rule(Strict):
    id: str
    short_description: Message
    full_description: Message
    help: Message
    default_configuration: dict[str, str]


class Driver(Strict):
    name: str
    version: str
    rules: list[Rule]


class Tool(Strict):
    driver: Driver


class Artifact(Strict):
    uri: str
    uri_base_id: str


class Region(Strict):
    start_line: int


class Physical(Strict):
    artifact_location: Artifact
    region: Region


class Logical(Strict):
    name: str
    fully_qualified_name: str
    kind: str


class Location(Strict):
    logical_locations: list[Logical] = []
    physical_location: Physical | None = None
    message: Message | None = None


class ThreadFlowLocation(Strict):
    location: Location


class ThreadFlow(Strict):
    locations: list[ThreadFlowLocation]


class CodeFlow(Strict):
    thread_flows: list[ThreadFlow]


class Suppression(Strict):
    kind: str
    status: str
    justification: str


class Result(Strict):
    rule_id: str
    rule_index: int
    level: str
    message: Message
    locations: list[Location]
    partial_fingerprints: dict[str, str]
    code_flows: list[CodeFlow]
    occurrence_count: int
    properties: dict[str, str]
    suppressions: list[Suppression] = []


class Notification(Strict):
    level: str
    message: Message


class Invocation(Strict):
    execution_successful: bool
    exit_code: int
    start_time_utc: str
    tool_execution_notifications: list[Notification]
    command_line: str = ""


class Run(Strict):
    tool: Tool
    automation_details: dict[str, str]
    original_uri_base_ids: dict[str, dict[str, Message]]
    invocations: list[Invocation]
    results: list[Result]
    column_kind: str
    properties: dict[str, object]


class Log(msgspec.Struct, forbid_unknown_fields=True):
    version: str
    runs: list[Run]
    schema: str = msgspec.field(name="$schema")


def sarif_of(run: RunRecord) -> Run:
    log = msgspec.json.decode(sarif(run), type=Log)
    assert log.version == "2.1.0"
    assert log.schema.startswith("https://docs.oasis-open.org/sarif/sarif/v2.1.0/")
    (only,) = log.runs
    return only


@pytest.mark.parametrize("run", RUNS)
def test_sarif_has_a_result_for_each_finding_and_a_rule_for_each_check(run: RunRecord) -> None:
    made = sarif_of(run)
    assert [rule.id for rule in made.tool.driver.rules] == list(CHECKS)
    told = (*run.findings, *run.accepted, *run.observations)
    assert [one.rule_id for one in made.results] == [one.check for one in told]
    for result in made.results:
        assert made.tool.driver.rules[result.rule_index].id == result.rule_id
        assert result.level in {"error", "note"}
        assert (result.level == "note") == bool(result.suppressions)
    (invocation,) = made.invocations
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", invocation.start_time_utc)
    assert invocation.execution_successful == (run.exit_code in (0, 1))


def test_a_rule_helps_as_tornpage_explain_does() -> None:
    (rule,) = [one for one in sarif_of(record()).tool.driver.rules if one.id == "no-resurrection"]
    assert "What to do: Delete the row first" in rule.help.text


def test_a_result_is_at_its_place_with_the_fingerprint_of_baselines_and_its_scenario() -> None:
    first, second, accepted, observed = sarif_of(EVERYTHING).results
    (place,) = first.locations
    assert place.physical_location == Physical(Artifact("store.py", "%SRCROOT%"), Region(12))
    assert first.partial_fingerprints == {"tornpage/v1": fingerprint("memory-equals-disk", scenario())}
    ((flow,),) = [one.thread_flows for one in first.code_flows]
    said = [one.location.message.text for one in flow.locations if one.location.message]
    assert said[:2] == ["arm write:wal@1=FULL", "put(key='a', value=1)"]
    assert said[2].startswith("memory-equals-disk: ")
    assert second.locations[0].physical_location is None
    assert accepted.suppressions[0].justification == "known, issue 7 (until 2026-12-31)"
    assert observed.suppressions[0].justification == "it has no busy timeout"


def test_what_was_not_tested_is_a_notification() -> None:
    told = [one.message.text for one in sarif_of(EVERYTHING).invocations[0].tool_execution_notifications]
    assert told[0] == "vacuous: sweep: no fault fired at all"
    assert told[1].startswith("baseline: matches nothing")


# -- Markdown ----------------------------------------------------------------------------------------------


def test_a_summary_begins_with_what_makes_the_verdict_meaningless() -> None:
    text = summary(EVERYTHING)
    assert text.index("vacuous") < text.index("FAILED with 2 findings") < text.index("| memory-equals-disk |")
    assert text.count("tornpage replay") == 2
    assert "| `store.py:12` |" in text
    assert "accepted: integrity" in text


def test_a_summary_of_a_run_that_holds_is_short() -> None:
    text = summary(record())
    assert "**tiny: HOLDS: no check failed. 2 faults fired**" in text
    assert len(text.splitlines()) < 10


def test_a_message_can_not_write_markdown_of_its_own() -> None:
    text = summary(record(found(message="a | b\n<img> @you `x`")))
    (row,) = [line for line in text.splitlines() if line.startswith("| memory-equals-disk")]
    assert "a \\| b \\<img\\> \\@you \\`x\\`" in row


def test_a_record_without_points_makes_every_report() -> None:
    bare = msgspec.structs.replace(EVERYTHING, points=(), texts=(), fault_points=())
    assert json.loads(sarif(bare))
    require_grammar(parsed(junit(bare)))
    assert summary(bare)
