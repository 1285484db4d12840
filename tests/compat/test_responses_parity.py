"""What endpoints return, with response models, their options, and response classes."""

import collections
import copy
import dataclasses
import enum
import functools
import inspect
import math
import pathlib
import random
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from parity import Ask, differences, modules, plain, quiet
from pydantic import BaseModel, ConfigDict, Field, RootModel, computed_field, field_serializer
from starlette.background import BackgroundTask
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)

pytest.importorskip("fastapi")


class Kind(enum.Enum):
    a = 1
    b = "x"


class In(BaseModel):
    n: int | None = None
    s: str = "d"


class Out(BaseModel):
    a: int = 1
    b: In = In()
    c: list[In] = []
    e: str = Field("z", alias="E")
    f: float = 0.5

    @computed_field  # type: ignore[prop-decorator]
    @property
    def g(self) -> int:
        return self.a + 1


class Sub(Out):
    extra: int = 9


class FromAttributes(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    a: int
    n: str = "q"


class Types(BaseModel):
    d: Decimal = Decimal("1.50")
    t: datetime = datetime(2020, 1, 1, tzinfo=timezone.utc)  # noqa: UP017
    u: uuid.UUID = uuid.UUID(int=3)
    p: pathlib.Path = pathlib.Path("/x")
    by: bytes = b"ab"
    s: set[int] = {1}
    td: timedelta = timedelta(seconds=3)
    k: Kind = Kind.a
    inf: float = math.inf

    @field_serializer("u")
    def u_text(self, value: uuid.UUID) -> str:
        return f"U{value}"


class Root(RootModel[list[int]]):
    pass


class Optional(BaseModel):
    x: int | None = None
    y: str | None = None


@dataclasses.dataclass
class Data:
    x: int = 1
    y: str | None = None


class Object:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Text(str):
    pass


class Mine(JSONResponse):
    media_type = "application/x-my"

    def render(self, content: Any) -> bytes:
        return b"my:" + super().render(content)


CONSTANTS: list[Any] = [
    *(1, 1.5, math.inf, math.nan, None, True, 'hé€😀"\n\x00', "\ud800", b"ab", b"\xff"),
    *(2**70, -0.0, 1e300, 1e-7, Kind.a, Decimal("1.10"), uuid.UUID(int=1), Text("q")),
]
VALUES: list[Callable[[], Any]] = [
    *(functools.partial(copy.copy, value) for value in CONSTANTS),
    lambda: [1, "a", None, {"b": []}],
    lambda: (1, 2),
    lambda: {1},
    lambda: iter([1]),
    lambda: {"a": 1, "b": {"n": None}, "E": "e", "_sa": 1},
    lambda: {1: 2, None: 3, False: 4, 1.5: "x"},
    lambda: datetime(2020, 1, 1, 1, 2, 3, 4),
    lambda: In(n=1),
    lambda: Out(a=3, b=In(n=2), c=[In()]),
    lambda: [Out(), Sub()],
    lambda: {"a": "5", "b": {}, "c": [{"n": "3"}], "E": "q", "zz": 1},
    lambda: {"a": "x"},
    lambda: Types(),
    lambda: Root([1]),
    lambda: Data(),
    lambda: Object(a=1, n="z"),
    lambda: object(),
    lambda: [Optional(x=1), Optional(y="k")],
    lambda: Response("raw", media_type="text/x", status_code=207),
    lambda: JSONResponse({"a": 1}, headers={"x": "y"}),
    lambda: RedirectResponse("/x"),
    lambda: PlainTextResponse("p", background=BackgroundTask(int)),
    lambda: collections.OrderedDict(b=1, a=2),
    lambda: functools.reduce(lambda inner, _: [inner], range(50), 1),
    dict,
    list,
    str,
]
MODELS: list[Any] = [
    *("none", None, Any, Out, list[Out], Out | None, In, FromAttributes, dict, dict[str, int], int),
    *(str, float, Types, Root, list[Optional], Data, In | Out, Out | list[int] | None),
]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"response_model_exclude_unset": True},
    {"response_model_exclude_none": True},
    {"response_model_exclude_defaults": True},
    {"response_model_by_alias": False},
    {"response_model_include": {"a", "b"}},
    {"response_model_exclude": {"a": True}},
    {"response_model_include": ["a"]},
    {"status_code": 201},
    {"status_code": 204},
    {"response_class": PlainTextResponse},
    {"response_class": HTMLResponse},
    {"response_class": JSONResponse},
    {"response_class": Response},
    {"response_class": Mine},
]


def build(module: Any, model: Any, options: dict[str, Any]) -> Any:
    """Return an application with a route for each value, every third of them a plain function."""
    app = module.FastAPI()
    settings = dict(options)
    if model != "none":
        settings["response_model"] = model
    for index, value in enumerate(VALUES):

        async def coroutine(value: Callable[[], Any] = value) -> Any:
            return value()

        def plain_function(value: Callable[[], Any] = value) -> Any:
            return value()

        # The defaults above are no parameters of the route.
        call: Any = plain_function if index % 3 == 0 else coroutine
        app.get(f"/{index}", **settings)(_without_parameters(call))
    return app


def _without_parameters(call: Any) -> Any:
    call.__signature__ = inspect.Signature()
    call.__annotations__ = {}
    return call


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("model", MODELS, ids=str)
def test_same_answers(model: Any, options: dict[str, Any]) -> None:
    apps: list[Any] = []
    refused: list[Any] = []
    for module in modules():
        try:
            with quiet():
                apps.append(build(module, model, options))
        except Exception as exc:
            refused.append((type(exc).__name__, plain(str(exc))))
    if refused:
        assert refused[0] == refused[-1]
        assert not apps
        return
    rng = random.Random(f"{model}{options}")
    chosen = rng.sample(range(len(VALUES)), 20)
    found = differences((apps[0], apps[1]), [Ask(path=f"/{index}") for index in chosen])
    assert found == []
