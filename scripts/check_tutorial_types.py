#!/usr/bin/env python3
"""Type checkers must say of FastAPI's examples with TurboAPI what they say with FastAPI.

    .venv/bin/python scripts/check_tutorial_types.py             # both checkers, about 5 minutes
    .venv/bin/python scripts/check_tutorial_types.py --checker mypy --all

FastAPI's docs_src and the cases of tests/typing are checked twice, strictly: as they are, in an
environment with the true FastAPI, and with `turboapi` for `fastapi`. An error that only TurboAPI
gives is a difference: it is printed, and the exit code is 1. (What only FastAPI gives is counted,
and printed with --all.)

Everything that it makes is below build/tutorial-types; FastAPI is installed there only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "tutorial-types"
RUNNER = ROOT / "tests" / "conformance" / "run.py"
CASES = ROOT / "tests" / "typing"
SIDES = ("fastapi", "turboapi")
CHECKERS = ("mypy", "pyright")


class Finding(NamedTuple):
    """An error of a checker, in FastAPI's words."""

    file: str
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}  [{self.rule}]"


def run(*command: str | Path, **options: object) -> None:
    subprocess.run([str(part) for part in command], check=True, **options)  # type: ignore[call-overload]


# -- the two sides -----------------------------------------------------------------------------


def make_environment(side: str) -> Path:
    """An environment with this one's packages, and with FastAPI or TurboAPI; gives its Python."""
    where = WORK / f"venv-{side}"
    python = where / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", "--without-pip", where)
        tag = f"python{sys.version_info.major}.{sys.version_info.minor}"
        added = [sysconfig.get_path("purelib")]
        if side == "turboapi":
            added.append(str(ROOT / "python"))
        else:
            pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet")
            run(*pip, "--no-deps", f"fastapi=={fastapi_version()}")
        (where / "lib" / tag / "site-packages" / "added.pth").write_text("\n".join(added) + "\n")
    return python


def fastapi_version() -> str:
    found = re.search(r'^VERSION = "(.+)"$', RUNNER.read_text(encoding="utf-8"), re.M)
    assert found is not None
    return found[1]


def make_sources(side: str) -> Path:
    """The examples, with the imports of this side."""
    where = WORK / side
    shutil.rmtree(where, ignore_errors=True)
    exported = WORK / "exported"
    if not exported.exists():
        run(sys.executable, RUNNER, "--export", exported, "--part", "dev")
    shutil.copytree(exported / "docs_src", where / "docs_src")
    (where / "cases").mkdir()
    for case in CASES.glob("case_*.py"):
        text = case.read_text(encoding="utf-8")
        # Names of ours stand in no case: so the rewriting is only that of the imports.
        (where / "cases" / case.name).write_text(text.replace("turboapi", "fastapi"))
    if side == "turboapi":
        run(sys.executable, "-m", "turboapi.migrate", where, cwd=where, stdout=subprocess.DEVNULL)
    return where


# -- the checkers ------------------------------------------------------------------------------


def check(checker: str, side: str) -> Counter[Finding]:
    found = {"mypy": mypy, "pyright": pyright}[checker](make_environment(side), WORK / side)
    return Counter(found)


def mypy(python: Path, where: Path) -> Iterator[Finding]:
    command = [
        *(sys.executable, "-m", "mypy", "--python-executable", str(python)),
        *("--config-file", os.devnull, "--cache-dir", str(where.with_suffix(".mypy_cache"))),
        *("--strict", "--allow-untyped-defs", "--allow-incomplete-defs", "--allow-untyped-calls"),
        *("--explicit-package-bases", "--namespace-packages"),
        *("--output", "json", "."),
    ]
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        sys.exit(f"mypy failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    for line in done.stdout.splitlines():
        each = json.loads(line)
        if each["severity"] == "error":
            yield Finding(each["file"], each["line"], each["code"] or "", common(each["message"]))


def pyright(python: Path, where: Path) -> Iterator[Finding]:
    settings = {"typeCheckingMode": "strict", "include": ["docs_src", "cases"]}
    (where / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--pythonpath", str(python), "--outputjson"]
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        sys.exit(f"pyright failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    for each in json.loads(done.stdout)["generalDiagnostics"]:
        if each["severity"] == "error":
            file = Path(each["file"]).relative_to(where).as_posix()
            line = each["range"]["start"]["line"] + 1
            yield Finding(file, line, each.get("rule", ""), common(each["message"]))


def common(message: str) -> str:
    """A message without what the name of the package changes."""
    return re.sub(r"\s+", " ", message.replace("turboapi", "fastapi"))


# -- the comparison ----------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checker", choices=CHECKERS, action="append", help="default: both")
    parser.add_argument("--all", action="store_true", help="print what only FastAPI gives, too")
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    for side in SIDES:
        make_sources(side)
    failed = False
    for checker in options.checker or CHECKERS:
        theirs, ours = (check(checker, side) for side in SIDES)
        more, fewer = ours - theirs, theirs - ours
        print(
            f"{checker}: {ours.total()} errors with TurboAPI, {theirs.total()} with FastAPI; "
            f"{more.total()} only with TurboAPI, {fewer.total()} only with FastAPI"
        )
        for mark, findings in (("+", more), ("-", fewer if options.all else Counter())):
            for finding in sorted(findings.elements()):
                print(f"  {mark} {finding}")
        failed = failed or bool(more)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
