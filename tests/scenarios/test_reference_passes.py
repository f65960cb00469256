"""Two callers may both send what is waiting: a pass of one is known to the other, in threads and in processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from tornpage import faults
from tornpage.ledger.outbox import Envelope
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.target import Action, Configuration, Environment
from tornpage.scenarios.run import campaign
from tornpage.scenarios.targets.reference.environment import PretendedWorkers
from tornpage.scenarios.targets.reference.session import ReferenceSession
from tornpage.scenarios.targets.reference.target import Reference
from tornpage.scenarios.targets.reference.workload import ARRIVES, FAILS, message_args

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names of sockets that are no files")

RECOVER = Action("outbox.recover", {"cutoff": None})
CALLS = (Action("outbox.enqueue", message_args("m1", ARRIVES)), Action("outbox.enqueue", message_args("m2", FAILS)))


def test_a_pass_leaves_alone_what_another_one_is_sending(home: Path, shim: faults.Shim) -> None:
    home.mkdir(exist_ok=True)
    later, earlier = Environment(), Environment()
    first, second = (ReferenceSession(home, Configuration(), one, {}) for one in (later, earlier))
    seen = []
    try:
        for action in CALLS:
            first.call(action)
        # A pass is named after its time.
        later.now_ms += 1
        deliver = first._receiver.deliver

        def slow(envelope: Envelope) -> None:
            if not seen:
                second.call(RECOVER)
                seen.append(second.told.answer)
            deliver(envelope)

        first._receiver.deliver = slow  # type: ignore[method-assign]
        first.call(RECOVER)
        # The first one is sending m1; m2 is failed by the first to come.
        assert (seen[0].recovered, seen[0].leased, seen[0].failed) == (0, 1, 1)
        assert (first.told.answer.recovered, first.told.answer.failed) == (1, 0)
    finally:
        second.close()
        first.close()


def test_a_pass_lives_for_other_processes_and_ends_with_its_own(tmp_path: Path) -> None:
    ours, other = PretendedWorkers(tmp_path / "a.db"), PretendedWorkers(tmp_path / "b.db")
    begins = (
        "import os, sys, pathlib\n"
        "from tornpage.scenarios.targets.reference.environment import PretendedWorkers\n"
        "worker = PretendedWorkers(pathlib.Path(sys.argv[1])).hold('pass-1')\n"
        "print(worker.id, flush=True)\n"
        "sys.stdin.read()\n"
        "os._exit(0)\n"
    )
    held = ours.hold("pass-1")
    with subprocess.Popen(
        [sys.executable, "-c", begins, str(tmp_path / "a.db")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "pass-1-2\n"
        assert ours.is_alive("pass-1-2")
        assert not other.is_alive("pass-1-2")
        process.communicate()
    assert not ours.is_alive("pass-1-2")
    assert ours.is_alive("pass-1")
    held.release()
    assert not ours.is_alive("pass-1")


def test_two_passes_and_whatever_meets_them_come_to_a_serial_order() -> None:
    profile = Profile("test", 1, None, 0, 0, schedules=72)
    target = Reference(calls=(*CALLS, RECOVER))
    plan = Plan(
        ("interleave",), profile, seed=1, report=None, configurations=target.configurations[:1], callers=("threads",)
    )
    recorder = campaign.run(target, plan)
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.count("schedules") >= 60
