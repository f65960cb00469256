"""A baseline accepts what it names, until its day, and nothing else; it is read strictly."""

import datetime
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tiny_stores
from run_records import found, record, scenario

from tornpage.scenarios.cli import ci
from tornpage.scenarios.model.events import Finding
from tornpage.scenarios.model.fingerprint import fingerprint
from tornpage.scenarios.model.plan import PROFILES, Plan, Profile
from tornpage.scenarios.model.scenario import Scenario
from tornpage.scenarios.report.baseline import Baseline, BaselineError, Entry, entry_of, extend
from tornpage.scenarios.run import record as run_record
from tornpage.scenarios.run.campaign import Exit, run, verdict

Command = Callable[..., Any]
DAY = datetime.date(2026, 6, 30)
WRONG = ("--target", "test_reports_baseline:TwoCalls")
FULL = ("--plan", "commit@1=FULL", "--quiet")
WAL = ("--configuration", "wal/FULL")


class TwoCalls(tiny_stores.RemembersFirst):
    """Each of its calls is a finding of its own."""

    calls = tiny_stores.RemembersFirst.calls[:2]


def entry(told: Scenario | None = None, **others: Any) -> Entry:
    return msgspec.structs.replace(entry_of(found(told=told), "known", DAY), **others)


def finding(told: Scenario | None = None, check: str = "memory-equals-disk") -> Finding:
    return Finding(check, "wrong", told or scenario(), {}, "sweep")


def test_an_entry_accepts_its_finding_up_to_its_last_day() -> None:
    for day, accepted in ((DAY, "known (until 2026-06-30)"), (DAY + datetime.timedelta(1), "")):
        assert Baseline([entry()], day).accepts(finding()) == accepted


@pytest.mark.parametrize("other", [finding(scenario("move")), finding(check="all-or-nothing")])
def test_it_accepts_nothing_else(other: Finding) -> None:
    assert Baseline([entry()], DAY).accepts(other) == ""


def test_an_entry_for_one_configuration_accepts_it_only_there() -> None:
    baseline = Baseline([entry(configuration="delete/FULL")], DAY)
    assert baseline.accepts(finding(scenario(configuration="delete/FULL")))
    assert not baseline.accepts(finding(scenario(configuration="wal/FULL")))


def test_what_has_expired_and_what_matches_nothing_is_told() -> None:
    move = entry(scenario("move"))
    other = entry(target="another", fingerprint="0" * 16)
    baseline = Baseline([entry(), move, other], DAY + datetime.timedelta(1))
    assert baseline.accepts(finding()) == ""
    expired, unmet = baseline.notes("tiny", whole=True)
    assert expired.startswith("expired on 2026-06-30, and fails again: memory-equals-disk on tiny (put under fault)")
    assert unmet.startswith("matches nothing in this run: memory-equals-disk on tiny (move under fault)")


def test_of_entries_for_two_configurations_none_is_called_useless_where_one_was_met() -> None:
    baseline = Baseline([entry(configuration="delete/FULL"), entry(configuration="wal/FULL")], DAY)
    assert baseline.accepts(finding())
    assert baseline.notes("tiny", whole=True) == ()


def test_a_process_of_its_own_can_be_handed_what_is_accepted() -> None:
    accepts = pickle.loads(pickle.dumps(Baseline([entry()], DAY).accepts))  # noqa: S301 - it was made here
    assert accepts(finding()) == "known (until 2026-06-30)"


def test_an_entry_that_was_renewed_is_not_called_expired() -> None:
    later = entry(expires=DAY + datetime.timedelta(30))
    baseline = Baseline([entry(), later], DAY + datetime.timedelta(1))
    assert baseline.accepts(finding())
    assert baseline.notes("tiny", whole=True) == ()


def test_what_is_written_reads_back_and_keeps_what_people_have_written(tmp_path: Path) -> None:
    path = tmp_path / "baselines/tornpage.toml"
    reason = 'said "so" \\ \x7f \x01 \n and ü \U0001f5a5'
    new = extend(path, record(found(), found(seen=9)), reason, DAY)
    assert [one.reason for one in new] == [reason]
    path.write_text(path.read_text() + "# A word of mine.\n")
    assert extend(path, record(found(), found(told=scenario("move"))), "another", DAY)[0].shows == "move under fault"
    assert "# A word of mine.\n\n[[accepted]]" in path.read_text()
    baseline = Baseline.read(path, DAY)
    assert [one.reason for one in baseline.entries] == [reason, "another"]
    assert baseline.entries[0] == entry(reason=reason)
    assert baseline.accepts(finding())
    assert extend(path, record(found()), "again", DAY) == ()
    assert list(tmp_path.rglob("*.new")) == []


HEAD = 'format = "tornpage-baseline"\nversion = 1\n'
ENTRY = f"""
[[accepted]]
check = "memory-equals-disk"
target = "tiny"
fingerprint = "{fingerprint("memory-equals-disk", scenario())}"
reason = "known"
expires = 2026-06-30
"""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not a baseline: .*format"),
        ("format = ", "is not a baseline"),
        (HEAD.replace("baseline", "replay"), "is 'tornpage-replay', version 1"),
        (HEAD.replace("1", "2"), "version 2; this tornpage reads tornpage-baseline, 1"),
        (HEAD + ENTRY.replace("expires = 2026-06-30", ""), "missing required field `expires`"),
        (HEAD + ENTRY.replace("2026-06-30", '"soon"'), "expires"),
        (HEAD + ENTRY.replace('reason = "known"', ""), "missing required field `reason`"),
        (HEAD + ENTRY.replace('"known"', '" "'), "entry 1 .* has no reason"),
        (HEAD + ENTRY.replace("memory-equals-disk", "nonsense"), "accepts 'nonsense', which is not a check"),
        (HEAD + ENTRY + 'expire = "never"\n', "unknown field `expire`"),
        (b"\xff", "is not a baseline"),
    ],
)
def test_another_file_is_refused_with_what_is_wrong(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = tmp_path / "baseline.toml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(BaselineError, match=message):
        Baseline.read(path, DAY)
    with pytest.raises(BaselineError, match="cannot read the baseline"):
        Baseline.read(tmp_path / "nothing.toml", DAY)


# -- in a run ----------------------------------------------------------------------------------------------


def test_what_is_accepted_does_not_fail_and_what_is_new_does(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("sweep", *WRONG, *WAL, *FULL).code == 1
    made = command("report", "baseline", "--reason", "issue 12", "--expires", "2999-01-01")
    assert made.code == 0, made
    assert "tornpage-baseline.toml: 2 new entries from 2 findings" in made.out

    ran = command("sweep", *WRONG, *WAL, *FULL, "--baseline", "tornpage-baseline.toml")
    assert ran.code == 0, ran
    assert "accepted by the baseline: issue 12 (until 2999-01-01)" in ran.out
    assert "HOLDS: no check failed, 2 accepted by the baseline" in ran.out
    kept = run_record.read(tmp_path / ".tornpage/run.json")
    assert (len(kept.findings), len(kept.accepted), kept.verdict) == (0, 2, "HOLDS")
    assert {one.accepted_because for one in kept.accepted} == {"issue 12 (until 2999-01-01)"}

    text = Path("tornpage-baseline.toml").read_text()
    Path("less.toml").write_text(text.rpartition("\n[[accepted]]")[0])
    ran = command("sweep", *WRONG, *WAL, *FULL, "--baseline", "less.toml")
    assert ran.code == 1
    assert "FAILED with 1 finding, 1 accepted by the baseline" in ran.out

    monkeypatch.setattr(ci, "today", lambda: datetime.date(2999, 1, 2))
    ran = command("sweep", *WRONG, *WAL, *FULL, "--baseline", "tornpage-baseline.toml")
    assert ran.code == 1
    assert "baseline: expired on 2999-01-01, and fails again: memory-equals-disk" in ran.out
    assert "It was: issue 12" in ran.out


def test_an_entry_that_nothing_matches_any_more_is_told_and_fails_nothing(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All searches have to come to their end, and not more.
    small = Profile("quick", 1, 1, 3, 3, crash_states=1, kills=1, rival_points=1, limit_points=1, schedules=2)
    monkeypatch.setitem(PROFILES, "quick", small)
    old = entry(target="tiny_stores:Tiny", expires=datetime.date(2999, 1, 1))
    extend(Path("b.toml"), record(), "none", old.expires)
    Path("b.toml").write_text(HEAD + ENTRY.replace('"tiny"', '"tiny_stores:Tiny"').replace("2026", "2999"))
    ran = command("check", "--target", "tiny_stores:Tiny", "--baseline", "b.toml", "--quiet")
    assert "baseline: matches nothing in this run: memory-equals-disk on tiny_stores:Tiny" in ran.out
    # One search says nothing about an entry that another one may have made.
    ran = command("sweep", "--target", "tiny_stores:Tiny", *WAL, *FULL, "--baseline", "b.toml")
    assert ran.code == 0, ran
    assert "matches nothing" not in ran.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sweep", "--baseline", "nothing.toml"), "cannot read the baseline nothing.toml"),
        (("report", "baseline", "run.json", "--reason", " ", "--expires", "2999-01-01"), "--reason is empty"),
        (("report", "baseline", "run.json", "--reason", "x", "--expires", "2020-01-01"), "is in the past"),
        (("report", "baseline", "run.json", "--reason", "x"), "--expires"),
        (("report", "baseline", "run.json", "--reason", "x", "--expires", "2999-01-01"), "run.json can't be read"),
    ],
)
def test_misuse_is_exit_code_2(arguments: tuple[str, ...], words: str, command: Command) -> None:
    ran = command(*arguments)
    assert ran.code == 2, ran
    assert words in " ".join(ran.err.split())


def searched(
    target: Any, entries: list[Entry], *searches: str, most_findings: int = 25, configurations: int | None = 1
) -> Any:
    profile = Profile("test", configurations, 8, scenarios=20, steps=10, crash_states=5, kills=0, shrinks=False)
    plan = Plan(searches, profile, seed=3, report=None, most_findings=most_findings)
    return run(target, plan, accepts=Baseline(entries, DAY).accepts)


def entries_of(recorder: Any) -> list[Entry]:
    told = [(one.finding.code, one.finding.scenario) for one in recorder.findings]
    return [entry_of(found(code, steps), "known", DAY) for code, steps in told]


@pytest.mark.parametrize("search", ["sweep", "fuzz", "crash"])
def test_no_search_is_stopped_or_blinded_by_what_is_accepted(search: str) -> None:
    target = tiny_stores.RemembersFirst() if search != "crash" else tiny_stores.TwoTransactions()
    before = searched(target, [], search)
    entries = entries_of(before)
    assert entries
    for others in (entries[1:], entries):
        # With a limit of one finding an accepted one would end the search, if it counted.
        after = searched(target, others, search, most_findings=max(1, len(entries) - len(others)))
        failing = {fingerprint(one.finding.code, one.finding.scenario) for one in after.findings}
        accepted = {fingerprint(one.finding.code, one.finding.scenario) for one in after.accepted}
        assert not failing & {one.fingerprint for one in others}
        assert accepted <= {one.fingerprint for one in others}
        if others == entries and search == "sweep":
            assert (verdict(after), len(after.accepted)) == (Exit.HOLDS, len(entries))


def test_what_is_accepted_in_one_configuration_fails_in_the_other() -> None:
    before = searched(TwoCalls(), [], "sweep", configurations=None)
    entries = [msgspec.structs.replace(one, configuration="wal/FULL") for one in entries_of(before)]
    after = searched(TwoCalls(), entries, "sweep", configurations=None)
    assert {str(one.finding.scenario.configuration) for one in after.accepted} == {"wal/FULL"}
    assert {str(one.finding.scenario.configuration) for one in after.findings} == {"delete/FULL"}
