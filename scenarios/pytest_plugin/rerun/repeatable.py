"""Which statements may be executed a second time without doing more than the failed call would.

A statement with one call, or a chain such as ``db.execute(...).fetchone()``, is repeatable. A call among the arguments
of another, or beside it, may have had an effect when the other fails: ``todo.pop()`` in ``store.add(todo.pop())``.
Python's own functions without effects, and classes, are treated as harmless.

Not covered: an iterator that is passed by name and consumed by the first try.
"""

import ast
import itertools
from typing import Final

_HARMLESS: Final = frozenset({
    "abs", "all", "any", "bool", "bytes", "dict", "enumerate", "float", "frozenset", "getattr",
    "hasattr", "int", "isinstance", "len", "list", "max", "min", "nullcontext", "range", "repr", "reversed", "round",
    "set", "sorted", "str", "sum", "super", "tuple", "type", "zip",
})  # fmt: skip
# Functions that consume their argument: an iterator with a name has less afterwards.
_USING_UP: Final = frozenset({
    "all", "any", "bytes", "dict", "frozenset", "list", "max", "min", "set", "sorted", "sum", "tuple",
})  # fmt: skip
_FUNCTIONS: Final = (ast.Lambda, ast.FunctionDef, ast.AsyncFunctionDef)


def is_repeatable(statement: ast.AST) -> bool:
    """Whether a second execution only repeats the one call, or chain of calls, that may have failed."""
    nodes = _nodes(statement)
    if any(isinstance(node, ast.NamedExpr | ast.Yield | ast.YieldFrom) for node in nodes):
        return False
    if any(isinstance(node, ast.Await) and not isinstance(node.value, ast.Call) for node in nodes):
        return False
    calls = [node for node in nodes if isinstance(node, ast.Call) and _has_effect(node)]
    loops = [node for node in nodes if isinstance(node, ast.comprehension)]
    if calls and any(isinstance(loop.iter, ast.Name) for loop in loops):
        return False
    # In a chain the next call is a method of each call's result.
    return all(second in _nodes(first.func) for first, second in itertools.pairwise(calls))


def _nodes(top: ast.AST) -> list[ast.AST]:
    """All evaluated nodes, the outer before the inner; not the body of a function defined here."""
    found = [top]
    if not isinstance(top, _FUNCTIONS):
        for child in ast.iter_child_nodes(top):
            found += _nodes(child)
    return found


def _has_effect(call: ast.Call) -> bool:
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    inside = [*call.args, *(keyword.value for keyword in call.keywords)]
    if name[:1].isupper() or name in ("closing", "connect"):
        return any(isinstance(node, ast.Call) and _has_effect(node) for one in inside for node in _nodes(one))
    if name in _USING_UP and any(isinstance(one, ast.Name) for one in inside):
        return True
    return not (isinstance(call.func, ast.Name) and name in _HARMLESS)
