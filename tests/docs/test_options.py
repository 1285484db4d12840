"""docs/options.toml: complete for the servers that are installed, and true of ours."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import patience
import pytest
from test_deploy import options

from turboapi.config import settings

SERVERS = tomllib.loads((Path(__file__).parents[2] / "docs/options.toml").read_text())
# Of fastapi-cli: it is the FastAPI package that starts it.
COMMANDS = {"uvicorn": ["-m", "uvicorn"], "granian": ["-m", "granian"]}
NOT_SETTINGS = {"help", "install-completion", "show-completion"}


@pytest.mark.parametrize("name", SERVERS)
def test_what_we_name_exists(name):
    for option, ours in SERVERS[name]["options"].items():
        match ours:
            case {"instead": text} | {"no": text}:
                named = re.findall(r"`(--[a-z0-9-]+)", text)
            case _:
                named = [ours]
        for each in named:
            assert each in options() or each == "APPLICATION:ATTRIBUTE", f"{option}: {each}"


@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_of_theirs_is_left_out(name):
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    if version != SERVERS[name]["version"]:
        pytest.skip(f"the table is for another version than {version}")
    done = subprocess.run(
        [sys.executable, *COMMANDS[name], "--help"],
        env={"COLUMNS": "200", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=patience.seconds(30),
        check=True,
    )
    theirs = re.findall(r"^ +(?:-\w, )?--([a-z0-9-]+)", done.stdout, re.M)
    listed = SERVERS[name]["options"]
    assert {option for option in theirs if option not in listed} <= NOT_SETTINGS
    assert len(theirs) > 30


def test_every_variable_that_is_no_option_is_on_the_page_of_settings():
    root = Path(__file__).parents[2]
    page = (root / "scripts/site/pages.py").read_text(encoding="utf-8")
    listed = set(re.findall(r'^    "(TURBOAPI_[A-Z_]+)": ', page, re.M))
    named = set[str]()
    for path in (root / "python/turboapi").rglob("*.py"):
        named |= set(re.findall(r"\bTURBOAPI_[A-Z][A-Z_]*", path.read_text(encoding="utf-8")))
    named |= {
        f"TURBOAPI_{name.upper()}" for name, one in settings().items() if not one.command_line
    }
    options = {f"TURBOAPI_{name.upper()}" for name, one in settings().items() if one.command_line}
    internal = {f"TURBOAPI_{n}" for n in ("METRICS_FD", "METRICS_LISTEN_FD", "READY_FD", "UPGRADE")}
    assert named - options - internal == listed
