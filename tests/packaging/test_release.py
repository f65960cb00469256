"""What a release needs: metadata that the index takes, archives that its checkers pass, workflows without a secret."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("check_wheel_contents", "hatchling", "pyroma", "trove_classifiers", "twine", "yaml")
MISSING = [name for name in TOOLS if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}; tox -e package has them")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
AUDITOR = Path(sys.executable).with_name("zizmor")
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Wheel and sdist, as they would be published."""
    folder = tmp_path_factory.mktemp("dist")
    line = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return sorted(map(str, folder.iterdir()))


def run(*command: str) -> str:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_index_would_take_both_archives(archives: list[str]) -> None:
    assert len(archives) == 2
    assert run("twine", "check", "--strict", *archives).count("PASSED") == 2


def test_the_wheel_holds_what_it_should(archives: list[str]) -> None:
    assert "OK" in run("check_wheel_contents", *(one for one in archives if one.endswith(".whl")))


def test_only_addresses_that_do_not_exist_yet_are_missing(archives: list[str]) -> None:
    from pyroma import distributiondata, ratings

    (source,) = (one for one in archives if one.endswith(".tar.gz"))
    _, lacks = ratings.rate(distributiondata.get_data(source))
    assert [one for one in lacks if "email" not in one and "url" not in one] == []


def test_every_classifier_is_one_and_every_python_in_tox_has_one() -> None:
    from trove_classifiers import classifiers

    assert set(PROJECT["classifiers"]) <= classifiers
    named = {one.rpartition(" ")[2] for one in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", one)}
    assert named >= set(
        re.findall(r"3\.\d+", (ROOT / "tox.ini").read_text().partition("env_list")[2].partition("\n")[0])
    )


def test_the_citation_and_the_changes_are_of_this_version() -> None:
    import yaml

    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (cited["version"], cited["license"]) == (PROJECT["version"], PROJECT["license"])
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_workflow_needs_a_secret_or_more_rights_than_it_says(path: Path) -> None:
    import yaml

    text = path.read_text()
    workflow = yaml.safe_load(text)
    assert "secrets." not in text
    assert workflow["permissions"] == {"contents": "read"}
    rights = {name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job}
    assert rights == ({"publish": {"id-token": "write"}} if path.name == "release.yml" else {})
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 120
        for step in job["steps"]:
            for script in re.findall(r"^\.ci/\S+", step.get("run", "")):
                assert (ROOT / script).exists()


@pytest.mark.skipif(not AUDITOR.exists(), reason="zizmor is not installed; tox -e package has it")
def test_an_auditor_of_workflows_finds_nothing() -> None:
    done = subprocess.run(
        [AUDITOR, "--offline", ROOT / ".github/workflows"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
