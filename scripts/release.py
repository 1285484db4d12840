"""Make a release: the version in all files, the changelog's section, a commit and a tag.

    python scripts/release.py 0.2.0

Nothing is published: the tag, once pushed, starts .github/workflows/wheels.yml. `make wheel` and
`make try-wheel` try beforehand what it builds.
"""

import argparse
import datetime
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHANGELOG = "CHANGELOG.md"
# Where the version is written: the file, and what is before and after it.
PLACES = (
    ("pyproject.toml", '^version = "', '"'),
    ("meson.build", "^  version: '", "'"),
    ("python/turboapi/_version.py", '^__version__ = "', '"'),
)
HEADING = "## Unreleased\n"


class ReleaseError(Exception):
    """It cannot be released so."""


def numbers(version: str) -> tuple[int, ...]:
    """Return the version's three numbers."""
    found = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", version)
    if found is None:
        raise ReleaseError(f"{version} is not a version such as 1.2.3")
    return tuple(int(number) for number in found.groups())


def with_version(text: str, version: str, before: str, after: str) -> str:
    """Return a file's text with the version in its place, which must get newer."""
    found = re.search(f"{before}([^{after}]+)(?={after})", text, re.MULTILINE)
    if found is None:
        raise ReleaseError(f"there is no version after {before}")
    if numbers(version) <= numbers(found[1]):
        raise ReleaseError(f"{version} is not newer than {found[1]}")
    return text[: found.start(1)] + version + text[found.end(1) :]


def with_section(text: str, version: str, day: datetime.date) -> str:
    """Return the changelog with what was unreleased as the section of the version."""
    if HEADING not in text:
        raise ReleaseError(f"{CHANGELOG} has no section {HEADING.strip()!r}")
    before, after = text.split(HEADING, 1)
    if not re.match(r"\s*- ", after):
        raise ReleaseError(f"{CHANGELOG} has nothing under {HEADING.strip()!r}")
    return f"{before}{HEADING}\n## {version} ({day.isoformat()})\n{after.lstrip()}"


def git(root: Path, *arguments: str) -> str:
    """Run git in the repository; return what it says."""
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def release(root: Path, version: str, day: datetime.date) -> None:
    """Write, commit and tag it.

    Raises:
        ReleaseError: it cannot be released so; nothing is changed.
    """
    if git(root, "status", "--porcelain"):
        raise ReleaseError("there are changes that are not committed")
    if git(root, "tag", "--list", f"v{version}"):
        raise ReleaseError(f"there is a tag v{version} already")
    written = {
        root / name: with_version((root / name).read_text(), version, before, after)
        for name, before, after in PLACES
    }
    written[root / CHANGELOG] = with_section((root / CHANGELOG).read_text(), version, day)
    for path, text in written.items():
        path.write_text(text)
    git(root, "commit", "--quiet", "--message", f"Release {version}", *map(str, written))
    git(root, "tag", "--annotate", f"v{version}", "--message", f"TurboAPI {version}")


def main() -> None:
    """Make the release that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("version")
    version = parser.parse_args().version
    try:
        release(ROOT, version, datetime.datetime.now(datetime.UTC).date())
    except ReleaseError as error:
        sys.exit(f"release: {error}")
    print(f"made the tag v{version}; git push --follow-tags publishes it")


if __name__ == "__main__":
    main()
