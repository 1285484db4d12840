"""The rows of the realistic benchmark: what is asked, and what must be answered."""

from __future__ import annotations

import datetime
import html
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field

START = datetime.datetime(2026, 1, 1)  # PostgreSQL's timestamp has no zone
FORTUNES = [
    "A computer scientist is someone who fixes things that aren't broken.",
    "After enough decimal places, nobody gives a damn.",
    "A list is only as strong as its weakest link. - Donald Knuth",
    "Any program that runs right is obsolete.",
    "Computers make very fast, very accurate mistakes.",
    "Emacs is a nice operating system, but I prefer UNIX. - Tom Christiansen",
    "Feature: A bug with seniority.",
    '<script>alert("This should not run.");</script>',
    "If the code and the comments disagree, then both are probably wrong.",
    "It is easier to change the specification to fit the program than vice versa.",
    "Weiler's Law: Nothing is impossible for the man who doesn't have to do it himself.",
    "フレームワークのベンチマーク",
]
ADDED = "Additional fortune added at request time."
# A token of user 7, signed with the key of apps/work.py, valid until 2100.
TOKEN = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI3IiwiZXhwIjo0MTAyNDQ0ODAwfQ"
    ".dDMUrW-xhOScxkJDO-sSl4Q9WdSgg65UZMjmcFBs7Ww"
)


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


SQL = (
    "CREATE TABLE items (id int PRIMARY KEY, name text NOT NULL, price numeric(10, 2) NOT NULL,"
    " stock int NOT NULL, made timestamp NOT NULL);"
    "INSERT INTO items SELECT i, 'item ' || i, i + 0.25, i * 3 % 17,"
    " timestamp '2026-01-01' + i * interval '1 hour' FROM generate_series(1, 10000) i;"
    "CREATE TABLE users (id int PRIMARY KEY, name text NOT NULL, email text NOT NULL);"
    "INSERT INTO users SELECT i, 'user ' || i, 'user' || i || '@example.org'"
    " FROM generate_series(1, 10000) i;"
    "CREATE TABLE fortunes (id int PRIMARY KEY, message text NOT NULL);"
    "INSERT INTO fortunes VALUES "
    + ", ".join(f"({i}, {_text(message)})" for i, message in enumerate(FORTUNES, 1))
    + "; ANALYZE;"
)


def _row(number: int) -> dict[str, object]:
    return {"id": number, "name": f"item {number}", "price": number + 0.25}


def _item(number: int) -> dict[str, object]:
    made = START + datetime.timedelta(hours=number)
    return {
        "id": number,
        "name": f"item {number}",
        "price": f"{number}.25",
        "stock": number * 3 % 17,
        "made": made.isoformat(),
    }


def _is(expected: object) -> Callable[[bytes], bool]:
    def check(body: bytes) -> bool:
        try:
            return bool(json.loads(body) == expected)
        except ValueError:
            return False

    return check


def _is_fortunes(body: bytes) -> bool:
    found = re.findall(r"<tr><td>(\d+)</td><td>(.*?)</td></tr>", body.decode())
    rows = [(str(i), message) for i, message in enumerate([ADDED, *FORTUNES])]
    rows.sort(key=lambda row: row[1])
    # A "<" that is not escaped would be a hole.
    return b"<script>" not in body and [(i, html.unescape(text)) for i, text in found] == rows


@dataclass(frozen=True)
class Case:
    """`check` looks at the body of an answer; `alone` names what alone.py measures of it."""

    key: str
    title: str
    path: str
    check: Callable[[bytes], bool]
    alone: str
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    needs_header: str = ""
    status: int = 200
    variant: str = "plain"
    kind: str = "http"
    body: str = ""
    connections: int = 32


ITEMS = _is([_item(i) for i in range(1, 21)])
MEMBERS = 100

CASES = [
    Case("row", "one row by id, asyncpg", "/row/7", _is(_row(7)), "row"),
    Case(
        "queries",
        "20 queries, asyncpg",
        "/queries?count=20",
        _is([_row(i) for i in range(1, 21)]),
        "queries",
    ),
    Case("fortunes", "fortunes, asyncpg and Jinja2", "/fortunes", _is_fortunes, "fortunes"),
    Case("items", "20 rows, SQLAlchemy's AsyncSession", "/items", ITEMS, "items"),
    Case("items_sync", "the same from a `def`, psycopg", "/items-sync", ITEMS, "items_sync"),
    Case(
        "jwt",
        "user by JWT behind three middlewares",
        "/me",
        _is({"id": 7, "name": "user 7", "email": "user7@example.org"}),
        "jwt",
        headers={"Authorization": f"Bearer {TOKEN}", "Origin": "https://example.org"},
        needs_header="access-control-allow-origin",
        variant="guarded",
    ),
    Case("redis_get", "Redis GET", "/redis", _is({"value": "hello from redis"}), "redis_get"),
    Case("redis_set", "Redis SET", "/redis", _is({"stored": True}), "redis_set", method="POST"),
    Case(
        "proxy",
        "proxy by httpx",
        "/proxy",
        _is({"upstream": {"message": "Hello, World!"}}),
        "proxy",
        connections=8,  # httpcore's pool looks at all connections for each request: real/README.md
    ),
    Case(
        "chat",
        "a chat of 100, Redis pub/sub",
        "/chat",
        lambda _body: True,  # the client compares what each member hears
        "chat",
        kind="chat",
        connections=MEMBERS,
    ),
]
BY_KEY = {case.key: case for case in CASES}
