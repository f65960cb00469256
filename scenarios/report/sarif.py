"""A run as SARIF 2.1.0, for code scanning: https://docs.oasis-open.org/sarif/sarif/v2.1.0/

The rules are the checks, with their help. A result is a finding, at its place in the code under test; its partial
fingerprint is the one that baselines use, and its code flow is the scenario. Observations, and findings that a baseline
accepts, are suppressed results with the reason. Vacuous parts are notifications of the invocation.
"""

from typing import Any, Final
from urllib.parse import quote

import msgspec

from tornpage.scenarios.model.exit_codes import Exit
from tornpage.scenarios.model.explain import explanation
from tornpage.scenarios.model.fingerprint import call_of, fingerprint
from tornpage.scenarios.model.judging.checks import CHECKS
from tornpage.scenarios.report.words import is_partial, place_of, why_partial
from tornpage.scenarios.run.record import FoundRecord, RunRecord

FINGERPRINT: Final = "tornpage/v1"
_ROOT: Final = "%SRCROOT%"
_SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_RULES: Final = tuple(CHECKS)


def sarif(record: RunRecord) -> str:
    """The whole document."""
    run = {
        "tool": {"driver": {"name": "tornpage", "version": record.tornpage_version, "rules": list(map(_rule, _RULES))}},
        "automationDetails": {"id": f"tornpage/{record.target}/"},
        "originalUriBaseIds": {_ROOT: {"description": {"text": "the root of the project under test"}}},
        "invocations": [_invocation(record)],
        "results": [
            *(_result(found) for found in record.findings),
            *(_result(found, found.accepted_because) for found in record.accepted),
            *(_result(found, found.unpromised_because or "not promised") for found in record.observations),
        ],
        "columnKind": "unicodeCodePoints",
        "properties": {
            "target": record.target,
            "seed": record.seed,
            "profile": record.profile,
            "complete": record.complete,
            "sqlite": record.sqlite_version,
            "python": record.python_version,
            "system": record.system,
        },
    }
    document = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
    return msgspec.json.format(msgspec.json.encode(document), indent=1).decode() + "\n"


def _rule(code: str) -> dict[str, Any]:
    check = CHECKS[code]
    return {
        "id": code,
        "shortDescription": {"text": check.meaning},
        "fullDescription": {"text": check.source},
        "help": {"text": explanation(code) or check.advice},
        "defaultConfiguration": {"level": "error"},
    }


def _result(found: FoundRecord, suppressed_because: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": found.check,
        "ruleIndex": _RULES.index(found.check) if found.check in _RULES else -1,
        "level": "note" if suppressed_because else "error",
        "message": {"text": f"{found.message}\nReproduce with: {found.replay}"},
        "locations": [_location(found)],
        "partialFingerprints": {FINGERPRINT: fingerprint(found.check, found.scenario)},
        "codeFlows": [{"threadFlows": [{"locations": _steps(found)}]}],
        "occurrenceCount": found.seen,
        "properties": {
            "search": found.search,
            "configuration": str(found.scenario.configuration),
            "replay": found.replay,
        },
    }
    if suppressed_because:
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": suppressed_because}]
    return result


def _location(found: FoundRecord) -> dict[str, Any]:
    call = {"name": call_of(found.scenario), "fullyQualifiedName": f"{found.scenario.target} {call_of(found.scenario)}"}
    location: dict[str, Any] = {"logicalLocations": [{**call, "kind": "function"}]}
    if place := place_of(found):
        file, line = place
        artifact = {"uri": quote(file), "uriBaseId": _ROOT}
        location["physicalLocation"] = {"artifactLocation": artifact, "region": {"startLine": max(line, 1)}}
    return location


def _steps(found: FoundRecord) -> list[dict[str, Any]]:
    """The scenario, step by step; the check fails after the last one."""
    said = [*map(str, found.scenario.steps), f"{found.check}: {found.message}"]
    steps: list[dict[str, Any]] = [{"location": {"message": {"text": text}}} for text in said]
    steps[-1]["location"] |= _location(found)
    return steps


def _invocation(record: RunRecord) -> dict[str, Any]:
    notifications = [("error", f"vacuous: {one.search}: {one.reason}") for one in record.vacuous]
    notifications += [("warning", f"baseline: {note}") for note in record.baseline_notes]
    if is_partial(record):
        notifications.append(("warning", why_partial(record)))
    invocation: dict[str, Any] = {
        "executionSuccessful": record.exit_code in {Exit.HOLDS, Exit.FINDING},
        "exitCode": record.exit_code,
        "startTimeUtc": record.started_at.replace("+00:00", "Z"),
        "toolExecutionNotifications": [{"level": level, "message": {"text": text}} for level, text in notifications],
    }
    if record.command:
        invocation["commandLine"] = record.command
    return invocation
