"""`Formatter` under the name that logging configurations use (docs/cli.md, "Logs")."""

from turboapi._serving.log import Formatter

__all__ = ["Formatter"]
