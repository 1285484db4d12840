"""What the distribution is called and brings, and what is said where another project's files are."""

import datetime
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import patience
import pytest

import turboapi

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
SOURCE = ROOT / "python/turboapi"

# What the extras of FastAPI 0.165.0 bring, those of uvicorn[standard] among them.
STANDARD = {
    "email-validator", "httpx", "httpx2", "jinja2", "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry-sdk", "pydantic-extra-types", "pydantic-settings", "python-multipart",
    "python-dotenv", "pyyaml", "uvloop", "watchfiles", "websockets",
}  # fmt: skip
EXTRAS = {
    "opentelemetry": {"opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"},
    "standard": STANDARD,
    "standard-no-fastapi-cloud-cli": STANDARD,
    "all": STANDARD | {"itsdangerous", "pyyaml"},
}


def brought(requirements):
    names = set()
    for requirement in requirements:
        name, extras = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?", requirement).groups()
        if name == PROJECT["name"]:
            for extra in extras.split(","):
                names |= brought(PROJECT["optional-dependencies"][extra])
        else:
            names.add(name.lower())
    return names


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_extras_bring_what_fastapis_do(extra):
    always = brought(PROJECT["dependencies"])
    found = brought(PROJECT["optional-dependencies"][extra])
    assert EXTRAS[extra] <= found | always
    ours = brought(PROJECT["optional-dependencies"]["https"]) if extra == "all" else set()
    assert found - ours <= EXTRAS[extra]


def test_the_version_is_one():
    meson = re.search(r"^  version: '(.+)',", (ROOT / "meson.build").read_text(), re.M)
    assert PROJECT["version"] == turboapi.__version__ == meson.group(1)
    assert (PROJECT["name"], PROJECT["scripts"]) == (
        "turboapi-c",
        {"turboapi": "turboapi.cli:main"},
    )


# -- The other project's files among ours


def python(folder, code):
    """Run code with nothing but the standard library and a folder."""
    return subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {str(folder)!r}); {code}",
        ],
        capture_output=True,
        text=True,
        timeout=patience.seconds(30),
    )


@pytest.fixture
def package(tmp_path):
    package = tmp_path / "turboapi"
    (package / "cli").mkdir(parents=True)
    for name in ("__init__.py", "_version.py", "_other_project.py", "cli/__init__.py"):
        shutil.copy(SOURCE / name, package / name)
    return package


def check(done, package):
    assert done.returncode == 1
    assert done.stdout == ""
    said = done.stderr.splitlines()[-1]
    assert f"the package turboapi in {package} is not, or not only, that of TurboAPI" in said
    assert "-m pip uninstall -y turboapi turboapi-c &&" in said
    return said


def test_its_files_beside_ours_end_the_import(package):
    (package / "main_app.py").touch()
    assert check(python(package.parent, "import turboapi"), package).startswith("ImportError: ")


def test_without_its_files_the_import_goes_on(package):
    done = python(package.parent, "import turboapi")
    assert "No module named 'turboapi._serving'" in done.stderr


@pytest.mark.parametrize("left", ["__version__ = '0.5.22'\n", "", None])
def test_our_command_tells_that_the_package_is_not_ours(package, left):
    if left is None:  # theirs was uninstalled
        (package / "__init__.py").unlink()
    else:
        (package / "__init__.py").write_text(left)
    done = python(package.parent, "from turboapi.cli import main; main()")
    assert check(done, package).startswith("Error: ")
    assert done.stderr.count("\n") == 1


# -- Releases


@pytest.fixture
def release():
    spec = importlib.util.spec_from_file_location("release", ROOT / "scripts/release.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def repository(tmp_path, release):
    for name, *_ in release.PLACES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n- A change.\n")
    release.git(tmp_path, "init", "--quiet")
    for name in ("user.name", "user.email"):
        release.git(tmp_path, "config", name, "somebody")
    release.git(tmp_path, "config", "core.hooksPath", "/nonexistent")
    release.git(tmp_path, "add", ".")
    release.git(tmp_path, "commit", "--quiet", "--message", "Begin")
    return tmp_path


DAY = datetime.date(2026, 12, 1)


def test_a_release_has_its_version_everywhere_and_a_tag(release, repository):
    release.release(repository, "9.0.1", DAY)
    for name, *_ in release.PLACES:
        text = (repository / name).read_text()
        assert text.count("9.0.1") == 1
        assert text == (ROOT / name).read_text().replace(turboapi.__version__, "9.0.1", 1)
    changelog = (repository / "CHANGELOG.md").read_text()
    assert changelog == "# Changelog\n\n## Unreleased\n\n## 9.0.1 (2026-12-01)\n- A change.\n"
    assert release.git(repository, "describe") == "v9.0.1"
    assert release.git(repository, "status", "--porcelain") == ""
    with pytest.raises(release.ReleaseError, match="is a tag v9.0.1 already"):
        release.release(repository, "9.0.1", DAY)
    with pytest.raises(release.ReleaseError, match="9.0.0 is not newer than 9.0.1"):
        release.release(repository, "9.0.0", DAY)
    with pytest.raises(release.ReleaseError, match="nothing under '## Unreleased'"):
        release.release(repository, "9.0.2", DAY)


@pytest.mark.parametrize(
    ("version", "said"), [("0.1", "is not a version such as"), ("0.0.9", "is not newer than")]
)
def test_a_release_that_is_none_changes_nothing(release, repository, version, said):
    with pytest.raises(release.ReleaseError, match=said):
        release.release(repository, version, DAY)
    assert release.git(repository, "status", "--porcelain") == ""
    (repository / "CHANGELOG.md").write_text("changed")
    with pytest.raises(release.ReleaseError, match="not committed"):
        release.release(repository, "9.0.0", DAY)


# -- The C libraries in wheels


def libraries():
    lines = (ROOT / "requirements/libraries.txt").read_text().splitlines()
    return [line.split() for line in lines if line and not line.startswith("#")]


def test_the_libraries_are_pinned():
    script = (ROOT / "scripts/build_libraries.sh").read_text()
    assert {name for name, *_ in libraries()} == {
        "brotli", "nghttp2", "openssl", "wslay", "zlib", "zstd",
    }  # fmt: skip
    for name, version, sha256, address in libraries():
        assert f"build_{name}() " in script
        assert re.fullmatch("[0-9a-f]{64}", sha256)
        assert address.startswith("https://")
        assert version in address


def test_a_source_with_another_checksum_is_refused(tmp_path):
    (tmp_path / "wslay-1.1.1.tar.gz").write_bytes(b"something else")
    done = subprocess.run(
        [ROOT / "scripts/build_libraries.sh", tmp_path / "prefix", "wslay"],
        env={"PATH": os.environ["PATH"], "DOWNLOADS": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=patience.seconds(30),
    )
    assert done.returncode == 1
    assert "wslay-1.1.1.tar.gz has the SHA-256" in done.stderr
