"""The plugin's options and ini settings: one prefix, and a clear error for a misspelt one.

An option of the command line outranks the ini setting of the same name. This module is loaded in every run of pytest,
so it imports nothing.
"""

import argparse
import difflib
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import pytest

PREFIX: Final = "tornpage_"


class Setting(NamedTuple):
    """One setting: its name without the prefix, its metavar, its parser, and its help."""

    name: str
    metavar: str
    read: Any
    help: str
    in_ini: bool = True

    @property
    def option(self) -> str:
        """As the command line has it."""
        return f"--tornpage-{self.name.replace('_', '-')}"

    @property
    def ini(self) -> str:
        """As the ini file and the parsed options have it."""
        return f"{PREFIX}{self.name}"


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"a number of seconds above 0, not {text!r}")
    return seconds


SETTINGS: Final = (
    Setting("at", "PLAN", str, "run each every_fault test with this fault plan only: write:wal@3=FULL", in_ini=False),
    Setting("max_points", "N", _count, "at most so many fault points of one every_fault test, sampled; all by default"),
    Setting("timeout", "SECONDS", _seconds, "time limit of a run under a fault; 10 by default"),
    Setting("disk", "N", _count, "let crash_states pass disk number N only", in_ini=False),
    Setting("profile", "NAME", str, "the size of the conformance suite's searches: quick, ci or nightly"),
    Setting("report", "DIRECTORY", str, "the directory of the conformance suite's replay files; .tornpage by default"),
)


def add_to(parser: pytest.Parser) -> None:
    """Add every setting to pytest."""
    group = parser.getgroup("tornpage", "faults beneath SQLite (tornpage)")
    for one in SETTINGS:
        group.addoption(one.option, metavar=one.metavar, type=one.read, default=None, help=one.help)
        if one.in_ini:
            parser.addini(one.ini, one.help, default=None)


def value_of(config: pytest.Config, name: str) -> Any:
    """The value from the command line, else from the ini file, else None."""
    setting = next(one for one in SETTINGS if one.name == name)
    given = config.getoption(setting.ini)
    if given is not None or not setting.in_ini:
        return given
    text = config.getini(setting.ini)
    return _read_ini(setting, str(text)) if text else None


def _read_ini(setting: Setting, text: str) -> Any:
    try:
        return setting.read(text)
    except argparse.ArgumentTypeError as error:
        raise pytest.UsageError(f"{setting.ini} in the ini file: {error}") from None


def require_known_options(arguments: Iterable[str]) -> None:
    """Raise `pytest.UsageError` for an option with our prefix that does not exist."""
    known = [one.option for one in SETTINGS]
    for argument in arguments:
        if argument == "--":
            return
        name = argument.partition("=")[0]
        if name.startswith("--tornpage-") and name not in known:
            raise pytest.UsageError(_unknown("option", name, known))


def require_known_ini(config: pytest.Config) -> None:
    """Raise `pytest.UsageError` for an ini setting with our prefix that does not exist, or that can't be read."""
    known = [one.ini for one in SETTINGS if one.in_ini]
    # Since pytest 9 the public name of the ini file's values warns that it will be removed.
    for name in config._inicfg if hasattr(config, "_inicfg") else config.inicfg:
        if name.startswith(PREFIX) and name not in known:
            raise pytest.UsageError(_unknown("ini setting", name, known))
    for one in SETTINGS:
        value_of(config, one.name)


def _unknown(what: str, given: str, known: list[str]) -> str:
    near = difflib.get_close_matches(given, known, 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"unknown {what} {given}{hint}; those of tornpage are: {', '.join(known)}"
