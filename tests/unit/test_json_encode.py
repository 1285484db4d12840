"""The C JSON encoder against what jsonable_encoder and json.dumps give."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import gc
import json
import math
import sys
import threading
import uuid
from collections import OrderedDict, deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, RootModel

from turboapi._core import encode_json, encode_json_item

CONVERTERS: dict[type, Any] = {
    bytes: bytes.decode,
    dt.date: lambda v: v.isoformat(),
    dt.datetime: lambda v: v.isoformat(),
    dt.time: lambda v: v.isoformat(),
    dt.timedelta: lambda v: v.total_seconds(),
    uuid.UUID: str,
}


def plain(value: Any) -> Any:
    """Do what jsonable_encoder does by default to the types of these tests."""
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="json", by_alias=True))
    if dataclasses.is_dataclass(value):
        return plain(dataclasses.asdict(value))
    if isinstance(value, enum.Enum):
        return value.value
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, dict):
        return {
            plain(key): plain(item)
            for key, item in value.items()
            if not (isinstance(key, str) and key.startswith("_sa"))
        }
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return [plain(item) for item in value]
    if isinstance(value, decimal.Decimal):
        exponent = value.as_tuple().exponent
        return int(value) if isinstance(exponent, int) and exponent >= 0 else float(value)
    return CONVERTERS[type(value)](value)


def reference(value: Any) -> bytes | None:
    """Return the bytes, or None where Python raises."""
    try:
        text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except (ValueError, TypeError, RecursionError, KeyError):
        return None


def check(value: Any) -> None:
    """The encoder may refuse, but never say anything else."""
    got = encode_json(value)
    if got is not None:
        assert got == reference(value)


def check_handled(value: Any) -> None:
    """The encoder must not refuse either, unless Python raises."""
    assert encode_json(value) == reference(value)


def finite(value: Any) -> Any:
    """Put None for what is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list) else value


def check_item(value: Any) -> None:
    """As an item of a stream: json.dumps' own way, and Python's for the rest."""
    got = encode_json_item(value)
    if got is None:
        assert encode_json(value) is None
    else:
        assert got == json.dumps(finite(plain(value))).encode()


keys = st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none())
handled_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.floats(),
    st.text(),
    st.text(alphabet=st.characters()),
    st.binary(max_size=20),
    st.datetimes(timezones=st.none() | st.just(dt.UTC) | st.timezones()),
    st.dates(),
    st.times(timezones=st.none() | st.just(dt.UTC)),
    st.timedeltas(),
    st.uuids(),
    st.decimals(allow_nan=True),
)


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Build values of containers around leaves."""
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=5),
            st.lists(inner, max_size=4).map(tuple),
            st.lists(inner, max_size=4).map(deque),
            st.dictionaries(keys, inner, max_size=5),
            st.frozensets(st.text() | st.integers(), max_size=4),
            st.sets(st.text() | st.integers(), max_size=4),
        ),
        max_leaves=25,
    )


@settings(max_examples=1500, deadline=None)
@given(nested(handled_scalars))
def test_equals_reference(value: Any) -> None:
    check_handled(value)
    check_item(value)


@settings(max_examples=3000, deadline=None)
@given(st.text(alphabet=st.characters(), max_size=80))
def test_strings(value: str) -> None:
    check_handled(value)
    check_handled({value: value})
    check_item({value: [value]})


@settings(max_examples=3000, deadline=None)
@given(st.floats())
def test_floats(value: float) -> None:
    check_handled(value)


@pytest.mark.parametrize(
    "code", [*range(256), 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF]
)
@pytest.mark.parametrize("pad", [0, 1, 15, 16, 17, 1023, 1024, 1025])
def test_every_escape_at_every_offset(code: int, pad: int) -> None:
    for filler in "xé\u4e2d\U0001f600":
        check_handled(filler * pad + chr(code) + "y")
        check_item(filler * pad + chr(code) + "y")


@pytest.mark.parametrize(
    "value", ["\ud800", "a\udfffb", "\ud83d\ude00", {"\udc00": 1}, ["x", "\ud800"]]
)
def test_lone_surrogates_are_left_to_python(value: Any) -> None:
    assert encode_json(value) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, {math.nan: 1}, [1, math.inf]])
def test_non_finite_is_left_to_python(value: Any) -> None:
    assert encode_json(value) is None


def test_non_finite_is_null_in_an_item() -> None:
    assert encode_json_item([math.nan, {"a": -math.inf}]) == b'[null, {"a": null}]'
    assert encode_json_item({math.nan: 1}) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "{}"),
        ([], "[]"),
        ((), "[]"),
        (set(), "[]"),
        ("", '""'),
        (-0.0, "-0.0"),
        (5e-324, "5e-324"),
        (1e16, "1e+16"),
        (9999999999999998.0, "9999999999999998.0"),
        (1e-4, "0.0001"),
        (1e-5, "1e-05"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (-(2**63), "-9223372036854775808"),
        (2**64, "18446744073709551616"),
        ({1: 2, False: 3, None: 4, 2.5: 5}, '{"1":2,"false":3,"null":4,"2.5":5}'),
        ({"_sa": 1, "_sab": 2, "_s": 3, "_saé": 4, "a_sa": 5}, '{"_s":3,"a_sa":5}'),
        ({"_sa_instance_state": object()}, "{}"),
        ({"a": "\x7f\u2028</script>"}, '{"a":"\x7f\u2028</script>"}'),
        ({"1": 1, 1: 2}, '{"1":1,"1":2}'),
    ],
)
def test_golden(value: Any, text: str) -> None:
    assert encode_json(value) == text.encode()


class Text(str):
    """A subclass: json.dumps may treat it in its own way."""

    __slots__ = ()


class Number(int):
    """A subclass of int."""


@pytest.mark.parametrize(
    "value",
    [
        Text("a"),
        Number(3),
        OrderedDict(a=1),
        {Text("a"): 1},
        {b"a": 1},
        {uuid.UUID(int=1): 1},
        {(1, 2): 3},
        object(),
        [object()],
        (i for i in range(3)),
        10**5000,
        b"\xff",
        decimal.Decimal("NaN"),
        decimal.Decimal("sNaN"),
        decimal.Decimal("1E+1000000000"),
        int,
        enum.Enum,
    ],
    ids=lambda value: type(value).__name__,
)
def test_left_to_python(value: Any) -> None:
    assert encode_json(value) is None
    assert encode_json({"before": [1, 2], "x": value}) is None


def test_generator_is_not_consumed() -> None:
    source = iter(range(3))
    assert encode_json(source) is None
    assert encode_json(list(source)) == b"[0,1,2]"


class Color(enum.Enum):
    RED = "red"
    ONE = 1
    PAIR = (1, 2)
    WHEN = dt.date(2024, 1, 1)


class Level(enum.IntEnum):
    LOW = 1


class Kind(enum.StrEnum):
    A = "a"


class Mixed(str, enum.Enum):  # noqa: UP042 (the old form is what is tested)
    B = "b"


class Flag(enum.IntFlag):
    X = 1
    Y = 2


@pytest.mark.parametrize(
    "value", [Color.RED, Color.ONE, Level.LOW, Kind.A, Mixed.B, Flag.X | Flag.Y]
)
def test_enums(value: Any) -> None:
    check_handled(value)
    check_handled([value, {"k": value}])


def test_enum_values_go_to_dumps_unchanged() -> None:
    check(Color.PAIR)
    assert encode_json(Color.WHEN) is None  # json.dumps raises
    assert encode_json({Color.RED: 1}) is None


class Inner(BaseModel):
    when: dt.datetime
    raw: bytes = b"x"


class Outer(BaseModel):
    inner: Inner
    alias: int = Field(1, alias="aliAs")
    tags: set[str] = {"a"}
    ratio: float = 1e16
    sa: int = Field(3, serialization_alias="_sa_x")


class Overridden(BaseModel):
    x: int = 1

    def model_dump(self, **kwargs: Any) -> dict[str, Any]:
        """Add what the caller asked for."""
        return {"x": self.x, "kwargs": {k: v for k, v in kwargs.items() if v is not None}}


class Rooted(RootModel[list[int]]):
    """A model that dumps to a list."""


@dataclasses.dataclass
class Point:
    x: int
    y: dt.date
    more: list[Any] = dataclasses.field(default_factory=list)


def test_models_and_dataclasses() -> None:
    outer = Outer(inner=Inner(when=dt.datetime(2024, 1, 2, 3, 4, 5, 6, dt.UTC)), aliAs=2)
    point = Point(1, dt.date(2024, 1, 1), [Point(2, dt.date(1, 1, 1))])
    for value in (outer, [outer, {"o": outer}], Rooted([1, 2]), point, {"p": [point]}):
        check_handled(value)
        check_item(value)
    expected = {"mode": "json", "by_alias": True, "exclude_unset": False, "exclude_none": False}
    got = json.loads(encode_json(Overridden()) or b"")
    assert got["x"] == 1
    assert expected.items() <= got["kwargs"].items()


class Broken(BaseModel):
    x: int = 1

    def model_dump(self, **kwargs: Any) -> dict[str, Any]:
        """Fail."""
        raise LookupError("broken")


def test_a_models_own_error_comes_out() -> None:
    with pytest.raises(LookupError, match="broken"):
        encode_json([1, Broken()])


class Shrinking(BaseModel):
    victim: Any = None

    def model_dump(self, **kwargs: Any) -> dict[str, Any]:
        """Mutate what is being encoded."""
        self.victim.clear()
        return {}


@pytest.mark.parametrize("make", [dict, list, set, deque])
def test_mutation_while_encoding(make: Any) -> None:
    if make is dict:
        victim: Any = {}
        victim.update(a=Shrinking(victim=victim), b=[1], c=2)
        model = victim["a"]
    else:
        model = Shrinking.model_construct()
        victim = make() if make is not set else []
        victim.extend([1, model, 2, 3])
    model.__dict__["victim"] = victim
    encode_json(victim)  # any result, no crash


def test_depth() -> None:
    value: Any = 1
    for _ in range(190):
        value = [value]
    check_handled(value)
    for _ in range(100_000):
        value = {"a": value}
    assert encode_json(value) is None
    while not isinstance(value, list):  # not by recursion
        value = value["a"]


def test_circular() -> None:
    value: list[Any] = []
    value.append(value)
    assert encode_json(value) is None
    mapping: dict[str, Any] = {}
    mapping["a"] = [mapping]
    assert encode_json(mapping) is None


def test_long_output() -> None:
    check_handled(["x" * 5000, "\n" * 5000, "é" * 5000, "\U0001f600" * 5000] * 20)
    check_handled({f"key{i}": [i, i / 7, str(i)] for i in range(5000)})


def test_timedeltas_at_the_edges() -> None:
    for value in (
        dt.timedelta.max,
        dt.timedelta.min,
        dt.timedelta(microseconds=-1),
        dt.timedelta(seconds=2**53 // 1_000_000, microseconds=999_999),
        dt.timedelta(seconds=-(2**53) // 1_000_000),
    ):
        check_handled(value)


def test_timezone_subclass_and_fold() -> None:
    class Odd(dt.tzinfo):
        def utcoffset(self, when: dt.datetime | None) -> dt.timedelta:
            return dt.timedelta(hours=1, minutes=2, seconds=3)

    check_handled(dt.datetime(2024, 5, 6, tzinfo=Odd()))
    check_handled(dt.time(1, 2, 3, 4, tzinfo=Odd()))
    check_handled(dt.datetime(1, 1, 1, fold=1))


def test_no_leak() -> None:
    values = [
        {"a": [1, 2.5, "é", None, True], "b": dt.datetime(2024, 1, 1), "u": uuid.UUID(int=5)},
        [Outer(inner=Inner(when=dt.datetime(2024, 1, 1)))],
        [Point(1, dt.date(2024, 1, 1))],
        [2**80, decimal.Decimal("1.5"), Color.RED, {1, 2}, b"abc"],
        [object()],
        ["\ud800"],
        {"x": math.nan},
    ]
    for value in values:
        encode_json(value)
    gc.collect()
    counts = [sys.getrefcount(v) for v in values]
    blocks = sys.getallocatedblocks()
    for _ in range(500):
        for value in values:
            encode_json(value)
    gc.collect()
    assert [sys.getrefcount(v) for v in values] == counts
    assert sys.getallocatedblocks() - blocks < 200


def test_threads_may_mutate() -> None:
    shared: dict[str, Any] = {f"k{i}": [i] * 5 for i in range(50)}
    stop = threading.Event()
    seen: list[BaseException] = []

    def mutate() -> None:
        i = 0
        while not stop.is_set():
            shared[f"n{i % 20}"] = [i]
            shared.pop(f"n{(i + 7) % 20}", None)
            shared["k1"].append(i)
            del shared["k1"][:3]
            i += 1

    def encode() -> None:
        try:
            for _ in range(1500):
                got = encode_json(shared)
                if got is not None:
                    json.loads(got)
        except BaseException as exc:  # noqa: BLE001 (reported below)
            seen.append(exc)

    threads = [threading.Thread(target=encode) for _ in range(2)]
    mutator = threading.Thread(target=mutate)
    mutator.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    stop.set()
    mutator.join(60)
    assert not seen
