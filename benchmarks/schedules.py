"""The cost of one schedule of two callers, against the same two calls bare.

Ours: one schedule with one switch, as `tornpage interleave` plays it (files put back, two sessions opened, both calls
by turns, both views, the file's view, closed, judged). Theirs: the same steps on one thread, one call after the other,
without turns or judgement. For one store of two threads both sides open it once. The calls are two updates of one task
of the reference; all switch points of the first are played in turn.
"""

from pathlib import Path

from benchmarks.measuring import Ratio, in_turns, summed_up
from benchmarks.searches import WAL

from tornpage import faults
from tornpage.scenarios.execution.interleave.schedule import Stage
from tornpage.scenarios.execution.interleave.serial import Serial, State, file_view, left_in
from tornpage.scenarios.execution.interleave.sessions import Setting, closed, made, opened, pair, shown
from tornpage.scenarios.execution.snapshots import place
from tornpage.scenarios.model.scenario import Callers, Interleave
from tornpage.scenarios.model.target import Action, Target
from tornpage.scenarios.targets.registry import find

_NEW = Action("tasks.create", {"id": "a", "runtime": "cli", "requester_session_key": "main", "task": "work"})
_FIRST, _SECOND = (Action("tasks.progress", {"task_id": "a", "text": text}) for text in ("one", "two"))
_POINTS = 6


def _state(target: Target, home: Path) -> State:
    """The files that one task has left."""
    place({}, home)
    trial = opened(target, Setting(home, WAL, 0))
    made(trial, _NEW)
    closed(trial)
    return State(left_in(home), file_view(target, home), 1)


def _bare(target: Target, state: State, home: Path, *, is_shared: bool) -> None:
    place(state.files, home)
    trials = [opened(target, Setting(home, WAL, state.step)) for _ in range(1 if is_shared else 2)]
    for trial, action in zip((trials[0], trials[-1]), (_FIRST, _SECOND), strict=True):
        made(trial, action)
    for trial in (trials[0], trials[-1]):
        shown(trial)
    file_view(target, home)
    for trial in reversed(trials):
        closed(trial)
    left_in(home)


def one_schedule(home: Path, where: str, callers: Callers, *, rounds: int, chunks: int) -> Ratio:
    """A schedule of these callers against the two calls bare."""
    target, ours, theirs = find("reference"), home / "ours", home / "theirs"
    with faults.install() as shims, shims.deterministic(seed=1):
        state = _state(target, theirs)
        with pair(target, callers, ours) as sessions:
            stage, serial = Stage(sessions, ours, WAL), Serial(target, WAL, ours, state)

            def schedules() -> None:
                for point in range(1, _POINTS + 1):
                    stage.play(Interleave(_FIRST, _SECOND, point, callers=callers), serial)

            def bare() -> None:
                for _ in range(_POINTS):
                    _bare(target, state, theirs, is_shared=callers == "shared")

            schedules()
            measured = [in_turns(schedules, bare, chunks=chunks, per_chunk=_POINTS) for _ in range(rounds)]
    sides = (f"one schedule of two callers ({callers})", "the same two calls, bare")
    return summed_up("schedules", f"{where}, {WAL}", sides, measured, per="schedule", aim=1.5)
