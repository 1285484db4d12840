"""The headers of what `call_next` returns: every operation as Starlette's MutableHeaders has it."""

import random

import pytest
from starlette.datastructures import Headers, MutableHeaders

from turboapi.middleware._http import _Fields

NAMES = ["x-a", "X-A", "Set-Cookie", "vary", "", "n" * 128, "N" * 129, "naïve", "☃", b"x-a", 3]
VALUES = ["1", "", "é", "☃", b"bytes", None, 7]


class Text(str):
    __slots__ = ()

    def lower(self):
        return "other"


def made(kind, pairs):
    headers = kind.__new__(kind)
    headers._list = list(pairs)
    return headers


def outcome(function, headers):
    try:
        return function(headers)
    except Exception as exc:
        return type(exc), str(exc)


def operations(name, value):
    yield lambda h: h.__setitem__(name, value)
    yield lambda h: h.__getitem__(name)
    yield lambda h: name in h
    yield lambda h: h.__delitem__(name)
    yield lambda h: h.get(name, "none")
    yield lambda h: h.append(name, value)
    yield lambda h: h.setdefault(name, value)
    yield lambda h: h.getlist(name)
    yield lambda h: h.update({name: value})
    yield lambda h: h.add_vary_header(value)
    yield lambda h: h.pop(name, None)
    yield lambda h: list(h.items())


LISTS = [
    [],
    [(b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3"), (b"vary", b"a"), (b"x-a", b"\xe9")],
    [(b"x-a", b"1"), [b"x-a", b"2"]],
    [(b"x-a", b"1", b"2")],
    [(bytearray(b"x-a"), b"1")],
    [("x-a", "1")],
]


@pytest.mark.parametrize("pairs", LISTS)
@pytest.mark.parametrize("name", [*NAMES, Text("x-a")])
def test_as_starlettes(pairs, name):
    for value in VALUES:
        for theirs, ours in zip(operations(name, value), operations(name, value), strict=True):
            right, mine = made(MutableHeaders, pairs), made(_Fields, pairs)
            assert outcome(ours, mine) == outcome(theirs, right)
            assert mine._list == right._list


def test_many_in_a_row():
    rand = random.Random(7)
    right, mine = MutableHeaders(), made(_Fields, [])
    for _ in range(2000):
        name, value = rand.choice(NAMES), rand.choice(VALUES)
        which = rand.randrange(12)
        results = [
            outcome(list(operations(name, value))[which], headers) for headers in (right, mine)
        ]
        assert results[0] == results[1]
        assert mine._list == right._list


def test_it_is_one():
    mine = made(_Fields, [(b"x-a", b"1")])
    assert isinstance(mine, MutableHeaders)
    assert mine == MutableHeaders({"x-a": "1"}) == mine
    assert mine == Headers({"x-a": "1"})
    assert repr(mine) == repr(MutableHeaders({"x-a": "1"}))
    assert dict(mine) == {"x-a": "1"}
    assert (mine | {"x-b": "2"})["x-b"] == "2"
    mine |= {"x-c": "3"}
    assert mine.raw is mine._list
    assert mine.raw == [(b"x-a", b"1"), (b"x-c", b"3")]
    with pytest.raises(TypeError):
        hash(mine)
    del mine._list
    with pytest.raises(AttributeError):
        mine["x-a"]
    with pytest.raises(AttributeError):
        mine["x-a"] = "1"


def test_the_list_is_that_of_the_response():
    pairs = [(b"x-a", b"1")]
    mine = made(_Fields, [])
    mine._list = pairs
    mine["X-A"] = "2"
    mine["x-b"] = "3"
    assert pairs == [(b"x-a", b"2"), (b"x-b", b"3")]
