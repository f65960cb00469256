"""Statements that are executed once more: the rewriting of a test function, statement by statement."""

import asyncio
import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any

import pytest

from tornpage.scenarios.pytest_plugin.rerun.retry import Retrying, SourceError

# What the functions below tell: they are rewritten in this very module.
TOLD: list[object] = []


class FaultError(Exception):
    """What a statement raises the first time."""


class Once:
    """In the place of `Repeats`: the first error that is a `FaultError` is met by repeating the statement."""

    def __init__(self) -> None:
        self.begun = 0
        self.line: int | None = None

    def begin(self) -> None:
        self.begun += 1

    @property
    def errors(self) -> tuple[type[BaseException], ...]:
        error = sys.exc_info()[1]
        if self.line is not None or not isinstance(error, FaultError) or error.__traceback__ is None:
            return ()
        self.line = error.__traceback__.tb_lineno
        return (BaseException,)


def fails_on(number: int) -> Callable[..., Any]:
    """A function that tells of each call, and raises at the `number`-th."""
    calls = 0

    def step(value: object = None) -> Any:
        nonlocal calls
        calls += 1
        TOLD.append(value)
        if calls == number:
            raise FaultError(value)
        return value

    return step


@pytest.fixture
def retried(pytestconfig: pytest.Config) -> Callable[..., tuple[list[object], Once]]:
    """Runs a function with its statements repeated; what was told, and the helper."""

    def run(function: Callable[..., Any], *arguments: object) -> tuple[list[object], Once]:
        TOLD.clear()
        once = Once()
        with Retrying(function, pytestconfig).in_force(once):  # type: ignore[arg-type]
            function(*arguments)
        return list(TOLD), once

    return run


Retried = Callable[..., tuple[list[object], Once]]


def in_a_row(step: Callable[..., Any]) -> None:
    """A docstring is no statement."""
    step("a")
    x = step("b")
    x += step("c")
    assert step("d") == "d"
    TOLD.append(x)


@pytest.mark.parametrize("number", range(1, 5))
def test_the_statement_that_failed_is_executed_once_more_and_the_others_once(retried: Retried, number: int) -> None:
    told, once = retried(in_a_row, fails_on(number))
    expected = ["a", "b", "c", "d"]
    expected.insert(number, expected[number - 1])
    assert told == [*expected, "bc"]
    assert once.begun == 5
    assert once.line == in_a_row.__code__.co_firstlineno + 1 + number


def test_without_a_fault_nothing_is_repeated(retried: Retried) -> None:
    assert retried(in_a_row, fails_on(9)) [0] == ["a", "b", "c", "d", "bc"]  # fmt: skip


@contextmanager
def scope(step: Callable[..., Any], name: str) -> Iterator[str]:
    TOLD.append(f"enter {name}")
    yield step(name)
    TOLD.append(f"exit {name}")


def in_blocks(step: Callable[..., Any], kind: str) -> Any:
    if step("if") == "no":
        return None
    elif step("elif"):  # noqa: RET505 - it is what is tried
        TOLD.append(kind)
    for one in step("for"):
        while True:
            if one == "o":
                break
            step(f"while {one}")
            break
        else:
            continue
        try:
            step(f"try {one}")
        except KeyError:
            TOLD.append("never")
        else:
            step(f"else {one}")
        finally:
            step(f"finally {one}")
    match step("match"):
        case "match":
            step("case")
    with scope(fails_on(0), "one") as a, scope(fails_on(0), a + "two") as b:
        step(b)
    return step("return")


def test_statements_inside_of_others_are_repeated_too(retried: Retried) -> None:
    without, _ = retried(in_blocks, fails_on(0), "kind")
    steps = [one for one in without if one != "kind" and not str(one).startswith(("enter", "exit")) and one != "one"]
    assert len(steps) > 15
    for number in range(1, 16):
        told, once = retried(in_blocks, fails_on(number), "kind")
        assert once.line is not None
        assert len(told) == len(without) + 1
        # One is there twice in a row; without it everything is as it was.
        [twice] = [index for index in range(len(without)) if told[: index + 1] + told[index + 2 :] == without
                   and told[index] == told[index + 1]][:1]  # fmt: skip
        assert told[twice] == told[twice + 1]


def enters(step: Callable[..., Any]) -> None:
    with scope(step, "one"):
        TOLD.append("inside")


def test_what_fails_on_entering_is_not_repeated(retried: Retried) -> None:
    # The manager was made by then, and has begun: nobody can say what doing it again would mean.
    with pytest.raises(FaultError):
        retried(enters, fails_on(1))


def step(told: list[object]) -> None:
    told.append(1)
    raise FaultError if len(told) == 1 else KeyError(len(told))


def test_the_second_failure_is_not_told_as_a_consequence_of_the_first(retried: Retried) -> None:
    def body() -> None:
        step(TOLD)

    with pytest.raises(KeyError) as raised:
        retried(body)
    assert raised.value.__context__ is None
    assert raised.traceback[-2].lineno + 1 == body.__code__.co_firstlineno + 1


def test_other_errors_are_not_repeated(retried: Retried) -> None:
    def body() -> None:
        TOLD.append(1)
        raise KeyError

    with pytest.raises(KeyError):
        retried(body)
    assert TOLD == [1]


def test_closures_decorators_and_defaults_stay(retried: Retried) -> None:
    step, outer = fails_on(1), "outer"

    def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*arguments: object) -> None:
            TOLD.append("wrapper")
            function(*arguments)

        return wrapper

    @decorated
    def body(inner: str = "inner") -> None:
        step(outer + inner)
        inner = next(step(one) for one in inner)
        TOLD.append(inner)

    assert retried(body)[0][:3] == ["wrapper", "outerinner", "outerinner"]
    assert TOLD[-1] == "i"


class Base:
    def hello(self) -> str:
        return "hello"


class Derived(Base):
    __word = "private"

    def body(self, step: Callable[..., Any]) -> None:
        hello = super().hello()
        step(hello + self.__word)


def test_methods_keep_super_and_private_names(retried: Retried) -> None:
    assert retried(Derived().body, fails_on(1))[0] == ["helloprivate"] * 2


def test_an_async_test_is_rewritten_too(pytestconfig: pytest.Config) -> None:
    async def body(step: Callable[..., Any]) -> None:
        async def later() -> None:
            step("later")

        await later()

    TOLD.clear()
    with Retrying(body, pytestconfig).in_force(Once()):  # type: ignore[arg-type]
        asyncio.run(body(fails_on(1)))
    assert TOLD == ["later", "later"]


def test_a_failing_assertion_tells_as_much_as_ever(retried: Retried) -> None:
    def body() -> None:
        assert fails_on(1)([1, 2]) == [1, 3]

    with pytest.raises(FaultError):
        # The function that fails is made anew each time, and so fails again.
        retried(body)

    def other() -> None:
        x = [1, 2]
        assert x == [1, 3]

    with pytest.raises(AssertionError, match=r"At index 1 diff: 2 != 3"):
        retried(other)


def test_the_function_is_as_it_was_afterwards(retried: Retried) -> None:
    before = in_a_row.__code__
    retried(in_a_row, fails_on(0))
    assert in_a_row.__code__ is before
    assert "@faults_retry" not in globals()


def test_a_function_without_source_is_told(pytestconfig: pytest.Config) -> None:
    made = ModuleType("made")
    # Not "<string>": Python 3.13 knows the source of its own -c by that name.
    exec(compile("def body():\n    pass\n", "<made up>", "exec"), vars(made))  # noqa: S102 - a function without a file
    with pytest.raises(SourceError, match="the source of body is missing: <made up> can't be read"):
        Retrying(made.body, pytestconfig)
    with pytest.raises(SourceError, match="not a function written in Python"):
        Retrying(len, pytestconfig)


def test_a_file_that_has_changed_is_told(pytestconfig: pytest.Config) -> None:
    moved = FunctionType(in_a_row.__code__.replace(co_firstlineno=1), globals())
    with pytest.raises(SourceError, match="in_a_row is not at line 1 of"):
        Retrying(moved, pytestconfig)
