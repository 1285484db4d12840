"""Warn of source files over 800 lines; fail over 1,200, and over 700 in src/ (tables exempt)."""

from __future__ import annotations

import pathlib
import subprocess
import sys

WARN, FAIL, FAIL_SRC = 800, 1200, 700
EXEMPT = ("tests/conformance/",)
ENDINGS = {".c", ".h", ".py", ".pyi", ".sh"}


def main() -> int:
    root = pathlib.Path(__file__).resolve().parent.parent
    listing = subprocess.run(
        ["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True
    )
    failed = False
    for name in listing.stdout.splitlines():
        path = root / name
        if path.suffix not in ENDINGS or name.startswith(EXEMPT) or not path.is_file():
            continue
        lines = path.read_bytes().count(b"\n")
        limit = FAIL_SRC if name.startswith("src/") else FAIL
        if lines > limit:
            failed = True
            print(f"{name}: {lines} lines, the limit is {limit}: split it by subject")
        elif lines > WARN:
            print(f"{name}: {lines} lines, more than {WARN} (warning)")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
