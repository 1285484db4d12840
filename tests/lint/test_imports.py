"""scripts/check_imports.py: the package passes, and each kind of violation is found."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess

import lint_kit
import pytest


def run(*arguments: str) -> CompletedProcess[str]:
    return lint_kit.run("check_imports.py", *arguments)


def check(tmp_path: Path, files: dict[str, str]) -> tuple[int, str]:
    package = tmp_path / "p"
    for name, text in {"__init__.py": "", **files}.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    result = run(str(package))
    assert not result.stderr
    return result.returncode, result.stdout.replace(f"{package}/", "")


def test_the_package_has_no_circle() -> None:
    result = run()
    assert result.stdout == ""
    assert result.returncode == 0


@pytest.mark.parametrize(
    "closing",
    [
        "from p import a\n",
        "from p.a import thing\n",
        "import p.a\n",
        "from .a import thing\n",
        "from . import a\n",
        "try:\n    from p import a\nexcept ImportError:\n    pass\n",
        "def f():\n    from p import a  # lazy: to be quick\n",
        "class C:\n    def f(self):\n        # lazy: to be quick\n        from p import a\n",
    ],
)
def test_a_circle_of_three(tmp_path: Path, closing: str) -> None:
    files = {"a.py": "from p import b\n", "b.py": "from p import c\n", "c.py": closing}
    assert check(tmp_path, files) == (1, "circle of 3 modules: p.a, p.b, p.c\n")


def test_a_circle_through_packages(tmp_path: Path) -> None:
    files = {
        "__init__.py": "from .x import a\n",
        "x/__init__.py": "from .y import a\n",
        "x/y.py": "from .. import a\n",
    }
    assert check(tmp_path, files) == (1, "circle of 3 modules: p, p.x, p.x.y\n")


@pytest.mark.parametrize(
    "files",
    [
        {"a.py": "from p import b\n", "b.py": "from p import a\n"},
        {"a.py": "from p import b, c\n", "b.py": "from p import c\n", "c.py": "import json\n"},
        {
            "a.py": "from p import b\n",
            "b.py": "from p import c\n",
            "c.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p import a\n",
        },
        # The modules of a package may import each other, whatever the package takes from them.
        {"x/__init__.py": "from p.x import a\n", "x/a.py": "from p.x import b\n", "x/b.py": ""},
    ],
)
def test_what_is_no_circle(tmp_path: Path, files: dict[str, str]) -> None:
    assert check(tmp_path, files) == (0, "")


def test_a_deferred_import_needs_a_reason(tmp_path: Path) -> None:
    files = {
        "a.py": "def f():\n    from p import b\n",
        "b.py": "def f():\n    import json\n    from p import c  # lazy: seldom needed\n",
        "c.py": "async def f():\n    # lazy:\n    import p.d\n",
        "d.py": "",
    }
    code, output = check(tmp_path, files)
    assert code == 1
    assert output.splitlines() == [
        "a.py:2: imports p.b inside a function, without `# lazy: why`",
        "c.py:3: imports p.d inside a function, without `# lazy: why`",
    ]
