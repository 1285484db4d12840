#!/usr/bin/env python3
"""Starlette's own tests, with TurboAPI's application, router and test client in place of its own.

    python tests/conformance/starlette.py            run; fail when a test fails that
                                                     starlette-excluded.md does not list, or one of
                                                     passing-starlette.txt is gone
    python tests/conformance/starlette.py --update   run; write what passes now
    python tests/conformance/starlette.py --all      those of starlette-excluded.md, too
    python tests/conformance/starlette.py --door plans tests/test_routing.py
    .../fastapi-venv/bin/python tests/conformance/starlette.py --all --package fastapi    to compare

The doors:
    asgi    the test client calls the application; routes are Starlette's
    native  every HTTP request goes over a socket to the native server
    plans   the same, and each route that can be one is a path operation, which C serves
"""

import argparse
import collections
import importlib.metadata
import os
import pathlib
import re
import shutil
import sys
import time

import suite

HERE = suite.HERE
ROOT = HERE.parent.parent
LISTING = HERE / "passing-starlette.txt"
EXCLUDED = HERE / "starlette-excluded.md"
PLAIN = {"CONFORMANCE_ROUTES": "plain"}
NATIVE = {"TURBOAPI_TESTCLIENT": "native"}
DOORS = {
    "asgi": PLAIN,
    "native": {**PLAIN, **NATIVE},
    "plans": {"CONFORMANCE_ROUTES": "operations", **NATIVE},
}


def version():
    """The Starlette that the environment has, which must be the pinned one."""
    pins = (HERE / "constraints.txt").read_text(encoding="utf-8")
    pinned = re.search(r"^starlette==(\S+)$", pins, re.MULTILINE).group(1)
    found = importlib.metadata.version("starlette")
    if found != pinned:
        sys.exit(f"starlette.py: constraints.txt pins Starlette {pinned}, this has {found}")
    return pinned


def halves(work, files):
    """Two lists of about equal work: one for each of two processes."""
    parts = [[], []]
    total = [0, 0]
    for path in sorted(files, key=lambda f: (-(work / f).stat().st_size, f)):
        least = total.index(min(total))
        parts[least].append(path)
        total[least] += (work / path).stat().st_size
    return [sorted(part) for part in parts if part]


def run(args, work, folder):
    """{"door test": row of the plugin}, and the notes."""
    found = sorted(p.relative_to(work).as_posix() for p in work.glob("tests/**/test_*.py"))
    batches = {}
    for door in args.doors:
        settings = DOORS[door]
        skip = folder / f"{door}.skip"
        skip.write_text("".join(f"{test}\n" for doors, test in args.excluded if door in doors))
        env = suite.environment([], CONFORMANCE_STARLETTE=args.package,
                                CONFORMANCE_SKIP=str(skip), **settings)
        command = suite.pytest_command(sys.executable, env, "-p", "conformance_starlette")
        files = args.paths or [
            path for path in found
            if "TURBOAPI_TESTCLIENT" not in settings or "TestClient" in (work / path).read_text()
        ]
        for number, part in enumerate([files] if args.paths else halves(work, files)):
            name = f"{door}-{number}"
            batches[name] = suite.Batch(command, work, env, folder, name, part, stall=120)
    notes = suite.run_batches(list(batches.values()), args.n, args.limit)
    rows = {}
    for name, batch in batches.items():
        tests, collect = suite.sort_rows(batch.rows)
        for test, row in tests.items():
            rows[f"{name.partition('-')[0]} {test}"] = row
        notes += [f"not collected: {file}: {row['message']}" for file, row in collect.items()]
    return rows, notes


def read_excluded():
    """[(doors, test or file)] of the table's rows."""
    rows = []
    for line in EXCLUDED.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if not line.startswith("| ") or len(cells) != 3:
            continue
        doors = set(DOORS) if cells[0] == "all" else set(cells[0].split(", "))
        rows += [(doors, "tests/" + each) for each in re.findall("`([^`]+)`", cells[1])]
    return rows


def report(args, rows, notes, seconds):
    """The exit code."""
    for note in notes:
        print("!", note)
    failing = {key: row for key, row in rows.items()
               if row["outcome"] not in ("passed", "skipped", "xfailed")}
    for key, row in sorted(failing.items()):
        message = row["message"].split("\n")[0][:120]
        print(f"  {row['outcome']:<8}{key}  {message}".rstrip())
    print(f"\nStarlette {args.version}'s tests, starlette -> {args.package}, {seconds:.0f} s")
    for door in args.doors:
        count = collections.Counter(row["outcome"] for key, row in rows.items()
                                    if key.startswith(door + " "))
        print(f"  {door:<8}" + ", ".join(f"{n} {what}" for what, n in sorted(count.items())))
    if args.package != "turboapi":
        return 0
    known = [key for key in suite.read_listing(LISTING)
             if key.partition(" ")[0] in args.doors and (not args.paths or any(
                 key.partition(" ")[2].startswith(path) for path in args.paths))]
    outcomes = {key: row["outcome"] for key, row in rows.items()
                if key in failing or row["outcome"] == "passed"}
    status = suite.ratchet(LISTING, outcomes, args.update, known)
    if failing and not args.all:
        print(f"{len(failing)} failing tests are not in {EXCLUDED.name}")
    return 1 if failing or not rows else status


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--package", choices=("turboapi", "fastapi", "starlette"), default="turboapi",
        help="what stands in; `starlette`: nothing does")
    add("--door", action="append", choices=sorted(DOORS), help="only this one; repeatable")
    add("--update", action="store_true", help="write the list anew")
    add("--all", action="store_true", help=f"also what {EXCLUDED.name} lists")
    add("-n", type=int, default=2, help="pytest processes at a time (default 2)")
    add("--limit", type=float, default=600, help="seconds for the whole run")
    add("paths", nargs="*", help="only these, e.g. tests/test_routing.py")
    args = parser.parse_args()
    args.doors = args.door or [
        door for door in DOORS
        if args.package == "turboapi" or "TURBOAPI_TESTCLIENT" not in DOORS[door]]
    args.excluded = [] if args.all else read_excluded()
    if args.update and (args.paths or args.door or args.all or args.package != "turboapi"):
        parser.error("--update needs the whole run")
    args.version = version()
    os.environ.setdefault("CONFORMANCE_CACHE", str(ROOT / ".cache" / "conformance"))
    cache = suite.cache_dir()
    archive = suite.sdist(cache, "starlette", args.version)
    work = cache / "work" / f"{os.getpid()}-{time.time_ns() // 1000000}"
    folder = cache / "reports" / f"starlette-{args.package}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    begun = time.time()
    try:
        suite.unpack(archive, work,
                     lambda path: path.startswith("tests/") or path == "pyproject.toml")
        rows, notes = run(args, work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return report(args, rows, notes, time.time() - begun)


if __name__ == "__main__":
    sys.exit(main())
