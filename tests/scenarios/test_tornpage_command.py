"""The command ``tornpage``: exit codes, what it prints, and that its JSON says the same."""

import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tiny_stores
from click import Context
from click.testing import CliRunner

from tornpage import faults
from tornpage.scenarios.cli import tornpage as group
from tornpage.scenarios.model.judging.checks import CHECKS
from tornpage.scenarios.run import campaign
from tornpage.scenarios.selftest import gate
from tornpage.scenarios.targets import known_bugs
from tornpage.scenarios.targets.registry import SHIPPED

Command = Callable[..., Any]

TINY = ("--target", "tiny_stores:Tiny")
WRONG = ("--target", "tiny_stores:RemembersFirst")
WAL = ("--configuration", "wal/FULL")
SMALL_SWEEP = (*WAL, "--depth", "vfs")
SMALL_FUZZ = (*WAL, "--scenarios", 5, "--steps", 8)

pytestmark = pytest.mark.usefixtures("quick_is_small")


def only(text: str, pattern: str) -> str:
    """The one match of a pattern."""
    found = re.findall(pattern, text)
    assert len(found) == 1, (pattern, text)
    return str(found[0])


# -- searches ----------------------------------------------------------------------------------------------


def test_a_search_that_holds_says_so_with_its_table_its_seed_and_exit_code_0(command: Command) -> None:
    ran = command("sweep", *TINY, *SMALL_SWEEP, "--seed", 11)
    assert ran.code == 0, ran
    assert "HOLDS: no check failed" in ran.out
    assert "seed 11" in ran.out
    assert "IOERR_FSYNC" in ran.out
    assert "surfaced" in ran.out
    # Nothing was found, so nothing else is left behind.
    assert {left.name for left in Path(".tornpage").iterdir()} == {"run.json", ".gitignore"}


def test_json_carries_the_same_figures_and_nothing_else_is_on_standard_output(command: Command) -> None:
    told = command("sweep", *TINY, *SMALL_SWEEP)
    data = json.loads(command("sweep", *TINY, *SMALL_SWEEP, "--json").out)
    (row,) = [line for line in told.out.splitlines() if line.startswith("│ all")]
    printed = [int(number.replace(",", "")) for number in re.findall(r"[\d,]+", row)]
    summed = [sum(point[name] for point in data["fault_points"]) for name in ("tried", "fired", "surfaced")]
    assert printed == [*summed, summed[1] - summed[2], 0]
    (search,) = data["searches"]
    assert [search["counts"][name] for name in ("tried", "fired", "surfaced")] == summed
    assert (data["verdict"], data["exit_code"], data["complete"], data["seed"]) == ("HOLDS", 0, True, 0)
    assert (data["findings"], data["observations"], data["vacuous"]) == ([], [], [])
    assert data["target"] == "tiny_stores:Tiny"


def test_quiet_tells_no_progress(command: Command) -> None:
    assert command("sweep", *TINY, *SMALL_SWEEP, "--quiet").err == ""


def test_a_finding_is_exit_code_1_and_its_line_pasted_shows_it_again(command: Command) -> None:
    ran = command("sweep", *WRONG, *SMALL_SWEEP)
    assert ran.code == 1
    assert "FAILED with 3 findings" in ran.out
    lines = re.findall(r"^ +tornpage (replay .*)", ran.out, re.MULTILINE)
    assert len(lines) == 3
    for line in lines:
        again = command(*shlex.split(line))
        assert again.code == 1, again
        assert again.out.rstrip().endswith("FAILED: memory-equals-disk on tiny_stores:RemembersFirst")


def test_a_finding_is_fixed_where_the_defect_is_not(command: Command) -> None:
    line = shlex.split(re.findall(r"tornpage (replay .*)", command("sweep", *WRONG, *SMALL_SWEEP).out)[0])
    file = line[1]
    ran = command("replay", file, *TINY, "--json")
    assert ran.code == 0
    data = json.loads(ran.out)
    assert (data["verdict"], data["check"], len(data["runs"])) == ("FIXED", "memory-equals-disk", 3)


def test_json_names_findings_as_the_text_does(command: Command, tmp_path: Path) -> None:
    ran = command("fuzz", *WRONG, *SMALL_FUZZ, "--json", "--report", tmp_path / "a report")
    assert ran.code == 1
    data = json.loads(ran.out)
    (finding,) = data["findings"]
    assert finding["check"] == "memory-equals-disk"
    assert finding["scenario"]["target"] == "tiny_stores:RemembersFirst"
    assert command(*shlex.split(finding["replay"])[1:]).code == 1


def test_the_same_seed_prints_the_same(command: Command) -> None:
    def counts(seed: int) -> dict[str, int]:
        (search,) = json.loads(command("fuzz", *TINY, *SMALL_FUZZ, "--seed", seed, "--json").out)["searches"]
        return dict(search["counts"])

    assert counts(5) == counts(5) != counts(6)


def test_nothing_tested_is_exit_code_2(command: Command) -> None:
    ran = command("sweep", "--target", "tiny_stores:DoesNothing", *SMALL_SWEEP)
    assert ran.code == 2
    assert "INCONCLUSIVE" in ran.out
    assert "makes no call" in ran.out


def test_no_time_is_exit_code_2_and_is_called_partial(command: Command) -> None:
    ran = command("sweep", *TINY, "--max-time", 0)
    assert ran.code == 2
    assert "PARTIAL" in ran.out


def test_check_shows_its_canary_and_searches_in_every_way(command: Command) -> None:
    ran = command("check", "--target", "tiny_stores:Declared", *WAL, "--json")
    assert ran.code == 0, ran
    assert "the canary was caught by memory-equals-disk" in ran.err
    ways = [name for name in campaign.SEARCHES if name != "syscalls"]  # That one is for programs of their own.
    data = json.loads(ran.out)
    assert [search["search"] for search in data["searches"]] == ways
    # Each says how much of all there is it has tried, or the verdict could not.
    random = {search["search"] for search in data["searches"] if search["extent"] == "random"}
    assert random == {"kill", "fuzz"}
    assert data["extent"] == "SAMPLED"


def test_what_has_no_sqlite_beneath_it_is_searched_by_what_plain_files_can_meet(command: Command) -> None:
    ran = command("check", "--target", "json-file", "--json")
    assert ran.code == 0, ran
    assert [search["search"] for search in json.loads(ran.out)["searches"]] == ["sweep", "crash", "kill", "fuzz"]


def test_a_check_that_can_not_see_the_canary_is_not_begun(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_bugs, "find_bug", lambda _: Harmless())
    ran = command("check", *TINY, *WAL)
    assert ran.code == 2
    assert "proves nothing" in ran.err or "would prove nothing" in ran.err
    assert ran.out == ""


class Harmless:
    """A canary that sings on."""

    checks = ("memory-equals-disk",)

    def target(self) -> tiny_stores.Tiny:
        return tiny_stores.Tiny()


def test_ctrl_c_reports_what_was_done_and_is_exit_code_130(command: Command) -> None:
    # It is opened for the 300th time in the middle of the sweep.
    tiny_stores.Interrupts.opened = 250
    ran = command("sweep", "--target", "tiny_stores:Interrupts", *WAL, "--json")
    assert ran.code == 130
    data = json.loads(ran.out)
    assert (data["verdict"], data["exit_code"], data["complete"]) == ("INTERRUPTED", 130, False)
    assert 0 < data["searches"][0]["counts"]["tried"] < data["searches"][0]["counts"]["points"]


def interrupted(target: object, plan: object, handlers: object = ()) -> campaign.Recorder:
    """A campaign in which Ctrl-C was pressed at once."""
    recorder = campaign.Recorder()
    recorder.interrupted = True
    return recorder


@pytest.mark.parametrize("name", ["check", "bugs"])
def test_ctrl_c_is_heard_at_the_canary_and_between_the_bugs(
    name: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "run", interrupted)
    ran = command(name)
    assert ran.code == 130, ran
    assert "not caught" not in ran.err


@pytest.mark.parametrize("name", ["check", "sweep", "fuzz", "probe", "bugs"])
def test_where_the_shim_is_out_of_reach_that_is_said_and_is_no_finding(
    name: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_reach(*_: object, **__: object) -> Iterator[None]:
        raise faults.ShimUnavailableError("sqlite3 is linked statically")

    monkeypatch.setattr(faults, "install", out_of_reach)
    ran = command(name)
    assert ran.code == 2, ran
    assert "sqlite3 is linked statically" in ran.err
    assert "statement" in ran.err


def test_a_target_that_fails_without_a_fault_is_exit_code_2_in_one_line(command: Command) -> None:
    for name in ("sweep", "fuzz"):
        ran = command(name, "--target", "tiny_stores:NeverOpens")
        assert ran.code == 2
        assert "without any fault" in ran.err
        assert "Traceback" not in ran.err


def test_a_defect_of_the_harness_itself_is_no_finding(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "run", lambda *_: 1 / 0)
    ran = command("sweep", *TINY)
    assert ran.code == 2
    assert "ZeroDivisionError" in ran.err
    assert "internal error in tornpage" in ran.err


# -- misuse ------------------------------------------------------------------------------------------------

MISUSE = [
    (("sweep", "--target", "nobody"), ["unknown target 'nobody'", "reference, diskcache, json-file, ", "bug:NAME"]),
    (("sweep", "--target", "bug:nobody"), ["unknown bug 'nobody'", "update-memory-first"]),
    (("sweep", "--target", "no_such_module:Target"), ["cannot import", "no_such_module"]),
    (("sweep", "--target", "tiny_stores:Nobody"), ["cannot import", "Nobody"]),
    (("sweep", "--target", "json:JSONDecoder"), ["is not a target: it lacks configurations"]),
    (
        ("check", "--configuration", "memory/FULL"),
        ["memory/FULL", "wal, delete, truncate, persist", "OFF, NORMAL, FULL"],
    ),
    (("sweep", "--depth", "syscall"), ["vfs", "statement"]),
    (("sweep", "--target", "diskcache", "--depth", "statement"), ["diskcache can be reached at: vfs"]),
    (("sweep", "--plan", "sync@x=FULL"), ["column 6", "N, N.., N..M or *"]),
    (("sweep", "--plan", "synk@1=FULL"), ["column 1", "a kind of operation", "sync"]),
    (("sweep", "--plan", "sync:wall@1=FULL"), ["column 6", "a role", "wal"]),
    (("sweep", "--plan", "sync@1=FULLY"), ["column 8", "an effect", "FULL"]),
    (("sweep", "--plan", "sync@1=FULL"), ["can't happen", "/before=IOERR_FSYNC"]),
    (("sweep", "--plan", "write@1=KILL"), ["would kill tornpage itself"]),
    (("sweep", "--plan", "write@1=FULL;commit@1=BUSY"), ["mixes the two depths"]),
    (("check", "--profile", "huge"), ["quick", "ci", "nightly"]),
    (("check", "--max-time", -1), ["max-time"]),
    (("fuzz", "--scenarios", 0), ["x>=1"]),
    (("explain", "nonsense"), ["Checks: memory-equals-disk", "IOERR_WRITE", "write:wal@1=FULL"]),
    (("explain", "write:wal@x=FULL"), ["column 11"]),
    (("bugs", "nobody"), ["unknown bug 'nobody'", "known: canary, "]),
    (("nonsense",), ["No such command"]),
    (("replay",), ["Missing argument"]),
]


@pytest.mark.parametrize(("arguments", "named"), MISUSE)
def test_misuse_is_exit_code_2_and_names_what_is_allowed(
    arguments: tuple[object, ...], named: list[str], command: Command
) -> None:
    if "diskcache" in arguments:
        pytest.importorskip("diskcache")
    ran = command(*arguments)
    assert ran.code == 2, ran
    printed = " ".join(ran.err.split())
    for words in named:
        assert words in printed
    assert ran.out == ""


def test_a_journal_mode_alone_stands_for_full(command: Command) -> None:
    ran = command("sweep", *TINY, "--configuration", "delete", "--depth", "statement", "--quiet")
    assert ran.code == 0, ran


@pytest.mark.parametrize("code", ["1 / 0", "raise SystemError('no')", "x = "])
def test_a_module_that_can_not_be_imported_is_no_finding(code: str, command: Command, tmp_path: Path) -> None:
    name = f"unimportable_{abs(hash(code))}"
    (tmp_path / f"{name}.py").write_text(code)
    sys.path_importer_cache.pop(str(tmp_path), None)
    try:
        ran = command("sweep", "--target", f"{name}:Target")
    finally:
        sys.path.remove(str(tmp_path))
    assert ran.code == 2, ran
    assert "cannot import target" in ran.err


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_says_what_there_is_and_what_the_exit_codes_mean(arguments: tuple[str, ...]) -> None:
    text = CliRunner().invoke(group, list(arguments)).output
    for word in ("check", "sweep", "fuzz", "probe", "bugs", "replay", "explain", "targets", "ledger", "130"):
        assert word in text


@pytest.mark.parametrize("name", group.list_commands(Context(group)))
def test_every_command_has_a_help_text(name: str) -> None:
    ran = CliRunner().invoke(group, [name, "--help"])
    assert ran.exit_code == 0
    assert len(ran.output) > 100


# -- a plan by hand ----------------------------------------------------------------------------------------


def test_a_plan_by_hand_is_tried_at_every_call_and_no_other_is(command: Command) -> None:
    ran = command("sweep", *WRONG, *WAL, "--plan", "write:wal@1..=FULL", "--json")
    assert ran.code == 1
    data = json.loads(ran.out)
    assert {(point["kind"], point["role"], point["effect"]) for point in data["fault_points"]} == {
        ("write", "wal", "FULL")
    }
    assert {finding["check"] for finding in data["findings"]} == {"memory-equals-disk"}
    assert command("sweep", *TINY, *WAL, "--plan", "write:wal@1..=FULL").code == 0


def test_a_plan_by_hand_that_never_fires_tests_nothing(command: Command) -> None:
    ran = command("sweep", *TINY, "--configuration", "delete/FULL", "--plan", "write:wal@1=FULL")
    assert ran.code == 2, ran
    assert "INCONCLUSIVE" in ran.out


# -- explain, targets, probe, ledger -----------------------------------------------------------------------


@pytest.mark.parametrize("code", sorted(CHECKS))
def test_explain_knows_every_check(code: str, command: Command) -> None:
    ran = command("explain", code)
    assert ran.code == 0
    assert ran.out.startswith(f"{code}: {CHECKS[code].meaning}")
    assert "What to do: " in ran.out


EFFECTS = sorted(
    {effect for line in faults.possibilities() for effect in line.effects if effect in faults.RESULT_CODES}
)


def test_explain_knows_every_result_that_a_fault_can_have_and_where_it_comes_from(command: Command) -> None:
    for effect in EFFECTS:
        for written in (effect, f"SQLITE_{effect}", effect.lower()):
            ran = command("explain", written)
            assert ran.code == 0, ran
            assert ran.out.startswith(f"SQLITE_{effect} ({faults.RESULT_CODES[effect]}): ")
            assert "no fault here raises it" not in ran.out


def test_explain_knows_every_fault_of_the_catalogue(command: Command) -> None:
    for line in faults.possibilities():
        for effect in line.effects:
            fault = faults.Fault(line.kind, effect, line.roles[0], timing=line.timing)
            ran = command("explain", fault)
            assert ran.code == 0, ran
            assert line.reason in ran.out


def test_explain_tells_each_fault_of_a_plan_in_words(command: Command) -> None:
    ran = command("explain", "write:wal@3..=FULL;sync@*/after=IOERR_FSYNC")
    first, second = ran.out.strip().splitlines()
    assert "number 3.. write on the wal file is skipped and reports SQLITE_FULL" in first
    assert "each sync on any file is done and then reports SQLITE_IOERR_FSYNC" in second


def test_explain_says_why_a_fault_can_not_happen(command: Command) -> None:
    assert "can't happen on a real system; possible for sync" in command("explain", "sync@1=FULL").out


def test_targets_are_listed_with_what_they_are(command: Command) -> None:
    ran = command("targets")
    rows = json.loads(command("targets", "--json").out)
    assert ran.code == 0
    assert {"reference", "diskcache"} <= rows.keys() == SHIPPED.keys()
    for name, row in rows.items():
        assert only(ran.out, rf"(?m)^{name} +{row['class']} +(.*)$") == row["title"]
    assert rows["huey"]["class"] == "queue"
    assert "MODULE:NAME" in ran.out


def test_the_probe_shows_the_reported_bug_and_that_the_reference_is_free_of_it(command: Command) -> None:
    ran = command("probe")
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "memory-first: divergenceCount=2/2 resurrectedCount=1",
        "reference: divergenceCount=0/2 resurrectedCount=0",
    ]
    wrong, reference = json.loads(command("probe", "--json").out)
    assert (wrong["divergenceCount"], wrong["failedWrites"], wrong["resurrectedCount"]) == (2, 2, 1)
    assert (reference["divergenceCount"], reference["failedWrites"], reference["resurrectedCount"]) == (0, 2, 0)
    assert wrong["faultFired"] == reference["faultFired"] == 2


def test_the_ledger_s_own_commands_are_mounted(command: Command, tmp_path: Path) -> None:
    assert "--status" in command("ledger", "tasks", "list", "--help").out
    assert command("ledger", "--state-dir", tmp_path / "state", "tasks", "list", "--json").code in (0, 2)


def test_bugs_by_name_shows_what_caught_them_and_how_to_see_it_again(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(gate, "noise", lambda bugs, *_: asked.append([bug.name for bug in bugs]) or iter(()))
    ran = command("bugs", "canary")
    assert ran.code == 0, ran
    assert asked == [["canary"]]
    assert "2 tries, all caught" in ran.out
    assert "reference: no finding by the same searches" in ran.out
    assert command(*shlex.split(only(ran.out, r"tornpage (replay .*)"))).code == 1
    monkeypatch.setattr(gate, "_try", caught)
    data = json.loads(command("bugs", "bug:canary", "--json").out)
    assert {(row["build"], row["caught"], row["check"]) for row in data["bugs"]} == {
        ("canary", True, "memory-equals-disk")
    }
    assert (data["reference"], data["seed"]) == ([], 0)


def caught(bug: object, search: str, seed: int) -> tuple[gate.Catch, None]:
    """A search that has caught the canary."""
    return gate.Catch("canary", search, ("memory-equals-disk",), "memory-equals-disk", "it differs", 40, 0, 0, ""), None


def test_bugs_counts_with_how_many_seeds_each_is_caught(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "_try", caught)
    ran = command("bugs", "canary", "--seeds", "3-4", "--json")
    assert ran.code == 0, ran
    data = json.loads(ran.out)
    assert data["seeds"] == [3, 4]
    assert {(row["search"], row["caught"], len(row["others"])) for row in data["bugs"]} == {
        ("sweep", 2, 0),
        ("fuzz", 2, 0),
    }
    other = gate.Catch("canary", "sweep", ("memory-equals-disk",), "integrity", "it is torn", 40, 0, 0, "")
    monkeypatch.setattr(gate, "_try", lambda _, search, __: (msgspec.structs.replace(other, search=search), None))
    ran = command("bugs", "canary", "--seeds", "3")
    assert ran.code == 1
    assert "0/1" in ran.out
    assert "seed 3: integrity" in ran.out
    assert "give two numbers" in command("bugs", "--seeds", "9-3").err
    monkeypatch.setattr(gate, "_try", caught)
    monkeypatch.setattr(gate, "within_budget", lambda *_: False)
    ran = command("bugs", "canary", "--seeds", "3")
    assert (ran.code, "seed 3: canary by sweep: memory-equals-disk over budget" in ran.err) == (1, True), ran


def test_bugs_with_several_seeds_reports_those_that_were_tried_before_ctrl_c(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tried(bug: object, search: str, seed: int) -> tuple[gate.Catch, None]:
        if seed == 5:
            raise KeyboardInterrupt
        return caught(bug, search, seed)

    monkeypatch.setattr(gate, "_try", tried)
    ran = command("bugs", "canary", "--seeds", "3-9")
    assert ran.code == 130, ran
    assert ran.out.count("2/2") == 2
    assert "seed 4: done" in ran.err
    assert "seed 5: done" not in ran.err


@pytest.mark.parametrize("noise", [["a finding in the reference"], []])
def test_bugs_is_exit_code_1_where_one_is_missed_or_the_reference_is_not_silent(
    noise: list[str], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "noise", lambda *_: iter(noise))
    monkeypatch.setattr(gate, "_try", caught)
    if not noise:
        missed = gate.Catch("canary", "sweep", ("memory-equals-disk",), None, "nothing was found", 40, 0, 0, "")
        monkeypatch.setattr(gate, "_try", lambda *_: (missed, None))
    ran = command("bugs", "canary")
    assert ran.code == 1
    assert ("a finding in the reference" if noise else "MISSED: canary") in ran.out


def test_bugs_names_what_was_caught_too_late(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "noise", lambda *_: iter([]))
    monkeypatch.setattr(gate, "_try", caught)
    monkeypatch.setattr(gate, "within_budget", lambda catch, _: catch.search != "sweep")
    ran = command("bugs", "canary")
    assert (ran.code, "OVER BUDGET: canary by sweep\n" in ran.out) == (1, True), ran
