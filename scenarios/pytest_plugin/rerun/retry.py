"""Retry: a test whose statements are executed again after a fault has surfaced in them.

Method. The source of the test function is parsed and each simple statement ``S`` of it (also inside ``with``, ``if``,
``for``, ``while``, ``try`` and ``match``) becomes::

    @faults_retry.begin()
    @again = False
    try:
        S
    except @faults_retry.errors:
        @again = True
    if @again:
        S

compiled under the original file and lines, with pytest's assertions. The head of a ``with``, ``if``, ``for`` or
``match`` is a separate statement. The second execution is outside the handler, so that its error is not chained to the
first one. Nested functions and classes are not changed.

A statement is repeated only if the fault made it raise, no transaction was open when it began (SQLite may have rolled
back what earlier statements did in it), and it can't have committed anything before. Asserts are statements like any
other: one that could not read is repeated. A statement with further effects, as in ``add(next(names))``, is not changed
(`scenarios.pytest_plugin.rerun.repeatable`).
"""

import __future__

import ast
import contextlib
import copy
import functools
import inspect
import linecache
import operator
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any, Final

import pytest

from tornpage.scenarios.pytest_plugin.rerun.connections import Connections
from tornpage.scenarios.pytest_plugin.rerun.repeatable import is_repeatable
from tornpage.scenarios.pytest_plugin.rerun.watchers import Commits

_HELPER: Final = "@faults_retry"
_AGAIN: Final = "@again"
_FUTURE: Final = functools.reduce(
    operator.or_, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)
_NOT_REPEATED: Final = (
    ast.Pass, ast.Break, ast.Continue, ast.Global, ast.Nonlocal, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef,
    ast.Raise,
)  # fmt: skip


class SourceError(Exception):
    """The test's source is missing, or is not the source of the test."""


class Repeats:
    """The object that the rewritten test asks, in one run, whether to execute a statement again."""

    def __init__(
        self,
        connections: Connections,
        commits: Commits,
        surfaced: Callable[[BaseException], bool],
        hidden: Callable[[BaseException], str],
    ) -> None:
        # The line of the repeated statement, its first error, and the message if that did not name the fault.
        self.line: int | None = None
        self.first = self.hidden = ""
        # Why the statement in which the fault surfaced was not repeated.
        self.refused = ""
        self._connections = connections
        self._commits = commits
        self._surfaced = surfaced
        self._hidden = hidden
        self._in_transaction = False

    def begin(self) -> None:
        """A statement begins."""
        self._commits.reset()
        self._in_transaction = bool(self._connections.in_transaction())

    @property
    def errors(self) -> tuple[type[BaseException], ...]:
        """The exceptions to catch from the statement that has just raised: all if it is to be repeated, else none."""
        error = sys.exc_info()[1]
        if error is None or self.line is not None or self.refused or not self._surfaced(error):
            return ()
        if self._in_transaction:
            self.refused = "a transaction was open before the statement"
        elif self._commits.may_have_committed:
            self.refused = "the statement may have committed something before"
        if self.refused:
            return ()
        trace = error.__traceback__
        self.line = trace.tb_lineno if trace is not None else 0
        self.first = f"{type(error).__name__}: {error}"
        self.hidden = self._hidden(error)
        return (BaseException,)


class Retrying:
    """A test function with its statements repeated; `in_force` exchanges its code inside a scope."""

    def __init__(self, function: Any, config: pytest.Config) -> None:
        inner: Any = inspect.unwrap(function)
        inner = getattr(inner, "__func__", inner)
        if not isinstance(inner, FunctionType):
            raise SourceError(f"{function!r} is not a function written in Python")
        self._function = inner
        self._code = _rewritten(inner, config)

    @property
    def code(self) -> CodeType:
        """The code with which the function runs in a scope."""
        return self._code

    @contextlib.contextmanager
    def in_force(self, repeats: Repeats) -> Iterator[None]:
        """Run the function so inside this scope."""
        function, names = self._function, self._function.__globals__
        code, function.__code__ = function.__code__, self._code
        names[_HELPER] = repeats
        try:
            yield
        finally:
            function.__code__ = code
            names.pop(_HELPER, None)


def _rewritten(function: FunctionType, config: pytest.Config) -> CodeType:
    code = function.__code__
    source = "".join(linecache.getlines(code.co_filename, function.__globals__))
    if not source:
        raise SourceError(f"the source of {function.__qualname__} is missing: {code.co_filename} can't be read")
    definition, owner = _find(ast.parse(source), code)
    if definition is None:
        raise SourceError(f"{function.__qualname__} is not at line {code.co_firstlineno} of {code.co_filename}")
    tree = _module(definition, owner, code)
    if "@pytest_ar" in function.__globals__:
        from _pytest.assertion.rewrite import rewrite_asserts  # noqa: PLC0415 - pytest's own, for its messages

        rewrite_asserts(tree, source.encode(), code.co_filename, config)
    flags = code.co_flags & _FUTURE
    whole = compile(tree, code.co_filename, "exec", flags=flags, dont_inherit=True)
    place = code.co_name, code.co_firstlineno
    found = next(one for one in _codes_of(whole) if (one.co_name, one.co_firstlineno) == place)
    if found.co_freevars != code.co_freevars:
        raise SourceError(f"{function.__qualname__} does not match its source: has the file been changed?")
    return found.replace(co_qualname=code.co_qualname)


def _find(tree: ast.Module, code: CodeType) -> tuple[ast.FunctionDef | ast.AsyncFunctionDef | None, str | None]:
    """The definition of the code, and the name of the class that contains it."""
    waiting: list[tuple[ast.AST, str | None]] = [(tree, None)]
    while waiting:
        node, owner = waiting.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and child.name == code.co_name:
                first = min([child.lineno, *(one.lineno for one in child.decorator_list)])
                if first == code.co_firstlineno:
                    return child, owner
            inner = child.name if isinstance(child, ast.ClassDef) else None
            waiting.append((child, inner))
    return None, None


def _module(definition: ast.FunctionDef | ast.AsyncFunctionDef, owner: str | None, code: CodeType) -> ast.Module:
    """A module in which the repeated definition has the same names around it as before."""
    definition = copy.deepcopy(definition)
    # The decorators stay, for the number of the first line. This module is never executed.
    definition.args.defaults = [ast.Constant(None) for _ in definition.args.defaults]
    definition.args.kw_defaults = [one and ast.Constant(None) for one in definition.args.kw_defaults]
    definition.body = _Repeater().block(definition.body)
    body: ast.stmt = definition
    if owner is not None:
        # For names that begin with two underscores, and for super().
        body = ast.ClassDef(owner, bases=[], keywords=[], body=[definition], decorator_list=[])
    around = [ast.arg(name) for name in code.co_freevars if name != "__class__"]
    no_arguments = ast.arguments(posonlyargs=[], args=around, kwonlyargs=[], kw_defaults=[], defaults=[])
    factory = ast.FunctionDef("@factory", no_arguments, [body], decorator_list=[])
    if sys.version_info >= (3, 12):
        factory.type_params = []
        if isinstance(body, ast.ClassDef):
            body.type_params = []
    return ast.fix_missing_locations(ast.Module([factory], type_ignores=[]))


def _codes_of(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes_of(constant)


class _Repeater:
    """Repeats the statements of blocks."""

    def __init__(self) -> None:
        self._names = 0

    def block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        """The statements of a block, each repeated."""
        return [made for statement in body for made in self._statement(statement)]

    def _statement(self, statement: ast.stmt) -> list[ast.stmt]:
        if isinstance(statement, _NOT_REPEATED) or _is_text(statement):
            return [statement]
        if isinstance(statement, ast.With):
            return self._with(statement)
        for field in ("body", "orelse", "finalbody"):
            if isinstance(getattr(statement, field, None), list):
                setattr(statement, field, self.block(getattr(statement, field)))
        for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
            part.body = self.block(part.body)
        if isinstance(statement, ast.If):
            return [*self._first(statement, "test"), statement]
        if isinstance(statement, ast.For):
            return [*self._first(statement, "iter"), statement]
        if isinstance(statement, ast.Match):
            return [*self._first(statement, "subject"), statement]
        return [statement] if hasattr(statement, "body") else _repeated(statement)

    def _with(self, statement: ast.With) -> list[ast.stmt]:
        """Each manager is created by a separate statement, inside those before it."""
        body = self.block(statement.body)
        for item in reversed(statement.items):
            first = self._first(item, "context_expr")
            inner = ast.copy_location(ast.With([item], body), statement)
            body = [*first, inner]
        return body

    def _first(self, owner: Any, field: str) -> list[ast.stmt]:
        """Evaluate an expression in a statement before its owner, which is left with the name."""
        expression = getattr(owner, field)
        self._names += 1
        name = f"@first{self._names}"
        assign = ast.copy_location(ast.Assign([ast.Name(name, ast.Store())], expression), expression)
        setattr(owner, field, ast.copy_location(ast.Name(name, ast.Load()), expression))
        return _repeated(ast.fix_missing_locations(assign))


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _repeated(statement: ast.stmt) -> list[ast.stmt]:
    """One simple statement, as the docstring of this module shows."""
    if not is_repeatable(statement):
        return [statement]
    helper = ast.Name(_HELPER, ast.Load())
    begin = ast.Expr(ast.Call(ast.Attribute(helper, "begin", ast.Load()), [], []))
    handler = ast.ExceptHandler(ast.Attribute(helper, "errors", ast.Load()), None, [_set_again(True)])  # noqa: FBT003
    made: list[ast.stmt] = [
        begin,
        _set_again(False),  # noqa: FBT003 - the value that is assigned
        ast.Try([statement], [handler], [], []),
        ast.If(ast.Name(_AGAIN, ast.Load()), [copy.deepcopy(statement)], []),
    ]
    for one in made:
        for node in ast.walk(one):
            if not hasattr(node, "lineno"):
                ast.copy_location(node, statement)
    return made


def _set_again(value: bool) -> ast.stmt:
    return ast.Assign([ast.Name(_AGAIN, ast.Store())], ast.Constant(value))
