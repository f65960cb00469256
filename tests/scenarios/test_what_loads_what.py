"""What an import loads: the ledger and the faults are free of the harness and of every test tool."""

import json
import subprocess
from collections.abc import Callable

import pytest

TELL = """
import json, sys
import {}
# A package of tornpage's by its own name, any other by that at the top.
names = (name.removeprefix('tornpage.') for name in sys.modules if name != 'tornpage')
print(json.dumps(sorted({{name.partition('.')[0] for name in names}})))
"""

GROUP = "tornpage.scenarios.cli.group"


@pytest.mark.parametrize(
    ("package", "unwanted"),
    [
        ("tornpage.ledger", {"hypothesis", "pytest", "_pytest", "faults", "scenarios", "rich", "diskcache"}),
        ("tornpage.ledger.command", {"hypothesis", "pytest", "_pytest", "faults", "scenarios", "diskcache"}),
        ("tornpage.faults", {"hypothesis", "pytest", "_pytest", "ledger", "scenarios", "rich", "diskcache"}),
        ("tornpage", {"hypothesis", "pytest", "_pytest", "ledger", "faults", "scenarios", "sqlite3", "msgspec"}),
        ("tornpage.scenarios.cli", {"pytest", "_pytest", "diskcache"}),
        ("tornpage.scenarios.cli.group", {"hypothesis", "rich", "msgspec", "sqlite3", "ledger", "faults"}),
        ("tornpage.scenarios.cli.searches", {"pytest", "hypothesis", "coverage", "jinja2", "diskcache"}),
        # The reference is the target of some searches only.
        (f"{GROUP}; {GROUP}.tornpage.get_command(None, 'sweep')", {"ledger", "asyncio", "unittest"}),
        ("tornpage.scenarios.targets.reference.target", {"pytest", "hypothesis", "rich", "diskcache"}),
    ],
)
def test_an_import_loads_no_more_than_it_should(
    package: str, unwanted: set[str], start: Callable[..., subprocess.Popen[str]]
) -> None:
    with start(TELL.format(package)) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    loaded = set(json.loads(out))
    assert package == "tornpage" or package.split(".")[1] in loaded
    assert loaded & unwanted == set()
