"""What a module of ours takes from another has no underscore, unless FastAPI calls it so.

pyright's reportPrivateUsage, which does not know that exception, is off for this.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "python" / "turboapi"

# Private in FastAPI 0.165.0, and of use to its tests or to instrumentations.
FASTAPIS = frozenset(
    (
        "_DependencyConcurrency",
        "_EffectiveRouteContext",
        "_FormLimits",
        "_FrontendRouteGroup",
        "_HTTP_METHODS",
        "_IncludedRouter",
        "_PING_INTERVAL",
        "_REQUEST_TELEMETRY_KEY",
        "_RequestTelemetry",
        "_RouterIncludeContext",
        "_SSE_EVENT_SCHEMA",
        "_Unset",
        "_UsesScopesCache",
        "_add_form_union_validators",
        "_asynccontextmanager_with_shielded_exit",
        "_contextmanager_with_concurrency_limit",
        "_exception_type",
        "_extract_form_model",
        "_get_body_field",
        "_get_cache_key",
        "_get_computed_scope",
        "_get_flat_body_params",
        "_get_flat_fields_from_params",
        "_get_form_model",
        "_get_form_models",
        "_get_form_union_models",
        "_get_model_type",
        "_get_multidict_extras",
        "_get_multidict_value",
        "_get_oauth_scopes",
        "_get_param_aliases",
        "_get_param_model",
        "_get_security_scheme",
        "_is_async_gen_callable",
        "_is_coroutine_callable",
        "_is_gen_callable",
        "_is_json_field",
        "_is_security_scheme",
        "_iter_included_route_candidates",
        "_legacy_otel",
        "_normal_websocket_disconnect",
        "_operation",
        "_read_file_bytes",
        "_regenerate_error_with_loc",
        "_route_selected",
        "_run_sync_endpoint",
        "_should_embed_body_fields",
        "_solve_generator",
        "_unconfigured",
        "_validate_form_limits",
        "_validate_value_with_model_field",
        "_validation_failed",
    )
)
# Ours, in a module that has a name of FastAPI's: without the underscore it would look like FastAPI's.
OURS = frozenset({"_call_kind"})


FILES = sorted(PACKAGE.rglob("*.py"))


def private_imports(source: str) -> Iterator[str]:
    """Names with an underscore that are imported from modules of turboapi."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level == 0 and (node.module or "").partition(".")[0] != "turboapi":
            continue
        for each in node.names:
            is_private = each.name.startswith("_") and not each.name.startswith("__")
            if is_private and not is_module(node.module or "", each.name):
                yield each.name


def is_module(package: str, name: str) -> bool:
    folder = PACKAGE.joinpath(*package.split(".")[1:])
    return any((folder / file).exists() for file in (f"{name}.py", f"{name}.pyi", name))


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(PACKAGE)) for file in FILES])
def test_private_names_are_not_imported(file: Path) -> None:
    assert set(private_imports(file.read_text())) <= FASTAPIS | OURS


def test_the_lists_are_of_use() -> None:
    used = {name for file in FILES for name in private_imports(file.read_text())}
    assert used == FASTAPIS | OURS


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from turboapi._compile.route_table import _thing", ["_thing"]),
        ("from ._engine import _thing", ["_thing"]),
        ("from turboapi import _core", []),
        ("from turboapi.routing import _handler", []),
        ("from starlette._utils import _thing", []),
    ],
)
def test_it_finds(source: str, found: list[str]) -> None:
    assert list(private_imports(source)) == found
