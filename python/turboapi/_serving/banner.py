"""What is told on a terminal once the server is ready: what it serves, and where."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

from turboapi._serving import error_log, importer
from turboapi._version import __version__

if TYPE_CHECKING:
    from turboapi.config import Config

_BOLD, _RESET = "\033[1m", "\033[0m"
_ALL = re.compile(r"//(0\.0\.0\.0|\[::\])(?=:\d)")


def is_wanted(config: Config) -> bool:
    """Return whether somebody is there to read it, and wants to hear more than warnings."""
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    return config.announce or (on_terminal and config.log_level in ("info", "debug", "trace"))


def show(config: Config, app: Any, address: str) -> None:
    """Write it to stderr; `address` is where the server listens, as the log has it."""
    colours = sys.stderr.isatty() if config.use_colors is None else config.use_colors
    rows = list(_rows(config, app, address))
    width = max(len(name) for name, _ in rows)
    lines = [
        f"  {_BOLD if colours else ''}{name:{width}}{_RESET if colours else ''}  {text}"
        for name, text in rows
    ]
    error_log.write("\n" + "\n".join(lines) + "\n\n")


def _rows(config: Config, app: Any, address: str) -> list[tuple[str, str]]:
    location = importer.locate(config.app, config.app_dir)
    rows = [
        (f"TurboAPI {__version__}", f"{location} in {location.folder}"),
        ("Found as", location.found_as),
    ]
    # What can be opened on this machine.
    here = _ALL.sub("//127.0.0.1", address)
    rows.append(("Address", here if here == address else f"{here} (listening on all addresses)"))
    docs = getattr(app, "docs_url", None) if getattr(app, "openapi_url", None) else None
    first = here.split(", ")[0]
    if docs and first.startswith("http"):
        rows.append(("Documentation", first + docs))
    if config.reload:
        rows.append(("Mode", "development, reloading on changes; for production: turboapi run"))
    return [*rows, ("Ctrl+C", "to stop")]
