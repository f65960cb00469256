"""The import over a file system of the test's own (pyfakefs): permissions, a disk that fails, files half written.

The ledger lies on the real file system and is opened first: SQLite is C and sees no fake. `test_import_legacy.py` has
what the real file system can show for any user; here are the refusals that root would never meet.
"""

import errno
import json
import os
import random
from pathlib import Path

import pytest
from pyfakefs.fake_filesystem_unittest import Patcher
from pyfakefs.helpers import reset_ids, set_uid

from tornpage import ledger
from tornpage.ledger.outbox import legacy

T0 = 1_700_000_000_000
QUEUE = "/fake/delivery-queue"


@pytest.fixture
def outbox(bench):
    return bench.open(clock=lambda: T0).outbox


@pytest.fixture
def fake(outbox):
    """A file system in memory on which this process is an ordinary user; the ledger is open already."""
    with Patcher() as patcher:
        patcher.fs.create_dir(QUEUE)
        patcher.fs.chmod(QUEUE, 0o700, force_unix_mode=True)
        os.chown(QUEUE, 1000, 1000)
        set_uid(1000)
        try:
            yield patcher.fs
        finally:
            reset_ids()


def text(name="m", **fields):
    return json.dumps({"id": name, "channel": "c", "to": "t", "payloads": [{"text": "hi"}], **fields})


def put(fake, name="m", contents=None):
    path = f"{QUEUE}/{name}.json"
    fake.create_file(path, contents=contents if contents is not None else text(name))
    return path


def names():
    return sorted(path.name for path in Path(QUEUE).iterdir())


def problems(report):
    return {one.file: (one.reason, one.imported) for one in report.problems}


def test_the_fake_really_lies_beneath_the_import(fake, outbox):
    put(fake)
    assert not Path(__file__).exists()
    report = outbox.import_legacy(QUEUE)
    assert (report.imported, report.removed, names()) == (1, 1, [])


def test_a_file_that_may_not_be_read_stays_and_the_others_come(fake, outbox):
    path = put(fake, "secret")
    fake.chmod(path, 0o000, force_unix_mode=True)
    put(fake, "open")
    report = outbox.import_legacy(QUEUE)
    assert problems(report) == {"secret.json": ("it can't be read: Permission denied", False)}
    assert ([one.id for one in outbox.list()], names()) == (["open"], ["secret.json"])
    fake.chmod(path, 0o600, force_unix_mode=True)
    assert outbox.import_legacy(QUEUE).imported == 1


def test_a_file_that_may_not_be_removed_is_reported_each_time_and_imported_once(fake, outbox):
    put(fake)
    fake.chmod(QUEUE, 0o500, force_unix_mode=True)
    for imported in (1, 0):
        report = outbox.import_legacy(QUEUE)
        assert (report.imported, report.already_there, report.removed) == (imported, 1 - imported, 0)
        ((name, (reason, is_imported)),) = problems(report).items()
        assert (name, reason, is_imported) == ("m.json", "it could not be removed: Permission denied", True)
    outbox.ack("m")
    fake.chmod(QUEUE, 0o700, force_unix_mode=True)
    report = outbox.import_legacy(QUEUE)
    assert (report.already_there, report.removed, names()) == (1, 1, [])
    assert outbox.get("m").status == "delivered"


def test_a_directory_that_may_not_be_listed_is_a_clear_error(fake, outbox):
    put(fake)
    fake.chmod(QUEUE, 0o000, force_unix_mode=True)
    with pytest.raises(ledger.StoreIOError, match="can't be read") as caught:
        outbox.import_legacy(QUEUE)
    assert caught.value.outcome == "unchanged"
    fake.chmod(QUEUE, 0o700, force_unix_mode=True)
    assert (names(), outbox.list()) == (["m.json"], [])


@pytest.mark.parametrize("seed", range(5))
def test_a_file_that_was_written_in_part_stays_wherever_it_was_cut(fake, outbox, seed):
    """The old program died, or its disk was full, in the middle of a write."""
    whole = text("cut", lastError="ä" * 20)
    cut = random.Random(seed).randrange(len(whole))  # noqa: S311 - a repeatable choice, not a secret
    put(fake, "cut", contents=whole.encode()[:cut])
    put(fake, "whole")
    report = outbox.import_legacy(QUEUE)
    ((name, (reason, is_imported)),) = problems(report).items()
    assert (name, is_imported, reason.startswith("it is not")) == ("cut.json", False, True)
    assert ([one.id for one in outbox.list()], names()) == (["whole"], ["cut.json"])


def test_a_full_disk_beneath_the_old_queue_does_not_hinder_the_import_that_makes_room(fake, outbox):
    fake.set_disk_usage(len(text("a")) + len(text("b")))
    put(fake, "a")
    put(fake, "b")
    with pytest.raises(OSError, match="No space left"):
        Path(QUEUE, "c.json").write_text(text("c"))
    Path(QUEUE, "c.json").unlink(missing_ok=True)
    report = outbox.import_legacy(QUEUE)
    assert (report.imported, report.removed, report.problems) == (2, 2, ())


@pytest.mark.parametrize("place", ["INSERT", "COMMIT"])
def test_a_full_disk_beneath_the_ledger_keeps_the_files(fake, outbox, bench, error_of, place):
    for name in "abc":
        put(fake, name)
    bench.faults.fail(place, lambda: error_of("FULL"), skip=2 if place == "INSERT" else 1)
    with pytest.raises(ledger.StoreFull) as caught:
        outbox.import_legacy(QUEUE)
    assert caught.value.outcome == "unchanged"
    assert ([one.id for one in outbox.list()], names()) == (["a"], ["b.json", "c.json"])
    assert outbox.import_legacy(QUEUE).imported == 2


def test_a_commit_of_which_nobody_knows_keeps_the_file_and_the_next_import_settles_it(fake, outbox, bench):
    put(fake)
    bench.faults.fail("COMMIT")
    # The rows can't be read again and no fence can be laid.
    bench.faults.fail("CONNECT", times=2)
    bench.faults.fail("INSERT INTO ledger_fence", times=2)
    with pytest.raises(ledger.StoreError) as caught:
        outbox.import_legacy(QUEUE)
    assert (caught.value.outcome, names()) == ("unknown", ["m.json"])
    bench.faults.heal()
    outbox.import_legacy(QUEUE)
    assert ([one.id for one in outbox.list()], names()) == (["m"], [])


def test_a_file_stays_while_a_crash_could_still_lose_its_row(fake, outbox, bench):
    put(fake)
    bench.faults.fail("COMMIT", when="after")
    bench.faults.fail("INSERT INTO ledger_fence", times=5)
    for _ in range(2):
        # The second time the row shows, but nothing has secured it.
        with pytest.raises(ledger.StoreError) as caught:
            outbox.import_legacy(QUEUE)
        assert (caught.value.outcome, names()) == ("unknown", ["m.json"])
    assert [one.id for one in outbox.list()] == ["m"]
    bench.faults.heal()
    report = outbox.import_legacy(QUEUE)
    assert (report.already_there, report.removed, names()) == (1, 1, [])


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE, errno.EINTR, errno.ESTALE])
@pytest.mark.parametrize("call", ["lstat", "open", "unlink"])
def test_any_refusal_of_the_file_system_is_reported_with_its_file_and_loses_nothing(
    fake, outbox, monkeypatch, call, code
):
    for name in "abc":
        put(fake, name)
    kind = type(Path(QUEUE))
    owner = legacy.os if call == "open" else kind
    real = getattr(owner, call)

    def refuse(path, *rest, **options):
        if Path(path).name == "b.json":
            raise OSError(code, os.strerror(code), str(path))
        return real(path, *rest, **options)

    with monkeypatch.context() as patched:
        patched.setattr(owner, call, refuse)
        report = outbox.import_legacy(QUEUE)
    ((name, (reason, is_imported)),) = problems(report).items()
    assert (name, is_imported) == ("b.json", call == "unlink")
    assert os.strerror(code) in reason
    assert names() == ["b.json"]
    assert {one.id for one in outbox.list()} == ({"a", "b", "c"} if call == "unlink" else {"a", "c"})
    assert outbox.import_legacy(QUEUE).removed == 1
    assert {one.id for one in outbox.list()} == {"a", "b", "c"}
