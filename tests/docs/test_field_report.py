"""The field report: each library's folder has what the report says, and its table is the one that report.py prints."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from tornpage.scenarios.run.reproduce.replay_file import read
from tornpage.scenarios.targets.registry import CLASSES, SHIPPED

ROOT = Path(__file__).parents[2]
FIELD = ROOT / "docs" / "field"
REPORT = (ROOT / "docs" / "field-report.md").read_text()
FINDINGS = sorted(FIELD.glob("*/*.json"))


def _report() -> Any:
    spec = importlib.util.spec_from_file_location("field_report", FIELD / "report.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _is_there(folder: str, target: str) -> bool:
    name = target.rpartition(" ")[2] if target.startswith("command:") else f"{target.partition(':')[0]}.py"
    return target in SHIPPED or (FIELD / folder / name).is_file()


def test_each_library_has_its_target() -> None:
    for folder, target, _kind, _package, *_options in _report().LIBRARIES:
        assert _is_there(folder, target)
    known = {one[0] for one in _report().LIBRARIES} - {""}
    assert known == {path.name for path in FIELD.iterdir() if path.is_dir() and not path.name.startswith(("__", "."))}


def test_each_row_of_the_table_is_of_a_library_that_the_job_runs() -> None:
    table = REPORT.partition("<!-- begin: printed by docs/field/report.py -->")[2].partition("<!-- end -->")[0]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")][2:]
    known = {(kind, package) for _, _, kind, package, *_ in _report().LIBRARIES}
    assert {(row[0].removeprefix("| "), row[1].rpartition(" ")[0]) for row in rows} == known


def test_a_target_that_ships_is_of_the_class_that_the_command_shows() -> None:
    shown = {target: kind for _, target, kind, *_ in _report().LIBRARIES if target in SHIPPED}
    assert shown == {target: CLASSES[target] for target in shown}


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_each_finding_has_a_replay_file_of_its_folders_target_a_script_and_a_paragraph(path: Path) -> None:
    assert _is_there(path.parent.name, read(path).scenario.target)
    assert json.loads(path.read_text())["format"] == "tornpage-replay"
    if path.parent.name != "two_workers":
        (script,) = (one for one in path.parent.glob(f"{path.stem}.*") if one != path)
        assert f"`{script.name}`" in REPORT
        title, expected, fix, steps = _report().told_in(script)
        assert title.endswith(".")
        assert expected.endswith((".", '"'))
        assert fix.endswith(".")
        assert steps
        assert "tornpage" not in script.read_text()
