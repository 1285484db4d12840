"""Checks the layering of src/: who may include whom.

    base <- net <- http <- route <- py        json: over base alone

A file may include headers of its own folder and of those to its left; `x_int.h` belongs to its
folder alone; Python.h is for py/ only; each third-party library has its few files.  Prints
`file:line: what is wrong` and exits with 1 when something is.
"""

from __future__ import annotations

import argparse
import fnmatch
import re
import sys
from pathlib import Path

# What each layer may include besides itself.
LAYERS: dict[str, tuple[str, ...]] = {
    "base": (),
    "json": ("base",),
    "net": ("base",),
    "http": ("base", "net"),
    "route": ("base", "net", "http"),
    "py": ("base", "net", "http", "route", "json"),
}

# Third-party headers (patterns) and the files that may include them.
CONFINED: dict[str, tuple[str, ...]] = {
    "Python.h": ("py/*",),
    "structmember.h": ("py/*",),
    "openssl/*": ("http/ws/handshake.c",),
    "wslay/*": ("http/ws/*.c",),
    "zlib.h": ("http/compress*.c", "http/ws/*.c"),
}

# CPython's private headers: not even in py/.
FORBIDDEN = ("internal/*", "pycore_*", "cpython/*")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def problems_of(name: str, text: str, src: Path) -> list[tuple[int, str]]:
    """Return the problems of one file.

    Args:
        name: its path within src/, as "net/conn.c".
        text: its contents.
        src: the folder src/, where included headers must exist.

    Returns:
        Pairs of line number and message.
    """
    layer = name.split("/")[0]
    found: list[tuple[int, str]] = []
    if layer not in LAYERS or "/" not in name:
        return [(1, f"belongs to no layer ({', '.join(LAYERS)})")]
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
        folder, _, rest = header.partition("/")
        if folder not in LAYERS or not rest:
            found.append((number, f'"{header}": write the layer too, as "{layer}/x.h"'))
        elif folder != layer and folder not in LAYERS[layer]:
            found.append((number, f'{layer} must not include "{header}"'))
        elif rest.endswith("_int.h") and folder != layer:
            found.append((number, f'"{header}" is private to {folder}/'))
        elif not (src / header).is_file():
            found.append((number, f'"{header}" does not exist'))
    return found


def main() -> int:
    """Check every C file of src/, and that tests and fuzz targets stay clear of Python."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    root: Path = parser.parse_args().root
    src = root / "src"
    bad = 0
    for path in sorted(p for p in src.rglob("*") if p.suffix in {".c", ".h"}):
        name = path.relative_to(src).as_posix()
        for number, message in problems_of(name, path.read_text(encoding="utf-8"), src):
            print(f"src/{name}:{number}: {message}")
            bad += 1
    for folder in ("tests/c", "fuzz"):
        for path in sorted(p for p in (root / folder).rglob("*") if p.suffix in {".c", ".h"}):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                match = INCLUDE.match(line)
                if match and (match[2] == "Python.h" or match[2].startswith("py/")):
                    print(f"{path.relative_to(root)}:{number}: C tests know nothing of Python")
                    bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
