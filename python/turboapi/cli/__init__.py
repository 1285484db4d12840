"""The command line: `turboapi run`, `turboapi dev`, `turboapi doctor`, and more."""

import sys

import turboapi
from turboapi._other_project import check_command

check_command(__file__.rpartition("/cli/")[0], getattr(turboapi, "__version__", None))

from turboapi._serving import process  # noqa: E402


def main() -> None:
    """Run the command line; end the process."""
    process.run_to_end(_run, sys._getframe(1))


def _run() -> None:
    from turboapi.cli._commands import app  # lazy: run_to_end() is to hear of its exit

    app(prog_name="turboapi")


__all__ = ["main"]
