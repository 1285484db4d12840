"""What run.py and starlette.py share: the tests of an sdist, pytest on them with a line of JSON a
test (hook/conformance_plugin.py), and the ratchet. Standard library only."""

import collections
import concurrent.futures
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tarfile
import time

HERE = pathlib.Path(__file__).resolve().parent
# Settings of other tools that would change what a test sees.
FOREIGN = ("FASTAPI_OTEL_", "OTEL_", "LOGFIRE_", "SENTRY_", "PYTEST_", "CONFORMANCE_")


def cache_dir():
    return pathlib.Path(os.environ.get("CONFORMANCE_CACHE") or HERE / ".cache").resolve()


# ------------------------------------------------------------------ sources


def sdist(cache, project, version):
    folder = cache / "sdist"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = folder / f"{project}-{version}.tar.gz"
    if not wanted.exists():
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
             "--no-binary", project, f"{project}=={version}", "--dest", str(folder)],
            check=True,
        )
    if not wanted.exists():
        sys.exit(f"pip left no {wanted.name} in {folder}")
    return wanted


def unpack(archive, where, wanted):
    """The files of an sdist for whose path `wanted(path)` holds; `where` is made anew."""
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir(parents=True)
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            path = member.name.partition("/")[2]
            if not member.isfile() or ".." in path.split("/") or not wanted(path):
                continue
            target = where / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(tar.extractfile(member).read())


# ------------------------------------------------------------------ pytest


def environment(paths, **settings):
    """This process's environment for pytest: the hook and `paths` first on PYTHONPATH."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
    before = [env["PYTHONPATH"]] if env.get("PYTHONPATH") else []
    env["PYTHONPATH"] = os.pathsep.join([str(HERE / "hook"), *map(str, paths), *before])
    env["PYTHONDONTWRITEBYTECODE"] = "1"
    env["PYTHONFAULTHANDLER"] = "1"
    env["TURBOAPI_DOCS_ASSETS"] = "cdn"  # FastAPI's tests look for its links
    return {**env, **settings}


def pytest_command(python, env, *extra):
    command = [
        python, "-m", "pytest", "-p", "conformance_plugin", "-p", "no:cacheprovider",
        "-p", "no:randomly", "--continue-on-collection-errors", "-q", "--no-header",
        "--tb=short", "-o", "faulthandler_timeout=0", *extra]
    if importable(python, "inline_snapshot", env):
        command.append("--inline-snapshot=disable")
    return command


def importable(python, name, env):
    return subprocess.run(
        [python, "-c", f"import importlib.util as u, sys; sys.exit(not u.find_spec({name!r}))"],
        env=env,
    ).returncode == 0


def file_of(path):
    return path.split("::")[0]


class Batch:
    """Runs one list of files, starting pytest anew behind a test that kills it."""

    def __init__(self, command, work, env, folder, name, files, stall=60):
        self.command, self.work, self.env, self.files = command, work, env, files
        self.stall = stall
        self.report = folder / f"{name}.jsonl"
        self.log = folder / f"{name}.log"
        self.rows, self.notes = [], []

    def once(self, files, done, until):
        """One pytest process; returns its rows, its status, and why it was killed."""
        env = dict(self.env, CONFORMANCE_REPORT=str(self.report))
        if done:
            listing = self.report.with_suffix(".done")
            listing.write_text("\n".join(sorted(done)), encoding="utf-8")
            env["CONFORMANCE_DONE"] = str(listing)
        self.report.unlink(missing_ok=True)
        self.report.touch()
        command = [*self.command, *files]
        killed = ""
        with open(self.log, "a", encoding="utf-8") as out:
            child = subprocess.Popen(command, cwd=self.work, env=env, stdout=out,
                                     stderr=subprocess.STDOUT, start_new_session=True)
            size, moved = 0, time.time()
            while child.poll() is None:
                try:
                    child.wait(0.2)
                except subprocess.TimeoutExpired:
                    pass
                now, grown = time.time(), self.report.stat().st_size
                if grown != size:
                    size, moved = grown, now
                if now > until:
                    killed = "the run's time limit"
                elif now - moved > self.stall:
                    killed = f"no progress for {self.stall:.0f} s"
                if killed:
                    break
            try:
                os.killpg(child.pid, signal.SIGKILL)  # and what its tests left behind
            except ProcessLookupError:
                pass
            status = child.wait()
        rows = []
        for line in self.report.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                pass
        return rows, status, killed

    def run(self, until):
        files, done = list(self.files), set()
        while files and time.time() < until:
            rows, status, killed = self.once(files, done, until)
            self.rows += [r for r in rows if r["kind"] in ("test", "collect")]
            if any(r["kind"] == "end" and r["exit"] != 3 for r in rows):  # 3: an internal error
                if status not in (0, 1, 2, 5):
                    self.notes.append(f"pytest left with status {status}, see {self.log}")
                return
            if killed == "the run's time limit":
                return
            why = killed or (f"signal {-status}" if status < 0 else f"exit status {status}")
            done |= {r["id"] for r in rows if r["kind"] == "test"}
            last = next((r for r in reversed(rows) if r["kind"] in
                         ("start", "test", "collecting", "collected")), None)
            if last is None:
                self.notes.append(f"pytest did not start ({why}), see {self.log}")
                return
            if last["kind"] == "collecting":
                self.rows.append({"kind": "collect", "id": last["id"],
                                  "message": f"CRASH while collected: {why}"})
                files = [f for f in files if file_of(f) != last["id"]]
                continue
            if last["kind"] in ("start", "test"):  # "test": between two tests
                if last["kind"] == "start":
                    self.rows.append({"kind": "test", "id": last["id"], "outcome": "crashed",
                                      "message": f"CRASH: {why}", "text": ""})
                    done.add(last["id"])
                here = [file_of(f) for f in files].index(file_of(last["id"]))
                files = files[here:]
            else:
                self.notes.append(f"pytest died before the first test ({why}), see {self.log}")
                return


def run_batches(batches, processes, limit):
    """Runs them, `processes` at a time, for at most `limit` seconds; gives the notes."""
    until = time.time() + limit
    with concurrent.futures.ThreadPoolExecutor(processes) as pool:
        for done in [pool.submit(batch.run, until) for batch in batches]:
            done.result()
    notes = [note for batch in batches for note in batch.notes]
    if time.time() >= until:
        notes.append(f"the run was stopped after {limit:.0f} s; "
                     "what had not run counts as missing")
    return notes


def sort_rows(rows):
    tests = {r["id"]: r for r in rows if r["kind"] == "test"}
    collect = {r["id"]: r for r in rows if r["kind"] == "collect"}
    return tests, collect


# ------------------------------------------------------------------ other versions of Python

# Tests that FastAPI itself leaves out from a version of Python on, by the beginning of their names.
LEFT_OUT = {"tests/test_pydantic_v1_error.py::": (3, 14)}


def is_left_out(test):
    """Whether FastAPI's suite has no such test on this Python."""
    return any(test.startswith(name) and sys.version_info >= version
               for name, version in LEFT_OUT.items())


def known_names(tests, baseline):
    """`tests` by the names that `baseline` has for them.

    A parameter is named after its value, and what has a name differs: from Python 3.14 on, a union
    has. The same number of cases of a function, in the order of their names, are the same cases.
    """
    def by_function(names):
        found = collections.defaultdict(list)
        for name in sorted(names):
            found[name.partition("[")[0]].append(name)
        return found

    here = by_function(test for test in tests if test not in baseline)
    there = by_function(test for test in baseline if test not in tests)
    renamed = {}
    for function, names in here.items():
        if len(names) == len(there[function]):
            renamed.update(zip(names, there[function], strict=True))
    return {renamed.get(test, test): row for test, row in tests.items()}


# ------------------------------------------------------------------ the ratchet


def read_listing(listing):
    return listing.read_text(encoding="utf-8").split("\n")[:-1] if listing.exists() else []


def ratchet(listing, outcomes, update, known=None):
    """Compares {test: outcome} with the tests that passed before (`known`: those of `listing`),
    or writes the listing anew; gives the exit code."""
    passed = sorted(test for test, outcome in outcomes.items() if outcome == "passed")
    if update:
        listing.write_text("".join(test + "\n" for test in passed), encoding="utf-8")
        print(f"ratchet: {listing.name} now lists {len(passed)} of {len(outcomes)} tests")
        return 0
    known = read_listing(listing) if known is None else known
    lost = [test for test in known if outcomes.get(test) != "passed"]
    gained = len(set(passed) - set(known))
    for test in lost:
        print(f"ratchet: {outcomes.get(test, 'missing')}: {test}")
    if gained:
        print(f"ratchet: {gained} tests pass that {listing.name} does not list; run with --update")
    print(f"{len(passed)} passed, {len(outcomes) - len(passed)} failed, "
          f"{len(lost)} of the ratchet lost")
    return 1 if lost or not known else 0
