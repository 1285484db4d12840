"""What a plan asks during a request of a FastAPI application: answered with FastAPI's classes."""

import json
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from starlette.responses import JSONResponse

from turboapi._compile.defaults import Defaults
from turboapi._compile.hooks import SWALLOWED, RequestHooks
from turboapi._compile.slots import Slot
from turboapi._fastapi_bridge import _reading, _theirs
from turboapi._fastapi_bridge._translate import CannotTranslate, Translator, placeholder
from turboapi._untouched import is_from
from turboapi.datastructures import DefaultPlaceholder, value_of
from turboapi.dependencies.models import Dependant


class _Stack(AsyncExitStack):
    def __bool__(self) -> bool:
        return bool(self._exit_callbacks)  # type: ignore[attr-defined]

    close = AsyncExitStack.aclose


@dataclass(frozen=True, eq=False, kw_only=True)
class BridgeHooks(RequestHooks):
    """The hooks of a path operation, made of its public attributes."""

    translator: Translator

    @classmethod
    def of(cls, route: Any, translator: Translator, effective: Any | None) -> "BridgeHooks":
        """`route` is an APIRoute, or the effective route for one place where it is included.

        Raises:
            CannotTranslate: it has something that the engine does not know.
        """
        response_class = placeholder(route.response_class)
        hooks = cls(
            dependant=translator.dependant(route.dependant),
            body_field=translator.optional_field(route.body_field),
            status_code=route.status_code,
            response_class=value_of(response_class),
            dumps_json=isinstance(response_class, DefaultPlaceholder),
            response_field=translator.optional_field(route.response_field),
            dump_options={
                "include": route.response_model_include,
                "exclude": route.response_model_exclude,
                "by_alias": route.response_model_by_alias,
                "exclude_unset": route.response_model_exclude_unset,
                "exclude_defaults": route.response_model_exclude_defaults,
                "exclude_none": route.response_model_exclude_none,
            },
            overrides=route.dependency_overrides_provider,
            embed_body_fields=route._embed_body_fields,
            strict_content_type=value_of(placeholder(route.strict_content_type)),
            param_convertors=route.param_convertors,
            effective=effective,
            new_background=_theirs.module("fastapi.background").BackgroundTasks,
            security_scopes=_theirs.module("fastapi.security.oauth2").SecurityScopes,
            jsonable=_theirs.module("fastapi.encoders").jsonable_encoder,
            translator=translator,
        )
        _reading.refuse_unknown(hooks.dependant, hooks.body_field)
        if hooks.streams:
            raise CannotTranslate("an endpoint that yields")
        return hooks

    # -- FastAPI's classes in the place of ours -----------------------------------------------

    @cached_property
    def plain_json(self) -> bool:
        return self.response_class is JSONResponse and _theirs.encoders_are_default()

    @cached_property
    def _exceptions(self) -> Any:
        return _theirs.module("fastapi.exceptions")

    # -- the compiler's questions -------------------------------------------------------------

    def analyse(self, **arguments: Any) -> Dependant:
        """Return the Dependant of what overrides a dependency."""
        if arguments["concurrency"] is None:
            del arguments["concurrency"]  # since 0.163
        theirs = _theirs.module("fastapi.dependencies.utils").get_dependant(**arguments)
        return self.translator.dependant(theirs)

    def param_slots(self, dependant: Any, positions: Mapping[str, int]) -> list[Slot]:
        slots = super().param_slots(dependant, positions)
        return _reading.params(dependant, slots)

    def body_slot(self, dependant: Any) -> Slot | None:
        slot = super().body_slot(dependant)
        if slot is None:
            return None
        return _reading.body(
            dependant, slot, is_form=self.is_form, embed_body_fields=self.embed_body_fields
        )

    @staticmethod
    def cache_key(dependant: Any, scopes_cache: dict[int, tuple[Any, bool]]) -> Any:
        find = getattr(_theirs.module("fastapi.dependencies.models"), "_get_cache_key", None)
        if find is None:  # before 0.140
            return dependant.original.cache_key
        return find(dependant=dependant.original, uses_scopes_cache=scopes_cache)

    # -- during a request ---------------------------------------------------------------------

    def encode_json(self, value: Any) -> bytes:  # type: ignore[override]
        return self.response_class(self.jsonable(value)).body  # type: ignore[return-value]

    def json_invalid(self, error: json.JSONDecodeError, request: Any) -> Exception:
        ours: Any = super().json_invalid(error, request)
        return self._invalid_request(ours.errors(), ours.body, ours.endpoint_ctx)

    def validation_error(self, errors: list[Any], body: Any, request: Any) -> Exception:
        return self._invalid_request(errors, body, self.endpoint_context(request))

    @staticmethod
    def open_stacks(request: Any) -> tuple[_Stack, _Stack, _Stack | None]:
        """Return what FastAPI has in the scope while an endpoint runs: some libraries use it."""
        function, inner, outer = _Stack(), _Stack(), None
        scope = request.scope
        scope["fastapi_function_astack"] = function
        scope["fastapi_inner_astack"] = inner
        if "fastapi_middleware_astack" not in scope:
            scope["fastapi_middleware_astack"] = outer = _Stack()
        return function, inner, outer

    @cached_property
    def background_call(self) -> Any:  # type: ignore[override]
        module = _theirs.module("fastapi.background")
        call = module.BackgroundTasks.__call__
        return call if is_from(call, module) else None

    @cached_property
    def _defaults(self) -> Defaults:
        return _theirs.defaults()

    def is_default_handler(self, handler: Any) -> bool:
        return self._defaults.is_default_handler(handler)

    def answers_invalid(self, by_class: Mapping[Any, Any]) -> bool:
        return self._defaults.answers_invalid(by_class) and _theirs.encoders_are_default()

    def _invalid_request(
        self, errors: Any, body: Any, context: Mapping[str, Any] | None
    ) -> Exception:
        kind: Callable[..., Exception] = self._exceptions.RequestValidationError
        return kind(errors, body=body, endpoint_ctx=context)

    def swallowed(self) -> Exception:  # type: ignore[override]
        return self._exceptions.FastAPIError(SWALLOWED)  # type: ignore[no-any-return]

    def _invalid_response(self, errors: Any, value: Any, request: Any) -> Exception:
        kind: Callable[..., Exception] = self._exceptions.ResponseValidationError
        return kind(errors=errors, body=value, endpoint_ctx=self.endpoint_context(request))
