"""The oracle: which states are possible, by what the caller was told and what SQLite really does.

It keeps the state that was last seen on disk, and *maybe-committed writes*: states that a crash may bring although no
reader sees them now. The rules are measured (``docs/sqlite-under-faults.md``):

- acknowledged: one state, the one after; a change that was committed also overwrites every maybe-committed write;
- refused by the store: one state, the one before;
- failed, WAL: a COMMIT that raised leaves the state *before* to readers, and a crash may show the one *after* until the
  next writing commit. But a call may also fail after its COMMIT, and then the state after is there for good;
- failed, rollback journals: before or after; the next reader decides, by rolling back a hot journal;
- failed, and the store says ``unchanged``: before, now and after a crash. That is the store's own promise, and it
  is held to it;
- never anything between the two, and never two failed changes at once.

A call that commits more than once (a recovery pass over many messages) is not atomic and does not say so: after it has
failed each key may be as before, as after, or as at one of its commits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tornpage.scenarios.model.judging.checks import Violation, describe, differences
from tornpage.scenarios.model.judging.numbers import is_among
from tornpage.scenarios.model.target import Configuration, View


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller of one call was told.

    `kind` is "done", "refused" or "raised"; `certainty`, for "raised", is what the store said of the change:
    "unchanged", "unknown", or None where it says nothing; `value`, for "done", is what the call returned, as data.
    """

    kind: str
    error: BaseException | None = None
    certainty: str | None = None
    value: Any = None

    def __str__(self) -> str:
        if self.kind != "raised":
            return "acknowledged" if self.kind == "done" else f"refused ({self.error})"
        said = f", outcome {self.certainty}" if self.certainty else ""
        return f"failed with {type(self.error).__name__}: {self.error}{said}"


@dataclass
class Oracle:
    """The possible states of one store. `settled` was seen; `maybe_committed` may come back with a crash."""

    configuration: Configuration
    settled: View
    maybe_committed: list[View] = field(default_factory=list)
    # Whether a call that failed may have used up a number that the next one would have had.
    numbers_used: bool = False
    _possible: tuple[View, ...] = ()
    _stages: tuple[View, ...] = ()
    answer: Answer = field(default_factory=lambda: Answer("done"))
    _before: View = field(default_factory=dict)

    def heard(self, answer: Answer, after: View, stages: tuple[View, ...] = ()) -> None:
        """Take in the answer to a call that would lead from `settled` to `after`.

        `stages` are the states at the commits of a call that commits more than once.
        """
        self._before, self.answer = self.settled, answer
        self._stages = (self.settled, *stages, after) if stages and answer.kind == "raised" else ()
        if answer.kind == "done":
            self._possible = (after,)
            if after != self.settled:
                self.maybe_committed = []
        elif answer.kind == "refused" or answer.certainty == "unchanged":
            self._possible = (self.settled,)
        elif self.configuration.journal_mode == "wal":
            self._possible = (self.settled, after)
            # Of a call that commits more than once any commit may be the one that failed.
            self.maybe_committed += [*stages, after]
        else:
            self._possible = (self.settled, after)

    def saw_disk(self, disk: View) -> None:
        """Judge what a fresh reader sees, and settle on it; raises `Violation`."""
        possible = self._possible or (self.settled,)
        if not self._is_among(disk, possible) and not is_on_the_way(disk, self._stages):
            self._accuse_disk(disk, possible)
        if disk != self.settled:
            # What a reader sees was committed, and a commit overwrites every maybe-committed write but later ones.
            self.maybe_committed = list(self._stages[1:]) if self.maybe_committed else []
        self.settled = disk
        self._possible = ()

    def saw_memory(self, memory: View) -> None:
        """Judge the process's own answer against the disk that was just seen; raises `Violation`."""
        if memory != self.settled:
            difference = describe(differences(memory, self.settled), "memory", "the file")
            raise Violation(
                "memory-equals-disk",
                f"after a call that {self.answer}{self._yet}: {difference}",
                {"memory": memory, "disk": self.settled},
                self.answer.kind,
            )

    @property
    def _yet(self) -> str:
        """What has to be known of a call that raised although its change was committed."""
        happened = self.answer.kind == "raised" and self.settled != self._before
        return ", although its COMMIT had happened" if happened else ""

    def crashed(self, disk: View) -> None:
        """After a crash a maybe-committed write is either alive or gone for good."""
        if self._is_among(disk, self.maybe_committed):
            self.settled, self._possible = disk, ()
        self.maybe_committed = []

    def restarted(self, disk: View) -> None:
        """Begin anew after a crash that somebody else has judged."""
        self.settled, self.maybe_committed, self._possible, self._stages = disk, [], (), ()
        self.answer = Answer("done")

    def saw_after_crash(self, reopened: View) -> None:
        """Judge what a copy of the files shows when it is opened as after a crash; raises `Violation`."""
        if (
            reopened == self.settled
            or self._is_among(reopened, self.maybe_committed)
            or is_on_the_way(reopened, self._stages)
        ):
            return
        sides = {"disk": self.settled, "reopened": reopened}
        code = "acknowledged-is-durable"
        if reopened.keys() - self.settled.keys():
            code = "no-resurrection" if self.answer.kind == "done" else "failed-write-changed-nothing"
        elif self.answer.kind != "done":
            code = "failed-write-changed-nothing"
        difference = describe(differences(self.settled, reopened), "the file before the crash", "the reopened file")
        raise Violation(code, f"a crash after a call that {self.answer}: {difference}", sides, self.answer.kind)

    def _is_among(self, view: View, possible: Sequence[View]) -> bool:
        return is_among(view, self.settled, possible, numbers_used=self.numbers_used)

    def _accuse_disk(self, disk: View, possible: tuple[View, ...]) -> None:
        """Name the promise that a disk state breaks; always raises."""
        expected = possible[0]
        sides = {"expected": expected, "disk": disk}
        detail = describe(differences(expected, disk), "what had to be there", "the file")
        if self.answer.kind == "done":
            gone = self._before.keys() - expected.keys()
            code = "no-resurrection" if gone & disk.keys() else "acknowledged-is-durable"
        elif self.answer.certainty == "unchanged" or self.answer.kind == "refused":
            code = "failed-write-changed-nothing"
        else:
            code = "all-or-nothing"
        raise Violation(code, f"after a call that {self.answer}: {detail}", sides, self.answer.kind)


def is_on_the_way(view: View, stages: Sequence[View]) -> bool:
    """Whether a call that commits more than once may have stopped there: each key is as it is at one of its `stages`.

    The stages are the state before, that at each commit, and the one after: a call that commits once has two, and
    nothing between them.
    """
    keys = view.keys() | {key for stage in stages for key in stage}
    return len(stages) > 2 and all(any(view.get(key) == stage.get(key) for stage in stages) for key in keys)
