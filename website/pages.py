"""The pages of the site that are made when it is built: what `tornpage explain` says, the commands' help, the API.

`docs/` stays as it is read in the repository; what lies beside it (README, CONTRIBUTING, CHANGELOG, the tests' README)
becomes a page here, with its links turned. mkdocs calls the two functions at the end.
"""

import inspect
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import tornpage
from tornpage import CHECKS, faults, ledger
from tornpage.scenarios.cli import tornpage as command
from tornpage.scenarios.model.explain import codes, explanation

ROOT: Final = Path(__file__).parents[1]
# Files of the repository that are pages of the site.
PAGES: Final = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "tests/README.md": "tests.md",
}
_LINK: Final = re.compile(r"(!?\[[^\]]*\])\(([^)#\s:]+)(#[^)\s]*)?\)")
_STYLE: Final = """\
:root {
  --md-primary-fg-color: #00538a; --md-primary-fg-color--light: #3a7fae; --md-primary-fg-color--dark: #003a61;
  --md-primary-bg-color: #fff; --md-primary-bg-color--light: #ffffffb3; --md-accent-fg-color: #b84a00;
}
.md-typeset table:not([class]) th, .md-typeset table:not([class]) td { min-width: 0; padding: .5em .7em; }
[data-md-color-scheme="slate"] { --md-typeset-a-color: #86c5f0; --md-accent-fg-color: #f08a4b; }
"""
# In the navigation, what each check means stands below this page.
_EXPLAIN: Final = "explain/index.md"


def generated() -> Iterator[tuple[str, str]]:
    """The path and the text of every page that is made."""
    for source, page in PAGES.items():
        yield page, turned((ROOT / source).read_text(encoding="utf-8"), source, page)
    yield "site.css", _STYLE
    yield "commands.md", _commands()
    yield "explain/index.md", _checks()
    for code in CHECKS:
        yield f"explain/{code}.md", _check(code)
    yield "explain/results.md", _results()
    yield "api/tornpage.md", _api("tornpage", "What `from tornpage import …` offers.", _public(tornpage))
    yield "api/faults.md", _api("tornpage.faults", "Single faults by hand, and what they are made of.", _public(faults))
    yield "api/ledger.md", _api("tornpage.ledger", "The reference store.", _public(ledger))


def turned(text: str, source: str, page: str) -> str:
    """The text with its links as the site has them: a file that is no page is named, and not linked."""

    def link(found: re.Match[str]) -> str:
        label, target, anchor = found[1], found[2], found[3] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        goal = PAGES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if goal is None:
            return label[1:-1] if label.startswith("[`") else f"{label[1:-1]} (`{path}`)"
        return f"{label}({posixpath.relpath(goal, posixpath.dirname(page) or '.')}{anchor})"

    parts = re.split(r"(^```.*?^```)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else _LINK.sub(link, part) for part in parts)


def _commands() -> str:
    context = click.Context(command, info_name="tornpage")
    parts = ["# Commands\n\nWhat each command says of itself with `--help`.\n"]
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        if found is not None:
            parts += _helps(found, f"tornpage {name}", 2)
    return "\n".join(parts)


def _helps(found: click.Command, name: str, level: int) -> Iterator[str]:
    with click.Context(found, info_name=name) as context:
        context.max_content_width = 100
        yield f"{'#' * min(level, 3)} {name}\n\n```text\n{found.get_help(context)}\n```\n"
    if isinstance(found, click.Group):
        for inner in found.list_commands(context):
            command_of = found.get_command(context, inner)
            if command_of is not None:
                yield from _helps(command_of, f"{name} {inner}", level + 1)


def _checks() -> str:
    rows = "".join(f"| [{code}]({code}.md) | {check.meaning} |\n" for code, check in CHECKS.items())
    return (
        "# What each check means\n\nEach page is what `tornpage explain CODE` prints. [The checks](../checks.md) has "
        f"the scenarios behind them.\n\n| check | what must be true |\n| --- | --- |\n{rows}"
    )


def _check(code: str) -> str:
    check = CHECKS[code]
    return (
        f"# {code}\n\n{check.meaning[0].upper()}{check.meaning[1:]}.\n\n**Applies to:** {check.applies_to}.\n\n"
        f"**Source:** {check.source}\n\n**What to do:** {check.advice}\n\n"
        f"```console\n$ tornpage explain {code}\n```\n\n[All checks](index.md)\n"
    )


def _results() -> str:
    parts = ["# Result codes\n\nWhat `tornpage explain FULL` and the like print: the result, and what raises it.\n"]
    parts += [f"## {code}\n\n```text\n{explanation(code)}\n```\n" for code in codes() if code not in CHECKS]
    return "\n".join(parts)


def _public(package: Any) -> list[str]:
    """Where each public class and function is defined, so that its docstring is found there."""
    found = []
    for name in sorted(package.__all__):
        value = getattr(package, name)
        if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__.startswith("tornpage."):
            found.append(f"{value.__module__}.{value.__qualname__}")
    return list(dict.fromkeys(found))


def _api(title: str, what: str, names: list[str]) -> str:
    return f"# {title}\n\n{what}\n\n" + "\n".join(f"::: {name}\n" for name in names)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put a page for each check below the page that lists them, and documents that have no place of their own last."""
    nav: list[Any] = config.nav or []
    placed = set(_places(nav))
    documents = (path.relative_to(config.docs_dir).as_posix() for path in Path(config.docs_dir).rglob("*.md"))
    if rest := sorted(path for path in documents if path not in placed):
        nav.append({"More": rest})
    for section in nav:
        for entry in next(iter(section.values())) if isinstance(section, dict) else ():
            if isinstance(entry, dict) and _EXPLAIN in entry.values():
                title = next(iter(entry))
                entry[title] = [_EXPLAIN, *(f"explain/{code}.md" for code in CHECKS)]
    return config


def _places(nav: Any) -> Iterator[str]:
    """Every path of a navigation, at any depth."""
    if isinstance(nav, str):
        yield nav
        return
    for one in nav.values() if isinstance(nav, dict) else nav:
        yield from _places(one)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is made."""
    for path, text in generated():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Turn the links of a document of `docs/` to what lies outside of it."""
    if page.file.generated_by is not None:
        return markdown
    return turned(markdown, f"docs/{page.file.src_uri}", page.file.src_uri)
