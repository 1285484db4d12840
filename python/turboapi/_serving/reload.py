"""One worker that is started anew when a source file changes: for development.

The worker shares the terminal, so that a debugger works in it.
"""

from __future__ import annotations

import fnmatch
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from turboapi._serving import importer, pid_file, process, sockets
from turboapi._serving.log import supervisor_logger as log
from turboapi._serving.settings import ConfigError
from turboapi._serving.signals import ONE_STOP, Signals
from turboapi._serving.worker_process import Process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turboapi.config import Config

# Seconds between two looks at a worker that is to end.
_STEP = 0.1

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class Filter:
    """Decides by name which files and folders count."""

    def __init__(self, include: tuple[str, ...], exclude: tuple[str, ...]) -> None:
        self._include = include
        self._exclude = exclude

    def enters(self, folder: str) -> bool:
        """Return whether a folder of this name is looked into."""
        return not _matches(folder, self._exclude)

    def wants(self, path: Path, root: Path) -> bool:
        """Return whether this file, somewhere below `root`, counts."""
        if not _matches(path.name, self._include) or _matches(path.name, self._exclude):
            return False
        return all(self.enters(part) for part in path.relative_to(root).parts[:-1])


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


class Watcher(Protocol):
    """Finds out which files changed."""

    def changes(self) -> set[Path]:
        """Return what changed since the last call; does not wait."""
        ...

    def close(self) -> None:
        """Stop watching."""


class StatWatcher:
    """Compares the time and size of every file: works everywhere, costs a walk each time."""

    def __init__(self, roots: list[Path], wanted: Filter) -> None:
        self._roots = roots
        self._wanted = wanted
        self._known = dict(self._look())

    def _look(self) -> Iterator[tuple[Path, tuple[int, int]]]:
        for root in self._roots:
            for folder, folders, files in os.walk(root):
                folders[:] = [name for name in folders if self._wanted.enters(name)]
                for name in files:
                    path = Path(folder, name)
                    if not self._wanted.wants(path, root):
                        continue
                    try:
                        status = path.stat()
                    except OSError:
                        continue
                    yield path, (status.st_mtime_ns, status.st_size)

    def changes(self) -> set[Path]:
        """Walk the folders again."""
        found = dict(self._look())
        changed = {path for path, _ in found.items() ^ self._known.items()}
        self._known = found
        return changed

    def close(self) -> None:
        """There is nothing to free."""


class NotifyWatcher:
    """Has the system report changes, through `watchfiles`."""

    def __init__(self, roots: list[Path], wanted: Filter) -> None:
        from watchfiles import watch

        self._roots = roots
        self._wanted = wanted
        # Each step takes 1 ms: what was reported before is there at once.
        self._steps = watch(
            *roots,
            watch_filter=self._counts,
            debounce=1,
            step=1,
            rust_timeout=1,
            yield_on_timeout=True,
            raise_interrupt=False,
            ignore_permission_denied=True,
        )
        # The first step starts the watching.
        next(self._steps)

    def _counts(self, change: object, name: str) -> bool:
        path = Path(name)
        return any(
            path.is_relative_to(root) and self._wanted.wants(path, root) for root in self._roots
        )

    def changes(self) -> set[Path]:
        """Take what was reported."""
        return {Path(name) for _, name in next(self._steps, ())}

    def close(self) -> None:
        """Stop the watching thread."""
        self._steps.close()


def make_watcher(config: Config) -> Watcher:
    """Return the best watcher there is for the folders of a configuration."""
    roots = watched_folders(config)
    wanted = Filter(config.reload_include, config.reload_exclude)
    log.info("Watching %s for changes", ", ".join(map(str, roots)))
    try:
        return NotifyWatcher(roots, wanted)
    except (ImportError, TypeError, OSError, RuntimeError):
        # Not installed, of another version, or the system has no watches left.
        return StatWatcher(roots, wanted)


def watched_folders(config: Config) -> list[Path]:
    """Return the folders to watch, without those inside of others."""
    if config.reload_dir:
        folders = [Path(name) for name in config.reload_dir]
        for folder in folders:
            if not folder.is_dir():
                raise ConfigError("reload_dir", f"there is no folder {folder}")
    else:
        folders = [Path.cwd(), importer.locate(config.app, config.app_dir).folder]
    resolved = sorted({folder.resolve() for folder in folders})
    return [
        folder
        for folder in resolved
        if not any(folder != other and folder.is_relative_to(other) for other in resolved)
    ]


class Reloader:
    """Runs the worker, and again after each change; `run()` returns when told to stop."""

    def __init__(self, config: Config) -> None:
        """Bind the address.

        Raises:
            BindError: can't listen there.
        """
        process.look_for_terminal()
        # Whoever looks at one's own code with a debugger stops the loop.
        self._config = config.replace(timeout_worker=0)
        self._sockets = sockets.bind_all(config)
        self.address = sockets.describe_all(self._sockets, config.scheme())
        self._exit_code = 0

    def run(self) -> int:
        """Serve until told to stop and return the exit code: that of a worker which ends then."""
        watcher = make_watcher(self._config)
        process.set_name(self._config, "reloader")
        try:
            pid_file.write(self._config)
            with Signals(_SIGNALS) as signals:
                log.info("Listening on %s, reloading on changes", self.address)
                self._run(signals, watcher)
        finally:
            watcher.close()
            sockets.close(self._sockets)
            sockets.remove_files(self._config)
        return self._exit_code

    def _run(self, signals: Signals, watcher: Watcher) -> None:
        worker = self._start()
        told_of_end = False
        while True:
            for number in signals.wait(self._config.reload_delay):
                gone = number is signal.SIGHUP and process.terminal_is_gone()
                if number in (signal.SIGTERM, signal.SIGINT) or gone:
                    self._stop(worker, signals, number)
                    if told_of_end:  # what it ended with was told, and does not end us
                        self._exit_code = process.code_of_stop(number)
                    return
                if number is signal.SIGHUP:
                    log.info("SIGHUP: starting anew")
                    if not self._end(worker, signals):
                        return
                    worker, told_of_end = self._start(), False
            if worker.exit_code is not None and not told_of_end:
                log.warning("The server %s; it starts again on a change", worker.how_it_ended())
                told_of_end = True
            if changed := watcher.changes():
                # Editors write several files, or one in several steps: let them finish.
                while more := self._settle(signals, watcher):
                    changed |= more
                log.info("Changed: %s; starting anew", ", ".join(sorted(map(_short, changed))))
                if not self._end(worker, signals):
                    return
                worker, told_of_end = self._start(), False

    def _settle(self, signals: Signals, watcher: Watcher) -> set[Path]:
        signals.pause(0.05)
        return watcher.changes()

    def _start(self) -> Process:
        return Process.start(self._config, self._sockets, own_group=False)

    def _end(self, worker: Process, signals: Signals) -> bool:
        """End the old worker, at once if it takes its time; False: we were told to stop."""
        worker.read_news()
        if worker.ready:
            self._config = self._config.replace(announce=False)  # it was told
        worker.send(signal.SIGTERM)
        grace = self._config.timeout_graceful_shutdown
        limits = [grace, grace + 2] if grace else []
        waited = 0.0
        while not worker.wait(_STEP):
            for number in signals.wait(0):
                if number in (signal.SIGTERM, signal.SIGINT) or (
                    number is signal.SIGHUP and process.terminal_is_gone()
                ):
                    self._stop(worker, signals, number, ends=True)
                    return False
            waited += _STEP
            if limits and waited >= limits[0]:
                del limits[0]
                worker.send(signal.SIGTERM if limits else signal.SIGKILL)
        worker.close()
        return True

    def _stop(
        self, worker: Process, signals: Signals, number: signal.Signals, *, ends: bool = False
    ) -> None:
        """Stop the worker, which may have been told to end, and wait for that."""
        log.info("%s: stopping", number.name)
        worker.read_news()
        starts = worker.exit_code is None and not worker.ready
        # Ctrl+C goes to all processes of the terminal's foreground: the worker knows already.
        told = number is signal.SIGINT and _in_foreground()
        if not told and not ends:
            worker.send(signal.SIGTERM)
        grace = self._config.timeout_graceful_shutdown
        waited = 0.0  # not counted: the time in which we were stopped ourselves (Ctrl+Z)
        one_stop_until = time.monotonic() + 2 * ONE_STOP
        while not worker.wait(_STEP):
            waited += _STEP
            again = [n for n in signals.wait(0) if n in (signal.SIGTERM, signal.SIGINT)]
            late = time.monotonic() > one_stop_until
            if again and late and not (again == [signal.SIGINT] and told):
                worker.send(signal.SIGTERM)
            if grace and waited > grace + 5:
                worker.send(signal.SIGKILL)
        self._exit_code = process.code_of_stop(number) if starts else max(worker.exit_code or 0, 0)
        worker.close()


def _in_foreground() -> bool:
    try:
        return os.isatty(sys.stdin.fileno()) and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
