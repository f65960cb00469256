"""Findings that may have one cause are counted, and shown, together."""

from pathlib import Path
from typing import Any

from run_records import found, record, scenario

from tornpage.scenarios.execution.generic_checks.open_connections import CANNOT_ROLL_BACK, STILL_OPEN
from tornpage.scenarios.model.events import NOT_SHOWN
from tornpage.scenarios.model.judging.unpromised import NO_MEMORY_EITHER
from tornpage.scenarios.model.scenario import Arm, Call, CrashAt, Interleave, Limit, Restart, Scenario
from tornpage.scenarios.model.target import Action, Configuration
from tornpage.scenarios.report.causes import by_cause
from tornpage.scenarios.report.words import headline
from tornpage.scenarios.run.record import FoundRecord


def made(check: str, call: str, *conditions: Any, message: str = "it fails", where: str = "store.py:1") -> FoundRecord:
    told = Scenario("tiny", Configuration(), (*conditions, Call(Action(call))))
    return found(check, told, message=message, where=where)


def test_one_check_at_one_line_is_one_cause() -> None:
    one, other = found(where="store.py:12"), found(told=scenario("move"), where="store.py:12")
    assert by_cause((one, other, found(where="store.py:30"), found("integrity", where="store.py:12"))) == [
        [0, 1], [2], [3],
    ]  # fmt: skip


def test_one_connection_without_memory_is_one_cause_whatever_met_it() -> None:
    no_memory = Limit("heap", 0)
    findings = (
        made("memory-equals-disk", "put", no_memory, message=f"a; {CANNOT_ROLL_BACK}", where="store.py:1"),
        made("acknowledged-is-durable", "move", no_memory, message=f"b; {CANNOT_ROLL_BACK}", where="store.py:2"),
        made("still-usable-after-the-fault", "put", no_memory, message=f"c; {STILL_OPEN}", where="store.py:3"),
    )
    assert by_cause(findings) == [[0, 1, 2]]
    # A transaction that an ordinary fault has left open is a defect of its own.
    left_open = found("still-usable-after-the-fault", message=f"c; {STILL_OPEN}", where="store.py:9")
    assert by_cause((*findings, left_open)) == [[0, 1, 2], [3]]
    # So is one that a cancelled call has left open.
    cancelled = made("still-usable-after-the-fault", "put", Limit("awaits", 1), message=f"c; {STILL_OPEN}")
    assert by_cause((*findings, cancelled)) == [[0, 1, 2], [3]]


def test_a_commit_that_is_never_rolled_back_is_one_cause_with_and_without_memory() -> None:
    left_open = made("memory-equals-disk", "put", Arm("lock:db@3..=BUSY"), message=f"a; {STILL_OPEN}")
    no_memory = made("memory-equals-disk", "move", Limit("heap", 0), message=f"b; {CANNOT_ROLL_BACK}")
    assert by_cause((left_open, no_memory)) == [[0, 1]]
    # Where it did try to roll back, the line's other finding is of another kind.
    tried = made("memory-equals-disk", "move", Limit("heap", 0), message=f"{NO_MEMORY_EITHER}: b; {CANNOT_ROLL_BACK}")
    assert by_cause((left_open, tried)) == [[0], [1]]


def test_a_transaction_left_open_without_any_fault_is_a_cause_of_its_own_and_comes_first() -> None:
    under_fault = made("still-usable-after-the-fault", "put", Arm("lock:db@3..=BUSY"), message=f"a; {STILL_OPEN}")
    without = made("memory-equals-disk", "find", message=f"b; {STILL_OPEN} (no fault is needed)")
    assert by_cause((under_fault, without)) == [[1], [0]]


def test_a_store_that_cannot_be_opened_again_is_one_cause_wherever_the_fault_was() -> None:
    usable, error = "still-usable-after-the-fault", "TypeError(\"'NoneType' object is not subscriptable\")"
    cut, killed, busy = CrashAt(4), Arm("lock:db@18=KILL"), Arm("lock:db@3..=BUSY")
    locked = "the next call fails: OperationalError('database is locked')"
    findings = (
        made(usable, "put", cut, message=f"after a crash, opening fails: {error}", where="store.py:1"),
        made(usable, "put", killed, message=f"the fault is gone, and opening again fails: {error}", where="store.py:2"),
        made(usable, "put", cut, message="after a crash, opening fails: KeyError('version')", where="store.py:3"),
        # Two statements that were left in the middle are two defects.
        made(usable, "put", busy, message=locked, where="store.py:4"),
        made(usable, "move", busy, message=locked, where="store.py:5"),
    )
    assert by_cause(findings) == [[0, 1], [2], [3], [4]]
    # What a fault has left in the memory of a process is gone after a crash.
    in_memory = made(usable, "put", Arm("write@1=FULL"), message=f"the fault is gone, and the next call fails: {error}")
    assert by_cause((findings[0], in_memory)) == [[0], [1]]


def test_an_opening_that_leaves_the_store_unusable_is_one_cause_whatever_error_that_leads_to() -> None:
    usable, start, dies = "still-usable-after-the-fault", Restart(crash=True), CrashAt(4, power=False)

    def opened(condition: Any, message: str) -> FoundRecord:
        told = Scenario("tiny", Configuration(), (Restart(), condition, start))
        return found(usable, told, message=message, where=f"store.py:{len(message)}")

    findings = (
        opened(Arm("lock:db@9=BUSY"), "after a crash, opening fails: OperationalError('table job already exists')"),
        opened(dies, "after a crash, a plain reader fails: OperationalError('no such column: name')"),
        made(usable, "put", dies, message="after a crash, opening fails: KeyError('version')", where="store.py:3"),
        # What it has left in the memory of a process is another.
        opened(Arm("write@1=FULL"), "the fault is gone, and opening again fails: LockError('held')"),
    )
    assert by_cause(findings) == [[0, 1], [2], [3]]


def test_a_call_that_is_there_by_half_is_one_cause_whatever_stopped_it() -> None:
    full, killed, dies = Arm("write@3=FULL"), Arm("write@3=KILL"), CrashAt(4, power=False)
    together = Interleave(Action("move"), Action("put"), 1)
    half = "killed in move(name='a') by write:db@3=KILL: a part of the pending change is there"
    gone = "a crash of the process after put(name='a') acknowledged, while move(name='a') was pending (1 is lost)"
    findings = (
        made("all-or-nothing", "move", full, where="s.py:1"),
        made("all-or-nothing", "move", killed, message=half, where="s.py:2"),
        made("acknowledged-is-durable", "put", dies, message=gone, where="s.py:3"),
        made("all-or-nothing", "put", full, where="s.py:4"),
        # A power cut may take more than a call that is not complete.
        made("acknowledged-is-durable", "put", CrashAt(4), message=gone, where="s.py:5"),
        # Two callers may see half a change that a fault can't leave.
        found("all-or-nothing", Scenario("tiny", Configuration(), (together,)), where="s.py:6"),
    )
    assert by_cause(findings) == [[0, 1, 2], [3], [4], [5]]


def test_what_a_store_says_in_the_place_of_a_fault_is_one_cause_whichever_call_says_it() -> None:
    full = Arm("write@1=FULL")
    said = "fails and hides the fault: the caller gets Gone: no file; neither that nor its cause names what failed"
    returned = "after a call (acknowledged: it returned False; if that reports the failure, let the target's …)"
    findings = (
        made("error-is-not-hidden", "put", full, message=f"put() {said}", where="s.py:1"),
        made("error-is-not-hidden", "drop", full, message=f"drop() {said}", where="s.py:2"),
        made("acknowledged-is-durable", "put", full, message=returned, where="s.py:3"),
        made("wrong-answer", "drop", full, message="drop() was acknowledged and returned False; …", where="s.py:4"),
        made("wrong-answer", "get", full, message="get() was acknowledged and returned nothing; …", where="s.py:5"),
    )
    assert by_cause(findings) == [[0, 1], [2, 3], [4]]


def test_a_session_that_does_not_look_again_is_one_cause_whichever_calls_were_made() -> None:
    puts, drops = (made("stale-view", call, where=f"s.py:{call}") for call in ("put", "drop"))
    assert by_cause((puts, drops, made("not-serializable", "drop", where="s.py:drop"))) == [[0, 1], [2]]


def of_files(check: str, *conditions: Any, message: str = "it fails", where: str = "store.py:1") -> FoundRecord:
    told = Scenario("tiny", Configuration("file", "FULL"), (*conditions, Call(Action("put"))))
    return found(check, told, message=message, where=where)


def test_plain_files_that_are_written_by_half_are_one_cause_and_a_missing_sync_is_another() -> None:
    full, dies, cut = Arm("file-write@1=ENOSPC"), CrashAt(4, power=False), CrashAt(4)
    unreadable = "a fresh reader of the files fails: JSONDecodeError('line 1')"
    findings = (
        of_files("integrity", full, message=unreadable, where="s.py:1"),
        of_files("still-usable-after-the-fault", dies, message="after a crash, opening fails: Corrupt('line 1')"),
        of_files("all-or-nothing", full, where="s.py:3"),
        of_files("acknowledged-is-durable", Arm("file-write@1=KILL"), where="s.py:4"),
        of_files("acknowledged-is-durable", cut, where="s.py:5"),
        of_files("integrity", cut, message=f"after a crash, {unreadable}", where="s.py:6"),
        # Others have nothing to do with how the files are written.
        of_files("acknowledged-is-durable", full, where="s.py:7"),
        of_files("integrity", dies, message="the next call fails: Full('3 entries')", where="s.py:8"),
        of_files("all-or-nothing", where="s.py:9"),
    )
    assert by_cause(findings) == [[8], [0, 1, 2, 3], [4, 5], [6], [7]]


def test_what_the_next_call_meets_after_a_crash_is_one_cause_whichever_crash_it_was() -> None:
    next_call = "the next call was acknowledged, but changed more or less than its one key"
    cut = made("acknowledged-is-durable", "put", CrashAt(4), message=next_call, where="s.py:1")
    killed = made("acknowledged-is-durable", "drop", Arm("file-write@1=KILL"), message=f"killed: {next_call}")
    lost = made("acknowledged-is-durable", "put", CrashAt(4), where="s.py:1")
    assert by_cause((cut, killed, lost)) == [[0, 1], [2]]


def test_one_transaction_left_open_is_one_cause_whatever_met_it() -> None:
    busy = Arm("lock:db@3..=BUSY")
    committed = "it wrote the change of the failed call before it, too, from an open transaction or from memory"
    left_open = (
        made("still-usable-after-the-fault", "put", busy, message=f"a; {STILL_OPEN}", where="store.py:1"),
        made("acknowledged-is-durable", "move", busy, message=f"b; {STILL_OPEN}", where="store.py:2"),
        made("acknowledged-is-durable", "put", busy, message=f"c: {committed}", where="store.py:4"),
    )
    cancelled = (
        made("still-usable-after-the-fault", "put", Limit("awaits", 1), message=f"c; {STILL_OPEN}"),
        made("memory-equals-disk", "put", Limit("awaits", 1), message=f"c; {STILL_OPEN}", where="store.py:3"),
        made("acknowledged-is-durable", "put", Limit("awaits", 1), message=f"c: {committed}", where="store.py:5"),
    )
    elsewhere = made("still-usable-after-the-fault", "put", busy, message="closing fails", where="store.py:2")
    assert by_cause((*left_open, *cancelled, elsewhere)) == [[0, 1, 2], [3, 4, 5], [6]]


def test_what_a_power_cut_takes_of_several_calls_is_one_cause() -> None:
    cut = CrashAt(4)
    lost = made("acknowledged-is-durable", "put", cut, where="store.py:1")
    back = made("no-resurrection", "remove", cut, where="store.py:2")
    half = made("all-or-nothing", "move", cut, where="store.py:3")
    assert by_cause((lost, back, half)) == [[0, 1], [2]]
    # Under a fault, without a crash, the line says where.
    under_fault = made("acknowledged-is-durable", "put", Arm("write@1=FULL"), where="store.py:9")
    assert by_cause((lost, under_fault)) == [[0], [1]]


def test_what_a_replay_does_not_show_comes_last() -> None:
    hazy = found(message=f"it fails ({NOT_SHOWN})", where="store.py:12")
    clear, another = found(told=scenario("move"), where="store.py:12"), found(where="store.py:30")
    assert by_cause((hazy, another, clear)) == [[1], [2, 0]]
    assert by_cause((hazy, another)) == [[1], [0]]


def test_the_headline_counts_causes_where_they_are_fewer() -> None:
    one, other = found(where="store.py:12"), found(told=scenario("move"), where="store.py:12")
    assert "FAILED with 2 findings, maybe of 1 cause." in headline(record(one, other))
    assert "FAILED with 2 findings." in headline(record(one, found(where="store.py:30")))


BLIND = """
import contextlib, sqlite3
from tornpage import Action, Configuration, SimpleTarget

class Words:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS words (word TEXT PRIMARY KEY)")

    def run(self, query, word):
        self.db.execute("BEGIN IMMEDIATE")
        try:
            self.db.execute(query, (word,))
            self.db.execute("COMMIT")
        except sqlite3.Error:
            self.db.execute("ROLLBACK")
            raise

    def add(self, word):
        self.run("INSERT OR IGNORE INTO words VALUES (?)", word)

    def drop(self, word):
        self.run("DELETE FROM words WHERE word = ?", word)

    def close(self):
        self.db.close()

class Target(SimpleTarget):
    configurations = (Configuration("delete", "FULL"),)
    calls = (Action("add", {"word": "a"}), Action("drop", {"word": "a"}))
    beat = Action("add", {"word": "beat"})
    unpromised = {"error-is-not-hidden": "a blind ROLLBACK"}

    def make(self, path, configuration, environment):
        return Words(path)

    def view(self, store):
        return self.rows(store.db)

    def rows(self, connection):
        return {word: 1 for (word,) in connection.execute("SELECT word FROM words")}
"""


def test_observations_of_one_cause_are_shown_together(command: Any, tmp_path: Path) -> None:
    (tmp_path / "blind.py").write_text(BLIND)
    plan = "write:db@1=FULL"
    swept = command("sweep", "--target", "blind:Target", "--plan", plan, "--quiet", "--jobs", 1)
    assert swept.code == 0, swept
    assert swept.out.count("observed, not promised (a blind ROLLBACK)") == 1, swept
    assert "Maybe of the same cause:\n    error-is-not-hidden: drop(word='a')" in swept.out, swept
