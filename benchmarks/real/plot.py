"""Draws the realistic benchmark: python plot.py RESULTS.json OUT.svg [OUT.png] [--cpu]."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from real.cases import CASES
from real.servers import OURS, SERVERS

MINE, OTHER, LIBRARY = "#d9480f", "#4c78a8", "#343a40"
COLUMNS = [
    ("peak", "cpu_us", "server CPU, us a request", "{:,.1f}"),
    ("half", "p99", "p99 at 50 % of the peak, ms", "{:,.2f}"),
    ("most", "p99", "p99 at 90 % of the peak, ms", "{:,.2f}"),
]


def draw(axis: Any, results: list[dict[str, Any]], part: str, key: str, digits: str) -> None:
    """Draw a bar a server, the best one at the top."""
    titles = {server.key: server.title for server in SERVERS}
    ordered = sorted(results, key=lambda each: each[part][key], reverse=True)
    values = [each[part][key] for each in ordered]
    colors = [MINE if each["server"] in OURS else OTHER for each in ordered]
    bars = axis.barh([titles[each["server"]] for each in ordered], values, color=colors)
    axis.bar_label(bars, labels=[digits.format(value) for value in values], padding=3, fontsize=7)
    axis.tick_params(labelsize=7)
    axis.margins(x=0.18)
    axis.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Draw one row a case: CPU, p99 at half the peak, p99 at nine tenths of it; or only CPU."""
    columns = COLUMNS[:1] if "--cpu" in sys.argv else COLUMNS
    source, *targets = [each for each in sys.argv[1:] if each != "--cpu"]
    data = json.loads(Path(source).read_text())
    cases = [case for case in CASES if any(r["case"] == case.key for r in data["results"])]
    if not cases:
        return
    counts = [sum(r["case"] == case.key for r in data["results"]) for case in cases]
    figure, axes = plt.subplots(
        len(cases),
        len(columns),
        figsize=(1 + 5 * len(columns), 0.8 * len(cases) + 0.26 * sum(counts)),
        height_ratios=[count + 1 for count in counts],
        squeeze=False,
    )
    for row, case in zip(axes, cases, strict=True):
        results = [r for r in data["results"] if r["case"] == case.key]
        for axis, (part, key, label, digits) in zip(row, columns, strict=True):
            draw(axis, results, part, key, digits)
            axis.set_title(f"{case.title}: {label}", fontsize=8, loc="left")
        library = data["alone"].get(case.key, {}).get("turboapi")
        if library:  # what no server can be below
            row[0].axvline(library, color=LIBRARY, linestyle=":", linewidth=1)
    figure.tight_layout()
    for target in targets:
        figure.savefig(target, dpi=100)


if __name__ == "__main__":
    main()
