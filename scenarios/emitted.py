"""A finding as a test: a pytest file that stands alone, and what it calls.

The file holds the story as readable data and one test, which fails as long as the check fails. It needs pytest and
tornpage, nothing else; it is meant to be committed beside the fix.
"""

import json
import pprint
import re
from pathlib import Path
from typing import Any

import msgspec

import faults
from scenarios.checks import Violation
from scenarios.naming import find_or_import
from scenarios.reproducer import Reproducer, playing
from scenarios.story import Story
from scenarios.target import Target

_TEMPLATE = '''"""{check} on {target}: {message}

Written by `tornpage replay {name} --emit-test`. The story, in words:

{words}
"""

from scenarios.emitted import require_holds

TARGET = {target!r}
STORY = {story}


def test_{function}(tmp_path):
    require_holds(STORY, TARGET, tmp_path)
'''


def as_test_file(reproducer: Reproducer, name: str, target: str) -> tuple[str, str]:
    """The file's name, and its text, for the finding in the replay file called `name`, on that target."""
    function = re.sub(r"\W+", "_", f"{target}_{reproducer.check}").strip("_").lower()
    story: Any = msgspec.to_builtins(reproducer.story)
    text = _TEMPLATE.format(
        check=reproducer.check,
        target=target,
        message=_in_docstring(reproducer.message.splitlines()[0]),
        name=_in_docstring(name),
        words=_in_docstring("\n".join(f"    {line}" for line in str(reproducer.story).splitlines())),
        story=pprint.pformat(story, width=110, sort_dicts=False),
        function=function,
    )
    return f"test_{function}.py", text


def _in_docstring(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')


def require_holds(story: dict[str, Any] | str, target: Target | str, directory: Path) -> None:
    """Play a story, given as data or as JSON, on a target or the name of one, below `directory`.

    Raises `Violation` (an AssertionError) where a check fails; `TargetError`, and AssertionError where none of the
    story's faults fired: then it shows nothing.
    """
    data = json.loads(story) if isinstance(story, str) else story
    decoded = msgspec.convert(data, type=Story)
    chosen = find_or_import(target) if isinstance(target, str) else target
    with faults.install(), playing(decoded, chosen, directory) as play:
        violation, counts = play(decoded, chosen, directory)
    if violation is not None:
        raise Violation(violation.code, violation.message, violation.sides)
    if counts["armed"] and not counts["fired"]:
        raise AssertionError(f"none of the {counts['armed']} faults of this story fired, so it shows nothing")
