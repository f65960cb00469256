"""Workers (§4): a worker is alive as long as its lock is held; an id is used once, until its file is removed."""

from collections.abc import Iterable
from typing import Any

from tornpage.scenarios.targets.reference.model.state import Outcome, State
from tornpage.scenarios.targets.reference.model.values import Refusal, a_worker_id
from tornpage.scenarios.targets.reference.model.world import World

Held = dict[str, bool]


def life(_world: World, state: State, *, calls: Iterable[tuple[str, Any]], place: str = "directory") -> Outcome:
    """§4: calls on the workers of one state directory, from none on; the answer of each, or its refusal.

    Not in the specification: if a file or a link takes the directory's place no worker can be registered; an id that
    may be one there, as far as can be determined, is treated as alive.
    """
    if place in ("file", "link"):
        return Outcome(state, [_elsewhere(place, name, argument) for name, argument in calls])
    held: tuple[Held, Held] = ({}, {})
    answers: list[Any] = []
    for name, argument in calls:
        try:
            # Each state directory has workers of its own, whatever their ids.
            is_there = name.startswith("there ")
            answers.append(_made(held[is_there], name.removeprefix("there "), argument))
        except Refusal as refusal:
            answers.append(refusal.error)
    return Outcome(state, answers)


def _made(held: Held, name: str, argument: Any) -> Any:
    if name in ("hold", "hold_without_locks"):
        return _hold(held, a_worker_id(argument), has_locks=name == "hold")
    if name == "link":
        # Not in the specification: where it can't be found out whether a worker lives, it counts as alive.
        held[argument] = True
        return None
    if name in ("is_alive", "ask_together"):
        return held.get(argument, False)
    if name == "clean":
        dead = sorted(worker for worker, is_held in held.items() if not is_held and worker not in argument)
        for worker in dead:
            del held[worker]
        return dead
    if not held.get(argument, False):
        raise Refusal("NotFound")
    held[argument] = False
    if name == "retire":
        del held[argument]
        return True
    return None


def _hold(held: Held, worker: str, *, has_locks: bool) -> str:
    """Not in the specification: where no lock ends with its process no process can be a worker, and none is left."""
    if worker in held:
        raise Refusal("IllegalTransition")
    if not has_locks:
        raise Refusal("StoreUnavailable")
    held[worker] = True
    return worker


def work(_world: World, state: State, *, calls: Iterable[tuple[str, Any]]) -> Outcome:
    """§4: a worker named in running rows or leases keeps its id, alive or dead; a recovery frees all other dead ones.

    An unreadable running row stays unchanged, and still refers to its worker. §5: a pass sends messages that dead
    workers have leased; its own worker leaves no file. Not in the specification: the attempt that a dead one had begun
    counts, and delays nothing.
    """
    at_work, answers = _Work(), list[Any]()
    for name, argument in calls:
        try:
            answers.append(at_work.answer(name, argument))
        except Refusal as refusal:
            answers.append(refusal.error)
    return Outcome(state, answers)


class _Work:
    """What workers have begun: runs, some of them unreadable, and leases."""

    def __init__(self) -> None:
        self.held: Held = {}
        self.runs: list[str] = []
        self.bad: list[str] = []
        # The workers of one task.
        self.together: list[tuple[str, str]] = []
        # For each waiting message, the worker that has leased it ("": none), and the attempts that count.
        self.leases: list[tuple[str, int]] = []
        self.is_in_batch = False

    def answer(self, name: str, argument: Any) -> Any:
        """The result of one call."""
        own = getattr(self, f"do_{name}", None)
        return _made(self.held, name, argument) if own is None else own(argument)

    def _lives(self, worker: str) -> bool:
        return self.held.get(worker, False)

    def do_start(self, worker: str) -> str:
        if not self._lives(worker):
            raise Refusal("IllegalTransition")
        self.runs.append(worker)
        return "running"

    def do_start_again(self, worker: str) -> str:
        """The same task once more, while its first run goes on."""
        self.do_start(worker)
        self.together.append((self.runs[-2], worker))
        return "running"

    def do_maintain(self, _later_ms: int) -> int:
        """§3: lost if none of the workers of a task lives; this one is only previewed."""
        pairs = [one for pair in self.together for one in pair]
        alone = [one for one in self.runs if one not in pairs]
        dead = [pair for pair in self.together if not any(map(self._lives, pair))]
        return len(dead) + sum(not self._lives(one) for one in alone)

    def do_spoil(self, worker: str) -> None:
        self.bad += [one for one in self.runs if one == worker]
        self.runs = [one for one in self.runs if one != worker]

    def do_recover(self, _nothing: None) -> list[str]:
        dead = sorted(one for one in self.runs if not self._lives(one))
        self.runs = [one for one in self.runs if one not in dead]
        # Inside a batch what refers to them may come back.
        if not self.is_in_batch:
            _made(self.held, "clean", [*(holder for holder, _ in self.leases), *self.bad])
        return dead

    def do_batched(self, call: tuple[str, Any]) -> Any:
        """In a batch; a refusal there undoes the whole batch."""
        before = self.runs, self.bad, self.leases
        self.runs, self.bad, self.leases = [*self.runs], [*self.bad], [*self.leases]
        self.is_in_batch = True
        try:
            return self.answer(*call)
        except Refusal:
            self.runs, self.bad, self.leases = before
            raise
        finally:
            self.is_in_batch = False

    def do_undone(self, call: tuple[str, Any]) -> Any:
        """The batch is rolled back, and nothing of it is left."""
        before = self.runs, self.bad, self.leases
        try:
            return self.do_batched(call)
        finally:
            self.runs, self.bad, self.leases = before

    def do_start_dying(self, worker: str) -> str:
        """A worker that has died before the transaction begins starts nothing."""
        self.held[worker] = False
        return self.do_start(worker)

    def do_recover_dying(self, worker: str) -> list[str]:
        """What is dead when the transaction begins is recovered in it."""
        self.held[worker] = False
        return self.do_recover(None)

    def do_recover_beside(self, _worker: str) -> bool:
        """The other process can't start anything meanwhile, so its id is free again."""
        self.do_recover(None)
        return True

    def do_claim(self, worker: str) -> bool:
        # A message that no worker may lease waits for the next pass.
        self.leases.append((worker if self._lives(worker) else "", 0))
        if not self._lives(worker):
            raise Refusal("UsageError")
        return True

    def do_take_over(self, worker: str) -> list[Any]:
        place = next(i for i, (holder, _) in enumerate(self.leases) if holder and not self._lives(holder))
        self.leases[place] = worker, self.leases[place][1] + 1
        return [self.leases[place][1], True]

    def do_send(self, _nothing: None) -> list[Any]:
        free = [one for one in self.leases if not self._lives(one[0])]
        self.leases = [one for one in self.leases if self._lives(one[0])]
        return [len(free), len(self.leases), sorted(attempts + 1 + bool(holder) for holder, attempts in free)]

    def do_send_as(self, worker: str) -> list[Any]:
        """Its id counts as used: it may be one that others know."""
        if worker in self.held:
            raise Refusal("IllegalTransition")
        self.held[worker] = False
        return self.do_send(None)

    def do_files(self, _nothing: None) -> list[str]:
        return sorted(self.held)


def _elsewhere(place: str, name: str, argument: Any) -> Any:
    """A call without a directory of the ledger's own."""
    if name == "clean":
        return []
    try:
        a_worker_id(argument)
    except Refusal as refusal:
        return {"hold": refusal.error, "is_alive": False}.get(name, "NotFound")
    return {"hold": "StoreUnavailable", "is_alive": place == "file"}.get(name, "NotFound")
