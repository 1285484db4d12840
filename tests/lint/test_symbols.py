"""scripts/check_symbols.py: the tree passes, and what is exported for nobody is found."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess

import lint_kit
import pytest


def run(root: Path) -> CompletedProcess[str]:
    return lint_kit.run("check_symbols.py", "--root", root)


def test_every_exported_symbol_of_the_tree_is_used() -> None:
    result = run(lint_kit.ROOT)
    assert result.stdout == ""
    assert result.returncode == 0


@pytest.mark.parametrize(
    "line",
    [
        "int ta_lonely(int a)\n{\n    return a;\n}",
        "ta_str ta_lonely(void)\n{\n    return ta_lonely();\n}",
        "TA_MUST_CHECK int ta_lonely(void)\n{\n    return 0;\n}",
        "const unsigned char ta_lonely[2] = {1, 2};",
        "const ta_ops ta_lonely = {.a = other};",
        "int ta_lonely = 5;",
    ],
)
def test_unused_symbol_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "src" / "base").mkdir(parents=True)
    file = tmp_path / "src" / "base" / "a.c"
    file.write_text(f"/* first line */\n{line}\n", encoding="utf-8")
    header = tmp_path / "src" / "base" / "a.h"
    header.write_text("int ta_lonely(void); /* not ta_lonely(1) */\n", encoding="utf-8")
    result = run(tmp_path)
    assert result.stdout == ("src/base/a.c:2: ta_lonely is used in no other file: make it static\n")
    assert result.returncode == 1
    other = tmp_path / "src" / "base" / "b.c"
    other.write_text("static int f(void)\n{\n    return use(ta_lonely);\n}\n", encoding="utf-8")
    assert run(tmp_path).returncode == 0


@pytest.mark.parametrize(
    "text",
    [
        "static int f(void)\n{\n    return 0;\n}",
        "static const struct {\n    int a;\n} rows[] = {\n    {1},\n};",
        "typedef struct s {\n    int a;\n} s;",
        "enum { A = 1, B };",
        "int declared(void);",
        '_Static_assert(sizeof(int) == 4, "x");',
        "#define F(x) int x(void) { return 0; }",
        "PyMODINIT_FUNC PyInit__core(void)\n{\n    return 0;\n}",
    ],
)
def test_what_is_not_exported(tmp_path: Path, text: str) -> None:
    (tmp_path / "src" / "base").mkdir(parents=True)
    (tmp_path / "src" / "base" / "a.c").write_text(text + "\n", encoding="utf-8")
    assert run(tmp_path).stdout == ""


def test_what_is_allowed_must_need_it(tmp_path: Path) -> None:
    (tmp_path / "src" / "base").mkdir(parents=True)
    (tmp_path / "src" / "base" / "a.c").write_text(
        "void ta_mem_set_hooks(void)\n{\n}\n", encoding="utf-8"
    )
    assert run(tmp_path).returncode == 0
    (tmp_path / "src" / "base" / "b.c").write_text(
        "static void f(void)\n{\n    ta_mem_set_hooks();\n}\n", encoding="utf-8"
    )
    assert "take it off ALLOWED" in run(tmp_path).stdout
