"""_core.Router against Starlette's own routing: random tables, random paths."""

from __future__ import annotations

import gc
import random
import sys
import threading
import uuid
import weakref
from typing import Any

import pytest
from starlette.routing import Match, Mount, Route

from turboapi._core import Router

STANDARD = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"]
METHODS = [*STANDARD, "PURGE", "get"]


async def endpoint(request: Any) -> None:
    """Serve nothing."""


def make_reference(entries: list[tuple[str, str, frozenset[str] | None]]) -> list[Any]:
    """Return Starlette's routes for the entries."""
    routes: list[Any] = []
    for kind, path, methods in entries:
        if kind == "mount":
            routes.append(Mount(path, app=endpoint))
        else:
            route = Route(path, endpoint)
            route.methods = set(methods) if methods is not None else None
            routes.append(route)
    return routes


NOTHING, PARTIAL, FULL, ASK = range(4)


def reference(routes: list[Any], method: str, path: str, start: int = 0) -> tuple[int, Any, Any]:
    """Return the first full match, else the first partial one, as `find` does."""
    scope = {"type": "http", "method": method, "path": path, "root_path": ""}
    partial = None
    for index in range(start, len(routes)):
        route = routes[index]
        match, child = route.matches(dict(scope))
        if match is Match.FULL:
            return FULL, index, None if isinstance(route, Mount) else child["path_params"]
        if match is Match.PARTIAL and partial is None:
            partial = index
    return (NOTHING, None, None) if partial is None else (PARTIAL, partial, None)


def make_router(entries: list[tuple[str, str, frozenset[str] | None]]) -> Router:
    """Return our own."""
    return Router([(kind, path, methods, None, None) for kind, path, methods in entries])


def same(got: Any, want: Any) -> bool:
    """Compare results, types of values included."""
    if got[2] is None or want[2] is None:
        return bool(got == want)
    return got == want and [type(v) for v in got[2].values()] == [type(v) for v in want[2].values()]


def check(entries: list[tuple[str, str, frozenset[str] | None]], method: str, path: str) -> None:
    """Both must agree."""
    router = make_router(entries)
    got = router.find(method, path)
    want = reference(make_reference(entries), method, path)
    assert same(got, want), (entries, method, path, got, want)
    matched = want[0] == FULL and want[2] is not None
    assert router.match(method, path) == (want[1:] if matched else None)


UUID_TEXT = "12345678-1234-5678-1234-567812345678"

PIECES = ["a", "ab", "b", "users", "-", ".", "é", "éa", "1", "{", "}", "{x", "x}", "{1}", "{a:b:c}"]
BREAKS = ["\n", "/", "//"]
CONVERTORS = ["", ":str", ":int", ":float", ":uuid", ":path"]
VALUES = [
    *PIECES,
    *BREAKS,
    *[
        "",
        "0",
        "12",
        "007",
        "1.5",
        "1.",
        ".5",
        "1.5.2",
        "a-b",
        "a.b.c",
        "1-2",
        "x\n",
        "1\n",
        "\u0661",
    ],
    *[UUID_TEXT, UUID_TEXT.replace("-", ""), UUID_TEXT.upper(), "1234-5678", UUID_TEXT[:-1]],
    *["99999999999999999999999", "9223372036854775807", "9223372036854775808"],
]


def any_format(rng: random.Random) -> str:
    """Return a path format: any mixture of text and parameters."""
    out = ["/"]
    for i in range(rng.randrange(6)):
        text = rng.random() < 0.5
        out.append(rng.choice(PIECES + BREAKS) if text else f"{{p{i}{rng.choice(CONVERTORS)}}}")
        if rng.random() < 0.5:
            out.append("/")
    return "".join(out)


def common_format(rng: random.Random) -> str:
    """Return a path format of the usual form: a parameter takes a whole segment."""
    out = [""]
    for i in range(rng.randrange(1, 5)):
        word = rng.choice(["users", "items", "use", "a", "me", "1"])
        out.append(word if rng.random() < 0.5 else f"{{p{i}{rng.choice(CONVERTORS)}}}")
    return "/".join(out) + rng.choice(["", "", "/"])


def value(rng: random.Random) -> str:
    """Return what may stand for a parameter."""
    if rng.random() < 0.7:
        return rng.choice(VALUES)
    return "".join(rng.choices("ab1.-/\n{}é", k=rng.randrange(7)))


def random_path(rng: random.Random, formats: list[str]) -> str:
    """Return a path that has a chance to match one of the formats."""
    if rng.random() < 0.4:
        path = "/" + "/".join(value(rng) for _ in range(rng.randrange(5)))
    else:  # fill in a format
        text = rng.choice(formats)
        path = ""
        while "{p" in text:
            before, _, rest = text.partition("{p")
            path += before + value(rng)
            text = rest.partition("}")[2]
        path += text
    return path + rng.choice(["", "", "", "\n", "/", "\n\n"])


@pytest.mark.parametrize("seed", range(20))
def test_agrees_with_starlette(seed: int) -> None:
    rng = random.Random(seed)
    matched = gave_up = 0
    for _ in range(200):
        entries = []
        for _ in range(rng.randrange(1, 7)):
            kind = "mount" if rng.random() < 0.15 else "route"
            path = rng.choice([any_format, common_format])(rng)
            methods = (
                None if rng.random() < 0.3 else frozenset(rng.sample(METHODS, rng.randrange(6)))
            )
            entries.append((kind, path, methods))
        router = make_router(entries)
        routes = make_reference(entries)
        for _ in range(8):
            method, path = rng.choice(METHODS), random_path(rng, [e[1] for e in entries])
            start = rng.choice([0, 0, rng.randrange(len(entries) + 1)])
            got = router.find(method, path, start)
            want = reference(routes, method, path, start)
            gave_up += got is None
            if got is None:
                continue
            assert same(got, want), (entries, method, path, got, want)
            matched += got[0] == FULL
    assert matched > 100  # else the paths are too random to show anything
    assert gave_up < 3  # patterns that can be divided in too many ways


ALL = None
GET = frozenset({"GET", "HEAD"})


@pytest.mark.parametrize(
    ("paths", "path"),
    [
        (["/users/me", "/users/{id}"], "/users/me"),
        (["/users/{id}", "/users/me"], "/users/me"),
        (["/users/{id:int}", "/users/{id}"], "/users/7"),
        (["/users/{id:int}", "/users/{id}"], "/users/x"),
        (["/{a}-{b}"], "/1-2-3"),
        (["/{a}-{b}"], "/--"),
        (["/{a}{b}"], "/xyz"),
        (["/{a:int}{b}"], "/123"),
        (["/{a:float}{b}"], "/1.55"),
        (["/{a:float}.{b}"], "/1.5.2"),
        (["/{a:float}.{b}"], "/1.5"),
        (["/files/{name}.{ext}"], "/files/a.tar.gz"),
        (["/files/{p:path}"], "/files/"),
        (["/files/{p:path}"], "/files"),
        (["/files/{p:path}"], "/files/a/b\n"),
        (["/files/{p:path}"], "/files/a\nb"),
        (["/files/{p:path}/edit"], "/files/a/edit/edit"),
        (["/{p:path}{q:path}"], "/abc"),
        (["/{p:path}/{q}"], "/a/b/c"),
        (["/a"], "/a\n"),
        (["/a"], "/a\n\n"),
        (["/{x}"], "/a\n"),
        (["/{x}"], "/\n"),
        (["/{x:int}"], "/5\n"),
        (["/{x:uuid}"], f"/{UUID_TEXT}"),
        (["/{x:uuid}-{y}"], f"/{UUID_TEXT}-z"),
        (["/{x:uuid}"], "/1234567812345678-1234-567812345678"),
        (["/"], "/"),
        (["/"], ""),
        (["/é/{x}"], "/é/ü"),
        (["/{x:int}"], "/٣"),
        (["/{x:float}"], "/" + "9" * 400),
        (["/{x:float}"], "/" + "9" * 60 + ".5"),
        (["/{x:int}"], "/" + "9" * 40),
    ],
)
def test_examples(paths: list[str], path: str) -> None:
    check([("route", p, GET) for p in paths], "GET", path)
    check([("route", p, ALL) for p in reversed(paths)], "PURGE", path)
    check([("route", p, frozenset({"POST"})) for p in paths], "GET", path)


def test_methods() -> None:
    router = make_router(
        [
            ("route", "/a", frozenset({"POST"})),
            ("route", "/a", frozenset({"GET"})),
            ("route", "/a", frozenset({"PURGE", "LINK"})),
            ("route", "/b", frozenset()),
        ]
    )
    assert router.match("POST", "/a") == (0, {})
    assert router.match("GET", "/a") == (1, {})
    assert router.match("HEAD", "/a") is None
    assert router.match("get", "/a") is None
    assert router.match("LINK", "/a") == (2, {})
    assert router.match("LOCK", "/a") is None
    assert router.match("LOCK", "/b") == (3, {})


def test_what_is_found() -> None:
    router = Router(
        [
            ("route", "/a/{x}", frozenset({"POST"}), None, None),
            ("any", "/a/{y:odd}", None, None, None),
            ("route", "/a/{x:int}", frozenset({"GET"}), None, None, b"GET"),
            ("mount", "/m/{z}", None, None, None),
            ("host", "a.org", None, None, None, b"a.org"),
            ("route", "/b", frozenset({"PUT"}), None, None),
        ]
    )
    assert router.find("GET", "/a/1") == (ASK, 1, 0)
    assert router.find("GET", "/a/1", 2) == (FULL, 2, {"x": 1})
    assert router.find("GET", "/m/1/x") == (FULL, 3, None)
    assert router.find("GET", "/b") == (ASK, 4, None)
    assert router.find("GET", "/b", 5) == (PARTIAL, 5, None)
    assert router.find("GET", "/b", 6) == (NOTHING, None, None)
    assert router.find("GET", "/b", 2**40) == (NOTHING, None, None)
    assert router.find("GET", "/\udc80") is None
    for args in (("GET",), ("GET", "/", "0"), ("GET", "/", 0, 0)):
        with pytest.raises(TypeError):
            router.find(*args)
    with pytest.raises(OverflowError):
        router.find("GET", "/", -1)


def test_opaque_entries_stop_the_search() -> None:
    router = Router(
        [
            ("route", "/a", None, "A", None),
            ("mount", "/static", None, None, None),
            ("route", "/static/x", None, "X", None),
            ("route", "/b", None, "B", {"k": 1}),
            ("any", "", None, None, None),
            ("route", "/c", None, "C", None),
        ]
    )
    assert router.match("GET", "/a") == (0, {})
    assert router.match("GET", "/static/x") is None
    assert router.match("GET", "/static/") is None
    assert router.match("GET", "/static") is None
    assert router.match("GET", "/b") == (3, {})
    assert router.match("GET", "/c") is None
    assert [router.target(i) for i in range(len(router))] == ["A", None, "X", "B", None, "C"]
    with pytest.raises(IndexError):
        router.target(6)


@pytest.mark.parametrize(
    "path",
    ["/{x:slug}", "x", "/" + "a" * 3000, "/" + "".join(f"{{p{i}}}/" for i in range(33))],
)
def test_what_cannot_be_decided_is_opaque(path: str) -> None:
    router = make_router(
        [("route", "/before", None), ("route", path, None), ("route", "/after", None)]
    )
    assert router.match("GET", "/before") == (0, {})
    may_be = path[1:2] != "a"  # the first letters tell
    assert router.find("GET", "/after") == ((ASK, 1, None) if may_be else (FULL, 2, {}))
    assert router.find("GET", "/after", 2) == (FULL, 2, {})
    assert router.match("GET", path) is None


def test_thirty_two_parameters() -> None:
    path = "/" + "".join(f"{{p{i}}}/" for i in range(32))
    check([("route", path, None)], "GET", "/" + "".join(f"v{i}/" for i in range(32)))


def test_huge_int_is_left_to_python() -> None:
    router = make_router([("route", "/{x:int}", None)])
    assert router.match("GET", "/" + "1" * 600) == (0, {"x": int("1" * 600)})
    assert router.match("GET", "/" + "1" * 5000) is None
    assert router.find("POST", "/" + "1" * 5000) == (ASK, 0, None)


def test_backtracking_is_bounded() -> None:
    router = make_router(
        [("route", "/{a}-{b}-{c}-{d}-{e}!", None), ("route", "/{a}{b}{c}{d}", None)]
    )
    assert router.match("GET", "/" + "-" * 8000) is None
    assert router.find("GET", "/" + "-" * 8000) is None


def test_many_routes() -> None:
    entries = [("route", f"/r{i}/{{x}}/s{i % 7}", GET) for i in range(500)]
    router = make_router(entries)
    for i in range(500):
        assert router.match("GET", f"/r{i}/v/s{i % 7}") == (i, {"x": "v"})
        assert router.match("GET", f"/r{i}/v/s{(i + 1) % 7}") is None


def test_lone_surrogate_is_left_to_python() -> None:
    assert make_router([("route", "/{x}", None)]).match("GET", "/\udc80") is None


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        (("route", "/{x}/{x}", None, None, None), ValueError),
        (("route", "/{x}/{y:nope}/{x}", None, None, None), ValueError),
        (("rout", "/", None, None, None), ValueError),
        (("route", b"/", None, None, None), TypeError),
        (("route", "/", {1}, None, None), TypeError),
        (("route", "/", 5, None, None), TypeError),
        (("route", "/", None, None, 5), TypeError),
        (("route", "/"), TypeError),
        (("route", "/", None, None, None, "GET"), TypeError),
        (("route", "/", None, None, None, str.lower), TypeError),
        (("host", "a.org", None, None, None, "a.org"), TypeError),
        (("any", b"/", None, None, None), TypeError),
        (("any", "/", None, None, None, None, None), TypeError),
        (["route", "/", None, None, None], TypeError),
        (("route", "/\udc80", None, None, None), UnicodeEncodeError),
    ],
)
def test_bad_entries(entry: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Router([("route", "/ok", None, None, None), entry])


def test_bad_arguments() -> None:
    with pytest.raises(TypeError):
        Router(5)
    router = Router([])
    assert router.match("GET", "/") is None
    for args in ((), ("GET",), ("GET", b"/"), (1, "/"), ("GET", "/", 1)):
        with pytest.raises(TypeError):
            router.match(*args)
    with pytest.raises(TypeError):
        Router.extra = 1


class Target:
    """Something weakly referenced."""


def test_targets_are_released() -> None:
    target = Target()
    target.router = Router([("route", "/", None, target, {"t": target})])  # a cycle
    alive = weakref.ref(target)
    del target
    gc.collect()
    assert alive() is None


def test_no_leak() -> None:
    entries = [
        ("route", "/{a}/{b:int}/{c:float}/{d:uuid}/{e:path}", GET, None, {"x": 1}),
        ("route", "/{x:int}", frozenset({"PURGE"}), None, None, b"PURGE"),
        ("host", "", None, None, None, str.lower),
    ]
    path = f"/é/{'9' * 30}/1.5/{UUID_TEXT}/x/y"

    def once() -> None:
        router = Router(entries)
        assert router.match("GET", path)
        assert router.match("PUT", path) is None
        assert router.find("PUT", path)
        with pytest.raises(ValueError, match="Duplicated"):
            Router([*entries, ("route", "/{x}{x}", None, None, None)])

    for _ in range(10):
        once()
    gc.collect()
    blocks = sys.getallocatedblocks()
    for _ in range(300):
        once()
    gc.collect()
    assert sys.getallocatedblocks() - blocks < 100


def test_shared_by_threads() -> None:
    router = make_router([("route", f"/r{i}/{{x:uuid}}", None) for i in range(50)])
    failures: list[Any] = []

    def work(seed: int) -> None:
        for i in range(2000):
            n = (i * 7 + seed) % 50
            if router.match("GET", f"/r{n}/{UUID_TEXT}") != (n, {"x": uuid.UUID(UUID_TEXT)}):
                failures.append(n)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
