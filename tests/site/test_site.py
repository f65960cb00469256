"""The documentation as a site: it builds without a warning, and every link and anchor in it leads somewhere.

``tox -e site`` has what it takes; without that all this is skipped. Links to other sites are not followed.
"""

import importlib.util
import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tornpage import CHECKS

ROOT = Path(__file__).parents[2]
MISSING = [name for name in ("material", "mkdocstrings") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}; tox -e site has them")


class Links(HTMLParser):
    """What a page links to, what it loads, and what in it can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given.get("id", ""), given.get("name", "")}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in ("script", "img", "iframe") and "src" in given:
            self.loads.append(given["src"])
        if tag == "link" and "stylesheet" in given.get("rel", ""):
            self.loads.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as it is published; a warning is an error."""
    built = tmp_path_factory.mktemp("site")
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(built)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return built


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Links]:
    """Every page, but for the one that a server shows for what is not there: its links are absolute."""
    return {path: Links(path.read_text()) for path in site.rglob("*.html") if path.name != "404.html"}


def test_every_link_and_anchor_leads_somewhere(pages: dict[Path, Links]) -> None:
    lost = []
    for page, found in pages.items():
        for link in [*found.links, *found.loads]:
            address = urlsplit(link)
            if address.scheme or address.netloc:
                continue
            goal = (page.parent / unquote(address.path)).resolve() if address.path else page
            anchors = pages[goal].anchors if goal in pages else {""}
            if not goal.exists() or unquote(address.fragment) not in anchors:
                lost.append(f"{page.name}: {link}")
    assert lost == []
    assert sum(len(found.links) for found in pages.values()) > 1000


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, Links]) -> None:
    assert [one for found in pages.values() for one in found.loads if urlsplit(one).netloc] == []


def test_every_document_and_every_check_is_a_page(site: Path, pages: dict[Path, Links]) -> None:
    there = {path.relative_to(site).with_suffix("").as_posix() for path in pages}
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} <= there
    assert {f"explain/{code}" for code in CHECKS} <= there
    assert {"index", "commands", "explain/results", "api/tornpage", "api/faults", "api/ledger"} <= there


def test_the_search_knows_checks_commands_and_the_api(site: Path) -> None:
    documents = json.loads((site / "search/search_index.json").read_text())["docs"]
    titles = {one["title"] for one in documents}
    assert {"no-resurrection", "tornpage new target", "SimpleTarget", "Which tool when"} <= titles
    (one,) = (
        one for one in documents if one["location"].endswith("#tornpage.scenarios.model.simple_target.SimpleTarget")
    )
    assert "Set `file`" in one["text"].replace("<code>", "`").replace("</code>", "`")
