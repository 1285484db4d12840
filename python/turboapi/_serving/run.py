"""From settings to a running server: in this process, in several, or with reloading.

`run()` is what `app.run()` and the command line call.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turboapi._serving import (
    banner,
    error_log,
    importer,
    log,
    metrics,
    other_names,
    pid_file,
    process,
    retirement,
    sockets,
    static_paths,
    upgrade,
)
from turboapi._serving.worker_process import EXIT_NO_APP
from turboapi.config import Config, ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from turboapi._serving.handover import Handover

# Settings that need further processes.
_OTHER_PROCESSES = ("reload", "preload", *retirement.SETTINGS)

EXIT_NO_SOCKET = 1
EXIT_USAGE = 2


def run(app: Any, **settings: Any) -> None:
    """Serve an application until a signal ends it.

    Args:
        app: the application, or its import string (`package.module:attribute`), which several
            workers and reloading need.
        settings: those of `turboapi.config.Config`, or uvicorn's names for them (`reload_dirs`,
            `limit_max_requests`, `timeout_keep_alive`, ...); what is not given comes from the
            environment.

    Raises:
        ConfigError: a setting can't be used.
        AppError: `app` is no application.
        BindError: can't listen there.
        SystemExit: with the exit code of the server, unless it is 0.
    """
    config = settings_of(app, settings)
    if isinstance(app, str):
        code = serve_config(config)
    else:
        setting = next((n for n in _OTHER_PROCESSES if getattr(config, n)), None)
        if config.workers > 1 or setting is not None:
            setting = setting or "workers"
            raise ConfigError(
                setting,
                "needs the application as an import string, as other processes must import it: "
                "run('package.module:attribute')",
            )
        log.configure(config)
        check_loop(config)
        _warn_of_strangers(config)
        static_paths.check(config)
        app = made_of(app, config)
        config = check_tls(sockets.from_systemd(config))
        pid_file.check(config)
        try:
            with metrics.serving(config) as config, error_log.unblocked():
                code = _bind_and_serve(config, app)
        finally:
            pid_file.remove(config)
    if code:
        sys.exit(code)


def settings_of(app: Any, given: Mapping[str, Any]) -> Config:
    """Return the settings that a program gives with an application or its import string.

    Raises:
        ConfigError: one of them can't be used.
    """
    if env_file := given.get("env_file"):
        load_env_file(str(env_file))
    values = other_names.arguments(given)
    return other_names.load({**values, "app": app} if isinstance(app, str) else values)


def made_of(app: Any, config: Config) -> Any:
    """Return the application that an object is, or makes.

    Raises:
        AppError: it is none.
    """
    name = getattr(app, "__qualname__", type(app).__qualname__)
    return importer.make(app, name, factory=config.factory, interface=config.interface)


def serve_config(config: Config) -> int:
    """Serve the application that `config.app` names and return the exit code.

    Raises:
        ConfigError: a setting can't be used.
        AppError: no application is found; before anything is started.
        BindError: can't listen there.
    """
    log.configure(config)
    check_loop(config)
    _warn_of_strangers(config)
    upgrade.begin()
    for folder in config.reload_dir:
        if not Path(folder).is_dir():
            raise ConfigError("reload_dir", f"there is no folder {folder}")
    static_paths.check(config)
    # What is wrong with the name is told now, not by each worker.
    importer.locate(config.app, config.app_dir)
    if banner.is_wanted(config):
        config = config.replace(announce=True)
    config = check_tls(sockets.from_systemd(config))
    pid_file.check(config)
    try:
        with metrics.serving(config) as config, error_log.unblocked():
            return _serve_in_processes(config)
    finally:
        pid_file.remove(config)


def _serve_in_processes(config: Config) -> int:
    if config.reload:
        from turboapi._serving.reload import Reloader  # lazy: only to reload

        return Reloader(config).run()
    if config.workers > 1 or config.preload or retirement.is_wanted(config):
        from turboapi._serving.supervisor import Supervisor  # lazy: only for several workers

        return Supervisor(config).run()
    return _bind_and_serve(config, None)


def run_here(config: Config, app: Any = None) -> int:
    """Serve in this process, on the socket in `config.fd`; what a worker does.

    `app`: the application, where it is imported already; None: it is to be.
    """
    if app is None:
        log.configure(config)
        app = load(config)
    if app is None:
        return EXIT_NO_APP
    try:
        with error_log.unblocked():
            return _serve(app, config)
    except (sockets.BindError, ConfigError) as error:
        log.server_logger.error("%s", error)
        return EXIT_NO_SOCKET


def load_env_file(path: str) -> None:
    """Read environment variables from a file; what is set already stays.

    Raises:
        ConfigError: there is no such file, or the package that reads it is missing.
    """
    if not Path(path).is_file():
        raise ConfigError("env_file", f"there is no file {path}")
    try:
        from dotenv import load_dotenv
    except ImportError:
        raise ConfigError(
            "env_file", "needs the package python-dotenv: pip install python-dotenv"
        ) from None
    load_dotenv(path)


def check_loop(config: Config) -> None:
    """Raise ConfigError if there is no such event loop; once, and not by each worker."""
    if config.loop == "uvloop" and importlib.util.find_spec("uvloop") is None:
        raise ConfigError("loop", "uvloop needs the package uvloop: pip install uvloop")


def _warn_of_strangers(config: Config) -> None:
    for warning in (
        *other_names.strange_variables(os.environ),
        *importer.strange_keys(config.app_dir),
    ):
        log.server_logger.warning("%s", warning)


def check_tls(config: Config, *, has_siblings: bool = False) -> Config:
    """Return the configuration with the secret that its processes share for TLS, if it is used.

    `has_siblings`: the port of `redirect_http` may be theirs, and is not looked at.

    Raises:
        ConfigError: a file of TLS can't be used; once, and not by each worker.
        BindError: the port of `redirect_http` is taken.
    """
    if not config.ssl_certfile:
        return config
    from turboapi._serving import tls  # lazy: only where it is used

    if config.ssl_ticket_secret is None:
        config = config.replace(ssl_ticket_secret=secrets.token_bytes(32))
    tls.make_at_start(config)
    if config.redirect_http is not None and not has_siblings and not upgrade.is_pending():
        from turboapi._serving import redirect  # lazy: the same

        redirect.check(config)
    return config


def _bind_and_serve(config: Config, app: Any) -> int:
    # Bound before the import, which may take long: an address in use is told at once.
    bound = sockets.bind_all(config)
    handover = None
    try:
        if not upgrade.is_pending():
            pid_file.write(config)
        process.set_name(config, "server")
        if app is None:
            if (app := load(config)) is None:
                return EXIT_NO_APP
            # What can be imported once can be again.
            from turboapi._serving.handover import Handover  # lazy: workers have none

            handover = Handover(config.replace(announce=False), bound)
        # From here the descriptors are the server's.
        served = config.served_by(bound)
        for each in bound:
            each.detach()
        code = _serve(app, served, handover)
        return code if handover is None else handover.finish(code)
    finally:
        sockets.close(bound)
        sockets.remove_files(config)


def load(config: Config) -> Any:
    """Return the application, or None after the log said why there is none."""
    app = None
    try:
        app = importer.load(config)
    except importer.AppError as error:
        log.server_logger.error("%s", error)
    except Exception as error:
        process.check_stopped()
        log.server_logger.error(
            "The application can't be imported\n%s%s",
            _traceback_of(error).rstrip(),
            _hint_of(error),
        )
    # It may have caught what a signal raised in it.
    process.check_stopped()
    return app


def _traceback_of(error: BaseException) -> str:
    """Return the traceback from the application's first frame on."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace))


def _hint_of(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == "fastapi":
        return (
            "\nThe application needs FastAPI, which is not installed: pip install fastapi, or have "
            "`turboapi migrate` change the imports"
        )
    return ""


def _is_ours(file: str) -> bool:
    return file == importer.__file__ or file == __file__ or "importlib" in file


def _serve(app: Any, config: Config, handover: Handover | None = None) -> int:
    from turboapi._serving.server import serve  # lazy: supervisors do not serve

    if config.interface == "auto":
        config = config.replace(interface=importer.detect_interface(app))
    if config.threads > 1 and getattr(sys, "_is_gil_enabled", lambda: True)():
        log.server_logger.warning(
            "threads=%d: this Python has the GIL, so that one thread runs at a time; "
            "use workers instead",
            config.threads,
        )
    try:
        return serve(app, config, handover) or 0
    finally:
        logging.shutdown()
