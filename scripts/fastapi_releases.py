#!/usr/bin/env python3
"""Writes python/turboapi/_fastapi_bridge/_releases.py: the fingerprints of FastAPI's releases.

    scripts/fastapi_releases.py                # all releases from 0.133.0
    scripts/fastapi_releases.py --check        # exit code 1 if a release is not in the table

Each release's wheel comes from the package index that pip is set up for; wheels are kept in
--cache. 0.133.0 is the first release that allows Starlette 1. A release that is new has to pass
scripts/test_fastapi_versions.py before its fingerprints are committed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIRST = (0, 133, 0)
LINE = 100
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
HEAD = '''"""The fingerprints of FastAPI's releases, as scripts/fastapi_releases.py writes them."""

# By group, the fingerprint of each form, and the first release that has it.
FORMS: dict[str, dict[str, str]] = {
'''


def releases() -> list[str]:
    """The releases that pip can find, from the first one on."""
    from turboapi._fastapi_bridge._fingerprints import version_key

    shown = subprocess.run(
        [*PIP, "index", "versions", "fastapi"], check=True, capture_output=True, text=True
    ).stdout
    listed = next(line for line in shown.splitlines() if line.startswith("Available versions:"))
    names = [name.strip() for name in listed.partition(":")[2].split(",")]
    return sorted((name for name in names if version_key(name) >= FIRST), key=version_key)


def wheel(release: str, cache: Path) -> Path:
    """The wheel of a release, downloaded if it is not there yet."""
    path = cache / f"fastapi-{release}-py3-none-any.whl"
    if not path.exists():
        subprocess.run(
            [*PIP, "download", "--quiet", "--no-deps", "--dest", str(cache), f"fastapi=={release}"],
            check=True,
        )
    return path


def sources_of(path: Path) -> dict[str, str]:
    """The source of each module that has a function of a group."""
    from turboapi._fastapi_bridge._fingerprints import MODULES

    with zipfile.ZipFile(path) as archive:
        files = set(archive.namelist())
        found = {name: f"{name.replace('.', '/')}.py" for name in MODULES}
        return {
            # As `importlib` decodes it.
            name: archive.read(file).decode().replace("\r\n", "\n") if file in files else ""
            for name, file in found.items()
        }


def table(names: list[str], cache: Path) -> str:
    """The text of _releases.py."""
    from turboapi._fastapi_bridge._fingerprints import GROUPS, digest_of, fingerprints

    forms: dict[str, dict[str, str]] = {group: {} for group in GROUPS}
    alike: dict[str, list[str]] = {}
    forms_of: dict[str, str] = {}
    for name in names:
        sources = sources_of(wheel(name, cache))
        digest = digest_of(sources)
        alike.setdefault(digest, []).append(name)
        forms_of[digest] = " ".join(
            forms[group].setdefault(fingerprint, name)
            for group, fingerprint in fingerprints(sources).items()
        )
    text = HEAD
    for group, found in forms.items():
        text += f'    "{group}": {{\n'
        text += "".join(f'        "{hash_}": "{name}",\n' for hash_, name in found.items())
        text += "    },\n"
    text += "}\n"
    text += (
        "# By the hash of its files: the releases that have these, and the form of each group.\n"
    )
    text += "RELEASES: dict[str, tuple[str, str]] = {\n"
    for digest, alike_ones in alike.items():
        row = f'    "{digest}": ("{" ".join(alike_ones)}", "{forms_of[digest]}"),\n'
        if len(row) > LINE:
            row = f'    "{digest}": (\n        "{" ".join(alike_ones)}",\n'
            row += f'        "{forms_of[digest]}",\n    ),\n'
        text += row
    text += "}\n"
    return text


def main() -> int:
    """Write the table, or compare it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    default = (
        Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "turboapi" / "fastapi"
    )
    parser.add_argument("--cache", type=Path, default=default, help="where wheels are kept")
    parser.add_argument("--check", action="store_true", help="only tell what is not in the table")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    names = releases()
    path = ROOT / "python" / "turboapi" / "_fastapi_bridge" / "_releases.py"
    if args.check:
        from turboapi._fastapi_bridge._releases import RELEASES

        known = {name for alike, _ in RELEASES.values() for name in alike.split()}
        missing = [name for name in names if name not in known]
        print("not in the table:", ", ".join(missing) or "none")
        return bool(missing)
    path.write_text(table(names, args.cache))
    print(f"{len(names)} releases, {names[0]} to {names[-1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
