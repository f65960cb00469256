"""What an import loads: the ledger and the faults are free of the harness and of every test tool."""

import json
import subprocess
from collections.abc import Callable

import pytest

TELL = """
import json, sys
import {}
print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))
"""


@pytest.mark.parametrize(
    ("package", "unwanted"),
    [
        ("ledger", {"hypothesis", "pytest", "_pytest", "faults", "scenarios", "rich", "diskcache"}),
        ("ledger.command", {"hypothesis", "pytest", "_pytest", "faults", "scenarios", "diskcache"}),
        ("faults", {"hypothesis", "pytest", "_pytest", "ledger", "scenarios", "rich", "diskcache"}),
        ("scenarios", {"pytest", "_pytest", "diskcache"}),
        ("tornpage.scenarios.cli", {"pytest", "_pytest", "diskcache"}),
    ],
)
def test_an_import_loads_no_more_than_it_should(
    package: str, unwanted: set[str], start: Callable[..., subprocess.Popen[str]]
) -> None:
    with start(TELL.format(package)) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    loaded = set(json.loads(out))
    assert package.partition(".")[0] in loaded
    assert loaded & unwanted == set()
