"""`turboapi status`: what the metrics address of a running server tells, as tables."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from turboapi._serving import addresses

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_PATIENCE = 5.0
_MOST_ROUTES = 40
_MOST_REQUESTS = 20
# As a browser has the address of a page of it.
_URL = re.compile(r"^http://([^/]+)(?:/.*)?$")


class StatusError(Exception):
    """The address has no status for us; the text says why."""


class AddressError(StatusError):
    """It is no address at all."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_PATIENCE)
        self.sock.connect(self._path)


def ask(address: str) -> dict[str, Any]:
    """Return what `/-/status.json` of the address has.

    Raises:
        AddressError: it is none.
        StatusError: nothing that we know answers there.
    """
    try:
        parts = addresses.parse(_URL.sub(r"\1", address))
    except ValueError as error:
        raise AddressError(str(error)) from None
    connection: http.client.HTTPConnection
    if parts["uds"] is not None:
        connection = _UnixConnection(parts["uds"])
    elif parts.get("port"):
        host = "127.0.0.1" if parts["host"] == "0.0.0.0" else parts["host"]  # noqa: S104
        connection = http.client.HTTPConnection(host, parts["port"], timeout=_PATIENCE)
    else:
        raise AddressError(f"{address} is no address to connect to")
    try:
        connection.request("GET", "/-/status.json")
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise StatusError(f"{address} answers {answer.status}: is it what --metrics says?")
        found: dict[str, Any] = json.loads(body)
        if "workers" not in found:
            raise StatusError(f"{address} has no status of TurboAPI")
        return found
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise StatusError(f"{address}: {error}") from None
    finally:
        connection.close()


def show(console: Console, address: str, *, watch: float | None) -> None:
    """Print the status once, or again and again until Ctrl+C.

    Raises:
        StatusError: as `ask`.
    """
    status = ask(address)
    if watch is None:
        console.print(render(status, None))
        return
    with Live(render(status, None), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(watch)
            before, status = status, ask(address)
            live.update(render(status, before), refresh=True)


def render(status: dict[str, Any], before: dict[str, Any] | None) -> RenderableType:
    """Return tables of a status; with an earlier one they have rates."""
    totals = status["totals"]
    head = Text.assemble(
        ("ready" if status["ready"] else "not ready", "bold green" if status["ready"] else "red"),
        f"  {status['in_flight']} in flight",
        f"  {sum(status['connections'].values())} connections",
        f"  {max(0, totals['websockets'])} WebSockets",
        f"  {totals['restarts']} restarts",
    )
    if totals["log_lines_dropped"]:
        head.append(f"  {totals['log_lines_dropped']} log lines dropped", "red")
    return Group(head, _workers(status, before), _routes(status, before), _requests(status))


def _table(title: str, *columns: str, left: int = 1) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < left else "right", overflow="fold")
    return table


def _workers(status: dict[str, Any], before: dict[str, Any] | None) -> Table:
    table = _table(
        "\nWorkers", "process", "state", "CPU", "memory", "up", "requests", "in flight",
        "connections", "lag", left=2,
    )  # fmt: skip
    then = {one["pid"]: one["cpu"] for one in before["workers"]} if before else {}
    for one in status["workers"]:
        # Of its whole life, or since the last look.
        cpu, passed = one["cpu"], one["uptime"]
        if before and one["pid"] in then:
            cpu, passed = one["cpu"] - then[one["pid"]], status["now"] - before["now"]
        table.add_row(
            f"{one['pid']}.{one['thread']}" if one["thread"] else str(one["pid"]),
            Text(one["state"], "green" if one["state"] == "ready" else "yellow"),
            f"{100 * cpu / passed:.0f} %" if passed > 0 else "-",
            _bytes(one["memory"]),
            _span(one["uptime"]),
            str(one["requests"]),
            str(one["in_flight"]),
            str(one["connections"]),
            _time(one["lag"]),
        )
    return table


def _routes(status: dict[str, Any], before: dict[str, Any] | None) -> Table:
    table = _table(
        "\nRoutes", "method", "route", "requests", "/s", "p50", "p99", "4xx", "5xx", left=2
    )
    then = (
        {(one["method"], one["route"]): one["count"] for one in before["routes"]} if before else {}
    )
    passed = status["now"] - before["now"] if before else 0.0
    for one in status["routes"][:_MOST_ROUTES]:
        new = one["count"] - then.get((one["method"], one["route"]), 0)
        table.add_row(
            one["method"],
            Text(one["route"] or "(no route)"),
            str(one["count"]),
            f"{new / passed:.1f}" if passed > 0 else "-",
            _time(one["p50"]),
            _time(one["p99"]),
            str(one["refused"]),
            Text(str(one["errors"]), "red" if one["errors"] else ""),
        )
    return table


def _requests(status: dict[str, Any]) -> Table:
    table = _table("\nIn flight", "method", "route", "age", "process", left=2)
    for one in status["requests"][:_MOST_REQUESTS]:
        table.add_row(
            one["method"] or "-", Text(one["route"] or "-"), _time(one["age"]), str(one["pid"])
        )
    return table


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _span(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB"):
        if n < 1000:
            return f"{n:.0f} {unit}"
        n /= 1000
    return f"{n:.1f} GB"
