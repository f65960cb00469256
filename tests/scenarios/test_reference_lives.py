"""Scripts in which another process comes at each moment of a call: one that never came is reported."""

import threading
from pathlib import Path

import pytest

from tornpage.scenarios.targets.reference.environment import connect_as_another
from tornpage.scenarios.targets.reference.lives import file_calls, threads, watched_driver

BEFORE = "ledger"


def clock() -> int:
    return 1_600_000_000_000


def test_another_process_comes_between_calls_on_files_and_between_statements(tmp_path: Path) -> None:
    assert file_calls.openers(tmp_path / "files", clock, before=BEFORE) == []
    assert watched_driver.openers(tmp_path / "statements", clock, before=BEFORE) == []


def test_another_process_finds_a_database_below_a_name_that_a_uri_quotes(tmp_path: Path) -> None:
    path = tmp_path / "of me"
    path.touch()
    connection = connect_as_another(f"{path.as_uri()}?mode=rw", uri=True)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    assert path.stat().st_size


def test_no_call_on_a_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_calls, "_CALLS", ())
    (told,) = file_calls.openers(tmp_path / "openers", clock, before=BEFORE)
    assert told == "no call on a file was met, so no other process came"
    assert told in file_calls.workers(tmp_path / "workers", clock)


def test_no_statement_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched_driver.Driver, "arm", lambda *_: None)
    assert watched_driver.openers(tmp_path, clock, before=BEFORE) == ["no statement was met, so no other opener came"]


def test_a_call_of_another_thread_that_does_not_return_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_PATIENCE_S", 0)
    released = threading.Event()
    other = threads._Another(threading.Event(), released.wait)
    try:
        assert not other.go()
        assert repr(other.end()) == "TimeoutError('the call has not returned')"
    finally:
        released.set()
