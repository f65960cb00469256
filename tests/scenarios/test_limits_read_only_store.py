"""The reference on a file system that turns read-only: it says so, loses nothing, and goes on when it can write again.

Mounting takes root; where it isn't allowed the test says why it is skipped.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tornpage.ledger import StoreError
from tornpage.scenarios.model.target import Configuration, Environment
from tornpage.scenarios.targets.reference.target import Reference

Remount = Callable[[str], None]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[tuple[Path, Remount]]:
    """A file system in memory, and how to mount it anew as "ro" or "rw"."""
    program = shutil.which("mount")
    place = tmp_path / "mounted"
    place.mkdir()
    if program is None or os.geteuid() != 0:
        pytest.skip("only root may mount a file system")

    def mount(options: str) -> subprocess.CompletedProcess[str]:
        line = [program, "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        return subprocess.run(line, capture_output=True, text=True, check=False)

    done = mount("size=8m")
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    try:
        yield place, lambda option: mount(f"remount,{option}").check_returncode()
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False)


@pytest.mark.parametrize("configuration", Reference().configurations, ids=str)
def test_a_store_on_a_read_only_file_system_refuses_and_loses_nothing(
    mounted: tuple[Path, Remount], configuration: Configuration
) -> None:
    place, remount = mounted
    target = Reference()
    calls = target.workload()[:6]
    session = target.open(place / "state", configuration, Environment())
    for call in calls:
        session.call(call)
    before = session.live_view()
    session.close()

    remount("ro")
    with pytest.raises(StoreError, match="can't be written to"):
        target.open(place / "state", configuration, Environment()).close()

    remount("rw")
    again = target.open(place / "state", configuration, Environment())
    assert again.live_view() == before
    again.call(target.heartbeat())
    again.close()
