"""Shapes: what C dumps by itself equals what pydantic validates and dumps; the rest it declines."""

import datetime as dt
import enum
import functools
import json
import math
import uuid
import warnings
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, Optional, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    EmailStr,
    Field,
    RootModel,
    TypeAdapter,
    computed_field,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from turboapi import FastAPI, _core
from turboapi._compile.shape import shape_of, shape_of_model
from turboapi.encoders import jsonable_encoder
from turboapi.testclient import TestClient


class Color(enum.Enum):
    RED = "red"
    GREEN = 'gre"en'


class Size(int, enum.Enum):
    SMALL = 1
    LARGE = 2


class Part(BaseModel):
    x: int
    label: str = "none"


class Whole(BaseModel):
    model_config = ConfigDict(from_attributes=True, frozen=True)

    id: int
    name: str | None = None
    price: float
    ok: bool = True
    tags: list[str] = []
    more: dict[str, int] = Field(default_factory=dict)
    part: Part
    parts: list[Part] = []
    maybe: Part | None = None
    when: dt.datetime | None = None
    day: dt.date = dt.date(2020, 2, 29)
    at: dt.time = dt.time(1, 2, 3)
    key: uuid.UUID = uuid.UUID(int=7)
    amount: Decimal = Decimal("1.50")
    color: Color = Color.RED
    size: Size = Size.LARGE
    kind: Literal["a", "b"] = "a"
    anything: Any = None


def by_pydantic(type_: Any, value: Any, **options: Any) -> bytes:
    adapter = TypeAdapter(type_)
    valid = adapter.validator.validate_python(value, from_attributes=True)
    return adapter.serializer.to_json(valid, **{"by_alias": True, **options})


def shape_for(type_: Any, **options: Any) -> _core.Shape:
    shape = shape_of(TypeAdapter(type_).core_schema, **options)
    assert shape is not None
    return shape


def same(type_: Any, value: Any) -> None:
    """C encodes it, as pydantic does."""
    found = shape_for(type_).encode(value)
    assert found is not None
    assert found == by_pydantic(type_, value)


def declines(type_: Any, value: Any, *, trusted: bool = False) -> None:
    assert shape_for(type_).encode(value, trusted=trusted) is None


finite = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(codec="utf-8"), max_size=8)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
part = st.fixed_dictionaries({"x": st.integers()}, optional={"label": text, "extra": plain})
whole = st.fixed_dictionaries(
    {"id": st.integers(), "price": finite | st.integers(-(2**60), 2**60), "part": part},
    optional={
        "name": st.none() | text,
        "ok": st.booleans(),
        "tags": st.lists(text, max_size=3),
        "more": st.dictionaries(text, st.integers(), max_size=3),
        "parts": st.lists(part | part.map(lambda v: Part(**v)), max_size=3),
        "maybe": st.none() | part,
        "when": st.none()
        | st.datetimes(
            timezones=st.none() | st.just(dt.UTC) | st.just(dt.timezone(dt.timedelta(0)))
        ),
        "day": st.dates(),
        "at": st.times(),
        "key": st.uuids(),
        "amount": st.decimals(allow_nan=False, allow_infinity=False),
        "color": st.sampled_from(Color),
        "size": st.sampled_from(Size),
        "kind": st.sampled_from(["a", "b"]),
        "anything": plain,
        "unknown": plain,
    },
)


@settings(max_examples=300, deadline=None)
@given(whole)
def test_dicts_and_instances_as_pydantic_dumps_them(value: dict[str, Any]) -> None:
    expected = by_pydantic(Whole, value)
    shape = shape_for(Whole)
    assert shape.encode(value) in (expected, None)
    instance = Whole.model_validate(value)
    assert shape.encode(instance) in (expected, None)
    assert shape.encode(instance, trusted=True) == shape.encode(instance)
    own = shape_of_model(Whole)
    assert own is not None
    dumped = own.encode(instance, trusted=True)
    if dumped is not None:
        encoded = jsonable_encoder(instance)
        text = json.dumps(encoded, ensure_ascii=False, separators=(",", ":"))
        assert dumped == text.encode()


@settings(max_examples=500, deadline=None)
@given(finite | st.floats(1e-5, 1e17) | st.integers(-(10**17), 10**17).map(float))
def test_floats(value: float) -> None:
    size = abs(value)
    found = shape_for(float).encode(value)
    assert found == (by_pydantic(float, value) if value == 0 or 1e-4 <= size < 1e15 else None)


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (int, 2**63 - 1),
        (int, -(2**63)),
        (float, -0.0),
        (float, 5),
        (str, 'quote " \\ \x00 \x1f \x7f é € 😀'),
        (str, "x" * 5000),
        (bool, False),
        (None, None),
        (list[int], []),
        (list[list[str]], [["a"], []]),
        (dict[str, Any], {"a": [1, {"b": None}], "": 1.5}),
        (Optional[list[Part]], None),  # noqa: UP045
        (list[Part], [{"x": 1}, Part(x=2, label="é")]),
        (Literal[1, 2], 2),
        (Literal["a", "b"], "".join(["a"])),
        (Size, Size.SMALL),
        (dt.datetime, dt.datetime(1, 2, 3, 4, 5, 6, 7)),
        (dt.datetime, dt.datetime(2020, 2, 3, tzinfo=dt.UTC)),
        (Decimal, Decimal("1E+5")),
        (Decimal, Decimal("-0.00")),
    ],
)
def test_encoded_as_pydantic_does(type_: Any, value: Any) -> None:
    same(type_, value)


class Shouting(str):
    """Not exactly a str."""


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (int, True),
        (int, 1.0),
        (int, "1"),
        (int, 2**64),
        (float, "1"),
        (float, math.nan),
        (float, math.inf),
        (float, True),
        (str, 1),
        (str, Shouting("x")),
        (str, "\ud800"),
        (bool, 1),
        (list[int], (1, 2)),
        (list[int], [1, None]),
        (dict[str, int], {1: 1}),
        (dict[str, int], {"_sa_state": 1}),
        (Part, {}),
        (Part, {"x": "1"}),
        (Part, object()),
        (Size, 3),
        (Literal["a"], "c"),
        (Decimal, Decimal("NaN")),
        (Decimal, 1),
        (dt.datetime, dt.date(2020, 1, 1)),
        (dt.datetime, dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(seconds=1)))),
        (uuid.UUID, "7"),
        (Any, object()),
        (Any, (1,)),
    ],
)
def test_left_to_pydantic(type_: Any, value: Any) -> None:
    declines(type_, value)


def test_any_that_has_itself_in_it_is_left_to_pydantic() -> None:
    loop: list[Any] = []
    loop.append(loop)
    declines(Any, loop)


def test_aliases() -> None:
    class Model(BaseModel):
        a: int = Field(alias="A")
        b: int = Field(serialization_alias='"b"', default=1)
        c: int = Field(validation_alias="C", default=2)

    value = {"A": 1, "C": 5, "b": 7}
    same(Model, value)
    assert shape_for(Model, by_alias=False).encode(value) == by_pydantic(
        Model, value, by_alias=False
    )
    same(Model, Model.model_validate(value))


def test_fields_left_out_of_dumps() -> None:
    class Model(BaseModel):
        a: int
        secret: str = Field(exclude=True)

    same(Model, Model(a=1, secret="s"))
    same(Model, {"a": 1, "secret": "s"})
    declines(Model, {"a": 1, "secret": 5})  # it has to be validated all the same


def test_generic_models_and_models_in_several_places() -> None:
    T = TypeVar("T")

    class Page(BaseModel, Generic[T]):
        items: list[T]
        first: T | None = None

    same(Page[Part], {"items": [{"x": 1}], "first": {"x": 2}})


def test_instances_are_trusted_but_dicts_are_validated() -> None:
    def double(value: int) -> int:
        return 2 * value

    class Model(BaseModel):
        model_config = ConfigDict(extra="forbid")

        a: Annotated[int, AfterValidator(double)] = 1
        b: int = Field(ge=0, default=0)
        mail: EmailStr = "a@b.org"

    same(Model, Model(a=4))
    declines(Model, {"a": 4})
    declines(Annotated[int, Field(multiple_of=2)], 4)


def test_validators_of_a_model_see_instances_too() -> None:
    class Model(BaseModel):
        a: int = 0

        @model_validator(mode="after")
        def grow(self) -> "Model":
            self.a += 1
            return self

    declines(Model, Model())
    assert shape_for(Model).encode(Model(), trusted=True) == b'{"a":1}'


def test_an_instance_that_was_changed_is_left_to_pydantic() -> None:
    class Model(BaseModel):
        a: int = 0
        b: str = ""

        @functools.cached_property
        def c(self) -> int:
            return 1

    wrong = Model()
    wrong.a = "x"  # type: ignore[assignment]
    declines(Model, wrong)
    declines(Model, Model.model_construct(a=None))


def test_instances_that_have_other_attributes() -> None:
    class Model(BaseModel):
        a: int = 0
        b: str = ""

        @functools.cached_property
        def c(self) -> int:
            return 1

    other_order = Model()
    del other_order.a
    same(Model, other_order)
    other_order.a = 1
    same(Model, other_order)
    cached = Model()
    assert cached.c == 1
    same(Model, cached)

    class Child(Model):
        model_config = ConfigDict(extra="allow")
        d: int = 0
        a: int = 7

    same(Model, Child(e=5))  # type: ignore[call-arg]

    class Dumped(Model):
        @model_serializer
        def nothing(self) -> dict[str, Any]:
            return {}

    same(Model, Dumped())


class OwnSerializer(BaseModel):
    a: int

    @field_serializer("a")
    def double(self, value: int) -> int:
        return 2 * value


class WholeSerializer(BaseModel):
    a: int

    @model_serializer
    def nothing(self) -> dict[str, Any]:
        return {}


class Computed(BaseModel):
    a: int

    @computed_field
    def b(self) -> int:
        return self.a


class Root(RootModel[int]):
    pass


class Recursive(BaseModel):
    children: "list[Recursive]" = []


class Extra(BaseModel):
    model_config = ConfigDict(extra="allow")


class Stripping(BaseModel):
    model_config = ConfigDict(str_strip_whitespace=True)
    a: str


@pytest.mark.parametrize(
    "type_",
    [OwnSerializer, WholeSerializer, Computed, Root, Recursive, Extra, Stripping]
    + [int | list[int], tuple[int, int], set[float], bytes, dict[int, int], Literal[1, True]],
)
def test_no_shape(type_: Any) -> None:
    assert shape_of(TypeAdapter(type_).core_schema) is None


def test_no_shape_for_choices_of_aliases_in_a_dict() -> None:
    class Model(BaseModel):
        a: int = Field(validation_alias=AliasChoices("b", "c"))

    declines(Model, {"b": 1})
    same(Model, Model(b=1))  # type: ignore[call-arg]


def test_own_model_dump_is_called() -> None:
    class Model(BaseModel):
        a: int = 0

        def model_dump(self, **options: Any) -> dict[str, Any]:
            return {"own": True}

    assert shape_of_model(Model) is None
    assert _core.encode_json(Model()) == b'{"own":true}'


@pytest.mark.parametrize("spec", [(), ("str",), ("str", 1), ("what", False), ("list", False, 1)])
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: ("list", False, s)])
def test_wrong_specs_are_refused(spec: Any, wrap: Any) -> None:
    with pytest.raises(ValueError, match="not a spec"):
        _core.Shape(wrap(spec))


@pytest.mark.parametrize(
    "spec",
    [
        ("choice", False, ((1, "text"),)),
        ("choice", False, 1),
        ("model", False, 1, True, ()),
        ("model", False, int, True, ((),)),
        ("model", False, int, True, (("a", "a", ("int", False), "text", None),)),
        ("model", False, int, True, ((None, "a", ("int", False), b"text", None),)),
    ],
)
def test_wrong_parts_of_specs_are_refused(spec: Any) -> None:
    with pytest.raises(ValueError, match="not a spec"):
        _core.Shape(spec)


# -- in an application ---------------------------------------------------------------------------


def test_responses_of_an_application() -> None:
    app = FastAPI()
    seen: list[Any] = []

    class Checked(BaseModel):
        a: int

        @field_validator("a")
        def see(cls, value: int) -> int:
            seen.append(value)
            return value

    @app.get("/rows", response_model=list[Part])
    async def rows() -> Any:
        return [{"x": 1, "hidden": 1}, Part(x=2)]

    @app.get("/coerced")
    async def coerced() -> Part:
        return {"x": "5"}  # type: ignore[return-value]

    @app.get("/wrong")
    async def wrong() -> Part:
        return {"x": "five"}  # type: ignore[return-value]

    @app.get("/checked")
    async def checked() -> Checked:
        return {"a": 1}  # type: ignore[return-value]

    @app.get("/plain", response_model=None)
    async def plain() -> Any:
        return {"parts": [Part(x=1), {"y": Part(x=2)}]}

    client = TestClient(app, raise_server_exceptions=False)
    assert client.get("/rows").content == b'[{"x":1,"label":"none"},{"x":2,"label":"none"}]'
    assert client.get("/coerced").content == b'{"x":5,"label":"none"}'
    assert client.get("/wrong").status_code == 500
    assert client.get("/checked").content == b'{"a":1}'
    assert seen == [1]
    assert client.get("/plain").json() == {
        "parts": [{"x": 1, "label": "none"}, {"y": {"x": 2, "label": "none"}}]
    }


def test_a_model_that_cannot_be_built_fails_when_it_is_used() -> None:
    app = FastAPI()

    class Later(BaseModel):
        model_config = ConfigDict(defer_build=True)
        a: "NowhereDefined"  # type: ignore[name-defined]  # noqa: F821

    @app.get("/", response_model=Later)
    async def get() -> Any:
        return {"a": 1}

    @app.post("/")
    async def post(later: Later) -> Any:
        return 1

    @app.get("/other")
    async def other() -> int:
        return 1

    client = TestClient(app, raise_server_exceptions=False)
    assert client.get("/other").json() == 1
    assert client.get("/").status_code == 500
    assert client.post("/", json={"a": 1}).status_code == 500


def test_by_alias_false_wins_over_the_models_own_setting() -> None:
    app = FastAPI()

    class Model(BaseModel):
        model_config = ConfigDict(serialize_by_alias=True)
        a: int = Field(alias="b")

    @app.get("/", response_model_by_alias=False)
    async def get() -> Model:
        return Model(b=1)

    assert TestClient(app).get("/").json() == {"a": 1}


def test_a_warning_of_pydantic_is_still_given() -> None:
    app = FastAPI()

    @app.get("/")
    async def get() -> Part:
        part = Part(x=1)
        part.x = "text"  # type: ignore[assignment]
        return part

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert TestClient(app).get("/").json() == {"x": "text", "label": "none"}
    assert any("serializ" in str(each.message).lower() for each in caught)
