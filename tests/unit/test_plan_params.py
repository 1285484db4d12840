"""Parameters taken in C against Starlette's own containers and pydantic's own coercion."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from plan_kit import Caller, Hooks, node, param, plan
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request

from turboapi._core import MISSING, Plan


async def endpoint(**values: Any) -> None:
    """An endpoint that is not called."""


def solve(made: Plan, scope: dict[str, Any]) -> Any:
    coro = made.solve(Request(scope))
    with pytest.raises(StopIteration) as info:
        coro.send(None)
    return info.value.value


NAMES = ["a", "bb", "a b", "é", "%", "+", "a%20b", "日本", "x" * 40, "=", ";"]
ABSENT = object()


def reader(source: str, names: list[str]) -> Plan:
    params = [param(f"p{i}", source, alias=name, default=ABSENT) for i, name in enumerate(names)]
    return plan(node(endpoint, params=params))


QUERY = reader("query", NAMES)
COOKIES = reader("cookie", NAMES)

PIECES = st.sampled_from(
    [
        *(name.encode() for name in NAMES),
        *(b"&", b"=", b"%", b"+", b"%20", b"%3D", b"%26", b"%C3%A9", b"%c3", b"%A9", b"%zz"),
        *(b"\xc3\xa9", b"\xe9", b"%E6%97%A5", b"\xff", b";", b"#", b" ", b"%00", b"\x80%80"),
    ]
)


@given(st.lists(PIECES, max_size=12).map(b"".join))
@example(b"a=1&a=2&&=&a%20b=%C3%A9")
@example(b"%E6%97%A5%E6%9C%AC=%E6%97%A5")
@settings(max_examples=300, deadline=None)
def test_query(query: bytes) -> None:
    scope = Caller(query).scope
    expected = Request(scope).query_params
    values = solve(QUERY, scope).values
    for i, name in enumerate(NAMES):
        assert values[f"p{i}"] == expected.get(name, ABSENT)


COOKIE_PIECES = st.sampled_from(
    [
        *(name.encode() for name in NAMES[:8]),
        *(b";", b"; ", b"=", b'"', b'\\"', b"\\054", b"\\x", b" ", b"\t", b"\xa0", b"\x85"),
        *(b"\x1c", b"v", b"%20", b"\xe9", b","),
    ]
)


@given(st.lists(st.lists(COOKIE_PIECES, max_size=12).map(b"".join), max_size=3))
@example([b'a="1;2"; bb="x\\"y"', b"a=3;a=4"])
@settings(max_examples=300, deadline=None)
def test_cookies(headers: list[bytes]) -> None:
    scope = Caller(b"", [(b"cookie", header) for header in headers]).scope
    expected = Request(scope).cookies
    values = solve(COOKIES, scope).values
    for i, name in enumerate(NAMES):
        assert values[f"p{i}"] == expected.get(name, ABSENT)


@given(
    st.lists(
        st.tuples(st.sampled_from([b"x", b"X", b"x-y", b"host"]), st.binary(max_size=8)), max_size=6
    )
)
@settings(max_examples=100, deadline=None)
def test_headers(headers: list[tuple[bytes, bytes]]) -> None:
    names = ["x", "x-y", "host", "none"]
    scope = Caller(b"", headers).scope
    expected = Request(dict(scope)).headers
    values = solve(reader("header", names), scope).values
    for i, name in enumerate(names):
        assert values[f"p{i}"] == expected.get(name, ABSENT)


ADAPTERS: dict[type, TypeAdapter[Any]] = {
    kind: TypeAdapter(kind) for kind in (int, float, bool, str)
}
NUMBERS = st.one_of(
    st.text("0123456789-+._eE inftyNaN", max_size=24),
    st.integers().map(str),
    st.floats().map(repr),
    st.floats().map("{:.6f}".format),
    st.decimals(allow_nan=False).map(str),
    st.sampled_from(["true", "TRUE", "on", "oFF", "y", "n", "t", "f", "1", "0", "yes", "no", "2"]),
    st.text(max_size=5),
)


@given(NUMBERS, st.sampled_from([int, float, bool, str]), st.sampled_from(["query", "path"]))
@example("9" * 18, int, "query")
@example("9" * 19, int, "query")
@example("-0", int, "query")
@example("0.1", float, "path")
@settings(max_examples=500, deadline=None)
def test_coercion(text: str, kind: type, source: str) -> None:
    from urllib.parse import quote

    def validate(raw: Any, values: dict[str, Any]) -> tuple[Any, list[Any]]:
        # without a validator: whatever C does not take comes here
        assert raw is not MISSING
        try:
            return ADAPTERS[kind].validate_python(raw), []
        except ValidationError:
            return None, ["invalid"]

    spec = {
        "name": "v",
        "source": source,
        "alias": "v",
        "conv": kind.__name__,
        "validate": validate,
    }
    made = plan(node(endpoint, params=[spec]), hooks=Hooks())
    try:
        query = quote(text, safe="").encode()
    except UnicodeEncodeError:
        return
    solved = solve(made, Caller(b"v=" + query, path={"v": text}).scope)
    try:
        expected = ADAPTERS[kind].validate_python(text)
    except ValidationError:
        assert solved.errors == ["invalid"]
        return
    got = solved.values["v"]
    assert solved.errors == []
    assert type(got) is type(expected)
    assert repr(got) == repr(expected)


# Where the failing allocation is one for a destructor or a callback, Python can only report it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_memory() -> None:
    """Every allocation fails once; the run ends with an exception, and nothing crashes."""
    testcapi = pytest.importorskip("_testcapi")

    async def dep(q: int) -> int:
        return q

    async def run(h: str, dep: int) -> Any:
        return {"a": dep, "h": h}

    made = plan(
        node(dep, parent=1, name="dep", cache=0, params=[param("q", kind=int)]),
        node(run, params=[param("h", "header")]),
    )
    ended: dict[str, int] = {}

    async def main() -> None:
        for n in range(1, 400):
            caller = Caller(b"q=5", [(b"h", b"x")])
            try:
                testcapi.set_nomemory(n, n + 1)
                coro = caller.run(made)
                while True:
                    coro.send(None)
            except (StopIteration, MemoryError) as exc:
                testcapi.remove_mem_hooks()
                ended[type(exc).__name__] = ended.get(type(exc).__name__, 0) + 1
            finally:
                testcapi.remove_mem_hooks()

    asyncio.run(main())
    assert ended["MemoryError"] > 5
    assert ended["StopIteration"] > 5
    assert sum(ended.values()) == 399
