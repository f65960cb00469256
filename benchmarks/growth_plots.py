"""The curves of ``benchmarks.growth`` as SVG: the same figures make the same bytes with one version of matplotlib.

No background, a grey that is legible on white and on black, colours that the colour-blind can distinguish (Okabe and
Ito), and a separate marker and dash for each curve. Text stays text.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_GREY = "#767676"
_STYLES = (("#0072B2", "o", "-"), ("#D55E00", "s", "--"), ("#009E73", "^", "-."), ("#CC79A7", "D", ":"))
_SETTINGS: Any = {
    "svg.hashsalt": "tornpage",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _GREY,
    "axes.edgecolor": _GREY,
    "axes.labelcolor": _GREY,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "grid.color": _GREY,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 2,
    "lines.markersize": 6,
    "legend.frameon": False,
}
_Lines = Sequence[Mapping[str, Any]]


def drawn(curves: Mapping[str, Any], directory: Path) -> Iterator[Path]:
    """Draw every plot into a directory; its files, as they are written."""
    with mpl.rc_context(_SETTINGS):
        for name, draw in (("calls", _calls), ("ledger", _ledger), ("memory", _memory), ("jobs", _jobs)):
            figure = Figure(figsize=(6.4, 3.4), layout="constrained")
            draw(figure.subplots(), curves)
            path = directory / f"growth-{name}.svg"
            figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})
            yield path


def _curves(axes: Axes, lines: _Lines, by: str, names: Mapping[str, str]) -> None:
    """Curves over a column, each of another column and with its own name, colour, marker and dash."""
    across = [line[by] for line in lines]
    for (column, name), (colour, marker, dash) in zip(names.items(), _STYLES, strict=False):
        axes.plot(across, [line[column] for line in lines], color=colour, marker=marker, linestyle=dash, label=name)
    axes.set_xscale("log")
    axes.set_xticks(across, [f"{one:,}" for one in across])
    axes.minorticks_off()
    axes.grid(visible=True)
    axes.legend(labelcolor=_GREY)


def _calls(axes: Axes, curves: Mapping[str, Any]) -> None:
    names = {"sweep_ms_per_call": "fault points", "crash_ms_per_call": "crash states"}
    _curves(axes, curves["calls"], "calls", names)
    axes.set_xlabel("calls of the workload")
    axes.set_ylabel("milliseconds per call")
    axes.set_ylim(bottom=0)


def _ledger(axes: Axes, curves: Mapping[str, Any]) -> None:
    lines = [
        {
            "tasks": line["tasks"],
            "restore": 1e3 * line["restore_s"],
            "audit": 1e3 * line["audit_s"],
            "disk": 1e-3 * line["update_on_disk_us"],
            "memory": 1e-3 * line["update_us"],
        }
        for line in curves["tasks"]
    ]
    names = {
        "restore": "restore",
        "audit": "audit, first page",
        "disk": "one update, on disk",
        "memory": "one update, in memory",
    }
    _curves(axes, lines, "tasks", names)
    axes.set_yscale("log")
    axes.set_xlabel("tasks")
    axes.set_ylabel("milliseconds")


def _memory(axes: Axes, curves: Mapping[str, Any]) -> None:
    names = {"bytes_per_task": "while the ledger is open", "peak_bytes_per_task": "the most while it opens"}
    _curves(axes, curves["tasks"], "tasks", names)
    axes.set_xlabel("tasks")
    axes.set_ylabel("bytes per task")
    axes.set_ylim(bottom=0)


def _jobs(axes: Axes, curves: Mapping[str, Any]) -> None:
    lines = curves["jobs"]
    jobs = [str(line["jobs"]) for line in lines]
    bars = axes.bar(jobs, [line["check_s"] for line in lines], width=0.5, color=_STYLES[0][0])
    axes.bar_label(bars, [f"{line['check_s']:g} s" for line in lines], color=_GREY)
    axes.set_xlabel("processes (--jobs)")
    axes.set_ylabel("seconds for one check")
    axes.margins(y=0.15)
