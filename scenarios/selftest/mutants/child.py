"""One mutant in its own process: replace the module's source, then hunt; the verdict is JSON on stdout.

Run as a script by `scenarios.selftest.mutants.run`, which passes the task as JSON on standard input. No module of the
ledger may be loaded before the mutant's source is in place, so none of the harness either.
"""

import importlib
import importlib.abc
import importlib.machinery
import json
import logging
import sys
import types
from collections.abc import Sequence


class _Source(importlib.machinery.SourceFileLoader):
    """Loads other source than the file's, and neither reads nor writes its compiled form."""

    def __init__(self, fullname: str, path: str, text: str) -> None:
        super().__init__(fullname, path)
        self._text = text

    def get_code(self, fullname: str) -> types.CodeType:
        """The code of the mutant."""
        return compile(self._text, self.get_filename(fullname), "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module, and leaves all others to the next finder."""

    def __init__(self, module: str, text: str) -> None:
        self.module, self.text, self.found = module, text, False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module's own spec, with another loader."""
        if fullname != self.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None:
            return None
        spec.loader = _Source(fullname, spec.origin, self.text)
        self.found = True
        return spec


def main() -> None:
    """Read the task, run it, print the result."""
    task = json.load(sys.stdin)
    # Replaces this script's own directory.
    sys.path[0] = task["root"]
    finder = _Finder(task["module"], task["text"])
    if task["module"]:
        sys.meta_path.insert(0, finder)
    try:
        from tornpage.scenarios.selftest.mutants import hunt  # noqa: PLC0415 - only now, with the mutant in its place

        if task["module"]:
            # Some are loaded at their first use only, as the commands are.
            importlib.import_module(task["module"])
    except Exception as error:  # noqa: BLE001 - a mutant may raise anything when it is loaded
        print(json.dumps({"killed": True, "hunt": "import", "check": "does-not-run", "message": repr(error)}))
        return
    if task["module"] and not finder.found:
        raise RuntimeError(f"{task['module']} was never loaded, so it was not tested")
    import msgspec  # noqa: PLC0415 - with the others

    logging.getLogger("ledger").setLevel(logging.CRITICAL)
    verdict = hunt.hunted(task["seed"], task["hunts"])
    print(msgspec.json.encode(verdict).decode())


if __name__ == "__main__":
    main()
