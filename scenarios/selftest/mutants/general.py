"""General mutants: the small mistakes of any program, over all of the ledger.

Comparisons and their boundaries, constants, return values, dropped calls, swapped arguments, removed guards. Texts for
people are not mutated: docstrings, messages, log lines, help texts.

Why not a library: mutmut and cosmic-ray run a test suite on each mutant and use its exit code as the verdict. Here the
harness is measured: a mutant has to be in place before any module of the ledger is loaded, in a process that reports
which check has detected it, and several run at a time in one checkout. mutmut 3 writes all mutants of a function into
one file and switches between them at each call, which changes the stack and the lines that a finding names; cosmic-ray
changes the files of its checkout in place. The operators, which both have, are the small part.
"""

import ast
import random
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final, TypeVar

from tornpage import ledger
from tornpage.scenarios.selftest.mutants.catalogue import Mutant, edits_as_mutants
from tornpage.scenarios.selftest.mutants.source import Edit, Source, called

_COMPARISONS: Final[Mapping[type[ast.cmpop], tuple[str, str]]] = {
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="), ast.Is: ("is", "is not"), ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"), ast.NotIn: ("not in", "in"),
}  # fmt: skip
_FOR_PEOPLE: Final = frozenset({
    "debug", "info", "warning", "error", "exception", "echo", "option", "argument", "command", "group", "Choice",
    "ClickException", "fail", "getLogger", "TypeVar", "compile",
})  # fmt: skip
_TWO: Final = 2
_Node = TypeVar("_Node", bound=ast.expr | ast.stmt)


def comparison(source: Source) -> Iterator[Edit]:
    """A comparison with its boundary moved, or inverted."""
    for node in _code(source, ast.Compare):
        known = _COMPARISONS.get(type(node.ops[0])) if len(node.ops) == 1 else None
        if known is not None:
            left, right = source.segment(node.left), source.segment(node.comparators[0])
            text = f"{left} {known[1]} {right}"
            yield Edit(node, f"{known[0]} becomes {known[1]}", source.with_text(node, text))


def constant(source: Source) -> Iterator[Edit]:
    """A number plus one, the other truth value, another text."""
    for node in _code(source, ast.Constant):
        value = node.value
        if isinstance(value, bool):
            yield Edit(node, f"{value} becomes {not value}", source.with_text(node, str(not value)))
        elif isinstance(value, int):
            yield Edit(node, f"{value} becomes {value + 1}", source.with_text(node, str(value + 1)))
        elif isinstance(value, str) and value and _is_plain_text(source, node):
            yield Edit(node, f"{value!r} becomes another", source.with_text(node, repr(f"{value}_")))


def returned(source: Source) -> Iterator[Edit]:
    """Nothing is returned, or, of two truth values, the other one."""
    for node in _code(source, ast.Return):
        if node.value is None or (isinstance(node.value, ast.Constant) and node.value.value is None):
            continue
        function = source.function_of(node)
        text = source.segment(node.value)
        is_truth = function is not None and isinstance(function.returns, ast.Name) and function.returns.id == "bool"
        wanted = f"not ({text})" if is_truth else "None"
        yield Edit(node, f"returns {wanted}", source.with_text(node.value, wanted))


def dropped_call(source: Source) -> Iterator[Edit]:
    """A call made for its effect is dropped."""
    for node in _code(source, ast.Expr):
        if isinstance(node.value, ast.Call) and called(node) not in _FOR_PEOPLE:
            yield Edit(node, f"{called(node)}() is not called", source.without(node))


def swapped_arguments(source: Source) -> Iterator[Edit]:
    """The first two arguments of a call have changed places."""
    for node in _code(source, ast.Call):
        if len(node.args) >= _TWO and not any(isinstance(one, ast.Starred) for one in node.args[:_TWO]):
            first, second = map(source.segment, node.args[:_TWO])
            inner = source.segment(node)
            name = source.segment(node.func)
            rest = [source.segment(one) for one in node.args[_TWO:]]
            rest += [f"{one.arg}={source.segment(one.value)}" if one.arg else f"**{source.segment(one.value)}"
                     for one in node.keywords]  # fmt: skip
            if first != second and "\n" not in inner:
                text = f"{name}({', '.join([second, first, *rest])})"
                yield Edit(node, f"{called(node)}: two arguments are swapped", source.with_text(node, text))


def removed_guard(source: Source) -> Iterator[Edit]:
    """A guard that refuses, returns early or continues is removed."""
    for node in _code(source, ast.If):
        if not node.orelse and isinstance(node.body[-1], ast.Raise | ast.Return | ast.Continue):
            yield Edit(node, f"no guard: {source.segment(node.test)[:60]}", source.without(node))


def logic(source: Source) -> Iterator[Edit]:
    """``and`` for ``or``, a removed negation, minus for plus."""
    for node in _code(source, ast.BoolOp):
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        text = f" {new} ".join(f"({source.segment(one)})" for one in node.values)
        yield Edit(node, f"{old} becomes {new}", source.with_text(node, f"({text})"))
    for unary in _code(source, ast.UnaryOp):
        if isinstance(unary.op, ast.Not):
            yield Edit(unary, "not is gone", source.with_text(unary, f"({source.segment(unary.operand)})"))
    for sum_ in _code(source, ast.BinOp):
        if isinstance(sum_.op, ast.Add | ast.Sub) and not _has_text(sum_):
            sign = "-" if isinstance(sum_.op, ast.Add) else "+"
            text = f"{source.segment(sum_.left)} {sign} {source.segment(sum_.right)}"
            yield Edit(sum_, f"the sign becomes {sign}", source.with_text(sum_, text))


OPERATORS: Final[Mapping[str, Callable[[Source], Iterator[Edit]]]] = {
    "comparison": comparison,
    "constant": constant,
    "returned": returned,
    "dropped-call": dropped_call,
    "swapped-arguments": swapped_arguments,
    "removed-guard": removed_guard,
    "logic": logic,
}


def files() -> tuple[str, ...]:
    """Every file of the ledger."""
    root = Path(ledger.__file__).parent
    found = (path.relative_to(root).as_posix() for path in root.rglob("*.py") if path.name != "__init__.py")
    return tuple(sorted(f"ledger/{name}" for name in found))


@cache
def general_mutants() -> Mapping[str, Mutant]:
    """Every general mutant by its id."""
    return {one.id: one for file in files() for one in edits_as_mutants(Source(file), OPERATORS) if _compiles(one)}


def is_general(name: str) -> bool:
    """Whether this is the id of a general mutant."""
    return name.partition(":")[0] in OPERATORS and name in general_mutants()


def sample(many: int, seed: int) -> list[Mutant]:
    """So many of them, by seed."""
    known = list(general_mutants().values())
    return random.Random(seed).sample(known, min(many, len(known)))  # noqa: S311 - the same seed gives the same sample


def _compiles(mutant: Mutant) -> bool:
    try:
        compile(mutant.text, mutant.file, "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


def _code(source: Source, kind: type[_Node]) -> Iterator[_Node]:
    """The nodes of a kind that run and are not for people: no annotation, no message, no text of a type."""
    for node in source.nodes():
        if isinstance(node, kind) and not _is_for_people(source, node):
            yield node


def _is_for_people(source: Source, node: ast.AST) -> bool:
    child = node
    for parent in source.above(node):
        if isinstance(parent, ast.Raise | ast.JoinedStr | ast.FormattedValue):
            return True
        if isinstance(parent, ast.arg | ast.AnnAssign) and child is parent.annotation:
            return True
        if isinstance(parent, ast.FunctionDef) and (
            parent.name == "__repr__" or child is parent.returns or child in parent.decorator_list
        ):
            return True
        if isinstance(parent, ast.Call) and called(parent) in _FOR_PEOPLE:
            return True
        if isinstance(parent, ast.If) and "TYPE_CHECKING" in ast.dump(parent.test):
            return True
        child = parent
    return False


def _is_plain_text(source: Source, node: ast.Constant) -> bool:
    """Whether a text is a value of the program: short, in one word, and neither a docstring nor SQL."""
    text = str(node.value)
    parent = next(iter(source.above(node)), None)
    return (
        not isinstance(parent, ast.Expr)
        and " " not in text
        and len(text) < 40
        and source.file != "ledger/disk/schema.py"
    )


def _has_text(node: ast.BinOp) -> bool:
    return any(
        isinstance(one, ast.JoinedStr | ast.List | ast.Tuple)
        or (isinstance(one, ast.Constant) and isinstance(one.value, str))
        for one in (node.left, node.right)
    )
