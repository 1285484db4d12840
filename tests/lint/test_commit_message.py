"""The commit-msg hook: it accepts the form that CONTRIBUTING.md asks for and names what is wrong."""

from __future__ import annotations

import subprocess
from pathlib import Path
from subprocess import CompletedProcess

import lint_kit
import pytest

SCRIPT = lint_kit.ROOT / "scripts" / "check_commit_message.py"
HOOK = lint_kit.ROOT / "scripts" / "hooks" / "commit-msg"

GOOD = "Close idle connections first\n\nA busy one may be about to answer.\n"


def check(tmp_path: Path, message: str) -> CompletedProcess[str]:
    file = tmp_path / "COMMIT_EDITMSG"
    file.write_text(message, encoding="utf-8")
    return lint_kit.run(SCRIPT.name, file)


@pytest.mark.parametrize(
    "message",
    [
        GOOD,
        f"# a comment of Git's\n\n{GOOD}\n# Changes to be committed:\n#\t{'x ' * 60}\n",
        f"{GOOD}# ------------------------ >8 ------------------------\n{'diff ' * 40}\n",
        f"{'Do this ' * 9}".strip() + f"\n\n{'why ' * 25}".rstrip() + "\n",
        "Pass the address of the process\n\nBecause.\n",
        "Need no lock for it\n\nBecause.\n",
        f"Follow the page\n\nhttps://example.org/{'x' * 200}\n",
        f"Merge branch '{'x' * 80}'\n",
        f'Revert "{"x" * 80}"\n',
        "fixup! Close idle connections first\n",
        "# nothing but comments\n",
    ],
)
def test_a_good_message_passes(tmp_path: Path, message: str) -> None:
    result = check(tmp_path, message)
    assert result.stderr == ""
    assert result.returncode == 0


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (f"Do {'x' * 70}\n\nBecause.\n", "the subject has 73 characters, the limit is 72"),
        ("Close it.\n\nBecause.\n", "must not end with a period"),
        ("close it\n\nBecause.\n", "must begin with a capital letter, not with 'close'"),
        ("Closed it\n\nBecause.\n", "a verb in the imperative, not with 'Closed'"),
        ("Closing it\n\nBecause.\n", "a verb in the imperative, not with 'Closing'"),
        ("Fixes it\n\nBecause.\n", "a verb in the imperative, not with 'Fixes'"),
        ("Close it\nBecause.\n", "the second line must be empty"),
        ("Close it\n", "the body is missing"),
        (f"Close it\n\nBecause.\n{'why ' * 25}it\n", "line 4 has 102 characters, the limit is 100"),
    ],
)
def test_a_problem_is_named(tmp_path: Path, message: str, problem: str) -> None:
    result = check(tmp_path, message)
    assert problem in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.returncode == 1


def git(folder: Path, *args: str) -> CompletedProcess[str]:
    return subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *args],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_git_runs_the_hook(tmp_path: Path) -> None:
    scripts = tmp_path / "scripts"
    (scripts / "hooks").mkdir(parents=True)
    (scripts / SCRIPT.name).write_bytes(SCRIPT.read_bytes())
    (scripts / "hooks" / HOOK.name).write_bytes(HOOK.read_bytes())
    (scripts / "hooks" / HOOK.name).chmod(HOOK.stat().st_mode)
    assert git(tmp_path, "init", "--quiet").returncode == 0
    assert git(tmp_path, "config", "core.hooksPath", "scripts/hooks").returncode == 0
    refused = git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "Closed it")
    assert refused.returncode != 0
    assert "commit message: " in refused.stderr
    accepted = git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", GOOD)
    assert accepted.returncode == 0
