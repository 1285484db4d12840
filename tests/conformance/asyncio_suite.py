#!/usr/bin/env python3
"""CPython's own test_asyncio, on turboapi's event loop or on the standard one.

    python tests/conformance/asyncio_suite.py                 # the ratchet: nothing that passes on
                                                              # the standard loop fails on ours
    python tests/conformance/asyncio_suite.py --loop standard --json FILE [module ...]

The tests are those of the interpreter that runs this (its `test` package, which Debian has in
libpython3-testsuite). Without that package nothing is run, and the script says so. Tests that may
fail on our loop only have their reason in asyncio-excluded.md.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
EXCLUDED = HERE / "asyncio-excluded.md"


def modules() -> list[str]:
    """The modules of test_asyncio of this interpreter."""
    try:
        package = importlib.import_module("test.test_asyncio")
    except ImportError:
        return []
    names = sorted(path.stem for path in Path(package.__path__[0]).glob("test_*.py"))
    return [name for name in names if "windows" not in name and "proactor" not in name]


class Result(unittest.TextTestResult):
    """Remembers how each test ended."""

    def __init__(self, *arguments: object, **named: object) -> None:
        super().__init__(*arguments, **named)
        self.outcomes: dict[str, str] = {}

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        self.outcomes.setdefault(test.id(), "passed")

    def addError(self, test: unittest.TestCase, err: object) -> None:
        super().addError(test, err)
        self.outcomes[test.id()] = "failed"

    def addFailure(self, test: unittest.TestCase, err: object) -> None:
        super().addFailure(test, err)
        self.outcomes[test.id()] = "failed"

    def addSubTest(self, test: unittest.TestCase, subtest: object, err: object) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.outcomes[test.id()] = "failed"

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        self.outcomes[test.id()] = "skipped"


def run_here(loop: str, module: str, file: Path) -> None:
    """Run one module in this process and write the outcomes."""
    sys.path[sys.path.index(str(HERE))] = str(HERE / "hook")  # HERE has a starlette.py
    if loop == "turboapi":
        from conformance_loop import use_our_loop

        use_our_loop()
    suite = unittest.defaultTestLoader.loadTestsFromName(f"test.test_asyncio.{module}")
    gc.freeze()  # many tests collect: that takes longer than the rest, and minutes on a busy machine
    runner = unittest.TextTestRunner(sys.stdout, resultclass=Result, verbosity=1)
    file.write_text(json.dumps(runner.run(suite).outcomes))
    sys.stdout.flush()
    os._exit(0)  # threads that a failed test has left do not matter


def run_module(loop: str, name: str, folder: str, verbose: bool) -> dict[str, str]:
    """The outcome of each test of a module, in a process of its own."""
    file = Path(folder) / f"{loop}-{name}.json"
    command = [sys.executable, __file__, "--here", str(file), "--loop", loop, name]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=900, cwd=folder, check=False
        )
        output = done.stdout + done.stderr
    except subprocess.TimeoutExpired as error:
        output = f"{error.stdout!r}\n{error.stderr!r}\nno end within {error.timeout} s"
    found = json.loads(file.read_text()) if file.exists() else {f"{name}: whole": "failed"}
    failed = sum(outcome == "failed" for outcome in found.values())
    print(f"{loop:<9} {name:<24} {len(found):>5} tests, {failed} failed", flush=True)
    if verbose and failed:
        print(output)
    return found


def run(loop: str, names: list[str], verbose: bool) -> dict[str, str]:
    """The outcome of each test of the modules; two of them run at a time, as most of it is waits."""
    outcomes: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        for found in pool.map(lambda name: run_module(loop, name, folder, verbose), names):
            outcomes.update(found)
    return outcomes


def excluded() -> set[str]:
    """Tests with a reason to fail on our loop."""
    if not EXCLUDED.exists():
        return set()
    return set(re.findall(r"^- `([^`]+)`", EXCLUDED.read_text(), re.M))


def failing(ours: dict[str, str], theirs: dict[str, str]) -> list[str]:
    """Tests that pass on the standard loop only."""
    return [name for name, how in theirs.items() if how == "passed" and ours.get(name) != "passed"]


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--loop", choices=("turboapi", "standard", "both"), default="both")
    parser.add_argument("--json", type=Path, help="write the outcomes there")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("-v", "--verbose", action="store_true", help="show failures")
    parser.add_argument("modules", nargs="*", help="such as test_events (default: all)")
    arguments = parser.parse_args()
    if arguments.here:
        run_here(arguments.loop, arguments.modules[0], arguments.here)
    names = arguments.modules or modules()
    if not names:
        print("asyncio's tests: not run, as this Python has no `test` package")
        return 0
    ours = theirs = {}
    if arguments.loop != "standard":
        ours = run("turboapi", names, arguments.verbose)
    if arguments.loop != "turboapi":
        theirs = run("standard", names, arguments.verbose and arguments.loop == "standard")
    if arguments.json:
        arguments.json.write_text(json.dumps(ours or theirs, indent=1, sort_keys=True))
    if arguments.loop != "both":
        return 0
    reasons = excluded()
    lost = failing(ours, theirs)
    again = {name.split(".")[2] for name in lost if name not in reasons}
    if again:  # many of these tests measure time: a busy machine is given a second chance
        with tempfile.TemporaryDirectory() as folder:
            for module in sorted(again):
                ours.update(run_module("turboapi", module, folder, arguments.verbose))
        lost = failing(ours, theirs)
    new = [name for name in lost if name not in reasons]
    passed = sum(how == "passed" for how in ours.values())
    print(
        f"{passed} passed, {len(lost)} fail on our loop only, {len(new)} of them without a reason"
    )
    for name in new[:50]:
        print(f"  {name}")
    return int(bool(new))


if __name__ == "__main__":
    # A shell starts background jobs with SIGINT ignored; test_runners would never end then.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
