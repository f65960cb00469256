"""The report in a real browser: nothing is blocked, the keyboard reaches everything, the address keeps the filters.

It needs a Chromium (Debian: ``chromium``; elsewhere name it in ``TORNPAGE_CHROMIUM``), and is skipped without one.
Where ``TORNPAGE_SCREENSHOTS`` names a directory, the pictures of ``docs/report.md`` are made there.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
import run_records
from rude_stores import RUDE

from tornpage.scenarios.model.events import CrashesTried, CrashPoint, SearchEnded
from tornpage.scenarios.model.target import Configuration
from tornpage.scenarios.report.html import page_of_run
from tornpage.scenarios.run import record as run_record
from tornpage.scenarios.run.record import RunRecord

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

Command = Callable[..., Any]
HERE: Final = Path(__file__).parent
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
# A desk and a phone, by day and by night: each of them at each change, all pairs in the slow tests.
SCREENS: Final = [
    (1280, "light"),
    (390, "dark"),
    pytest.param(1280, "dark", marks=pytest.mark.slow),
    pytest.param(390, "light", marks=pytest.mark.slow),
]
CHROMIUM: Final = os.environ.get("TORNPAGE_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, without a window and, since CI is root, without its sandbox."""
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """A run with findings in two configurations, whose every text is markup, and with a map of crash states."""
    directory = tmp_path_factory.mktemp("rude")
    line = [sys.executable, "-m", "tornpage", "sweep", "--target", "rude_stores:Rude", "--depth", "statement"]
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    ran = subprocess.run(line, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 1, ran.stderr
    swept = run_record.read(directory / ".tornpage/run.json")
    places = [("open", 1), (RUDE, 1), (RUDE, 2)]
    by_position = {
        position: CrashPoint(f"write {position}", step, call, 10, lossy=3 * (step == 2), findings=step == 1)
        for position, (call, step) in enumerate(places)
    }
    crashes = CrashesTried("rude", Configuration(), operations=3, states=30, by_position=by_position)
    return msgspec.structs.replace(swept, crash_states=(crashes,))


class Opened:
    """A page that was opened from a file, and everything that the browser complained of."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page = browser.new_page(viewport={"width": 1280, "height": 900}, **options)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    @property
    def chosen(self) -> dict[str, str]:
        """What the address says after its #."""
        return {name: values[0] for name, values in parse_qs(urlsplit(self.page.url).fragment).items()}

    def texts(self, selector: str) -> list[str]:
        return list(self.page.locator(selector).all_text_contents())

    @property
    def has_focus(self) -> str:
        return str(self.page.evaluate("document.activeElement.id || document.activeElement.textContent"))


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    """Opens the page of a record; at the end there must be nothing that the browser complained of."""
    opened: list[Opened] = []

    def shown(record: RunRecord, **options: Any) -> Opened:
        path = tmp_path / f"page-{len(opened)}.html"
        path.write_text(page_of_run(record), encoding="utf-8")
        opened.append(Opened(browser, path, **options))
        return opened[-1]

    yield shown
    for one in opened:
        assert one.complaints == []
        assert one.requests == [one.requests[0]]
        one.page.close()


def test_the_page_opens_from_a_file_without_a_word_from_the_browser(
    show: Callable[..., Opened], record: RunRecord
) -> None:
    opened = show(record)
    assert opened.page.title() == f"FAILED · {record.target} · tornpage"
    assert opened.page.locator("img").count() == 0
    assert opened.texts("#points-title") == [f"{len(record.points):,} points"]
    assert opened.page.locator("#grid td.F").count() > 2
    assert opened.page.locator("#crash-grid td").count() == 3
    assert RUDE in opened.page.locator("#findings").inner_text()


def test_a_browser_does_complain_of_a_script_that_is_not_ours(browser: Any, record: RunRecord, tmp_path: Path) -> None:
    """Else the silence of the other tests would say nothing."""
    (tmp_path / "page.html").write_text(page_of_run(record).replace("</main>", "<script>alert(1)</script></main>"))
    opened = Opened(browser, tmp_path / "page.html")
    assert any("Content Security Policy" in complaint for complaint in opened.complaints)
    opened.page.close()


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_an_auditor_of_accessibility_finds_nothing(
    show: Callable[..., Opened], record: RunRecord, width: int, scheme: str
) -> None:
    accepted = msgspec.structs.replace(record.findings[0], accepted_because="known")
    opened = show(msgspec.structs.replace(record, accepted=(accepted,)), color_scheme=scheme)
    opened.page.set_viewport_size({"width": width, "height": 844})
    opened.page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    opened.page.locator("#rows button").first.click()
    opened.page.locator("#crash-grid td").first.click()
    found = axe.Axe().run(opened.page)
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found.response["violations"]] == []


def test_the_keyboard_alone_reaches_a_point_and_the_line_that_repeats_it(
    show: Callable[..., Opened], record: RunRecord
) -> None:
    opened = show(record)
    press = opened.page.keyboard.press
    press("Tab")
    assert opened.has_focus == "Skip to the report"
    press("Enter")
    assert opened.has_focus == "main"
    opened.page.locator("#filters button").focus()
    press("Tab")
    # The map is a single stop; inside, the arrow keys walk.
    press("ArrowDown")
    press("ArrowLeft")
    assert opened.has_focus == "wal/FULL"
    for _ in range(20):
        press("ArrowRight")
        if opened.has_focus == "F":
            break
    assert "finding" in opened.page.evaluate("document.activeElement.getAttribute('aria-label')")
    press("Enter")
    assert opened.has_focus == "points-title"
    press("Tab")
    press("Tab")
    assert opened.has_focus == "Repeat"
    press("Enter")
    assert opened.has_focus == "Close"
    (line,) = opened.texts("#rows .detail code >> nth=1")
    assert line.startswith("tornpage sweep --target ")
    assert "--configuration wal/FULL --plan " in line
    press("Escape")
    assert opened.has_focus == "F"


def test_filters_go_into_the_address_and_come_back_with_it(show: Callable[..., Opened], record: RunRecord) -> None:
    opened = show(record)
    everything = opened.texts("#points-title")
    opened.page.select_option("[name=outcome]", "finding")
    opened.page.select_option("[name=call]", index=2)
    opened.page.locator("#grid td.F").first.click()
    opened.page.locator("#rows button").first.click()
    chosen, points = opened.chosen, opened.texts("#rows tr")
    assert {"outcome", "call", "row", "column", "point"} == set(chosen)
    assert opened.texts("#points-title") != everything
    opened.page.reload()
    assert opened.chosen == chosen
    assert opened.texts("#rows tr") == points
    assert opened.page.locator("#grid td[aria-selected=true]").count() == 1
    opened.page.locator('nav a[href="#searches"]').click()
    assert opened.chosen == chosen
    opened.page.locator("#filters button").click()
    assert opened.chosen == {}
    assert opened.texts("#points-title") == everything
    # The page was loaded twice, each time from its file.
    del opened.requests[1:]


def test_an_address_that_names_what_is_not_there_shows_everything(
    show: Callable[..., Opened], record: RunRecord
) -> None:
    opened = show(record)
    opened.page.evaluate("location.hash = 'outcome=none-such&call=99.99&point=1e9'")
    opened.page.wait_for_function("document.querySelector('[name=outcome]').value === ''")
    assert opened.texts("#points-title") == [f"{len(record.points):,} points"]


@pytest.mark.slow
def test_each_cell_leads_to_as_many_points_as_it_counts(show: Callable[..., Opened], record: RunRecord) -> None:
    opened = show(record)
    for index in range(opened.page.locator("#grid td:not(.empty)").count()):
        cell = opened.page.locator("#grid td:not(.empty)").nth(index)
        counted = cell.get_attribute("aria-label").rpartition(": ")[2]
        cell.click()
        total = sum(int(part.split(" ")[0]) for part in counted.split(", "))
        assert opened.texts("#points-title")[0].split(" ")[0] == f"{total:,}"


def test_the_line_of_a_finding_can_be_copied(show: Callable[..., Opened], record: RunRecord) -> None:
    opened = show(record)
    opened.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button = opened.page.locator(".finding button.copy").first
    button.click()
    opened.page.wait_for_function("document.getElementById('said').textContent !== ''")
    assert button.inner_text() == "Copied"
    assert opened.page.evaluate("navigator.clipboard.readText()") == record.findings[0].replay


def test_a_quarter_of_a_million_points_are_shown_and_filtered_within_seconds(show: Callable[..., Opened]) -> None:
    opened = show(run_records.large(250_000))
    assert opened.texts("#points-title") == ["250,000 points"]
    opened.page.set_default_timeout(10_000)
    opened.page.select_option("[name=outcome]", "absorbed")
    assert opened.texts("#points-title") != ["250,000 points"]


def test_without_its_script_the_page_still_says_everything_but_the_map(
    show: Callable[..., Opened], record: RunRecord
) -> None:
    opened = show(record, java_script_enabled=False)
    assert opened.page.locator("#grid").is_hidden()
    assert opened.page.locator("noscript p").is_visible()
    assert opened.page.locator(".finding .timeline").count() == len(record.findings) + len(record.observations)


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_never_wider_than_its_window(show: Callable[..., Opened], record: RunRecord, width: int) -> None:
    opened = show(record)
    opened.page.set_viewport_size({"width": width, "height": 800})
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


def on_screen(show: Callable[..., Opened], record: RunRecord, width: int, scheme: str = "light") -> Opened:
    opened = show(record, color_scheme=scheme)
    opened.page.set_viewport_size({"width": width, "height": 844})
    opened.page.reload()
    del opened.requests[1:]
    return opened


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_every_verdict_has_a_badge_of_one_size(
    show: Callable[..., Opened], record: RunRecord, width: int, scheme: str
) -> None:
    size = "badge => [badge.getBoundingClientRect().height, getComputedStyle(badge).fontSize]"
    runs = [record, run_records.record(), run_records.vacuous(run_records.record())]
    badges = [on_screen(show, run, width, scheme).page.locator("h1 .verdict") for run in runs]
    assert [badge.inner_text().split()[1] for badge in badges] == ["FAILED", "HOLDS", "INCONCLUSIVE"]
    assert len({tuple(badge.evaluate(size)) for badge in badges}) == 1


@pytest.mark.parametrize(
    ("changes", "said", "width"),
    [({"complete": False}, "(PARTIAL)", 1280), ({"extent": "SAMPLED"}, "(SAMPLED)", 390), ({}, "HOLDS", 390)],
)
def test_the_header_says_how_much_the_verdict_is_worth(
    show: Callable[..., Opened], changes: dict[str, Any], said: str, width: int
) -> None:
    opened = on_screen(show, run_records.record(**changes), width)
    assert opened.page.locator("h1 .verdict").inner_text().endswith(said)


def test_one_of_a_thing_is_not_counted_as_many(show: Callable[..., Opened], record: RunRecord) -> None:
    names = ("faultless", "points", "tried", "fired", "findings", "operations", "operations_failed", "limits", "kills")
    ended = SearchEnded("sweep", "tiny", dict.fromkeys((*names, "schedules", "states", "contentions"), 1), 1.0)
    crashes = CrashesTried(
        "tiny", Configuration(), operations=1, states=1, enumerable=2, left_out={"recoveries": 1},
        by_position={1: CrashPoint("write 1", 1, "put", 1, findings=1)},
    )  # fmt: skip
    one = msgspec.structs.replace(
        run_records.record(record.findings[0]), searches=(ended,), crash_states=(crashes,), extent="SAMPLED"
    )
    opened = show(one)
    opened.page.locator("#crash-grid td").first.click()
    text = opened.page.locator("body").inner_text()
    labels = " ".join(opened.page.evaluate("[...document.querySelectorAll('[aria-label]')].map(one => one.ariaLabel)"))
    assert "1 finding" in text
    counted = re.findall(r"(?<![\d.,@])1 ([a-z]+s)\b", f"{text} {labels}")
    assert set(counted) <= {"faultless"}


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_a_point_can_be_read_and_repeated_on_every_screen(
    show: Callable[..., Opened], record: RunRecord, width: int, scheme: str
) -> None:
    opened = on_screen(show, record, width, scheme)
    box = "cell => cell.getBoundingClientRect().toJSON()"
    row = opened.page.locator("#rows tr").first
    call, button = row.locator("td").nth(2).evaluate(box), row.get_by_role("button").evaluate(box)
    # Its texts are the longest that there are; a call of one syllable a line would be a tenth as wide.
    assert call["width"] > 280
    assert button["left"] >= 0
    assert button["right"] <= width
    assert button["width"] > 50


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_the_step_that_went_wrong_is_seen_without_scrolling_sideways(
    show: Callable[..., Opened], record: RunRecord, width: int, scheme: str
) -> None:
    found = record.findings[0]
    assert found.timeline
    assert found.timeline.first_difference is not None
    before = found.timeline.moments[0]
    long = msgspec.structs.replace(
        found.timeline,
        moments=(before,) * 12 + found.timeline.moments,
        first_difference=12 + found.timeline.first_difference,
    )
    opened = on_screen(show, run_records.record(msgspec.structs.replace(found, timeline=long)), width, scheme)
    marked = opened.page.locator("#finding-1").get_by_text("first difference").locator("visible=true")
    assert marked.count() == 1
    place = marked.evaluate("mark => mark.closest('th, li').getBoundingClientRect().toJSON()")
    assert 0 <= place["left"] < place["right"] <= width


def test_one_cause_has_one_card(show: Callable[..., Opened], record: RunRecord) -> None:
    assert sum(ended.counts["findings"] for ended in record.searches) > len(record.findings)
    opened = show(record)
    causes = {found.fingerprint for found in record.findings}
    assert opened.page.locator("#findings > article.finding").count() == len(causes) == len(record.findings)


@pytest.mark.slow
def test_the_pictures_of_the_document_are_of_real_runs(
    command: Command, show: Callable[..., Opened], tmp_path: Path
) -> None:
    kept = Path(os.environ.get("TORNPAGE_SCREENSHOTS") or tmp_path / "images")
    kept.mkdir(parents=True, exist_ok=True)
    checked = ("check", "--target", "bug:delete-memory-first", "--seed", 0)
    # Where nothing is wrong, the states are the more interesting: some have lost what they may.
    crashed = ("crash", "--states", 20)
    for code, words, parts in (
        (1, checked, (("verdict", "light"), ("map", "light"), ("map", "dark"), ("findings", "light"))),
        (0, crashed, (("crashes", "light"),)),
    ):
        assert command(*words).code == code
        record = run_record.read(tmp_path / ".tornpage/run.json")
        for part, scheme in parts:
            opened = show(record, color_scheme=scheme)
            if part == "crashes":
                opened.page.locator("#crash-grid td.l").first.click()
            opened.page.evaluate(f"document.getElementById({part!r}).scrollIntoView()")
            picture = kept / f"report-{part}-{scheme}.png"
            opened.page.screenshot(path=picture, animations="disabled")
            assert 10_000 < picture.stat().st_size < 400_000
