"""ARCHITECTURE.md names every source file once, and what it says of functions is true."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")

# "`src/net/conn.c`: `on_io`, `read_input`": a file, and functions that are defined in it.
MENTION = re.compile(
    r"`((?:src|python)/[\w/]+\.(?:c|h|py))`(?:: ((?:`\w+`(?:, (?:and )?| and )?)+))?"
)


def named_files(text: str) -> Iterator[str]:
    """Yield the path of each file that a list of the section on source files names."""
    folder = ""
    for line in text.splitlines():
        heading = re.fullmatch(r"### `((?:src|python/turboapi)[\w/]*)`", line)
        names = re.match(r"- ((?:`\w+\.(?:c|h|pyi?)`(?:, )?)+)", line)
        if line.startswith("#"):
            folder = heading[1] if heading else ""
        elif folder and names:
            for name in re.findall(r"`([^`]+)`", names[1]):
                yield f"{folder}/{name}"


def mentions(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each file that the text mentions by its path, and the functions named after it."""
    for match in MENTION.finditer(re.sub(r"\n +", " ", text)):
        yield match[1], re.findall(r"`(\w+)`", match[2] or "")


def defines(path: str, source: str, function: str) -> bool:
    """Return whether a source file defines a function."""
    if path.endswith(".py"):
        return re.search(rf"^\s*(?:async )?def {function}\(", source, re.MULTILINE) is not None
    return (
        re.search(rf"^[A-Za-z][^;=\n]*\b{function}\((?![^\n]*;$)", source, re.MULTILINE) is not None
    )


def test_every_source_file_is_named_once() -> None:
    listing = subprocess.run(
        ["git", "ls-files", "src", "python/turboapi"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    files = {name for name in listing.stdout.split() if re.search(r"\.(c|h|pyi?)$", name)}
    named = Counter(named_files(TEXT))
    assert [name for name, times in named.items() if times > 1] == []
    assert sorted(files - set(named)) == []
    assert sorted(set(named) - files) == []


@pytest.mark.parametrize(
    ("path", "functions"), [pytest.param(*each, id=each[0]) for each in mentions(TEXT)]
)
def test_mentioned_functions_are_defined_there(path: str, functions: list[str]) -> None:
    source = (ROOT / path).read_text(encoding="utf-8")
    assert [name for name in functions if not defines(path, source, name)] == []


def test_mentioned_vtable_members_exist() -> None:
    headers = [path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.h")]
    members = re.findall(r"-> `(\w+)\.(\w+)`", TEXT)
    assert len(members) > 6
    for table, member in members:
        found = [text for text in headers if re.search(rf"struct {table} {{|}} {table};", text)]
        assert any(f"(*{member})(" in text for text in found), f"{table}.{member}"


def test_the_way_of_a_request_names_functions() -> None:
    assert sum(len(functions) for _, functions in mentions(TEXT)) > 60


def test_named_files_are_found() -> None:
    text = "- `x.c`: no folder\n### `src/a`\n\n- `b.c`, `b.h`: like `c.c`\n- `d.py`\n## Else\n- `e.c`: no"
    assert list(named_files(text)) == ["src/a/b.c", "src/a/b.h", "src/a/d.py"]


def test_mentions_are_found() -> None:
    text = "In `src/a/b.c`: `one`,\n  `two` and `three` -> `four`; `python/x.py`. `README.md`: `no`"
    assert list(mentions(text)) == [("src/a/b.c", ["one", "two", "three"]), ("python/x.py", [])]


@pytest.mark.parametrize(
    ("path", "source", "found"),
    [
        ("a.c", "static int f(int x)\n{", True),
        ("a.c", "PyObject *f(PyObject *self,\n            PyObject *arg)\n{", True),
        ("a.c", "int f(int x);\n", False),
        ("a.c", "    f(1);\n", False),
        ("a.c", "static int g(int x)\n{", False),
        ("a.py", "    async def f(self):\n", True),
        ("a.py", "def g():\n    f()\n", False),
    ],
)
def test_definitions_are_found(path: str, source: str, found: bool) -> None:
    assert defines(path, source, "f") is found
