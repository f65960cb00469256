"""A campaign as observations in Hypothesis's format for test cases, which Tyche and other tools read.

One JSON object a line. ``DATE_testcases.jsonl`` has a *test case* for each point (passed, failed, or given up if its
fault did not fire), with its comparable properties under ``features``; ``DATE_info.jsonl`` has a message for each
finding, for vacuous parts, and for the counts of each search. An existing directory is appended to. The scenarios of
``fuzz`` are Hypothesis' own test cases, and Hypothesis defines their lines.

The fields are those of https://hypothesis.readthedocs.io/en/latest/reference/integrations.html#observability. There is
no coverage in them. Not covered: single crash states, of which the engine reports only sums.
"""

import contextlib
import dataclasses
import importlib
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import date
from pathlib import Path
from typing import IO, Any

import msgspec

from tornpage.scenarios.model.events import Event, Found, PointTried, SearchEnded, SearchStarted, Vacuous
from tornpage.scenarios.report.json_lines import lines_in

# Real time, also while a store's is virtual.
_perf_counter = time.perf_counter


class Observations:
    """Writes the observations of a campaign: test cases to one stream, messages to another."""

    def __init__(self, test_cases: IO[str], messages: IO[str]) -> None:
        self._test_cases, self._messages = test_cases, messages
        self._run_start = time.time()
        self._before = _perf_counter()
        self._property = ""

    def __call__(self, event: Event) -> None:  # noqa: D102 - a handler's one method
        if isinstance(event, SearchStarted):
            self._property = f"{event.search} {event.target}"
            self._before = _perf_counter()
        elif isinstance(event, PointTried):
            self._write(self._test_case(event))
        elif isinstance(event, Found):
            kind = "error" if event.promised and not event.accepted_because else "info"
            content = {
                "message": event.finding.message,
                "scenario": str(event.finding.scenario),
                "replay": event.replay,
            }
            self._write(self._message(kind, event.finding.code, content))
        elif isinstance(event, Vacuous):
            self._write(self._message("alert", "vacuous", event.reason))
        elif isinstance(event, SearchEnded):
            self._write(self._message("info", "counts", {name: str(many) for name, many in event.counts.items()}))

    def _test_case(self, event: PointTried) -> dict[str, Any]:
        now = _perf_counter()
        seconds, self._before = now - self._before, now
        series, place = event.series, event.place
        status = "failed" if event.is_finding else "passed" if event.fired else "gave_up"
        return {
            "type": "test_case",
            "run_start": self._run_start,
            "property": self._property,
            "status": status,
            "status_reason": "" if event.fired else "the fault did not fire",
            "representation": f"{place.call} at {place.configuration} under {place.condition}",
            "arguments": {"call": place.call, "step": place.step, "condition": place.condition},
            "how_generated": "every point, or a sample of them by the seed",
            "features": {
                "configuration": str(place.configuration),
                "operation": f"{series.kind}:{series.role}",
                "timing": series.timing,
                "effect": series.effect,
                "fired": event.fired,
                "surfaced": event.surfaced,
            },
            "timing": {"point": seconds},
            "metadata": {},
            "coverage": None,
        }

    def _message(self, kind: str, title: str, content: Any) -> dict[str, Any]:
        return {
            "type": kind,
            "run_start": self._run_start,
            "property": self._property,
            "title": title,
            "content": content,
        }

    def _write(self, line: dict[str, Any]) -> None:
        stream = self._test_cases if line["type"] == "test_case" else self._messages
        stream.write(msgspec.json.encode(line, enc_hook=repr).decode() + "\n")
        stream.flush()

    def of_hypothesis(self) -> AbstractContextManager[object]:
        """While it is open, Hypothesis' own test cases are written, too, if its version supports it."""
        try:
            observability: Any = importlib.import_module("hypothesis.internal.observability")
            opened: AbstractContextManager[object] = observability.with_observability_callback(self._of_hypothesis)
        except (ImportError, AttributeError):
            return contextlib.nullcontext()
        return opened

    def _of_hypothesis(self, observation: Any) -> None:
        """Write one of Hypothesis' observations in its own format."""
        line = {
            field.name: getattr(observation, field.name)
            for field in dataclasses.fields(observation)
            if not field.name.startswith("_")
        }
        metadata = line.get("metadata")
        if metadata is not None and hasattr(metadata, "to_json"):
            line["metadata"] = metadata.to_json()
        self._write({**line, "property": self._property})


@contextlib.contextmanager
def observing(directory: Path, today: date) -> Iterator[Observations]:
    """A handler that observes a campaign, the scenarios of Hypothesis with it. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as scope:
        names = (f"{today.isoformat()}_{kind}.jsonl" for kind in ("testcases", "info"))
        streams = [scope.enter_context(lines_in(directory / name, "a")) for name in names]
        observations = Observations(*streams)
        scope.enter_context(observations.of_hypothesis())
        yield observations
