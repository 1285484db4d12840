"""What response models are made of: dicts, attributes, instances, with the options of dumps.

C must write what FastAPI's `serialize_response` does, which validates first, or decline.
"""

import dataclasses
import datetime as dt
import math
from collections import OrderedDict, UserDict, defaultdict, namedtuple
from collections.abc import Mapping
from decimal import Decimal
from functools import cached_property
from types import SimpleNamespace
from typing import Annotated, Any, Literal
from unittest.mock import Mock

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from shape_kit import Color, Level, Part, Thing, declines, expected_of, field_for, same

from turboapi._compile.plan import dump_shape
from turboapi._compile.shape import reads_dict, shape_of
from turboapi._compile.slots import bound_validator


class Row(BaseModel):
    """As ORMs' rows are, most of all."""

    id: int
    title: str
    note: str | None = None
    part: Part | None = None


# -- constraints -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "good", "bad"),
    [
        (Annotated[str, Field(min_length=2, max_length=3)], ["ab", "äöü", "😀😀"], ["a", "abcd"]),
        (Annotated[str, Field(min_length=1)], ["a" * 1000], [""]),
        (Annotated[int, Field(ge=0)], [0, 5, 2**62], [-1, -(2**63), 2**70]),
        (Annotated[int, Field(gt=0, lt=10)], [1, 9], [0, 10]),
        (Annotated[int, Field(le=-1)], [-1], [0, True]),
        (Annotated[float, Field(gt=0)], [0.5, 1], [0.0, -0.0, 0, -1, math.nan]),
        (Annotated[float, Field(ge=0, lt=1.5)], [0.0, 0, 1.25, 1], [1.5, 2, "1"]),
        (Annotated[float, Field(le=3)], [3, 3.0, -2], [3.0001]),
        (Annotated[list[int], Field(min_length=1, max_length=2)], [[1], [1, 2]], [[], [1, 2, 3]]),
        (Annotated[dict[str, int], Field(max_length=1)], [{}, {"a": 1}], [{"a": 1, "b": 2}]),
        (Annotated[int, Field(gt=1)] | None, [None, 2], [1]),
    ],
)
def test_constraints(type_: Any, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        same(type_, value)
    for value in bad:
        declines(type_, value)


@pytest.mark.parametrize(
    "type_",
    [
        Annotated[int, Field(multiple_of=2)],
        Annotated[str, Field(pattern="a+")],
        Annotated[Decimal, Field(max_digits=3)],
        Annotated[Decimal, Field(gt=1)],
        Annotated[dt.date, Field(gt=dt.date(2020, 1, 1))],
        Annotated[int, Field(gt=5, lt=3)],
        Annotated[int, Field(gt=2**70)],
        Annotated[float, Field(gt=math.nan)],
        Annotated[dict[Annotated[str, Field(max_length=1)], int], Field()],
    ],
)
def test_other_constraints_are_left_to_pydantic(type_: Any) -> None:
    shape = shape_of(TypeAdapter(type_).core_schema)
    for value in (4, "a", Decimal(2), dt.date(2024, 1, 1), 4.0, {"a": 1}):
        assert shape is None or shape.encode(value) is None


def test_constraints_do_not_concern_instances() -> None:
    part = Part(x=1)
    part.label = "much too long"
    same(Part, part)
    declines(Part, {"x": 1, "label": "much too long"})


# -- enums ---------------------------------------------------------------------------------------


def test_members_of_enums_and_their_values() -> None:
    for value in (Color.RED, Color.ONE, "red", 1, "".join(["re", "d"])):
        same(Color, value)
    same(Level, "low")
    same(list[Level], [Level.HIGH, "high"])
    for value in ("blue", True, 1.0, Level.LOW, None):
        declines(Color, value)

    class Model(BaseModel):
        color: Color

    wrong = Model(color=Color.RED)
    wrong.color = "red"  # type: ignore[assignment]
    declines(Model, wrong)  # pydantic warns


def test_literals() -> None:
    same(Literal[1000, 2], int("1000"))
    same(Literal["a", "b"], "b")
    for value in (True, 1.0, "1", 3):
        declines(Literal[1, 2], value)


# -- attributes ----------------------------------------------------------------------------------


class Slotted:
    __slots__ = ("id", "note", "part", "title")

    def __init__(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self, name, value)


class WithDefaults:
    note = "of the class"
    title = "class"

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


@dataclasses.dataclass
class Data:
    id: int
    title: str
    part: Any = None


class Stored(BaseModel):
    id: int
    title: str
    password: str = "secret"
    note: Any = None
    part: Any = None


class Child(Row):
    model_config = ConfigDict(extra="allow")
    more: int = 1


READABLE = [
    Thing(id=1, title="a"),
    Thing(id=1, title="a", part=Thing(x=2, y=3), note=None, other=object()),
    Thing(id=1, title="a", part={"x": 2}),
    Slotted(id=1, title="a", part=Slotted),
    Slotted(id=1, title="a", part=None, note="b"),
    WithDefaults(id=1),
    WithDefaults(id=1, note=None),
    Data(1, "b", Data),
    Data(1, "b", Part(x=1)),
    Stored(id=1, title="c", part={"x": 1}),
    Child(id=1, title="d", part=Part(x=1), unknown=object()),
    Row(id=1, title="e"),
]
WRITTEN = [each for each in READABLE if not isinstance(getattr(each, "part", None), type)]


@pytest.mark.parametrize("value", WRITTEN)
def test_attributes(value: Any) -> None:
    same(Row, value)
    same(list[Row], [value, value, {"id": 1, "title": "x", "part": value and None}])


@pytest.mark.parametrize("value", [each for each in READABLE if each not in WRITTEN])
def test_classes_are_no_objects_with_attributes(value: Any) -> None:
    declines(Row, value)
    assert expected_of(field_for(Row), value) is None


def test_missing_attributes() -> None:
    declines(Row, Thing(id=1))
    declines(Row, Slotted(id=1))
    declines(Row, Stored.model_construct(id=1))
    assert expected_of(field_for(Row), Thing(id=1)) is None


def test_many_types_of_objects_in_one_response() -> None:
    kinds = [type(f"Kind{i}", (Thing,), {}) for i in range(10)]
    rows = [kinds[i % 10](id=i, title=str(i), part=kinds[i % 7](x=i)) for i in range(60)]
    same(list[Row], rows)
    rows[-1].id = "x"
    declines(list[Row], rows)


def test_code_of_the_class_runs_once_and_by_pydantic() -> None:
    calls: list[str] = []

    class Property:
        title = "a"

        @property
        def id(self) -> int:
            calls.append("property")
            return 1

    class Getattr(Thing):
        def __getattr__(self, name: str) -> Any:
            calls.append("getattr")
            return 7

    class Getattribute(Thing):
        def __getattribute__(self, name: str) -> Any:
            if name in Row.model_fields:
                calls.append("getattribute")
            return object.__getattribute__(self, name)

    class Descriptor:
        def __get__(self, instance: Any, owner: Any) -> Any:
            calls.append("descriptor")
            return 1

    class Described(Thing):
        id = Descriptor()

    class Cached(Thing):
        @cached_property
        def id(self) -> int:
            calls.append("cached")
            return 1

    class Lying(Thing):
        @property
        def __class__(self) -> Any:
            calls.append("class")
            return Row

    for value in (
        Property(),
        Getattr(title="a"),
        Getattribute(id=1, title="a"),
        Described(title="a"),
        Cached(title="a"),
        Lying(id=1, title="a"),
    ):
        declines(Row, value)
        assert calls == []
    same(Row, Getattr(id=1, title="a", note=None, part=None))
    same(Row, Described(id=1, title="a"))
    cached = Cached(title="a")
    assert cached.id == 1
    same(Row, cached)


def test_objects_that_pydantic_takes_for_something_else() -> None:
    class Ours(Mapping[str, Any]):
        id = 1
        title = "attribute"

        def __getitem__(self, key: str) -> Any:
            return {"id": 2, "title": "item"}[key]

        def __iter__(self) -> Any:
            return iter(("id", "title"))

        def __len__(self) -> int:
            return 2

    class Registered(Thing):
        def __getitem__(self, key: str) -> Any:
            return {"id": 2, "title": "item"}[key]

        def keys(self) -> Any:
            return ["id", "title"]

    Mapping.register(Registered)
    Builtin = type("Builtin", (Thing,), {"__module__": "builtins"})
    Nowhere = type("Nowhere", (Thing,), {"__module__": 5})
    values = {"id": 1, "title": "a"}
    Pair = namedtuple("Pair", ["id", "title"])
    for value in (
        Ours(),
        Registered(**values),
        UserDict(values),
        Builtin(**values),
        Nowhere(**values),
        Mock(**values),
        Pair(1, "a"),
        (Thing(id=1), {"title": "a"}),
        Thing,
        1,
        "text",
        [values],
        values.items(),
        None,
        math,
    ):
        declines(Row, value)
    # A namespace is of no heap type: pydantic reads it.
    declines(Row, SimpleNamespace(**values))


def test_dicts_of_other_classes() -> None:
    class Defaulting(dict[str, Any]):
        def __missing__(self, key: str) -> Any:
            return 5

        def __getitem__(self, key: str) -> Any:
            raise AssertionError

        def get(self, *args: Any) -> Any:
            raise AssertionError

    values = {"id": 1, "title": "a"}
    for value in (OrderedDict(values), defaultdict(int, values), Defaulting(values)):
        same(Row, value)
    declines(Row, Defaulting(id=1))
    declines(dict[str, Any], OrderedDict(values))


def test_lists_of_other_classes() -> None:
    class Odd(list[Any]):
        def __iter__(self) -> Any:
            raise AssertionError

        def __len__(self) -> int:
            return 0

    same(list[Row], Odd([{"id": 1, "title": "a"}]))
    declines(list[int], (1, 2))
    declines(list[int], {1, 2})


def test_models_with_an_own_way_of_being_made() -> None:
    class Made(BaseModel):
        x: int

        def __init__(self, **values: Any) -> None:
            super().__init__(**values)

    class Posted(BaseModel):
        x: int

        def model_post_init(self, context: Any) -> None:
            self.x += 1

    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid")
        x: int

    for model in (Made, Posted, Strict):
        declines(model, Thing(x=1))
        declines(model, {"x": 1})
        same(model, model(x=1))


def test_columns_of_sqlalchemy() -> None:
    orm = pytest.importorskip("sqlalchemy.orm")
    sqlalchemy = pytest.importorskip("sqlalchemy")
    base = orm.declarative_base()

    class Parent(base):
        __tablename__ = "parent"
        x = sqlalchemy.Column(sqlalchemy.Integer, primary_key=True)
        label = sqlalchemy.Column(sqlalchemy.String)

    class Item(base):
        __tablename__ = "item"
        id = sqlalchemy.Column(sqlalchemy.Integer, primary_key=True)
        title = sqlalchemy.Column(sqlalchemy.String)
        stored = sqlalchemy.Column("note", sqlalchemy.String)
        note = orm.synonym("stored")
        parent_id = sqlalchemy.Column(sqlalchemy.ForeignKey("parent.x"))
        part = orm.relationship(Parent)

    class Out(BaseModel):
        id: int
        title: str
        part: Part | None = None

    engine = sqlalchemy.create_engine("sqlite://")
    base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.add(Item(id=1, title="one", stored="n", part=Parent(x=5, label="five")))
        session.add(Item(id=2, title="two"))
        session.commit()
        items = session.query(Item).order_by(Item.id).all()
        declines(list[Out], items)  # the relationship is not loaded
        assert [item.part and item.part.x for item in items] == [5, None]
        same(list[Out], items)
        declines(list[Row], items)  # `note` is code of SQLAlchemy's
        session.expire(items[0])
        declines(list[Out], items)
        assert items[0].title == "one"
    engine.dispose()
    wrong = Item(id="x", title="a", part=None)
    declines(Out, wrong)
    same(Out, Item(id=3, title="new", part=Parent(x=1, label="p")))


def test_only_sqlalchemys_own_descriptor_is_known() -> None:
    attributes = pytest.importorskip("sqlalchemy.orm.attributes")
    get = attributes.InstrumentedAttribute.__get__
    assert reads_dict(get)
    assert not reads_dict(attributes.QueryableAttribute.__getattr__)
    assert not reads_dict(lambda self, instance, owner: None)


# -- options of dumps ----------------------------------------------------------------------------


class Many(BaseModel):
    a: int = 1
    b: int | None = None
    c: list[Part] = []
    d: Part | None = Field(default=None, alias="D")
    e: dict[str, Any] = {}
    f: Any = None


OPTIONS: list[dict[str, Any]] = [
    {"exclude_none": True},
    {"exclude_unset": True},
    {"exclude_none": True, "exclude_unset": True},
    {"include": {"a", "d", "nothing"}},
    {"exclude": {"a", "c"}},
    {"include": {"a", "b"}, "exclude": {"a"}, "exclude_none": True},
    {"include": set()},
    {"by_alias": False, "exclude_unset": True},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(
    "value",
    [
        {},
        {"a": 2, "b": None, "c": [{"x": 1}], "D": {"x": 1, "label": "l"}, "e": {"n": None}},
        Thing(a=1, D=Thing(x=1), c=[Part(x=3)], f=None),
        Many(),
        Many(a=1, b=2, c=[Part(x=1)], D=Part(x=3, label="x"), f={"g": None}),
        Many(b=None, D=None, c=[]),
    ],
)
def test_options_of_dumps(options: dict[str, Any], value: Any) -> None:
    same(Many, value, **options)
    same(Many | None, value, **options)
    if not {"include", "exclude"} & options.keys():
        same(list[Many], [value, value], **options)


def test_what_is_excluded_is_validated() -> None:
    declines(Many, {"a": "x"}, exclude={"a"})
    declines(Many, {"c": [{"x": None}]}, exclude={"c"})
    declines(Part, {"x": None}, exclude_none=True)
    wrong = Part(x=1)
    wrong.x = None  # type: ignore[assignment]
    same(Part, wrong, exclude_none=True)
    same(Part, wrong, exclude={"x"})


@pytest.mark.parametrize(
    "options",
    [
        {"exclude_defaults": True},
        {"include": {"d": {"x"}}},
        {"exclude": {"d": True}},
        {"include": {0: {"a"}}},
        {"exclude": {1}},
    ],
)
def test_options_that_are_left_to_pydantic(options: dict[str, Any]) -> None:
    assert dump_shape(field_for(Many), {"by_alias": True, **options}) is None


def test_only_fields_of_one_model_can_be_chosen() -> None:
    for type_ in (list[Many], dict[str, Many], int):
        assert dump_shape(field_for(type_), {"by_alias": True, "include": {"a"}}) is None


def test_a_plugin_that_wraps_validators_sees_every_value() -> None:
    field = field_for(Row)
    assert dump_shape(field, {"by_alias": True}) is not None

    class Wrapped:
        def __getattr__(self, name: str) -> Any:
            return getattr(validator, name)

    validator = field._type_adapter.validator
    field._type_adapter.validator = Wrapped()  # type: ignore[assignment]
    assert dump_shape(field, {"by_alias": True}) is None


def test_a_plugin_that_records_nothing_costs_nothing() -> None:
    plugin = pytest.importorskip("pydantic.plugin._schema_validator")

    class Plugin:
        def __init__(self, *handlers: Any) -> None:
            self.handlers = handlers

        def new_schema_validator(self, *args: Any) -> Any:
            return self.handlers

    class Handler:
        def on_enter(self, *args: Any, **options: Any) -> None:
            pass

    field = field_for(Row)
    for handlers, sees in (((None, None, None), False), ((Handler(), None, None), True)):
        field._type_adapter.validator = plugin.PluggableSchemaValidator(
            field._type_adapter.core_schema,
            Row,
            ("", ""),
            "TypeAdapter",
            None,
            [Plugin(*handlers)],
            {},
        )
        assert (dump_shape(field, {"by_alias": True}) is None) is sees
        assert (bound_validator(field) is None) is sees
        assert bound_validator(field, "validate_json") is not None


def test_set_fields_that_are_no_set_are_left_to_pydantic() -> None:
    many = Many(a=2)
    object.__setattr__(many, "__pydantic_fields_set__", frozenset({"a"}))
    declines(Many, many, exclude_unset=True)
    bare = Many.__new__(Many)
    bare.__dict__.update(a=1)
    declines(Many, bare, exclude_unset=True)
