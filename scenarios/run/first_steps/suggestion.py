"""What to do next in a project: its own stores, tests and targets, found in its files without importing any of them.

Method. Python files below the directory are read, a bounded number of them, and those that name a library of SQLite are
parsed: a class that opens a connection is a store, and so are the functions of a module if one of them does; a test
file that imports such a module can have a marker, a class based on a target is a target. Not covered: stores in other
languages, and those that open SQLite through another package.
"""

import ast
import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

_MOST_FILES: Final = 2_000
_LARGEST_BYTES: Final = 500_000
_NOT_OURS: Final = frozenset(("node_modules", "site-packages", "build", "dist", "venv", "env", "__pycache__"))
_SQLITE: Final = re.compile(
    r"^\s*(?:from\s+|import\s+(?:[\w.]+\s*,\s*)*)(sqlite3|apsw|pysqlite3|sqlean|aiosqlite|sqlite_utils|sqlalchemy|peewee|sqlmodel|dataset)\b",
    re.MULTILINE,
)
_HAS_A_TARGET: Final = "Target)"
_MARKERS: Final = re.compile(r"\bmark\.(?:every_fault|with_faults|every_cancel|interleave)\b")
_OPENS: Final = re.compile(r"\b(?:connect|Connection|create_engine|create_async_engine|SqliteDatabase|Database)\(")


class Place(msgspec.Struct, frozen=True):
    """A class or a test of the project: its module as imported, its name, and its first line.

    `is_marked`: a test has one of our markers.
    """

    module: str
    name: str
    file: str
    line: int
    is_marked: bool = False


class Found(msgspec.Struct):
    """The stores, tests and targets of a project."""

    stores: list[Place]
    tests: list[Place]
    targets: list[Place]
    # The modules whose plain functions open a connection, without a name.
    functions: list[Place]


def look(directory: Path) -> Found:
    """Find them in the files below a directory; of the tests only the first."""
    found = Found([], [], [], [])
    tests = []
    for path, text in _texts(directory):
        is_test = path.name.startswith("test_") or path.name.endswith("_test.py")
        if is_test:
            tests.append((path, text))
        opens = not is_test and bool(_SQLITE.search(text) and _OPENS.search(text))
        for node in _parsed(text) if opens or _HAS_A_TARGET in text else ():
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith("Target") for base in node.bases):
                found.targets.append(_place(directory, path, node.name, node.lineno))
            elif isinstance(node, ast.ClassDef) and opens and _opens(text, node):
                found.stores.append(_place(directory, path, node.name, node.lineno))
            elif isinstance(node, ast.FunctionDef) and opens and _opens(text, node):
                found.functions.append(_place(directory, path, "", node.lineno))
    modules = {place.module.rpartition(".")[2] for place in (*found.stores, *found.functions)}
    names = [_SQLITE, *(re.compile(rf"\b{re.escape(name)}\b") for name in modules)]
    for path, text in tests:
        of_file = _tests(text) if any(name.search(text) for name in names) else []
        if of_file:
            first = min(of_file, key=lambda node: not _is_marked(node))
            place = _place(directory, path, first.name, first.lineno)
            found.tests.append(msgspec.structs.replace(place, is_marked=_is_marked(first)))
            break
    return found


def next_steps(directory: Path) -> list[str]:
    """Lines for a user who runs the bare command; empty if there is nothing to suggest."""
    found = look(directory)
    lines: list[str] = []
    if found.targets:
        one = found.targets[0]
        lines += [f"{one.file} has a target:", f"  tornpage check --target {one.module}:{one.name}"]
    elif found.stores:
        one = found.stores[0]
        lines += [
            f"{one.name} in {one.file} keeps something in SQLite. A first target for it, ready to be swept:",
            f"  tornpage new target --from {one.module}:{one.name}",
        ]
    elif found.functions:
        one = found.functions[0]
        lines += [
            f"The functions of {one.file} keep something in SQLite. A first target for them, ready to be swept:",
            f"  tornpage new target --from {one.module}",
        ]
    if found.tests and (found.stores or found.targets or found.functions):
        test = found.tests[0]
        if test.is_marked:
            lines += [f"Or the test that is marked already:  pytest {test.file}"]
        else:
            lines += [
                f"Or fail every operation below an existing test: put this above {test.name}",
                f"({test.file}:{test.line})",
                "  @pytest.mark.every_fault(retry=True)",
                f"and run  pytest {test.file}",
            ]
    if (record := directory / ".tornpage/run.json").is_file():
        lines += [f"The last run as a page: tornpage report html {record.relative_to(directory)}"]
    return lines


def _texts(directory: Path) -> Iterator[tuple[Path, str]]:
    for path in _files(directory):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if path.stat().st_size <= _LARGEST_BYTES:
                yield path, path.read_text(encoding="utf-8")


def _parsed(text: str) -> list[ast.stmt]:
    try:
        return ast.parse(text).body
    except (SyntaxError, ValueError):
        return []


def _files(directory: Path) -> Iterator[Path]:
    left = _MOST_FILES
    for folder, folders, names in os.walk(directory):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _NOT_OURS)
        for name in sorted(names):
            if name.endswith(".py"):
                left -= 1
                yield Path(folder, name)
            if left <= 0:
                return


def _opens(text: str, node: ast.ClassDef | ast.FunctionDef) -> bool:
    return bool(_OPENS.search("\n".join(text.split("\n")[node.lineno - 1 : node.end_lineno])))


def _tests(text: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    functions = (node for node in _parsed(text) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
    return [node for node in functions if node.name.startswith("test")]


def _is_marked(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(_MARKERS.search(ast.unparse(one)) for one in node.decorator_list)


def _place(directory: Path, path: Path, name: str, line: int) -> Place:
    relative = path.relative_to(directory)
    parts = list(relative.with_suffix("").parts)
    if parts[:1] == ["src"]:
        parts = parts[1:]
    return Place(".".join(part for part in parts if part != "__init__"), name, str(relative), line)
