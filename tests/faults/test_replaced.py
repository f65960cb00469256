"""Attributes that are replaced for a while."""

import subprocess
import sys
import types

import pytest

from tornpage.faults.replaced import replaced


def test_what_is_replaced_is_back_after_the_scope_and_after_an_error() -> None:
    class Own:
        @staticmethod
        def told() -> str:
            return "own"

    module = types.ModuleType("some")
    module.told = Own.told  # type: ignore[attr-defined]
    kept = vars(Own)["told"]
    seen = []

    def fails() -> None:
        with replaced(Own, told=lambda: "other"), replaced(module, told=None):
            seen.extend([Own.told(), module.told])
            raise OSError("out")

    with pytest.raises(OSError, match="out"):
        fails()
    assert seen == ["other", None]
    assert vars(Own)["told"] is kept
    assert module.told() == "own"


@pytest.mark.parametrize("module", ["faults", "scenarios.run.campaign", "scenarios.execution.kill.worker"])
def test_no_process_loads_asyncio_for_a_store_that_has_no_use_for_it(module: str) -> None:
    code = f"import sys, tornpage.{module}; sys.exit(bool({{'asyncio', 'unittest.mock'}} & {{*sys.modules}}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
