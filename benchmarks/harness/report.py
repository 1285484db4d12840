"""Results as Markdown and JSON, and the goals that they are held against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .cases import CASES
from .servers import SERVERS

Table = dict[tuple[str, str], dict[str, Any]]


def as_table(results: list[dict[str, Any]]) -> Table:
    """Index results by server and case."""
    return {(each["server"], each["case"]): each for each in results}


def markdown_table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a Markdown table; the first column is text."""
    align = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(row)} |" for row in [head, align, *rows]]


def _grid(table: Table, cell: Callable[[dict[str, Any]], str]) -> list[str]:
    cases = [case for case in CASES if any(key == case.key for _, key in table)]
    rows = []
    for server in SERVERS:
        if not any(key == server.key for key, _ in table):
            continue
        cells = [
            cell(table[server.key, case.key]) if (server.key, case.key) in table else ""
            for case in cases
        ]
        rows.append([server.title, *cells])
    return markdown_table(["server", *[case.title for case in cases]], rows)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"


def _flag(each: dict[str, Any]) -> str:
    return f" ({each['errors']} errors)" if each["errors"] else ""


def _rate(each: dict[str, Any]) -> str:
    if each["mb_per_s"]:
        return f"{each['rps']:,.0f} ({each['mb_per_s']:,.0f} MB/s)"
    return f"{each['rps']:,.0f}"


def _latency(each: dict[str, Any]) -> str:
    return f"{each['p50_ms']:.2f} / {each['p99_ms']:.2f}" if each["p50_ms"] else ""


def _ratio(table: Table, server: str, case: str, other: str, other_case: str) -> float | None:
    one, two = table.get((server, case)), table.get((other, other_case))
    return one["cpu_us"] / two["cpu_us"] if one and two and two["cpu_us"] else None


def goals(data: dict[str, Any]) -> list[list[str]]:
    """Return rows (goal, measured, met) for what was measured."""
    table = as_table(data["results"])
    rows: list[list[str]] = []

    def at_most(text: str, value: float | None, limit: float, unit: str = "") -> None:
        if value is not None:
            rows.append([text, f"{value:.2f}{unit}", "yes" if value <= limit else "no"])

    def at_least(text: str, value: float | None, limit: float) -> None:
        if value:
            rows.append([text, f"{1 / value:.1f} times", "yes" if 1 / value >= limit else "no"])

    for case in ("sync", "async"):
        ratio = _ratio(table, "turboapi", case, "floor", "sync")
        at_most(f"{case} constant at most 1.6 times the floor", ratio, 1.6, " times")
    at_most(
        "async at most 1.15 times sync",
        _ratio(table, "turboapi", "async", "turboapi", "sync"),
        1.15,
        " times",
    )
    for case, least in {"sync": 12, "async": 12, "path": 12, "post": 12, "sleep64": 4}.items():
        at_least(
            f"{case}: at least {least} times less CPU than FastAPI + uvicorn",
            _ratio(table, "turboapi", case, "fastapi-uvicorn", case),
            least,
        )
    for case in ("form", "deps", "middleware", "rows", "ws"):
        at_least(
            f"{case}: at least 5 times less CPU than FastAPI + uvicorn",
            _ratio(table, "turboapi", case, "fastapi-uvicorn", case),
            5,
        )
    behind = _behind(table)
    if any(server == "turboapi" for server, _ in table):
        rows.append(
            ["every case ahead of every peer", behind or "ahead", "no" if behind else "yes"]
        )
    burst = data["burst"].get("turboapi")
    if burst:
        at_most(
            "1,000 connections sleeping 100 ms all answered within 150 ms",
            burst["all_ms"],
            150,
            " ms",
        )
    idle = data["idle"].get("turboapi")
    if idle:
        at_most("memory per idle connection below 4 KB", idle["bytes"], 4096, " bytes")
    return rows


def _behind(table: Table) -> str:
    found = []
    for (server, case), each in table.items():
        ours = table.get(("turboapi", case))
        if server in ("turboapi", "floor") or ours is None:
            continue
        if each["cpu_us"] < ours["cpu_us"]:
            found.append(f"{case}: {server} {each['cpu_us']:.1f} us, ours {ours['cpu_us']:.1f}")
    return "; ".join(found)


def markdown(data: dict[str, Any]) -> str:
    """Return the report."""
    table = as_table(data["results"])
    meta = data["meta"]
    lines = [
        "# Benchmark",
        "",
        f"{meta['date']}, {meta['cpu']}, Linux {meta['kernel']}, Python {meta['python']}; "
        f"{meta['duration']:g} s a case, median of {meta['repeat']}; server on CPU "
        f"{meta['server_cpus']}, client on CPU {meta['client_cpus']}; one worker each.",
        "",
        "Versions: " + ", ".join(f"{k} {v}" for k, v in sorted(meta["versions"].items())) + ".",
        "",
        "## Server CPU, microseconds a request (less is better)",
        "",
        *_grid(table, lambda each: _number(each["cpu_us"]) + _flag(each)),
        "",
        "## Requests a second",
        "",
        *_grid(table, _rate),
        "",
        "## Latency, p50 / p99 in ms",
        "",
        *_grid(table, _latency),
        "",
    ]
    if data["burst"] or data["idle"]:
        lines += ["## 1,000 requests at once that sleep 100 ms, and idle connections", ""]
        rows = []
        for server in SERVERS:
            burst, idle = data["burst"].get(server.key), data["idle"].get(server.key)
            if not burst and not idle:
                continue
            rows.append(
                [
                    server.title,
                    f"{burst['all_ms']:.1f}" if burst else "",
                    f"{burst['worst_ms']:.1f}" if burst else "",
                    f"{idle['bytes']:,.0f}" if idle else "",
                ]
            )
        head = ["server", "all answered, ms", "slowest answer, ms", "bytes an idle connection"]
        lines += [*markdown_table(head, rows), ""]
    reached = goals(data)
    if reached:
        lines += ["## Goals", "", *markdown_table(["goal", "measured", "met"], reached), ""]
    if data["failures"]:
        lines += ["## Not measured", "", *[f"- {text}" for text in data["failures"]], ""]
    return "\n".join(lines)
