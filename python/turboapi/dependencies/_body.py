"""Bodies: one value or an object of several, and the field that documents them."""

from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from functools import partial
from typing import Annotated, Any, cast

from pydantic import AliasChoices, BaseModel, ConfigDict, GetJsonSchemaHandler, GetPydanticSchema
from pydantic_core import CoreSchema, ValidationError
from starlette.datastructures import FormData

from turboapi import params
from turboapi._compat import (
    ModelField,
    Undefined,
    create_body_model,
    get_cached_model_fields,
    get_missing_field_error,
    lenient_issubclass,
)
from turboapi.dependencies._extract import (
    _validate_value_with_model_field,
    get_validation_alias,
    lookup_of,
)
from turboapi.dependencies._forms import (
    _extract_form_model,
    _get_form_model,
    _get_form_models,
    extract_form_items,
    is_nullable,
    own_names,
    read_form_field,
    read_form_items,
    reads_files,
    takes_extras,
)
from turboapi.utils import create_model_field


def _should_embed_body_fields(fields: Sequence[ModelField]) -> bool:
    """Return whether the body is an object, or form, with a key for each field."""
    if not fields:
        return False
    first, *others = fields
    # Several dependencies may ask for the same field: it counts once.
    if any(field.name != first.name for field in others):
        return True
    models = _get_form_models(first)
    annotation = first.field_info.annotation
    if models and any(
        not _get_form_models(field) or field.field_info.annotation is not annotation
        for field in others
    ):
        return True
    if getattr(first.field_info, "embed", None):
        return True
    # A form is only a value of its own for a model.
    return (
        isinstance(first.field_info, params.Form)
        and not lenient_issubclass(annotation, BaseModel)
        and not models
    )


def is_single_body(body_fields: Sequence[ModelField], embed_body_fields: bool) -> bool:
    """Return whether the received body as it is is the value of the only field."""
    return (
        len(body_fields) == 1
        and not embed_body_fields
        and not _should_embed_body_fields(body_fields)
        and not _get_form_models(body_fields[0])
    )


async def request_body_to_args(
    body_fields: list[ModelField],
    received_body: Any,
    embed_body_fields: bool,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the keyword arguments that a parsed body gives, and the errors of the others.

    ``received_body`` is what JSON gave, a FormData, bytes of another media type, or Undefined.
    """
    assert body_fields, "request_body_to_args() should be called with fields"
    form = received_body if isinstance(received_body, FormData) else None
    if is_single_body(body_fields, embed_body_fields):
        field = body_fields[0]
        if form is not None:
            received_body = await read_form_items(body_fields, form)
        value, problems = _validate_value_with_model_field(
            field=field, value=received_body, values={}, loc=("body",)
        )
        return {field.name: value}, problems
    values: dict[str, Any] = {}
    errors: list[dict[str, Any]] = []
    is_object = (
        received_body is Undefined
        or isinstance(received_body, bytes)
        or hasattr(received_body, "get")
    )
    for field in body_fields:
        loc: tuple[str, ...] = ("body",)
        if not is_object:
            # An array, number or null has no keys; even optional fields need an object.
            first = lookup_of(field).aliases[0].validation
            errors.append(get_missing_field_error(("body", first)))
            continue
        if form is None:
            loc, value = _embedded(field, received_body)
        elif models := _get_form_models(field):
            value = await _extract_form_model(field, models, form)
        else:
            alias, value = await read_form_field(field, form)
            loc = ("body", alias)
        value, problems = _validate_value_with_model_field(
            field=field, value=value, values=values, loc=loc
        )
        if problems:
            errors.extend(problems)
        else:
            values[field.name] = value
    return values, errors


def form_reader(
    body_fields: list[ModelField],
    embed_body_fields: bool,
    quick: Callable[[ModelField], tuple[bool, Any]],
) -> Callable[[FormData], tuple[dict[str, Any], list[dict[str, Any]]]] | None:
    """Return what does the same for a form at once; None: a file of it may have to be read.

    ``quick(field)`` tells whether any text is its own value, and a validator to be tried first.
    """
    if is_single_body(body_fields, embed_body_fields):
        return None
    fields: list[tuple[ModelField, Any, list[ModelField] | None, bool, Any]] = []
    for field in body_fields:
        models = _get_form_models(field)
        if len(models) > 1 or (models and is_nullable(field)):
            return None
        members = get_cached_model_fields(models[0]) if models else None
        if any(reads_files(each) for each in members or [field]):
            return None
        fields.append((field, lookup_of(field), members, *quick(field)))

    def read(form: FormData) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        values: dict[str, Any] = {}
        errors: list[dict[str, Any]] = []
        for field, lookup, members, is_text, validator in fields:
            loc: tuple[str, ...] = ("body",)
            value: Any = Undefined
            if members is not None:
                value = {alias: item for alias, item, _ in extract_form_items(members, form)}
            else:
                for alias, _ in lookup.aliases:
                    value = lookup.take(form, alias)
                    if value is not Undefined:
                        loc = ("body", alias)
                        break
                else:
                    loc = ("body", lookup.aliases[0].validation)
            if is_text and type(value) is str:
                values[field.name] = value
                continue
            if validator is not None and value is not Undefined:
                try:
                    values[field.name] = validator(value, from_attributes=True)
                    continue
                except ValidationError:
                    pass  # again, for its errors
            value, problems = _validate_value_with_model_field(
                field=field, value=value, values=values, loc=loc
            )
            if problems:
                errors.extend(problems)
            else:
                values[field.name] = value
        return values, errors

    return read


def _embedded(field: ModelField, content: Any) -> tuple[tuple[str, ...], Any]:
    """Return where in a JSON object a field is, and its value; Undefined when it is not there."""
    aliases = lookup_of(field).aliases
    if content is not Undefined and not isinstance(content, bytes):
        for alias, _ in aliases:
            value = content.get(alias, Undefined)
            if value is not Undefined:
                return ("body", alias), value
    return ("body", aliases[0].validation), Undefined


def _get_body_field(
    *, body_params: list[ModelField], name: str, embed_body_fields: bool
) -> ModelField | None:
    """Return the field that stands for the whole body in OpenAPI; nothing is validated with it.

    It also tells forms (its ``field_info`` is a `params.Form`) from JSON.
    """
    if not body_params:
        return None
    first = body_params[0]
    if not embed_body_fields and not any(
        _get_form_models(field) and is_nullable(field) for field in body_params
    ):
        return first
    fields = body_params
    config: ConfigDict | None = None
    if any(map(_get_form_models, body_params)):
        fields = [_form_schema_field(index, field) for index, field in enumerate(body_params)]
        config = {"json_schema_extra": partial(_apply_form_body_schema, body_params)}
    model = create_body_model(fields=fields, model_name="Body_" + name, config=config)
    if not embed_body_fields:
        info = copy(first.field_info)
        info.annotation = model
        info.metadata = []
        info.discriminator = None
        return ModelField(name=first.name, field_info=info)
    return create_model_field(
        name="body", type_=model, alias="body", field_info=_body_info(body_params, model)
    )


def _body_info(body_params: list[ModelField], model: type[BaseModel]) -> params.Body:
    """Return the declaration of a body of several fields: multipart, a form, or JSON."""
    infos = [field.field_info for field in body_params]
    options: dict[str, Any] = {"annotation": model, "alias": "body"}
    if not any(info.is_required() for info in infos):
        options["default"] = None
    if any(isinstance(info, params.File) for info in infos):
        return params.File(**options)
    kind = params.Form if any(isinstance(info, params.Form) for info in infos) else params.Body
    media_types = {info.media_type for info in infos if isinstance(info, kind)}
    if kind is params.Form and "multipart/form-data" in media_types:
        options["media_type"] = "multipart/form-data"
    elif len(media_types) == 1:
        options["media_type"] = media_types.pop()
    return kind(**options)


def _form_schema_field(index: int, field: ModelField) -> ModelField:
    """``field`` under a neutral name; a model's schema has the names that the form has."""
    info = copy(field.field_info)
    model = _get_form_model(field)
    if model is not None:
        schema = GetPydanticSchema(get_pydantic_json_schema=partial(_get_form_model_schema, model))
        annotated: Any = Annotated[model, schema]
        info.annotation = cast("Any", annotated if info.annotation is model else annotated | None)
    name = f"field_{index}"
    info.alias = info.validation_alias = info.serialization_alias = name
    info.title = info.title or field.name.replace("_", " ").title()
    return ModelField(name=name, field_info=info)


def _form_aliases(model: type[BaseModel], schema: dict[str, Any]) -> dict[str, list[str]]:
    """Return names in a model's schema that are not, or not the only ones, in its form."""
    properties = schema.get("properties", {})
    required = schema.get("required", [])
    result: dict[str, list[str]] = {}
    for field in get_cached_model_fields(model):
        alias = field.field_info.validation_alias
        known = alias.choices[0] if isinstance(alias, AliasChoices) else get_validation_alias(field)
        if not isinstance(known, str) or known not in properties:
            continue
        names = [each.validation for each in lookup_of(field).aliases]
        if names[0] != known or (len(names) > 1 and known in required):
            result[known] = names
    return result


def _get_form_model_schema(
    model: type[BaseModel], core_schema: CoreSchema, handler: GetJsonSchemaHandler
) -> dict[str, Any]:
    schema = handler(core_schema)
    resolved = handler.resolve_ref_schema(schema)
    aliases = _form_aliases(model, resolved)
    if not aliases:
        return schema
    # A copy for this form: the model's own schema is used elsewhere too.
    result = deepcopy(resolved)
    result["properties"] = {
        aliases.get(name, [name])[0]: value for name, value in result["properties"].items()
    }
    needed: list[str] = []
    result["required"] = needed
    for required in resolved.get("required", []):
        names = aliases.get(required, [required])
        if len(names) == 1:
            needed.append(names[0])
        else:
            alternatives = [{"required": [name]} for name in names]
            result.setdefault("allOf", []).append({"anyOf": alternatives})
    return result


def _apply_form_body_schema(body_params: list[ModelField], schema: dict[str, Any]) -> None:
    """Make a schema of ``field_0``, ``field_1``... into one of a flat form, in place."""
    declared = schema.pop("properties")
    schema.pop("required", None)
    properties: dict[str, Any] = {}
    required: list[str] = []
    conditions: list[dict[str, Any]] = []
    for index, field in enumerate(body_params):
        own = declared[f"field_{index}"]
        models = _get_form_models(field)
        if models:
            own.pop("default", None)
            conditions += _form_model_conditions(field, models, own)
            continue
        alias = lookup_of(field).aliases[0].validation
        if alias in properties:
            conditions.append({"properties": {alias: own}})
        else:
            properties[alias] = own
        if field.field_info.is_required() and alias not in required:
            required.append(alias)
    if properties:
        schema["properties"] = properties
    if required:
        schema["required"] = required
    schema["allOf"] = conditions


def _form_model_conditions(
    field: ModelField, models: list[type[BaseModel]], own: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return what a form must be for the models of one parameter; none of it for an absent one."""
    if not is_nullable(field):
        return [own]
    # An absent model has no key in the form: there is no null.
    own["anyOf"] = [choice for choice in own["anyOf"] if choice.get("type") != "null"]
    absent: dict[str, Any] = {}
    if takes_extras(models):
        absent = {"maxProperties": 0}
    elif names := sorted(own_names(models)):
        absent = {"not": {"anyOf": [{"required": [name]} for name in names]}}
    if field.field_info.is_required():
        return [{"not": absent}, own]
    return [{"anyOf": [absent, own]}]
