"""The oracle: which states are possible, given the answers of calls and the real behaviour of SQLite.

It holds the state last read from disk, and *maybe-committed writes*: states that a crash may bring although no reader
sees them now. The rules are measured (``docs/sqlite-under-faults.md``):

- acknowledged: only the state after the call; a committed change also overwrites every maybe-committed write;
- refused by the store: only the state before the call;
- failed, WAL: a COMMIT that raised leaves the state *before* to readers, and a crash may show the one *after* until the
  next writing commit. A call may also fail after its COMMIT succeeded; then the state *after* is permanent;
- failed, rollback journals: before or after; the next reader decides, by rolling back a hot journal;
- failed, and the store reports ``unchanged``: the state before, now and after a crash;
- never a state between the two, and never two failed changes at once.

A call that commits more than once (a recovery pass over many messages) is not atomic and does not claim to be: after it
failed, each key may be as before, as after, or as at one of its commits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tornpage.scenarios.model.judging.absent import ABSENT
from tornpage.scenarios.model.judging.answers import in_words, reports_a_failure
from tornpage.scenarios.model.judging.checks import Violation, describe, differences
from tornpage.scenarios.model.judging.numbers import is_among, is_moved_on, is_of_another_block
from tornpage.scenarios.model.target import Configuration, View

# What to do where a store reports a failure by what it returns.
_RETURNED: Final = "if that reports the failure, let the target's `answer` raise an exception"


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of one call as its caller got it.

    `kind` is "done", "refused" or "raised". `certainty`, for "raised", is the store's statement on the change:
    "unchanged", "unknown", or None for no statement. `value`, for "done", is the return value as data.
    """

    kind: str
    error: BaseException | None = None
    certainty: str | None = None
    value: Any = None

    def __str__(self) -> str:
        if self.kind != "raised":
            return "acknowledged" if self.kind == "done" else f"refused ({self.error})"
        said = f", outcome {self.certainty}" if self.certainty else ""
        named = f"{type(self.error).__name__}: {self.error}".removesuffix(": ")
        return f"failed with {named}{said}"


@dataclass
class Oracle:
    """The possible states of one store. `settled` was last read; a crash may bring back one of `maybe_committed`.

    `lost` are the states that a power cut has taken from a log at NORMAL. Where it took one frame and left later ones,
    a call that writes the same frame again joins those to the log, and the next process that recovers it reads them.
    """

    configuration: Configuration
    settled: View
    maybe_committed: list[View] = field(default_factory=list)
    lost: tuple[View, ...] = ()
    # Whether a failed call may have used up a number that the next call would have got.
    numbers_used: bool = False
    # How many bytes failed calls have left in each file beside the rows, where they have left any.
    bytes_left: frozenset[int] = frozenset()
    # The calls since a restart at which the store may have read what it counts on from, and its shadow has not.
    since_restart: int | None = None
    # The calls of the store's session, and whether the shadow's was opened at another time than that.
    calls: int = 0
    is_apart: bool = False
    _possible: tuple[View, ...] = ()
    _stages: tuple[View, ...] = ()
    answer: Answer = field(default_factory=lambda: Answer("done"))
    _before: View = field(default_factory=dict)
    _call: str = "a call"

    def heard(self, answer: Answer, after: View, stages: tuple[View, ...] = (), call: str = "a call") -> None:
        """Record the answer to a call that would lead from `settled` to `after`.

        `stages` are the states at the commits of a call that commits more than once.
        """
        self._before, self.answer, self._call = self.settled, answer, call
        self.calls += 1
        if self.since_restart is not None:
            self.since_restart += 1
        self._stages = (self.settled, *stages, after) if stages and answer.kind == "raised" else ()
        if answer.kind == "done":
            self._possible = (after,)
            if after != self.settled:
                self.maybe_committed = []
        elif answer.kind == "refused" or answer.certainty == "unchanged":
            self._possible = (self.settled,)
        elif self.configuration.journal_mode == "wal":
            self._possible = (self.settled, after)
            # If a call commits more than once, any of its commits may be the one that failed.
            self.maybe_committed += [*stages, after]
        else:
            self._possible = (self.settled, after)

    def saw_disk(self, disk: View) -> None:
        """Judge the state that a fresh reader sees, and settle on it; raises `Violation`."""
        possible = self._possible or (self.settled,)
        if not self._is_among(disk, possible) and not may_have_stopped_at(disk, self._stages):
            self._accuse_disk(disk, possible)
        if disk != self.settled:
            # A reader sees only committed changes, and a commit overwrites all maybe-committed writes except later
            # ones.
            self.maybe_committed = list(self._stages[1:]) if self.maybe_committed else []
        self.settled = disk
        self._possible = ()

    def saw_memory(self, memory: View) -> None:
        """Compare the process's own view with the disk state just read; raises `Violation`."""
        if memory != self.settled:
            difference = describe(differences(memory, self.settled), "memory", "the file")
            raise Violation(
                "memory-equals-disk",
                f"after {self._call} ({self.answer}{self._yet}): {difference}",
                {"memory": memory, "disk": self.settled},
                self.answer.kind,
            )

    @property
    def _yet(self) -> str:
        """The note on a call that raised although its change was committed."""
        if self.answer.kind != "raised" or self.settled == self._before:
            return ""
        is_plain = self.configuration.journal_mode == "file"
        return f", although its {'change was made' if is_plain else 'COMMIT had succeeded'}"

    def crashed(self, disk: View) -> None:
        """Settle each maybe-committed write: after a crash it is there or permanently lost."""
        if self._is_among(disk, (*self.maybe_committed, *self.lost)):
            self.settled, self._possible = disk, ()
        self.maybe_committed = []

    def restarted(self, disk: View) -> None:
        """Start again from the state after a crash that another oracle has judged."""
        self.settled, self.maybe_committed, self._possible, self._stages = disk, [], (), ()
        self.answer = Answer("done")

    def saw_after_crash(self, reopened: View) -> None:
        """Judge the state of a copy of the files, opened as after a crash; raises `Violation`."""
        if (
            reopened == self.settled
            or self._is_among(reopened, (*self.maybe_committed, *self.lost))
            or may_have_stopped_at(reopened, self._stages)
        ):
            return
        sides = {"disk": self.settled, "reopened": reopened}
        code = "acknowledged-is-durable"
        if reopened.keys() - self.settled.keys():
            code = "no-resurrection" if self.answer.kind == "done" else "failed-write-changed-nothing"
        elif self.answer.kind != "done":
            code = "failed-write-changed-nothing"
        difference = describe(differences(self.settled, reopened), "the file before the crash", "the reopened file")
        raise Violation(code, f"a crash after {self._call} ({self.answer}): {difference}", sides, self.answer.kind)

    def _is_among(self, view: View, possible: Sequence[View]) -> bool:
        used, calls = self.numbers_used, self.since_restart
        if is_among(view, self.settled, possible, numbers_used=used, since_restart=calls):
            return True
        if self.is_apart and any(is_of_another_block(self.settled, one, view, self.calls) for one in possible):
            return True
        return any(is_moved_on(one, view, self.bytes_left) for one in possible)

    def _accuse_disk(self, disk: View, possible: tuple[View, ...]) -> None:
        """Raise the violation of the check that a disk state fails."""
        expected = possible[0]
        sides = {"expected": expected, "disk": disk}
        detail = describe(differences(expected, disk), "the expected state", "the file")
        if self.answer.kind == "done":
            gone = self._before.keys() - expected.keys()
            code = "no-resurrection" if gone & disk.keys() else "acknowledged-is-durable"
        elif self.answer.certainty == "unchanged" or self.answer.kind == "refused":
            code = "failed-write-changed-nothing"
        else:
            code = "all-or-nothing"
        said = f"{self.answer}"
        if self.answer.kind == "done" and reports_a_failure(self.answer.value):
            said += f": it returned {in_words(self.answer.value)}; {_RETURNED}"
        raise Violation(code, f"after {self._call} ({said}): {detail}", sides, self.answer.kind)


def may_have_stopped_at(view: View, stages: Sequence[View]) -> bool:
    """Whether a call that commits more than once may have stopped at `view`: each key is as at one of its `stages`.

    The stages are the state before, the state at each commit, and the state after; one that equals the stage before it
    counts as that. A call that commits once, as one that may commit more often also does with one thing to do, has two
    stages and nothing between them.
    """
    if all(stage in (stages[0], stages[-1]) for stage in stages):
        return False
    keys = view.keys() | {key for stage in stages for key in stage}
    return all(_is_as_in_one(key, view, stages) for key in keys)


def _is_as_in_one(key: str, view: View, stages: Sequence[View]) -> bool:
    return any(view.get(key, ABSENT) == stage.get(key, ABSENT) for stage in stages)
