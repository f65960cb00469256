"""The page: templates and data joined into one file that loads nothing and runs only its own script.

Text goes through Jinja2's escaping, or is JSON in a script element that is never run and reaches the page as
``textContent``. The content security policy forbids everything but the one style and the one script, by their hashes.
"""

import base64
import hashlib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from tornpage.scenarios.model.exit_codes import Exit
from tornpage.scenarios.report.html.caveats import caveats_of
from tornpage.scenarios.report.html.crash_map import crashes_of
from tornpage.scenarios.report.html.fault_map import LETTERS, MEANINGS, map_of
from tornpage.scenarios.report.html.timelines import drawn
from tornpage.scenarios.report.words import counted, extent, left_out, plural, unit
from tornpage.scenarios.run.campaign import EVIDENCE
from tornpage.scenarios.run.gate_record import BugRecord, BugsRecord, is_caught
from tornpage.scenarios.run.record import OUTCOMES, FoundRecord, RunRecord

_HERE: Final = Path(__file__).parent
_VERDICTS: Final = {
    Exit.HOLDS: ("HOLDS", "no check failed"),
    Exit.FINDING: ("FAILED", ""),
    Exit.NOT_TESTED: ("INCONCLUSIVE", "a part of the run tested nothing"),
    Exit.INTERRUPTED: ("INTERRUPTED", "these are the results until then"),
}
_UNITS: Final = {"fuzz": "steps", "crash": "states", "kill": "kills"}
# Read in this order; each begins only when it is called.
_SCRIPTS: Final = ("grid.js", "points.js", "crashes.js", "page.js")


def page_of_run(record: RunRecord, bugs: BugsRecord | None = None) -> str:
    """The page of one run; with `bugs`, it also shows the known bugs."""
    word, meaning = _VERDICTS[Exit(record.exit_code)]
    return _rendered(
        "run.html",
        {"points": map_of(record), "crashes": crashes_of(record)},
        record=record,
        word=word,
        meaning=meaning or plural(len(record.findings), "finding"),
        caveats=caveats_of(record),
        outcomes=_outcomes(record),
        evidence=_evidence(record),
        bugs=bugs,
    )


def page_of_bugs(record: BugsRecord) -> str:
    """The page of a run over known bugs."""
    return _rendered("bugs.html", {}, bugs=record)


def _rendered(template: str, data: dict[str, Any], **context: Any) -> str:
    style = (_HERE / "style.css").read_text(encoding="utf-8")
    script = "\n".join((_HERE / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    return (
        _environment()
        .get_template(template)
        .render(
            policy=policy_of(style, script),
            style=Markup(style),  # noqa: S704 - our own file, and the policy holds its hash
            script=Markup(script),  # noqa: S704 - our own file, and the policy holds its hash
            data=_as_json(data),
            **context,
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tornpage.scenarios.report.html"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        counted=counted, number=_number, plural=plural, one_of=_one_of, sides=_sides, drawn=drawn, unit=_unit
    )
    environment.tests.update(caught=is_caught)
    environment.globals.update(searches_of=_searches_of, left_out=left_out, extent=extent)
    return environment


def policy_of(style: str, script: str) -> str:
    """The content security policy of a page with this style and this script."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        )
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _as_json(data: dict[str, Any]) -> Markup:
    """JSON that can't end its script element."""
    text = msgspec.json.encode(data).decode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - nothing in it can end the element any more


def _outcomes(record: RunRecord) -> list[tuple[str, str, str, int]]:
    """Letter, name, meaning and number of each outcome, in the order of the map."""
    numbers = Counter(OUTCOMES[point.outcome] for point in record.points)
    return [(letter, name, MEANINGS[name], numbers[name]) for name, letter in LETTERS.items()]


def _evidence(record: RunRecord) -> list[tuple[str, int]]:
    counts = {what: sum(ended.counts.get(name, 0) for ended in record.searches) for name, what in EVIDENCE.items()}
    return [(what, count) for what, count in counts.items() if count]


def _sides(found: FoundRecord) -> str:
    return msgspec.json.format(msgspec.json.encode(found.sides), indent=2).decode()


def _searches_of(bugs: tuple[BugRecord, ...]) -> list[str]:
    return list(dict.fromkeys(catch.search for bug in bugs for catch in bug.catches))


def _one_of(many: str, number: int) -> str:
    return unit(number, many)


def _unit(search: str) -> str:
    return _UNITS.get(search, "points")


def _number(value: float) -> str:
    return f"{value:,}"
