"""Each code block of the documentation is run; its commands print what the page says."""

from pathlib import Path

import pytest
from blocks import blocks_of

DOCS = Path(__file__).parents[2] / "docs"
# Pages of older form, whose code is indented: they have no fenced blocks.
PAGES = sorted(page for page in DOCS.rglob("*.md") if "```" in page.read_text(encoding="utf-8"))
LANGUAGES = {"console", "python", "yaml", "toml", "ini", "json", "text", "html", "dockerfile"}
LANGUAGES |= {"nginx", "caddy", "mermaid", "sql", "jinja", "bash"}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(DOCS)) for page in PAGES])
def test_the_page_is_true(page, reader):
    for block in blocks_of(page):
        assert block.language in LANGUAGES, f"line {block.line}: say the language"
        if block.not_run is None:
            reader.do(block)


def test_the_tutorial_is_run_whole():
    """Nothing but installing is left out of it."""
    for page in (DOCS / "tutorial").glob("*.md"):
        for block in blocks_of(page):
            assert block.not_run in (None, "installs packages"), f"{page}:{block.line}"
