"""Every example in README.md and docs/ is run.

Python blocks are executed, one namespace a document; one that begins with a comment such as ``# notes.py`` is written
to that file instead. In ``console`` blocks each line after ``$ `` is run by a shell in
an empty directory of the document's own; what follows has to appear in its output, line by line and in order, where
``...`` stands for anything. A command that ends with ``# exit N`` has to end with that exit code, others with 0.
A block with the language ``text``, ``sh``, ``yaml`` or ``toml`` is only shown.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sybil import Document, Example, Sybil
from sybil.parsers.markdown import CodeBlockParser

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_FILE = re.compile(r"# (\w+\.py)\n")
_EXIT = re.compile(r"\s+# exit (\d+)$")


def run_python(example: Example) -> None:
    name = _FILE.match(example.parsed)
    if name:
        Path(example.namespace["directory"], name.group(1)).write_text(example.parsed)
    else:
        exec(compile(example.parsed, example.path, "exec"), example.namespace)  # noqa: S102 - the documents are ours


def run_console(example: Example) -> None:
    commands = re.split(r"^\$ ", example.parsed, flags=re.MULTILINE)[1:]
    assert commands, "a console block without a command"
    for block in commands:
        command, _, expected = block.partition("\n")
        exit_code = int(match.group(1)) if (match := _EXIT.search(command)) else 0
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(  # noqa: S602 - the documents are ours
            _EXIT.sub("", command),
            shell=True,
            cwd=example.namespace["directory"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == exit_code, f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}"
        require_lines(expected, done.stdout + done.stderr)


def require_lines(expected: str, actual: str) -> None:
    """Each expected line is there, in order, up to white space at its end."""
    rest = [line.rstrip() for line in actual.splitlines()]
    for line in expected.splitlines():
        if not line.strip() or line.strip() == "...":
            continue
        pattern = re.compile(".*".join(re.escape(part) for part in line.rstrip().split("...")))
        found = next((index for index, one in enumerate(rest) if pattern.fullmatch(one)), None)
        assert found is not None, f"not in the output: {line!r}\n{actual}"
        rest = rest[found + 1 :]


def examples_of(path: Path) -> Document:
    parsers = [
        CodeBlockParser(language="python", evaluator=run_python),
        CodeBlockParser(language="console", evaluator=run_console),
    ]
    return Sybil(parsers=parsers, path=str(path.parent)).parse(path)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_example_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    document = examples_of(path)
    document.namespace["directory"] = tmp_path
    for example in document.examples():
        example.evaluate()


def test_what_ci_runs_is_the_readmes_test_command() -> None:
    command = "python3 -m venv .venv && .venv/bin/pip install --quiet tox && .venv/bin/tox -p auto"
    assert command in (ROOT / "README.md").read_text()
    assert command in (ROOT / ".ci" / "run").read_text()


def test_a_missing_line_is_noticed() -> None:
    with pytest.raises(AssertionError, match="not in the output"):
        require_lines("one\n...\nfour", "one\ntwo\nthree\n")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_files_lead_somewhere(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (path.parent / link).exists(), f"{path.name} links to {link}"
