"""The command line: `turboapi run`, `turboapi dev`, `turboapi version`."""


def main() -> None:
    """Runs the command line; ends the process."""
    from turboapi.cli._commands import app

    app(prog_name="turboapi")


__all__ = ["main"]
