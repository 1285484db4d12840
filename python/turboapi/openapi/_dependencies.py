"""What the dependencies of a route add to its operation: parameters and security."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from turboapi.datastructures import _Unset
from turboapi.dependencies.models import (
    _get_cache_key,
    _get_oauth_scopes,
    _get_security_scheme,
    _is_security_scheme,
)
from turboapi.dependencies.utils import (
    _get_flat_fields_from_params,
    _get_param_aliases,
    _get_param_model,
)
from turboapi.encoders import jsonable_encoder
from turboapi.params import ParamTypes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turboapi._compat import ModelField
    from turboapi.dependencies.models import Dependant, _UsesScopesCache
    from turboapi.openapi._schemas import Schemas
    from turboapi.security.base import SecurityBase
    from turboapi.types import DependencyCacheKey


@dataclass
class Needs:
    """All that a tree of dependencies asks of a request, in the order of a walk from the root.

    Attributes:
        fields: the declared parameters by the part of the request they are in.
        security: the schemes, each with the scopes required down to it.
    """

    fields: dict[ParamTypes, list[ModelField]] = field(
        default_factory=lambda: {
            place: []
            for place in (ParamTypes.path, ParamTypes.query, ParamTypes.header, ParamTypes.cookie)
        }
    )
    security: list[tuple[SecurityBase, list[str]]] = field(default_factory=lambda: [])

    @classmethod
    def of(cls, root: Dependant) -> Needs:
        """Walk the tree; of dependencies that share their value only the first counts."""
        needs = cls()
        seen: list[DependencyCacheKey] = []
        uses_scopes: _UsesScopesCache = {}

        def visit(dependant: Dependant, inherited: list[str], is_root: bool) -> None:
            key = _get_cache_key(dependant=dependant, uses_scopes_cache=uses_scopes)
            # A list, as what a key holds need not be hashable.
            if key in seen:
                return
            seen.append(key)
            needs._add_fields(dependant)
            scopes = list(dict.fromkeys([*inherited, *_get_oauth_scopes(dependant=dependant)]))
            if not is_root and _is_security_scheme(dependant=dependant):
                needs.security.append((_get_security_scheme(dependant=dependant), scopes))
            for below in dependant.dependencies:
                visit(below, scopes, False)

        visit(root, [], True)
        return needs

    def _add_fields(self, dependant: Dependant) -> None:
        self.fields[ParamTypes.path] += dependant.path_params
        self.fields[ParamTypes.query] += dependant.query_params
        self.fields[ParamTypes.header] += dependant.header_params
        self.fields[ParamTypes.cookie] += dependant.cookie_params

    def any_parameter(self) -> bool:
        """Return whether a request can be invalid for a parameter of its own."""
        return any(_get_flat_fields_from_params(fields) for fields in self.fields.values())

    def security_schemes(self) -> dict[str, Any]:
        """Return the entries for `components.securitySchemes`."""
        return {
            scheme.scheme_name: jsonable_encoder(scheme.model, by_alias=True, exclude_none=True)
            for scheme, _ in self.security
        }

    def security_requirements(self) -> list[dict[str, list[str]]]:
        """Return the operation's `security`: one entry per scheme, with all scopes in use."""
        scopes_of: dict[str, dict[str, None]] = {}
        for scheme, scopes in self.security:
            scopes_of.setdefault(scheme.scheme_name, {}).update(dict.fromkeys(scopes))
        return [{name: list(scopes)} for name, scopes in scopes_of.items()]

    def parameters(self, schemas: Schemas) -> list[dict[str, Any]]:
        """Return the operation's `parameters`.

        Where several declare the same one, the last that requires it is shown, else the last.
        """
        shown: dict[tuple[str, str], dict[str, Any]] = {}
        for one in self._each_parameter(schemas):
            key = one["in"], one["name"]
            if one["required"] or not shown.get(key, one)["required"]:
                shown[key] = one
        return list(shown.values())

    def _each_parameter(self, schemas: Schemas) -> Iterator[dict[str, Any]]:
        for place, declared in self.fields.items():
            for one in declared:
                if getattr(one.field_info, "include_in_schema", True):
                    yield from _describe(place, one, schemas)


def _describe(
    place: ParamTypes, declared: ModelField, schemas: Schemas
) -> Iterator[dict[str, Any]]:
    """One parameter, or those of a parameter model."""
    info = declared.field_info
    model = _get_param_model(declared)
    # `Model | None = None`: nothing in it is required, as all of it may be missing.
    may_be_missing = model is not None and info.annotation is not model and not info.is_required()
    for one in _get_flat_fields_from_params([declared]):
        own = one.field_info
        dashes = place is ParamTypes.header and getattr(
            own, "convert_underscores", getattr(info, "convert_underscores", True)
        )
        alias, name = _get_param_aliases(one, convert_underscores=dashes)[0]
        shown: dict[str, Any] = {
            "name": name,
            "in": place.value,
            "required": own.is_required() and not may_be_missing,
            "schema": schemas.of(one, alias),
        }
        if own.description:
            shown["description"] = own.description
        shown |= examples_of(own)
        if getattr(own, "deprecated", None):
            shown["deprecated"] = True
        yield shown


def examples_of(info: Any) -> dict[str, Any]:
    """Return `examples` or `example` as declared with a parameter or body, if at all."""
    if several := getattr(info, "openapi_examples", None):
        return {"examples": jsonable_encoder(several)}
    single = getattr(info, "example", None)
    return {} if single is _Unset else {"example": jsonable_encoder(single)}
