#!/usr/bin/env python3
"""Type checkers must say with TurboAPI what they say with FastAPI.

    .venv/bin/python scripts/check_tutorial_types.py             # both checkers, about 2 minutes
    .venv/bin/python scripts/check_tutorial_types.py --checker mypy --all
    .venv/bin/python scripts/check_tutorial_types.py --tests     # FastAPI's tests as well

Three things are checked strictly and twice, with the true FastAPI and with TurboAPI for it:

* the examples of FastAPI's tutorial (docs_src), rewritten by `turboapi.migrate`;
* the cases of tests/typing;
* the type of each public name, and of each attribute of the classes, as pyright reveals it.

An error that only TurboAPI gives is printed, and the exit code is 1; so are a name whose type
differs and a case that does not hold with FastAPI. What else only FastAPI gives is counted (--all
prints it).

All that it makes is below build/tutorial-types; FastAPI gets installed there and nowhere else.
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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "tutorial-types"
RUNNER = ROOT / "tests" / "conformance" / "run.py"
CASES = ROOT / "tests" / "typing"
SNAPSHOT = ROOT / "tests" / "compat" / "fastapi_0_165_0.json"
SIDES = ("fastapi", "turboapi")
CHECKERS = ("mypy", "pyright")

# Names whose type differs, and why that is well.
DIFFERENT = {
    "Contact.email": "EmailStr is an alias of str to type checkers",
    "get_redoc_html": "shows a default by its name",
    "get_swagger_ui_html": "shows a default by its name",
    "generate_operation_id": "takes any route, not just FastAPI's private protocol",
    "generate_operation_summary": "as generate_operation_id",
    "get_openapi_operation_metadata": "as generate_operation_id",
    "get_openapi_path": "as generate_operation_id",
    "solve_dependencies": "has no use for FastAPI's private _uses_scopes_cache",
}
# Signatures that end so are those of FastAPI with its keywords in a TypedDict; the cases check it.
UNPACKED = re.compile(r"\*\*options: \*\*\w+Options\)")


class Finding(NamedTuple):
    """What a checker says at a line, in FastAPI's words."""

    file: str
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}  [{self.rule}]"


# -- the two sides -----------------------------------------------------------------------------


def make_environment(side: str) -> Path:
    """Return an environment with this one's packages, and with FastAPI or TurboAPI and return its
    Python.
    """
    where = WORK / f"venv-{side}"
    python = where / "bin" / "python"
    marker = where / "ready"
    if not marker.exists():
        shutil.rmtree(where, ignore_errors=True)
        run("-m", "venv", "--without-pip", where)
        added = [sysconfig.get_path("purelib")]
        if side == "turboapi":
            added.append(str(ROOT / "python"))
        else:
            wanted = f"fastapi=={fastapi_version()}"
            run("-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wanted)
        packages = next(where.glob("lib/python*/site-packages"))
        (packages / "added.pth").write_text("\n".join(added) + "\n")
        marker.touch()
    return python


def fastapi_version() -> str:
    found = re.search(r'^VERSION = "(.+)"$', RUNNER.read_text(encoding="utf-8"), re.M)
    assert found is not None
    return found[1]


def run(*arguments: str | Path, python: str | Path = sys.executable, quiet: bool = False) -> None:
    command = [str(python), *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL if quiet else None)


def make_sources(side: str, with_tests: bool) -> None:
    """Write the examples, the cases and the names, with the imports of this side."""
    where = WORK / side
    shutil.rmtree(where, ignore_errors=True)
    exported = WORK / "exported"
    if not exported.exists():
        run(RUNNER, "--export", exported, "--part", "dev")
    shutil.copytree(exported / "docs_src", where / "docs_src")
    if with_tests:
        shutil.copytree(exported / "tests", where / "tests")
    (where / "cases").mkdir()
    for case in CASES.glob("case_*.py"):
        theirs = case.read_text(encoding="utf-8").replace("turboapi", "fastapi")
        (where / "cases" / case.name).write_text(theirs, encoding="utf-8")
    if side == "turboapi":
        run("-m", "turboapi.migrate", where, quiet=True)
    program = WORK / "names.py"
    program.write_text(_NAMES, encoding="utf-8")
    run(program, SNAPSHOT, side, where / "names.py", python=make_environment("fastapi"))


# Run with FastAPI: writes a module that asks for the types of all its names.
_NAMES = """
import importlib, json, sys, warnings

warnings.simplefilter("ignore")
snapshot, side, target = sys.argv[1:]
lines = []
for short, names in json.load(open(snapshot)).items():
    if short == "middleware.wsgi":  # deprecated as a whole
        continue
    module = importlib.import_module(f"fastapi.{short}" if short else "fastapi")
    full = f"{side}.{short}" if short else side
    lines.append(f"import {full}")
    for name in names:
        value = getattr(module, name)
        lines.append(f"reveal_type({full}.{name})")
        if isinstance(value, type) and value.__module__ == module.__name__:
            attributes = set(dir(value))
            for base in value.__mro__:
                attributes |= set(base.__dict__.get("__annotations__", ()))
                code = getattr(base.__dict__.get("__init__"), "__code__", None)
                if code and base.__module__.startswith(("fastapi", "starlette")):
                    # What is assigned there, if it is an attribute: else both sides say so.
                    attributes |= set(code.co_names)
            lines.append(f"def _{len(lines)}(_{name}: {full}.{name}) -> None:")
            lines += [f"    reveal_type(_{name}.{a})" for a in sorted(attributes) if a[0] != "_"]
            lines.append("    return")
open(target, "w").write("\\n".join(lines) + "\\n")
"""


# -- the checkers ------------------------------------------------------------------------------


def check(checker: str, side: str) -> Counter[Finding]:
    found = {"mypy": mypy, "pyright": pyright}[checker](make_environment(side), WORK / side)
    return Counter(found)


def mypy(python: Path, where: Path) -> Iterator[Finding]:
    folders = [folder for folder in ("docs_src", "cases", "tests") if (where / folder).exists()]
    command = [
        *(sys.executable, "-m", "mypy", "--python-executable", str(python)),
        *("--config-file", os.devnull, "--cache-dir", str(where.with_suffix(".mypy_cache"))),
        # As FastAPI checks its examples, which have no annotations of what they return.
        *("--strict", "--allow-untyped-defs", "--allow-incomplete-defs", "--allow-untyped-calls"),
        *("--explicit-package-bases", "--namespace-packages", "--output", "json", *folders),
    ]
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        sys.exit(f"mypy failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    for line in done.stdout.splitlines():
        each = json.loads(line)
        if each["severity"] == "error":
            yield Finding(each["file"], each["line"], each["code"] or "", common(each["message"]))


def pyright(python: Path, where: Path) -> Iterator[Finding]:
    strict_cases = {"root": "cases", "enableTypeIgnoreComments": False}
    settings = {
        "typeCheckingMode": "strict",
        "include": ["docs_src", "cases", "tests", "names.py"],
        "executionEnvironments": [{**strict_cases, "reportUnnecessaryTypeIgnoreComment": True}],
    }
    (where / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--pythonpath", str(python), "--outputjson"]
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        sys.exit(f"pyright failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    names = (where / "names.py").read_text(encoding="utf-8").splitlines()
    for each in json.loads(done.stdout)["generalDiagnostics"]:
        file = Path(each["file"]).relative_to(where).as_posix()
        line = each["range"]["start"]["line"] + 1
        message = common(each["message"])
        if file == "names.py":
            # Of these only what they are counts, and whether there is such a name.
            rule = each.get("rule", "revealed")
            if rule in ("revealed", "reportAttributeAccessIssue"):
                yield Finding(common(names[line - 1].strip()), line, rule, message)
        elif each["severity"] == "error":
            yield Finding(file, line, each.get("rule", ""), message)


def common(message: str) -> str:
    """Return a message without what the name of the package changes."""
    return re.sub(r"\s+", " ", message.replace("turboapi", "fastapi"))


# -- the comparison ----------------------------------------------------------------------------


class Comparison:
    """What the checker says with one and not with the other."""

    def __init__(self, theirs: Counter[Finding], ours: Counter[Finding]) -> None:
        fewer = theirs - ours
        self.reworded: list[Finding] = []
        self.more: list[Finding] = []
        places = Counter((each.file, each.line, each.rule) for each in fewer.elements())
        for finding in sorted((ours - theirs).elements()):
            place = finding[:3]
            if finding.rule == "revealed":
                if not is_accepted(finding):
                    self.more.append(finding)
            elif places[place]:
                places[place] -= 1
                self.reworded.append(finding)
            else:
                self.more.append(finding)
        self.fewer = sorted(each for each in fewer.elements() if each.rule != "revealed")
        # A case that does not hold with FastAPI shows nothing.
        self.false_cases = [each for each in self.fewer if each.file.startswith("cases/")]


def is_accepted(revealed: Finding) -> bool:
    """Return whether the type of this name may differ."""
    # reveal_type(fastapi.a.b.name), or of an attribute: reveal_type(_Class.name)
    parts = revealed.file.removeprefix("reveal_type(").rstrip(")").removeprefix("_").split(".")
    is_listed = parts[-1] in DIFFERENT or ".".join(parts[-2:]) in DIFFERENT
    return is_listed or UNPACKED.search(revealed.message) is not None


def show(mark: str, findings: Sequence[Finding]) -> None:
    for finding in findings:
        print(f"  {mark} {finding}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checker", choices=CHECKERS, action="append", help="default: both")
    parser.add_argument("--tests", action="store_true", help="check FastAPI's tests as well")
    parser.add_argument("--all", action="store_true", help="print what only FastAPI gives, too")
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    for side in SIDES:
        make_sources(side, options.tests)
    failed = False
    for checker in options.checker or CHECKERS:
        theirs, ours = (check(checker, side) for side in SIDES)
        found = Comparison(theirs, ours)
        print(
            f"{checker}: {len(found.more)} only with TurboAPI, {len(found.fewer)} only with "
            f"FastAPI ({len(found.reworded)} of them are there in other words), "
            f"{(ours & theirs).total()} with both"
        )
        show("+", found.more)
        show("a case that does not hold with FastAPI:", found.false_cases)
        if options.all:
            show("~", found.reworded)
            show("-", found.fewer)
        failed = failed or bool(found.more or found.false_cases)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
