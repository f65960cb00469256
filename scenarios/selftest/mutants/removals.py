"""Operators that take something away: a commit, a rollback, a sync, a re-read, the raise of a handler."""

import ast
from collections.abc import Iterator
from typing import Final

from tornpage.scenarios.selftest.mutants.source import Edit, Source, called, executed

_COMMITS: Final = frozenset({"_commit"})
_ROLLBACKS: Final = frozenset({"_roll_back", "abandon", "discard_connection", "rolled_back"})
_SYNCS: Final = frozenset({"_sync_directory", "fsync", "lay_fence"})
_REREADS: Final = frozenset(
    {"_ensure_restored", "_load_memory", "_load_or_refuse", "_reload", "ensure_usable", "heal", "joined"}
)
# The replacement of a re-read: the value known before, for each kind of unit that reads.
_MEMORY: Final = '(getattr(unit, "_owner", None) or unit._follower.owner).view()'
_STALE: Final = {
    "unit.read_task": f"{_MEMORY}.tasks.get",
    "unit.read_delivery": f"{_MEMORY}.deliveries.get",
    "unit.tasks_of_run": f"(lambda run_id: ({_MEMORY}.in_order({_MEMORY}.indexes.by_run(run_id)), ()))",
    "self.backend.version": "(lambda: self._version)",
}
_BELIEVED: Final = "{{(one.table.name, one.key): one.{} for one in changed}}"


def drop_commit(source: Source) -> Iterator[Edit]:
    """A COMMIT is dropped."""
    for statement in _statements(source):
        if executed(statement) == "COMMIT" or called(statement) in _COMMITS:
            yield Edit(statement, f"without {source.segment(statement)}", source.without(statement))


def drop_rollback(source: Source) -> Iterator[Edit]:
    """A transaction stays open, or its rollback is not reported."""
    for statement in _statements(source):
        if executed(statement) == "ROLLBACK" or called(statement) in _ROLLBACKS:
            yield Edit(statement, f"without {source.segment(statement)}", source.without(statement))


def drop_fsync(source: Source) -> Iterator[Edit]:
    """Data is not brought to the disk: no fsync, no fence, no commit at a higher level."""
    for node in source.nodes():
        if isinstance(node, ast.Expr) and (called(node) in _SYNCS or _is_fence(node)):
            yield Edit(node, f"without {source.segment(node)}", source.without(node))
        elif isinstance(node, ast.Call) and called(node) in {"_synced", "_durable"}:
            text = source.with_text(node, '__import__("contextlib").nullcontext()')
            yield Edit(node, f"without {source.segment(node)}", text)
        elif isinstance(node, ast.Call) and called(node) == "lay_fence" and not _is_statement(source, node):
            yield Edit(node, f"{source.segment(node)} is taken as done", source.with_text(node, "True"))


def drop_reread(source: Source) -> Iterator[Edit]:
    """State that may have changed is not read again; the earlier value is used."""
    for node in source.nodes():
        if isinstance(node, ast.Expr) and called(node) in _REREADS:
            yield Edit(node, f"without {source.segment(node)}", source.without(node))
        elif isinstance(node, ast.Call) and (stale := _STALE.get(source.segment(node.func))) is not None:
            text = source.with_text(node.func, stale)
            yield Edit(node, f"{source.segment(node)} is what memory says", text)
        elif isinstance(node, ast.Call) and called(node) == "_read_again":
            for wanted in ("after", "before"):
                text = source.with_text(node, _BELIEVED.format(wanted))
                yield Edit(node, f"the rows are taken to be as they should be {wanted} the commit", text)


def swallow_except(source: Source) -> Iterator[Edit]:
    """A handler that raises continues instead."""
    for node in source.nodes():
        if isinstance(node, ast.Raise) and _handler_of(source, node) is not None:
            yield Edit(node, f"without {_short(source.segment(node))}", source.without(node))


def _statements(source: Source) -> Iterator[ast.stmt]:
    return (node for node in source.nodes() if isinstance(node, ast.Expr))


def _is_fence(node: ast.Expr) -> bool:
    call = node.value
    return isinstance(call, ast.Call) and any(isinstance(one, ast.Name) and one.id == "FENCE" for one in call.args)


def _is_statement(source: Source, node: ast.Call) -> bool:
    return isinstance(next(source.above(node)), ast.Expr)


def _handler_of(source: Source, node: ast.AST) -> ast.ExceptHandler | None:
    """The handler that contains a statement, unless it is outside its own function."""
    for one in source.above(node):
        if isinstance(one, ast.ExceptHandler):
            return one
        if isinstance(one, ast.FunctionDef | ast.Lambda):
            return None
    return None


def _short(text: str) -> str:
    return " ".join(text.split())
