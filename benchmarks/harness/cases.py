"""What is measured: a request, how many connections send it, and what must come back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

ITEM = {"name": "Widget", "price": 9.5, "tags": ["a", "b", "c"]}
MEGABYTE = 1 << 20


def equals(expected: object) -> Callable[[bytes], bool]:
    """Return a check that a body is this JSON value."""

    def check(body: bytes) -> bool:
        try:
            return bool(json.loads(body) == expected)
        except ValueError:
            return False

    return check


def stream_of_pieces(body: bytes) -> bool:
    """Tell whether a body is all of the stream's pieces."""
    return body == b"x" * 100 * 200


def hundred_rows(body: bytes) -> bool:
    """Tell whether a body is a list of 100 objects."""
    try:
        rows = json.loads(body)
    except ValueError:
        return False
    return isinstance(rows, list) and len(rows) == 100 and rows[99]["name"] == "Row 99"


@dataclass(frozen=True)
class Case:
    """One row of requests: `variant` names the application that serves it."""

    key: str
    title: str
    path: str
    check: Callable[[bytes], bool]
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    connections: int = 64
    variant: str = "plain"
    kind: str = "http"
    megabytes: float = 0.0
    pipeline: int = 1  # requests that a connection sends at once
    needs_header: str = ""
    status: int = 200


JSON = {"Content-Type": "application/json"}
CONSTANT = equals({"message": "Hello, World!"})

CASES = [
    Case("sync", "sync constant", "/sync", CONSTANT),
    Case("async", "async constant", "/async", CONSTANT),
    Case(
        "path",
        "path + query",
        "/users/42?q=x&limit=5",
        equals({"user_id": 42, "q": "x", "limit": 5}),
    ),
    Case("post", "POST of a model", "/items", equals(ITEM), "POST", JSON, json.dumps(ITEM)),
    Case(
        "form",
        "form, urlencoded",
        "/form",
        equals(ITEM),
        "POST",
        {"Content-Type": "application/x-www-form-urlencoded"},
        "name=Widget&price=9.5&tags=a&tags=b&tags=c",
    ),
    Case("rows", "response_model, 100 rows", "/rows", hundred_rows),
    Case("deps", "5 dependencies, one yield", "/deps", equals({"user": "user-t-10"})),
    Case(
        "middleware",
        "one HTTP middleware",
        "/async",
        CONSTANT,
        variant="middleware",
        needs_header="x-bench",
    ),
    Case(
        "cors",
        "CORS",
        "/async",
        CONSTANT,
        headers={"Origin": "https://example.org"},
        variant="cors",
        needs_header="access-control-allow-origin",
    ),
    Case("sleep64", "sleep(1 ms), 64 conn.", "/sleep", equals({"ok": True})),
    Case("sleep1000", "sleep(1 ms), 1,000 conn.", "/sleep", equals({"ok": True}), connections=1000),
    Case(
        "upload",
        "upload of 1 MB",
        "/upload",
        equals({"size": MEGABYTE}),
        "POST",
        {"Content-Type": "application/octet-stream"},
        "x" * MEGABYTE,
        connections=16,
        megabytes=1,
    ),
    Case(
        "download",
        "streamed download of 10 MB",
        "/download",
        lambda body: len(body) == 10 * MEGABYTE,
        connections=8,
        megabytes=10,
    ),
    Case("stream", "stream of 200 pieces", "/stream", stream_of_pieces, connections=8),
    Case("stream_def", "the same from a def", "/stream_def", stream_of_pieces, connections=8),
    Case(
        "lines",
        "200 JSON lines by yield",
        "/lines",
        lambda body: body.count(b"\n") == 200,
        connections=8,
    ),
    Case(
        "events",
        "200 server-sent events",
        "/events",
        lambda body: body.count(b"\n\n") == 200,
        connections=8,
    ),
    Case("ws", "WebSocket echo", "/ws", lambda body: True, kind="ws"),
]

BY_KEY = {case.key: case for case in CASES}
