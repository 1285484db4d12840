"""Checks that what a C file of src/ exports is used by another file of src/.

A function, or an object, that only its own file uses is to be static; one that only C tests use
is dead.  Prints `file:line: what is wrong` and exits with 1 when something is.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path

# Exported all the same, and why.
ALLOWED = {
    "PyInit__core": "CPython calls it by its name",
    "ta_mem_set_hooks": "C tests make allocations fail with it",
}

# Comments, literals, and preprocessor lines but the bodies of #define.
_NOISE = re.compile(
    r"""/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|\#\s*(?:include|if|ifdef|ifndef)[^\n]*""",
    re.S,
)
_MACRO = re.compile(r"\#\s*define\b(?:\\\n|[^\n])*")
_WORD = re.compile(r"[A-Za-z_]\w*")
_NAME = re.compile(r"(\w+)\s*(?:\(|\[|=|$)")
_NOT_EXPORTED = re.compile(r"\b(static|typedef|extern|_Static_assert)\b")
_TYPE = re.compile(r"\b(struct|union|enum)\b[^()]*$")  # whose members follow


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


def _top_level(text: str) -> list[tuple[int, str, bool]]:
    """The declarations of a file outside all braces: line, text, whether a block follows."""
    found: list[tuple[int, str, bool]] = []
    depth = 0
    head = ""
    line = begin = 1
    for char in text:
        if char == "\n":
            line += 1
        if char == "}":
            depth -= 1
        elif char == "{":
            if depth == 0 and "=" not in head and not _TYPE.search(head):
                found.append((begin, head, True))
                head = ""
            depth += 1
        elif depth == 0:
            if char == ";":
                found.append((begin, head, "=" in head))
                head = ""
            else:
                if not head.strip() and not char.isspace():
                    begin = line
                    head = ""
                head += char
    return found


def _without_attributes(text: str) -> str:
    return re.sub(r"__attribute__\s*\(\(.*?\)\)|\b[A-Z][A-Z_]+\((?:[^()]*)\)", "", text, flags=re.S)


def defined(code: str) -> list[tuple[int, str]]:
    """What a C file defines for others, as pairs of line and name.

    Args:
        code: its contents without noise and macros.
    """
    found = []
    for line, declaration, defines in _top_level(code):
        plain = _without_attributes(declaration).strip()
        if defines and not _NOT_EXPORTED.search(plain) and (match := _NAME.search(plain)):
            found.append((line, match[1]))
    return found


def _used(text: str) -> set[str]:
    """The words of a file that are more than declarations."""
    left: dict[str, int] = defaultdict(int)
    for word in _WORD.findall(text):
        left[word] += 1
    for _line, declaration, defines in _top_level(_MACRO.sub(_blank, text)):
        if not defines and (match := _NAME.search(_without_attributes(declaration).strip())):
            left[match[1]] -= 1
    return {word for word, times in left.items() if times > 0}


def problems(src: Path) -> list[str]:
    """What is exported and not used, and what is allowed and need not be."""
    definitions: list[tuple[str, int, str]] = []
    users: dict[str, set[str]] = defaultdict(set)
    for path in sorted(p for p in src.rglob("*") if p.suffix in {".c", ".h"}):
        name = path.relative_to(src).as_posix()
        text = _NOISE.sub(_blank, path.read_text(encoding="utf-8"))
        if path.suffix == ".c":
            code = _MACRO.sub(_blank, text)
            definitions += [(name, line, what) for line, what in defined(code)]
        for word in _used(text):
            users[word].add(name)
    found = []
    for name, line, what in definitions:
        others = users[what] - {name}
        if not others and what not in ALLOWED:
            found.append(f"src/{name}:{line}: {what} is used in no other file: make it static")
        elif others and what in ALLOWED:
            found.append(f"src/{name}:{line}: {what} is used: take it off ALLOWED")
    return found


def main() -> int:
    """Checks src/."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    root: Path = parser.parse_args().root
    found = problems(root / "src")
    for problem in found:
        print(problem)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
