"""jsonable_encoder: each kind of object, and its options."""

import dataclasses
import datetime
import enum
import ipaddress
import re
import types
import uuid
from collections import OrderedDict, deque, namedtuple
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from naming import address_free
from pydantic import AnyUrl, BaseModel, Field, NameEmail, RootModel, SecretStr
from pydantic_core import PydanticUndefined

from turboapi.encoders import (
    ENCODERS_BY_TYPE,
    decimal_encoder,
    generate_encoders_by_class_tuples,
    jsonable_encoder,
)


class Color(enum.Enum):
    red = "r"


class Inner(BaseModel):
    n: int | None = None
    s: str = "d"


class Outer(BaseModel):
    a: int = 1
    inner: Inner = Inner()
    mapping: dict[str, int | None] = {"k": None}
    aliased: str = Field("z", alias="ALIAS")
    when: datetime.datetime = datetime.datetime(2020, 1, 1)


class Numbers(RootModel[list[int]]):
    pass


@dataclasses.dataclass
class Data:
    x: int = 1
    y: Any = None


class Plain:
    def __init__(self) -> None:
        self.a = 1
        self._sa_state = 2
        self.b = Color.red


class Pairs:
    def __iter__(self) -> Any:
        return iter([("a", Color.red)])


class Text(str):
    pass


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *[(v, v) for v in (1, 1.5, True, None, "s", Text("t"))],
        (b"ab", "ab"),
        (Color.red, "r"),
        (Inner(n=1), {"n": 1, "s": "d"}),
        (Numbers([1]), [1]),
        (Data(y=[Color.red]), {"x": 1, "y": ["r"]}),
        (Plain(), {"a": 1, "b": "r"}),
        (Pairs(), {"a": "r"}),
        ({Color.red: {1}, 2: None}, {"r": [1], 2: None}),
        (OrderedDict(a=Inner()), {"a": {"n": None, "s": "d"}}),
        ((1, Color.red), [1, "r"]),
        (Point(1, 2), [1, 2]),
        (deque([1]), [1]),
        (frozenset({1}), [1]),
        ((n for n in (1, 2)), [1, 2]),
        (datetime.date(2020, 1, 2), "2020-01-02"),
        (datetime.time(1, 2), "01:02:00"),
        (datetime.timedelta(minutes=1), 60.0),
        (Decimal("1.5"), 1.5),
        (Decimal("3"), 3),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("/a"), "/a"),
        (Path("a"), "a"),
        (re.compile("a+"), "a+"),
        (ipaddress.ip_address("::1"), "::1"),
        (ipaddress.ip_network("10.0.0.0/8"), "10.0.0.0/8"),
        (SecretStr("x"), "**********"),
        (AnyUrl("http://a.b"), "http://a.b/"),
        (NameEmail("a", "b@c.de"), "a <b@c.de>"),
        (PydanticUndefined, None),
        (types.SimpleNamespace(a=1), {"a": 1}),
    ],
    ids=address_free,
)
def test_kinds(value: Any, expected: Any) -> None:
    encoded = jsonable_encoder(value)
    assert encoded == expected
    assert type(encoded) is type(expected) or isinstance(value, Text)


def test_options_of_models() -> None:
    model = Outer(a=5)
    assert jsonable_encoder(model, include={"a"}) == {"a": 5}
    assert jsonable_encoder(model, include=["a"]) == {"a": 5}  # type: ignore[arg-type]
    assert jsonable_encoder(model, exclude={"inner": {"n"}})["inner"] == {"s": "d"}
    assert "aliased" in jsonable_encoder(model, by_alias=False)
    assert "ALIAS" in jsonable_encoder(model)
    assert jsonable_encoder(model, exclude_unset=True) == {"a": 5}
    assert jsonable_encoder(model, exclude_defaults=True) == {"a": 5}
    # Where nothing may be None, dicts in a model have none either.
    assert jsonable_encoder(model, exclude_none=True)["mapping"] == {}


def test_options_of_dicts() -> None:
    value = {"a": 1, "b": None, "_sa_c": 3, "d": {"a": 1, "b": None}}
    assert jsonable_encoder(value) == {"a": 1, "b": None, "d": {"a": 1, "b": None}}
    assert jsonable_encoder(value, include={"a"}) == {"a": 1}
    assert jsonable_encoder(value, exclude={"d"}) == {"a": 1, "b": None}
    assert jsonable_encoder(value, exclude_none=True) == {"a": 1, "d": {"a": 1}}
    assert "_sa_c" in jsonable_encoder(value, sqlalchemy_safe=False)
    assert jsonable_encoder([value, value], include={"a"}) == [{"a": 1}, {"a": 1}]


def test_custom_encoders() -> None:
    by_class = {datetime.date: lambda d: "date", Inner: lambda i: "inner"}
    assert jsonable_encoder(datetime.datetime(2020, 1, 1), custom_encoder=by_class) == "date"
    assert jsonable_encoder({"a": [Inner()]}, custom_encoder=by_class) == {"a": ["inner"]}
    # The exact class comes before classes that it is derived from.
    both = {int: lambda v: "int", bool: lambda v: "bool"}
    assert jsonable_encoder([True, 1], custom_encoder=both) == ["bool", "int"]


def test_what_has_no_data() -> None:
    with pytest.raises(ValueError) as caught:
        jsonable_encoder(object())
    assert [type(error) for error in caught.value.args[0]] == [TypeError, TypeError]


def test_classes_are_no_data() -> None:
    with pytest.raises(AssertionError):
        jsonable_encoder(Data)


def test_encoders_can_be_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENCODERS_BY_TYPE, complex, str)
    assert jsonable_encoder(1 + 2j) == "(1+2j)"


def test_decimals() -> None:
    assert [decimal_encoder(Decimal(d)) for d in ("1", "1.0", "1E+3")] == [1, 1.0, 1000]
    assert type(decimal_encoder(Decimal("1.0"))) is float
    assert decimal_encoder(Decimal("Infinity")) == float("inf")


def test_classes_by_encoder() -> None:
    assert generate_encoders_by_class_tuples({int: str, float: str, list: tuple}) == {
        str: (int, float),
        tuple: (list,),
    }


def test_a_dict_that_tells_of_more_than_its_keys() -> None:
    """As FastAPI: what `items()` gives and `keys()` does not is left out."""

    class More(dict[str, int]):
        def items(self) -> Any:
            return [*super().items(), ("more", 2)]

    assert jsonable_encoder(More(one=1)) == {"one": 1}
    assert jsonable_encoder(More(one=1), include={"more", "one"}) == {"one": 1}
    assert jsonable_encoder(More(one=1), exclude={"one"}) == {}
    assert jsonable_encoder(OrderedDict(one=1, two=2), exclude={"one"}) == {"two": 2}
