"""world-readable: the state directory and the database get whatever mode the umask leaves."""

import os
from pathlib import Path
from unittest import mock

from tornpage.ledger.disk import files
from tornpage.scenarios.model.target import Configuration, Environment, Session
from tornpage.scenarios.targets.known_bugs.build import CREATE, KnownBug
from tornpage.scenarios.targets.reference.target import Reference


class _LeftToTheUmask(Reference):
    """The reference, with everything that makes its files private taken out."""

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> Session:
        """Open it under the umask that most systems have."""
        umask = os.umask(0o022)
        try:
            with mock.patch.object(files, "_tighten_one"), mock.patch.object(files, "_create_private"):
                return super().open(directory, configuration, environment)
        finally:
            os.umask(umask)


CALLS = (CREATE,)

BUG = KnownBug(
    name="world-readable",
    source="openclaw PR 57361, review",
    defect="everybody on the machine can read what the tasks are about",
    checks=("files-are-private",),
    make=lambda name: _LeftToTheUmask(name, calls=CALLS),
)
