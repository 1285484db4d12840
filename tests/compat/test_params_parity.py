"""Every way to declare a parameter, asked with good, bad and odd requests."""

import dataclasses
import enum
import io
import random
import re
import uuid
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

import pydantic
import pytest
from parity import Ask, differences, modules, plain, quiet
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, Json
from starlette.datastructures import UploadFile as StarletteUpload

pytest.importorskip("fastapi")


class M(BaseModel):
    a: int
    b: str = "x"
    c: list[int] = []


class ByAlias(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    first_name: str = Field(alias="firstName")
    tags: list[str] = Field(default=[], alias="tagList")


class Forbid(BaseModel):
    model_config = ConfigDict(extra="forbid")
    x: int | None = None
    y_z: list[str] = []


class Allow(BaseModel):
    model_config = ConfigDict(extra="allow")
    x_y: int = 1


class Choices(BaseModel):
    v: str = Field(validation_alias=AliasChoices("v1", "v-2", "v"))
    w: int = Field(default=3, validation_alias=AliasPath("w", 0))


class Headers(BaseModel):
    x_token: str
    save_data: bool = False
    h_list: list[int] = []


class ByName(BaseModel):
    model_config = ConfigDict(validate_by_alias=False, validate_by_name=True)
    nn: str = Field(alias="NN")


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    names: list[str]


class Color(enum.Enum):
    red = "red"
    blue = "blue"


@dataclasses.dataclass
class Data:
    p: int
    q: str = "z"


SIGNATURES = """
x: int
x: int = 5
x: str | None = None
x: int | None = None
x: float = 1.5
x: bool
x: Any
x
x=3
x: "int"
x: uuid.UUID
x: datetime
x: timedelta = None
x: Decimal
x: Color = Color.red
x: Literal["a", "b"]
x: list[int] = Query()
x: list[int] = Query([1])
x: set[str] = Query(default_factory=set)
x: tuple[int, str] = Query()
x: Annotated[list[int] | None, Query()] = None
x: Annotated[list, Query()]
x: Annotated[str | list[str], Query()]
x: Annotated[list[int], Query(min_length=2)]
x: Annotated[list[int], Query(fail_fast=True)]
x: Annotated[int, Query(ge=3, alias="X-x")]
x: Annotated[int, Query(ge=3)] = 4
x: Annotated[int, Query(strict=True)]
x: Annotated[int, Query(multiple_of=3)]
x: Annotated[float, Query(allow_inf_nan=False)]
x: Annotated[Decimal, Query(max_digits=3, decimal_places=1)]
x: Annotated[int, Field(gt=3)] = 7
x: Annotated[int, Query(), Field(gt=3)]
x: Annotated[str, Query(min_length=2, max_length=3, pattern="^a")]
x: Annotated[str, Query(validation_alias=AliasChoices("p", "q"))]
x: Annotated[str, Query(validation_alias="vv")]
x: Annotated[str, Query(validation_alias=AliasPath("vv", 0))] = "k"
x: Annotated[int, Query(validate_default=True)] = "7"
x: Annotated[int, Query(validate_default=True)] = "bad"
x: Annotated[int, Query(default_factory=lambda: 9)]
x: Annotated[int | str, Query(union_mode="left_to_right")]
x: Annotated[int, pydantic.BeforeValidator(lambda v: v + "1")]
x: Annotated[Json[list[int]], Query()] = None
x: Annotated[Json[M], Query()]
x: Annotated[Json, Header()] = None
x: Annotated[M, Query()]
x: Annotated[M | None, Query()] = None
x: Annotated[M, Query()], y: int = 3
x: Annotated[ByAlias, Query()]
x: Annotated[Forbid, Query()]
x: Annotated[Forbid | None, Query()] = None
x: Annotated[Allow | None, Query()] = None
x: Annotated[Choices | None, Query()] = None
x: Annotated[ByName, Query()]
x: Annotated[Headers, Header()]
x: Annotated[Headers, Header(convert_underscores=False)]
x: Annotated[Headers | None, Header()] = None
x: Annotated[Allow, Header()]
x: Annotated[ByAlias, Header()]
x: Annotated[Choices, Header()]
x: Annotated[Forbid, Cookie()]
x: Annotated[Allow, Cookie()]
x_token: Annotated[str, Header()]
x_token: Annotated[str, Header(convert_underscores=False)]
x_token: Annotated[list[str] | None, Header()] = None
x_token: str = Header(alias="X-Y")
x: Annotated[str, Cookie()] = "c"
x: Annotated[list[int] | None, Cookie()] = None
item_id: int
item_id: float
item_id: bool
item_id: Annotated[int, Path(gt=0)]
item_id: str = Path(max_length=3)
item_id: Annotated[str, Path(alias="it")]
it: Annotated[str, Path(validation_alias=AliasChoices("zz", "item_id"))]
item_id: uuid.UUID
item_id: Color
item_id: int = 5
x: M
x: M | None = None
x: Annotated[M, Body(embed=True)]
x: Annotated[int, Body()]
x: Annotated[int, Body(gt=3)] = 5
x: list[M]
x: dict[str, int]
x: M, y: M
x: M, y: Annotated[int, Body()] = 3
x: Annotated[M | ByAlias, Body()]
x: Annotated[Cat | Dog, Body(discriminator="kind")]
x: Data
x: Annotated[str, Body(media_type="text/plain")]
x: Annotated[bytes, Body()]
x: Annotated[Any, Body()]
x: Annotated[int, Body(validation_alias=AliasChoices("aa", "bb"), embed=True)]
x: Annotated[str, Form()]
x: Annotated[str, Form(alias="al")] = "d"
x: Annotated[list[int], Form()] = []
x: Annotated[M, Form()]
x: Annotated[M | None, Form()] = None
x: Annotated[M, Form()], y: Annotated[str, Form()]
x: Annotated[M, Form()], y: Annotated[ByAlias, Form()]
x: Annotated[Forbid | None, Form()] = None
x: Annotated[Allow | None, Form()]
x: Annotated[Choices, Form()]
x: Annotated[Cat | Dog, Form()]
x: Annotated[Cat | Dog, Form(discriminator="kind")]
x: Annotated[Cat | Dog | None, Form()] = None
x: Annotated[Json[M], Form()]
x: Annotated[Json[list[int]], Form()], y: Annotated[str | None, Form()] = None
f: UploadFile
f: UploadFile | None = None
f: list[UploadFile]
f: Annotated[bytes, File()]
f: Annotated[list[bytes], File()]
f: Annotated[tuple[bytes, ...], File()]
f: Annotated[UploadFile, File()], n: Annotated[str, Form()]
f: Annotated[list[UploadFile] | None, File()] = None
r: Request, re: Response, b: BackgroundTasks
w: WebSocket = None
""".strip().splitlines()

# fmt: off
QUERIES = [
    b"", b"x=1", b"x=5", b"x=abc", b"x=1&x=2", b"x=&x=", b"x=", b"a=1", b"a=1&b=q&c=1&c=2",
    b"nn=2", b"firstName=k&tagList=a&tagList=b", b"first_name=p&tags=1", b"x=[1,2]",
    b'x={"a":1}', b"x=null", b"X-x=7", b"p=1", b"q=2", b"p=1&q=2", b"vv=3", b"y_z=1&y_z=2",
    b"x=1&zz=3", b"v1=a&v=b", b"x_y=5&foo=1&foo=2", b"v-2=3", b"w=5&v=1", b"NN=1", b"x=true",
    b"x=red", b"x=1.5", b"x=2020-01-01", b"x=3.4", b"x=ab", b"x=12&x=13&x=bad", b"x=inf",
    b"kind=cat", b"x=%31", b"x=+1", b"x=1+", b"%78=4", b"x=1;x=2", b"x=%FF", b"x=1e2", b"x=-0",
    b"x=0x1", b"x=on", b"x=True", b"x=%E2%82%AC", b"item_id=4", b"x=1_0",
    b"x=12345678901234567890", b"x&x=1", b"x=1&&", b"vv=1&vv=2",
]
HEADERS: list[tuple[tuple[bytes, bytes], ...]] = [
    (), ((b"x-token", b"a"),), ((b"x_token", b"b"),), ((b"x-token", b"a"), (b"x-token", b"b")),
    ((b"x-token", b"a"), (b"save-data", b"1"), (b"h-list", b"1"), (b"h-list", b"2")),
    ((b"x-y", b"5"),), ((b"x-y", b"k"), (b"foo", b"z")), ((b"firstname", b"q"),), ((b"v-2", b"1"),),
    ((b"x", b"1"), (b"x", b"2")), ((b"x", b'{"a":1}'),), ((b"x_token", b"b"), (b"save_data", b"1")),
    ((b"x-token", b"\xe9"),), ((b"cookie", b"x=1"), (b"cookie", b"x=2")),
    *(((b"cookie", c),) for c in (b"x=1", b'x="1"', b"x=", b"x", b"x=1; zz=3", b"a=1;x=2; x=3")),
]
PATHS = ["/i/3", "/i/abc", "/i/red", "/i/4.0", "/i/%20", "/i/-1", "/i/é", f"/i/{uuid.UUID(int=7)}"]
JSONS = [
    b"", b"null", b"{}", b"[]", b"5", b'"s"', b'{"a":1}', b'{"a":"z"}', b'{"a":1', b'{"x":{"a":1}}',
    b'{"x":{"a":1},"y":{"a":2}}', b'{"x":3}', b'{"x":{"a":1},"y":3}', b'[{"a":1}]', b'{"bb":2}',
    b'{"firstName":"q"}', b'{"kind":"cat","lives":3}', b'{"kind":"dog","names":[]}', b'{"p":1}',
    b'{"aa":1}', b'{"x":null}', b'{"a":1.0,"b":"\\u00e9","c":["1",2]}', b'\xef\xbb\xbf{"a":1}',
    b'{"a":NaN}', b'{"a":1,"a":2}', b"nope", b'{"a":12345678901234567890123}', b"\xff",
    b'{"c":[1,"x"],"a":null}',
]
TYPES = [
    b"application/json", b"application/json; charset=utf-8", b"application/vnd.x+json",
    b"text/plain", b"", b"APPLICATION/JSON", b"application/problem+json;a=b",
    b"json", b"application/geo+json-seq",
]
FORMS = [
    b"", b"x=1", b"x=", b"x=1&x=2", b"al=v", b"a=1&c=1&c=2&y=k", b"a=", b"firstName=n&tagList=t",
    b"first_name=n", b"x=1&y_z=q", b"x_y=1&foo=1&foo=2", b"v1=1", b"v-2=1&v=9", b"kind=cat&lives=3",
    b"kind=dog&names=a", b"kind=dog&names=a&names=b", b"x=%7B%22a%22%3A1%7D", b"x=%5B1%5D", b"zz=1",
    b"x[a]=1", b"f=text", b"x=%ff&&=",
]
# fmt: on


def multipart(*parts: tuple[str, str | None, str]) -> bytes:
    body = io.StringIO(newline="")
    for name, filename, content in parts:
        body.write(f'--B\r\nContent-Disposition: form-data; name="{name}"')
        if filename is not None:
            body.write(f'; filename="{filename}"\r\nContent-Type: text/plain')
        body.write(f"\r\n\r\n{content}\r\n")
    return (body.getvalue() + "--B--\r\n").encode()


MULTIPARTS = [
    multipart(),
    multipart(("f", "a", "hello")),
    multipart(("f", "", "")),
    multipart(("f", "a", "1"), ("f", "b", "2")),
    multipart(("f", "a", "1"), ("n", None, "v")),
    multipart(("f", None, "text")),
    multipart(("x", None, "1"), ("y", None, "")),
    b"garbage",
]


def show(value: Any) -> str:
    """Return the value with its types, as far as they can be equal for both."""
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}[{', '.join(map(show, value))}]"
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__}{sorted(map(show, value))}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{show(k)}: {show(v)}" for k, v in value.items()) + "}"
    if isinstance(value, StarletteUpload):
        return f"File({value.filename}, {value.size}, {value.file.tell()})"
    if isinstance(value, BaseModel):
        return f"{type(value).__name__}{show(dict(value))}{sorted(value.model_fields_set)}"
    return plain(repr(value))


SOURCE = """
def shared({0}): return show(locals())

app = FastAPI()

@app.get("/i/{{item_id}}")
@app.post("/i/{{item_id}}", operation_id="post")
async def endpoint({0}): return show({{**locals()}})

@app.post("/d/{{item_id}}")
def dependent(s=Depends(shared), z: int = 3): return [s, z]
"""


def build(module: Any, signature: str) -> Any:
    names = {**globals(), **{name: getattr(module, name) for name in dir(module)}}
    names.update(datetime=datetime, timedelta=timedelta, Decimal=Decimal, pydantic=pydantic)
    names.update(Annotated=Annotated, Json=Json, Headers=Headers)
    with quiet():
        exec(SOURCE.format(signature), names)
    return names["app"]


def asks(rng: random.Random) -> list[Ask]:
    def post(body: bytes, content_type: bytes, length: bool = True) -> Ask:
        headers = [(b"content-type", content_type)]
        if length:
            headers.append((b"content-length", str(len(body)).encode()))
        path = rng.choice(["/i/3", "/d/3"])
        return Ask("POST", path, rng.choice(QUERIES), tuple(headers), body)

    return [
        *(Ask(path=path, query=rng.choice(QUERIES)) for path in PATHS),
        *(Ask(path="/i/3", query=query, headers=rng.choice(HEADERS)) for query in QUERIES),
        *(Ask(path="/i/3", query=rng.choice(QUERIES), headers=headers) for headers in HEADERS),
        *(post(body, b"application/json") for body in JSONS),
        *(post(body, rng.choice(TYPES)) for body in JSONS),
        *(post(b, b"application/x-www-form-urlencoded", rng.random() < 0.7) for b in FORMS),
        *(post(body, b"multipart/form-data; boundary=B") for body in MULTIPARTS),
        Ask("POST", "/i/3", body=b'{"a": 1}'),
    ]


@pytest.mark.parametrize("signature", SIGNATURES)
def test_same_answers(signature: str) -> None:
    apps = tuple(build(module, signature) for module in modules())
    rng = random.Random(signature)
    assert differences(apps, asks(rng)) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("signature", SIGNATURES)
def test_same_openapi(signature: str) -> None:
    theirs, ours = (build(module, signature).openapi() for module in modules())
    assert ours == theirs


CONTRADICTIONS = """
x: Annotated[Json[dict[str, int]], Query()]
x: Annotated[int, Query(3)]
x: Annotated[int, Query()] = Query()
x: Annotated[int, Depends(int)] = Depends(int)
x: Annotated[int, Query()] = Depends(int)
x: Annotated[Request, Query()]
item_id: Annotated[int, Query()]
item_id: list[int]
item_id: Annotated[int, Path()] = 3
x: dict = Query()
x: int = Field(3)
x: Annotated[int, Form(embed=True)]
""".strip().splitlines()


@pytest.mark.parametrize("signature", CONTRADICTIONS)
def test_same_refusals(signature: str) -> None:
    texts = []
    for module in modules():
        with pytest.raises(Exception) as caught:  # noqa: PT011
            build(module, signature)
        text = re.sub(r"__init__\(\) ", "() ", plain(str(caught.value))).replace(".()", "()")
        texts.append((type(caught.value).__name__, text))
    assert texts[0] == texts[1]
