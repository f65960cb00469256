"""Operators that weaken a condition: of SQLite's settings, of a statement's WHERE, of the code before a write."""

import ast
import re
from collections.abc import Iterator
from typing import Final

from tornpage.scenarios.selftest.mutants.source import Edit, Source, called

# A setting as it is written in the source, and its replacement.
_PRAGMAS: Final = (
    (r"BEGIN IMMEDIATE", "BEGIN"),
    (r"synchronous = (full|\{level\})", "synchronous = off"),
    (r"foreign_keys = ON", "foreign_keys = OFF"),
    (r"wal_autocheckpoint = \{_CHECKPOINT_PAGES\}", "wal_autocheckpoint = 0"),
    (r"busy_timeout = \{[^}]*\}", "busy_timeout = 0"),
    (r"ignore_check_constraints = OFF", "ignore_check_constraints = ON"),
    (r"integrity_check\(3\)", "quick_check(3)"),
)
_NUMBERS: Final = {"_EXTRA": "1", "_FULL": "1"}
_LEVELS: Final = {'"extra"': '"full"', '"full"': '"normal"'}
# A clause of a condition, as in the ledger's literals; its replacement is always true.
_CLAUSE: Final = re.compile(
    r"""(?:"\{?[\w.]+\}?"|\w+)\ (?:=|<|<>|>)\ (?:\?|'\w+'|\d+)  # "key" = ?, id = 1
    |\w+\ IS\ NOT\ NULL
    |\w+\ IN\ \((?!SELECT)[^)]*\)
    |\{_?\w+_SQL\}""",
    re.VERBOSE,
)
_IS_SQL: Final = re.compile(r"\b(WHERE|AND)\b|^\"?f?\"?\w+ (=|IN|IS) ")
_PERSISTING: Final = frozenset(
    {"_change_row", "_execute", "_persist", "_remove_imported", "abandon", "change", "clear", "commit", "delete",
     "discard_connection", "execute", "lay_fence", "move_to_failed", "revise", "save_snapshot", "unlink", "write",
     "write_end", "_create_private", "_update", "_settle", "_commit", "_load_or_refuse", "deliver", "settled",
     "committed", "_committed", "_adopt", "_restored", "_secure", "secure"}
)  # fmt: skip


def weaken_pragma(source: Source) -> Iterator[Edit]:
    """A setting promises less: syncing, waiting, checking, early locking."""
    for node, text in _texts(source):
        for pattern, weaker in _PRAGMAS:
            for match in re.finditer(pattern, text):
                changed = text[: match.start()] + weaker + text[match.end() :]
                yield Edit(node, f"{match.group()} becomes {weaker}", source.with_text(node, changed))
    for one in source.nodes():
        for value, weaker in _weaker_values(source, one):
            words = f"{source.segment(value)} becomes {weaker}"
            yield Edit(one, words, source.with_text(value, weaker))


def _weaker_values(source: Source, node: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    """The parts of a node that are settings in Python, each with a weaker one: how long to wait, which level."""
    if isinstance(node, ast.Call) and called(node) == "connect":
        yield from ((keyword.value, "0") for keyword in node.keywords if keyword.arg == "timeout")
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        weaker = _NUMBERS.get(source.segment(node.target))
        if weaker is not None and source.segment(node.value).isdigit():
            yield node.value, weaker
    elif isinstance(node, ast.Return) and isinstance(node.value, ast.IfExp):
        for value in (node.value.body, node.value.orelse):
            level = _LEVELS.get(source.segment(value))
            if level is not None:
                yield value, level


def drop_where_guard(source: Source) -> Iterator[Edit]:
    """One clause of an SQL condition is left out, or one check that prevents a write."""
    for node, text in _texts(source):
        if not _IS_SQL.search(text) or "CREATE " in text or not _may_lead_to_a_write(source, node):
            continue
        for match in _CLAUSE.finditer(text, text.find("WHERE") if "WHERE" in text else 0):
            # A bound parameter has to be named.
            anything = "(? IS NULL OR TRUE)" if "?" in match.group() else "TRUE"
            changed = text[: match.start()] + anything + text[match.end() :]
            yield Edit(node, f"without the condition {match.group()}", source.with_text(node, changed))
    for one in source.nodes():
        if isinstance(one, ast.If) and _guards_a_write(source, one):
            words = f"without the check {_short(source.segment(one.test))}"
            yield Edit(one, words, source.with_text(one.test, "False"))


def _texts(source: Source) -> Iterator[tuple[ast.expr, str]]:
    """The literals that are not docstrings, each with its source text."""
    for node in source.nodes():
        if not isinstance(node, ast.JoinedStr | ast.Constant):
            continue
        parent = next(source.above(node))
        if isinstance(parent, ast.JoinedStr | ast.Expr | ast.FormattedValue):
            continue
        if isinstance(node, ast.JoinedStr) or isinstance(node.value, str):
            yield node, source.segment(node)


def _may_lead_to_a_write(source: Source, node: ast.expr) -> bool:
    """Whether it is not a condition of a mere read: it is a statement itself, or among transactions."""
    function = source.function_of(node)
    return (
        function is None
        or function.name == "__init__"
        or "transaction" in source.segment(function)
        or "UPDATE " in source.segment(node)
    )


def _guards_a_write(source: Source, node: ast.If) -> bool:
    """Whether it leaves the function, or the turn of a loop, before something is written there."""
    function = source.function_of(node)
    if function is None or node.orelse or not isinstance(node.body[-1], ast.Raise | ast.Return | ast.Continue):
        return False
    return any(
        called(later) in _PERSISTING and later.lineno > (node.end_lineno or 0)
        for later in ast.walk(function)
        if isinstance(later, ast.Call)
    )


def _short(text: str) -> str:
    return " ".join(text.split())
