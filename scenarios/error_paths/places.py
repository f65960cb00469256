"""The error paths in a source: every handler, every ``finally``, every rollback, found in the syntax tree.

A place that no fault can reach says why, in a comment on its own line or the one above::

    except OSError:  # no fault: the directory was there a moment ago

and a whole file in a line of its own: ``# no fault in this file: it only reads arguments``. What is a rollback is told
by its name: a call of something called rollback or roll_back, or the SQL of a ROLLBACK.

Not found: ``__exit__`` methods and callbacks that only run after an error.
"""

import ast
import importlib.util
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

Kind = Literal["except", "finally", "rollback"]

_EXCUSE: Final = re.compile(r"#\s*no fault:\s*(\S.*)")
_FILE_EXCUSE: Final = re.compile(r"#\s*no fault in this file:\s*(\S.*)")
_ROLLBACK: Final = re.compile(r"roll_?back", re.IGNORECASE)
_ROLLBACK_SQL: Final = re.compile(r"\s*ROLLBACK(\s+(TRANSACTION|TO)\b.*)?;?\s*", re.IGNORECASE)


class SourceError(ValueError):
    """A package whose source can't be had: what was given, and what is wrong with it."""


class Place(msgspec.Struct, frozen=True):
    """One error path. It has run when `entry`, the line of its first statement, has.

    `rollbacks` are the lines of the rollbacks inside it; `excuse` says why no fault can reach it.
    """

    file: str
    function: str
    line: int
    kind: Kind
    what: str
    entry: int
    rollbacks: tuple[int, ...] = ()
    excuse: str = ""


def sources_of(package: str) -> dict[str, Path]:
    """The Python files of a package or module by the names that they have in a report; raises `SourceError`."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError, AttributeError) as error:
        raise SourceError(f"there is no package {package!r}: {error}") from error
    if spec is None:
        raise SourceError(f"there is no package {package!r} that can be imported from here")
    name = package.replace(".", "/")
    if spec.submodule_search_locations:
        found = {path: Path(place) for place in spec.submodule_search_locations for path in Path(place).rglob("*.py")}
        return {f"{name}/{path.relative_to(found[path]).as_posix()}": path for path in sorted(found)}
    if not spec.origin or not spec.origin.endswith(".py"):
        raise SourceError(f"{package!r} has no Python source")
    return {f"{name}.py": Path(spec.origin)}


def places_of(path: Path, name: str) -> list[Place]:
    """The error paths of one file, in its order; `name` is what the file is called in a report."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text, filename=str(path))
    except (OSError, SyntaxError, ValueError) as error:
        raise SourceError(f"{path} can't be read as Python: {error}") from error
    comments = _comments(text)
    whole = next((said[1] for comment in comments.values() if (said := _FILE_EXCUSE.search(comment))), "")

    def excuse(line: int) -> str:
        near = (comments.get(line, ""), comments.get(line - 1, ""))
        return next((said[1] for comment in near if (said := _EXCUSE.search(comment))), whole)

    found = [
        msgspec.structs.replace(place, file=name, excuse=excuse(place.line))
        for place in _Walk(text.splitlines()).places_in(tree, "")
    ]
    return sorted(found, key=lambda place: (place.line, place.kind, place.what))


def _comments(text: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}


class _Walk:
    """Walks the tree with the name of the function that it is in."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def places_in(self, node: ast.AST, function: str) -> Iterator[Place]:
        for child in ast.iter_child_nodes(node):
            inside = function
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inside = f"{function}.{child.name}" if function else child.name
            yield from self._here(child, inside)
            yield from self.places_in(child, inside)

    def _here(self, node: ast.AST, function: str) -> Iterator[Place]:
        if isinstance(node, ast.ExceptHandler):
            what = f"except {ast.unparse(node.type)}" if node.type else "except"
            yield Place("", function, node.lineno, "except", what, node.body[0].lineno, _rollbacks_in(node.body))
        elif isinstance(node, ast.Try | ast.TryStar) and node.finalbody:
            first = node.finalbody[0].lineno
            line = next(line for line in range(first, 0, -1) if self._lines[line - 1].lstrip().startswith("finally"))
            yield Place("", function, line, "finally", "finally", first, _rollbacks_in(node.finalbody))
        elif isinstance(node, ast.Call) and _is_rollback(node):
            yield Place("", function, node.lineno, "rollback", _shortly(node), node.lineno)


def _rollbacks_in(body: list[ast.stmt]) -> tuple[int, ...]:
    calls = (node for statement in body for node in ast.walk(statement) if isinstance(node, ast.Call))
    return tuple(sorted({call.lineno for call in calls if _is_rollback(call)}))


def _is_rollback(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if _ROLLBACK.search(name):
        return True
    texts = (argument.value for argument in call.args if isinstance(argument, ast.Constant))
    return any(isinstance(text, str) and _ROLLBACK_SQL.fullmatch(text) for text in texts)


def _shortly(call: ast.Call) -> str:
    text = " ".join(ast.unparse(call).split())
    return text if len(text) <= 60 else text[:59] + "…"
