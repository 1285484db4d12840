"""Check the layers of src/: who may include and call whom.

    base <- net <- http <- route <- py        json: over base alone
    py:  support <- json <- loop <- exchange <- plan <- server <- module.c

A file may include headers of its own folder and of those to its left, and call functions that are
defined there; `x_int.h` belongs to its folder, and the folders in it, alone; Python.h is for py/
only; each third-party library has its few files.  A call upward is found by names, so that
declaring the function again does not hide it; so is a circle of files in WITHOUT_CIRCLES.  Prints
`file:line: what is wrong` and exits with 1 when something is.
"""

from __future__ import annotations

import argparse
import fnmatch
import re
import sys
from pathlib import Path

# What each layer may include and call besides itself.
LAYERS: dict[str, tuple[str, ...]] = {
    "base": (),
    "json": ("base",),
    "net": ("base",),
    "http": ("base", "net"),
    "route": ("base", "net", "http"),
    "py": ("base", "net", "http", "route", "json"),
}

# The layers within py/, the lowest first; each may use the ones before it.
BINDING = ("support", "json", "loop", "exchange", "plan", "server", "module.c")

# Third-party headers (patterns) and the files that may include them.
CONFINED: dict[str, tuple[str, ...]] = {
    "Python.h": ("py/*",),
    "structmember.h": ("py/*",),
    "nghttp2/*": ("http/h2/*",),
    "openssl/*": ("http/md5.c", "http/ws/handshake.c", "net/tls*"),
    "wslay/*": ("http/ws/*.c",),
    "zlib.h": ("http/compress*.c", "http/ws/*.c"),
    "brotli/*": ("http/compress*.c",),
    "zstd.h": ("http/compress*.c",),
}

# Headers of py/ that include nothing of Python, so that C tests may have them.
PURE = ("py/server/native_states.h",)

# Folders whose files must not use each other in a circle: the steps of the plan's machine return to
# plan_run.c instead of calling each other.
WITHOUT_CIRCLES = ("py/plan",)

# CPython's private headers: not even in py/.
FORBIDDEN = ("internal/*", "pycore_*", "cpython/*")

# Constants that a lower layer refers to by design: PyType_GetModuleByDef() needs the definition of
# the module, which names functions of all layers.
UPWARD_DATA = {"ta_module_def"}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
NOT_CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.DOTALL)
NAME = re.compile(r"\bta_\w+")
# A function or an object with external linkage, defined at the beginning of a line.
FUNCTION = re.compile(
    r"^(?!static\b|typedef\b|extern\b)[A-Za-z_][\w \t*]*?\b(ta_\w+)\s*\([^;{}]*?\)\s*\{",
    re.MULTILINE,
)
OBJECT = re.compile(
    r"^(?!static\b|typedef\b|extern\b)[A-Za-z_][\w \t*]*?\b(ta_\w+)(?:\[\w*\])*\s*=", re.MULTILINE
)


def layer_of(name: str) -> str | None:
    """Return the layer of a file, as "net" or "py/loop".

    Args:
        name: its path within src/.

    Returns:
        The layer, or None when it belongs to none.
    """
    folder, _, rest = name.partition("/")
    if folder not in LAYERS or not rest:
        return None
    if folder != "py":
        return folder
    part = rest.split("/")[0]
    return f"py/{part}" if part in BINDING and ("/" in rest) == (part != "module.c") else None


def may_use(layer: str, other: str) -> bool:
    """Return whether files of `layer` may include and call what is in `other`."""
    folder, _, part = layer.partition("/")
    other_folder, _, other_part = other.partition("/")
    if folder != other_folder:
        return other_folder in LAYERS[folder]
    return not part or BINDING.index(other_part) <= BINDING.index(part)


def without_comments(text: str) -> str:
    """Return the code with comments and strings blanked; lines stay where they are."""
    return NOT_CODE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def problems_of(name: str, text: str, src: Path) -> list[tuple[int, str]]:
    """Return what is wrong with the includes of one file.

    Args:
        name: its path within src/, as "net/conn.c".
        text: its contents.
        src: the folder src/, where included headers must exist.

    Returns:
        Pairs of line number and message.
    """
    layer = layer_of(name)
    if layer is None:
        parts = [*LAYERS, *(f"py/{part}" for part in BINDING)]
        return [(1, f"belongs to no layer ({', '.join(parts)})")]
    found: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        quote, header = match.groups()
        for pattern, files in CONFINED.items():
            if fnmatch.fnmatch(header, pattern) and not any(
                fnmatch.fnmatch(name, f) for f in files
            ):
                found.append((number, f"<{header}> may be included by {', '.join(files)} only"))
        if any(fnmatch.fnmatch(header, pattern) for pattern in FORBIDDEN):
            found.append((number, f"<{header}> is private to CPython"))
        if quote == "<":
            if header.split("/")[0] in LAYERS:
                found.append((number, f'headers of the project are included as "{header}"'))
            continue
        other = layer_of(header)
        if other is None:
            found.append((number, f'"{header}": write the layer too, as "{layer}/x.h"'))
        elif not may_use(layer, other):
            found.append((number, f'{layer} must not include "{header}"'))
        elif header.endswith("_int.h") and Path(header).parent not in Path(name).parents:
            found.append((number, f'"{header}" is private to {Path(header).parent}/'))
        elif not (src / header).is_file():
            found.append((number, f'"{header}" does not exist'))
    return found


def definitions(code: dict[str, str]) -> dict[str, str]:
    """Return the file that defines each function and constant with the project's prefix.

    Args:
        code: the files of src/ without comments, by their path within src/.
    """
    return {
        match[1]: name
        for name, text in code.items()
        if name.endswith(".c")
        for match in (*FUNCTION.finditer(text), *OBJECT.finditer(text))
    }


def circle(texts: dict[str, str], folder: str) -> list[str]:
    """Return the C files of a folder that use each other in a circle.

    Args:
        texts: the files of src/, by their path within src/.
        folder: the folder within src/, as "py/plan".
    """
    code = {name: without_comments(text) for name, text in texts.items()}
    defined = definitions(code)
    used = {
        name: {defined[symbol] for symbol in NAME.findall(text) if symbol in defined} - {name}
        for name, text in code.items()
        if name.startswith(f"{folder}/") and name.endswith(".c")
    }
    while True:
        within = {other for others in used.values() for other in others}
        ends = [name for name, others in used.items() if not others & used.keys()]
        outer = [name for name in used if name in ends or name not in within]
        if not outer:
            return sorted(used)
        for name in outer:
            del used[name]


def upward_calls(texts: dict[str, str]) -> list[tuple[str, int, str]]:
    """Return the uses of functions and constants that are defined in a higher layer.

    Args:
        texts: the files of src/ that belong to a layer, by their path within src/.

    Returns:
        Tuples of file, line number and message.
    """
    code = {name: without_comments(text) for name, text in texts.items()}
    defined = definitions(code)
    found: list[tuple[str, int, str]] = []
    for name, text in code.items():
        layer = layer_of(name)
        for number, line in enumerate(text.splitlines(), 1):
            for symbol in NAME.findall(line):
                home = defined.get(symbol)
                other = layer_of(home) if home else None
                if layer is None or other is None or symbol in UPWARD_DATA:
                    continue
                if not may_use(layer, other):
                    message = f"{layer} must not use {symbol}, which is defined in {home}"
                    found.append((name, number, message))
    return found


def main() -> int:
    """Check every C file of src/, and that tests and fuzz targets stay clear of Python."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    root: Path = parser.parse_args().root
    src = root / "src"
    bad = 0
    texts: dict[str, str] = {}
    for path in sorted(p for p in src.rglob("*") if p.suffix in {".c", ".h"}):
        name = path.relative_to(src).as_posix()
        texts[name] = path.read_text(encoding="utf-8")
        for number, message in problems_of(name, texts[name], src):
            print(f"src/{name}:{number}: {message}")
            bad += 1
    for name, number, message in upward_calls(texts):
        print(f"src/{name}:{number}: {message}")
        bad += 1
    for folder in WITHOUT_CIRCLES:
        if files := circle(texts, folder):
            print(f"src/{folder}: these files use each other in a circle: {', '.join(files)}")
            bad += 1
    for folder in ("tests/c", "fuzz"):
        for path in sorted(p for p in (root / folder).rglob("*") if p.suffix in {".c", ".h"}):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                match = INCLUDE.match(line)
                if (
                    match
                    and (match[2] == "Python.h" or match[2].startswith("py/"))
                    and match[2] not in PURE
                ):
                    print(f"{path.relative_to(root)}:{number}: C tests know nothing of Python")
                    bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
