"""Reads the code blocks of a Markdown page.

A block is run unless the line before it is a comment that says why not:

    <!-- not run: needs a cluster -->
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

_FENCE = re.compile(r"(?P<indent> *)(?P<ticks>```+)(?P<language>[\w-]*) *(?P<options>.*)")
_TITLE = re.compile(r'title="([^"]+)"')
_NOT_RUN = re.compile(r"\s*<!-- not run: (\S.*) -->")


@dataclass
class Block:
    """One fenced block: its language, file name if it has one, lines, and why it is not run."""

    line: int
    language: str
    title: str | None
    not_run: str | None
    lines: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Return the lines as one text."""
        return "".join(line + "\n" for line in self.lines)


@dataclass(frozen=True)
class Command:
    """A line after `$ ` in a console block, and what the page says it prints."""

    line: int
    text: str
    output: list[str]


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page in their order.

    Raises:
        ValueError: a block does not end.
    """
    found: list[Block] = []
    block: Block | None = None
    end = indent = ""
    before = ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if block is not None:
            if line.strip() == end:
                found.append(block)
                block = None
            else:
                block.lines.append(line.removeprefix(indent))
        elif match := _FENCE.fullmatch(line):
            reason, title = _NOT_RUN.fullmatch(before), _TITLE.search(match["options"])
            block = Block(
                number,
                match["language"],
                title and title[1],
                reason and reason[1],
            )
            indent, end = match["indent"], match["ticks"]
        if line.strip():
            before = line
    if block is not None:
        raise ValueError(f"{page}:{block.line}: the block does not end")
    return found


def commands_of(block: Block) -> list[Command]:
    """Return the commands of a console block; a backslash continues one on the next line.

    Raises:
        ValueError: the block begins with output.
    """
    found: list[Command] = []
    continued = False
    for offset, line in enumerate(block.lines, 1):
        if continued:
            last = found[-1]
            found[-1] = Command(last.line, f"{last.text}\n{line}", last.output)
        elif line.startswith("$ "):
            found.append(Command(block.line + offset, line[2:], []))
        elif found:
            found[-1].output.append(line)
            continue
        else:
            raise ValueError(f"line {block.line + offset}: output without a command")
        continued = line.endswith("\\")
    return found


def matches(expected: list[str], printed: str) -> bool:
    """Tell whether a command printed what the page says; `...` stands for any text."""
    pattern = "\n".join(
        ".*?".join(re.escape(part) for part in line.rstrip().split("...")) for line in expected
    )
    text = "\n".join(line.rstrip() for line in printed.strip().splitlines())
    return re.fullmatch(pattern.strip("\n"), text, re.DOTALL) is not None
