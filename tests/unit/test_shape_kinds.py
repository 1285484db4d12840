"""Kinds of values that shapes know, and models at random: as FastAPI validates and dumps them."""

import contextlib
import dataclasses
import datetime as dt
import itertools
import math
import uuid
import zoneinfo
from decimal import Decimal
from typing import Annotated, Any, Literal

import pydantic.dataclasses
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, create_model
from pydantic.alias_generators import to_camel
from shape_kit import Color, Level, Part, Thing, declines, expected_of, field_for, same, shape_for

from turboapi._compile.plan import dump_shape

# -- single values -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        dt.timedelta(0),
        dt.timedelta(days=1),
        dt.timedelta(days=365),
        dt.timedelta(days=-365, seconds=-1),
        dt.timedelta(minutes=1),
        dt.timedelta(hours=-1),
        dt.timedelta(microseconds=-1),
        dt.timedelta(seconds=59, microseconds=100000),
        dt.timedelta.max,
        dt.timedelta.min,
    ],
)
def test_timedeltas(value: dt.timedelta) -> None:
    same(dt.timedelta, value)


@settings(max_examples=500, deadline=None)
@given(st.timedeltas())
def test_any_timedelta(value: dt.timedelta) -> None:
    same(dt.timedelta, value)


@settings(max_examples=300, deadline=None)
@given(st.datetimes(), st.integers(-1439, 1439))
def test_offsets_from_utc(value: dt.datetime, minutes: int) -> None:
    same(dt.datetime, value.replace(tzinfo=dt.timezone(dt.timedelta(minutes=minutes))))


@pytest.mark.parametrize(
    "zone",
    [
        dt.timezone(dt.timedelta(seconds=90)),
        dt.timezone(dt.timedelta(0), "zero"),
        dt.timezone(dt.timedelta(microseconds=-5)),
        zoneinfo.ZoneInfo("UTC"),
    ],
)
def test_other_time_zones_are_left_to_pydantic(zone: dt.tzinfo) -> None:
    declines(dt.datetime, dt.datetime(2020, 1, 1, tzinfo=zone))
    declines(dt.time, dt.time(1, tzinfo=dt.timezone(dt.timedelta(hours=1))))


@settings(max_examples=500, deadline=None)
@given(st.integers(-(10**15), 10**15), st.integers(0, 6), st.sampled_from([-1.0, 0.0, 1.0]))
def test_floats_of_few_decimals(digits: int, decimals: int, side: float) -> None:
    value = digits / 10**decimals
    if side:
        value = math.nextafter(value, side * math.inf)
    found = shape_for(float).encode(value)
    assert found in (None, expected_of(field_for(float), value))
    assert found is not None or not 1e-4 <= abs(value) < 1e15


# -- containers ----------------------------------------------------------------------------------


def test_tuples() -> None:
    same(tuple[int, ...], (1, 2))
    same(tuple[Part, ...], ({"x": 1}, Thing(x=2)))
    same(Annotated[tuple[int, ...], Field(max_length=1)], ())
    declines(Annotated[tuple[int, ...], Field(max_length=1)], (1, 2))
    for value in ([1], (1, "a"), {1}):
        declines(tuple[int, ...], value)
    for type_ in (tuple[int, str], tuple[()]):
        assert dump_shape(field_for(type_), {"by_alias": True}) is None


@settings(max_examples=300, deadline=None)
@given(st.sets(st.integers() | st.sampled_from([2**61 - 1, 2**61 + 7]), max_size=40))
def test_sets_keep_the_order_that_validation_gives_them(value: set[int]) -> None:
    # Removing items leaves others where they were put while there was no room elsewhere.
    for item in list(value)[::2]:
        value.discard(item)

    class Model(BaseModel):
        s: set[int]
        f: frozenset[int]

    for made in (value, frozenset(value)):
        found = shape_for(type(made)[int]).encode(made)
        assert found in (None, expected_of(field_for(type(made)[int]), made))
    model = Model(s=value, f=value)
    found = shape_for(Model).encode(model)
    assert found in (None, expected_of(field_for(Model), model))
    small = {each % 1000 for each in value}
    same(set[int], small)
    same(frozenset[str], frozenset(map(str, small)))


def test_sets_of_something_else() -> None:
    for value in ([1], {1: 2}, {"a"}, {True}, frozenset({1})):
        declines(set[int], value)
    for type_ in (set[float], set[Any], set, set[uuid.UUID]):
        assert dump_shape(field_for(type_), {"by_alias": True}) is None


# -- unions --------------------------------------------------------------------------------------

SINGLES: list[tuple[Any, list[Any]]] = [
    (int, [0, 1, -5, 10**12]),
    (str, ["", "1", "true", "2020-01-01", "1.5", "2020-01-01T00:00:00", str(uuid.UUID(int=1))]),
    (float, [0.0, 1.0, 1.5]),
    (bool, [True, False]),
    (uuid.UUID, [uuid.UUID(int=1)]),
    (dt.date, [dt.date(2020, 1, 1)]),
    (dt.datetime, [dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 1, 1, tzinfo=dt.UTC)]),
    (dt.time, [dt.time(0), dt.time(1, 2)]),
    (dt.timedelta, [dt.timedelta(0), dt.timedelta(days=1)]),
    (Decimal, [Decimal(0), Decimal(1), Decimal("1.5")]),
    (type(None), [None]),
]
PAIRS = [(a, b) for a, b in itertools.permutations([type_ for type_, _ in SINGLES], 2)]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_unions_of_two(first: Any, second: Any) -> None:
    union: Any = first | second
    model = create_model("Model", v=(union, ...))
    for type_, values in SINGLES:
        for value in values:
            found = shape_for(union).encode(value)
            assert found in (None, expected_of(field_for(union), value))
            if type_ in (first, second):
                same(union, value)
                same(model, {"v": value})
                same(model, model(v=value))
            else:
                broken = model.model_construct(v=value)
                found = shape_for(model).encode(broken)
                assert found in (None, expected_of(field_for(model), broken))


def test_unions_that_are_left_to_pydantic() -> None:
    for type_ in (
        int | list[int],
        Part | int,
        Annotated[int, Field(gt=1)] | str,
        Color | str,
        Any | int,
        Annotated[int | str, Field(union_mode="left_to_right")],
    ):
        assert dump_shape(field_for(type_), {"by_alias": True}) is None


# -- dataclasses ---------------------------------------------------------------------------------


@dataclasses.dataclass
class Point:
    x: int
    name: str | None = None
    more: list[int] = dataclasses.field(default_factory=list)
    unseen: int = dataclasses.field(default=5, init=False)


@dataclasses.dataclass(slots=True, frozen=True)
class Slotted:
    x: int
    when: dt.date = dt.date(2020, 1, 1)


@pydantic.dataclasses.dataclass
class Checked:
    x: int
    point: Point | None = None


class Holder(BaseModel):
    point: Point
    slotted: Slotted | None = None


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (Point, Point(1)),
        (list[Point], [Point(1, "a", [1]), Point(2)]),
        (Slotted, Slotted(3)),
        (Checked, Checked(1, Point(2))),
        (Holder, Holder(point=Point(1), slotted=Slotted(1))),
        (Holder, {"point": Point(1)}),
        (Holder, Thing(point=Point(1), slotted=Slotted(2))),
    ],
)
def test_dataclasses(type_: Any, value: Any) -> None:
    same(type_, value)
    same(type_, value, exclude_none=True)


def test_other_attributes_of_dataclasses_are_no_fields() -> None:
    point = Point(1)
    point.other = object()  # type: ignore[attr-defined]
    same(Point, point)
    assert dump_shape(field_for(Point), {"by_alias": True, "exclude": {"name"}}) is None


def test_dataclasses_that_are_left_to_pydantic() -> None:
    @dataclasses.dataclass
    class Child(Point):
        y: int = 1

    @dataclasses.dataclass
    class Computed:
        x: int = 1

        def __getattribute__(self, name: str) -> Any:
            return object.__getattribute__(self, name)

    wrong = Point("1")  # type: ignore[arg-type]
    incomplete = Point(1)
    del incomplete.more
    for value in (Child(1), wrong, incomplete, {"x": 1}, Thing(x=1), Point):
        declines(Point, value)
    declines(Computed, Computed())
    declines(Point, Point(1), exclude_unset=True)

    @dataclasses.dataclass
    class WithInitVar:
        x: dataclasses.InitVar[int] = 1

    same(WithInitVar, WithInitVar(3))


# -- names ---------------------------------------------------------------------------------------


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)
    first_name: str
    last_name: str | None = None
    x: int = 1


class OnlyNames(BaseModel):
    model_config = ConfigDict(validate_by_name=True, validate_by_alias=False)
    first_name: str = Field(alias="firstName")
    x: int = Field(1, validation_alias=AliasChoices("x", "y"))


class Other(BaseModel):
    first_name: str
    _private: int = 3


class Extra(BaseModel):
    model_config = ConfigDict(extra="allow")
    first_name: str


@pytest.mark.parametrize(
    "value",
    [
        {"firstName": "a", "x": 2},
        {"first_name": "a", "lastName": None},
        {"first_name": "a", "firstName": "b", "last_name": "c"},
        Thing(first_name="a", lastName="b"),
        Thing(first_name="a", firstName="c"),
        Camel(first_name="a"),
        Camel(firstName="a", last_name="b"),  # type: ignore[call-arg]
        Other(first_name="a"),
    ],
)
def test_names_and_aliases(value: Any) -> None:
    same(Camel, value)
    same(Camel, value, by_alias=False)
    same(Camel, value, exclude_unset=True)


def test_an_alias_that_is_there_is_validated_alone() -> None:
    declines(Camel, {"firstName": 1, "first_name": "a"})
    declines(Camel, {})


def test_what_other_models_have_besides_their_fields() -> None:
    same(Camel, Other(first_name="a"))
    declines(Camel, Extra(first_name="a", lastName="extra"))  # type: ignore[call-arg]
    declines(Camel, Other.model_construct())

    class Private(BaseModel):
        a: int = Field(1, alias="_private")

    declines(Private, Other(first_name="a"))


def test_only_names() -> None:
    declines(OnlyNames, {"first_name": "a", "x": 1})  # of `x` there is a choice of aliases
    same(OnlyNames, OnlyNames(first_name="a"))  # type: ignore[call-arg]

    class Model(BaseModel):
        model_config = ConfigDict(validate_by_name=True, validate_by_alias=False)
        first_name: str = Field(alias="firstName")

    same(Model, {"first_name": "a"})
    same(Model, {"first_name": "a", "firstName": "b"})
    declines(Model, {"firstName": "a"})


# -- at random -----------------------------------------------------------------------------------

text = st.text(st.characters(codec="utf-8"), max_size=5)
numbers = st.integers(-5, 5) | st.floats(-5, 5) | st.booleans() | st.just("3") | st.just(2**70)
scalars = st.one_of(
    numbers,
    text,
    st.none(),
    st.uuids(),
    st.dates(),
    st.datetimes(timezones=st.none() | st.just(dt.UTC)),
    st.timedeltas(),
    st.decimals(),
    st.sampled_from([*Color, *Level, "red", "low", "high", 1, object(), b"bytes", 10.0**20]),
)
TYPES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers(-5, 5)),
    (Annotated[int, Field(ge=-2, lt=4)], st.integers(-5, 5)),
    (float, st.floats(-5, 5) | st.integers(-5, 5)),
    (Annotated[float, Field(gt=0)], st.floats(-5, 5)),
    (str, text),
    (Annotated[str, Field(min_length=1, max_length=4)], text),
    (bool, st.booleans()),
    (int | None, st.none() | st.integers(-5, 5)),
    (Color, st.sampled_from([*Color, "red", 1])),
    (Level, st.sampled_from([*Level, "low"])),
    (uuid.UUID, st.uuids()),
    (dt.datetime, st.datetimes(timezones=st.none() | st.just(dt.UTC))),
    (dt.date, st.dates()),
    (Decimal, st.decimals(allow_nan=False)),
    (Any, st.recursive(scalars, lambda s: st.lists(s, max_size=2), max_leaves=3)),
    (list[int], st.lists(st.integers(-5, 5), max_size=3)),
    (Annotated[list[str], Field(max_length=2)], st.lists(text, max_size=3)),
    (dict[str, float], st.dictionaries(text, st.floats(-5, 5), max_size=2)),
    (Literal["red", "low"], st.sampled_from(["red", "low", "high"])),
    (Part, st.builds(Part, x=st.integers()) | st.fixed_dictionaries({"x": st.integers()})),
    (int | str, text | st.integers(-5, 5)),
    (float | None | str, st.none() | st.floats(-5, 5) | text),
    (dt.timedelta, st.timedeltas()),
    (tuple[str, ...], st.lists(text, max_size=2).map(tuple)),
    (set[int], st.sets(st.integers(-5, 5), max_size=4)),
    (Point, st.builds(Point, x=st.integers(-5, 5) | text)),
    (list[Part], st.lists(st.builds(Thing, x=st.integers(), label=text), max_size=2)),
]
DEFAULTS = [..., ..., None, 1, "x"]


@st.composite
def cases(draw: st.DrawFn) -> tuple[Any, Any, dict[str, Any]]:
    """A model, a value for it, and options of dumps."""
    fields: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from("abcdef"), unique=True, max_size=5)):
        type_, good = draw(st.sampled_from(TYPES))
        default = draw(st.sampled_from(DEFAULTS))
        alias = draw(st.sampled_from([None, None, name.upper()]))
        fields[name] = (type_, Field(default, validation_alias=alias))
        if draw(st.integers(0, 9)) or default is ...:
            values[alias or name] = draw(good if draw(st.integers(0, 9)) else scalars)
    model = create_model("Model", **fields)
    source = draw(st.sampled_from(["dict", "thing", "model", "child", "broken"]))
    value: Any = values
    if source == "thing":
        value = Thing(**values, other=1)
    elif source in ("model", "child"):
        kind = model if source == "model" else create_model("Child", __base__=model, z=(int, 1))
        with contextlib.suppress(ValueError):
            value = kind.model_validate(values)
    elif source == "broken":
        value = model.model_construct(**{name: draw(scalars) for name in fields})
    options = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "exclude_none": st.booleans(),
                "exclude_unset": st.booleans(),
                "include": st.none() | st.sets(st.sampled_from("abc")),
                "exclude": st.none() | st.sets(st.sampled_from("abc")),
            },
        )
    )
    return model, value, options


@settings(max_examples=1500, deadline=None)
@given(cases())
def test_any_model_of_any_source(case: tuple[Any, Any, dict[str, Any]]) -> None:
    model, value, options = case
    field = field_for(model)
    shape = dump_shape(field, {"by_alias": True, **options})
    assert shape is not None
    found = shape.encode(value)
    assert found is None or found == expected_of(field, value, **options)
