"""Runs that are merged are one run: each counted once, with the verdict that all of them come to."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
from run_records import found, record, scenario, vacuous

from tornpage.scenarios.model.events import Vacuous
from tornpage.scenarios.report.junit import junit
from tornpage.scenarios.report.merge import MergeError, merge
from tornpage.scenarios.report.summary import summary
from tornpage.scenarios.report.words import headline
from tornpage.scenarios.run import record as run_record
from tornpage.scenarios.run.record import PointRecord, RunRecord

Command = Callable[..., Any]


def other(*findings: Any, **values: Any) -> RunRecord:
    """A run of another job, later, on another Python, whose texts stand in another order."""
    return record(
        *findings,
        **{
            "run_id": "run-2",
            "started_at": "2026-11-21T10:00:00+00:00",
            "python_version": "3.13.0",
            "seed": 8,
            "texts": ("sweep", "delete/EXTRA", "remove()", "sync:db", "IOERR_FSYNC", "sync@1=IOERR_FSYNC"),
            "points": (PointRecord(1, 3, 2, 3, 4, 5, 0, 0),),
            **values,
        },
    )


def test_counts_are_added_up_and_texts_stay_with_their_points() -> None:
    made = merge([other(), record()]).record
    assert (made.started_at, made.seconds) == ("2026-11-21T09:00:00+00:00", 5.0)
    assert (made.python_version, made.sqlite_version, made.target) == ("3.12.1, 3.13.0", "3.45.0", "tiny")
    (series,) = made.fault_points
    assert (series.tried, series.fired, series.surfaced) == (4, 4, 4)
    assert headline(made) == "tiny: HOLDS: no check failed. 4 faults fired"
    told = [
        (made.texts[one.configuration], made.texts[one.call], made.texts[one.condition], made.texts[one.search])
        for one in made.points
    ]
    assert told == [
        ("wal/FULL", "put()", "write:wal@1=FULL", "sweep"),
        ("delete/FULL", "put()", "write:wal@1=FULL", "sweep"),
        ("delete/EXTRA", "remove()", "sync@1=IOERR_FSYNC", "sweep"),
    ]
    assert [(part.run_id, part.seed, part.python_version) for part in made.runs] == [
        ("run-1", 7, "3.12.1"),
        ("run-2", 8, "3.13.0"),
    ]


def test_one_defect_in_two_jobs_is_one_finding_by_its_shortest_scenario() -> None:
    short = scenario(configuration="delete/FULL")
    long = msgspec.structs.replace(short, steps=(*short.steps, *short.steps))
    made = merge([record(found(told=long)), other(found(told=short), found("all-or-nothing"))]).record
    assert [(one.check, one.seen, one.scenario) for one in made.findings] == [
        ("memory-equals-disk", 6, short),
        ("all-or-nothing", 3, scenario()),
    ]


def test_what_one_job_accepts_and_another_does_not_counts() -> None:
    accepted = found(accepted_because="known")
    made = merge([record(accepted=(accepted,)), other(found())]).record
    assert (len(made.findings), len(made.accepted), made.exit_code) == (1, 0, 1)
    made = merge([record(accepted=(accepted,)), other()]).record
    assert (len(made.findings), len(made.accepted), made.exit_code) == (0, 1, 0)


def test_what_was_vacuous_is_united() -> None:
    first, second = vacuous(record()), msgspec.structs.replace(vacuous(other()), run_id="run-2")
    made = merge([first, second, vacuous(other(run_id="run-3"), "nothing ever restarted")]).record
    assert made.vacuous == (Vacuous("sweep", "no fault fired at all"), Vacuous("sweep", "nothing ever restarted"))


@pytest.mark.parametrize(
    ("first", "second", "verdict", "code"),
    [
        (record(), other(), "HOLDS", 0),
        (record(found()), other(), "FINDING", 1),
        (record(found()), vacuous(other()), "FINDING", 1),
        (record(), vacuous(other()), "NOT_TESTED", 2),
        (record(), other(verdict="NOT_TESTED", exit_code=2), "NOT_TESTED", 2),
        (record(found()), other(verdict="INTERRUPTED", exit_code=130, complete=False), "INTERRUPTED", 130),
    ],
)
def test_the_verdict_is_that_of_one_run(first: RunRecord, second: RunRecord, verdict: str, code: int) -> None:
    for runs in ([first, second], [second, first]):
        made = merge(runs).record
        assert (made.verdict, made.exit_code) == (verdict, code)


def test_a_part_that_was_cut_short_makes_the_whole_partial() -> None:
    made = merge([record(), other(complete=False)]).record
    assert (made.complete, made.exit_code) == (False, 0)
    assert "PARTIAL" in headline(made)


def test_nothing_is_counted_twice() -> None:
    once = merge([record(), other()])
    assert once.repeated == ()
    twice = merge([record(), other(), record()])
    assert (twice.record, twice.repeated) == (once.record, ("run-1",))
    again = merge([record(), once.record, other(run_id="run-3")])
    assert again.repeated == ("run-1",)
    assert [part.run_id for part in again.record.runs] == ["run-1", "run-2", "run-3"]
    nameless = record(run_id="")
    assert len(merge([nameless, nameless]).repeated) == 1


def test_what_can_not_be_taken_apart_is_refused() -> None:
    first = merge([record(), other()]).record
    second = merge([other(), other(run_id="run-3")]).record
    with pytest.raises(MergeError, match="share the run run-2"):
        merge([first, second])
    with pytest.raises(MergeError, match="no record"):
        merge([])


def test_its_junit_and_its_summary_count_nothing_twice() -> None:
    made = merge([vacuous(record(found())), vacuous(other(found())), record(run_id="3", target="another")]).record
    root = ElementTree.fromstring(junit(made))  # noqa: S314 - it was made here
    assert (root.attrib["failures"], root.attrib["errors"], len(root)) == ("1", "1", 1)
    properties = {one.attrib["name"]: one.attrib["value"] for one in root.iter("property")}
    assert properties["tried"] == "6"
    assert summary(made).count("- sweep tiny: 6 points") == 1


def test_one_run_merged_is_that_run() -> None:
    assert merge([record(found(), trend=())]).record == record(found())


def test_the_command_writes_the_record_and_ends_as_all_of_them_do(command: Command, tmp_path: Path) -> None:
    for name, run in (("a", record(found())), ("b", other()), ("c", record(found()))):
        run_record.write(run, tmp_path / name / "run.json")
    ran = command("report", "merge", "a/run.json", "b/run.json", "c/run.json", "--output", "all/run.json")
    assert ran.code == 1
    assert "tiny: FAILED with 1 finding. 4 faults fired" in ran.out
    assert "FINDING      tiny, SQLite 3.45.0, Python 3.12.1, seed 7, 2.5 s" in ran.out
    assert "given more than once, counted once: run run-1" in ran.err
    made = run_record.read(tmp_path / "all/run.json")
    assert len(made.runs) == 2
    for kind in ("junit", "sarif", "summary"):
        assert command("report", kind, "all/run.json").code == 0
    assert command("report", "merge", "b/run.json", "--output", "b.json").code == 0
    assert command("report", "merge", "nothing.json", "--output", "b.json").code == 2
