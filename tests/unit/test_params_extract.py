"""Values out of requests: the four places, parameter models, bodies and forms."""

import asyncio
import io
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, Json
from pydantic_core import PydanticUndefined
from starlette.datastructures import FormData, Headers, QueryParams
from starlette.datastructures import UploadFile as StarletteUploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from turboapi import Body, Cookie, FastAPI, File, Form, Header, Path, Query, UploadFile
from turboapi._testclient import NativeTestClient
from turboapi.dependencies._body import is_single_body
from turboapi.dependencies._forms import read_form
from turboapi.dependencies.utils import (
    _get_body_field,
    _should_embed_body_fields,
    get_dependant,
    request_body_to_args,
    request_params_to_args,
)
from turboapi.testclient import TestClient

Taken = tuple[dict[str, Any], list[Any]]


def take(annotation: Any, received: Any, default: Any = ..., name: str = "x") -> Taken:
    """Return the parameter ``x`` of that annotation out of a query string, headers, cookies or
    path.
    """

    def call(**_: Any) -> None: ...

    call.__annotations__ = {name: annotation}
    call.__signature__ = _signature(name, annotation, default)  # type: ignore[attr-defined]
    dependant = get_dependant(path="/{item_id}", call=call)
    [field] = (
        dependant.path_params
        + dependant.query_params
        + dependant.header_params
        + dependant.cookie_params
    )
    return request_params_to_args([field], received)


def _signature(name: str, annotation: Any, default: Any) -> Any:
    import inspect

    given = inspect.Parameter.empty if default is ... else default
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Signature(
        [inspect.Parameter(name, keyword, annotation=annotation, default=given)]
    )


def query(text: str) -> QueryParams:
    return QueryParams(text)


def headers(*pairs: tuple[str, str]) -> Headers:
    return Headers(raw=[(name.lower().encode(), value.encode()) for name, value in pairs])


def locations(taken: Taken) -> list[tuple[Any, ...]]:
    return [error["loc"] for error in taken[1]]


def test_a_number() -> None:
    assert take(int, query("x=3")) == ({"x": 3}, [])
    assert take(int, query("x=3&x=4")) == ({"x": 4}, [])
    assert locations(take(int, query(""))) == [("query", "x")]
    assert take(int, query(""))[1][0]["type"] == "missing"
    assert take(int, query("x="))[1][0]["type"] == "int_parsing"


def test_sequences() -> None:
    kind = Annotated[list[int], Query()]
    assert take(kind, query("x=1&x=2")) == ({"x": [1, 2]}, [])
    assert take(kind, query(""))[1][0]["type"] == "missing"
    assert take(kind, query(""), [7]) == ({"x": [7]}, [])
    assert take(Annotated[set[str], Query()], query("x=a&x=a")) == ({"x": {"a"}}, [])
    assert take(Annotated[list[int] | None, Header()], headers(("x", "1"), ("X", "2"))) == (
        {"x": [1, 2]},
        [],
    )


def test_defaults_are_copied() -> None:
    default = [1]
    first, _ = take(Annotated[list[int], Query()], query(""), default)
    assert first["x"] == [1]
    assert first["x"] is not default


def test_defaults_are_validated_when_asked() -> None:
    assert take(int, query(""), "7") == ({"x": "7"}, [])
    kind = Annotated[int, Query(validate_default=True)]
    assert take(kind, query(""), "7") == ({"x": 7}, [])
    assert take(kind, query(""), "a")[1][0]["type"] == "int_parsing"


def test_a_default_factory_runs_each_time() -> None:
    made: list[int] = []
    kind = Annotated[int, Query(default_factory=lambda: made.append(1) or len(made))]
    before = len(made)
    assert take(kind, query(""))[0]["x"] > before


def test_json() -> None:
    assert take(Annotated[Json[list[int]], Query()], query("x=[1,2]")) == ({"x": [1, 2]}, [])
    assert take(Annotated[Json[list[int]], Query()], query("x="))[1][0]["type"] == "missing"


def test_aliases() -> None:
    kind = Annotated[int, Query(validation_alias=AliasChoices("a", "b"))]
    assert take(kind, query("b=2")) == ({"x": 2}, [])
    assert take(kind, query("b=2&a=1")) == ({"x": 1}, [])
    assert locations(take(kind, query("x=1"))) == [("query", "a")]


def test_other_places() -> None:
    assert take(Annotated[str, Header()], headers(("X-Token", "a")), name="x_token") == (
        {"x_token": "a"},
        [],
    )
    assert take(Annotated[int, Cookie()], {"x": "3"}) == ({"x": 3}, [])
    assert take(Annotated[int, Path()], {"item_id": "a"}, name="item_id")[1][0]["loc"] == (
        "path",
        "item_id",
    )


class Filter(BaseModel):
    limit: int = 10
    tags: list[str] = []


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    limit: int = 10


class Named(BaseModel):
    x_token: str
    other: str = Field(default="", validation_alias=AliasChoices("o_1", "o-2"))


def test_models_of_a_query() -> None:
    kind = Annotated[Filter, Query()]
    assert take(kind, query("limit=3&tags=a&tags=b&more=1")) == (
        {"x": Filter(limit=3, tags=["a", "b"])},
        [],
    )
    assert locations(take(kind, query("limit=a"))) == [("query", "limit")]
    assert locations(take(Annotated[Strict, Query()], query("a=1&limit=2"))) == [("query", "a")]


def test_optional_models() -> None:
    assert take(Annotated[Filter | None, Query()], query("z=1"), None) == ({"x": None}, [])
    assert take(Annotated[Filter | None, Query()], query("limit=1"), None)[0]["x"].limit == 1
    assert locations(take(Annotated[Strict | None, Query()], query("z=1"), None)) == [
        ("query", "z")
    ]


def test_models_of_headers() -> None:
    kind = Annotated[Named, Header()]
    assert take(kind, headers(("X-Token", "t"), ("o-2", "v")))[0]["x"] == Named(
        x_token="t", **{"o-2": "v"}
    )
    # Errors name the header, not the field; the field's own name is no header.
    assert locations(take(kind, headers(("x_token", "t")))) == [("header", "x-token")]
    raw = Annotated[Named, Header(convert_underscores=False)]
    assert take(raw, headers(("x_token", "t")))[0]["x"].x_token == "t"


def test_a_path_into_a_value_is_no_name() -> None:
    class Inner(BaseModel):
        first: int = Field(default=1, validation_alias=AliasPath("v", 0))

    assert take(Annotated[Inner, Query()], query("v=1"))[0] == {"x": Inner()}


class Item(BaseModel):
    name: str
    tags: list[str] = []


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    names: list[str]


def body(call: Callable[..., Any], received: Any) -> Taken:
    fields = get_dependant(path="/", call=call).body_params
    embed = _should_embed_body_fields(fields)
    return asyncio.run(request_body_to_args(fields, received, embed))


def test_a_body_of_one_value() -> None:
    def call(item: Item) -> None: ...

    assert body(call, {"name": "a"}) == ({"item": Item(name="a")}, [])
    assert locations(body(call, {})) == [("body", "name")]
    assert locations(body(call, PydanticUndefined)) == [("body",)]
    assert locations(body(call, [])) == [("body",)]


def test_a_body_of_several() -> None:
    def call(item: Item, n: Annotated[int, Body()] = 3) -> None: ...

    assert body(call, {"item": {"name": "a"}}) == ({"item": Item(name="a"), "n": 3}, [])
    assert locations(body(call, {"n": "a"})) == [("body", "item"), ("body", "n")]
    # Anything but an object has no keys, so that even what is optional is missing.
    assert locations(body(call, [1])) == [("body", "item"), ("body", "n")]
    assert locations(body(call, b"raw")) == [("body", "item")]


def test_embedding() -> None:
    def one(item: Item) -> None: ...
    def embedded(item: Annotated[Item, Body(embed=True)]) -> None: ...
    def form(x: Annotated[str, Form()]) -> None: ...
    def form_model(x: Annotated[Item, Form()]) -> None: ...

    answers = []
    for call in (one, embedded, form, form_model):
        fields = get_dependant(path="/", call=call).body_params
        embed = _should_embed_body_fields(fields)
        answers.append((embed, is_single_body(fields, embed)))
    assert answers == [(False, True), (True, False), (True, False), (False, False)]
    assert not _should_embed_body_fields([])


def upload(name: str, content: bytes = b"text") -> StarletteUploadFile:
    return StarletteUploadFile(io.BytesIO(content), filename=name, size=len(content))


def test_form_fields() -> None:
    def call(
        a: Annotated[str, Form()],
        b: Annotated[list[int], Form()],
        c: Annotated[str | None, Form()] = None,
    ) -> None: ...

    form = FormData([("a", "x"), ("b", "1"), ("b", "2"), ("c", "")])
    assert body(call, form) == ({"a": "x", "b": [1, 2], "c": None}, [])
    assert locations(body(call, FormData([("a", "")]))) == [("body", "a"), ("body", "b")]


def test_models_of_forms() -> None:
    def call(item: Annotated[Item, Form()], extra: Annotated[str, Form()] = "d") -> None: ...
    def optional(item: Annotated[Item | None, Form()] = None) -> None: ...

    form = FormData([("name", "a"), ("tags", "t"), ("extra", "e")])
    assert body(call, form) == ({"item": Item(name="a", tags=["t"]), "extra": "e"}, [])
    assert body(optional, FormData()) == ({"item": None}, [])
    assert locations(body(optional, FormData([("name", "")]))) == [("body", "name")]


def test_unions_of_models_of_forms() -> None:
    def call(pet: Annotated[Cat | Dog, Form()]) -> None: ...

    # One text, and a list of one text: each model reads the form in its own way.
    assert body(call, FormData([("kind", "cat"), ("lives", "3")]))[0]["pet"] == Cat(
        kind="cat", lives=3
    )
    assert body(call, FormData([("kind", "dog"), ("names", "a")]))[0]["pet"] == Dog(
        kind="dog", names=["a"]
    )
    assert ("body", "Cat", "lives") in locations(body(call, FormData([("kind", "cat")])))


def test_files() -> None:
    def call(
        data: Annotated[bytes, File()],
        many: Annotated[list[bytes], File()],
        same: Annotated[UploadFile, File(alias="data")],
    ) -> None: ...

    form = FormData([("data", upload("a")), ("many", upload("b", b"1")), ("many", upload("c"))])
    values, errors = body(call, form)
    assert not errors
    assert (values["data"], values["many"]) == (b"text", [b"1", b"text"])
    # Reading it as bytes leaves the file where it was for the other parameter.
    assert values["same"].file.tell() == 0


def test_file_inputs_with_nothing_chosen() -> None:
    def call(a: UploadFile | None = None, b: list[UploadFile] | None = None) -> None: ...

    empty = upload("", b"")
    assert body(call, FormData([("a", empty), ("b", empty)])) == ({"a": None, "b": None}, [])


def test_a_text_is_no_file() -> None:
    def call(a: UploadFile) -> None: ...

    [error] = body(call, FormData([("a", "text")]))[1]
    assert error["msg"] == "Value error, Expected UploadFile, received: <class 'str'>"


def media_type(call: Callable[..., Any]) -> Any:
    fields = get_dependant(path="/", call=call).body_params
    embed = _should_embed_body_fields(fields)
    field = _get_body_field(body_params=fields, name="call", embed_body_fields=embed)
    return field and (type(field.field_info).__name__, field.field_info.media_type)  # type: ignore[attr-defined]


def test_the_field_of_the_body() -> None:
    def nothing() -> None: ...
    def json(a: Item, b: Item) -> None: ...
    def form(a: Annotated[str, Form()]) -> None: ...
    def files(a: Annotated[str, Form()], f: UploadFile) -> None: ...
    def multipart(a: Annotated[str, Form(media_type="multipart/form-data")]) -> None: ...
    def own(a: Annotated[str, Body(media_type="text/plain")]) -> None: ...

    assert media_type(nothing) is None
    assert media_type(json) == ("Body", "application/json")
    assert media_type(form) == ("Form", "application/x-www-form-urlencoded")
    assert media_type(files) == ("File", "multipart/form-data")
    assert media_type(multipart) == ("Form", "multipart/form-data")
    assert media_type(own) == ("Body", "text/plain")


@pytest.mark.parametrize("received", [query("x=1"), headers(("x", "1")), {"x": "1"}], ids=repr)
def test_no_fields(received: Any) -> None:
    assert request_params_to_args([], received) == ({}, [])


def form_request(body: bytes, content_type: str, length: str | None = None) -> Request:
    sent = [{"type": "http.request", "body": body, "more_body": False}]
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", (str(len(body)) if length is None else length).encode("latin-1")),
    ]

    async def receive() -> Any:
        return sent.pop()

    return Request({"type": "http", "method": "POST", "headers": headers, "app": None}, receive)


URLENCODED = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    "body",
    [
        *(
            b"",
            b"&",
            b"a",
            b"a=",
            b"=b",
            b"=",
            b"a=1",
            b"a=1&b=2&a=3",
            b"&&a=1&&b=2&&",
            b"a&b=&c=1",
        ),
        *(b"a=1;b=2", b"a==", b"a=b=c", b"a+b=c+d", b"%41=%42%", b"a=%e2%82%ac", b"a=\xe2\x82\xac"),
        *(
            b"a=%zz",
            b"a=%00",
            b"a=\x00\xff",
            b"a=%",
            b"a=+%2B",
            b"x" * 5000,
            b"a=1&" * 300,
            b"a\nb=1",
        ),
    ],
)
@pytest.mark.parametrize(
    "content_type",
    [URLENCODED, URLENCODED + "; charset=utf-8", URLENCODED.upper(), URLENCODED + ";a=b", "text/a"],
)
def test_forms_are_read_as_starlette_does(body: bytes, content_type: str) -> None:
    ours = asyncio.run(read_form(form_request(body, content_type)))
    theirs = asyncio.run(_starlettes(form_request(body, content_type)))
    assert ours.multi_items() == theirs.multi_items()


async def _starlettes(request: Request, **limits: Any) -> FormData:
    return await request.form(**limits)


@pytest.mark.parametrize(
    ("body", "limits"),
    [
        (b"a=1&b=2", {"max_fields": 1}),
        (b"a=1&b=2", {"max_fields": 2}),
        (b"a=1&b=2&", {"max_fields": 2}),
        (b"a=1", {"max_fields": 0}),
        (b"", {"max_fields": 0}),
        (b"abc=12345", {"max_part_size": 8}),
        (b"abc=1234", {"max_part_size": 7}),
        (b"abc=1234", {"max_part_size": 6}),
        (b"a=1&b=2&c=3", {"max_part_size": 2}),
        (b"a=12", {"max_part_size": 2}),
    ],
)
def test_limits_of_forms(body: bytes, limits: Any) -> None:
    def outcome(read: Any) -> Any:
        try:
            return asyncio.run(read(form_request(body, URLENCODED), **limits)).multi_items()
        except HTTPException as error:
            return error.status_code, error.detail

    assert outcome(read_form) == outcome(_starlettes)


@pytest.mark.parametrize("length", ["", "x", "-1", "99999999999", "²"])
def test_odd_lengths_of_forms(length: str) -> None:
    form = asyncio.run(read_form(form_request(b"a=1", URLENCODED, length)))
    assert form.multi_items() == [("a", "1")]


def test_a_form_is_read_once() -> None:
    request = form_request(b"a=1", URLENCODED)

    async def twice() -> None:
        first = await read_form(request)
        assert await read_form(request) is first
        assert await request.form() is first

    asyncio.run(twice())


@pytest.mark.parametrize("client_class", [TestClient, NativeTestClient])
def test_urlencoded_forms_of_an_application_need_no_parser_of_parts(
    monkeypatch: pytest.MonkeyPatch, client_class: Any
) -> None:
    monkeypatch.setattr("starlette.requests.FormParser", None)
    app = FastAPI()

    @app.post("/")
    async def read(
        request: Request,
        name: Annotated[str, Form()],
        tags: Annotated[list[str], Form()],
        number: Annotated[int, Form()] = 1,
    ) -> Any:
        return [name, tags, number, (await request.form()).multi_items()]

    with client_class(app) as client:
        reply = client.post("/", content="name=a%20b&tags=x&tags=y+z", headers=FORM_TYPE)
        assert reply.json() == [
            "a b", ["x", "y z"], 1, [["name", "a b"], ["tags", "x"], ["tags", "y z"]],
        ]  # fmt: skip
        assert client.post("/", content="tags=x", headers=FORM_TYPE).status_code == 422


FORM_TYPE = {"content-type": "application/x-www-form-urlencoded"}
