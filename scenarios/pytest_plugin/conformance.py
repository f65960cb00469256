"""The conformance suite: subclass it, name a target, and pytest runs every search on that target as a test.

::

    from tornpage.scenarios.pytest_plugin.conformance import Conformance

    class TestNotes(Conformance):
        target = NotesTarget

Each search is a separate test for each configuration. A finding fails its test with the check, the scenario and the
line that replays it; so does a search that tested nothing. A check that the target does not promise (`unpromised`, with
a reason) fails no test, and is shown in pytest's summary, whether it failed or not. A search that does not suit a
target is skipped with the reason.

Not covered: the probe and the known bugs, which belong to the reference.
"""

import importlib.machinery
import os
import warnings
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec
import pytest

from tornpage import faults
from tornpage.scenarios.model.exit_codes import Exit
from tornpage.scenarios.model.judging.unpromised import in_words, reason_not_promised
from tornpage.scenarios.model.plan import PROFILES, Plan, Profile
from tornpage.scenarios.model.target import Configuration, Target, TargetError, completed, has_plain_files_only
from tornpage.scenarios.pytest_plugin import settings
from tornpage.scenarios.report.terminal.progress import describe_finding, summary
from tornpage.scenarios.run import campaign
from tornpage.scenarios.search.fuzz.search import machines_of
from tornpage.scenarios.search.interleave.search import NOT_TRIED
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.declaration import what_is_wrong
from tornpage.scenarios.targets.names import UnknownTargetError, is_imported
from tornpage.scenarios.targets.registry import SHIPPED, find_or_import

_REPORT: Final = ".tornpage"


class Conformance:
    """The base class. Set `target`: a target, its class, or its name as for ``--target``.

    `profile` (quick, ci, nightly) is the size of the search unless ``--tornpage-profile`` is given, `seed` chooses the
    sample. `call_timeout_s` is the time limit of a call unless ``--tornpage-timeout`` is given.
    """

    target: ClassVar[Any] = None
    profile: ClassVar[str] = "quick"
    seed: ClassVar[int] = 0
    call_timeout_s: ClassVar[float] = 10.0

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """A test for each configuration of the target that the profile covers."""
        if "configuration" in metafunc.fixturenames:
            chosen = _profile(metafunc.config, self.profile)
            # A target that is declared wrongly is an error of its own tests, and not of the collection.
            is_wrong = bool(_what_is_wrong(type(self)))
            found = (Configuration(),) if is_wrong else _target(type(self)).configurations
            metafunc.parametrize("configuration", found[: chosen.configurations], ids=str)

    def test_declared(self, request: pytest.FixtureRequest) -> None:
        """Every check in the target's `unpromised` exists, and has its reason."""
        target = _right_target(type(self))
        for code, reason in target.unpromised.items():
            if not all(one.strip() for one in ([reason] if isinstance(reason, str) else reason.values())):
                pytest.fail(f"unpromised: give the reason why {code} is not promised", pytrace=False)
            note = f"{code} is not promised: {in_words(reason)}"
            request.node.user_properties.append(("tornpage_unpromised", note))

    def test_sweep(self, configuration: Configuration, request: pytest.FixtureRequest) -> None:
        """Every operation of each call fails."""
        self._search("sweep", configuration, request)

    def test_crash(self, configuration: Configuration, request: pytest.FixtureRequest) -> None:
        """Every disk that a crash could have left is opened."""
        self._search("crash", configuration, request)

    def test_contend(self, configuration: Configuration, request: pytest.FixtureRequest) -> None:
        """Other users of the database hold its locks."""
        self._search("contend", configuration, request)

    def test_interleave(self, configuration: Configuration, request: pytest.FixtureRequest) -> None:
        """Two callers make their calls concurrently."""
        self._search("interleave", configuration, request)

    def test_limits(self, configuration: Configuration, request: pytest.FixtureRequest) -> None:
        """Memory, the disk and patience run out."""
        self._search("limits", configuration, request)

    def test_kill(self, configuration: Configuration, request: pytest.FixtureRequest) -> None:
        """Processes are really killed."""
        self._search("kill", configuration, request)

    def test_fuzz(self, configuration: Configuration, request: pytest.FixtureRequest) -> None:
        """Scenarios of calls and faults."""
        self._search("fuzz", configuration, request)

    def test_syscalls(self, configuration: Configuration, request: pytest.FixtureRequest) -> None:
        """System calls of a program in any language fail."""
        self._search("syscalls", configuration, request)

    def _search(self, name: str, configuration: Configuration, request: pytest.FixtureRequest) -> None:
        target, properties = _right_target(type(self)), request.node.user_properties
        if reason := _unsuited(name, target):
            properties.append(("tornpage_unsuited", f"does not suit {target.name}: {reason}"))
            pytest.skip(reason)
        size = _profile(request.config, self.profile)
        plan = Plan(
            (name,),
            _share(size, len(target.configurations[: size.configurations])),
            seed=self.seed,
            report=Path(settings.value_of(request.config, "report") or _REPORT),
            configurations=(configuration,),
            call_timeout_s=float(settings.value_of(request.config, "timeout") or self.call_timeout_s),
        )
        try:
            with warnings.catch_warnings():
                # A store that fails to open leaves its connection to the garbage collector, and Python warns much
                # later.
                warnings.simplefilter("ignore", ResourceWarning)
                recorder = campaign.run(target, plan)
        except (TargetError, faults.FaultError) as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        if alone := _for_one_caller(recorder):
            properties.append(("tornpage_unsuited", f"does not suit {target.name}: {alone}"))
            pytest.skip(alone)
        properties += [("tornpage_searched", summary(ended)) for ended in recorder.ended]
        properties += [("tornpage_unpromised", one) for one in _observed(recorder, target)]
        _require_holds(recorder, target)


def _target(suite: type[Conformance]) -> Target:
    """The target of a suite, under a name by which another process finds it."""
    given = suite.target
    if given is None:
        raise pytest.UsageError(f"{suite.__name__}: set `target` to a target, its class, or its name")
    if isinstance(given, str):
        try:
            return find_or_import(given)
        except UnknownTargetError as error:
            raise pytest.UsageError(f"{suite.__name__}: {error}") from None
    made = completed(given() if isinstance(given, type) else given)
    if not (made.name in SHIPPED or is_imported(made.name)):
        # An instance may have values of its own, which its class does not give another process.
        source, attribute = (given, "") if isinstance(given, type) else (suite, ".target")
        made.name = f"{source.__module__}:{source.__qualname__}{attribute}"
    return made


def _what_is_wrong(suite: type[Conformance]) -> str:
    """The error in the suite's target or in its declarations; "" for none."""
    try:
        return what_is_wrong(_target(suite))
    except pytest.UsageError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - the user's own code, which may fail in any way
        return f"{suite.__name__}: its target can't be made: {type(error).__name__}: {error}"


def _right_target(suite: type[Conformance]) -> Target:
    """The target of a suite; fails the test if it, or a declaration of it, is wrong."""
    if wrong := _what_is_wrong(suite):
        pytest.fail(wrong, pytrace=False)
    return _target(suite)


def _profile(config: pytest.Config, otherwise: str) -> Profile:
    name = settings.value_of(config, "profile") or otherwise
    if name not in PROFILES:
        raise pytest.UsageError(f"--tornpage-profile: unknown profile {name!r}; known: {', '.join(PROFILES)}")
    return PROFILES[name]


def _share(profile: Profile, parts: int) -> Profile:
    """The share of one configuration in the sizes of a profile."""
    return msgspec.structs.replace(
        profile, scenarios=-(-profile.scenarios // parts), kills=-(-profile.kills // parts), configurations=1
    )


def _unsuited(name: str, target: Target) -> str:
    """Why a search does not suit a target, "" if it does."""
    if name == "interleave" and target.callers == ():
        return "it is declared for one caller only: callers = ()"
    return _out_of_reach(name, target)


def _out_of_reach(name: str, target: Target) -> str:
    if name == "syscalls" and "syscall" not in target.depths:
        return (
            "system calls are faulted in a program that is driven from outside; this target is called in this process"
        )
    if name not in campaign.searches_for(target):
        reached = ", ".join(target.depths) or "none, only its files"
        plain = " of plain files" if has_plain_files_only(target) else ""
        return f"its depths{plain} are: {reached}; {name} needs others"
    if name == "fuzz" and not machines_of(target):
        return "it has no `actions(view)` to draw calls from"
    if name == "kill" and not hasattr(os, "fork"):
        return "this system has no os.fork and no SIGKILL"
    is_program = "syscall" in target.depths
    if name in ("kill", "interleave") and not is_program and not _is_importable(target.name):
        return f"another process can't import {target.name}: put the target into a module on sys.path"
    return ""


def _for_one_caller(recorder: Recorder) -> str:
    """Why two callers were not tried; "" if they were, or something else was."""
    notes = [note for ended in recorder.ended for note in ended.notes if note.startswith(NOT_TRIED)]
    tried = any(map(recorder.count, campaign.EVIDENCE)) or recorder.findings or recorder.vacuous
    return notes[0] if notes and not tried else ""


def _is_importable(name: str) -> bool:
    if not is_imported(name):
        return name in SHIPPED
    # Not the modules that this process has imported, but those that another one will find.
    return importlib.machinery.PathFinder.find_spec(name.partition(":")[0].partition(".")[0]) is not None


def _observed(recorder: Recorder, target: Target) -> list[str]:
    return [
        f"{one.finding.code} was seen, and is not promised "
        f"({reason_not_promised(target.unpromised, one.finding)}): "
        f"{one.finding.message}"
        for one in recorder.observations
    ]


def _require_holds(recorder: Recorder, target: Target) -> None:
    if recorder.interrupted:
        raise KeyboardInterrupt
    said = [describe_finding(found, recorder.also_at(found.finding)) for found in recorder.findings]
    said += [f"vacuous: {one.search}: {one.reason}" for one in recorder.vacuous]
    if not said and campaign.verdict(recorder) != Exit.HOLDS:
        said.append("nothing was tested: the search made none of its steps")
    if said:
        pytest.fail("\n\n".join((f"{target.name}:", *said)), pytrace=False)
