"""The realistic benchmark's results as Markdown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.report import markdown_table

from .cases import CASES
from .servers import OURS, SERVERS

Table = dict[tuple[str, str], dict[str, Any]]


def line(one: dict[str, Any]) -> str:
    """Return a measurement in a line, for who waits."""
    peak, half, most = one["peak"], one["half"], one["most"]
    text = (
        f"{peak['cpu_us']:9.1f} us {peak['rps']:8.0f}/s"
        f"  50 %: p50 {half['p50']:.2f} p99 {half['p99']:.2f} p99.9 {half['p999']:.2f} ms"
        f"  90 %: p99 {most['p99']:.2f} ms  {one['rest']:.0f} to {most['memory']:.0f} MB"
    )
    wrong = sum(part["errors"] + part["unanswered"] for part in (peak, half, most))
    return text + (f"  {wrong:.0f} WRONG" if wrong else "")


def number(value: float) -> str:
    """Return a figure with as many digits as it deserves."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _latency(part: str) -> Callable[[dict[str, Any]], str]:
    def cell(each: dict[str, Any]) -> str:
        load = each[part]
        flag = f" ({load['unanswered']:.0f} unanswered)" if load["unanswered"] else ""
        return " / ".join(number(load[key]) for key in ("p50", "p99", "p999")) + flag

    return cell


def _cpu(each: dict[str, Any]) -> str:
    wrong = each["peak"]["errors"]
    return number(each["peak"]["cpu_us"]) + (f" ({wrong:.0f} errors)" if wrong else "")


def _memory(each: dict[str, Any]) -> str:
    parts = [each[part]["memory"] for part in ("peak", "half", "most")]
    return f"{each['rest']:.0f} / {max(parts):.0f}"


def grid(table: Table, cell: Callable[[dict[str, Any]], str], width: int = 10) -> list[str]:
    """Return a table with a row a server and a column a case, several if it would be too wide."""
    servers = [server for server in SERVERS if any(key == server.key for key, _ in table)]
    cases = [case for case in CASES if any(key == case.key for _, key in table)]
    lines: list[str] = []
    for start in range(0, len(cases), width):
        part = cases[start : start + width]
        rows = [
            [server.title]
            + [
                cell(table[server.key, case.key]) if (server.key, case.key) in table else ""
                for case in part
            ]
            for server in servers
        ]
        head = ["server", *[f"`{case.key}`" for case in part]]
        lines += ["", *markdown_table(head, rows)]
    return lines[1:]


def limits(table: Table, alone: dict[str, dict[str, float]]) -> list[list[str]]:
    """Return a row a case: ours, the client library's own cost, what is left for each server."""
    rows = []
    for case in CASES:
        ours, library = table.get(("turboapi", case.key)), alone.get(case.key)
        if ours is None or library is None:
            continue
        own = library.get("turboapi", 0.0)
        other = library.get("uvloop", 0.0)
        peer = table.get(("fastapi-uvicorn", case.key))
        cpu = ours["peak"]["cpu_us"]
        rest = peer["peak"]["cpu_us"] - other if peer else None
        rows.append(
            [
                f"`{case.key}`",
                number(cpu),
                number(own),
                f"{own / cpu:.0%}",
                number(max(cpu - own, 0.0)),
                "" if rest is None else number(max(rest, 0.0)),
            ]
        )
    return rows


def behind(table: Table) -> list[str]:
    """Return where a peer takes less CPU than TurboAPI, or has a lower p99 at half its peak."""
    found = []
    for case in CASES:
        ours = table.get(("turboapi", case.key))
        if ours is None:
            continue
        for server in SERVERS:
            each = table.get((server.key, case.key))
            if each is None or server.key in OURS:
                continue
            cpu, own = each["peak"]["cpu_us"], ours["peak"]["cpu_us"]
            if cpu < own:
                found.append(f"{case.key}: {server.title} takes {cpu:.1f} us, ours {own:.1f}")
            p99, own = each["half"]["p99"], ours["half"]["p99"]
            if p99 < own:
                found.append(f"{case.key}: p99 of {server.title} {p99:.2f} ms, ours {own:.2f}")
    return found


def markdown(data: dict[str, Any]) -> str:
    """Return the report."""
    table: Table = {(each["server"], each["case"]): each for each in data["results"]}
    meta = data["meta"]
    ahead = behind(table)
    lines = [
        "# Realistic benchmark",
        "",
        f"{meta['date']}, {meta['cpu']}, Linux {meta['kernel']}, Python {meta['python']}; "
        f"{meta['duration']:g} s a load, median of {meta['repeat']}; server on CPU "
        f"{meta['server_cpus']}, client and databases on CPU {meta['client_cpus']}; one worker "
        f"each; {meta['minutes']:.0f} minutes; load average before {meta['load_before']:.1f}.",
        "",
        "Versions: " + ", ".join(f"{k} {v}" for k, v in sorted(meta["versions"].items())) + ".",
        "",
        "## Server CPU at the peak, microseconds a request (of the chat: a message heard)",
        "",
        *grid(table, _cpu),
        "",
        "## Requests a second at the peak",
        "",
        *grid(table, lambda each: number(each["peak"]["rps"])),
        "",
        "## Latency at 50 % of each one's peak, p50 / p99 / p99.9 in ms",
        "",
        *grid(table, _latency("half"), 4),
        "",
        "## Latency at 90 % of each one's peak, p50 / p99 / p99.9 in ms",
        "",
        *grid(table, _latency("most"), 4),
        "",
        "## Resident memory, MB at rest / under load",
        "",
        *grid(table, _memory),
        "",
    ]
    rows = limits(table, data["alone"])
    if rows:
        head = ["case", "TurboAPI, us", "libraries alone, us", "share", "TurboAPI's rest, us"]
        lines += [
            "## What the client libraries take by themselves",
            "",
            *markdown_table([*head, "FastAPI + uvicorn's rest, us"], rows),
            "",
        ]
    lines += ["## Behind a peer", "", *[f"- {text}" for text in ahead or ["nowhere"]], ""]
    if data["failures"]:
        lines += ["## Not measured", "", *[f"- {text}" for text in data["failures"]], ""]
    return "\n".join(lines)
