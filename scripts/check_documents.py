"""Check that no line of a Markdown document has more than 120 characters.

A line without a space, such as a long link, can't be broken and may be longer. Tables that programs
read are exempt. Print `file:line: what is wrong` and exit with 1 if there is anything.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

LIMIT = 120

# Tables with one row per test, which ratchet.py, starlette.py and asyncio_suite.py read.
EXEMPT = frozenset(
    (
        "tests/conformance/asyncio-excluded.md",
        "tests/conformance/failing.md",
        "tests/conformance/starlette-excluded.md",
    )
)


def problems_of(text: str) -> list[tuple[int, str]]:
    """Return the line number and the message of each line that is too long."""
    return [
        (number, f"{len(line)} characters, the limit is {LIMIT}")
        for number, line in enumerate(text.splitlines(), 1)
        if len(line) > LIMIT and " " in line.strip()
    ]


def main() -> int:
    """Check every Markdown file that Git knows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    root: Path = parser.parse_args().root
    listing = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=root, capture_output=True, text=True, check=True
    )
    bad = 0
    for name in listing.stdout.splitlines():
        path = root / name
        if name in EXEMPT or not path.is_file():
            continue
        for number, message in problems_of(path.read_text(encoding="utf-8")):
            print(f"{name}:{number}: {message}")
            bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
