"""The error paths in a source: every handler, every ``finally``, every rollback, found in the syntax tree.

For a place that no fault can reach, a comment gives the reason, on its own line or alone on the line above::

    except OSError: # no fault: the directory was there a moment ago

and for a whole file, a line such as ``# no fault in this file: it only reads arguments``. Places inside a handler with
a reason share it. A rollback is recognised by its name: a call of rollback or roll_back, or the SQL of a ROLLBACK.

Not found: ``__exit__`` methods and callbacks that only run after an error.
"""

import ast
import importlib.util
import io
import itertools
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

Kind = Literal["except", "finally", "rollback"]

_EXCUSE: Final = re.compile(r"#\s*no fault:\s*(\S.*)")
_FILE_EXCUSE: Final = re.compile(r"#\s*no fault in this file:\s*(\S.*)")
_FINALLY: Final = re.compile(r"\s*finally\s*[:\\]")
_ROLLBACK: Final = re.compile(r"roll_?back", re.IGNORECASE)
_ROLLBACK_SQL: Final = re.compile(r"\s*ROLLBACK(\s+(TRANSACTION|TO)\b.*)?;?\s*", re.IGNORECASE)


class SourceError(ValueError):
    """A package without accessible source: the given name, and the error."""


class Place(msgspec.Struct, frozen=True):
    """One error path. It has run if any line in `spans` has; `entry` is the line of its first statement.

    `spans` are first and last lines: its body without those of the functions, classes and lambdas in it, which run at
    another time. `rollbacks` are the lines of the rollbacks inside it; `excuse` is the reason why no fault can reach
    it. It is `undecided` if its body begins on a line that runs without it, as in ``except KeyError: raise``.
    """

    file: str
    function: str
    line: int
    kind: Kind
    what: str
    entry: int
    rollbacks: tuple[int, ...] = ()
    excuse: str = ""
    spans: tuple[tuple[int, int], ...] = ()
    undecided: bool = False

    @property
    def lines(self) -> Iterator[int]:
        """The lines any of which shows that it has run."""
        spans = self.spans or ((self.entry, self.entry),)
        return itertools.chain.from_iterable(range(first, last + 1) for first, last in spans)


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
    """The error paths of one file, in its order; `name` is the file's name in a report."""
    try:
        with tokenize.open(path) as file:
            text = file.read()
        tree = ast.parse(text, filename=str(path))
    except (OSError, SyntaxError, ValueError) as error:
        raise SourceError(f"{path} can't be read as Python: {error}") from error
    # Not splitlines(): a form feed ends no line of Python.
    lines = text.split("\n")
    comments = _comments(text)
    whole = next((said[1] for comment in comments.values() if (said := _FILE_EXCUSE.search(comment))), "")

    def excuse(line: int) -> str:
        alone = line > 1 and lines[line - 2].lstrip().startswith("#")
        near = (comments.get(line, ""), comments.get(line - 1, "") if alone else "")
        return next((said[1] for comment in near if (said := _EXCUSE.search(comment))), "")

    found = [
        msgspec.structs.replace(place, file=name, excuse=excuse(place.line))
        for place in _Walk(tree, lines).places_in(tree, "")
    ]
    return sorted(_shared(found, whole), key=lambda place: (place.line, place.kind, place.what))


def _shared(found: list[Place], whole: str) -> Iterator[Place]:
    """A place without its own reason gets that of the place around it, or else that of the whole file."""
    for place in found:
        around = (outer.excuse for outer in found if outer.excuse and place.line in outer.lines)
        yield msgspec.structs.replace(place, excuse=place.excuse or next(around, whole))


def _comments(text: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}


class _Walk:
    """Walks the tree with the name of the function that it is in."""

    def __init__(self, tree: ast.AST, lines: list[str]) -> None:
        self._lines = lines
        self._shared_lines = {
            block[0].lineno for node in ast.walk(tree) for block in _conditional(node) if self._follows(block[0])
        }

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
            yield self._block(function, node.lineno, "except", what, node.body)
        elif isinstance(node, ast.Try | ast.TryStar) and node.finalbody:
            first = node.finalbody[0].lineno
            line = next(line for line in range(first, 0, -1) if _FINALLY.match(self._lines[line - 1]))
            yield self._block(function, line, "finally", "finally", node.finalbody)
        elif isinstance(node, ast.Call) and _is_rollback(node):
            line = node.lineno
            undecided = line in self._shared_lines
            yield Place("", function, line, "rollback", _shortly(node), line, undecided=undecided)

    def _block(self, function: str, line: int, kind: Kind, what: str, body: list[ast.stmt]) -> Place:
        entry, rollbacks = body[0].lineno, _rollbacks_in(body)
        undecided = self._follows(body[0])
        return Place("", function, line, kind, what, entry, rollbacks, spans=_spans_of(body), undecided=undecided)

    def _follows(self, statement: ast.stmt) -> bool:
        """Whether a statement's line begins with something else; offsets are in bytes."""
        return bool(self._lines[statement.lineno - 1].encode()[: statement.col_offset].strip())


def _conditional(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """The blocks of a node whose first line, if they begin there, also runs without them."""
    if not isinstance(node, ast.Module | ast.Try | ast.TryStar | ast.With | ast.AsyncWith):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            yield body
    if final := getattr(node, "finalbody", None):
        yield final


def _spans_of(body: list[ast.stmt]) -> tuple[tuple[int, int], ...]:
    """The first and last lines of a body, without the functions, classes and lambdas in it."""
    lines = set(range(body[0].lineno, (body[-1].end_lineno or body[-1].lineno) + 1))
    for node in (inner for statement in body for inner in ast.walk(statement)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            inside = node.body if isinstance(node, ast.Lambda) else node.body[0]
            lines -= set(range(max(inside.lineno, node.lineno + 1), (node.end_lineno or node.lineno) + 1))
    firsts = sorted(line for line in lines if line - 1 not in lines)
    lasts = sorted(line for line in lines if line + 1 not in lines)
    return tuple(zip(firsts, lasts, strict=True))


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
