"""Draws growth.py's results: python growth_plot.py GROWTH.json OUT.svg...; needs matplotlib."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from harness.growth_report import SCALE, SERVERS, title_of

COLOURS = {"turboapi": "#d9480f", "fastapi-uvicorn": "#4c78a8"}
DASHES = ("-", "--", ":")
CPU = "server CPU, µs a request"
# (curve, its lines or None for all that are not elsewhere, title, label, scales)
PANELS: tuple[tuple[str, tuple[str, ...], str, str, str], ...] = (
    ("routes", ("first", "last", "none"), "Number of routes", CPU, "loglog"),
    ("routes", ("startup",), "Start-up", "CPU seconds until it answers", "loglog"),
    ("connections", ("percent", "ten"), "Open connections", CPU, "semilog"),
    ("connections", ("memory",), "Memory", "KB a connection", "semilog"),
    ("fields", ("ignored", "read"), "Header fields", CPU, "linear"),
    ("dependencies", ("plain", "yield"), "Dependencies in a chain", CPU, "linear"),
    ("body", ("json", "raw", "file"), "Body", CPU, "loglog"),
)


def draw(
    axis: Any, data: dict[str, Any], panel: tuple[str, tuple[str, ...], str, str, str]
) -> None:
    """Draw the lines of one panel, in a colour a server."""
    key, lines, title, label, scales = panel
    curve = data["curves"][key]
    for server, curves in data["figures"].items():
        found = curves.get(key, {})
        for line, dash in zip(lines, DASHES, strict=False):
            points = sorted(found.get(line, []))
            axis.plot(
                [x for x, _ in points],
                [y * SCALE.get(line, 1) for _, y in points],
                dash,
                color=COLOURS[server],
                marker="o",
                markersize=3,
                label=f"{SERVERS[server]}: {title_of(curve, line)}",
            )
    axis.set_title(title, fontsize=10, loc="left")
    axis.set_xlabel(curve["unit"], fontsize=8)
    axis.set_ylabel(label, fontsize=8)
    if scales != "linear":
        axis.set_xscale("log")
    if scales == "loglog":
        axis.set_yscale("log")
    else:
        axis.set_ylim(bottom=0)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=7, frameon=False)


def main() -> None:
    """Draw a panel for each measure."""
    data = json.loads(Path(sys.argv[1]).read_text())
    has = {key for curves in data["figures"].values() for key in curves}
    panels = [panel for panel in PANELS if panel[0] in has]
    if not panels:
        return
    rows = (len(panels) + 1) // 2
    figure, axes = plt.subplots(rows, 2, figsize=(12, 3.6 * rows), squeeze=False)
    cells = list(axes.flat)
    for axis, panel in zip(cells, panels, strict=False):
        draw(axis, data, panel)
    for axis in cells[len(panels) :]:
        axis.axis("off")
    figure.tight_layout()
    for target in sys.argv[2:]:
        figure.savefig(target, dpi=120)


if __name__ == "__main__":
    main()
