"""Adapters for other pytest plugins, which treat a test as one run, although a sweep is many.

Each is detected by the attributes it leaves on the test; none is imported:

- pytest-timeout and pytest's own ``faulthandler_timeout`` have one timer for a test. It is restarted for each run.
- ``subtests`` (pytest's, and pytest-subtests) and ``unittest``'s ``subTest`` catch the errors of a subtest. In a sweep
  they pass them on: the first subtest that fails ends the run, like a failing statement.
- pytest-benchmark calls its function as often as it takes to measure it. In a sweep it is called once, unmeasured.
- Django's test cases flush the database before and after the test, as part of its call. That is not faulted.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from tornpage import faults

_timeout = pytest.StashKey[Any]()
_DJANGO: Final = "django.test.testcases"
_USE: Final = "Use TransactionTestCase or @pytest.mark.django_db(transaction=True)"


def remember_timeout(item: pytest.Item, settings: Any) -> None:
    """pytest-timeout has set a timer for a whole test."""
    if not getattr(settings, "func_only", False):
        item.stash[_timeout] = settings


@contextlib.contextmanager
def timers_of(item: pytest.Item) -> Iterator[None]:
    """Restart the timers for the run inside this scope."""
    settings = item.stash.get(_timeout, None)
    hook: Any = item.ihook
    if settings is not None:
        hook.pytest_timeout_cancel_timer(item=item)
        hook.pytest_timeout_set_timer(item=item, settings=settings)
    _dump_later(item.config)
    try:
        yield
    finally:
        if settings is not None:
            hook.pytest_timeout_cancel_timer(item=item)


def is_timeout(error: BaseException) -> bool:
    """Whether this is how pytest-timeout ends a test."""
    trace = error.__traceback__
    while isinstance(error, pytest.fail.Exception) and trace is not None:
        if trace.tb_frame.f_globals.get("__name__") == "pytest_timeout":
            return True
        trace = trace.tb_next
    return False


def _dump_later(config: pytest.Config) -> None:
    """Restart the timer of ``faulthandler_timeout``."""
    seconds = float(_setting(config, "faulthandler_timeout") or 0.0)
    if not seconds:
        return
    with contextlib.suppress(ImportError, KeyError):
        import faulthandler  # noqa: PLC0415 - only where it is used

        from _pytest.faulthandler import fault_handler_stderr_fd_key  # noqa: PLC0415 - as above

        ends = bool(_setting(config, "faulthandler_exit_on_timeout"))
        faulthandler.dump_traceback_later(seconds, file=config.stash[fault_handler_stderr_fd_key], exit=ends)


def _setting(config: pytest.Config, name: str) -> Any:
    """A setting of pytest's own, None if this version does not have it."""
    try:
        return config.getini(name)
    except (ValueError, KeyError):
        return None


def make_ready(item: Any, shim: faults.Shims) -> None:
    """Between the setup and the call of a run: let the plugins on this test pass faults on."""
    values = getattr(item, "funcargs", None) or {}
    if hasattr(values.get("subtests"), "test"):
        values["subtests"].test = _transparent
    if hasattr(values.get("benchmark"), "disabled"):
        values["benchmark"].disabled = True
    owner, case = getattr(item, "cls", None), getattr(item, "instance", None)
    if case is None or not hasattr(case, "subTest"):
        return
    case.subTest = _transparent
    django = sys.modules.get(_DJANGO)
    if django is not None and owner is not None and issubclass(owner, django.SimpleTestCase):
        for name in ("_pre_setup", "_post_teardown"):
            setattr(case, name, _spared(getattr(case, name), shim))


def _transparent(_message: Any = None, **_parameters: Any) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def _spared(function: Callable[[], Any], shim: faults.Shims) -> Callable[[], Any]:
    """The function, with no fault in force while it runs."""

    def spared() -> Any:
        with shim.sparing():
            return function()

    return spared


def why_not(item: pytest.Item) -> str:
    """Why every_fault can't judge a test because of another plugin, "" if it can."""
    if not is_in_a_transaction(item):
        return ""
    return (
        "every_fault can't judge a test that Django wraps in a transaction (TestCase, django_db): SQLite "
        "rolls it back completely under a full disk or an I/O error, so the code under test behaves differently from "
        f"production. {_USE}"
    )


def why_not_switched(item: pytest.Item) -> str:
    """Why a test can't be switched or cut short because of another plugin, "" if it can."""
    if not is_in_a_transaction(item):
        return ""
    return (
        "a test that Django wraps in a transaction (TestCase, django_db) can't be switched or cut short: connections "
        f"of other threads are outside of it, and one that the call leaves open can't be told from it. {_USE}"
    )


def is_in_a_transaction(item: pytest.Item) -> bool:
    """Whether Django wraps the test in a transaction, which it rolls back."""
    django: Any = sys.modules.get(_DJANGO)
    return django is not None and _is_rolled_back(item, django)


def _is_rolled_back(item: pytest.Item, django: Any) -> bool:
    owner = getattr(item, "cls", None)
    if owner is not None and issubclass(owner, django.SimpleTestCase):
        return issubclass(owner, django.TestCase) and bool(owner.databases)
    names = getattr(item, "fixturenames", ())
    mark = item.get_closest_marker("django_db")
    if mark is None and "_django_db_helper" not in names:
        return False
    if {"transactional_db", "django_db_reset_sequences", "live_server"} & set(names):
        return False
    arguments: Any = (mark.args[:1] or (mark.kwargs.get("transaction"),)) if mark is not None else (False,)
    return not (arguments[0] or (mark is not None and mark.kwargs.get("reset_sequences")))


def drop_instance(item: Any) -> None:
    """Drop the instance of the test's class, so that the next run gets a new one."""
    if getattr(item, "cls", None) is not None:
        for name in ("_instance", "_obj"):
            vars(item).pop(name, None)


@contextlib.contextmanager
def request_of(item: Any) -> Iterator[None]:
    """As pytest's own `runtestprotocol` does: a new request for each run, and none after it."""
    has_request = hasattr(item, "_request")
    if has_request and not item._request:
        item._initrequest()
    try:
        yield
    finally:
        if has_request:
            item._request = False
            item.funcargs = None
