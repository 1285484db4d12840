"""The file that names the process to signal (`--pid-file`)."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from turboapi._serving.process import is_running
from turboapi._serving.settings import ConfigError

if TYPE_CHECKING:
    from turboapi.config import Config


def check(config: Config) -> None:
    """Raise ConfigError when the file names another server that runs, or has no folder."""
    if config.pid_file is None:
        return
    path = Path(config.pid_file)
    if not path.absolute().parent.is_dir():
        raise ConfigError("pid_file", f"there is no folder {path.absolute().parent}")
    pid = _read(path)
    if pid not in (None, os.getpid(), os.getppid()) and is_running(pid):
        raise ConfigError("pid_file", f"{path} names process {pid}, which runs")


def write(config: Config) -> None:
    """Write our process id.

    Raises:
        ConfigError: it can't be written.
    """
    if config.pid_file is None:
        return
    path = Path(config.pid_file)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        # Whoever reads it finds all of it, or the one before.
        part.write_text(f"{os.getpid()}\n")
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise ConfigError("pid_file", f"can't write {path}: {error.strerror}") from None


def remove(config: Config) -> None:
    """Remove the file, if it names us: a successor may have written its own."""
    if config.pid_file is not None and _read(Path(config.pid_file)) == os.getpid():
        with suppress(OSError):
            Path(config.pid_file).unlink()


def _read(path: Path) -> int | None:
    with suppress(OSError, ValueError):
        return int(path.read_text())
    return None
