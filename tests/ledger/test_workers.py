"""Workers: alive exactly as long as a process holds the lock, however it ends; ids are used once."""

import contextlib
import errno
import fcntl
import gc
import os
import signal
from pathlib import Path

import pytest

from tornpage import ledger
from tornpage.ledger import (
    IllegalTransition,
    NotFound,
    StoreBusy,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    UsageError,
)
from tornpage.ledger.workers import Workers

ROOT = Path(ledger.__file__).parents[2]

HOLD = """
import sys, itertools, pathlib
from tornpage.ledger.workers import Workers
workers = Workers(pathlib.Path(sys.argv[1]), new_id=str)
worker = workers.hold(sys.argv[2])
print("held", flush=True)
sys.stdin.readline()
"""

COMPETE = """
import sys, pathlib; from tornpage import ledger
from tornpage.ledger.workers import Workers
workers = Workers(pathlib.Path(sys.argv[1]), new_id=str)
print("ready", flush=True)
sys.stdin.readline()
won = []
for number in range(40):
    try:
        workers.hold(f"w{number}")
        won.append(number)
    except ledger.IllegalTransition:
        pass
print(*won, flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def workers(tmp_path):
    made = Workers(tmp_path / "workers", new_id=iter(f"new-{number}" for number in range(100)).__next__)
    yield made
    for path in (tmp_path / "workers").glob("*.lock"):
        with contextlib.suppress(NotFound):
            made.release(path.name.removesuffix(".lock"))


def elsewhere(workers):
    """Another object on the same directory, as another part of the program would have it."""
    return Workers(workers._directory, new_id=str)


def test_a_worker_is_alive_from_hold_to_release_for_everybody(workers):
    assert not workers.is_alive("w1")
    with workers.hold("w1") as worker:
        assert worker.id == "w1"
        assert workers.is_alive("w1")
        assert elsewhere(workers).is_alive("w1")
    assert not workers.is_alive("w1")
    assert not elsewhere(workers).is_alive("w1")
    worker.release()


def test_new_ids_come_from_the_function_given(workers):
    assert [workers.hold().id, workers.hold().id] == ["new-0", "new-1"]


@pytest.mark.parametrize("death", ["SIGKILL", "SIGTERM", "exit"])
def test_a_worker_of_another_process_is_alive_until_it_ends_however_it_ends(workers, spawn, death):
    child = spawn(HOLD, workers._directory, "w1")
    assert child.stdout.readline() == "held\n"
    assert workers.is_alive("w1")
    with pytest.raises(NotFound):
        workers.release("w1")
    assert workers.is_alive("w1")
    if death == "exit":
        child.stdin.write("\n")
        child.stdin.flush()
    else:
        child.send_signal(getattr(signal, death))
    child.wait(timeout=60)
    assert not workers.is_alive("w1")


def test_a_worker_that_nobody_refers_to_lives_on(workers):
    workers.hold("w1")
    gc.collect()
    assert workers.is_alive("w1")


def test_closing_the_ledger_ends_no_worker(tmp_path):
    with ledger.Ledger.open(tmp_path / "state") as opened:
        worker = opened.workers.hold("w1")
    with ledger.Ledger.open(tmp_path / "state") as opened:
        assert opened.workers.is_alive("w1")
        worker.release()
        assert not opened.workers.is_alive("w1")


# Forks


def forked(body):
    """Run a body in a forked child that ends like any Python process; returns its id."""
    child = os.fork()
    if child == 0:
        try:
            body()
        finally:
            gc.collect()
            os._exit(0)
    return child


def test_a_forked_child_neither_is_the_worker_nor_can_end_it(workers):
    worker = workers.hold("w1")
    seen, tell = os.pipe()

    def body():
        worker.release()
        tells = b"alive" if workers.is_alive("w1") else b"dead"
        os.write(tell, tells)

    os.waitpid(forked(body), 0)
    assert os.read(seen, 10) == b"alive"
    assert workers.is_alive("w1")
    os.close(seen)
    os.close(tell)


def test_a_forked_child_that_lives_on_does_not_keep_its_dead_parent_alive(workers):
    said, say = os.pipe()
    blocked, unblock = os.pipe()

    def parent():
        workers.hold("w1")

        def child():
            os.close(unblock)
            os.write(say, b"here")
            os.read(blocked, 1)

        forked(child)
        os.kill(os.getpid(), signal.SIGSTOP)

    stopped = forked(parent)
    os.waitpid(stopped, os.WUNTRACED)
    assert os.read(said, 4) == b"here"
    assert workers.is_alive("w1")
    os.kill(stopped, signal.SIGKILL)
    os.waitpid(stopped, 0)
    assert not workers.is_alive("w1")
    for descriptor in (said, say, blocked, unblock):
        os.close(descriptor)


# Asking


def test_asking_makes_nothing_and_any_number_may_ask_at_once(workers, tmp_path):
    assert not workers.is_alive("w1")
    assert not (tmp_path / "workers").exists()
    workers.hold("w1").release()
    path = tmp_path / "workers" / "w1.lock"
    # Somebody else who asks at this very moment holds a shared lock, and that must not look like life.
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert not workers.is_alive("w1")
    assert path.exists()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.EIO, errno.ESTALE])
def test_what_cannot_be_told_counts_as_alive(workers, monkeypatch, number, caplog):
    workers.hold("w1").release()

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        assert workers.is_alive("w1")
    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", refuse)
        assert workers.is_alive("w1")
    assert not workers.is_alive("w1")
    assert "w1 counts as alive" in caplog.text


def test_a_symbolic_link_proves_no_death(workers, tmp_path):
    workers.hold("w1").release()
    (tmp_path / "workers" / "w2.lock").symlink_to("w1.lock")
    assert workers.is_alive("w2")


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize(
    "worker_id", ["", "../w1", "a/b", ".hidden", "a b", "a\nb", "é", "x" * 129, "a\0b", "\ud800", 7, [], None]
)
def test_an_id_that_is_no_file_name_is_never_alive_and_cannot_be_held(workers, worker_id, in_memory):
    workers = Workers(None, new_id=lambda: "w2") if in_memory else workers
    workers.hold("w1")
    assert not workers.is_alive(worker_id)
    for end in (workers.release, workers.retire):
        with pytest.raises(NotFound):
            end(worker_id)
    if worker_id is not None:
        with pytest.raises(UsageError, match="worker_id must be 1 to 128"):
            workers.hold(worker_id)


# Ids are used once


def test_an_id_is_used_once_until_it_was_cleaned(workers):
    worker = workers.hold("w1")
    for _ in range(2):
        with pytest.raises(IllegalTransition, match="used before"):
            elsewhere(workers).hold("w1")
        worker.release()
    assert workers.clean({"w1"}) == []
    assert workers.clean(()) == ["w1"]
    assert workers.hold("w1").id == "w1"


def test_of_two_processes_that_want_the_same_ids_exactly_one_gets_each(workers, spawn):
    children = [spawn(COMPETE, workers._directory) for _ in range(2)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    won = [int(number) for child in children for number in child.stdout.readline().split()]
    assert sorted(won) == list(range(40))
    assert all(workers.is_alive(f"w{number}") for number in range(40))
    assert workers.clean(()) == []


# Cleaning


def test_cleaning_takes_dead_and_unreferenced_workers_only_and_no_other_file(workers, tmp_path):
    workers.hold("alive")
    for name in ("dead", "needed"):
        workers.hold(name).release()
    (tmp_path / "workers" / "notes.txt").write_text("x")
    assert workers.clean(["needed"]) == ["dead"]
    left = {path.name for path in (tmp_path / "workers").iterdir()}
    assert left == {".registration.lock", "alive.lock", "needed.lock", "notes.txt"}


def test_cleaning_where_no_worker_ever_was_makes_nothing(workers, tmp_path):
    assert workers.clean(()) == []
    assert not (tmp_path / "workers").exists()


def test_no_file_is_removed_while_somebody_is_becoming_a_worker(workers, monkeypatch, tmp_path):
    """Between the making of a file and its locking its worker looks dead; cleaning must wait for that."""
    monkeypatch.setattr("tornpage.ledger.workers._PATIENCE_SECONDS", 0.05)
    lock = workers._lock_new_file
    answers = []

    def clean_meanwhile(path, worker_id):
        path.touch()
        try:
            answers.append(elsewhere(workers).clean(()))
        except StoreBusy as error:
            answers.append(error.retryable)
        path.unlink()
        lock(path, worker_id)

    monkeypatch.setattr(workers, "_lock_new_file", clean_meanwhile)
    workers.hold("w1")
    assert answers == [True]
    assert workers.is_alive("w1")


# Retiring


def test_a_worker_that_retires_leaves_no_file_and_is_dead_for_everybody(workers, tmp_path):
    with workers.hold("w1") as worker, workers.hold("w2"):
        worker.retire()
        worker.retire()
        assert not elsewhere(workers).is_alive("w1")
        assert {path.name for path in (tmp_path / "workers").iterdir()} == {".registration.lock", "w2.lock"}
    with pytest.raises(NotFound):
        workers.retire("w1")
    assert workers.clean(()) == ["w2"]


def test_a_retiring_worker_removes_its_file_before_anybody_else_can_take_its_place(workers, monkeypatch):
    """Were the lock let go first, others could clean the file and become a worker of that id, whose file would go."""
    others = elsewhere(workers)
    unlink = Path.unlink
    seen = []

    def look(path, **options):
        seen.append((path.name, others.is_alive("w1"), others.clean(())))
        with pytest.raises(IllegalTransition):
            others.hold("w1")
        unlink(path, **options)

    worker = workers.hold("w1")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", look)
        worker.retire()
    assert seen == [("w1.lock", True, [])]
    with others.hold("w1"):
        assert workers.is_alive("w1")


def test_whoever_opened_the_file_just_before_it_went_sees_a_dead_worker(workers, monkeypatch):
    worker = workers.hold("w1")
    opened = os.open

    def open_and_lose(path, *arguments, **options):
        descriptor = opened(path, *arguments, **options)
        worker.retire()
        return descriptor

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", open_and_lose)
        assert not elsewhere(workers).is_alive("w1")
    assert not elsewhere(workers).is_alive("w1")


def test_a_file_that_cannot_be_removed_ends_the_worker_all_the_same(workers, monkeypatch, caplog):
    worker = workers.hold("w1")

    def refuse(path, **_):
        raise PermissionError(errno.EACCES, "no", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        worker.retire()
    assert not workers.is_alive("w1")
    assert "the lock file of worker w1 stays until the next recovery" in caplog.text
    assert workers.clean(()) == ["w1"]


def test_a_forked_child_retires_nobody(workers):
    worker = workers.hold("w1")
    os.waitpid(forked(worker.retire), 0)
    assert workers.is_alive("w1")


# The directory


def test_the_directory_and_its_files_are_private_whatever_the_umask(workers, tmp_path):
    before = os.umask(0)
    try:
        workers.hold("w1")
    finally:
        os.umask(before)
    directory = tmp_path / "workers"
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}


def test_a_directory_that_is_a_file_or_a_link_is_refused(workers, tmp_path):
    place = tmp_path / "workers"
    place.write_text("x")
    with pytest.raises(StoreUnavailable):
        workers.hold("w1")
    assert workers.is_alive("w1")
    place.unlink()
    (tmp_path / "elsewhere").mkdir()
    place.symlink_to("elsewhere")
    with pytest.raises(StoreUnavailable, match="symbolic link"):
        workers.hold("w1")


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, StoreFull), (errno.EDQUOT, StoreFull), (errno.EROFS, StoreReadOnly), (errno.EACCES, StoreReadOnly)],
)
def test_a_file_that_cannot_be_made_is_a_clear_error_and_leaves_no_worker(workers, monkeypatch, number, kind, tmp_path):
    workers.hold("w0")
    real = os.open

    def refuse(path, *arguments, **options):
        if str(path).endswith("w1.lock"):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        with pytest.raises(kind, match="become worker w1"):
            workers.hold("w1")
    assert not (tmp_path / "workers" / "w1.lock").exists()
    assert workers.hold("w1").id == "w1"


def test_a_file_system_without_real_locks_is_refused_and_nothing_stays_behind(workers, monkeypatch, tmp_path):
    workers.hold("w0")
    monkeypatch.setattr(workers, "is_alive", lambda _: False)
    with pytest.raises(StoreUnavailable, match="no locks"):
        workers.hold("w1")
    assert not (tmp_path / "workers" / "w1.lock").exists()


def test_in_memory_the_same_rules_hold():
    workers = Workers(None, new_id=lambda: "w1")
    with workers.hold() as worker:
        assert workers.is_alive("w1")
        with pytest.raises(IllegalTransition):
            workers.hold("w1")
        assert workers.clean(()) == []
    assert not workers.is_alive("w1")
    worker.release()
    with pytest.raises(IllegalTransition):
        workers.hold("w1")
    assert workers.clean({"w1"}) == []
    assert workers.clean(()) == ["w1"]
    workers.hold("w1").retire()
    assert (workers.is_alive("w1"), workers.clean(())) == (False, [])
    workers.hold("w1")
