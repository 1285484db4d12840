"""What is said of all routes of a router where it is included."""

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse
from starlette.routing import BaseRoute

from turboapi import params
from turboapi._body_limit import get_body_size_limit, validate_max_body_size
from turboapi._form_limits import _FormLimits, _validate_form_limits
from turboapi.datastructures import Default, DefaultPlaceholder
from turboapi.routing._route import APIRoute
from turboapi.routing._state import OperationState
from turboapi.utils import generate_unique_id, get_value_or_default

if TYPE_CHECKING:
    from turboapi.routing._options import RunMode
    from turboapi.routing._router import APIRouter


@dataclass
class _RouterIncludeContext:
    """What `include_router` and the including router say for all routes of the included one."""

    included_router: "APIRouter"
    prefix: str = ""
    tags: list[str | Enum] = field(default_factory=list[str | Enum])
    dependencies: list[params.Depends] = field(default_factory=list[params.Depends])
    default_response_class: Any = field(default_factory=lambda: Default(JSONResponse))
    responses: dict[int | str, dict[str, Any]] = field(default_factory=lambda: {})
    callbacks: list[BaseRoute] = field(default_factory=list[BaseRoute])
    deprecated: bool | None = None
    include_in_schema: bool = True
    generate_unique_id_function: Any = field(default_factory=lambda: Default(generate_unique_id))
    strict_content_type: bool | DefaultPlaceholder = field(default_factory=lambda: Default(True))
    dependency_overrides_provider: Any | None = None
    max_body_size: int | None = None
    form_limits: _FormLimits = field(default_factory=_FormLimits)
    run_mode: "RunMode | None" = None

    @classmethod
    def for_include(
        cls, parent: "APIRouter", included: "APIRouter", options: dict[str, Any]
    ) -> "_RouterIncludeContext":
        """Return the context of `parent.include_router(included, **options)`."""
        validate_max_body_size(options["max_body_size"])
        limits = _validate_form_limits(options["form_limits"])
        return cls(
            included_router=included,
            prefix=parent.prefix + options["prefix"],
            tags=[*parent.tags, *(options["tags"] or ())],
            dependencies=[*parent.dependencies, *(options["dependencies"] or [])],
            default_response_class=get_value_or_default(
                options["default_response_class"], parent.default_response_class
            ),
            responses={**parent.responses, **(options["responses"] or {})},
            callbacks=[*parent.callbacks, *(options["callbacks"] or ())],
            deprecated=options["deprecated"] or parent.deprecated,
            include_in_schema=parent.include_in_schema and options["include_in_schema"],
            generate_unique_id_function=get_value_or_default(
                options["generate_unique_id_function"], parent.generate_unique_id_function
            ),
            strict_content_type=parent.strict_content_type,
            dependency_overrides_provider=parent.dependency_overrides_provider,
            max_body_size=get_body_size_limit(
                included.max_body_size, options["max_body_size"], parent.max_body_size
            ),
            form_limits={**limits, **included.form_limits},
            run_mode=included.run_mode or parent.run_mode,
        )

    def combine(self, child: "_RouterIncludeContext") -> "_RouterIncludeContext":
        """Return the context of a router that is included in the included one."""
        return _RouterIncludeContext(
            included_router=child.included_router,
            prefix=self.prefix + child.prefix,
            tags=self.tags + child.tags,
            dependencies=self.dependencies + child.dependencies,
            default_response_class=get_value_or_default(
                child.default_response_class, self.default_response_class
            ),
            responses={**self.responses, **child.responses},
            callbacks=self.callbacks + child.callbacks,
            deprecated=self.deprecated or child.deprecated,
            include_in_schema=self.include_in_schema and child.include_in_schema,
            generate_unique_id_function=get_value_or_default(
                child.generate_unique_id_function, self.generate_unique_id_function
            ),
            strict_content_type=get_value_or_default(
                child.strict_content_type, self.strict_content_type
            ),
            dependency_overrides_provider=self.dependency_overrides_provider,
            max_body_size=get_body_size_limit(child.max_body_size, self.max_body_size),
            form_limits=child.form_limits,
            run_mode=child.run_mode or self.run_mode,
        )

    def path_for(self, route: Any) -> str:
        return self.prefix + str(route.path)

    def options_for(self, route: APIRoute) -> dict[str, Any]:
        """Return the options with which the route would have been declared at this place."""
        inherited = (self.included_router, self)
        return {
            **{name: getattr(route, name) for name in OperationState._PLAIN},
            "response_model": route.response_model,
            "status_code": route.status_code,
            "methods": route.methods,
            "name": route.name,
            "description": route.description,
            "tags": [*self.tags, *route.tags],
            "dependencies": [*self.dependencies, *route.dependencies],
            "responses": {**self.responses, **route.responses},
            "deprecated": route.deprecated or self.deprecated,
            "include_in_schema": route.include_in_schema and self.include_in_schema,
            "callbacks": [*self.callbacks, *(route.callbacks or [])],
            "dependency_overrides_provider": self.dependency_overrides_provider,
            "response_class": get_value_or_default(
                route.response_class, *(each.default_response_class for each in inherited)
            ),
            "generate_unique_id_function": get_value_or_default(
                route.generate_unique_id_function,
                *(each.generate_unique_id_function for each in inherited),
            ),
            "strict_content_type": get_value_or_default(
                route.strict_content_type, *(each.strict_content_type for each in inherited)
            ),
            "max_body_size": get_body_size_limit(route.max_body_size, self.max_body_size),
            "run": route.run_mode or self.run_mode,
        }
