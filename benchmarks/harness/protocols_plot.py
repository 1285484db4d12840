"""Draws protocols.py's results: python protocols_plot.py PROTOCOLS.json OUT.svg...

Needs matplotlib.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from harness.plot import FLOOR, OTHER, OURS, draw  # chooses the back end, too

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


def draw_medians(axis: Any, results: list[dict[str, Any]], key: str, title: str) -> None:
    """Draw a bar a server, the best one on top."""
    medians = {result["server"]: statistics.median(result[key]) for result in results}
    servers = sorted(medians, key=lambda server: medians[server], reverse=key == "cpu_us")
    colours = {"turboapi": OURS, "nginx": FLOOR}
    bars = [(server, medians[server], colours.get(server, OTHER)) for server in servers]
    draw(axis, bars, title, "{:,.1f}" if key == "cpu_us" else "{:,.0f}")


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
        draw_medians(left, results, "cpu_us", f"{TITLES[row]}: server CPU, us {what}")
        draw_medians(right, results, "rates", f"{TITLES[row]}: {what.removeprefix('a ')}s a second")
    figure.tight_layout()
    for target in sys.argv[2:]:
        figure.savefig(target, dpi=120)


if __name__ == "__main__":
    main()
