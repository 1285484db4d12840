"""Modules of tests are imported by their bare names, so that a name must mean one file."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
FOLDERS = [TESTS / name for name in ("unit", "integration", "compat", "threads", "lint", "docs")]
MODULES = [TESTS / "patience.py", *(path for folder in FOLDERS for path in folder.rglob("*.py"))]


def test_helpers_have_names_of_their_own() -> None:
    names = Counter(
        path.name for path in MODULES if path.name not in {"conftest.py", "__init__.py"}
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_nobody_imports_a_conftest() -> None:
    """Which of them Python would take depends on what was collected before."""
    imports = [
        f"{path.relative_to(TESTS)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.ImportFrom) and node.module == "conftest")
        or (isinstance(node, ast.Import) and any(a.name == "conftest" for a in node.names))
    ]
    assert imports == []
