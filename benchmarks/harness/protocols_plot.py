"""Draws protocols.py's results: python protocols_plot.py PROTOCOLS.json OUT.svg...

Needs matplotlib.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

OURS, FLOOR, OTHER = "#d9480f", "#868e96", "#4c78a8"
TITLES = {
    "h1": "HTTP/1.1 in the clear",
    "tls": "HTTP/1.1 over TLS",
    "handshakes": "full TLS handshakes",
    "h2-1": "HTTP/2 over TLS, one stream after the other",
    "h2-10": "HTTP/2 over TLS, 10 streams at once",
    "h2-100": "HTTP/2 over TLS, 100 streams at once",
    "gzip": "50 KB of JSON, gzip",
    "br": "50 KB of JSON, brotli",
}


def draw(axis: Any, results: list[dict[str, Any]], key: str, title: str) -> None:
    """Draw a bar a server, the best one on top."""
    medians = {result["server"]: statistics.median(result[key]) for result in results}
    servers = sorted(medians, key=lambda server: medians[server], reverse=key == "cpu_us")
    bars = axis.barh(
        servers,
        [medians[server] for server in servers],
        color=[{"turboapi": OURS, "nginx": FLOOR}.get(server, OTHER) for server in servers],
    )
    digits = "{:,.1f}" if key == "cpu_us" else "{:,.0f}"
    axis.bar_label(bars, labels=[digits.format(medians[s]) for s in servers], padding=3)
    axis.set_title(title, fontsize=9, loc="left")
    axis.tick_params(labelsize=8)
    axis.margins(x=0.18)
    axis.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Draw a row each: CPU time on the left, how many a second on the right."""
    data = json.loads(Path(sys.argv[1]).read_text())
    rows = [key for key in TITLES if any(r["row"] == key for r in data["results"])]
    if not rows:
        return
    figure, axes = plt.subplots(len(rows), 2, figsize=(13, 2.4 * len(rows)), squeeze=False)
    for (left, right), row in zip(axes, rows, strict=True):
        results = [r for r in data["results"] if r["row"] == row]
        what = "a handshake" if row == "handshakes" else "a request"
        draw(left, results, "cpu_us", f"{TITLES[row]}: server CPU, us {what}")
        draw(right, results, "rates", f"{TITLES[row]}: {what.removeprefix('a ')}s a second")
    figure.tight_layout()
    for target in sys.argv[2:]:
        figure.savefig(target, dpi=120)


if __name__ == "__main__":
    main()
