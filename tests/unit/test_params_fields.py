"""ModelField: validation, defaults, schemas, and which fields share an adapter."""

import dataclasses
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, computed_field
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from starlette.datastructures import UploadFile

from turboapi import params
from turboapi._compat import (
    ModelField,
    copy_field_info,
    evaluate_forwardref,
    field_annotation_is_scalar,
    field_annotation_is_scalar_sequence,
    field_annotation_is_sequence,
    get_cached_model_fields,
    get_definitions,
    get_flat_models_from_fields,
    get_missing_field_error,
    get_model_name_map,
    get_schema_from_model_field,
    is_bytes_or_nonable_bytes_annotation,
    is_bytes_sequence_annotation,
    is_uploadfile_or_nonable_uploadfile_annotation,
    is_uploadfile_sequence_annotation,
    lenient_issubclass,
    serialize_sequence_value,
)
from turboapi._compat._field import _adapter_key
from turboapi.exceptions import FastAPIError
from turboapi.utils import create_model_field


class Item(BaseModel):
    name: str
    tags: list[str] = []


def field(annotation: Any, name: str = "x", mode: Any = "validation", **options: Any) -> ModelField:
    return ModelField(FieldInfo(annotation=annotation, **options), name, mode)


def test_validate_and_locate_errors() -> None:
    number = field(int)
    assert number.validate("3") == (3, [])
    value, errors = field(list[int]).validate(["1", "a"], {}, loc=("query", "x"))
    assert value is None
    assert [error["loc"] for error in errors] == [("query", "x", 1)]
    assert "url" not in errors[0]


def test_defaults() -> None:
    assert field(int).default is PydanticUndefined
    assert field(int, default=3).default == 3
    made = field(list[int], default_factory=list)
    assert made.default == []
    assert made.default is not made.default


def test_aliases() -> None:
    named = field(int, alias="a", validation_alias="v", serialization_alias="s")
    assert (named.alias, named.validation_alias, named.serialization_alias) == ("a", "v", "s")
    plain = field(int)
    assert (plain.alias, plain.validation_alias, plain.serialization_alias) == ("x", None, None)


def test_serialize() -> None:
    model = field(Item)
    item = Item(name="n")
    assert model.serialize(item, exclude_unset=True) == {"name": "n"}
    assert model.serialize_json(item) == b'{"name":"n","tags":[]}'


def test_not_a_type() -> None:
    class NoType: ...

    with pytest.raises(FastAPIError, match="Invalid args for response field! Hint: check that"):
        create_model_field("x", NoType)


def test_missing_error_is_pydantics() -> None:
    _, [expected] = field(Item).validate({}, loc=("body",))
    error = get_missing_field_error(("body", "name"))
    assert error == {**expected, "input": None}
    assert list(error) == list(expected)


def test_equal_fields_share_an_adapter() -> None:
    def adapter(annotation: Any, **options: Any) -> Any:
        return field(annotation, **options)._type_adapter

    assert adapter(int) is adapter(int)
    assert adapter(Item) is adapter(Item)
    assert adapter(int | None, default=None) is adapter(int | None, default=None)
    different = [
        adapter(int),
        adapter(float),
        adapter(int, default=1),
        adapter(int, default=True),
        adapter(int, default=None),
        adapter(int, default="1"),
        adapter(int, ge=1),
        adapter(int, ge=1.0),
        adapter(int, gt=1),
        adapter(int, title="T"),
        adapter(int, validate_default=True),
        adapter(int | str),
        adapter(str | int),
        adapter(int | None),
    ]
    assert len({id(each) for each in different}) == len(different)


def test_what_may_differ_unseen_is_not_shared() -> None:
    for annotation, options in [
        (list[int], {}),
        (Annotated[int, BeforeValidator(int)], {}),
        (int, {"default_factory": int}),
        (int, {"examples": [1]}),
        (int, {"json_schema_extra": {}}),
        (str, {"pattern": "a"}),
    ]:
        assert field(annotation, **options)._type_adapter is not (
            field(annotation, **options)._type_adapter
        )


def test_a_rebuilt_model_gets_a_new_adapter() -> None:
    class Changing(BaseModel):
        x: int

    before = field(Changing)
    Changing.model_fields["x"].annotation = str  # type: ignore[assignment]
    Changing.__annotations__["x"] = str
    Changing.model_rebuild(force=True)
    assert field(Changing)._type_adapter is not before._type_adapter


def test_incomplete_models_are_not_shared() -> None:
    class Later(BaseModel):
        child: "Unknown | None" = None  # type: ignore[name-defined]  # noqa: F821

    assert _adapter_key(FieldInfo(annotation=Later)) is None
    assert _adapter_key(FieldInfo(annotation=Item)) is not None


def test_sharing_keeps_results_apart() -> None:
    assert field(int | str).validate("1")[0] == "1"
    assert field(int, default=True).default is True
    assert field(int, default=1).default == 1
    assert field(int, ge=3).validate(2)[1]
    assert not field(int).validate(2)[1]


def test_model_fields_are_kept() -> None:
    fields = get_cached_model_fields(Item)
    assert [f.name for f in fields] == ["name", "tags"]
    assert get_cached_model_fields(Item) is fields


def test_model_fields_have_the_models_config() -> None:
    class Strict(BaseModel):
        model_config = ConfigDict(str_to_upper=True)
        name: str
        item: Item

    name, item = get_cached_model_fields(Strict)
    assert name.validate("a")[0] == "A"
    assert item.validate({"name": "a"})[0] == Item(name="a")


class Color(Enum):
    red = "red"


class Tree(BaseModel):
    children: list["Tree"] = []
    color: Color = Color.red
    item: Item | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def depth(self) -> int:
        return 0


def test_models_are_found_at_any_depth() -> None:
    found = get_flat_models_from_fields([field(dict[str, list[Tree]])], known_models=set())
    assert found == {Tree, Color, Item}
    assert set(get_model_name_map(found).values()) == {"Tree", "Color", "Item"}


def schema(of: ModelField, **options: Any) -> dict[str, Any]:
    mapping, _ = get_definitions(fields=[of], model_name_map={}, **options)
    return get_schema_from_model_field(
        field=of, model_name_map={}, field_mapping=mapping, **options
    )


def test_schemas() -> None:
    assert schema(field(int, name="my_number")) == {"type": "integer", "title": "My Number"}
    assert schema(field(int, title="T"))["title"] == "T"
    assert schema(field(Item)) == {"$ref": "#/components/schemas/Item"}
    assert schema(field(bytes)) == {
        "type": "string",
        "contentMediaType": "application/octet-stream",
        "title": "X",
    }


def test_separate_schemas() -> None:
    fields = [field(Tree), field(Tree, "y", "serialization")]
    _, both = get_definitions(fields=fields, model_name_map={})
    assert {"Tree-Input", "Tree-Output"} <= set(both)
    items = [field(Item), field(Item, "y", "serialization")]
    _, one = get_definitions(fields=items, model_name_map={}, separate_input_output_schemas=False)
    assert list(one) == ["Item"]
    # What is computed exists only in the output, so that needs its own schema in any case.
    _, computed = get_definitions(
        fields=fields, model_name_map={}, separate_input_output_schemas=False
    )
    assert "depth" in str(computed)


def test_descriptions_end_at_a_form_feed() -> None:
    class Documented(BaseModel):
        """Shown.\fHidden."""

    _, definitions = get_definitions(fields=[field(Documented)], model_name_map={})
    assert definitions["Documented"]["description"] == "Shown."


def test_copy_field_info_takes_all_metadata() -> None:
    marker = params.Query(ge=1)
    merged = copy_field_info(
        field_info=marker, annotation=Annotated[int, marker, Field(le=5, title="T")]
    )
    assert isinstance(merged, params.Query)
    assert merged is not marker
    assert merged.title == "T"
    assert len(merged.metadata) == 2
    assert marker.title is None


def test_forward_references() -> None:
    assert evaluate_forwardref("int | None", {}) == (int | None)
    assert evaluate_forwardref("Item", {"Item": Item}) is Item
    assert evaluate_forwardref("Annotated[int, 3]", {"Annotated": Annotated}) == Annotated[int, 3]
    assert evaluate_forwardref("Nowhere", {}) == "Nowhere"


@dataclasses.dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("annotation", "scalar", "sequence", "scalars"),
    [
        (int, True, False, False),
        (str, True, False, False),
        (int | None, True, False, False),
        (Literal["a"], True, False, False),
        (list[int], False, True, True),
        (list[int] | None, False, True, True),
        (Annotated[list[int], 1], False, True, True),
        (tuple[int, ...], False, True, True),
        (list, False, True, True),
        (list[Item], False, True, False),
        (list[int] | Item, False, True, False),
        (list[int] | int, False, True, True),
        (dict[str, int], False, False, False),
        (Item, False, False, False),
        (Point, False, False, False),
        (UploadFile, False, False, False),
        (Item | int, False, False, False),
        (Any, True, False, False),
        (bytes, True, False, False),
    ],
)
def test_kinds_of_annotations(annotation: Any, scalar: bool, sequence: bool, scalars: bool) -> None:
    assert field_annotation_is_scalar(annotation) is scalar
    assert field_annotation_is_sequence(annotation) is sequence
    assert field_annotation_is_scalar_sequence(annotation) is scalars


def test_bytes_and_uploads() -> None:
    assert is_bytes_or_nonable_bytes_annotation(bytes | None)
    assert not is_bytes_or_nonable_bytes_annotation(str)
    assert is_bytes_sequence_annotation(list[bytes] | None)
    assert not is_bytes_sequence_annotation(list[str])
    assert is_uploadfile_or_nonable_uploadfile_annotation(UploadFile | None)
    assert is_uploadfile_sequence_annotation(list[UploadFile])
    assert not is_uploadfile_sequence_annotation(list[bytes])


def test_lenient_issubclass() -> None:
    assert lenient_issubclass(bool, int)
    assert not lenient_issubclass(list[int], list)
    assert not lenient_issubclass("int", int)


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [(list[bytes], [b"a"]), (set[bytes] | None, {b"a"}), (tuple[bytes, ...], (b"a",))],
)
def test_sequences_get_their_type(annotation: Any, expected: Any) -> None:
    assert serialize_sequence_value(field=field(annotation), value=[b"a"]) == expected
