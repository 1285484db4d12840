"""scripts/check_layers.py: the tree passes, and each kind of violation is found."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess

import lint_kit
import pytest


def run(root: Path) -> CompletedProcess[str]:
    return lint_kit.run("check_layers.py", "--root", root)


def test_the_tree_is_layered() -> None:
    result = run(lint_kit.ROOT)
    assert result.stdout == ""
    assert result.returncode == 0


PARTS = ("support", "json", "loop", "exchange", "plan", "server")


def make_tree(root: Path) -> None:
    """A source tree with a header in each layer and two definitions that the others may use."""
    folders = ["base", "net", "http", "route", "json", *(f"py/{part}" for part in PARTS)]
    for folder in folders:
        path = root / "src" / folder
        path.mkdir(parents=True)
        (path / "a.h").touch()
    for folder in ("base", "py/loop"):
        (root / "src" / folder / "x_int.h").touch()
    (root / "src" / "py" / "loop" / "made.c").write_text(
        "ta_thing *ta_made_in_loop(int a,\n                    int b)\n{\n    return 0;\n}\n",
        encoding="utf-8",
    )
    (root / "src" / "net" / "made.c").write_text(
        "int ta_made_in_net(void)\n{\n    return 0;\n}\n\nconst int ta_table[2] = {1, 2};\n",
        encoding="utf-8",
    )


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("src/base/a.c", '#include "net/a.h"', 'base must not include "net/a.h"'),
        ("src/net/a.c", '#include "http/a.h"', 'net must not include "http/a.h"'),
        ("src/http/a.c", '#include "route/a.h"', 'http must not include "route/a.h"'),
        ("src/route/a.c", '#include "py/loop/a.h"', 'route must not include "py/loop/a.h"'),
        ("src/route/a.c", '#include "json/a.h"', 'route must not include "json/a.h"'),
        ("src/json/a.c", '#include "net/a.h"', 'json must not include "net/a.h"'),
        ("src/net/a.c", '#include "base/x_int.h"', '"base/x_int.h" is private to base/'),
        ("src/py/support/a.c", '#include "py/json/a.h"', 'support must not include "py/json/a.h"'),
        ("src/py/json/a.c", '#include "py/loop/a.h"', 'json must not include "py/loop/a.h"'),
        ("src/py/loop/a.c", '#include "py/exchange/a.h"', 'loop must not include "py/exchange/'),
        ("src/py/exchange/a.c", '#include "py/plan/a.h"', 'exchange must not include "py/plan/'),
        ("src/py/plan/b.h", '#include "py/server/a.h"', 'plan must not include "py/server/a.h"'),
        ("src/py/plan/a.c", '#include "py/loop/x_int.h"', '"py/loop/x_int.h" is private to'),
        ("src/py/module.c", '#include "py/loop/x_int.h"', '"py/loop/x_int.h" is private to'),
        ("src/py/json/a.c", "x = ta_made_in_loop(1, 2);", "py/json must not use ta_made_in_loop"),
        ("src/py/json/b.h", "void *ta_made_in_loop(void);", "py/json must not use ta_made_in_loop"),
        ("src/base/a.c", "f = &ta_made_in_net;", "base must not use ta_made_in_net"),
        ("src/base/a.c", "extern const int ta_table[2];", "base must not use ta_table"),
        ("src/http/a.c", "  #  include <Python.h>", "<Python.h> may be included by py/* only"),
        ("src/net/conn.c", "#include <openssl/ssl.h>", "<openssl/ssl.h> may be included by"),
        ("src/py/loop/a.c", "#include <internal/pycore_x.h>", "is private to CPython"),
        ("src/net/a.c", '#include "a.h"', "write the layer too"),
        ("src/py/loop/a.c", '#include "py/a.h"', "write the layer too"),
        ("src/net/a.c", '#include "net/none.h"', '"net/none.h" does not exist'),
        ("src/net/a.c", "#include <base/a.h>", "headers of the project are included as"),
        ("src/odd/a.c", "", "belongs to no layer"),
        ("src/py/a.c", "", "belongs to no layer"),
        ("src/py/odd/a.c", "", "belongs to no layer"),
        ("tests/c/a.c", "#include <Python.h>", "know nothing of Python"),
        ("fuzz/a.c", '#include "py/loop/a.h"', "know nothing of Python"),
    ],
)
def test_violation_is_found(tmp_path: Path, file: str, line: str, message: str) -> None:
    make_tree(tmp_path)
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    assert run(tmp_path).returncode == 0
    path.write_text(f"/* first line */\n{line}\n", encoding="utf-8")
    result = run(tmp_path)
    assert result.returncode == 1
    number = 2 if line else 1
    assert result.stdout.startswith(f"{file}:{number}: ")
    assert message in result.stdout


def test_a_circle_of_files_is_found(tmp_path: Path) -> None:
    make_tree(tmp_path)
    plan = tmp_path / "src" / "py" / "plan"
    uses = {"a": "b", "b": "c", "c": "b", "d": "a", "e": "e"}
    for name, used in uses.items():
        (plan / f"{name}.c").write_text(
            f"int ta_{name}(void)\n{{\n    return ta_{used}();\n}}\n", encoding="utf-8"
        )
    result = run(tmp_path)
    assert result.returncode == 1
    assert result.stdout.endswith("circle: py/plan/b.c, py/plan/c.c\n")
    (plan / "c.c").write_text("int ta_c(void)\n{\n    return 0;\n}\n", encoding="utf-8")
    assert run(tmp_path).stdout == ""


def test_what_is_allowed(tmp_path: Path) -> None:
    make_tree(tmp_path)
    below = [*(f"py/{part}" for part in PARTS), "base", "net", "http", "route", "json"]
    includes = "".join(f'#include "{folder}/a.h"\n' for folder in below)
    (tmp_path / "src" / "py" / "server" / "b.c").write_text(
        f"#include <Python.h>\n#include <stdio.h>\n{includes}", encoding="utf-8"
    )
    (tmp_path / "src" / "py" / "loop" / "b.c").write_text(
        '#include "py/loop/x_int.h"\nint x = ta_made_in_loop(1, 2) + ta_made_in_net();\n',
        encoding="utf-8",
    )
    (tmp_path / "src" / "net" / "tcp").mkdir()
    (tmp_path / "src" / "net" / "x_int.h").touch()
    (tmp_path / "src" / "net" / "tcp" / "b.c").write_text('#include "net/x_int.h"\n', "utf-8")
    (tmp_path / "src" / "py" / "support" / "b.c").write_text(
        '/* see ta_made_in_loop */ const char *text = "ta_made_in_loop"; // ta_made_in_loop\n'
        "static int ta_table_of = 1; extern struct PyModuleDef ta_module_def;\n",
        encoding="utf-8",
    )
    (tmp_path / "src" / "py" / "module.c").write_text(
        "struct PyModuleDef ta_module_def = {0};\n", encoding="utf-8"
    )
    (tmp_path / "src" / "http" / "compress.c").write_text("#include <zlib.h>\n", encoding="utf-8")
    assert run(tmp_path).stdout == ""
