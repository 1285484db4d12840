"""The results of growth.py as Markdown: a table a curve, and how straight each line is."""

from __future__ import annotations

from typing import Any

from .report import markdown_table

TITLES = {
    "startup": "CPU until it answers, s",
    "memory": "memory of a connection, KB",
    "percent": "1 % active, at least 10",
    "ten": "10 active",
}
SERVERS = {"turboapi": "TurboAPI", "fastapi-uvicorn": "FastAPI + uvicorn"}
SCALE = {"memory": 1 / 1000}


def title_of(curve: dict[str, Any], line: str) -> str:
    """Return what a line shows."""
    return str(curve["lines"].get(line) or TITLES[line])


def number(value: float) -> str:
    """Write three digits or so."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def growth(points: list[list[float]]) -> str:
    """Tell how many times the first size's cost the last one's is, and what a unit more costs."""
    (low, first), (high, last) = points[0], points[-1]
    each = (last - first) / (high - low) if high > low else 0.0
    times = last / first if first else 0.0
    return f"x{times:.1f}; {1000 * each:+,.2f} per 1,000"


def markdown(data: dict[str, Any]) -> str:
    """Return the tables: CPU in microseconds per request where nothing else is said."""
    out = [f"Measured {data['meta']['date']}, Python {data['meta']['python'].split()[0]}."]
    for key, curve in data["curves"].items():
        rows: list[list[str]] = []
        sizes = sorted(
            {
                point[0]
                for curves in data["figures"].values()
                for points in curves.get(key, {}).values()
                for point in points
            }
        )
        for server, curves in data["figures"].items():
            for line, points in curves.get(key, {}).items():
                scaled = [[x, y * SCALE.get(line, 1)] for x, y in sorted(points)]
                by_size = dict(scaled)
                rows.append(
                    [
                        f"{SERVERS[server]}: {title_of(curve, line)}",
                        *[number(by_size[size]) if size in by_size else "" for size in sizes],
                        growth(scaled),
                    ]
                )
        if rows:
            head = [curve["unit"], *[f"{size:,}" for size in sizes], "growth"]
            out += ["", f"### {curve['title']}", *markdown_table(head, rows)]
    if data["failures"]:
        out += ["", "Not measured:", *[f"- {failure}" for failure in data["failures"]]]
    return "\n".join(out) + "\n"
