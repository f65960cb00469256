"""The player: plays any story, step by step, with every check after every step.

What a call *would* lead to is not modelled by hand: beside the session under fault runs its *twin*, the same target in
another directory that never sees a fault. Each call is made on the twin first; if the other one turns out to have
failed, the twin is put back. So any deterministic target can be played, and a known bug that shows only under
faults has a healthy twin.

After each step the disk is looked at past the shim, so at most one call is ever undecided. After a call under an armed
fault a copy of the files is opened as after a crash.
"""

import contextlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from scenarios.checks import Violation, describe, differences
from scenarios.conditions import OPENERS, Condition
from scenarios.files import Files, held_open, place, siblings
from scenarios.oracle import Answer
from scenarios.story import Call, Clear, Conditional, Restart, Step, Story
from scenarios.target import Configuration, Target, TargetError, View
from scenarios.trial import CLOSE, OPEN, Trial, forget_frames


class Player:
    """A story in progress. `counts` says what it came to: steps, calls, armed, fired, surfaced, restarts, crashes …

    Raises `Violation` from `do` and `end` when a check fails. Close it in any case.
    """

    def __init__(self, target: Target, configuration: Configuration, directory: Path) -> None:
        self.steps: list[Step] = []
        self.counts: Counter[str] = Counter()
        self.armed: dict[str, tuple[Condition, contextlib.ExitStack]] = {}
        # What an earlier story has never let go of must not spoil this one.
        directory = next(one for one in siblings(directory) if not held_open(one))
        for name in ("real", "twin"):
            place({}, directory / name)
        self.real = Trial(target, configuration, directory / "real", {})
        self.twin = Trial(target, configuration, directory / "twin", {})
        self._ghosts: list[tuple[View, Files]] = []
        if "statement" in target.depths:
            self.real.watch_statements()
            self.twin.watch_statements()
        self.twin.at_step(0)
        try:
            self.twin.open()
        except Exception as error:
            raise TargetError(f"{target.name}: opening fails without any fault: {error!r}") from error
        self.view: View = self.twin.fresh_view()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self.close()
            return
        # What is on its way already says more than that the sessions can't be closed after it.
        forget_frames(error)
        with contextlib.suppress(Violation):
            self.close()

    def close(self) -> None:
        """Disarm and let go of everything; raises `Violation` where the target does not."""
        for slot in list(self.armed):
            self._disarm(slot)
        try:
            self.real.close()
        finally:
            self.twin.close()

    # -- playing -------------------------------------------------------------------------------------------

    def do(self, step: Step) -> None:
        """Play one step and check everything. Raises `Violation`."""
        self.steps.append(step)
        self.counts["steps"] += 1
        for trial in (self.real, self.twin):
            trial.at_step(len(self.steps))
        if isinstance(step, Call):
            self._call(step)
        elif isinstance(step, Conditional):
            self._arm(step)
        elif isinstance(step, Clear):
            self.clear()
        else:
            self._restart(step)

    def end(self) -> None:
        """Disarm, and show that the store still works and still agrees. Raises `Violation`."""
        self.clear()
        self.real.heartbeat()

    def clear(self) -> None:
        """Disarm everything; from now on the session has to answer."""
        for slot in list(self.armed):
            self._disarm(slot)
        if self.real.session is None and self.counts["opened"]:
            self.real.reopen()
        self.real.look()
        self._follow()

    def _call(self, step: Call) -> None:
        if not self._ensure_open():
            return
        before, saved = self.view, self.twin.crash_copy() if self.armed else None
        wanted, stages = self.twin.call_by_stages(step.action)
        if wanted.kind == "raised":
            raise TargetError(f"{step.action} fails without any fault: it {wanted}") from wanted.error
        after = self.twin.fresh_view()
        answer = self.real.call(step.action, after, stages)
        self._count(answer)
        self._same_refusal(step, wanted, answer)
        if answer.kind == "raised" and not self.armed:
            message = f"nothing is armed, and {step.action} {answer}"
            raise Violation("still-usable-after-the-fault", message) from answer.error
        self._judge()
        if saved is not None and self.real.oracle.settled != after:
            if self.real.oracle.ghosts:
                self._ghosts.append((after, self.twin.crash_copy()))
            # A call that commits more than once may have stopped half-way: then the twin goes on from there.
            half_way = self.real.oracle.settled != before
            self._put_twin(self.real.crash_copy() if half_way else saved)
        self.view = self.real.oracle.settled

    def _same_refusal(self, step: Call, wanted: Answer, answer: Answer) -> None:
        """A store must not refuse, or grant, under a fault what it would not without one."""
        if answer.kind not in {"raised", wanted.kind}:
            raise Violation(
                "acknowledged-is-durable",
                f"{step.action} {answer}; without the fault it would be {wanted}",
            )

    def _judge(self) -> None:
        files = self.real.crash_copy() if self.armed else None
        self.real.look()
        if files is not None:
            self.real.look_after_crash(files)

    def _ensure_open(self) -> bool:
        """Open the session if it isn't; under an armed fault that may fail, and that is an answer."""
        if self.real.session is not None:
            return True
        answer = self.real.call(OPEN, self.view)
        self._count(answer)
        self._look_after_crash()
        if answer.kind == "done":
            self.counts["opened"] += 1
            self.real.look_after_restart(crashed=False, memory=bool(self.armed))
            return True
        if not self.armed:
            raise Violation("still-usable-after-the-fault", f"with nothing armed, opening {answer}") from answer.error
        return False

    def _count(self, answer: Answer) -> None:
        self.counts["calls"] += 1
        self.counts[answer.kind] += 1
        if answer.error is not None and answer.kind == "raised":
            for armed, _scope in self.armed.values():
                armed.saw(answer.error)

    # -- faults --------------------------------------------------------------------------------------------

    def _arm(self, step: Conditional) -> None:
        self._disarm(step.slot)
        scope = contextlib.ExitStack()
        armed = scope.enter_context(OPENERS[type(step)](self.real, step))
        self.armed[step.slot] = armed, scope
        self.counts["armed"] += 1

    def _disarm(self, slot: str) -> None:
        if slot not in self.armed:
            return
        armed, scope = self.armed.pop(slot)
        scope.close()
        self.counts["fired"] += bool(armed.fired)
        self.counts["surfaced"] += bool(armed.surfaced)

    # -- restarts ------------------------------------------------------------------------------------------

    def _restart(self, step: Restart) -> None:
        if self.real.session is None:
            self._ensure_open()
            return
        if step.crash:
            self.counts["crashes"] += 1
            files = self.real.crash_copy()
            with contextlib.ExitStack() as out_of_reach:
                # How the harness lets go of a session is no part of a crash.
                for armed, _scope in self.armed.values():
                    out_of_reach.enter_context(armed.paused())
                self.real.close()
            place(files, self.real.directory)
        else:
            self.counts["restarts"] += 1
            self._count(self.real.call(CLOSE, self.view))
            self._look_after_crash()
        self._count(self.real.call(OPEN, self.view))
        files = self.real.crash_copy()
        # A close that is cut short by a fault leaves the WAL as a crash does.
        self.real.look_after_restart(crashed=step.crash or bool(self.armed), memory=bool(self.armed))
        if self.armed:
            self.real.look_after_crash(files)
        self._follow()

    def _look_after_crash(self) -> None:
        if self.armed:
            self.real.look_after_crash(self.real.crash_copy())

    def _follow(self) -> None:
        """Where a crash brought a ghost to life, the twin takes its shape."""
        settled = self.real.oracle.settled
        if settled == self.view:
            return
        for view, files in self._ghosts:
            if view == settled:
                self._put_twin(files)
                self._ghosts.clear()
                self.view = settled
                return
        raise Violation(
            "acknowledged-is-durable",
            describe(differences(self.view, settled), "what had to be there", "the file"),
            {"expected": self.view, "disk": settled},
        )

    def _put_twin(self, files: Files) -> None:
        self.twin.close()
        place(files, self.twin.directory)
        self.twin.open()


def play(story: Story, target: Target, directory: Path) -> tuple[Violation | None, Counter[str]]:
    """Play a whole story; what it violates, if anything, and what it came to."""
    player = Player(target, story.configuration, directory)
    return _violation_of(player, story.steps), player.counts


def _violation_of(player: Player, steps: Iterable[Step]) -> Violation | None:
    try:
        with player:
            for step in steps:
                player.do(step)
            player.end()
    except Violation as violation:
        return violation
    return None
