"""Raw JSON may go straight to pydantic only where that gives what json.loads gives it."""

import dataclasses
import enum
import json
import math
import random
import re
import uuid
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from naming import address_free
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Strict,
    Tag,
    TypeAdapter,
    ValidationError,
    field_validator,
)
from typing_extensions import TypedDict

from turboapi._compat import PYDANTIC_VERSION_MINOR_TUPLE
from turboapi._compile.jsonmode import json_mode_is_equal, runs_user_code


class Node(BaseModel):
    i: int = 0
    s: str = "a"
    o: "Node | None" = None


class Extras(BaseModel):
    model_config = ConfigDict(extra="allow")
    i: int = 1


class Keys(TypedDict, total=False):
    i: int
    s: str


@dataclasses.dataclass
class Data:
    i: int = 1
    f: float = 2.0


class Plain(enum.Enum):
    a = "a"
    yes = True
    half = 1.5


class Number(enum.IntEnum):
    one = 1
    two = 2


class KindA(BaseModel):
    k: Literal["a"]
    i: int = 0


class KindB(BaseModel):
    k: Literal["b"]
    f: float = 0


class Needs(BaseModel):
    i: int


EQUAL: list[Any] = [
    *(int, float, bool, str, Any, None, list[int], dict[str, Any], list[Any]),
    *(Node, Extras, Keys, Data, Plain, Number),
    *(Literal["a", "b"], Literal[1, 2], Literal[True, "x"]),
    *(set[int], frozenset[float], tuple[int, str], tuple[int, ...]),
    *(datetime, date, time, timedelta, uuid.UUID),
    *(float | None, dict[str, list[Node]]),
    Annotated[KindA | KindB, Field(discriminator="k")],
    *(int | str, str | int, int | float, float | int, bool | int, int | bool | str),
    *(int | list[int], str | list[str] | dict[str, int], Node | list[float | None] | str),
    *(Needs | float | None, Literal["a", 1] | int | str, list[int | str | None]),
]
# fmt: off
ATOMS = [
    "0", "-0", "1", "-1", "1.0", "-0.0", "0.5", "1e5", "1E400", "-1e400", "1e-400", "1e20", "1e308",
    "123456789012345678901234567890", "9007199254740993", "9007199254740993.0", "0.1",
    "3.14159265358979323846264338327950288", "NaN", "Infinity", "-Infinity", "true", "false",
    "null", '"a"', '"b"', '"1"', '"1.0"', '" 1 "', '"1_000"', '"true"', '"on"', '""', '"\\u00e9"',
    '"\\ud83d\\ude00"', '"\\ud800"', '"é😀"', '"2020-01-01"', '"2020-01-01T00:00:00Z"',
    '"2020-01-01T00:00:00.123456789+01:00"', '"12:34:56"', '"PT1H"', '"P1D"', "1577836800",
    "1577836800.5", "1e12", '"12345678-1234-5678-1234-567812345678"', "{}", "[]", '"nan"', '"inf"',
    "2", '"\x7f"', '"a\\u0000b"', "18446744073709551616", "1" * 308, "0." + "1" * 200, '"٣"',
    "5e-324", "2.2250738585072011e-308", "0.30000000000000004", "179769313486231580793e289",
]
ODD = [
    '{"i":1,"i":2}', '{"i":"x","i":2}', "[1,]", "[1", '{"i":1}x', "\ufeff1", '"a\tb"', "01", "+1",
    ".5", "1.", "1e", '"\\x41"', "'a'", "[1 2]", "tru", '{"i":1,}', "[" * 150 + "]" * 150,
    "[" * 250 + "]" * 250, '{"k":"a","i":"3"}', '{"k":"b","f":3}', '{"o":{"o":{"i":"7"}}}',
]
# fmt: on


def documents(count: int) -> list[str]:
    rng = random.Random(7)

    def make(depth: int) -> str:
        kind = rng.random()
        if depth > 3 or kind < 0.6:
            return rng.choice(ATOMS)
        size = rng.randint(0, 3)
        if kind < 0.75:
            return "[" + ",".join(make(depth + 1) for _ in range(size)) + "]"
        members = (f'"{rng.choice("isofk")}" : {make(depth + 1)}' for _ in range(size))
        return "{" + ", ".join(members) + "}"

    return [rng.choice(["", " ", "\n\t"]) + make(0) + rng.choice(["", " "]) for _ in range(count)]


def same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        both_nan = math.isnan(a) and math.isnan(b)
        return both_nan or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, BaseModel):
        return (
            same(a.__dict__, b.__dict__)
            and a.model_fields_set == b.model_fields_set
            and same(a.__pydantic_extra__, b.__pydantic_extra__)
        )
    if dataclasses.is_dataclass(a):
        return same(a.__dict__, b.__dict__)
    if isinstance(a, (set, frozenset)):
        return len(a) == len(b) and all(any(same(x, y) for y in b) for x in a)
    return a == b and repr(a) == repr(b)


needs_2_11 = pytest.mark.skipif(
    PYDANTIC_VERSION_MINOR_TUPLE < (2, 11), reason="not used with this version of pydantic"
)


@needs_2_11
@pytest.mark.parametrize("kind", EQUAL, ids=address_free)
def test_equal_where_it_succeeds(kind: Any) -> None:
    adapter = TypeAdapter(kind)
    assert json_mode_is_equal(adapter.core_schema)
    accepted = 0
    for document in [*documents(1500), *ATOMS, *ODD]:
        data = document.encode("utf-8", "surrogatepass")
        assert not re.search(rb"[0-9]{309}", data)
        try:
            value = adapter.validator.validate_json(data)
        except ValidationError:
            continue
        accepted += 1
        expected = adapter.validator.validate_python(json.loads(data), from_attributes=True)
        assert same(value, expected), document
    assert accepted or kind in (tuple[int, str], KindA)


class StrictModel(BaseModel):
    model_config = ConfigDict(strict=True)
    when: date


class ToText(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)
    s: str


@pytest.mark.parametrize(
    "kind",
    [
        *(Decimal, bytes, dict[int, str], StrictModel, ToText, Annotated[int, Strict()]),
        *(int | date, set[int] | list[float], list[uuid.UUID | str], int | Plain),
        *(Needs | Node, Keys | list[Node], Node | dict[str, int], Node | list[Any]),
        Annotated[int, AfterValidator(abs)],
        Annotated[int, BeforeValidator(int)],
    ],
    ids=address_free,
)
def test_not_equal_or_not_known(kind: Any) -> None:
    assert not json_mode_is_equal(TypeAdapter(kind).core_schema)


def test_the_difference_that_unions_make() -> None:
    adapter = TypeAdapter(set[int] | list[float])
    assert adapter.validator.validate_json(b"[1]") == {1}
    assert adapter.validator.validate_python([1]) == [1.0]


def mine(value: Any) -> Any:
    return value


class WithValidator(BaseModel):
    x: int

    @field_validator("x")
    @classmethod
    def check(cls, value: int) -> int:
        return value


class WithPostInit(BaseModel):
    x: int

    def model_post_init(self, context: Any) -> None:
        pass


class WithInit(BaseModel):
    x: int

    def __init__(self, **data: Any) -> None:
        super().__init__(**data)


class WithFactory(BaseModel):
    x: list[int] = Field(default_factory=lambda: [1])


class Missing(enum.Enum):
    a = "a"

    @classmethod
    def _missing_(cls, value: object) -> "Missing":
        return cls.a


@pytest.mark.parametrize(
    "kind",
    [
        *(WithValidator, WithPostInit, WithInit, WithFactory, Missing),
        *(list[WithValidator], WithValidator | None, dict[str, WithFactory]),
        Annotated[int, AfterValidator(mine)],
        Annotated[Annotated[int, Tag("i")] | Annotated[str, Tag("s")], Discriminator(mine)],
    ],
    ids=address_free,
)
def test_user_code_is_found(kind: Any) -> None:
    assert runs_user_code(TypeAdapter(kind).core_schema)


class StandardFactories(BaseModel):
    a: list[int] = Field(default_factory=list)
    b: uuid.UUID = Field(default_factory=uuid.uuid4)
    c: datetime = Field(default_factory=datetime.now)


@pytest.mark.parametrize("kind", [*EQUAL, StandardFactories, Decimal, bytes], ids=address_free)
def test_no_user_code(kind: Any) -> None:
    assert not runs_user_code(TypeAdapter(kind).core_schema)
