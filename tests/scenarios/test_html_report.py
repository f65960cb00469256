"""The report is one file that loads nothing, runs only its own script, and takes nothing for markup that is not."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import run_records
import tiny_stores
from rude_stores import RUDE

from tornpage.scenarios.model.events import Vacuous
from tornpage.scenarios.model.scenario import Limit, Rival
from tornpage.scenarios.report.html import page_of_bugs, page_of_run
from tornpage.scenarios.report.html.caveats import caveats_of
from tornpage.scenarios.report.html.fault_map import is_sticky, map_of, ordinal_of
from tornpage.scenarios.run import gate_record as bugs_record
from tornpage.scenarios.run import record as run_record
from tornpage.scenarios.run.error_paths.join import ErrorPath, ErrorPaths, ExitStatus
from tornpage.scenarios.run.error_paths.places import Place
from tornpage.scenarios.run.record import OUTCOMES, PartRecord, PointRecord, RunRecord, TrendRecord
from tornpage.scenarios.selftest import gate
from tornpage.scenarios.selftest.gate import Catch
from tornpage.scenarios.targets.known_bugs import find_bug

Command = Callable[..., Any]

# Whatever a browser would fetch, run or send somewhere for.
_FETCHING: Final = {"src", "srcset", "action", "formaction", "poster", "data", "background", "ping", "manifest"}
_FORBIDDEN: Final = {"link", "img", "iframe", "object", "embed", "base", "video", "audio", "source", "input"}


class Page(HTMLParser):
    """A page taken apart: its elements, and what its script and style elements hold."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.held: list[tuple[str, dict[str, str | None], str]] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in {"script", "style"}:
            self.held.append((self._inside, self.elements[-1][1], data))
        else:
            self.words.append(data)

    @property
    def policy(self) -> str:
        (found,) = [
            attributes["content"]
            for tag, attributes in self.elements
            if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
        ]
        assert found is not None
        return found

    @property
    def data(self) -> dict[str, Any]:
        (text,) = [text for tag, attributes, text in self.held if attributes.get("type") == "application/json"]
        found: dict[str, Any] = json.loads(text)
        return found

    @property
    def ids(self) -> list[str]:
        return [str(attributes["id"]) for _, attributes in self.elements if "id" in attributes]


# The one run of `rude`, which no test changes.
_RUDE: Final[list[RunRecord]] = []


@pytest.fixture
def rude(command: Command, tmp_path: Path) -> RunRecord:
    """A run in which every text that comes from outside is markup."""
    if not _RUDE:
        ran = command("sweep", "--target", "rude_stores:Rude", "--configuration", "wal/FULL", "--depth", "statement")
        assert ran.code == 1
        _RUDE.append(run_record.read(tmp_path / ".tornpage/run.json"))
    (record,) = _RUDE
    assert RUDE in msgspec.json.encode(record.findings).decode().replace("\\u2028", "\u2028").replace('\\"', '"')
    return msgspec.structs.replace(
        record,
        vacuous=(Vacuous("sweep", RUDE),),
        baseline_notes=(RUDE,),
        command=RUDE,
        system=RUDE,
        error_paths=ErrorPaths((error_path("never", RUDE, {RUDE: 1}),)),
    )


def error_path(fate: ExitStatus, file: str, under: dict[str, int]) -> ErrorPath:
    return ErrorPath(
        Place(file, "put", 12, "except", "except OSError", 13),
        fate,
        sum(under.values()),
        under,
        ran_without_fault=False,
    )


# -- one file, that loads and runs nothing -----------------------------------------------------------------


def require_self_contained(page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag not in _FORBIDDEN
        assert not _FETCHING & attributes.keys(), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)
        assert (attributes.get("href") or "#").startswith("#"), (tag, attributes)
    for tag, attributes, text in page.held:
        if attributes.get("type") != "application/json":
            assert not re.search(r"url\(|@import|https?:|fetch\(|XMLHttpRequest|innerHTML|\beval\(", text), tag


def test_the_page_refers_to_nothing_outside_itself(rude: RunRecord) -> None:
    require_self_contained(Page(page_of_run(rude)))


def test_the_policy_allows_the_one_script_and_the_one_style_by_their_hashes(rude: RunRecord) -> None:
    page = Page(page_of_run(rude))
    directives = dict(part.split(" ", 1) for part in page.policy.split("; "))
    assert directives["default-src"] == "'none'"
    own = {tag: text for tag, attributes, text in page.held if "type" not in attributes}
    assert len(own) == len([1 for _, attributes, _ in page.held if "type" not in attributes]) == 2
    for tag, text in own.items():
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert directives[f"{tag}-src"] == f"'sha256-{digest}'"
    assert not {"unsafe-inline", "unsafe-eval", "*"} & set(page.policy.split())


# -- what comes from outside is text -----------------------------------------------------------------------


def test_markup_in_a_key_a_title_or_a_reason_stays_text(rude: RunRecord) -> None:
    text = page_of_run(rude)
    page, plain = Page(text), Page(page_of_run(run_records.record()))
    assert "<img" not in text
    assert "49" not in "".join(word for word in page.words if "7*7" in word)
    assert sum(RUDE in word for word in page.words) >= 8
    # The name of a target of the user's own may be broken at its colon.
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in plain.elements} | _TAGS_OF_FINDINGS | {"wbr"}
    assert [tag for tag, *_ in page.held] == [tag for tag, *_ in plain.held]


_TAGS_OF_FINDINGS: Final = {"article", "ol", "pre", "details", "summary", "caption", "button", "br", "a", "b", "code"}


def test_the_data_comes_out_of_the_page_as_it_went_in(rude: RunRecord) -> None:
    assert Page(page_of_run(rude)).data["points"] == map_of(rude)


# -- the same record is the same page ----------------------------------------------------------------------


def test_the_same_record_makes_the_same_bytes(rude: RunRecord) -> None:
    read_back = msgspec.json.decode(msgspec.json.encode(rude), type=RunRecord)
    assert page_of_run(rude) == page_of_run(read_back)


def test_a_quarter_of_a_million_points_stay_below_four_megabytes() -> None:
    few, many = (len(page_of_run(run_records.large(number)).encode()) for number in (1_000, 250_000))
    assert few < 200_000
    assert many < 4_000_000


# -- every point is there ----------------------------------------------------------------------------------


def test_every_point_is_in_the_map_with_its_place_and_its_outcome(rude: RunRecord) -> None:
    data = map_of(rude)
    letters = {one["letter"]: one["name"] for one in data["outcomes"]}
    unpacked = [
        (search, configuration, step, call, operation, effect, condition, letters[letter])
        for search, configuration, step, call, series in data["groups"]
        for operation, effect, conditions, outcomes in series
        for condition, letter in zip(conditions, outcomes, strict=True)
    ]
    wanted = [(*(getattr(one, name) for name in _NAMES), OUTCOMES[one.outcome]) for one in rude.points]
    assert sorted(unpacked) == sorted(wanted)
    assert len(wanted) > 50


_NAMES: Final = ("search", "configuration", "step", "call", "operation", "effect", "condition")


@pytest.mark.parametrize(
    ("condition", "ordinal", "sticky"),
    [
        ("write:wal@3=FULL", 3, False),
        ("write:wal@12..=FULL", 12, True),
        ("sync@1..4/after=IOERR_FSYNC", 1, False),
        (str(Limit("allocation", 1234)), 1234, False),
        (str(Limit("allocation", 7, sticky=True)), 7, True),
        (str(Limit("heap", 65_536)), 65_536, False),
        (str(Limit("pages", 2)), 2, False),
        (str(Limit("steps", 19)), 19, False),
        (str(Rival("writer", "lock", 5, "process", 50)), 5, False),
        ("something else", 0, False),
    ],
)
def test_the_ordinal_of_a_condition_is_read_from_its_words(condition: str, ordinal: int, sticky: bool) -> None:
    assert (ordinal_of(condition), is_sticky(condition)) == (ordinal, sticky)


# -- the lines that repeat a point -------------------------------------------------------------------------


class OneCall(tiny_stores.Tiny):
    """The line of a contention tries every rival of every call."""

    calls = tiny_stores.Tiny.calls[:1]
    unpromised: Final = {"waits-for-a-short-lock": "it has no busy timeout"}


@pytest.mark.usefixtures("quick_is_small")
@pytest.mark.parametrize(
    ("search", "target", "sizes"),
    [
        ("sweep", "tiny_stores:RemembersFirst", ()),
        ("contend", "test_html_report:OneCall", ("--points", 3, "--configuration", "wal/FULL")),
        # Its line tries every limit there is.
        pytest.param(
            "limits", "tiny_stores:Tiny", ("--points", 4, "--configuration", "wal/FULL"), marks=pytest.mark.slow
        ),
    ],
)
def test_the_line_of_a_point_tries_that_point_again_with_the_same_outcome(
    command: Command, tmp_path: Path, search: str, target: str, sizes: tuple[object, ...]
) -> None:
    command(search, "--target", target, *sizes)
    record = run_record.read(tmp_path / ".tornpage/run.json")
    middle, last = record.points[len(record.points) // 2], record.points[-1]
    for point in (middle, last) if search == "sweep" else (middle,):
        words = filled(record, point, search)
        command(*words)
        again = run_record.read(tmp_path / ".tornpage/run.json")
        # The line of a sweep tries this point, that of another search all of its kind.
        points = (point,) if search == "sweep" else record.points
        assert {told(record, one) for one in points} <= {told(again, one) for one in again.points}


def filled(record: RunRecord, point: PointRecord, search: str) -> list[str]:
    """The words of the line, as the page's script fills them in."""
    line = map_of(record)["repeat"][search]["line"]
    values = {"{configuration}": record.texts[point.configuration], "{condition}": record.texts[point.condition]}
    return [values.get(word, word) for word in line.split()[1:]]


def told(record: RunRecord, point: PointRecord) -> tuple[Any, ...]:
    names = ("configuration", "call", "operation", "effect", "condition", "search")
    return (*(record.texts[getattr(point, name)] for name in names), point.step, OUTCOMES[point.outcome])


def test_the_line_of_the_whole_run_is_the_one_that_was_typed(command: Command, tmp_path: Path) -> None:
    command(
        "kill", "--target", "dying_stores:Right", "--kills", 2, "--configuration", "wal/FULL", "--quiet", "--seed", 3
    )
    record = run_record.read(tmp_path / ".tornpage/run.json")
    assert record.command == "tornpage kill --target dying_stores:Right --kills 2 --seed 3 --configuration wal/FULL"
    assert map_of(record)["repeat"][""]["line"] == record.command


# -- what could make the verdict meaningless comes first ---------------------------------------------------


def test_what_takes_away_from_the_verdict_stands_before_it() -> None:
    record = run_records.record(
        complete=False,
        vacuous=(Vacuous("sweep", "write@1=FULL never fired"),) * 3,
        unpromised={"integrity": "it is a cache"},
        depths=("vfs",),
    )
    titles = [caveat.title.split(":")[0] for caveat in caveats_of(record)]
    assert titles[:3] == ["Vacuous", "Partial", "Depths out of reach of this target"]
    text = page_of_run(record)
    assert text.index("never fired (3 times)") < text.index('id="verdict"')
    assert text.index("it is a cache") < text.index('id="verdict"') < text.index('id="map"')


def test_a_whole_run_says_that_nothing_takes_away_from_it() -> None:
    ended = [run_records.SearchEnded(name, "tiny", {"tried": 1, "fired": 1}, 1.0) for name in _SEARCHES]
    record = run_records.record(searches=tuple(ended), depths=("vfs", "statement"), texts=(), points=())
    assert caveats_of(record) == ()
    assert "Nothing limits the verdict" in page_of_run(record)


_SEARCHES: Final = ("sweep", "crash", "contend", "limits", "kill", "interleave", "fuzz")


# -- every part that a record may have ---------------------------------------------------------------------


def test_each_link_within_the_page_leads_to_a_part_of_it(rude: RunRecord) -> None:
    for record in (rude, run_records.record(), run_records.record(run_records.found())):
        page = Page(page_of_run(record))
        assert len(page.ids) == len(set(page.ids))
        links = {str(attributes["href"])[1:] for tag, attributes in page.elements if tag == "a"}
        assert links <= set(page.ids)


def test_the_parts_that_a_record_lacks_are_left_out_of_its_page() -> None:
    ids = Page(page_of_run(msgspec.structs.replace(run_records.record(), points=()))).ids
    assert not {"map", "findings", "crashes", "bugs", "error-paths", "trend"} & set(ids)
    assert {"first", "verdict", "searches"} <= set(ids)


def test_error_paths_say_what_ran_under_a_fault_and_what_never_did() -> None:
    paths = (error_path("ran", "one.py", {"write=FULL": 3}), error_path("never", "other.py", {}))
    words = " ".join(Page(page_of_run(run_records.record(error_paths=ErrorPaths(paths)))).words)
    assert "50.0 %" in words
    assert "never ran" in words
    assert "other.py:12" in words


def test_merged_runs_accepted_findings_and_the_history_are_shown() -> None:
    common: dict[str, Any] = {
        "run_id": "run-1", "target": "one", "profile": "ci", "seed": 5, "started_at": "2026-11-20T09:00:00+00:00",
        "seconds": 10.0, "verdict": "HOLDS", "tornpage_version": "1", "sqlite_version": "3", "python_version": "3.13",
    }  # fmt: skip
    counted = {"tried": 1_230, "findings": 2, "accepted": 1, "vacuous": 0}
    record = run_records.record(
        run_records.found(),
        runs=(PartRecord(**common, exit_code=0, system="BSD"),),
        trend=(TrendRecord(**common, **counted, complete=True, checks={}),),
        accepted=(run_records.found(accepted_because="it is known"),),
        baseline_notes=("an entry has expired",),
    )
    text = page_of_run(record)
    page = Page(text)
    require_self_contained(page)
    words = " ".join(" ".join(page.words).split())
    for wanted in ("3.13, BSD", "Accepted by the baseline: it is known", "1,230", "1 accepted by the baseline"):
        assert wanted in words
    assert text.index("an entry has expired") < text.index('id="verdict"')
    assert {"trend", "accepted-1", "finding-1"} <= set(page.ids)


# -- known bugs --------------------------------------------------------------------------------------------


def known_bugs(**others: Any) -> bugs_record.BugsRecord:
    bug = find_bug("delete-memory-first")
    values: dict[str, Any] = {
        "build": bug.name, "search": "sweep", "expected": bug.checks, "check": "memory-equals-disk", "message": RUDE,
        "work": 87, "scenario_steps": 3, "scenario_faults": 1, "replay": "tornpage replay FILE",
    }  # fmt: skip
    catch = Catch(**{**values, **others})
    return bugs_record.record_of_bugs([(bug, catch)], (), 0, complete=True)


def test_the_page_of_known_bugs_says_which_was_caught_and_how_soon() -> None:
    page = Page(page_of_bugs(known_bugs()))
    require_self_contained(page)
    words = " ".join(" ".join(page.words).split())
    assert "1 known bug, 1 caught" in words
    assert "87 of 2,000 points" in words


@pytest.mark.parametrize(
    ("others", "word"),
    [
        ({"check": None}, "MISSED"),
        ({"check": "integrity"}, "by another check: integrity"),
        ({"work": 2_001}, "over budget"),
    ],
)
def test_a_known_bug_that_was_not_caught_as_it_must_be_is_shown(others: dict[str, Any], word: str) -> None:
    record = known_bugs(**others)
    words = " ".join(" ".join(Page(page_of_bugs(record)).words).split())
    assert not record.good
    assert word in words
    assert "1 known bug, 0 caught" in words


# -- the command -------------------------------------------------------------------------------------------


def test_the_command_writes_the_page_beside_the_record(command: Command, tmp_path: Path) -> None:
    run_record.write(run_records.record(), tmp_path / ".tornpage/run.json")
    ran = command("report", "html")
    assert (ran.code, ran.out) == (0, ".tornpage/report.html was written\n")
    assert (tmp_path / ".tornpage/report.html").read_text() == page_of_run(run_records.record())


def test_a_run_over_known_bugs_leaves_a_record_that_makes_a_page_and_a_part_of_one(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # That the reference is silent is looked at elsewhere, and takes long.
    monkeypatch.setattr(gate, "noise", lambda *_: iter(()))
    caught = Catch("canary", "sweep", ("memory-equals-disk",), "memory-equals-disk", "it differs", 40, 0, 0, "")
    monkeypatch.setattr(gate, "_try", lambda *_: (caught, None))
    assert command("bugs", "canary").code == 0
    record = bugs_record.read(tmp_path / ".tornpage/bugs.json")
    assert [(bug.name, record.good) for bug in record.bugs] == [("canary", True)]
    assert command("report", "html", ".tornpage/bugs.json").code == 0
    assert "canary" in (tmp_path / ".tornpage/bugs.html").read_text()
    run_record.write(run_records.record(), tmp_path / ".tornpage/run.json")
    assert command("report", "html", "--output", "pages/one.html").code == 0
    assert "bugs" in Page((tmp_path / "pages/one.html").read_text()).ids


def test_a_search_writes_its_page_when_it_is_asked_to(command: Command, tmp_path: Path) -> None:
    ran = command("sweep", "--target", "tiny_stores:Tiny", "--plan", "commit@1=FULL", "--html", "page.html")
    assert ran.code == 0
    assert "commit@1=FULL" in (tmp_path / "page.html").read_text()


def test_a_page_that_can_not_be_written_is_said_before_anything_runs(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = command("sweep", "--target", "tiny_stores:Tiny", "--plan", "commit@1=FULL", "--html", "file/page.html")
    assert ran.code == 2
    assert "--html file/page.html: file is not a directory" in ran.err
    assert ran.out == ""


@pytest.mark.parametrize("content", ["", "{}", '{"format": "tornpage-bugs", "version": 9}', '{"format": "other"}'])
def test_what_is_no_record_is_said_and_nothing_is_written(command: Command, tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    ran = command("report", "html", "run.json")
    assert ran.code == 2
    assert "run.json" in ran.err
    assert not list(tmp_path.glob("*.html"))


def test_the_header_says_what_the_verdict_says_and_a_badge_is_no_card() -> None:
    whole, part = run_records.record(), run_records.record(complete=False)
    header = re.compile(r'<h1>.*?<span class="verdict [a-z_]+">.*?</span> (.*?)</span></h1>', re.DOTALL)
    for record, shown in ((whole, "HOLDS"), (part, "HOLDS (PARTIAL)")):
        page = page_of_run(record)
        assert [one.strip() for one in header.findall(page)] == [shown]
        # The verdict of a failed run has the class "finding", too.
        assert not re.search(r"^\.finding \{", page, re.MULTILINE)


def test_one_is_one_and_what_else_was_seen_is_told() -> None:
    page = page_of_run(run_records.record(run_records.found(also=("put(<b>) in wal/FULL, by sweep: 1 point",))))
    assert "<dd>1</dd><dt>finding</dt>" in page
    assert "Also at 1 call" in page
    assert "put(&lt;b&gt;) in wal/FULL, by sweep: 1 point" in page
    assert not re.search(r"\b1 (findings|faults|times|points)\b", page)
