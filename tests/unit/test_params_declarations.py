"""The eight declarations: their options, what pydantic gets of them, their warnings."""

import copy
import dataclasses
import inspect
import warnings
from typing import Any

import pytest
from pydantic import AliasChoices
from pydantic_core import PydanticUndefined

from turboapi import param_functions, params
from turboapi.datastructures import Default, DefaultPlaceholder
from turboapi.exceptions import FastAPIDeprecationWarning

NAMES = ["Path", "Query", "Header", "Cookie", "Body", "Form", "File"]
OPTIONAL = [name for name in NAMES if name != "Path"]


@pytest.mark.parametrize("name", NAMES)
def test_function_and_class_have_the_same_options(name: str) -> None:
    function = inspect.signature(getattr(param_functions, name)).parameters
    cls = dict(inspect.signature(getattr(params, name)).parameters)
    assert list(cls)[2] == "annotation"
    del cls["annotation"]
    assert list(function) == list(cls)
    assert [p.default for p in function.values()] == [p.default for p in cls.values()]
    assert all(p.kind is p.KEYWORD_ONLY for n, p in cls.items() if n != "default")


def test_order_of_own_options() -> None:
    def names(cls: type) -> list[str]:
        return list(inspect.signature(cls).parameters)

    assert names(params.Header).index("convert_underscores") == (
        names(params.Header).index("serialization_alias") + 1
    )
    assert names(params.Body)[3:6] == ["embed", "media_type", "alias"]
    assert names(params.Form)[3:5] == ["media_type", "alias"]


@pytest.mark.parametrize("name", OPTIONAL)
def test_options_reach_pydantic(name: str) -> None:
    info = getattr(param_functions, name)(
        5, alias="al", title="T", gt=3, description="D", deprecated=True, include_in_schema=False
    )
    assert isinstance(info, getattr(params, name))
    assert (info.default, info.alias, info.title, info.description) == (5, "al", "T", "D")
    assert info.validation_alias == info.serialization_alias == "al"
    assert [constraint.gt for constraint in info.metadata] == [3]
    assert info.deprecated is True
    assert info.include_in_schema is False
    assert repr(info) == f"{name}(5)"


def test_aliases_are_not_overwritten() -> None:
    info = params.Query(alias="a", validation_alias=AliasChoices("b", "c"), serialization_alias="d")
    assert info.alias == "a"
    assert info.validation_alias == AliasChoices("b", "c")
    assert info.serialization_alias == "d"
    assert params.Query().validation_alias is None


@pytest.mark.parametrize("name", NAMES)
def test_unknown_option(name: str) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'minimum'"):
        getattr(param_functions, name)(minimum=3)


def test_no_default_of_a_path_parameter() -> None:
    with pytest.raises(AssertionError, match="Path parameters cannot have a default value"):
        param_functions.Path(5)
    assert params.Path().is_required()


@pytest.mark.parametrize("name", OPTIONAL)
@pytest.mark.parametrize(
    ("option", "value", "instead"), [("example", 1, "examples"), ("regex", "^a", "pattern")]
)
def test_deprecated_options_blame_the_caller(
    name: str, option: str, value: Any, instead: str
) -> None:
    with pytest.warns(FastAPIDeprecationWarning, match=f"use `{instead}` instead") as caught:
        info = getattr(param_functions, name)(**{option: value})
    assert [warning.filename for warning in caught] == [__file__]
    if option == "regex":
        assert info.metadata[0].pattern == "^a"
    else:
        assert info.example == 1


def test_no_warning_without_deprecated_options() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert params.Query(examples=[1]).examples == [1]


def test_places() -> None:
    places = [getattr(params, name).in_.value for name in NAMES[:4]]
    assert places == ["path", "query", "header", "cookie"]
    assert params.Form().media_type == "application/x-www-form-urlencoded"
    assert params.File().media_type == "multipart/form-data"
    assert params.Form().embed is None
    assert params.Body(embed=True).embed is True


def test_copies_keep_everything() -> None:
    info = copy.copy(params.Header(3, convert_underscores=False, include_in_schema=False))
    assert (info.default, info.convert_underscores, info.include_in_schema) == (3, False, False)
    assert isinstance(info, params.Header)


def test_subclasses_may_have_options_of_their_own() -> None:
    class Filter(params.Query):
        def __init__(self, default: Any = PydanticUndefined, *, level: int, **options: Any) -> None:
            self.level = level
            super().__init__(default, **options)

    info = Filter(1, level=2, alias="f")
    assert (info.default, info.level, info.alias) == (1, 2, "f")


def call() -> None: ...


def test_depends_are_hashable_and_compare_by_value() -> None:
    assert params.Depends(call) == params.Depends(call)
    assert len({params.Depends(call), params.Depends(call), params.Security(call)}) == 2
    assert params.Depends(call) != params.Depends(call, use_cache=False)


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "3"])
def test_bad_max_concurrency(limit: Any) -> None:
    with pytest.raises(ValueError, match="max_concurrency must be a positive integer or None"):
        param_functions.Depends(call, max_concurrency=limit)


def test_each_max_concurrency_counts_by_itself() -> None:
    one = params.Depends(call, max_concurrency=2)
    assert one != params.Depends(call, max_concurrency=2)
    assert dataclasses.replace(one, dependency=print)._concurrency is one._concurrency
    assert dataclasses.replace(one, max_concurrency=3)._concurrency is not one._concurrency
    assert dataclasses.replace(one, max_concurrency=None)._concurrency is None
    assert ", _concurrency" not in repr(one)


def test_default_placeholder() -> None:
    value = Default(3)
    assert isinstance(value, DefaultPlaceholder)
    assert value == Default(3)
    assert value != 3
    assert not Default(0)
    with pytest.raises(TypeError):
        hash(value)
