"""The pytest plugin as pytest loads it in every run: hooks that check whether any of it is used.

It imports neither ``sqlite3`` nor the faults nor the harness. The work is done by `scenarios.pytest_plugin.session`,
which is registered once a collected test carries one of the markers; `scenarios.pytest_plugin.crash_states` is loaded
by the fixture.

The summary is built from the ``user_properties`` of the reports, so it is the same under pytest-xdist, where the tests
run in other processes.
"""

from collections.abc import Callable, Generator
from typing import Any, Final

import pytest

from tornpage.scenarios.pytest_plugin import settings

MARKERS: Final = (
    "with_faults(plan): arm a fault plan such as 'write:wal@1=FULL' while this test is called; a fault that never "
    "fires fails the test",
    "every_fault(retry=False, effects=None, operations=None, sticky=False, max_points=None, timeout=None, "
    "open_transactions=False, hidden_errors=False): run this test again and again, with operation 1, 2, 3 ... below "
    "SQLite failing",
    "interleave: run this test again for each switch between the two callables that it passes to the fixture callers",
    "every_cancel(raising=KeyboardInterrupt): run this test again, with the call passed to the fixture cancelled cut "
    "short at its 1st, 2nd, 3rd ... await, or call into sqlite3",
)
_NAMES: Final = ("with_faults", "every_fault")
# Run again by `scenarios.pytest_plugin.schedules`.
_SCHEDULED: Final = ("interleave", "every_cancel")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options and ini settings, all with one prefix."""
    settings.add_to(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(args: list[str]) -> None:
    """Report a misspelt option before pytest's own, shorter error."""
    settings.require_known_options(args)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers; check the settings."""
    for line in MARKERS:
        config.addinivalue_line("markers", line)
    settings.require_known_ini(config)
    if config.getoption("tornpage_at") is not None:
        _session(config)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Load the session module if a test needs it."""
    if any(item.get_closest_marker(name) for item in items for name in _NAMES):
        _session(config).prepare(items)
    if any(item.get_closest_marker(name) for item in items for name in _SCHEDULED):
        from tornpage.scenarios.pytest_plugin.schedules import plugin_of  # noqa: PLC0415 - loaded by those who use it

        plugin_of(config)


def _session(config: pytest.Config) -> Any:
    name = "tornpage-session"
    plugin = config.pluginmanager.get_plugin(name)
    if plugin is None:
        from tornpage.scenarios.pytest_plugin.session import Session  # noqa: PLC0415 - loaded by those who use it

        plugin = Session(config)
        config.pluginmanager.register(plugin, name)
    return plugin


@pytest.fixture
def crash_states(request: pytest.FixtureRequest) -> Generator[Callable[..., Any]]:
    """Every disk state that a crash in the middle of some work could have left.

    ``for disk in crash_states(work, directory, model="power"): ...``; see docs/pytest.md.
    """
    from tornpage.scenarios.pytest_plugin.crash_states import CrashDisks  # noqa: PLC0415 - loaded by those who use it

    disks = CrashDisks(request.node, settings.value_of(request.config, "disk"))
    yield disks
    disks.end()


@pytest.fixture
def callers(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Two callables at once: ``callers(first, second)`` returns both results; see docs/interleave.md."""
    from tornpage.scenarios.pytest_plugin.schedules import callers_of  # noqa: PLC0415 - loaded by those who use it

    return callers_of(request)


@pytest.fixture
def cancelled(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """A call that is cut short: ``await cancelled(coroutine)``, ``cancelled(callable)``; see docs/interleave.md."""
    from tornpage.scenarios.pytest_plugin.schedules import cancelled_of  # noqa: PLC0415 - loaded by those who use it

    return cancelled_of(request)


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Receive the reports where they are shown: not in the workers of pytest-xdist."""
    if not hasattr(session.config, "workerinput"):
        session.config.pluginmanager.register(_Summary(), "tornpage-summary")


class _Summary:
    """Collects the fault properties of reports, and shows them at the end."""

    def __init__(self) -> None:
        self.reports: list[pytest.TestReport] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if any(str(name).startswith(settings.PREFIX) for name, *_ in report.user_properties):
            self.reports.append(report)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.reports:
            from tornpage.scenarios.pytest_plugin.summary import show  # noqa: PLC0415 - loaded by those who use it

            show(self.reports, terminalreporter)
