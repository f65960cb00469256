"""The command as a real process: its exit codes are the process's, and Ctrl-C reports what was done."""

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Start = Callable[..., subprocess.Popen[str]]

_TIMEOUT_S = 120


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    with process:
        out, err = process.communicate(timeout=_TIMEOUT_S)
    return process.returncode, out, err


def test_a_process_ends_with_the_exit_code_of_the_verdict(tornpage: Start, tmp_path: Path) -> None:
    small = ("--configuration", "wal/FULL", "--plan", "write:wal@1..=FULL")
    # With 0 it ends below.
    for target, code in (("RemembersFirst", 1), ("NeverOpens", 2)):
        found, out, err = ended(tornpage("sweep", "--target", f"tiny_stores:{target}", *small))
        assert found == code, (target, out, err)
        assert "Traceback" not in err


def test_a_target_is_imported_from_the_working_directory_of_the_process(tornpage: Start, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from tiny_stores import Tiny\n\n\nclass Mine(Tiny):\n    name = 'mine'\n")
    code, out, err = ended(tornpage("sweep", "--target", "mine:Mine", "--plan", "write:wal@1=FULL", "--json"))
    assert code == 0, err
    assert json.loads(out)["target"] == "mine:Mine"


LEAVES_THREADS = """
import threading
from concurrent.futures import ThreadPoolExecutor
from tiny_stores import Tiny

FOREVER = threading.Event()
threading.Thread(target=FOREVER.wait).start()
ThreadPoolExecutor(1).submit(FOREVER.wait)

class Mine(Tiny):
    name = "mine"
"""


def test_a_thread_that_a_store_leaves_behind_does_not_keep_the_process_from_ending(
    tornpage: Start, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(LEAVES_THREADS)
    code, out, err = ended(tornpage("sweep", "--target", "mine:Mine", "--plan", "write:wal@1=FULL", "--quiet"))
    assert code == 0, (out, err)
    assert "Traceback" not in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_an_answer_that_cannot_be_written_is_no_finding_and_one_line(start: Start) -> None:
    for refusing in ("os.open('/dev/full', os.O_WRONLY)", "(ends := os.pipe(), os.close(ends[0]))[0][1]"):
        code = f"import os; os.dup2({refusing}, 1); from tornpage.scenarios.cli import main; main()"
        found, _, err = ended(start(code, "explain", "integrity"))
        assert found == 2, err
        assert len(err.splitlines()) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("form", ["text", "json"])
def test_ctrl_c_in_the_middle_reports_what_was_done_and_ends_with_130(
    form: str, tornpage: Start, tmp_path: Path
) -> None:
    more = ("--json",) if form == "json" else ()
    nightly = ("--profile", "nightly", "--configuration", "delete/FULL")
    process = tornpage("check", "--target", "tiny_stores:Tiny", *nightly, *more)
    with process:
        assert process.stderr is not None
        # The sweep ends after a second or two; the million scenarios after it would take hours.
        for line in process.stderr:
            if line.startswith("sweep tiny_stores:Tiny: "):
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=_TIMEOUT_S)
    assert process.returncode == 130, (out, err)
    assert "Traceback" not in err
    if form == "json":
        data = json.loads(out)
        assert (data["verdict"], data["exit_code"]) == ("INTERRUPTED", 130)
        assert [(search["search"], search["complete"]) for search in data["searches"]][:1] == [("sweep", True)]
        assert sum(point["fired"] for point in data["fault_points"]) > 500
    else:
        assert "INTERRUPTED: these are the results until then" in out
        assert "fault points" in out
        assert "seed 0" in out


def test_the_probe_prints_its_two_lines_and_nothing_else(tornpage: Start) -> None:
    assert ended(tornpage("probe")) == (
        0,
        "memory-first: divergenceCount=2/2 resurrectedCount=1\nreference: divergenceCount=0/2 resurrectedCount=0\n",
        "",
    )
