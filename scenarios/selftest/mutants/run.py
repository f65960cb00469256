"""Runs mutants: each in its own process, several at a time, and their results.

A mutant is *killed* by a finding, by failing without any fault, or by exceeding its time limit. If nothing is found it
*survives*, unless it was reviewed: then it is *equivalent*, a test *elsewhere* kills it, or it is a known *hole*. If
the hunt itself failed it is *unknown*.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Final

import msgspec

from tornpage import scenarios
from tornpage.scenarios.selftest.mutants.catalogue import Mutant
from tornpage.scenarios.selftest.mutants.equivalent import Reviewed
from tornpage.scenarios.selftest.mutants.hunt import Verdict

_CHILD: Final = Path(__file__).with_name("child.py")
_ROOT: Final = Path(scenarios.__file__).parents[1]
TIMEOUT: Final = "timeout"
FATES: Final = ("killed", "survived", "equivalent", "elsewhere", "hole", "unknown")
DEFAULT_TIMEOUT_S: Final = 300.0


class Tried(msgspec.Struct, frozen=True):
    """One mutant and its verdict; `known` is why it can't be killed, if that has been reviewed."""

    mutant: Mutant
    verdict: Verdict
    known: Reviewed | None = None

    @property
    def fate(self) -> str:
        """One of `FATES`."""
        if self.verdict.error:
            return "unknown"
        if self.verdict.killed:
            return "killed"
        return self.known.fate if self.known is not None else "survived"


class Trials:
    """Runs mutants in child processes, by all hunts or by those of these names; `stop` ends those running."""

    def __init__(self, *, seed: int = 0, timeout_s: float = DEFAULT_TIMEOUT_S, hunts: Collection[str] = ()) -> None:
        self._seed = seed
        self._hunts = hunts
        self._timeout_s = timeout_s
        self._running: set[subprocess.Popen[bytes]] = set()
        self._guard = threading.Lock()
        self._stopped = False

    def verdicts(
        self, mutants: Sequence[Mutant], *, jobs: int, deadline: float | None = None
    ) -> Iterator[tuple[Mutant, Verdict]]:
        """Each with its verdict as it comes, until the deadline."""
        with ThreadPoolExecutor(jobs) as pool:
            waiting: dict[Future[Verdict], Mutant] = {}
            left = iter(mutants)
            try:
                while True:
                    while len(waiting) < jobs and not _is_over(deadline) and (one := next(left, None)) is not None:
                        waiting[pool.submit(self.verdict, one)] = one
                    if not waiting:
                        return
                    remaining = None if deadline is None else max(deadline - time.monotonic(), 0)
                    done, _ = wait(waiting, remaining, FIRST_COMPLETED)
                    if not done:
                        return
                    for future in done:
                        mutant = waiting.pop(future)
                        yield mutant, future.result()
            finally:
                self.stop()

    def verdict(self, mutant: Mutant | None, hunts: Collection[str] = ()) -> Verdict:
        """The result of hunting in one mutant, or in the unchanged ledger; by these hunts, else by all."""
        started = time.monotonic()
        child = self._start()
        if child is None:
            return Verdict(killed=False, error="stopped")
        task = {
            "root": str(_ROOT),
            "module": mutant.module if mutant is not None else "",
            "text": mutant.text if mutant is not None else "",
            "seed": self._seed,
            "hunts": list(hunts or self._hunts),
        }
        try:
            out, err = child.communicate(msgspec.json.encode(task), self._timeout_s)
        except subprocess.TimeoutExpired:
            seconds = round(time.monotonic() - started, 1)
            return Verdict(killed=True, hunt="", check=TIMEOUT, message="it did not end", seconds=seconds)
        finally:
            self._end(child)
        try:
            return msgspec.json.decode(out, type=Verdict)
        except msgspec.DecodeError:
            said = err.decode(errors="replace")[-2_000:] or "it printed nothing"
            return Verdict(killed=False, error=f"no verdict, exit code {child.returncode}: {said}")

    def stop(self) -> None:
        """End every child."""
        with self._guard:
            self._stopped = True
            running = list(self._running)
        for child in running:
            _kill(child)

    def _start(self) -> subprocess.Popen[bytes] | None:
        with self._guard:
            if self._stopped:
                return None
            # A session of its own, so that the rivals it starts end with it.
            child = subprocess.Popen(  # noqa: S603 - our own script
                [sys.executable, str(_CHILD)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
            self._running.add(child)
        return child

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        _kill(child)
        child.communicate()
        with self._guard:
            self._running.discard(child)


def _kill(child: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _is_over(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline
