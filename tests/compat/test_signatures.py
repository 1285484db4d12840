"""Our public names take what FastAPI's take.

`fastapi_0_165_0.json` is the public surface of FastAPI 0.165.0 (names, parameters with kind and
default, fields), described by `surface.py`. We may take more: keywords with a default, each listed
here.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import surface

SNAPSHOT: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "fastapi_0_165_0.json").read_text()
)
# The module itself is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:starlette.middleware.wsgi is deprecated")

NAMES = [(module, name) for module, names in SNAPSHOT.items() for name in names]

# Keywords of ours: where they may stand.
ADDED = {
    "run": ("FastAPI", "APIRouter", "APIRoute"),
    "docs_assets": ("FastAPI",),
}
# What is different on purpose: (module, name) -> reason.
DIFFERENT: dict[tuple[str, str], str] = {
    ("routing", "ModelField"): "values of validate() is None by default, not a dict that is shared",
}


def ours(module: str) -> Any:
    if module == "templating":
        pytest.importorskip("jinja2")
    return importlib.import_module(f"turboapi.{module}" if module else "turboapi")


def without_additions(found: Any, name: str) -> Any:
    if isinstance(found, dict):
        return {key: without_additions(value, name) for key, value in found.items()}
    if isinstance(found, list) and found and isinstance(found[0], list):
        return [
            each
            for each in found
            if not (each[1:] == ["KEYWORD_ONLY", "None"] and name in ADDED.get(each[0], ()))
        ]
    return found


@pytest.mark.parametrize("module", SNAPSHOT)
def test_module_exists(module):
    assert ours(module)


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[f"{m}.{n}" for m, n in NAMES])
def test_same_surface(module, name):
    if (module, name) in DIFFERENT:
        pytest.skip(DIFFERENT[module, name])
    expected = SNAPSHOT[module][name]
    assert hasattr(ours(module), name)
    found = surface.describe(getattr(ours(module), name), "turboapi")
    if "of" in expected:
        # Not FastAPI's own: the same class of another package, or one of ours.
        assert found.get("of", expected["of"]) == expected["of"]
        return
    found = without_additions(json.loads(json.dumps(found)), name)
    if isinstance(expected.get("members"), dict):
        # Methods besides FastAPI's are no difference.
        more = found["members"].keys() - expected["members"].keys()
        found["members"] = {k: v for k, v in found["members"].items() if k not in more}
    assert found == expected


def test_every_addition_is_there():
    """A name in ADDED that nobody takes any more would hide differences."""
    from turboapi import APIRouter, FastAPI

    for keyword, names in ADDED.items():
        assert set(names) <= {"FastAPI", "APIRouter", "APIRoute"}
        assert keyword in {each[0] for each in surface.parameters(FastAPI.__init__) or []}
    assert "run" in {each[0] for each in surface.parameters(APIRouter.get) or []}
