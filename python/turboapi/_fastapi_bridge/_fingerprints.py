"""Which forms of FastAPI's functions are installed: fingerprints of their source.

The engine does what a few functions of FastAPI do, and the bridge reads what a few others make.
They are in five groups. A group's fingerprint is a hash of the syntax trees of its functions, so
that a release which changes nothing there has a known one, whatever its number; and one that does
is found out. `_releases.py` has those of all releases (scripts/fastapi_releases.py).

A release is recognized by the hash of its files. Only for an unknown one are they parsed.
"""

import ast
import hashlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import cast

from turboapi._fastapi_bridge import _releases

# The functions of each group, by module; a name stands for a class and all its methods, too. One
# that a release lacks is simply absent there.
_UTILS = "fastapi.dependencies.utils"
_MODELS = "fastapi.dependencies.models"
_ROUTING = "fastapi.routing"
GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    # What parameters get of the path, the query, headers and cookies.
    "params": {
        _UTILS: (
            "request_params_to_args",
            "_get_multidict_value",
            "_get_param_aliases",
            "_is_json_field",
            "_validate_value_with_model_field",
            "get_validation_alias",
        ),
        "fastapi._compat.v2": (
            "ModelField",
            "get_missing_field_error",
            "_regenerate_error_with_loc",
        ),
        "fastapi._compat.shared": (
            "field_annotation_is_sequence",
            "_annotation_is_sequence",
            "lenient_issubclass",
        ),
    },
    # The same for a model of parameters.
    "models": {
        _UTILS: (
            "_request_param_model_to_args",
            "_get_multidict_extras",
            "_get_param_model",
            "_get_model_type",
            "_get_flat_fields_from_params",
        ),
        "fastapi._compat.v2": ("get_cached_model_fields", "get_model_fields"),
    },
    # What they get of the body.
    "body": {
        _UTILS: (
            "request_body_to_args",
            "_extract_form_body",
            "_extract_form_items",
            "_extract_form_model",
            "_get_form_model",
            "_get_form_models",
            "_get_form_union_models",
            "_is_empty_file_input",
            "_is_form_model",
            "_is_form_model_supplied",
            "_normalize_form_model",
            "_read_file_bytes",
            "_should_embed_body_fields",
            "is_union_of_base_models",
            "_get_multidict_value",
            "_get_multidict_extras",
            "_validate_value_with_model_field",
        ),
        "fastapi._compat.v2": ("serialize_sequence_value",),
    },
    # The order of dependencies, their caches and their exits.
    "solve": {
        _UTILS: ("solve_dependencies", "_solve_generator"),
        _MODELS: (
            "Dependant",
            "_CallIdentity",
            "_get_cache_key",
            "_get_computed_scope",
            "_get_oauth_scopes",
            "_impartial",
            "_is_async_gen_callable",
            "_is_async_gen_callable_cached",
            "_is_coroutine_callable",
            "_is_coroutine_callable_cached",
            "_is_gen_callable",
            "_is_gen_callable_cached",
            "_is_security_scheme",
            "_unwrapped_call",
            "_uses_scopes",
        ),
        "fastapi.concurrency": (
            "contextmanager_in_threadpool",
            "_DependencyConcurrency",
            "_asynccontextmanager_with_shielded_exit",
            "_contextmanager_with_concurrency_limit",
        ),
    },
    # Reading the body, calling the endpoint, and its response.
    "handler": {
        _ROUTING: (
            "get_request_handler",
            "request_response",
            "run_endpoint_function",
            "serialize_response",
            "_build_response_args",
            "_extract_endpoint_context",
            "_resolve_form_limits",
        ),
        "fastapi.encoders": ("jsonable_encoder", "generate_encoders_by_class_tuples"),
        "fastapi.background": ("BackgroundTasks",),
        "fastapi.utils": ("is_body_allowed_for_status_code",),
    },
    # The routes and routers, and what a request meets on the way to a route.
    "tree": {
        _ROUTING: (
            "_EffectiveRouteContext",
            "_IncludedRouter",
            "_RouterIncludeContext",
            "_get_fastapi_scope",
            "_restore_fastapi_scope_key",
            "_update_scope",
            "_apply_router_form_limits",
            "_populate_api_route_state",
            "_iter_included_route_candidates",
            "APIRoute.get_route_handler",
            "APIRoute.handle",
            "APIRoute.matches",
            "APIRouter._iter_low_priority_routes",
            "APIRouter._mark_routes_changed",
            "APIRouter._match_low_priority",
            "APIRouter.app",
            "APIRouter.handle",
            "APIRouter.matches",
        ),
        "fastapi.applications": ("FastAPI.__call__", "FastAPI.build_middleware_stack"),
        "fastapi.middleware.asyncexitstack": ("AsyncExitStackMiddleware",),
    },
}
# Every file that a function of a group is in.
MODULES = tuple(sorted({module for group in GROUPS.values() for module in group}))


@dataclass(frozen=True)
class Installed:
    """The form of each group.

    Attributes:
        forms: by group, the first release with this form; None: it is in no known release.
    """

    forms: Mapping[str, str | None]

    @property
    def unknown(self) -> list[str]:
        """The groups that are as in no known release."""
        return [name for name, form in self.forms.items() if form is None]

    def at_least(self, group: str, release: str) -> bool:
        """Return whether the group has a form that came with this release or later."""
        form = self.forms[group]
        return form is not None and version_key(form) >= version_key(release)


def version_key(release: str) -> tuple[int, ...]:
    """Return what releases are ordered by."""
    return tuple(map(int, release.split(".")))


@cache
def installed() -> Installed:
    """Return the forms of the FastAPI that is imported."""
    return identify({name: _source(name) for name in MODULES})


def identify(sources: Mapping[str, str]) -> Installed:
    """Return the forms of a FastAPI whose modules have this source; "" for one it lacks."""
    known = _releases.RELEASES.get(digest_of(sources))
    if known is not None:
        return Installed(dict(zip(GROUPS, known[1].split(), strict=True)))
    return Installed(
        {
            group: _releases.FORMS[group].get(fingerprint)
            for group, fingerprint in fingerprints(sources).items()
        }
    )


def _source(name: str) -> str:
    module = sys.modules.get(name)
    get_source = getattr(getattr(module, "__loader__", None), "get_source", None)
    try:
        return (get_source(name) if get_source is not None else None) or ""
    except (ImportError, OSError):
        return ""


def digest_of(sources: Mapping[str, str]) -> str:
    """Return the hash of whole files."""
    return _hash("\0".join(sources[name] for name in MODULES))


def fingerprints(sources: Mapping[str, str]) -> dict[str, str]:
    """Return the hash of each group's functions."""
    functions = {name: dict(_functions(source)) for name, source in sources.items()}
    return {
        group: _hash(
            "\n".join(
                f"{module}.{function}{functions[module].get(function, '')}"
                for module, names in modules.items()
                for function in names
            )
        )
        for group, modules in GROUPS.items()
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _functions(source: str) -> Iterator[tuple[str, str]]:
    try:
        module = ast.parse(source)
    except SyntaxError:  # for a newer Python
        return
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, _form(node)
        if isinstance(node, ast.ClassDef):
            for each in node.body:
                if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield f"{node.name}.{each.name}", _form(each)


# What says nothing of what the code does, or differs from one Python to another.
_IGNORED = {"annotation", "returns", "type_comment", "type_params", "ctx", "kind"}


def _form(node: object) -> str:
    """Return a tree as text: without docstrings and annotations, and the same on each Python."""
    if isinstance(node, list):
        items = cast("list[object]", node)
        return f"[{','.join(map(_form, items))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, value) for name, value in ast.iter_fields(node) if name not in _IGNORED]
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        has_text = ast.get_docstring(node, clean=False) is not None
        fields = [(n, v[1:] if n == "body" and has_text else v) for n, v in fields]
        if isinstance(node, ast.ClassDef):
            # The fields of a dataclass are what it is made of.
            return f"{type(node).__name__}({','.join(_form(value) for _, value in fields)})"
    return f"{type(node).__name__}({','.join(_form(value) for _, value in fields)})"
