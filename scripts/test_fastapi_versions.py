#!/usr/bin/env python3
"""Tests that unchanged applications are served alike on many releases of FastAPI.

    scripts/test_fastapi_versions.py                 # all of them
    scripts/test_fastapi_versions.py 0.133.1 newest  # some
    scripts/test_fastapi_versions.py --quick 0.133.1 # only the tutorial application

Each release goes into an environment of its own below --cache, with the Starlette and pydantic that
belong to it, and has all else from the environment that runs this. The tutorial application is then
served by TurboAPI and by uvicorn (tests/integration/test_fastapi_tutorial.py), and every way to
declare a parameter and a result is asked of both (tests/compat/test_bridge_parity.py).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A name, and what pip installs; what is not named comes from the environment that runs this.
VERSIONS: dict[str, tuple[str, ...]] = {
    "0.133.1": ("fastapi==0.133.1", "starlette==1.0.1", "pydantic==2.9.2", "pydantic-core==2.23.4"),
    "0.136.3": ("fastapi==0.136.3", "starlette==1.3.1"),
    "0.137.2": ("fastapi==0.137.2", "starlette==1.3.1"),
    "0.140.13": ("fastapi==0.140.13",),
    "0.142.4": ("fastapi==0.142.4",),
    "0.150.0": ("fastapi==0.150.0",),
    "0.156.8": ("fastapi==0.156.8",),
    "0.162.7": ("fastapi==0.162.7",),
    "0.163.2": ("fastapi==0.163.2",),
    "0.164.0": ("fastapi==0.164.0", "starlette==1.6.0"),
    "0.165.0": ("fastapi==0.165.0", "starlette==1.6.0"),
    "newest": ("fastapi",),
}
TESTS = [
    "tests/integration/test_fastapi_tutorial.py",
    "tests/integration/test_fastapi_instrumentation.py",
    "tests/integration/test_fastapi_releases.py",
    "tests/integration/test_fastapi_bridge.py",
    "tests/integration/test_fastapi_bridge_middleware.py",
    "tests/integration/test_fastapi_bridge_routing.py",
    "tests/compat/test_bridge_parity.py",
]


def environment(name: str, cache: Path) -> Path:
    """The Python of the environment of one release, made if it is not there yet."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache / f"{python}-{name}"
    stamp = folder / "installed"
    wanted = " ".join(VERSIONS[name])
    executable = folder / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != wanted or name == "newest":
        venv.create(folder, clear=True)
        packages = folder / "lib" / f"python{python}" / "site-packages"
        beside = sysconfig.get_path("purelib")
        (packages / "beside.pth").write_text(f"import site; site.addsitedir({beside!r})\n")
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        install = ["--python", str(executable), "install", "--quiet", "--no-deps", "--upgrade"]
        subprocess.run([*pip, *install, *VERSIONS[name]], check=True)
        stamp.write_text(wanted)
    return executable


def main() -> int:
    """Test the releases named, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(VERSIONS)}")
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "turboapi" / "venvs"
    parser.add_argument("--cache", type=Path, default=default, help="where environments are kept")
    parser.add_argument("--quick", action="store_true", help="only the tutorial application")
    args = parser.parse_args()
    unknown = set(args.names) - VERSIONS.keys()
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    failed: list[str] = []
    for name in args.names or VERSIONS:
        begun = time.monotonic()
        # An old Starlette warns of a new anyio.
        command = [str(environment(name, args.cache)), "-m", "pytest", "-W", "ignore:The anyio.abc"]
        # meson and ninja, when the extension has to be built again
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        result = subprocess.run(
            [*command, *(TESTS[:1] if args.quick else TESTS)],
            cwd=ROOT,
            env={**os.environ, "PATH": path},
            check=False,
        )
        print(f"FastAPI {name}: {'FAILED' if result.returncode else 'passed'} "
              f"in {time.monotonic() - begun:.0f} s", flush=True)  # fmt: skip
        if result.returncode:
            failed.append(name)
    print(f"{len(args.names or VERSIONS) - len(failed)} passed, {len(failed)} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
