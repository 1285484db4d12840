"""The conformance ratchet: what passed once must not fail again.

    python tests/conformance/ratchet.py             run; fail when a test of passing.txt fails
    python tests/conformance/ratchet.py --update    run; write what passes now to passing.txt

    ... --door native                               the same over sockets, with passing-native.txt
    ... --door h2                                   over HTTP/2, with passing-h2.txt

`passing.txt` lists FastAPI's own tests (part dev) that TurboAPI passes, one node id a line.
A test that fails must have a line in `failing.md` that says why.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import suite

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DOORS = {"asgi": "passing.txt", "native": "passing-native.txt", "h2": "passing-h2.txt"}


def run_suite(door: str, processes: int) -> dict[str, str]:
    """Runs the whole dev part; gives each counted test's outcome."""
    env = dict(os.environ)
    env.setdefault("CONFORMANCE_CACHE", str(ROOT / ".cache" / "conformance"))
    if door != "asgi":
        env["TURBOAPI_TESTCLIENT"] = door
    with tempfile.TemporaryDirectory() as folder:
        result = pathlib.Path(folder, "result.json")
        subprocess.run(
            [sys.executable, str(HERE / "run.py"), "--package", "turboapi", "--part", "dev",
             "-n", str(processes), "--json", str(result), "--show", "60"],
            env=env,
            check=False,
        )
        if not result.exists():
            sys.exit("ratchet: the conformance run left no result")
        data = json.loads(result.read_text(encoding="utf-8"))
    return {test: row["outcome"] for test, row in data["tests"].items()}


def explained(door: str) -> set[str]:
    """The tests that `failing.md` has a reason for."""
    tests = set()
    for line in (HERE / "failing.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            _, test, doors, reason, _ = line.split("|", 4)
            if door in doors.replace(",", " ").split() and reason.strip():
                tests.add(test.strip().strip("`"))
    return tests


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the list anew")
    parser.add_argument("--door", choices=sorted(DOORS), default="asgi",
                        help="asgi: TestClient as it is; native: every request over a socket; "
                             "h2: over HTTP/2")
    parser.add_argument("-n", type=int, default=2, help="processes (default 2)")
    args = parser.parse_args()
    listing = HERE / DOORS[args.door]
    outcomes = run_suite(args.door, args.n)
    reasons = explained(args.door)
    failing = {test for test, outcome in outcomes.items() if outcome != "passed"}
    unexplained = sorted(failing - reasons)
    for test in unexplained:
        print(f"ratchet: fails, and failing.md does not say why: {test}")
    for test in sorted(reasons - failing):
        print(f"ratchet: passes, and failing.md has a line for it: {test}")
    known = [test for test in suite.read_listing(listing) if not suite.is_left_out(test)]
    return suite.ratchet(listing, outcomes, args.update, known) or bool(unexplained)


if __name__ == "__main__":
    sys.exit(main())
