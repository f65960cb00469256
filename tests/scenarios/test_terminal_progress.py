"""Progress says how far it is and how long it may take; in a log it is plain lines, and colour is nobody's burden."""

import io
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import test_refusals
import tiny_stores
from rich.console import Console
from run_records import scenario

from tornpage.scenarios.model.events import (
    Event,
    Finding,
    Found,
    Place,
    PointTried,
    SearchEnded,
    SearchStarted,
    Series,
    StepsDone,
)
from tornpage.scenarios.model.target import Configuration
from tornpage.scenarios.report.terminal import progress as terminal
from tornpage.scenarios.report.terminal.progress import Progress

Command = Callable[..., Any]
FOUND = Found(Finding("integrity", "damaged", scenario(), {}, "sweep"), "tornpage replay x")


def tried(call: str = "put()", step: int = 1, *, fired: bool = True, is_finding: bool = False) -> PointTried:
    place = Place(Configuration(), step, call, "write@1=FULL")
    return PointTried(Series("write", "db", "before", "FULL"), fired, fired, place, is_finding)


class Clock:
    """A clock that goes on by a second and a half with each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1.5
        return self.now


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What progress shows of some events, on a console that is a terminal or not."""
    monkeypatch.delenv("CI", raising=False)

    def show(*events: Event, is_terminal: bool = False, **options: Any) -> str:
        monkeypatch.setattr(terminal, "monotonic", Clock().monotonic)
        stream = io.StringIO()
        console = Console(file=stream, force_terminal=is_terminal, width=200, color_system="truecolor")
        with Progress(console, **options) as progress:
            for event in events:
                progress(event)
        return stream.getvalue()

    return show


def test_in_a_log_there_is_a_plain_line_every_few_seconds(shown: Callable[..., str]) -> None:
    text = shown(SearchStarted("sweep", "tiny"), *(tried() for _ in range(10)))
    lines = text.splitlines()
    assert 0 < len(lines) < 10
    assert re.fullmatch(r"sweep tiny: \d+ fault points, \d+ fired, \d+/s, 0 findings", lines[0])
    assert "\x1b" not in text


def test_where_the_number_is_known_the_time_left_is_told(shown: Callable[..., str]) -> None:
    text = shown(SearchStarted("kill", "tiny", 100), *(tried() for _ in range(10)))
    assert re.search(r"0 findings, about \d+ (s|min) left$", text.splitlines()[0])
    scenarios = [StepsDone({"scenarios": number, "steps": 9}) for number in range(1, 9)]
    assert "about " in shown(SearchStarted("fuzz", "tiny", 100), *scenarios)


def test_where_a_time_is_given_no_more_than_that_is_left(shown: Callable[..., str]) -> None:
    text = shown(SearchStarted("sweep", "tiny"), *(tried() for _ in range(10)), max_time_s=9_000.0)
    assert re.search(r", at most (2\.5 h|\d+ min) left in all$", text.splitlines()[0])


def test_findings_so_far_are_counted_and_what_is_accepted_is_not(shown: Callable[..., str]) -> None:
    accepted = Found(FOUND.finding, "", accepted_because="known")
    observed = Found(FOUND.finding, "", promised=False)
    text = shown(SearchStarted("sweep", "tiny"), FOUND, accepted, observed, *(tried() for _ in range(9)))
    assert text.splitlines()[:3] == [f"{one}: integrity: damaged" for one in ("finding", "accepted", "observation")]
    assert ", 1 finding" in text


def test_verbose_has_a_line_for_each_call_and_configuration(shown: Callable[..., str]) -> None:
    points = [tried(), tried(fired=False), tried("move()", 2, is_finding=True)]
    ended = SearchEnded("sweep", "tiny", {"tried": 3}, 1.0)
    lines = shown(SearchStarted("sweep", "tiny"), *points, ended, verbose=True).splitlines()
    assert [line for line in lines if line.startswith("  ")] == [
        "  wal/FULL 1. put(): 2 points, 1 fired, 1 surfaced",
        "  wal/FULL 2. move(): 1 point, 1 fired, 0 surfaced, 1 with findings",
    ]
    assert "  wal/FULL" not in shown(SearchStarted("sweep", "tiny"), *points, ended)


def test_quiet_says_nothing(shown: Callable[..., str]) -> None:
    assert shown(SearchStarted("sweep", "tiny"), FOUND, *(tried() for _ in range(9)), quiet=True) == ""


def test_a_terminal_has_one_live_line_and_ci_has_none(
    shown: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    events = (SearchStarted("sweep", "tiny"), *(tried() for _ in range(9)))
    assert "\x1b[2K" in shown(*events, is_terminal=True)
    monkeypatch.setenv("CI", "true")
    assert "\x1b" not in shown(*events, is_terminal=True)


def test_no_color_is_kept_to(shown: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = shown(SearchStarted("sweep", "tiny"), FOUND, *(tried() for _ in range(9)), is_terminal=True)
    colours = [code for code in re.findall(r"\x1b\[([\d;]*)m", text) if re.match(r"(3|4|9|10)\d", code)]
    assert colours == []


def test_loud_and_quiet_exclude_each_other(command: Command) -> None:
    ran = command("sweep", "--target", "tiny_stores:Tiny", "--quiet", "--verbose")
    assert ran.code == 2
    assert "--quiet and --verbose exclude each other" in ran.err


def test_ctrl_c_leaves_a_record_and_every_report(command: Command, tmp_path: Any) -> None:
    tiny_stores.Interrupts.opened = 0
    ran = command(
        "sweep", "--target", "tiny_stores:Interrupts", "--configuration", "wal/FULL", "--junit", "j.xml",
        "--sarif", "s.json", "--history", "h.sqlite", "--events", "e.jsonl", "--observe", "observed",
    )  # fmt: skip
    assert ran.code == 130
    assert "INTERRUPTED" in ran.out
    for name in (".tornpage/run.json", "j.xml", "s.json", "h.sqlite", "e.jsonl"):
        assert (tmp_path / name).stat().st_size > 0
    assert "interrupted before it had ended" in (tmp_path / "j.xml").read_text()
    assert "INTERRUPTED" in command("report", "history", "h.sqlite").out


def test_findings_of_one_check_at_one_line_are_one_paragraph(command: Command) -> None:
    arguments = ("--target", "tiny_stores:RemembersFirst", "--configuration", "delete/FULL", "--quiet", "--jobs", 1)
    ran = command("sweep", *arguments)
    assert ran.code == 1
    assert "FAILED with 3 findings" in ran.out
    assert ran.out.count("In the code:") == 1
    alike = ran.out.partition("Maybe of the same cause:\n")[2].splitlines()
    heads = [line.strip().partition("(")[0] for line in alike[:4:2]]
    assert heads == ["memory-equals-disk: move", "memory-equals-disk: remove"]
    assert all(line.strip().startswith("tornpage replay ") for line in alike[1:4:2])


class Promises(test_refusals.Target):
    """A connection whose ROLLBACK has no memory is used again, in each of its calls."""

    unpromised: Mapping[str, Any] = {}


def test_findings_of_one_lack_of_memory_to_roll_back_are_one_paragraph(command: Command) -> None:
    ran = command("limits", "--target", "test_terminal_progress:Promises", "--quiet", "--jobs", 1)
    assert ran.code == 1
    assert ran.out.count("In the code:") == ran.out.count("Maybe of the same cause:") == 1
    assert len(re.findall(r"^ +tornpage replay ", ran.out, re.MULTILINE)) >= 2
