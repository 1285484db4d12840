"""SECURITY.md: each vulnerability that it lists has a test, and each test that it names exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
# The list of what others had: an entry begins with "- **CVE-".
ENTRIES = re.findall(r"(?ms)^- \*\*(CVE-[^*]*)\*\*(.*?)(?=^- |^#|\Z)", TEXT)


def missing(name: str) -> str | None:
    """Return what is wrong with the name of a test, or of a script."""
    path, _, function = name.partition("::")
    file = ROOT / path
    if not file.is_file():
        return f"there is no file {path}"
    if function and not re.search(rf"^def {function}\(", file.read_text("utf-8"), re.MULTILINE):
        return f"{path} has no {function}"
    return None


def test_there_is_a_list():
    assert len(ENTRIES) > 40


@pytest.mark.parametrize(("identifiers", "text"), ENTRIES, ids=[entry[0] for entry in ENTRIES])
def test_each_vulnerability_has_a_test(identifiers, text):
    for identifier in identifiers.replace(" to ", ", ").split(", "):
        assert re.fullmatch(r"CVE-20\d\d-\d{4,}", identifier)
    names = re.findall(r"`((?:tests|scripts)/[^`]+)`", text)
    assert names, "it names no test"
    assert [problem for name in names if (problem := missing(name))] == []


def test_none_is_listed_twice():
    found = [each for entry in ENTRIES for each in re.findall(r"CVE-[\d-]+", entry[0])]
    assert len(found) == len(set(found))


def test_tests_of_http2_exist():
    kit = "tests/integration/test_http2_limits.py::"
    part = TEXT.partition("\n## HTTP/2\n")[2].partition("\n## ")[0]
    names = re.findall(r"`(test_\w+)`", part)
    assert len(names) > 10
    assert [problem for name in names if (problem := missing(kit + name))] == []
