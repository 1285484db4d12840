"""Help that can be read on a narrow terminal."""

from __future__ import annotations

import re
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text
from typer.core import TyperCommand

# What typer's tables need: below it they cut options, and leave little room for what these do.
_WIDE = 120
_TWICE = re.compile(r"\[(\[\w+\](?:\.\.\.)?)\](?:\.\.\.)?")


class Command(TyperCommand):
    """A command whose help has an option a line, and what it does below, where there is no room."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what the usage has, with one pair of brackets where some releases have two."""
        return [_TWICE.sub(r"\1", piece) for piece in super().collect_usage_pieces(ctx)]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help: typer's where it fits."""
        console = Console(highlight=False)
        if console.width >= _WIDE:
            super().format_help(ctx, formatter)
            return
        usage = " ".join([ctx.command_path, *self.collect_usage_pieces(ctx)])
        console.print(Text(f"Usage: {usage}\n", "bold"))
        paragraphs = (self.help or "").split("\n\n")
        for paragraph in paragraphs:
            console.print(Text(" ".join(paragraph.split()) + "\n"))
        panels: dict[str, list[Any]] = {}
        for each in self.get_params(ctx):
            if not getattr(each, "hidden", False):
                panels.setdefault(getattr(each, "rich_help_panel", None) or "", []).append(each)
        for panel, options in panels.items():
            if panel:
                console.print(Text(f"\n{panel}", "bold"))
            for one in options:
                _write(console, one)


def _write(console: Console, one: Any) -> None:
    if one.param_type_name == "argument":
        head = one.metavar or one.name
    else:
        shortest_first = sorted(one.opts, key=lambda name: name.startswith("--"))
        head = " ".join([", ".join([*shortest_first, *one.secondary_opts]), one.metavar or ""])
    console.print(Padding(Text(head.rstrip(), "cyan"), (0, 0, 0, 2), expand=False))
    if one.help:
        console.print(Padding(Text.from_markup(one.help), (0, 0, 0, 6), expand=False))
