"""The process of one caller: ``python -m tornpage.scenarios.execution.interleave.worker TARGET DESCRIPTOR``.

It opens a session, makes calls by turns and returns its view, on request over a socket; when the socket closes, the
process ends. While a call stops before a switch point, or waits, the answer to "go" reports that, and the next "go"
continues the call.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from tornpage import faults
from tornpage.faults import files
from tornpage.faults.contention.turns import Ended, Event, Gate, Turns
from tornpage.faults.vfs import waiting
from tornpage.scenarios.execution.interleave.sessions import (
    Ask,
    Said,
    Setting,
    Wrong,
    closed,
    made,
    opened,
    opened_by_turns,
    shown,
)
from tornpage.scenarios.execution.snapshots import require_let_go
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.target import Target
from tornpage.scenarios.targets.names import UnknownTargetError
from tornpage.scenarios.targets.registry import find_or_import


class _OverPipe(Turns):
    """Gives the turn to the other process, and waits there for its own."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__()
        self._pipe = pipe
        # The store may have several threads: each has its own question and answer.
        self._lock = threading.Lock()
        # Outside a call there is no other caller to take turns with.
        self.at_work = False

    def hand_over(self, event: Event) -> None:
        with self._lock:
            if not self.at_work:
                return
            try:
                self._pipe.send(event)
                self._pipe.recv()
            except (EOFError, OSError):
                # The first process has ended. The store must not go on by itself: it may handle any exception.
                os._exit(1)


class _Worker:
    def __init__(self, target: Target, pipe: Connection) -> None:
        self._target = target
        self._pipe = pipe
        self._turns = _OverPipe(pipe)
        self._gate = Gate()
        self._gate.current = self._turns
        self._trial: Trial | None = None
        self._watching = contextlib.ExitStack()

    def serve(self, *, one_session: bool = False) -> None:
        """Answer requests until the socket closes; with `one_session` until its session is closed."""
        with faults.install() as shims, faults.waiting_in_virtual_time(shims):
            waiting.anywhere.append(self._turns.waits)
            waiting.by_thread[threading.get_ident()] = self._turns.waits
            while True:
                try:
                    ask = self._pipe.recv()
                except (EOFError, OSError):
                    return
                if ask.what == "fork":
                    self._serve_in_a_child()
                    continue
                try:
                    self._pipe.send(self._answer(ask, shims))
                except Exception as error:  # noqa: BLE001 - every error is reported to the other process
                    self._pipe.send(Wrong.of(error))
                if one_session and ask.what == "close":
                    return

    def _serve_in_a_child(self) -> None:
        """Let a child answer, and wait until it has ended; say so if it was killed."""
        if (child := os.fork()) == 0:
            self._pipe.send(os.getpid())
            # What the parent has in force applies to itself only.
            _Worker(self._target, self._pipe).serve(one_session=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            self._pipe.send(None)
        elif status:
            sys.exit(os.waitstatus_to_exitcode(status))

    def _answer(self, ask: Ask, shims: faults.Shims) -> Any:
        if ask.what == "open":
            self._watch(ask.argument, shims)
            try:
                self._trial = opened(self._target, ask.argument)
            except BaseException:
                self._watching.close()
                raise
            return None
        if ask.what == "start to open":
            setting, stops = ask.argument
            self._watch(setting, shims)
            return self._by_turns(stops, lambda: self._open(setting))
        if ask.what == "close":
            self._watching.close()
        if self._trial is None:
            return None
        if ask.what == "step":
            self._trial.at_step(ask.argument)
        if ask.what == "call":
            action, stops = ask.argument
            trial = self._trial
            return self._by_turns(stops, lambda: made(trial, action))
        if ask.what == "look":
            return shown(self._trial)
        if ask.what == "close":
            trial, self._trial = self._trial, None
            closed(trial)
            require_let_go(trial.directory)
        return None

    def _watch(self, setting: Setting, shims: faults.Shims) -> None:
        """Count the operations of the session that is about to be opened, until it is closed."""
        # SQLite's clock stands still, as in the other process; its random values are others than there.
        self._watching.enter_context(shims.deterministic(seed=1))
        on_path = faults.OnPath(self._gate, setting.home)
        self._watching.enter_context(files.watching(on_path))
        self._watching.enter_context(shims.watching(on_path))

    def _open(self, setting: Setting) -> Said:
        self._trial, said = opened_by_turns(self._target, setting)
        return said

    def _by_turns(self, stops: frozenset[int], work: Callable[[], Said]) -> Ended:
        """Do this once it has the turn; at its points the other process gets that."""
        self._pipe.recv()
        self._turns.begin(stops)
        self._turns.at_work = True
        try:
            said = work()
        finally:
            self._turns.at_work = False
        return Ended(self._turns.points, said)


def main() -> None:
    """Load the target and serve."""
    pipe = Connection(int(sys.argv[2]))
    try:
        target = find_or_import(sys.argv[1])
        faults.shim_for()
    except (UnknownTargetError, faults.ShimUnavailableError) as error:
        pipe.send(str(error))
        return
    pipe.send(None)
    _Worker(target, pipe).serve()


if __name__ == "__main__":
    main()
