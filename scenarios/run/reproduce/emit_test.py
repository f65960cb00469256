"""A finding as a stand-alone pytest file, and the function that it calls.

The file holds the scenario as readable data and one test, which fails as long as the check fails. It needs pytest and
tornpage, nothing else; it is meant to be committed with the fix.
"""

import json
import pprint
import re
from pathlib import Path
from typing import Any

import msgspec

from tornpage import faults
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import Scenario
from tornpage.scenarios.model.target import Target
from tornpage.scenarios.run.reproduce.replay_file import Reproducer, playing
from tornpage.scenarios.targets.registry import find_or_import

_TEMPLATE = '''"""{check} on {target}: {message}

Written by `tornpage replay {name} --emit-test`. The scenario, in words:

{words}
"""

from tornpage import require_holds

TARGET = {target!r}
SCENARIO = {scenario}


def test_{function}(tmp_path):
    require_holds(SCENARIO, TARGET, tmp_path)
'''


def as_test_file(reproducer: Reproducer, name: str, target: str) -> tuple[str, str]:
    """The file's name, and its text, for the finding in the replay file called `name`, on that target."""
    function = re.sub(r"\W+", "_", f"{target}_{reproducer.check}").strip("_").lower()
    scenario: Any = msgspec.to_builtins(reproducer.scenario)
    text = _TEMPLATE.format(
        check=reproducer.check,
        target=target,
        message=_in_docstring(reproducer.message.splitlines()[0]),
        name=_in_docstring(name),
        words=_in_docstring("\n".join(f"    {line}" for line in str(reproducer.scenario).splitlines())),
        scenario=pprint.pformat(scenario, width=110, sort_dicts=False),
        function=function,
    )
    return f"test_{function}.py", text


def _in_docstring(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')


def require_holds(scenario: dict[str, Any] | str, target: Target | str, directory: Path) -> None:
    """Play a scenario, given as data or as JSON, on a target or the name of one, below `directory`.

    Raises `Violation` (an AssertionError) if a check fails; `TargetError`; and AssertionError if none of the scenario's
    faults fired, since it then tests nothing.
    """
    data = json.loads(scenario) if isinstance(scenario, str) else scenario
    decoded = msgspec.convert(data, type=Scenario)
    chosen = find_or_import(target) if isinstance(target, str) else target
    with faults.install() as shim, shim.deterministic(), playing(decoded, chosen, directory) as play:
        violation, counts = play(decoded, chosen, directory)
    if violation is not None:
        raise Violation(violation.code, violation.message, violation.sides)
    if counts["armed"] and not counts["fired"]:
        raise AssertionError(f"none of the {counts['armed']} faults of this scenario fired, so it tests nothing")
