"""One schedule, played and judged: the first caller up to a switch point, the second, the first again.

Both sessions are opened before either call, so cached state from then is under test, too. When both calls have ended,
each session's view is checked (`stale-view`), then the file (`not-serializable`, `handed-out-twice`). A cache that the
view does not show is met by a call that only reads: it is made again when both have ended, and may not have the answer
from before the other call if a new session has another one. What a session keeps from its first call on is met by a
call that the first caller has made `earlier`; its next call is judged only if, alone, it does what it does in a new
session: else the store knows its own, as the owner of a claim.

A call may be the opening of the caller's store (`OPEN`): then its session is not opened before. An opening makes what
is missing, and two may both find it missing. One that loses this race may be told that the other one holds a lock; any
other error of SQLite or the system keeps a program from starting (`opens-together`).
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from tornpage.faults.contention.schedule import Deadlock, Hop, alone, switch
from tornpage.faults.contention.turns import Ended, Paused, Waiting
from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.execution.interleave.between import Between, file_now, is_of_whole_calls, require_kept
from tornpage.scenarios.execution.interleave.serial import Outcome, Serial, State, file_view, left_in, require_serial
from tornpage.scenarios.execution.interleave.sessions import (
    PENDING,
    InProcess,
    OnThread,
    Said,
    Session,
    both_closed,
    pair,
)
from tornpage.scenarios.execution.reopen import is_damage
from tornpage.scenarios.execution.session_in_use import OPEN
from tornpage.scenarios.execution.snapshots import Files, place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.answers import in_any_order, in_words, is_alike
from tornpage.scenarios.model.judging.checks import Violation, describe, differences
from tornpage.scenarios.model.scenario import Interleave
from tornpage.scenarios.model.target import Action, Configuration, TargetError, View

_MOST_CHARACTERS: Final = 90


class Played(msgspec.Struct, frozen=True):
    """The result of a schedule: the hops in order, the answers, the file's view, and each call's number of points."""

    hops: tuple[Hop, ...]
    outcome: Outcome
    points: tuple[int, int]
    files: Files = {}
    # The answer to the call that only reads, made again at the end; none if neither does, or both do.
    again: Said | None = None
    # The first caller's answer to the heartbeat, made once the second one was killed.
    beat: Said | None = None


class Stage:
    """The place where schedules are played: two callers, a directory, and a configuration."""

    def __init__(self, sessions: tuple[Session, Session], home: Path, configuration: Configuration) -> None:
        self.sessions = sessions
        self.home = home
        self.configuration = configuration
        # The schedule played last, even if it was a violation.
        self.hops: list[Hop] = []

    def play(self, step: Interleave, serial: Serial) -> Played:
        """Play one schedule and judge it; raises `Violation`, `OpenedOnceError`, `TargetError`."""
        if step.earlier is None:
            return self._play(step, serial, serial.state)
        after = serial.after(step.earlier)
        try:
            return self._play(step, after, serial.state)
        except Violation:
            if not self._does_as_new(step, after, serial.state):
                raise OwnSessionError(f"{step.first} depends on the session's own {step.earlier}") from None
            raise

    def _play(self, step: Interleave, serial: Serial, state: State) -> Played:
        """The same from the files of `state`, judged by the orders from where its calls begin."""
        # A store may know its own path: the serial calls are made at the same one.
        serial.prepare(step.first, step.second)
        may_share = step.callers == "shared" and serial.target.files_view is None
        read = partial(file_now, serial.target, self.home)
        between = Between(self.sessions, read) if may_share and step.switch else None
        played, views = self._played(step, serial, state, None if between is None else between.at_switch)
        files = left_in(self.home)
        _require_opened(played.outcome, step, serial)
        require_serial(played.outcome, serial, step.first, step.second, self.sessions)
        if between is not None and between.outcome is not None:
            self._require_kept(between.outcome, step, serial, state)
        for name, shown in views.items():
            if shown != played.outcome.view:
                detail = describe(differences(shown, played.outcome.view), f"what {name} shows", "the file")
                sides = {"memory": shown, "disk": played.outcome.view}
                raise Violation("stale-view", f"after both calls: {detail}", sides)
        self._require_current(played, step, serial)
        self._require_free(played.beat, step, serial)
        return msgspec.structs.replace(played, files=files)

    def _played(
        self, step: Interleave, serial: Serial, state: State, at_switch: Callable[[Hop], None] | None
    ) -> tuple[Played, dict[str, View]]:
        """Play it from the files of its state; return its result, and the final view of each session that is open."""
        self._open(state, serial, step)
        try:
            self._make_earlier(step, serial)
            played = self._switch(step, serial, at_switch)
        except BaseException:
            self._abandon()
            raise
        both_closed(self.sessions, self.home)
        return played

    def _make_earlier(self, step: Interleave, serial: Serial) -> None:
        """Let the first caller make the call that comes before, if any."""
        if step.earlier is not None:
            self._alone(self.sessions[0], step.earlier)
            for session in self.sessions:
                session.at_step(serial.state.step)

    def _alone(self, session: Session, action: Action) -> Said:
        session.start(action, frozenset())
        try:
            said: Said = alone(session).result
        except Deadlock as deadlock:
            raise Violation("deadlock", f"{action}, made alone, does not return: {deadlock.stacks}") from deadlock
        return said

    def _does_as_new(self, step: Interleave, serial: Serial, state: State) -> bool:
        """Whether the first call, alone in the session that made the earlier one, does what it does in a new one."""
        self._open(state, serial, step)
        try:
            self._make_earlier(step, serial)
            said = self._alone(self.sessions[0], step.first)
            view = file_now(serial.target, self.home)
        except Violation:
            self._abandon()
            return False
        both_closed(self.sessions, self.home)
        new = serial.confirmed().run(step.first)
        return view == new.view and said.kind == new.said.kind and is_alike(said.value, new.said.value)

    def _require_kept(self, between: Outcome, step: Interleave, serial: Serial, state: State) -> None:
        """As `between.require_kept`, unless a call commits in parts by itself: that is for the sweep."""
        try:
            require_kept(between, step, serial, self.sessions)
        except Violation as violation:
            stopped = list[View | None]()
            if violation.code == "all-or-nothing":
                self._played(step, serial, state, lambda _hop: stopped.append(file_now(serial.target, self.home)))
            # The last one is the view that is blamed.
            if all(is_of_whole_calls(view, step, serial) for view in stopped[:-1]):
                raise

    def follows(self, step: Interleave, serial: Serial) -> bool:
        """Whether the second session, opened before, sees what the first one's call has committed."""
        self._open(serial.state, serial, step)
        first, second = self.sessions
        try:
            first.start(step.first, frozenset())
            while not isinstance(first.go(), Ended):
                pass
            return second.look() == file_view(serial.target, self.home)
        except Violation:
            return False
        finally:
            both_closed(self.sessions, self.home)

    def _open(self, state: State, serial: Serial, step: Interleave) -> None:
        """Open both sessions on the files of a state, if their calls don't; the second where it can be killed."""
        place(state.files, self.home)
        setting, opened = state.setting(self.home, self.configuration), list[Session]()
        try:
            for session, action in zip(self.sessions, (step.first, step.second), strict=True):
                if step.killed and isinstance(session, InProcess):
                    session.open_to_be_killed(setting)
                elif action != OPEN:
                    session.open(setting)
                opened.append(session)
        except Exception as error:
            for session in opened:
                session.close()
            if not opened:
                raise
            raise OpenedOnceError(f"{serial.target.name} can't be opened a second time: {error}") from error

    def _switch(
        self, step: Interleave, serial: Serial, at_switch: Callable[[Hop], None] | None
    ) -> tuple[Played, dict[str, View]]:
        first, second = self.sessions
        for session, action, stop in ((first, step.first, step.switch), (second, step.second, step.back)):
            stops = frozenset({stop} if stop else ())
            if action == OPEN:
                session.start_to_open(serial.state.setting(self.home, self.configuration), stops)
            else:
                session.start(action, stops)
        self.hops = []

        def kill(hop: Hop) -> None:
            if hop.caller == second.name and isinstance(hop.event, Paused) and isinstance(second, InProcess):
                second.kill()

        try:
            if isinstance(first, OnThread) and first.on_loop is not None and isinstance(second, OnThread):
                from tornpage.scenarios.execution.interleave.one_loop import switched  # noqa: PLC0415 - loads asyncio

                works = first.work(step.first), second.work(step.second)
                switched(first.on_loop, works, (step.switch, step.back), self.hops, at_switch)
            else:
                switch(first, second, self.hops, kill if step.killed else at_switch)
        except Deadlock as deadlock:
            stacks = "; ".join(f"{name} at {stack}" for name, stack in sorted(deadlock.stacks.items()))
            raise Violation("deadlock", f"{deadlock}: {stacks}") from deadlock
        ended = {hop.caller: hop.event for hop in self.hops if isinstance(hop.event, Ended)}
        said: list[Said] = [ended[session.name].result for session in self.sessions]
        views = {
            session.name: self._look(session)
            for session, action, one in zip(self.sessions, (step.first, step.second), said, strict=True)
            if one != PENDING and (action != OPEN or one.kind == "done")
        }
        is_there = not step.fresh or any(one.kind == "done" for one in said)
        outcome = Outcome(said[0], said[1], self._read_file(serial) if is_there else serial.state.view)
        beat = self._alone(first, serial.target.heartbeat()) if said[1] == PENDING else None
        points = ended["A"].points, ended["B"].points
        return Played(tuple(self.hops), outcome, points, again=self._asked_again(step, serial), beat=beat), views

    @staticmethod
    def _require_free(said: Said | None, step: Interleave, serial: Serial) -> None:
        """Require that the caller that was killed keeps nothing which the other one needs: its next call works.

        Not where it does not work in a serial order either.
        """
        if said is None or said.kind != "raised":
            return
        beat = serial.target.heartbeat()
        before = (), (step.first,), (step.second,), (step.first, step.second), (step.second, step.first)
        if all(serial.run(*made, beat).said.kind == "done" for made in before):
            raise Violation("still-usable-after-the-fault", f"B was killed, and A's next call, {beat}, {said}")

    def _asked_again(self, step: Interleave, serial: Serial) -> Said | None:
        """The answer to the call that only reads, made once more by its caller, while the other has changed something.

        None if it is another one the next time: it returns what is new since the last one.
        """
        reading = [action != OPEN and serial.only_reads(action) for action in (step.first, step.second)]
        if reading.count(True) != 1 or step.killed or step.first == OPEN:
            return None
        number = reading.index(True)
        reader, action, wrote = (
            self.sessions[number],
            (step.first, step.second)[number],
            (step.second, step.first)[number],
        )
        if not serial.only_reads_after(wrote, action):
            return None
        one, other = (self._alone(reader, action) for _ in range(2))
        return one if is_alike(one.value, other.value) else None

    def _require_current(self, played: Played, step: Interleave, serial: Serial) -> None:
        """Require that a read made again after the other call does not return what was there before."""
        again, both = played.again, (played.outcome.first, played.outcome.second)
        if again is None or again.kind != "done":
            return
        (reader, read), (writer, wrote) = ("A", step.first), ("B", step.second)
        known, changed = both
        if not serial.only_reads(read):
            (reader, read), (writer, wrote), (changed, known) = (writer, wrote), (reader, read), both
        if changed.kind != "done" or played.outcome.view != serial.run(wrote).view:
            return
        before, after = serial.confirmed().run(read).said, serial.confirmed().run(wrote, read).said
        value, old, new = (in_any_order(one.value) for one in (again, before, after))
        if not value and not (known.kind == "done" and is_alike(in_any_order(known.value), old)):
            # It may return what is new since its last call, which has seen the change.
            return
        if after.kind == "done" and is_alike(value, old) and not is_alike(value, new):
            raise Violation(
                "stale-view",
                f"{reader}: {read}, made again after {writer}: {wrote}, returns {in_words(again.value)}, as before it; "
                f"a new session returns {in_words(after.value)}",
                {"memory": {read.name: again.value}, "disk": {read.name: after.value}},
            )

    def _read_file(self, serial: Serial) -> View:
        try:
            return file_view(serial.target, self.home)
        except sqlite3.DatabaseError as error:
            # A caller that failed may have left its transaction open, and its lock held.
            code = "integrity" if is_damage(error) else "still-usable-after-the-fault"
            raise Violation(code, f"after both calls a fresh reader fails: {error!r}") from error

    def _look(self, session: Session) -> View:
        try:
            return session.look()
        except Deadlock as deadlock:
            raise Violation("deadlock", f"a read of {session.name} does not return: {deadlock.stacks}") from deadlock

    def _abandon(self) -> None:
        """Close what can be closed: the error in flight says more than a failure to close."""
        for session in reversed(self.sessions):
            try:
                session.close()
            except Exception:  # noqa: BLE001, S112 - as above
                continue


def _require_opened(outcome: Outcome, step: Interleave, serial: Serial) -> None:
    """Require that no caller that opens the store, or makes its files, fails where it does not after the other one."""
    both = ("A", step.first, outcome.first), ("B", step.second, outcome.second)
    for (name, action, said), (other, beside, _) in (both, both[::-1]):
        is_judged = said.is_mistake and (action == OPEN or step.fresh)
        if is_judged and serial.run(beside, action).said.kind == "done":
            raise Violation(
                "opens-together", f"{name}: {action} {said} beside {other}: {beside}; one after the other both work"
            )


def play_step(step: Interleave, twin: Trial, state: State, hops: list[Hop]) -> tuple[Files, View]:
    """Play one schedule beside a trial's directory, and judge it; return the files that it leaves and their view.

    `hops` receives what happened, even if it is a violation. Raises `Violation`, `TargetError`.
    """
    target, configuration = twin.target, twin.oracle.configuration
    home = twin.directory.with_name("two-callers")
    serial = Serial(target, configuration, home, state)
    with pair(target, step.callers, home) as sessions:
        stage = Stage(sessions, home, configuration)
        try:
            played = stage.play(step, serial)
        finally:
            hops += stage.hops
    return played.files, played.outcome.view


class OpenedOnceError(TargetError):
    """A store that can't be opened twice at the same time."""


class OwnSessionError(Exception):
    """A call that does something else in the session that has made the call before it: it can't be judged."""


def hops_in_words(hops: Sequence[Hop], step: Interleave) -> list[tuple[str, str, str]]:
    """A schedule in words: for each hop which caller ran, its call, and how far it got."""
    calls, begun, words = {"A": step.first, "B": step.second}, set[str](), list[tuple[str, str, str]]()
    if step.earlier is not None:
        words.append(("A", str(step.earlier), "acknowledged"))
    for hop in hops:
        if isinstance(hop.event, Ended) and hop.event.result == PENDING:
            continue
        what = str(calls[hop.caller]) if hop.caller not in begun else f"{calls[hop.caller].name} continues"
        begun.add(hop.caller)
        dies = ", and is killed" if step.killed and hop.caller == "B" and isinstance(hop.event, Paused) else ""
        words.append((hop.caller, what, _how_far(hop) + dies))
    return words


def _how_far(hop: Hop) -> str:
    event = hop.event
    if isinstance(event, Paused):
        where = f", at {str(event.point.where)[:_MOST_CHARACTERS]}" if event.point.where else ""
        side = "before switch point" if event.point.number > 0 else "after the return of switch point"
        return f"stopped {side} {abs(event.point.number)} ({event.point.operation}){where}"
    if isinstance(event, Waiting):
        return "waits for the other caller"
    return str(event.result) if isinstance(event, Ended) else "does not return"
