"""A module's source to mutate: its tree, the text of each node, and the text with one place changed.

Mutants change the text and not the tree, so that a diff shows the one change and keeps the comments around it.
"""

import ast
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from tornpage import ledger

_ROOT = Path(ledger.__file__).resolve().parents[1]


class Edit(NamedTuple):
    """One change: its node, the change in words, and the whole text with it."""

    node: ast.expr | ast.stmt
    description: str
    text: str


class Source:
    """One module of the ledger; `file` is its path from the project's root, with slashes."""

    def __init__(self, file: str, text: str | None = None) -> None:
        self.file = file
        self.text = text if text is not None else (_ROOT / file).read_text(encoding="utf-8")
        # The columns of a tree count bytes.
        self._lines = [line.encode() for line in self.text.splitlines(keepends=True)]

    @property
    def module(self) -> str:
        """The name to import it by."""
        return "tornpage." + self.file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed text."""
        return ast.parse(self.text)

    @cached_property
    def _parents(self) -> dict[ast.AST, ast.AST]:
        return {child: parent for parent in ast.walk(self.tree) for child in ast.iter_child_nodes(parent)}

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes that a node is in, the innermost first."""
        while (parent := self._parents.get(node)) is not None:
            yield parent
            node = parent

    def qualname(self, node: ast.AST) -> str:
        """The classes and functions around a node, with dots; ``module`` outside all of them."""
        named = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        places = [one.name for one in (node, *self.above(node)) if isinstance(one, named)]
        return ".".join(reversed(places)) or "module"

    def function_of(self, node: ast.AST) -> ast.FunctionDef | None:
        """The function that a node is in, the innermost; None outside any."""
        return next((one for one in self.above(node) if isinstance(one, ast.FunctionDef)), None)

    def nodes(self) -> Iterator[ast.expr | ast.stmt]:
        """All expressions and statements, in the order of the text."""
        found = [node for node in ast.walk(self.tree) if isinstance(node, ast.expr | ast.stmt)]
        return iter(sorted(found, key=lambda node: (node.lineno, node.col_offset)))

    def blocks(self) -> Iterator[list[ast.stmt]]:
        """Every list of statements that follow each other, in the order of the text."""
        for node in (self.tree, *self.nodes()):
            for name in ("body", "orelse", "finalbody"):
                block = getattr(node, name, None)
                if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
                    yield block

    def segment(self, node: ast.expr | ast.stmt) -> str:
        """The text of a node."""
        return self._from_bytes(*self._span(node))

    def with_text(self, node: ast.expr | ast.stmt, text: str) -> str:
        """The whole text with other text in a node's place."""
        start, end = self._span(node)
        whole = b"".join(self._lines)
        return (whole[:start] + text.encode() + whole[end:]).decode()

    def without(self, statement: ast.stmt) -> str:
        """The whole text with ``pass`` instead of a statement."""
        return self.with_text(statement, "pass")

    def with_moved(self, statement: ast.stmt, before: ast.stmt) -> str:
        """The whole text with one statement of a block moved to before an earlier one of the same block."""
        lines = list(self._lines)
        first, last = statement.lineno - 1, _last_line(statement)
        moved = lines[first:last]
        del lines[first:last]
        place = before.lineno - 1
        return b"".join([*lines[:place], *moved, *lines[place:]]).decode()

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        starts = [0]
        for line in self._lines:
            starts.append(starts[-1] + len(line))
        end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or node.col_offset
        return starts[node.lineno - 1] + node.col_offset, starts[end_line - 1] + end_column

    def _from_bytes(self, start: int, end: int) -> str:
        return b"".join(self._lines)[start:end].decode()


def _last_line(statement: ast.stmt) -> int:
    return statement.end_lineno or statement.lineno


def called(node: ast.AST | None) -> str:
    """The name of the function that a statement or an expression calls, without its object; empty for no call."""
    if isinstance(node, ast.Expr):
        node = node.value
    if not isinstance(node, ast.Call):
        return ""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def executed(node: ast.AST) -> str:
    """The SQL that a statement executes, if it is a literal; else empty."""
    if isinstance(node, ast.Expr) and called(node) == "execute" and isinstance(node.value, ast.Call):
        first = node.value.args[0] if node.value.args else None
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            return first.value
    return ""
