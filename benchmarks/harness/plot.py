"""Draws results: python plot.py RESULTS.json OUT.svg [OUT.png]; needs matplotlib."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from harness.cases import CASES
from harness.servers import SERVERS

OURS, FLOOR, OTHER = "#d9480f", "#868e96", "#4c78a8"


def draw(axis: Any, bars: list[tuple[str, float, str]], title: str, digits: str) -> None:
    """Draw bars (name, value, colour), the last one on top."""
    names, values, colours = zip(*bars, strict=True)
    drawn = axis.barh(names, values, color=colours)
    axis.bar_label(drawn, labels=[digits.format(value) for value in values], padding=3)
    axis.set_title(title, fontsize=9, loc="left")
    axis.tick_params(labelsize=8)
    axis.margins(x=0.18)
    axis.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Draw one row a case: CPU on the left, requests a second on the right."""
    data = json.loads(Path(sys.argv[1]).read_text())
    titles = {server.key: server.title for server in SERVERS}
    cases = [case for case in CASES if any(r["case"] == case.key for r in data["results"])]
    if not cases:
        return
    counts = [sum(r["case"] == case.key for r in data["results"]) for case in cases]
    figure, axes = plt.subplots(
        len(cases),
        2,
        figsize=(13, 0.8 * len(cases) + 0.3 * sum(counts)),
        height_ratios=[count + 1 for count in counts],
        squeeze=False,
    )
    for row, case in zip(axes, cases, strict=True):
        results = [r for r in data["results"] if r["case"] == case.key]
        for axis, value, label, best_first in (
            (row[0], "cpu_us", "server CPU, us a request", False),
            (row[1], "rps", "requests a second", True),
        ):
            ordered = sorted(results, key=lambda r: r[value], reverse=not best_first)
            colours = {"turboapi": OURS, "floor": FLOOR}
            bars = [
                (titles[r["server"]], r[value], colours.get(r["server"], OTHER)) for r in ordered
            ]
            digits = "{:,.1f}" if value == "cpu_us" else "{:,.0f}"
            draw(axis, bars, f"{case.title}: {label}", digits)
    figure.tight_layout()
    for target in sys.argv[2:]:
        figure.savefig(target, dpi=120)


if __name__ == "__main__":
    main()
