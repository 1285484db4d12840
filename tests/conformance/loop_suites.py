#!/usr/bin/env python3
"""The test suites of anyio, asyncpg, httpx and redis-py on turboapi's event loop and on asyncio's.

    python tests/conformance/loop_suites.py                 # the ratchet: nothing that passes on
                                                            # the standard loop fails on ours
    python tests/conformance/loop_suites.py httpx [FILE ...]
    python tests/conformance/loop_suites.py --update        # writes loop_suites/passing-*.txt

The suites come out of the projects' sdists. They run in an environment of their own with
loop_suites/requirements.txt, beside the packages of the interpreter that runs this. redis-py and
asyncpg need a server: `redis-server` and PostgreSQL's programs (Debian's packages redis-server and
postgresql); without them their suites are not run, and the script says so and fails. Tests that may
fail on our loop only have their reason in loop_suites/excluded.md.
"""

import argparse
import collections
import contextlib
import os
import pathlib
import pwd
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv

import suite

HERE = suite.HERE
ROOT = HERE.parent.parent
FOLDER = HERE / "loop_suites"
REQUIREMENTS = FOLDER / "requirements.txt"
EXCLUDED = FOLDER / "excluded.md"
LOOPS = ("asyncio", "turboapi")


# ------------------------------------------------------------------ what the suites need


def make_environment(cache):
    """The interpreter of an environment with the suites' requirements."""
    tag = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache / f"loop-suites-{tag}"
    python = folder / "bin" / "python"
    wanted = REQUIREMENTS.read_text(encoding="utf-8")
    stamp = folder / "requirements.txt"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
             "-r", str(REQUIREMENTS)],
            check=True)
        beside = "; ".join(["import site", *(f"site.addsitedir({path!r})" for path in packages())])
        site = folder / "lib" / f"python{tag}" / "site-packages"
        (site / "zz_beside.pth").write_text(beside + "\n", encoding="utf-8")
        stamp.write_text(wanted, encoding="utf-8")
    return str(python)


def packages():
    """Where the packages of this interpreter are: TurboAPI and what it stands on."""
    return sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextlib.contextmanager
def redis_server():
    """Arguments of pytest that name a redis server, which runs meanwhile."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "",
             "--enable-debug-command", "yes", "--dir", folder],
            stdout=subprocess.DEVNULL)
        try:
            for _ in range(200):
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                time.sleep(0.1)
            yield [f"--redis-url=redis://127.0.0.1:{port}/0"], {}
        finally:
            server.terminate()
            server.wait()


# PostgreSQL refuses to run as root; asyncpg's tests start servers of their own.
AS_POSTGRES = """#!/bin/sh
previous=
for argument; do
    [ "$previous" != -D ] || [ ! -d "$argument" ] || chown -R postgres "$argument"
    previous=$argument
done
exec setpriv --reuid=postgres --regid=postgres --clear-groups {program} "$@"
"""


def postgres_programs():
    """The folder of `initdb` and the others, or None."""
    if shutil.which("initdb"):
        return pathlib.Path(shutil.which("initdb")).resolve().parent
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@contextlib.contextmanager
def postgres():
    """Settings by which asyncpg's tests find PostgreSQL's programs."""
    programs = postgres_programs()
    if os.getuid() != 0:
        yield [], {"PGINSTALLATION": str(programs)}
        return
    pwd.getpwnam("postgres")  # Debian's package has made it
    with tempfile.TemporaryDirectory() as folder:
        for program in programs.iterdir():
            script = pathlib.Path(folder, program.name)
            if program.name in ("pg_ctl", "postgres"):
                script.write_text(AS_POSTGRES.format(program=program))
                script.chmod(0o755)
            else:
                script.symlink_to(program)
        yield [], {"PGINSTALLATION": folder}


@contextlib.contextmanager
def nothing():
    """No more arguments, no settings."""
    yield [], {}


class Suite:
    """The tests of a project: which files, with what, and what they need."""

    def __init__(self, files, arguments=(), needs=nothing, there=lambda: True):
        self.files = files
        self.arguments = list(arguments)
        self.needs = needs
        self.there = there

    def found(self, work):
        names = [path.relative_to(work).as_posix() for path in work.glob("tests/**/test_*.py")]
        return sorted(name for name in names if re.match(self.files, name))


SUITES = {
    # trio's and uvloop's parameters have nothing to do with either loop
    "anyio": Suite(r"tests/test_(?!typed_attributes)", ["-k", "not trio and not uvloop"]),
    "asyncpg": Suite(r"tests/test_(?!_)", needs=postgres,
                     there=postgres_programs),
    "httpx": Suite("tests/", ["-k", "not trio"]),
    "redis": Suite(
        r"tests/test_asyncio/test_[^/]*$",
        ["-m", "not redismod and not onlycluster and not ssl and not cp_integration"
               " and not multidb_integration"],
        needs=redis_server, there=lambda: shutil.which("redis-server")),
}


def version(project):
    return re.search(rf"^{project}(?:\[.*\])?==(\S+)$", REQUIREMENTS.read_text(encoding="utf-8"),
                     re.MULTILINE).group(1)


# ------------------------------------------------------------------ running


def run_suite(args, python, name, loop, cache, files=()):
    """{test: outcome} of a suite on a loop, and the notes."""
    one = SUITES[name]
    archive = suite.sdist(cache, name, version(name))
    work = cache / "work" / f"{os.getpid()}-{time.time_ns() // 1000000}"
    folder = cache / "reports" / f"loop-{name}-{loop}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    wanted = ("tests/", "pyproject.toml", "README")
    suite.unpack(archive, work, lambda path: path.startswith(wanted))
    try:
        with one.needs() as (more, settings):
            env = suite.environment([], CONFORMANCE_LOOP=loop, **settings)
            command = suite.pytest_command(python, env, "-p", "conformance_loop", *one.arguments,
                                           *more)
            files = list(files or one.found(work))
            batch = suite.Batch(command, work, env, folder, "all", files, stall=120)
            batch.run(time.time() + args.limit)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    tests, collect = suite.sort_rows(batch.rows)
    for row in tests.values():
        if row["outcome"] == "xpassed":
            row["outcome"] = "passed"
    notes = batch.notes + [f"not collected: {file}: {row['message']}"
                           for file, row in collect.items()]
    return tests, notes


def differing(rows):
    """Tests that pass on the standard loop only."""
    return [test for test, row in rows["asyncio"].items() if row["outcome"] == "passed"
            and rows["turboapi"].get(test, {}).get("outcome") != "passed"]


def check(args, python, name, cache):
    """The exit code for one suite."""
    if not SUITES[name].there():
        print(f"{name}: not run, as its server is not installed")
        return 1
    rows = {}
    for loop in LOOPS:
        begun = time.time()
        rows[loop], notes = run_suite(args, python, name, loop, cache, args.files)
        count = collections.Counter(row["outcome"] for row in rows[loop].values())
        counts = ", ".join(f"{n} {what}" for what, n in sorted(count.items()))
        print(f"{name} {version(name)} on {loop}: {counts} ({time.time() - begun:.0f} s)")
        for note in notes:
            print("!", note)
    lost = differing(rows)
    if lost:  # many tests measure time: a busy machine is given a second chance
        again = sorted({suite.file_of(test) for test in lost})
        for loop in LOOPS:  # what fails on both now was chance, too
            rows[loop].update(run_suite(args, python, name, loop, cache, again)[0])
        lost = differing(rows)
    reasons = excluded(name)
    new = [test for test in lost if test not in reasons]
    for test in new:
        print(f"  fails on ours only: {test}  {rows['turboapi'].get(test, {}).get('message', '')}")
    for test in sorted(reasons - set(lost) if not args.files else ()):
        print(f"  passes, and {EXCLUDED.name} has a line for it: {test}")
    status = 0
    if not args.files:
        outcomes = {test: rows["turboapi"].get(test, {}).get("outcome", "missing")
                    for test, row in rows["asyncio"].items() if row["outcome"] == "passed"}
        listing = FOLDER / f"passing-{name}.txt"
        if listing.exists() or args.update:
            status = suite.ratchet(listing, outcomes, args.update)
        else:
            print(f"{name}: there is no {listing.name} yet; run with --update")
    return int(bool(new)) or status


def excluded(name):
    """Tests of a suite with a reason to fail on our loop."""
    text = EXCLUDED.read_text(encoding="utf-8")
    return set(re.findall(rf"^- {name}: `([^`]+)`", text, re.MULTILINE))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--update", action="store_true", help="write the lists anew")
    add("--limit", type=float, default=1500, help="seconds for a suite on a loop")
    add("suite", nargs="?", choices=sorted(SUITES), help="only this one")
    add("files", nargs="*", help="of it, such as tests/test_sockets.py")
    args = parser.parse_args()
    if args.update and args.files:
        parser.error("--update needs whole suites")
    os.environ.setdefault("CONFORMANCE_CACHE", str(ROOT / ".cache" / "conformance"))
    cache = suite.cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    python = make_environment(cache)
    codes = [check(args, python, name, cache) for name in ([args.suite] if args.suite else SUITES)]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
