"""scripts/check_layers.py: the tree passes, and each kind of violation is found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "check_layers.py"


def run(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--root", str(root)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_tree_is_layered() -> None:
    result = run(ROOT)
    assert result.stdout == ""
    assert result.returncode == 0


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("src/base/a.c", '#include "net/a.h"', 'base must not include "net/a.h"'),
        ("src/net/a.c", '#include "http/a.h"', 'net must not include "http/a.h"'),
        ("src/http/a.c", '#include "route/a.h"', 'http must not include "route/a.h"'),
        ("src/route/a.c", '#include "py/a.h"', 'route must not include "py/a.h"'),
        ("src/route/a.c", '#include "json/a.h"', 'route must not include "json/a.h"'),
        ("src/json/a.c", '#include "net/a.h"', 'json must not include "net/a.h"'),
        ("src/net/a.c", '#include "base/x_int.h"', '"base/x_int.h" is private to base/'),
        ("src/http/a.c", "  #  include <Python.h>", "<Python.h> may be included by py/* only"),
        ("src/net/conn.c", "#include <openssl/ssl.h>", "<openssl/ssl.h> may be included by"),
        ("src/py/a.c", "#include <internal/pycore_x.h>", "is private to CPython"),
        ("src/net/a.c", '#include "a.h"', "write the layer too"),
        ("src/net/a.c", '#include "net/none.h"', '"net/none.h" does not exist'),
        ("src/net/a.c", "#include <base/a.h>", "headers of the project are included as"),
        ("src/odd/a.c", "", "belongs to no layer"),
        ("tests/c/a.c", "#include <Python.h>", "know nothing of Python"),
        ("fuzz/a.c", '#include "py/a.h"', "know nothing of Python"),
    ],
)
def test_violation_is_found(tmp_path: Path, file: str, line: str, message: str) -> None:
    for layer in ("base", "net", "http", "route", "json", "py"):
        (tmp_path / "src" / layer).mkdir(parents=True)
        (tmp_path / "src" / layer / "a.h").touch()
    (tmp_path / "src" / "base" / "x_int.h").touch()
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    assert run(tmp_path).returncode == 0
    path.write_text(f"/* first line */\n{line}\n", encoding="utf-8")
    result = run(tmp_path)
    assert result.returncode == 1
    number = 2 if line else 1
    assert result.stdout.startswith(f"{file}:{number}: ")
    assert message in result.stdout


def test_what_is_allowed(tmp_path: Path) -> None:
    for layer in ("base", "net", "http", "route", "json", "py"):
        (tmp_path / "src" / layer).mkdir(parents=True)
        (tmp_path / "src" / layer / "a.h").touch()
    (tmp_path / "src" / "py" / "a.c").write_text(
        '#include <Python.h>\n#include <stdio.h>\n#include "py/a.h"\n#include "base/a.h"\n'
        '#include "net/a.h"\n#include "http/a.h"\n#include "route/a.h"\n#include "json/a.h"\n',
        encoding="utf-8",
    )
    (tmp_path / "src" / "http" / "compress.c").write_text("#include <zlib.h>\n", encoding="utf-8")
    assert run(tmp_path).returncode == 0
