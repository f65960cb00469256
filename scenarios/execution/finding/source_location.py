"""The line of a finding in the code under test, for readers and annotations.

Method. While the scenario is replayed (`finding.trace`), the failing call is traced. The place is, in this order:

- of an error that was hidden: the line that raised, in its place, what follows from it, such as the ROLLBACK;
- the innermost line of the code under test at the moment when an error of SQLite (or of memory, or of a file) came out
  of the call below it, whether the code passed that error on or swallowed it;
- if no error was seen, because the fault was absorbed, no fault was armed, or the process died: the first function of
  the code under test that the call enters.

Of two callers it is the line at which the first one stood while the other made its call.

Code under test is what is neither the harness nor Python's own library. The project's own files take precedence, the
target's adapter comes last; an installed file is also looked for in the project (``src`` or the root). A target may
name its packages in `packages`. For a known bug it is the build that reintroduces the defect; the place is then the
whole method that it overrides.

Not covered: programs of their own, and threads that a call starts: there the place is "".
"""

import contextlib
import inspect
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import msgspec

from tornpage import faults
from tornpage.faults.contention.lines import Line
from tornpage.faults.contention.schedule import Hop
from tornpage.faults.contention.turns import Paused
from tornpage.scenarios.execution.frames import lines_of
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.hidden_errors import CODE as HIDDEN
from tornpage.scenarios.model.judging.hidden_errors import is_a_consequence
from tornpage.scenarios.model.judging.oracle import Answer
from tornpage.scenarios.model.scenario import Call, Step
from tornpage.scenarios.model.target import Action, Target, View
from tornpage.scenarios.targets.names import BUG_PREFIX

# Also what it stops the clock with.
_HARNESS: Final = ("tornpage.faults", "tornpage.scenarios", "hypothesis", "time_machine")
_STANDARD: Final = tuple({str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "platstdlib")})
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})
_MOST_FUNCTIONS: Final = 1_000


class _Line(msgspec.Struct, frozen=True):
    """A line of code: its module, its file, and the function that it is in."""

    module: str
    file: str
    line: int
    function: str


class Watch:
    """Records where the first error was raised, and the last that follows from one, with all callers; what was entered.

    The latter is an error such as "cannot rollback - no transaction is active".
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._code = Code(target)
        self.raised_at: list[_Line] = []
        self.hidden_at: list[_Line] = []
        self._hides = 0
        self.entered: list[_Line] = []
        # The turns of two callers, if the decisive call is theirs.
        self.hops: Sequence[Hop] = ()
        self._outside: FrameType | None = None
        self._is_everyday = False

    def forget(self) -> None:
        """Discard the records."""
        self.raised_at.clear()
        self.hidden_at.clear()
        self.entered.clear()

    def place_of(self, check: str) -> str:
        """The place of a finding as ``file:line``, relative to the project if it is inside; "" for none."""
        if "syscall" in self._target.depths:
            return ""
        code = self._code
        if (stood := _stood_at(self.hops)) is not None and not code.is_bug:
            return f"{_shown(stood.file)}:{stood.number}"
        hidden_at = self.hidden_at if check == HIDDEN else []
        found = code.best(hidden_at) or code.best(self.raised_at) or code.best(self.entered) or code.overridden()
        return f"{_shown(found.file)}:{found.line}" if found else ""

    @contextlib.contextmanager
    def calls_of(self, trial: Trial, decisive: Step) -> Iterator[None]:
        """Trace what a trial's session does in this scope; for the decisive call only the call itself."""
        call = trial.call

        def watched(action: Action, after: View, stages: tuple[View, ...] = ()) -> Answer:
            if isinstance(decisive, Call) and action == decisive.action:
                # The store had to be opened first; if that succeeded it is irrelevant.
                self.forget()
            with self.tracing():
                return call(action, after, stages)

        trial.call = watched  # type: ignore[method-assign]
        try:
            yield
        finally:
            del trial.call

    @contextlib.contextmanager
    def tracing(self) -> Iterator[None]:
        """Trace calls in this scope; an earlier tracer is restored afterwards."""
        before = sys.gettrace()
        # The frame of the scope: above it and the one of `contextlib`.
        self._outside = sys._getframe(2)
        sys.settrace(self._entering)
        try:
            yield
        finally:
            sys.settrace(before)
            # A frame keeps all its objects alive, connections too.
            self._outside = None

    def _entering(self, frame: FrameType, event: str, argument: Any) -> Any:  # noqa: ARG002 - a tracer's shape
        frame.f_trace_lines = False
        if len(self.entered) < _MOST_FUNCTIONS and self._code.is_under_test(frame):
            self.entered.append(_line(frame, frame.f_code.co_firstlineno))
        return self._inside

    def _inside(self, frame: FrameType, event: str, argument: Any) -> Any:
        # What Python catches itself, as `os.makedirs` does with "file exists", never comes out of a call of ours.
        if event == "exception" and self._code.is_under_test(frame):
            error = argument[1]
            if self._says_more(error):
                self.raised_at = list(self._lines_from(frame))
            elif self.raised_at and id(error) != self._hides and is_a_consequence(error):
                # It comes out of each caller, too.
                self._hides, self.hidden_at = id(error), list(self._lines_from(frame))
        return self._inside

    def _lines_from(self, frame: FrameType) -> Iterator[_Line]:
        inner: FrameType | None = frame
        while inner is not None and inner is not self._outside:
            if self._code.is_under_test(inner):
                yield _line(inner, inner.f_code.co_firstlineno if self._code.is_bug else inner.f_lineno)
            inner = inner.f_back

    def _says_more(self, error: object) -> bool:
        """Whether it is the first error of the world; that a file is there, or isn't, gives way to any other."""
        is_everyday = isinstance(error, (FileExistsError, FileNotFoundError))
        if not _is_of_the_world(error) or (self.raised_at and (is_everyday or not self._is_everyday)):
            return False
        self._is_everyday = is_everyday
        return True


def _stood_at(hops: Sequence[Hop]) -> Line | None:
    """The line at which the first of two callers stood while the other one made its call."""
    return next((hop.event.point.where for hop in hops if isinstance(hop.event, Paused)), None)


def _is_of_the_world(error: object) -> bool:
    of_the_world = (*faults.sqlite_errors(), MemoryError, OSError)
    return isinstance(error, of_the_world) and not isinstance(error, faults.errors_of_the_code())


def _line(frame: FrameType, number: int) -> _Line:
    return _Line(frame.f_globals.get("__name__", ""), frame.f_code.co_filename, number, frame.f_code.co_name)


class Code:
    """Decides which running code is under test."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._adapter = inspect.getsourcefile(type(target))
        self.is_bug = target.name.startswith(BUG_PREFIX)
        self._packages = ("tornpage.scenarios.targets.known_bugs",) if self.is_bug else target.packages
        self._known: dict[CodeType, bool] = {}

    def is_under_test(self, frame: FrameType) -> bool:
        """Whether a frame runs code under test."""
        code = frame.f_code
        if code not in self._known:
            self._known[code] = self.is_ours(frame.f_globals.get("__name__", ""), code.co_filename)
        return self._known[code]

    def is_ours(self, module: str, file: str) -> bool:
        """Whether a file, run as this module, is code under test."""
        if self._packages:
            return _is_in(module, self._packages)
        if file.startswith("<"):
            return False
        if _is_in(module, _HARNESS):
            # A store that ships with the harness as an example is in its adapter's own file.
            return file == self._adapter
        return not file.startswith(_STANDARD) or bool(_INSTALLED & set(Path(file).parts))

    def best(self, lines: list[_Line]) -> _Line | None:
        """The best of some lines: the project's own before others, and the adapter last."""
        others = [one for one in lines if one.file != self._adapter]
        ours = [one for one in others if _in_project(one.file)]
        # The entry point, which every call takes, doesn't say which call it was.
        inner = [one for one in lines if one.function not in {"call", "open"}]
        return next(iter(ours or others or inner or lines), None)

    def overridden(self) -> _Line | None:
        """For a known bug whose build is never entered: the first method that it overrides, or its setting."""
        if not self.is_bug:
            return None
        from tornpage.scenarios.targets.known_bugs import find_bug  # noqa: PLC0415 - it loads the reference

        bug = find_bug(self._target.name.removeprefix(BUG_PREFIX))
        parts = [vars(part).values() for part in bug.parts().values() if isinstance(part, type)]
        methods = [member for members in parts for member in members if inspect.isfunction(member)]
        # If only a setting differs, that is the place.
        first = next(iter(methods), bug.make or bug.parts)
        code: CodeType | None = getattr(first, "__code__", None)
        return _Line("", code.co_filename, code.co_firstlineno, code.co_name) if code else None


def raised_in(error: BaseException, target: Target) -> str:
    """The line of the code under test that raised an error, as ``file:line``; "" if the harness itself did."""
    code = Code(target)
    for line in reversed(lines_of(error)):
        if code.is_ours(line.module, line.file):
            return f"{_shown(line.file)}:{line.number}"
        if _is_in(line.module, _HARNESS):
            break
    return ""


def _is_in(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in packages)


def _in_project(file: str) -> Path | None:
    """The file relative to the working directory, even if it runs from an installed copy; or None.

    A link is followed if it stays in the project: an annotation of a code host needs the file's own name.
    """
    path, project = Path(file), Path.cwd()
    installed = _after_installed(path)
    places = (path,) if installed is None else (project / "src" / installed, project / installed)
    for place in places:
        if place.is_relative_to(project) and place.is_file():
            own = place.resolve()
            return own.relative_to(project) if own.is_relative_to(project) else place.relative_to(project)
    return None


def _after_installed(path: Path) -> Path | None:
    """The part of a path that follows the directory of installed packages."""
    for number, part in enumerate(path.parts):
        if part in _INSTALLED:
            return Path(*path.parts[number + 1 :])
    return None


def _shown(file: str) -> str:
    path = Path(file)
    shown = _in_project(file) or _after_installed(path) or _below_its_import(path)
    return shown.as_posix()


def _below_its_import(path: Path) -> Path:
    """A path relative to its import root: the directories of this machine mean nothing elsewhere."""
    roots = [Path(entry) for entry in sys.path if entry and path.is_relative_to(entry)]
    return path.relative_to(max(roots, key=lambda root: len(root.parts))) if roots else Path(path.name)
