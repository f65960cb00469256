"""``ledger tasks audit``: its text, its JSON, and its exit codes."""

import json
import time

import pytest
from click.testing import CliRunner

from tornpage import ledger
from tornpage.ledger.command import ledger_group
from tornpage.ledger.command.upkeep import _age

HOUR = 3_600_000


@pytest.fixture
def state_dir(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def run(state_dir):
    def call(*arguments, **options):
        given = ["--state-dir", str(state_dir), "tasks", "audit", *arguments]
        return CliRunner().invoke(ledger_group, given, **options)

    return call


@pytest.fixture
def ids(state_dir):
    """One of each: an error, two warnings and a task with nothing wrong; made some hours ago."""
    now = time.time_ns() // 1_000_000
    clock = [now]
    with ledger.Ledger.open(state_dir, clock=lambda: clock[0]) as opened:

        def make(hours, **fields):
            clock[0] = now - hours * HOUR
            return opened.tasks.create(runtime="cli", task="water", owner_key="owner", **fields)

        running, queued = make(50, status="running"), make(30)
        failed = make(3, status="failed", error="no [red]water\x1b[2J\nat all")
        opened.tasks.set_delivery_status(failed.task_id, "failed")
        lost = make(26, status="lost", error="no [red]water\x1b[2J\nat all " + "x" * 200)
        make(0, status="succeeded")
    return {"running": running.task_id, "queued": queued.task_id, "failed": failed.task_id, "lost": lost.task_id}


def lines(result):
    assert result.exception is None, result.output
    return result.stdout.splitlines()


def test_the_text_is_a_headline_and_an_aligned_table(run, ids):
    headline, *table = lines(run())
    assert headline == "Task audit: 4 findings · 2 errors · 2 warnings"
    head, *rows = table
    assert head.split() == ["Severity", "Code", "Task", "Status", "Age", "Detail"]
    assert [row.split()[:5] for row in rows] == [
        ["error", "stale_running", ids["running"], "running", "2d2h"],
        ["error", "lost", ids["lost"], "lost", "1d2h"],
        ["warn", "stale_queued", ids["queued"], "queued", "1d6h"],
        ["warn", "delivery_failed", ids["failed"], "failed", "3h"],
    ]
    for column in ("Code", "Task", "Status", "Age", "Detail"):
        at = head.index(column)
        assert all(row[at] != " " and row[at - 1] == " " for row in rows)


def test_what_a_task_says_stays_on_its_line_and_cannot_move_the_cursor(run, ids):
    detail = lines(run("--code", "lost"))[-1]
    assert "no [red]water\N{REPLACEMENT CHARACTER}[2J at all xxx" in detail
    assert detail.endswith("x…")
    assert len(detail[detail.index("no [red]") :]) == 100
    assert detail.isprintable()


def test_the_filters_in_force_are_shown_and_the_headline_counts_everything(run, ids):
    headline, filters, _, row = lines(run("--severity", "warn", "--limit", "1"))
    assert headline == "Task audit: 4 findings · 2 errors · 2 warnings"
    assert filters == "Filters: severity warn · limit 1 · showing 1 of 2"
    assert row.split()[1] == "stale_queued"
    assert lines(run("--code", "lost"))[1] == "Filters: code lost · showing 1 of 1"
    assert len(lines(run("--limit", "0"))) == 6


def test_a_page_has_fifty_findings_unless_told_otherwise_and_no_line_ends_in_blanks(run, state_dir):
    with ledger.Ledger.open(state_dir) as opened, opened.batch():
        for _ in range(60):
            opened.tasks.create(runtime="cli", task="water", owner_key="owner", status="lost", error="x" * 100)
    _, filters, _, *rows = lines(run())
    assert filters == "Filters: limit 50 · showing 50 of 60"
    assert len(rows) == 50
    assert {row.split()[-1] for row in rows} == {"x" * 100}
    assert all(row == row.rstrip() for row in lines(run("--limit", "0")))
    assert len(lines(run("--limit", "0"))) == 62


def test_nothing_found_is_said_in_words(run, ids):
    expected = [
        "Task audit: 4 findings · 2 errors · 2 warnings",
        "Filters: code missing_cleanup · showing 0 of 0",
        "No task audit findings.",
    ]
    assert lines(run("--code", "missing_cleanup")) == expected


def test_where_there_is_no_ledger_that_is_said_and_none_is_made(run, state_dir):
    result = run("--fail-on", "warn")
    assert lines(result) == ["Task audit: 0 findings · 0 errors · 0 warnings", "No task audit findings."]
    assert result.stderr == f"there is no ledger in {state_dir} yet\n"
    assert (result.exit_code, state_dir.exists()) == (0, False)


def test_the_json_has_the_counts_the_filters_the_summary_and_the_findings(run, ids):
    document = json.loads(run("--json", "--severity", "error", "--limit", "1").stdout)
    (finding,) = document.pop("findings")
    assert document == {
        "count": 4,
        "filtered_count": 2,
        "displayed": 1,
        "filters": {"severity": "error", "code": None, "limit": 1},
        "summary": {
            "total": 4,
            "errors": 2,
            "warnings": 2,
            "by_code": {
                "stale_queued": 1,
                "stale_running": 1,
                "lost": 1,
                "delivery_failed": 1,
                "missing_cleanup": 0,
                "inconsistent_timestamps": 0,
            },
        },
        "quarantined": [],
    }
    assert 50 * HOUR <= finding.pop("age_ms") < 51 * HOUR
    assert finding.pop("created_at") > 0
    assert finding.pop("detail")
    assert finding == {"severity": "error", "code": "stale_running", "task_id": ids["running"], "status": "running"}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 0),
        (["--fail-on", "warn"], 1),
        (["--fail-on", "error"], 1),
        (["--fail-on", "warn", "--severity", "warn"], 1),
        (["--fail-on", "error", "--severity", "warn"], 0),
        (["--fail-on", "error", "--code", "stale_queued"], 0),
        (["--fail-on", "error", "--limit", "1", "--json"], 1),
        (["--fail-on", "warn", "--code", "missing_cleanup"], 0),
    ],
)
def test_fail_on_is_about_the_findings_that_were_asked_for(run, ids, arguments, code):
    result = run(*arguments)
    assert result.exit_code == code
    assert result.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--severity", "fatal"], "'warn', 'error'"),
        (["--code", "stale"], "'stale_queued', 'stale_running', 'lost', 'delivery_failed', 'missing_cleanup'"),
        (["--fail-on", "never"], "'warn', 'error'"),
        (["--limit", "-1"], "-1"),
        (["--limit", "many"], "many"),
        (["--explode"], "--explode"),
    ],
)
def test_misuse_names_what_is_valid_and_ends_with_2(run, ids, arguments, says):
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr


def test_rows_that_cannot_be_read_are_named_on_standard_error(run, ids, state_dir):
    with ledger.Ledger.open(state_dir) as opened:
        opened.database.connection.execute("PRAGMA ignore_check_constraints = 1")
        opened.database.connection.execute("UPDATE tasks SET status = 'exploded' WHERE status = 'lost'")
    result = run()
    assert result.exit_code == 0
    assert f"quarantined: tasks {ids['lost']}: Invalid enum value 'exploded'" in result.stderr
    assert json.loads(run("--json").stdout)["quarantined"][0]["key"] == ids["lost"]


def test_a_store_that_fails_ends_with_2(run, state_dir):
    state_dir.write_text("a file")
    result = run()
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is not a directory" in result.stderr


def test_colours_are_for_terminals_only(run, ids):
    assert "\x1b" not in run().stdout
    coloured = run(color=True).stdout
    assert "\x1b[31merror" in coloured
    assert "\x1b[33mwarn" in coloured


@pytest.mark.parametrize(
    ("age_ms", "shown"),
    [
        (0, "0s"),
        (999, "0s"),
        (59_999, "59s"),
        (60_000, "1m"),
        (65_000, "1m5s"),
        (HOUR, "1h"),
        (24 * HOUR - 1, "23h59m"),
        (24 * HOUR, "1d"),
        (76 * HOUR + 1, "3d4h"),
    ],
)
def test_an_age_is_shown_in_its_two_largest_units(age_ms, shown):
    assert _age(age_ms) == shown


def test_help_explains_the_codes_and_the_exit_codes(run):
    output = run("--help").stdout
    assert all(word in output for word in ("stale_queued", "inconsistent_timestamps", "--fail-on", "Exit codes"))
