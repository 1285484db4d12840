"""What a path operation is: its settings and what is derived from its endpoint's signature.

An `APIRoute` has this state for the router that declared it; an effective route (_included.py) has
it for one place where that router is included.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Any, ClassVar

from starlette.convertors import Convertor
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, compile_path, get_name

from turboapi import params
from turboapi._body_limit import validate_max_body_size
from turboapi._compat import ModelField, lenient_issubclass
from turboapi.datastructures import Default, DefaultPlaceholder
from turboapi.dependencies.models import Dependant, _is_async_gen_callable, _is_gen_callable
from turboapi.dependencies.utils import (
    _get_body_field,
    _get_flat_body_params,
    _should_embed_body_fields,
    get_dependant,
    get_parameterless_sub_dependant,
    get_stream_item_type,
    get_typed_return_annotation,
)
from turboapi.sse import EventSourceResponse, ServerSentEvent
from turboapi.types import IncEx
from turboapi.utils import create_model_field, generate_unique_id, is_body_allowed_for_status_code

if TYPE_CHECKING:
    from turboapi.routing._options import RunMode


def dependant_for(
    *, path: str, call: Callable[..., Any], dependencies: Sequence[params.Depends]
) -> tuple[Dependant, list[ModelField], bool]:
    """Return the dependency graph of `call`, the routers' `dependencies` first.

    Returns the graph, its body parameters, and whether those are keys of one body.
    """
    dependant = get_dependant(path=path, call=call, scope="function")
    dependant.dependencies[:0] = [
        get_parameterless_sub_dependant(depends=depends, path=path) for depends in dependencies
    ]
    body_params = _get_flat_body_params(dependant)
    return dependant, body_params, _should_embed_body_fields(body_params)


class OperationState:
    """The attributes of a path operation that OpenAPI, the plan and users read."""

    path: str = ""
    endpoint: Callable[..., Any] | None = None
    stream_item_type: Any | None = None
    response_model: Any = None
    summary: str | None = None
    response_description: str = "Successful Response"
    deprecated: bool | None = None
    operation_id: str | None = None
    response_model_include: IncEx | None = None
    response_model_exclude: IncEx | None = None
    response_model_by_alias: bool = True
    response_model_exclude_unset: bool = False
    response_model_exclude_defaults: bool = False
    response_model_exclude_none: bool = False
    include_in_schema: bool = True
    response_class: type[Response] | DefaultPlaceholder = Default(JSONResponse)
    dependency_overrides_provider: Any | None = None
    callbacks: list[BaseRoute] | None = None
    openapi_extra: dict[str, Any] | None = None
    generate_unique_id_function: Callable[[Any], str] | DefaultPlaceholder = Default(
        generate_unique_id
    )
    strict_content_type: bool | DefaultPlaceholder = Default(True)
    max_body_size: int | None = None
    tags: list[str | Enum]
    responses: dict[int | str, dict[str, Any]]
    name: str = ""
    path_regex: re.Pattern[str]
    path_format: str = ""
    param_convertors: dict[str, Convertor[Any]]
    methods: set[str] | None
    unique_id: str = ""
    status_code: int | None = None
    response_field: ModelField | None = None
    stream_item_field: ModelField | None = None
    dependencies: list[params.Depends]
    description: str = ""
    response_fields: dict[int | str, ModelField]
    dependant: Dependant
    _embed_body_fields: bool = False
    body_field: ModelField | None = None
    is_sse_stream: bool = False
    is_json_stream: bool = False
    run_mode: "RunMode | None" = None

    # Options that are kept as they come.
    _PLAIN: ClassVar[tuple[str, ...]] = (
        "summary",
        "response_description",
        "deprecated",
        "operation_id",
        "response_model_include",
        "response_model_exclude",
        "response_model_by_alias",
        "response_model_exclude_unset",
        "response_model_exclude_defaults",
        "response_model_exclude_none",
        "include_in_schema",
        "response_class",
        "dependency_overrides_provider",
        "callbacks",
        "openapi_extra",
        "generate_unique_id_function",
        "strict_content_type",
        "max_body_size",
    )

    def _configure(
        self,
        path: str,
        endpoint: Callable[..., Any],
        options: Mapping[str, Any],
        *,
        stream_item_type: Any | None = None,
    ) -> None:
        """Take the options and derive the rest.

        Raises:
            AssertionError, FastAPIError: for declarations that can't work, in FastAPI's words.
        """
        for name in self._PLAIN:
            setattr(self, name, options[name])
        validate_max_body_size(self.max_body_size)
        self.run_mode = options.get("run")
        self.path = path
        self.endpoint = endpoint
        self.stream_item_type = stream_item_type
        self.tags = options["tags"] or []
        self.responses = options["responses"] or {}
        self.dependencies = list(options["dependencies"] or [])
        name = options["name"]
        self.name = get_name(endpoint) if name is None else name
        self.path_regex, self.path_format, self.param_convertors = compile_path(path)
        methods = options["methods"]
        self.methods = {method.upper() for method in (["GET"] if methods is None else methods)}
        self.unique_id = self.operation_id or self._make_unique_id()
        status_code = options["status_code"]
        self.status_code = int(status_code) if isinstance(status_code, IntEnum) else status_code
        self.description = self._describe(options["description"], endpoint)
        self.response_fields = self._make_response_fields()
        assert callable(endpoint), "An endpoint must be a callable"
        self._inspect_parameters(endpoint)
        self._inspect_response(options["response_model"], endpoint)

    def _make_unique_id(self) -> str:
        make = self.generate_unique_id_function
        make = make.value if isinstance(make, DefaultPlaceholder) else make
        return make(self)

    @staticmethod
    def _describe(description: str | None, endpoint: Callable[..., Any]) -> str:
        text = description or inspect.cleandoc(endpoint.__doc__ or "")
        # What follows a form feed is not for the API's documentation.
        return text.partition("\f")[0].strip()

    def _make_response_fields(self) -> dict[int | str, ModelField]:
        fields: dict[int | str, ModelField] = {}
        for code, response in self.responses.items():
            assert isinstance(response, dict), "An additional response must be a dict"
            if model := response.get("model"):
                _assert_body_allowed(code)
                fields[code] = create_model_field(
                    name=f"Response_{code}_{self.unique_id}", type_=model, mode="serialization"
                )
        return fields

    def _inspect_parameters(self, endpoint: Callable[..., Any]) -> None:
        self.dependant, body_params, self._embed_body_fields = dependant_for(
            path=self.path_format, call=endpoint, dependencies=self.dependencies
        )
        self.body_field = _get_body_field(
            body_params=body_params,
            name=self.unique_id,
            embed_body_fields=self._embed_body_fields,
        )

    def _inspect_response(self, model: Any, endpoint: Callable[..., Any]) -> None:
        call = self.dependant.call
        yields = _is_async_gen_callable(call) or _is_gen_callable(call)
        default_class = isinstance(self.response_class, DefaultPlaceholder)
        self.is_json_stream = yields and default_class
        self.is_sse_stream = yields and lenient_issubclass(self.response_class, EventSourceResponse)
        if isinstance(model, DefaultPlaceholder):
            model = get_typed_return_annotation(endpoint)
            item = get_stream_item_type(model)
            if lenient_issubclass(model, Response):
                model = None
            elif item is not None and yields:
                # `-> Iterable[Item]` of an endpoint that yields describes the items.
                model = None
                encoded = self.is_json_stream or self.is_sse_stream
                if encoded and not lenient_issubclass(item, ServerSentEvent):
                    self.stream_item_type = item
        self.response_model = model
        self.response_field = self.stream_item_field = None
        if model:
            _assert_body_allowed(self.status_code)
            self.response_field = create_model_field(
                name=f"Response_{self.unique_id}", type_=model, mode="serialization"
            )
        if self.stream_item_type:
            self.stream_item_field = create_model_field(
                name=f"StreamItem_{self.unique_id}",
                type_=self.stream_item_type,
                mode="serialization",
            )


def _assert_body_allowed(status_code: int | str | None) -> None:
    assert is_body_allowed_for_status_code(status_code), (
        f"Status code {status_code} must not have a response body"
    )
