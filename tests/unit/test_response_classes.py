"""`JSONResponse` and `FileResponse` are Starlette's, whatever they are constructed from."""

import abc
import copy
import enum
import http
import json
import math
import os
import pickle
import sys
from collections import OrderedDict
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from starlette import responses
from starlette.background import BackgroundTask

from turboapi import _core
from turboapi import _response_classes as own
from turboapi.responses import FileResponse, JSONResponse, Response

TASK = BackgroundTask(print)


class Text(str):
    """A str of a class of its own."""


class Number(enum.IntEnum):
    """Numbers of a class of their own."""

    TEAPOT = 418


def nested(depth: int) -> Any:
    """Return lists in lists."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def circular() -> Any:
    """Return a list that contains itself."""
    value: list[Any] = []
    value.append(value)
    return value


def outcome(cls: type[Response], *args: Any, **kwargs: Any) -> Any:
    """Return what a construction leads to: attributes and fields, or an exception."""
    try:
        response = cls(*args, **kwargs)
    except Exception as error:
        return type(error), str(error)
    parts = {name: value for name, value in vars(response).items() if name != "_headers"}
    return parts, response.headers.items(), response.media_type


CONTENTS = [
    {"a": 1},
    {"a": [1, 2.5, None, True, False, 'é\u2028"\\\n\x7f😀'], "b": ({}, [], ())},
    {1: 1, 2.5: 2, None: 3, "1": 5},
    {True: 1, False: 2},
    {"_sa_instance_state": 1, "_sa": 2},
    {"x": Text("text"), Text("key"): 1},
    {"n": Number.TEAPOT},
    OrderedDict(b=1, a=2),
    "text",
    "",
    None,
    10**30,
    -0.0,
    1e22,
    1e-7,
    math.nan,
    {math.inf: 1},
    datetime(2026, 1, 1),
    {1, 2},
    b"bytes",
    "\ud800",
    {"\udfff": 1},
    {(1, 2): 3},
    nested(100),
    nested(5000),
    circular(),
    10**5000,
]


@pytest.mark.parametrize("content", CONTENTS, ids=range(len(CONTENTS)))
def test_json_content(content: Any) -> None:
    assert outcome(JSONResponse, content) == outcome(responses.JSONResponse, content)


HEADERS = [
    None,
    {},
    {"X-A": "b", "x-b": ""},
    {"X-Ä": "b"},
    {"x-a": "ä"},
    {"x-a": "€"},
    {"€": "a"},
    {"x-a": 1},
    {1: "a"},
    {b"x": b"y"},
    {Text("x-a"): Text("b")},
    {"Content-Length": "3"},
    {"CONTENT-TYPE": "text/x"},
    {"Accept-Ranges": "none", "Content-Disposition": "inline"},
    MappingProxyType({"x-a": "b"}),
    OrderedDict({"x-a": "b"}),
    [("x-a", "b")],
    "x-a: b",
]


@pytest.mark.parametrize("headers", HEADERS, ids=range(len(HEADERS)))
def test_headers(headers: Any) -> None:
    assert outcome(JSONResponse, 1, headers=headers) == outcome(
        responses.JSONResponse, 1, headers=headers
    )
    assert outcome(FileResponse, "a.txt", headers=headers, filename="b.html") == outcome(
        responses.FileResponse, "a.txt", headers=headers, filename="b.html"
    )


TYPES = [
    None,
    "application/problem+json",
    "text/plain",
    "text/plain; charset=latin-1",
    "text/plain; format=flowed",
    "TEXT/plain",
    "",
    "ä/b",
    "€/b",
    "a/" + "b" * 300,
    Text("text/x"),
    1,
]


@pytest.mark.parametrize("media_type", TYPES, ids=range(len(TYPES)))
def test_media_types(media_type: Any) -> None:
    assert outcome(JSONResponse, 1, media_type=media_type) == outcome(
        responses.JSONResponse, 1, media_type=media_type
    )
    assert outcome(FileResponse, "a.bin", media_type=media_type) == outcome(
        responses.FileResponse, "a.bin", media_type=media_type
    )


STATUSES = [
    *(0, 99, 100, 101, 199, 200, 204, 205, 206, 304, 418, 599, 999, 1000, -1, 2**70),
    *(Number.TEAPOT, http.HTTPStatus.NO_CONTENT, True, 200.5, "200", None),
]


@pytest.mark.parametrize("status", STATUSES, ids=range(len(STATUSES)))
def test_statuses(status: Any) -> None:
    assert outcome(JSONResponse, {}, status, background=TASK) == outcome(
        responses.JSONResponse, {}, status, background=TASK
    )
    assert outcome(FileResponse, "a", status, background=TASK) == outcome(
        responses.FileResponse, "a", status, background=TASK
    )


PATHS = [
    *("a.txt", "a", "", "/b/c.tar.gz", ".profile", "..txt", "a.", "/x.d/y", "a.TXT", "a.html/"),
    *(
        "http://x/a.png?b.txt",
        "data:text/x,y",
        "C:\\a.txt",
        "//host/a.txt",
        "//[x/a.txt",
        "a:b.txt",
    ),
    *("é.txt", "a.é", "a\0.txt", "a.js", "a.svgz", "a.tgz", "a.xyzzy", "a.json", "a\udcff.txt"),
    *(Path("b/c.css"), Text("a.txt"), b"a.txt", 1, None, "x" * 5000 + ".png"),
]


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_paths(path: Any) -> None:
    assert outcome(FileResponse, path) == outcome(responses.FileResponse, path)


NAMES = [
    *(None, "", "a.txt", "a b.txt", "é.txt", 'q".txt', "d/e.png", "~x-1_2.", "a\0b", "a:b.html"),
    *(Text("t.txt"), b"b.txt", 5, "http://x/y.png"),
]


@pytest.mark.parametrize("disposition", ["attachment", "inline", "é", "€", 7])
@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_file_names(name: Any, disposition: Any) -> None:
    given: dict[str, Any] = {"filename": name, "content_disposition_type": disposition}
    assert outcome(FileResponse, "x.bin", **given) == outcome(
        responses.FileResponse, "x.bin", **given
    )


def test_stat_result(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("hello")
    stat = os.stat(path)
    assert outcome(FileResponse, path, stat_result=stat) == outcome(
        responses.FileResponse, path, stat_result=stat
    )


def test_usual_ones_are_made_in_c(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise AssertionError("Starlette's constructor was called")

    guards = own._JSON_GUARDS, own._FILE_GUARDS
    assert all(_core.attributes_hold(each) for each in guards)
    monkeypatch.setattr(own, "_JSON_GUARDS", ())
    monkeypatch.setattr(own, "_FILE_GUARDS", ())
    monkeypatch.setattr(responses.Response, "init_headers", refuse)
    assert JSONResponse({"a": 1}, 201, {"X-A": "b"}, "application/x", TASK).body == b'{"a":1}'
    response = FileResponse(Path("a/b.txt"), 200, {"X-A": "b"}, filename="c.txt")
    assert response.headers["content-disposition"] == 'attachment; filename="c.txt"'


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (responses.JSONResponse, "render"),
        (responses.JSONResponse, "__init__"),
        (responses.JSONResponse, "media_type"),
        (responses.Response, "init_headers"),
        (responses.Response, "__init__"),
        (json, "dumps"),
    ],
)
def test_what_was_replaced_is_used(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    before = getattr(owner, name)
    seen: list[str] = []

    def replaced(*args: Any, **kwargs: Any) -> Any:
        seen.append(name)
        return before(*args, **kwargs)

    monkeypatch.setattr(owner, name, "x/y" if name == "media_type" else replaced)
    response = JSONResponse({"a": 1})
    assert response.body == b'{"a":1}'
    if name == "media_type":
        assert response.headers["content-type"] == "x/y"
    else:
        assert seen == [name]


def test_subclasses() -> None:
    class Pretty(JSONResponse):
        media_type = "application/vnd.x+json"

        def render(self, content: Any) -> bytes:
            return b"pretty"

    class Renamed(FileResponse):
        def init_headers(self, headers: Any = None) -> None:
            super().init_headers({"x-own": "1"})

    response = Pretty({"a": 1})
    assert response.body == b"pretty"
    assert response.headers["content-type"] == "application/vnd.x+json"
    assert Renamed("a.txt").headers["x-own"] == "1"


def test_classes() -> None:
    class Abstract(JSONResponse, abc.ABC):
        @abc.abstractmethod
        def missing(self) -> None: ...

    class Derived(JSONResponse):
        pass

    starlettes = responses.JSONResponse(1)
    assert isinstance(JSONResponse(1), responses.JSONResponse)
    assert isinstance(starlettes, JSONResponse)  # as FastAPI's name is Starlette's class
    assert isinstance(responses.FileResponse("a"), FileResponse)
    assert not isinstance(responses.Response(), JSONResponse)
    assert not isinstance(starlettes, (Derived, FileResponse))
    assert isinstance(Derived(1), JSONResponse)
    assert issubclass(responses.JSONResponse, JSONResponse)
    assert issubclass(Derived, JSONResponse)
    assert not issubclass(responses.JSONResponse, Derived)
    assert not issubclass(responses.Response, JSONResponse)
    with pytest.raises(TypeError, match="abstract"):
        Abstract(1)  # type: ignore[abstract]


def test_copies() -> None:
    response = JSONResponse({"a": 1}, headers={"x-a": "b"})
    for other in (copy.copy(response), pickle.loads(pickle.dumps(response))):
        assert type(other) is JSONResponse
        assert vars(other) == vars(response)


def test_arguments_of_the_functions() -> None:
    for function in (_core.init_json_response, _core.init_file_response):
        with pytest.raises(TypeError, match="arguments"):
            function(())  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="guards"):
        _core.init_json_response(1, None, 1, 200, None, None, None)  # type: ignore[arg-type]


def test_no_reference_is_lost() -> None:
    value, headers = {"a": "some text"}, {"x-a": "b"}
    before = sys.getrefcount(value), sys.getrefcount(headers), sys.getrefcount(TASK)
    for _ in range(100):
        JSONResponse(value, 200, headers, "a/b", TASK)
        FileResponse("a.txt", 200, headers, None, TASK, "name.txt")
    assert (sys.getrefcount(value), sys.getrefcount(headers), sys.getrefcount(TASK)) == before
