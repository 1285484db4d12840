"""What the distribution is called and brings, and what is said where another project's files are."""

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
