"""scripts/check_documents.py: the documents pass, and lines that are too long are found."""

from __future__ import annotations

import subprocess
from pathlib import Path
from subprocess import CompletedProcess

import lint_kit
import pytest


def run(root: Path) -> CompletedProcess[str]:
    return lint_kit.run("check_documents.py", "--root", root)


def test_the_documents_pass() -> None:
    result = run(lint_kit.ROOT)
    assert result.stdout == ""
    assert result.returncode == 0


@pytest.mark.parametrize(
    ("name", "line", "found"),
    [
        ("README.md", f"{'ab ' * 40}", False),  # the space at the end is the 120th
        ("README.md", f"{'ab ' * 40}c", True),
        ("docs/x.md", f"| {'ab ' * 40}|", True),
        ("docs/x.md", f"    {'ab ' * 40}", True),
        ("docs/x.md", f"https://example.org/{'x' * 200}", False),
        ("docs/x.txt", f"{'ab ' * 60}", False),
        ("tests/conformance/failing.md", f"{'ab ' * 60}", False),
    ],
)
def test_a_long_line_is_found(tmp_path: Path, name: str, line: str, found: bool) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True, timeout=60)
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# Title\n{line}\n", encoding="utf-8")
    subprocess.run(["git", "add", name], cwd=tmp_path, check=True, timeout=60)
    result = run(tmp_path)
    assert result.stdout.startswith(f"{name}:2: ") is found
    assert result.returncode == int(found)
