"""The examples of docs/ci.md are YAML, use options that there are, and the hooks start commands that there are."""

import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tornpage.scenarios.cli import tornpage

yaml = pytest.importorskip("yaml", reason="needs PyYAML, of the group of dependencies for tests")

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/ci.md").read_text()
EXAMPLES = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)]
GITHUB, GITLAB, PRE_COMMIT = EXAMPLES
HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())


def commands_of(value: Any) -> list[str]:
    """Every tornpage command line anywhere in an example."""
    if isinstance(value, dict):
        return [line for one in value.values() for line in commands_of(one)]
    if isinstance(value, list):
        return [line for one in value for line in commands_of(one)]
    return [value] if isinstance(value, str) and value.startswith("tornpage ") else []


@pytest.mark.parametrize("line", commands_of([GITHUB, GITLAB, HOOKS]))
def test_each_command_and_each_of_its_options_is_there(line: str) -> None:
    words = line.split()[1:]
    names = words[:2] if words[0] == "report" else words[:1]
    shown = CliRunner().invoke(tornpage, [*names, "--help"])
    assert shown.exit_code == 0, shown.output
    options = [word for word in words if word.startswith("--")]
    for option in options:
        assert re.search(rf"{option}\b", shown.output), (line, option)


def test_the_workflow_merges_what_its_jobs_have_kept() -> None:
    sweep, merged = GITHUB["jobs"]["sweep"], GITHUB["jobs"]["all"]
    assert merged["needs"] == "sweep"
    kept = [step["with"] for step in sweep["steps"] if "upload-artifact" in step.get("uses", "")]
    assert kept == [{"name": "tornpage-${{ matrix.python-version }}", "path": "report"}]
    assert GITHUB["permissions"]["security-events"] == "write"


def test_gitlab_reads_the_file_that_is_written() -> None:
    job = GITLAB["tornpage"]
    assert f"--junit {job['artifacts']['reports']['junit']}" in job["script"][1]


def test_the_hooks_run_once_before_a_push_with_options_that_there_are() -> None:
    offered = {hook["id"]: hook for hook in HOOKS}
    (local,) = PRE_COMMIT["repos"]
    (used,) = local["hooks"]
    assert (local["repo"], used["language"]) == ("local", "system")
    assert used["entry"].startswith(offered[used["id"]]["entry"])
    for hook in (used, *offered.values()):
        assert (hook["pass_filenames"], hook["require_serial"]) == (False, True)
    assert {hook["language"] for hook in offered.values()} == {"python"}
    assert used["stages"] == offered[used["id"]]["stages"] == ["pre-push", "manual"]
    test_each_command_and_each_of_its_options_is_there(used["entry"])


def test_pip_finds_every_name_also_before_there_is_a_release() -> None:
    assert "example.com" not in TEXT
    installs = re.findall(r"pip install (.*)", TEXT)
    assert len(installs) == 4
    for line in installs:
        assert line.startswith("--find-links vendor "), line
