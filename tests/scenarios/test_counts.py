"""What a fault point and a call of the ledger do has not grown: counted, not timed."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="the benchmarks are not part of the wheel")


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.counts")


@pytest.mark.slow
def test_neither_a_call_of_the_ledger_nor_a_fault_point_does_more_than_was_kept(counts: Any) -> None:
    now = counts.measured()
    kept = json.loads(counts.KEPT.read_text())
    assert now.keys() == kept["counts"].keys()
    assert all(value > 0 for one in now.values() for value in one.values())
    grown = counts.grown(now, kept)
    assert not grown, "python -m benchmarks.counts --write keeps these, if they are meant: " + "; ".join(grown)


def test_what_has_grown_is_named_and_what_has_not_or_belongs_to_another_version_is_not(counts: Any) -> None:
    now = {"a call": {"operations": 12.0, "statements": 4.0, "python_calls": 80.0}}

    def kept(operations: float, calls: float, **versions: str) -> dict[str, Any]:
        then = {"operations": operations, "statements": 4.0, "python_calls": calls}
        return {"versions": {**counts.versions(), **versions}, "counts": {"a call": then}}

    assert counts.grown(now, kept(11.0, 79.0)) == []
    assert counts.grown(now, kept(10.0, 70.0)) == [
        "a call: 12.0 operations, kept 10.0",
        "a call: 80.0 python_calls, kept 70.0",
    ]
    assert counts.grown(now, kept(10.0, 70.0, python="3.99")) == ["a call: 12.0 operations, kept 10.0"]
    assert counts.grown(now, kept(10.0, 70.0, sqlite="4.0.0")) == ["a call: 80.0 python_calls, kept 70.0"]
    assert len(counts.grown({"new": now["a call"]}, kept(10.0, 70.0))) == 3
