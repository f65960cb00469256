"""The catalogue of mutants: which operators, on which files, and the name that each mutant keeps."""

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Final

import msgspec

from tornpage.scenarios.selftest.mutants import guards, orders, removals
from tornpage.scenarios.selftest.mutants.source import Edit, Source

OPERATORS: Final[Mapping[str, Callable[[Source], Iterator[Edit]]]] = {
    "drop-commit": removals.drop_commit,
    "drop-rollback": removals.drop_rollback,
    "drop-fsync": removals.drop_fsync,
    "drop-reread": removals.drop_reread,
    "swap-commit-and-memory": orders.swap_commit_and_memory,
    "observer-before-commit": orders.observer_before_commit,
    "swallow-except": removals.swallow_except,
    "weaken-pragma": guards.weaken_pragma,
    "drop-where-guard": guards.drop_where_guard,
}

SOURCES: Final = (
    "ledger/disk/transaction.py",
    "ledger/disk/database.py",
    "ledger/disk/connections.py",
    "ledger/disk/schema.py",
    "ledger/disk/files.py",
    "ledger/cache/engine.py",
    "ledger/registry.py",
    "ledger/disk/rows.py",
    "ledger/history.py",
    "ledger/recovery.py",
    "ledger/upkeep/maintenance.py",
    "ledger/stores/sqlite.py",
    "ledger/stores/json_snapshot.py",
    "ledger/outbox/outbox.py",
    "ledger/outbox/queue.py",
    "ledger/outbox/recovery.py",
)
"""The files that implement durability."""


class Mutant(msgspec.Struct, frozen=True):
    """One change of one file. `id` is the operator, the file, the function and which of its places there it is."""

    id: str
    operator: str
    file: str
    module: str
    line: int
    description: str
    original: str
    text: str

    @property
    def diff(self) -> str:
        """The change, as a unified diff."""
        lines = difflib.unified_diff(
            self.original.splitlines(keepends=True),
            self.text.splitlines(keepends=True),
            f"a/{self.file}",
            f"b/{self.file}",
            n=2,
        )
        return "".join(lines)


@cache
def all_mutants() -> Mapping[str, Mutant]:
    """Every mutant by its id, file by file and operator by operator."""
    return {mutant.id: mutant for file in SOURCES for mutant in mutants_of(Source(file))}


def mutants_of(source: Source) -> Iterator[Mutant]:
    """The mutants of one file by all operators of this catalogue."""
    return edits_as_mutants(source, OPERATORS)


def edits_as_mutants(source: Source, operators: Mapping[str, Callable[[Source], Iterator[Edit]]]) -> Iterator[Mutant]:
    """The mutants of one file by these operators; equal text is one mutant, whichever operator made it."""
    known = {source.text}
    places: Counter[str] = Counter()
    for operator, find in operators.items():
        for edit in find(source):
            place = f"{operator}:{source.file}:{source.qualname(edit.node)}"
            places[place] += 1
            if edit.text in known:
                continue
            known.add(edit.text)
            yield Mutant(
                f"{place}:{places[place]}",
                operator,
                source.file,
                source.module,
                getattr(edit.node, "lineno", 0),
                edit.description,
                source.text,
                edit.text,
            )


def chosen_mutants(names: Iterable[str] = (), operators: Iterable[str] = (), files: Iterable[str] = ()) -> list[Mutant]:
    """The mutants of these ids, or of these operators and files; all by default.

    Raises ValueError for an unknown id.
    """
    mutants = all_mutants()
    wanted = list(names)
    unknown = [name for name in wanted if name not in mutants]
    if unknown:
        raise ValueError(f"unknown mutant {unknown[0]!r}; tornpage mutants --list lists them")
    some = [mutants[name] for name in wanted] or list(mutants.values())
    return [
        one
        for one in some
        if (not operators or one.operator in operators)
        and (not files or any(one.file.endswith(file) for file in files))
    ]
