"""Which running code is under test, and how a line of it is shown.

Code under test is what is neither the harness nor Python's own library. The project's own files take precedence, the
target's adapter comes last; an installed file is also looked for in the project (``src`` or the root). A target may
name its packages in `packages`. For a known bug it is the build that reintroduces the defect.
"""

import contextlib
import inspect
import sys
import sysconfig
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

import msgspec

from tornpage.scenarios.execution.frames import lines_of
from tornpage.scenarios.model.target import Target
from tornpage.scenarios.targets.names import BUG_PREFIX

# Also what it stops the clock with.
_HARNESS: Final = ("tornpage.faults", "tornpage.scenarios", "hypothesis", "time_machine")
_STANDARD: Final = tuple({str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "platstdlib")})
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})


class CodeLine(msgspec.Struct, frozen=True):
    """A line of code: its module, its file, and the function that it is in."""

    module: str
    file: str
    line: int
    function: str


class Code:
    """Decides which running code is under test."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._adapter = _file_of(type(target))
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

    def is_adapter(self, file: str) -> bool:
        """Whether a file is that of the target."""
        return file == self._adapter

    def best(self, lines: list[CodeLine]) -> CodeLine | None:
        """The best of some lines: the project's own before others, and the adapter last."""
        others = [one for one in lines if one.file != self._adapter]
        ours = [one for one in others if _in_project(one.file)]
        # The entry point, which every call takes, doesn't say which call it was.
        inner = [one for one in lines if one.function not in {"call", "open"}]
        return next(iter(ours or others or inner or lines), None)

    def overridden(self) -> CodeLine | None:
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
        return CodeLine("", code.co_filename, code.co_firstlineno, code.co_name) if code else None


def _file_of(kind: type) -> str | None:
    """The file of a class; None for one whose module has none, as that of a target that was just proposed."""
    with contextlib.suppress(TypeError, OSError):
        return inspect.getsourcefile(kind)
    return None


def raised_in(error: BaseException, target: Target) -> str:
    """The line of the code under test that raised an error, as ``file:line``; "" if the harness itself did."""
    code = Code(target)
    for line in reversed(lines_of(error)):
        if code.is_ours(line.module, line.file):
            return f"{shown(line.file)}:{line.number}"
        if _is_in(line.module, _HARNESS):
            break
    return ""


def stood_at(error: BaseException, target: Target) -> str:
    """The innermost line of the code under test through which an error came, as ``file:line``; "" for none."""
    code = Code(target)
    lines = [line for line in reversed(lines_of(error)) if code.is_ours(line.module, line.file)]
    others = [line for line in lines if not code.is_adapter(line.file)]
    return next((f"{shown(line.file)}:{line.number}" for line in others or lines), "")


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


def shown(file: str) -> str:
    """A file as reports name it."""
    path = Path(file)
    shown = _in_project(file) or _after_installed(path) or _below_its_import(path)
    return shown.as_posix()


def _below_its_import(path: Path) -> Path:
    """A path relative to its import root: the directories of this machine mean nothing elsewhere."""
    roots = [Path(entry) for entry in sys.path if entry and path.is_relative_to(entry)]
    return path.relative_to(max(roots, key=lambda root: len(root.parts))) if roots else Path(path.name)
