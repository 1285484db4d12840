"""How path, query, header and cookie parameters are taken from a request and validated."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple, cast, get_args

from pydantic import AliasChoices, AliasPath, BaseModel, Json
from starlette.datastructures import (
    FormData,
    Headers,
    ImmutableMultiDict,
    QueryParams,
    UploadFile,
)

from turboapi import params
from turboapi._compat import (
    ModelField,
    Undefined,
    field_annotation_is_sequence,
    get_cached_model_fields,
    get_missing_field_error,
    lenient_issubclass,
)
from turboapi._compat.shared import is_union

_Result = tuple[Any, list[Any]]


class _Alias(NamedTuple):
    """A name under which pydantic takes a value, and the one under which a request has it."""

    validation: str
    request: str


def get_validation_alias(field: ModelField) -> str:
    """Return the one name under which ``field`` is validated."""
    return field.validation_alias or field.alias


def _get_param_aliases(field: ModelField, *, convert_underscores: bool = False) -> list[_Alias]:
    """Return all names of a field, preferred ones first; never empty."""

    def from_name(name: str) -> _Alias:
        return _Alias(name, name.replace("_", "-") if convert_underscores else name)

    own = get_validation_alias(field)
    aliases = [from_name(own) if own == field.name else _Alias(own, own)]
    declared = field.field_info.validation_alias
    # A path has one name for each part; paths into values are no names of requests.
    if isinstance(field.field_info, params.Path) or isinstance(declared, AliasPath):
        return aliases
    if isinstance(declared, AliasChoices):
        if any(isinstance(choice, AliasPath) for choice in declared.choices):
            return aliases
        aliases = [_Alias(choice, choice) for choice in cast("list[str]", declared.choices)]
    config = field.config or {}
    if config.get("validate_by_alias") is False:
        return [from_name(field.name)]
    by_name = config.get("validate_by_name", config.get("populate_by_name", False))
    if by_name and all(alias.validation != field.name for alias in aliases):
        aliases.append(from_name(field.name))
    return aliases


def _chosen(aliases: list[_Alias], received: Mapping[str, Any]) -> _Alias:
    """Return the first alias that the request has, else the first."""
    return next((alias for alias in aliases if alias.request in received), aliases[0])


def _is_json_field(field: ModelField) -> bool:
    return any(type(item) is Json for item in field.field_info.metadata)


def _get_model_type(annotation: Any) -> type[BaseModel] | None:
    """Return the model that an annotation is, or that it makes optional."""
    if is_union(annotation):
        args = get_args(annotation)
        if len(args) == 2 and type(None) in args:
            annotation = next(arg for arg in args if arg is not type(None))
    return annotation if lenient_issubclass(annotation, BaseModel) else None


def _get_param_model(field: ModelField) -> type[BaseModel] | None:
    """Return the model of a parameter that collects several; it may be optional in flat places."""
    annotation = field.field_info.annotation
    if isinstance(field.field_info, (params.Query, params.Header, params.Cookie)):
        annotation = _get_model_type(annotation)
    if lenient_issubclass(annotation, BaseModel) and not _is_json_field(field):
        return annotation
    return None


class _Lookup:
    """How a request gives one field its value: worked out once, kept at the field."""

    __slots__ = ("aliases", "as_list", "field", "form_models", "is_sequence", "members", "model")

    def __init__(self, field: ModelField) -> None:
        self.field = field
        self.aliases = _get_param_aliases(field)
        self.is_sequence = field_annotation_is_sequence(field.field_info.annotation)
        # JSON is one text whatever it is the text of.
        self.as_list = self.is_sequence and not _is_json_field(field)
        self.model = _get_param_model(field)
        self.members: list[_Member] | None = None
        self.form_models: list[type[BaseModel]] | None = None

    def take(self, received: Mapping[str, Any], alias: str) -> Any:
        """Return the request's value of ``alias``, a list for sequences, or else Undefined."""
        is_form = isinstance(received, FormData)
        value: Any
        if self.as_list and isinstance(received, (ImmutableMultiDict, Headers)):
            value = received.getlist(alias)
            if is_form:
                value = [item for item in value if not _is_empty_file_input(item)]
        else:
            value = received.get(alias)
        if value is None or (self.is_sequence and len(value) == 0):
            return Undefined
        # Forms have an empty text, or a nameless file, where nothing was filled in.
        if is_form and (_is_empty_file_input(value) or (isinstance(value, str) and not value)):
            return Undefined
        return value


class _Member:
    """A field of a parameter model, with the names under which its place has it."""

    __slots__ = ("aliases", "hidden", "lookup", "own_names")

    def __init__(self, field: ModelField, is_header: bool, convert_underscores: bool) -> None:
        self.lookup = lookup_of(field)
        convert = is_header and getattr(
            field.field_info, "convert_underscores", convert_underscores
        )
        self.aliases = _get_param_aliases(field, convert_underscores=convert)
        names = {alias.request for alias in self.aliases}
        self.own_names = {name.lower() for name in names} if is_header else names
        # The name with an underscore is not the header's: it must not get in as an extra.
        self.hidden = {
            alias.validation.lower()
            for alias in self.aliases
            if is_header and alias.validation != alias.request
        }


def lookup_of(field: ModelField) -> _Lookup:
    lookup = field._lookup
    if lookup is None:
        lookup = field._lookup = _Lookup(field)
    return lookup  # type: ignore[no-any-return]


def _is_empty_file_input(value: Any) -> bool:
    # What a browser sends for a file input in which nothing was chosen.
    return isinstance(value, UploadFile) and value.filename == "" and value.size == 0


def _get_multidict_value(field: ModelField, values: Mapping[str, Any], alias: str) -> Any:
    return lookup_of(field).take(values, alias)


def _get_multidict_extras(
    received: Mapping[str, Any], processed_keys: set[str]
) -> Iterator[tuple[str, Any]]:
    """All that is left, a list for what came several times."""
    # items() of headers are all of them, of other multidicts only one for each key.
    all_of = received.multi_items if isinstance(received, ImmutableMultiDict) else received.items
    grouped: dict[str, list[Any]] = {}
    for key, value in all_of():
        if key not in processed_keys:
            grouped.setdefault(key, []).append(value)
    for key, values in grouped.items():
        yield key, values[0] if len(values) == 1 else values


def _validate_value_with_model_field(
    *, field: ModelField, value: Any, values: dict[str, Any], loc: tuple[str, ...]
) -> _Result:
    """Validate; for Undefined give the default, a copy of it, or the error that it is missing."""
    if value is Undefined:
        if field.field_info.is_required():
            return None, [get_missing_field_error(loc)]
        value = deepcopy(field.default)
        if not field.field_info.validate_default:
            return value, []
    return field.validate(value, values, loc=loc)


def members_of(lookup: _Lookup) -> "list[_Member]":
    if lookup.members is None:
        assert lookup.model is not None
        info = lookup.field.field_info
        is_header = isinstance(info, params.Header)
        convert = getattr(info, "convert_underscores", True)
        lookup.members = [
            _Member(field, is_header, convert) for field in get_cached_model_fields(lookup.model)
        ]
    return lookup.members


def _read_model(lookup: _Lookup, info: params.Param, received: Mapping[str, Any]) -> _Result:
    """Return the value of a parameter model: a dict of what its fields and extras are in the
    request.
    """
    model = lookup.model
    assert model is not None
    is_header = isinstance(info, params.Header)
    content: dict[str, Any] = {}
    used: set[str] = set()
    header_names: dict[str, str] = {}  # field name -> header, for errors
    for member in members_of(lookup):
        alias = _chosen(member.aliases, received)
        value = member.lookup.take(received, alias.request)
        if value is not Undefined:
            content[alias.validation] = value
        used.add(alias.request.lower() if is_header else alias.request)
        used |= member.hidden
        if is_header and alias.validation != alias.request:
            header_names[member.lookup.field.name] = alias.request
    # Aliases that were not chosen, and everything else: for the model's policy on extras.
    content.update(_get_multidict_extras(received, used))
    value = content
    if info.annotation is not model and not any(
        name in received for member in members_of(lookup) for name in member.own_names
    ):
        # An optional model is absent when nothing of it is there.
        takes_extras = model.model_config.get("extra") in ("allow", "forbid")
        if not (takes_extras and content):
            value = Undefined
    result, errors = _validate_value_with_model_field(
        field=lookup.field, value=value, values={}, loc=(info.in_.value,)
    )
    if errors and header_names and model.model_config.get("loc_by_alias", True):
        for error in errors:
            place, *rest = error["loc"]
            if rest and rest[0] in header_names:
                error["loc"] = (place, header_names[rest[0]], *rest[1:])
    return result, errors


def read_param(field: ModelField, received: Mapping[str, Any]) -> _Result:
    """Return the value of one parameter out of the container for its place, and its errors."""
    lookup = lookup_of(field)
    info = field.field_info
    assert isinstance(info, params.Param), "Params must be subclasses of Param"
    if lookup.model is not None:
        return _read_model(lookup, info, received)
    alias = _chosen(lookup.aliases, received).request
    return _validate_value_with_model_field(
        field=field,
        value=lookup.take(received, alias),
        values={},
        loc=(info.in_.value, alias),
    )


def request_params_to_args(
    fields: Sequence[ModelField],
    received_params: Mapping[str, Any] | QueryParams | Headers,
) -> tuple[dict[str, Any], list[Any]]:
    """Return the keyword arguments for ``fields``, and the errors of the invalid ones."""
    values: dict[str, Any] = {}
    errors: list[Any] = []
    for field in fields:
        value, problems = read_param(field, received_params)
        if problems:
            errors.extend(problems)
        else:
            values[field.name] = value
    return values, errors
