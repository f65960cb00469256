"""Operators that change an order: memory, or an observer, comes before the commit.

A statement that updates memory or notifies moves to before one that persists and is up to two places earlier in the
same block, if neither needs the names of the other.
"""

import ast
from collections.abc import Callable, Iterator
from typing import Final

from tornpage.scenarios.selftest.mutants.source import Edit, Source, called

_PERSISTING: Final = frozenset(
    {"_commit", "_execute", "_remove_imported", "_settle", "_store_imported", "abandon", "ack", "delete", "deliver",
     "execute", "fetch", "lay_fence", "move_to_failed", "replace", "save", "secure", "settle", "unlink", "write",
     "write_end", "_read_again", "_load", "_load_memory", "_end_task", "_start_task", "_write_end", "_write_start",
     "transaction"}
)  # fmt: skip
_REMEMBERING: Final = frozenset({"_adopt", "append", "apply", "clear", "_no_longer_held"})
_TELLING: Final = frozenset(
    {"_announce", "_committed", "_tell_restored", "announce", "committed", "deleted", "enlist", "restored", "settled",
     "upserted"}
)  # fmt: skip
_FAR: Final = 2


def swap_commit_and_memory(source: Source) -> Iterator[Edit]:
    """Memory changes before the statement that persists the change; or, in a unit of work, already with the write."""
    yield from _moved(source, _changes_memory)
    yield from _early(source, "_adopt")


def observer_before_commit(source: Source) -> Iterator[Edit]:
    """An observer is notified of a commit before it, or before memory has it."""
    yield from _moved(source, lambda statement: bool(_calls(statement) & _TELLING))
    yield from _early(source, "_announce")


def _moved(source: Source, is_late: Callable[[ast.stmt], bool]) -> Iterator[Edit]:
    for block in source.blocks():
        for at, statement in enumerate(block):
            if not is_late(statement) or isinstance(statement, ast.With | ast.FunctionDef | ast.ClassDef | ast.Try):
                continue
            for before in block[max(at - _FAR, 0) : at]:
                between = block[block.index(before) : at]
                if _persists(before, statement) and not any(_depends(one, statement) for one in between):
                    text = source.with_moved(statement, before)
                    words = f"{_short(source.segment(statement))} comes before {_short(source.segment(before))}"
                    yield Edit(statement, words, text)


def _early(source: Source, what: str) -> Iterator[Edit]:
    """A change is adopted, or announced, when it is written into the unit; the commit finds it done."""
    for node in source.nodes():
        if isinstance(node, ast.Expr) and source.segment(node) == "unit.write(change)" and _is_engine(source, node):
            indent = " " * node.col_offset
            yield Edit(
                node, f"self.{what}(change) comes before unit.write(change)",
                source.with_text(node, f"self.{what}(change)\n{indent}unit.write(change)"),
            )  # fmt: skip


def _is_engine(source: Source, node: ast.AST) -> bool:
    function = source.function_of(node)
    return function is not None and function.name == "_persist"


def _changes_memory(statement: ast.stmt) -> bool:
    """Whether it sets an object's state, or calls a function that does."""
    if isinstance(statement, ast.Assign | ast.AugAssign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return any(isinstance(one, ast.Attribute) for target in targets for one in _flat(target))
    if isinstance(statement, ast.If | ast.For | ast.Return):
        return bool(_calls(statement) & {"_adopt"})
    return called(statement) in _REMEMBERING


def _flat(target: ast.expr) -> list[ast.expr]:
    return target.elts if isinstance(target, ast.Tuple) else [target]


def _persists(statement: ast.stmt, other: ast.stmt) -> bool:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.Return):
        return False
    if _calls(other) & _TELLING and _changes_memory(statement):
        return True
    return bool(_calls(statement) & _PERSISTING)


def _calls(statement: ast.stmt) -> set[str]:
    return {name for node in ast.walk(statement) if (name := called(node))}


def _depends(one: ast.stmt, other: ast.stmt) -> bool:
    """Whether either binds a name that the other loads, or leaves the block."""
    if any(isinstance(node, ast.Continue | ast.Break) for node in ast.walk(one)):
        return True
    bound, loaded = _names(one)
    bound_too, loaded_too = _names(other)
    return bool(bound & (loaded_too | bound_too) or bound_too & loaded)


def _names(statement: ast.stmt) -> tuple[set[str], set[str]]:
    bound: set[str] = set()
    loaded: set[str] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name):
            (loaded if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    loop = {
        node.target.id
        for node in ast.walk(statement)
        if isinstance(node, ast.For) and isinstance(node.target, ast.Name)
    }
    return bound - loop, loaded


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 60 else f"{words[:57]}..."
