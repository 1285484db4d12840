"""`--static-path`: folders that the server serves itself, in front of any application."""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turboapi._serving.settings import ConfigError

if TYPE_CHECKING:
    from turboapi.config import Config

_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+;:@-]+")


def parse(text: str) -> tuple[str, str]:
    """Return prefix and folder of `PREFIX=DIR`.

    Raises:
        ValueError: it is something else.
    """
    prefix, equals, folder = text.partition("=")
    if not equals or not folder:
        raise ValueError(f"must be PREFIX=DIR, such as /static=public, got {text!r}")
    segments = prefix.removesuffix("/").split("/")
    if segments == [""]:
        raise ValueError(f"{prefix or text!r}: all paths would be hidden from the application")
    if segments[0] or not all(
        _SEGMENT.fullmatch(each) and each not in (".", "..") for each in segments[1:]
    ):
        raise ValueError(f"must have a prefix such as /static or /assets/img, got {prefix!r}")
    return "/".join(segments), folder


def read(config: Config) -> dict[str, str]:
    """Return the folders by prefix, longer prefixes first.

    Raises:
        ConfigError: two have the same prefix.
    """
    found: dict[str, str] = {}
    for prefix, folder in map(parse, config.static_path):
        if prefix in found:
            raise ConfigError("static_path", f"{prefix} is given twice")
        found[prefix] = folder
    return dict(sorted(found.items(), key=lambda each: -len(each[0])))


def check(config: Config) -> None:
    """Look whether the folders are there.

    Raises:
        ConfigError: one is not, or can't be read.
    """
    for prefix, folder in read(config).items():
        if not Path(folder).is_dir():
            raise ConfigError("static_path", f"there is no folder {folder} (for {prefix})")
        if not os.access(folder, os.R_OK | os.X_OK):
            raise ConfigError("static_path", f"the folder {folder} (for {prefix}) can't be read")


def front(config: Config) -> tuple[Any, tuple[str, ...]] | None:
    """Return what `_core.Server` has in front of the application; None: nothing."""
    if not config.static_path:
        return None
    from turboapi._compile.native_app import native_app  # lazy: only with such folders
    from turboapi.staticfiles import PrecompressedStaticFiles, StaticFiles  # lazy: the same

    kind = PrecompressedStaticFiles if config.static_precompressed else StaticFiles
    # By name, since applications import the server, to run themselves.
    app = import_module("turboapi.applications").FastAPI(openapi_url=None)
    folders = read(config)
    for prefix, folder in folders.items():
        app.mount(prefix, kind(directory=folder, html=config.static_html, check_dir=False))
    return native_app(app), tuple(folders)
