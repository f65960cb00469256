"""Taking over the old file queue on the real file system: what is kept, what is refused, and what a crash may leave."""

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ledger_samples import T0

from tornpage import ledger
from tornpage.ledger.outbox import Outbox, legacy

ROOT = Path(ledger.__file__).parents[2]
HOUR = 3_600_000


@pytest.fixture
def opened(bench, time):
    return bench.open(clock=time)


@pytest.fixture
def queue(tmp_path):
    directory = tmp_path / "delivery-queue"
    directory.mkdir()
    return directory


def entry(name="m", **fields):
    return {"id": name, "channel": "telegram", "to": "123", "payloads": [{"text": "hi"}], **fields}


def put(queue, name="m", **fields):
    path = queue / f"{name}.json"
    path.write_text(json.dumps(entry(name, **fields)))
    return path


def problems(report):
    return {one.file: one.reason for one in report.problems}


def test_a_file_becomes_a_message_and_goes(outbox, queue):
    put(queue, enqueuedAt=T0 - 5, accountId="bot", threadId=7, silent=True, retryCount=0)
    report = outbox.import_legacy(queue)
    assert (report.imported, report.removed, report.already_there, report.problems) == (1, 1, 0, ())
    assert list(queue.iterdir()) == []
    now = outbox.get("m")
    assert (now.channel, now.target, now.account_id, now.status) == ("telegram", "123", "bot", "queued")
    assert (now.queued_at, now.next_attempt_at, now.attempt_count) == (T0 - 5, T0 - 5, 0)
    seen = []
    assert outbox.recover(seen.append).recovered == 1
    # All of the entry but its attempt data is there to be sent.
    assert seen[0].payload == {
        "channel": "telegram", "to": "123", "payloads": [{"text": "hi"}], "accountId": "bot", "threadId": 7,
        "silent": True,
    }  # fmt: skip


def test_attempt_data_is_kept(outbox, queue, time):
    put(queue, enqueuedAt=T0 - 60_000, retryCount=2, lastAttemptAt=T0 - 1_000, lastError="timed out")
    outbox.import_legacy(queue)
    now = outbox.get("m")
    assert (now.status, now.attempt_count, now.last_error) == ("failed_retryable", 2, "timed out")
    assert (now.last_attempt_at, now.next_attempt_at) == (T0 - 1_000, T0 - 1_000 + 25_000)
    assert outbox.recover(lambda _: None).deferred == 1
    time.now += 24_000
    assert outbox.recover(lambda _: None).recovered == 1


@pytest.mark.parametrize("count", [None, "3", -1, 2.5, True, [], {}, 10**30, "missing"])
def test_a_missing_or_bad_retry_count_is_0(outbox, queue, count):
    put(queue, **({} if count == "missing" else {"retryCount": count}))
    outbox.import_legacy(queue)
    assert outbox.get("m").attempt_count == 0


@pytest.mark.parametrize(("count", "kept"), [(3, 3), (4.0, 4)])
def test_a_whole_number_is_one_however_it_is_written(outbox, queue, count, kept):
    put(queue, retryCount=count)
    outbox.import_legacy(queue)
    assert outbox.get("m").attempt_count == kept


@pytest.mark.parametrize("when", ["yesterday", None, -(10**18), 1.5, True, 10**30])
def test_a_bad_time_is_now(outbox, queue, when):
    put(queue, enqueuedAt=when, lastAttemptAt=when)
    outbox.import_legacy(queue)
    now = outbox.get("m")
    assert (now.queued_at, now.last_attempt_at, now.next_attempt_at) == (T0, None, T0)


def test_what_lay_for_months_expires_instead_of_flooding_the_receiver(outbox, queue):
    put(queue, enqueuedAt=T0 - 90 * 24 * HOUR)
    outbox.import_legacy(queue)
    assert outbox.recover(lambda _: pytest.fail("nobody wants it any more")).expired == 1


def test_what_had_five_attempts_is_given_up(outbox, queue):
    put(queue, retryCount=5, lastAttemptAt=T0 - HOUR // 4, enqueuedAt=T0 - HOUR // 4, lastError="no")
    outbox.import_legacy(queue)
    assert outbox.recover(lambda _: pytest.fail("it has had its attempts")).failed == 1
    assert outbox.get("m").terminal_reason == "gave up after 5 attempts: no"


def test_only_json_files_at_the_top_are_looked_at(outbox, queue):
    (queue / "failed").mkdir()
    put(queue / "failed", "given-up")
    (queue / "m.json.tmp").write_text("{")
    (queue / "notes.txt").write_text("x")
    report = outbox.import_legacy(queue)
    assert (report.imported, report.problems) == (0, ())
    assert sorted(path.name for path in queue.rglob("*")) == ["failed", "given-up.json", "m.json.tmp", "notes.txt"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is not JSON"),
        (b'{"id": "m", "channel": "tele', "it is not JSON"),
        (b"[" * 200_000, "it is not JSON"),
        (b'{"id": "m", "channel": "c", "to": "t", "x": NaN}', "it is not JSON"),
        (b'{"id": "m", "channel": "c", "to": "t", "x": 1e999}', "it is not JSON"),
        (b'{"id": "m", "channel": "c", "to": "t\xff"}', "it is not UTF-8"),
        (b"[1, 2]", "it holds no JSON object, but list"),
        (b"null", "it holds no JSON object, but NoneType"),
        (b"{}", "id, channel, to is missing"),
        (b'{"id": "m", "channel": "c"}', "to is missing"),
        (b'{"id": 5, "channel": "c", "to": " "}', "id, to is missing"),
        (b'{"id": "m", "channel": "c", "to": "\\ud800"}', "target must be valid Unicode"),
        (b'{"id": "m", "channel": "c", "to": "t", "x": "\\ud800"}', "payload must be a JSON value"),
    ],
)
def test_a_bad_file_stays_is_reported_and_stops_nobody(outbox, queue, content, reason):
    put(queue, "a")
    bad = queue / "bad.json"
    bad.write_bytes(content)
    put(queue, "z")
    report = outbox.import_legacy(queue)
    assert (report.imported, report.removed) == (2, 2)
    assert reason in problems(report)["bad.json"]
    assert bad.read_bytes() == content
    assert [one.id for one in outbox.list()] == ["a", "z"]


def test_what_is_no_plain_file_stays_and_is_reported(outbox, queue, tmp_path):
    (queue / "loop.json").symlink_to(queue / "loop.json")
    (queue / "there.json").symlink_to(queue / "back.json")
    (queue / "back.json").symlink_to(queue / "there.json")
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_text(json.dumps(entry("elsewhere")))
    (queue / "link.json").symlink_to(elsewhere)
    (queue / "dangling.json").symlink_to(tmp_path / "nowhere")
    (queue / "directory.json").mkdir()
    os.mkfifo(queue / "pipe.json")
    put(queue, "good")
    report = outbox.import_legacy(queue)
    assert (report.imported, report.removed) == (1, 1)
    links = ("loop", "there", "back", "link", "dangling")
    assert problems(report) == {
        **{f"{name}.json": "it is a symbolic link" for name in links},
        "directory.json": "it is not a regular file",
        "pipe.json": "it is not a regular file",
    }
    assert elsewhere.exists()
    assert not (queue / "good.json").exists()


def test_a_file_of_a_gigabyte_is_refused_by_its_size_and_never_opened(outbox, queue, monkeypatch):
    big = queue / "big.json"
    with big.open("wb") as file:
        file.truncate(1 << 30)
    put(queue, "good")
    opened = []
    real = os.open
    monkeypatch.setattr(legacy.os, "open", lambda path, *rest: opened.append(Path(path).name) or real(path, *rest))
    report = outbox.import_legacy(queue)
    assert problems(report) == {"big.json": "it has 1073741824 bytes, more than 16777216, and was not read"}
    assert (report.imported, opened) == (1, ["good.json"])
    assert big.stat().st_size == 1 << 30


def test_a_file_that_grows_while_it_is_read_is_refused_too(outbox, queue, monkeypatch):
    path = put(queue)
    monkeypatch.setattr(legacy, "MAX_FILE_BYTES", path.stat().st_size - 1)
    monkeypatch.setattr(legacy, "_judge", lambda _: None)
    assert "it is larger than" in problems(outbox.import_legacy(queue))["m.json"]
    assert path.exists()


def test_a_file_of_the_largest_allowed_size_is_imported(outbox, queue):
    text = json.dumps(entry("big", text=""))
    (queue / "big.json").write_text(json.dumps(entry("big", text="x" * (legacy.MAX_FILE_BYTES - len(text)))))
    assert (queue / "big.json").stat().st_size == legacy.MAX_FILE_BYTES
    assert outbox.import_legacy(queue).imported == 1


def test_the_same_message_in_two_files_is_one_message(outbox, queue):
    put(queue)
    (queue / "n.json").write_text(json.dumps({**entry("m"), "retryCount": 3}))
    report = outbox.import_legacy(queue)
    assert (report.imported, report.already_there, report.removed, report.problems) == (1, 1, 2, ())
    assert outbox.get("m").attempt_count == 0


def test_the_order_of_keys_makes_no_other_message(outbox, queue):
    put(queue)
    (queue / "n.json").write_text(json.dumps(dict(reversed(entry("m").items()))))
    report = outbox.import_legacy(queue)
    assert (report.imported, report.already_there, report.problems) == (1, 1, ())


def test_two_messages_under_one_id_are_not_thrown_together(outbox, queue):
    put(queue)
    other = queue / "n.json"
    other.write_text(json.dumps(entry("m", payloads=[{"text": "something else"}])))
    report = outbox.import_legacy(queue)
    assert (report.imported, report.removed) == (1, 1)
    assert problems(report) == {"n.json": "another message has the id 'm' or the same key"}
    assert other.exists()
    assert '"hi"' in outbox.get("m").payload


def test_a_known_idempotency_key_is_known_under_any_id(outbox, queue):
    put(queue, "first", idempotencyKey="key")
    (queue / "second.json").write_text(json.dumps({**entry("first", idempotencyKey="key"), "id": "second"}))
    (queue / "third.json").write_text(json.dumps(entry("third", idempotencyKey="key", silent=True)))
    report = outbox.import_legacy(queue)
    assert (report.imported, report.already_there, report.removed) == (1, 1, 2)
    assert list(problems(report)) == ["third.json"]


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("end", ["ack", "fail", "move_to_failed"])
def test_what_has_ended_never_comes_back_not_even_when_it_was_pruned(bench, outbox, queue, time, end, pruned):
    put(queue)
    outbox.import_legacy(queue)
    getattr(outbox, end)("m", **({"error": "no", "permanent": True} if end == "fail" else {}))
    time.now += HOUR
    if pruned:
        assert outbox.prune(1) == 1
    before = bench.rows("SELECT * FROM message_outbox")
    put(queue)
    report = outbox.import_legacy(queue)
    assert (report.imported, report.already_there, report.removed) == (0, 1, 1)
    assert bench.rows("SELECT * FROM message_outbox") == before
    assert outbox.recover(lambda _: pytest.fail("it has ended")).recovered == 0


def test_a_message_that_was_queued_here_is_not_overwritten(outbox, queue):
    mine = outbox.enqueue(channel="c", target="t", payload=1, message_id="m")
    path = put(queue)
    report = outbox.import_legacy(queue)
    assert (report.imported, report.already_there) == (0, 0)
    assert path.exists()
    assert outbox.get("m") == mine


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda _: None, "there is no directory"),
        (lambda place: place.write_text("x"), "is not a directory"),
        (lambda place: place.symlink_to(place), "can't be read"),
    ],
)
def test_a_directory_that_is_none_is_a_clear_error(outbox, tmp_path, make, says):
    place = tmp_path / "place"
    make(place)
    with pytest.raises(ledger.LedgerError, match=says):
        outbox.import_legacy(place)


def test_importing_into_memory_is_refused_and_the_files_stay(queue):
    path = put(queue)
    with ledger.Ledger.open(":memory:") as opened:
        with pytest.raises(ledger.UsageError, match="in memory"):
            opened.outbox.import_legacy(queue)
        assert opened.outbox.list() == []
    assert path.exists()


def test_importing_inside_a_batch_is_refused_since_nothing_is_committed_there(opened, queue):
    path = put(queue)
    with opened.batch(), pytest.raises(ledger.UsageError, match="batch"):
        opened.outbox.import_legacy(queue)
    assert (path.exists(), opened.outbox.list()) == (True, [])


def test_names_that_are_no_unicode_are_reported_readably(outbox, queue):
    path = Path(os.fsdecode(os.fsencode(queue) + b"/caf\xe9.json"))
    path.write_bytes(b"{")
    assert list(problems(outbox.import_legacy(queue))) == [r"caf\xe9.json"]


def test_a_file_that_another_import_takes_meanwhile_is_no_problem(outbox, queue, monkeypatch):
    first, second = put(queue, "first"), put(queue, "second")
    real = legacy.files_in

    def and_then_they_go(directory):
        found = real(directory)
        first.unlink()
        return found

    monkeypatch.setattr(legacy, "files_in", and_then_they_go)
    report = outbox.import_legacy(queue)
    assert (report.imported, report.problems, second.exists()) == (1, (), False)


class _MeanwhileOutbox(Outbox):
    """Lets something happen between the commit and the removal."""

    def _remove_imported(self, file):
        self.meanwhile(file.path)
        return super()._remove_imported(file)


def test_a_file_that_changes_while_it_is_imported_stays(bench, queue, time):
    path = put(queue)
    outbox = bench.open(clock=time, outbox=_MeanwhileOutbox).outbox
    outbox.meanwhile = lambda path: path.write_text(json.dumps(entry("m", payloads=["rewritten"])))
    report = outbox.import_legacy(queue)
    (problem,) = report.problems
    assert (problem.imported, problem.reason) == (True, "it changed while it was imported")
    assert json.loads(path.read_text())["payloads"] == ["rewritten"]
    assert outbox.get("m") is not None


def test_a_file_is_removed_only_after_its_message_is_committed(bench, queue, time):
    put(queue)
    outbox = bench.open(clock=time, outbox=_MeanwhileOutbox).outbox
    seen = []
    outbox.meanwhile = lambda path: seen.append((path.exists(), bench.rows("SELECT id FROM message_outbox")))
    outbox.import_legacy(queue)
    assert seen == [(True, [("m",)])]


@pytest.mark.parametrize(
    ("journal_mode", "level", "during"),
    [("wal", "normal", 3), ("wal", "off", 3), ("wal", "full", 2), ("delete", "full", 3), ("truncate", "full", 2)],
)
def test_the_commit_is_durable_whatever_level_the_ledger_runs_at(bench, queue, time, journal_mode, level, during):
    put(queue)
    opened = bench.open(clock=time, journal_mode=journal_mode, synchronous=level)
    connection, statements = opened.database.connection, []
    levels = {"off": 0, "normal": 1, "full": 2}
    connection.set_trace_callback(statements.append)
    opened.outbox.import_legacy(queue)
    connection.set_trace_callback(None)
    raised = statements.index("PRAGMA synchronous = 3") if during == 3 else -1
    assert raised < statements.index("COMMIT")
    assert ("PRAGMA synchronous = 3" in statements) == (during == 3)
    assert connection.execute("PRAGMA synchronous").fetchall() == [(levels[level],)]


# Stores that fail


@pytest.mark.parametrize("level", ["full", "normal"])
@pytest.mark.parametrize("place", ["BEGIN IMMEDIATE", "INSERT", "COMMIT"])
def test_an_import_that_fails_in_the_middle_is_continued_by_the_next(bench, queue, time, place, level):
    opened = bench.open(clock=time, synchronous=level)
    for name in "abc":
        put(queue, name)
    bench.faults.fail(place, skip=2 if place == "INSERT" else 1)
    with pytest.raises(ledger.StoreIOError) as caught:
        opened.outbox.import_legacy(queue)
    assert (caught.value.outcome, bench.faults.fired) == ("unchanged", 1)
    assert [one.id for one in opened.outbox.list()] == ["a"]
    assert sorted(path.name for path in queue.iterdir()) == ["b.json", "c.json"]
    report = opened.outbox.import_legacy(queue)
    assert (report.imported, report.already_there, list(queue.iterdir())) == (2, 0, [])


def test_a_commit_that_raised_but_happened_lets_the_file_go(bench, outbox, queue):
    put(queue)
    bench.faults.fail("COMMIT", when="after")
    report = outbox.import_legacy(queue)
    assert (report.imported, report.removed) == (1, 1)


def test_a_full_database_is_a_clear_error_and_nothing_is_lost(bench, opened, queue):
    """SQLite's own page limit gives its real FULL, for any user on any file system."""
    put(queue, "a")
    put(queue, "b", text="x" * 400_000)
    connection = opened.database.connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 20}").fetchall()
    with pytest.raises(ledger.StoreFull) as caught:
        opened.outbox.import_legacy(queue)
    assert caught.value.outcome == "unchanged"
    assert [one.id for one in opened.outbox.list()] == ["a"]
    assert [path.name for path in queue.iterdir()] == ["b.json"]
    connection.execute("PRAGMA max_page_count = 1000000").fetchall()
    assert opened.outbox.import_legacy(queue).imported == 1


@pytest.mark.parametrize("place", ["PRAGMA synchronous = 3", "PRAGMA synchronous = 1", "PRAGMA synchronous"])
def test_a_level_that_cannot_be_set_loses_nothing_and_does_not_stick(bench, queue, time, place, caplog):
    opened = bench.open(clock=time, synchronous="normal")
    put(queue)
    # Opening has set the level, too; the connection is open by now.
    bench.faults.fail(place)
    with caplog.at_level(logging.WARNING):
        try:
            imported = opened.outbox.import_legacy(queue).imported
        except ledger.StoreError:
            imported = 0
    assert bench.faults.fired == 1
    assert len(opened.outbox.list()) == imported == (place == "PRAGMA synchronous = 1")
    assert len(list(queue.iterdir())) == 1 - imported
    assert opened.database.select.__self__.connection.execute("PRAGMA synchronous").fetchall() == [(1,)]


# Crashes


DIE_IMPORTING = """
import os, pathlib, signal, sys; from tornpage import ledger
real, left = pathlib.Path.unlink, int(sys.argv[3])
def unlink(path, *rest, **options):
    global left
    if path.suffix == ".json":
        if left == 0:
            if sys.argv[4] == "after":
                real(path)
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
    real(path, *rest, **options)
pathlib.Path.unlink = unlink
ledger.Ledger.open(sys.argv[1]).outbox.import_legacy(sys.argv[2])
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_import_that_is_killed_at_a_removal_is_continued_and_brings_nothing_back(tmp_path, queue, when):
    for name in "abcd":
        put(queue, name)
    state = tmp_path / "state"
    died = subprocess.run(
        [sys.executable, "-c", DIE_IMPORTING, str(state), str(queue), "2", when], cwd=ROOT, check=False
    )
    assert died.returncode == -signal.SIGKILL
    with ledger.Ledger.open(state) as opened:
        assert [one.id for one in opened.outbox.list()] == ["a", "b", "c"]
        assert opened.outbox.ack("c").changed
        report = opened.outbox.import_legacy(queue)
        assert (report.imported, report.already_there) == (1, 1 if when == "before" else 0)
        assert {one.id: one.status.value for one in opened.outbox.list()} == {
            "a": "queued", "b": "queued", "c": "delivered", "d": "queued"
        }  # fmt: skip
    assert list(queue.iterdir()) == []


def test_two_imports_at_once_take_every_message_once(tmp_path, queue):
    for number in range(60):
        put(queue, f"m{number}")
    script = """
import sys; from tornpage import ledger
with ledger.Ledger.open(sys.argv[1], busy_timeout_ms=60_000) as opened:
    print("ready", flush=True)
    sys.stdin.readline()
    report = opened.outbox.import_legacy(sys.argv[2])
print(report.imported, len(report.problems))
"""
    state = tmp_path / "state"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(state), str(queue)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    answers = [tuple(map(int, child.communicate(timeout=60)[0].split())) for child in children]
    assert [problem_count for _, problem_count in answers] == [0, 0]
    assert sum(imported for imported, _ in answers) == 60
    with ledger.Ledger.open(state) as opened:
        assert len(opened.outbox.list()) == 60
    assert list(queue.iterdir()) == []
