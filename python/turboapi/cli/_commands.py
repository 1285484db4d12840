"""The commands."""

from __future__ import annotations

import inspect
import os
import platform
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

import turboapi
from turboapi import _core
from turboapi._compression import LEVELS
from turboapi._core import LIBRARIES
from turboapi._serving import importer, other_names
from turboapi._serving.importer import USUAL_FILES, AppError, locate
from turboapi._serving.run import EXIT_USAGE, load_env_file, serve_config
from turboapi._serving.sockets import BindError
from turboapi.cli._help import Command
from turboapi.cli._options import option_name, with_settings
from turboapi.config import ENV_PREFIX, LOGGING, TLS, Config, ConfigError, settings
from turboapi.openapi import assets


class _Group(TyperGroup):
    """The commands, with a hint for who writes `turboapi main:app`, as uvicorn has it."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and (":" in args[0] or args[0].endswith(".py")):
            _fail(f"{args[0]} is no command; to serve it: turboapi run {args[0]}", EXIT_USAGE)
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Group,
    name="turboapi",
    help="Serve [bold]TurboAPI[/bold], FastAPI, and other ASGI and WSGI applications.",
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_RUN_DEFAULTS: dict[str, Any] = {"host": "0.0.0.0"}  # noqa: S104 (as `fastapi run`)
_DEV_DEFAULTS: dict[str, Any] = {"host": "127.0.0.1", "reload": True}

_APP = inspect.Parameter(
    "name",
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    default=None,
    annotation=Annotated[
        str | None,
        typer.Argument(
            metavar="[APP]",
            help="The application: [cyan]package.module:attribute[/cyan], a module, or a file. "
            f"Default: what pyproject.toml names, else the first of {', '.join(USUAL_FILES)}.",
            show_default=False,
        ),
    ],
)
_ATTRIBUTE = inspect.Parameter(
    "attribute",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        str | None,
        typer.Option(
            "--app",
            metavar="NAME",
            help="Name of the application in its module.",
            rich_help_panel="Application",
            show_default=False,
        ),
    ],
)
_ENTRYPOINT = inspect.Parameter(
    "entrypoint",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        str | None,
        typer.Option(
            "--entrypoint",
            "-e",
            metavar="APP",
            help="The application, as [cyan]package.module:attribute[/cyan].",
            rich_help_panel="Application",
            show_default=False,
        ),
    ],
)
_LEADING = (_APP, _ATTRIBUTE, _ENTRYPOINT)
_VERBOSE = inspect.Parameter(
    "verbose",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool,
        typer.Option(
            "--verbose",
            help="Say what is served and by which settings; show debug messages.",
            rich_help_panel=LOGGING,
            show_default=False,
        ),
    ],
)
_HTTPS = inspect.Parameter(
    "https",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool,
        typer.Option(
            "--https",
            help="Serve https by a certificate that is made for this machine; needs trustme.",
            rich_help_panel=TLS,
            show_default=False,
        ),
    ],
)


_JSON = inspect.Parameter(
    "as_json",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool, typer.Option("--json", help="As JSON, for programs.", show_default=False)
    ],
)


def _print_version(context: typer.Context, wanted: bool) -> None:
    if not wanted:
        return
    if context.params.get("verbose"):
        version()
    else:
        typer.echo(f"turboapi {turboapi.__version__}")
    raise typer.Exit


@app.callback()
def _callback(
    verbose: Annotated[
        bool,
        typer.Option("--verbose", help="With --version: as `turboapi version`.", is_eager=True),
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Show the version.", callback=_print_version)
    ] = False,
) -> None:
    pass


# What `turboapi version` tells of; fastapi is what unchanged applications import.
_PACKAGES = ("fastapi", "starlette", "pydantic", "pydantic-core", "anyio", "uvloop", "watchfiles")


@app.command()
def version() -> None:
    """Show the versions of TurboAPI, Python and what it builds on."""
    for name, found in _versions().items():
        typer.echo(f"{name} {found}")


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as version_of

    found = {
        "turboapi": turboapi.__version__,
        platform.python_implementation(): f"{platform.python_version()} on {platform.platform()}",
    }
    for package in _PACKAGES:
        try:
            found[package] = version_of(package)
        except PackageNotFoundError:
            found[package] = "(not installed)"
    for library, built_with in LIBRARIES.items():
        found[library] = built_with or "(not built in)"
    for coding in LEVELS:
        built = _core.CODINGS.get(coding)
        found[f"compression {coding}"] = built[0] if built else "(not in this build)"
    return found


@app.command("docs-assets")
def docs_assets(
    to: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the files.")] = Path(
        "docs-assets"
    ),
) -> None:
    r"""Get the files of Swagger UI and ReDoc from npm, to serve them yourself.

    An application serves them when TURBOAPI_DOCS_ASSETS_DIR names their folder. The package
    turboapi-c-docs has them, too (pip install 'turboapi-c\[docs]').
    """
    try:
        assets.fetch(to)
    except (RuntimeError, OSError) as error:
        _fail(str(error), 1)
    typer.echo(f"Swagger UI and ReDoc are in {to}: set TURBOAPI_DOCS_ASSETS_DIR={to.resolve()}")


def run(
    name: str | None,
    attribute: str | None,
    entrypoint: str | None,
    verbose: bool,
    values: dict[str, Any],
) -> None:
    """Serve an application.

    Every option has an environment variable, shown in brackets. Sizes take K, M, G; times are in
    seconds, or take ms, s, m, h.
    """
    _serve(name, attribute, entrypoint, values, _RUN_DEFAULTS, verbose)


def dev(
    name: str | None,
    attribute: str | None,
    entrypoint: str | None,
    verbose: bool,
    https: bool,
    values: dict[str, Any],
) -> None:
    """Serve an application during development: as `run`, but reloading, on 127.0.0.1."""
    if https:
        values.update(_development_certificate(values))
    # A production setting in the environment: reloading has one worker.
    if values.get("reload", True):
        values.setdefault("workers", 1)
    _serve(name, attribute, entrypoint, values, _DEV_DEFAULTS, verbose)


def doctor(
    name: str | None,
    attribute: str | None,
    entrypoint: str | None,
    as_json: bool,
    values: dict[str, Any],
) -> None:
    """Show what of an application runs natively, and what does not and why.

    Takes the options of `run`, to show which are in force. The exit code is 0 if all path
    operations run natively, 1 if some do not, 2 if the application can't be loaded.
    """
    import contextlib  # lazy: few ask
    import json  # lazy: the same
    import traceback  # lazy: the same

    from turboapi.cli import _doctor  # lazy: the same

    config = _loaded_config(name, attribute, entrypoint, values, _RUN_DEFAULTS, EXIT_USAGE)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what modules print is no part of the report
            found = importer.load(config)
            report = _doctor.examine(
                found,
                str(importer.locate(config.app, config.app_dir)),
                config,
                _RUN_DEFAULTS,
                _versions(),
            )
    except AppError as error:
        _fail(str(error), EXIT_USAGE)
    except ConfigError as error:
        _fail(str(error.named(lambda name: _as_written(name, values))), EXIT_USAGE)
    except Exception:
        traceback.print_exc()
        raise typer.Exit(EXIT_USAGE) from None
    if as_json:
        typer.echo(json.dumps(_doctor.as_json(report), indent=2, default=str))
    else:
        _doctor.show(Console(), report)
    raise typer.Exit(0 if report.is_native else 1)


app.command("doctor", cls=Command)(with_settings(doctor, _RUN_DEFAULTS, (*_LEADING, _JSON)))
app.command("run", cls=Command)(with_settings(run, _RUN_DEFAULTS, (*_LEADING, _VERBOSE)))
app.command("dev", cls=Command)(with_settings(dev, _DEV_DEFAULTS, (*_LEADING, _VERBOSE, _HTTPS)))


@app.command(cls=Command)
def cert(
    hosts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[HOST]...", help="Default: this machine.", show_default=False),
    ] = None,
    to: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the files.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Make a certificate for development, and an authority that signs it.

    Not for production: clients must be told to trust authority.pem.
    """
    from turboapi.cli import _cert  # lazy: few make one

    try:
        files = _cert.make(to, hosts or _cert.HOSTS, replace=force)
    except ConfigError as error:
        _fail(f"cert: {error.reason}", 1)
    except OSError as error:
        _fail(f"cert: {error.filename or to}: {error.strerror or error}", 1)
    typer.echo(f"turboapi run --ssl-certfile {files.certificate} --ssl-keyfile {files.key}")
    typer.echo(f"Clients trust it by {files.authority}, such as: curl --cacert {files.authority}")


@app.command(cls=Command)
def migrate(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="Files and folders; default: the current one.",
            show_default=False,
        ),
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Rewrite the files.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Show the changes.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 1 if there is something to rewrite.")
    ] = False,
) -> None:
    """Find where a project uses FastAPI, uvicorn or gunicorn, and show what replaces it.

    Imports of fastapi can be rewritten; calls of uvicorn, command lines (in Dockerfiles, Procfiles,
    compose files, ...) and requirements are listed with their replacements. Nothing is written
    without --write.
    """
    from turboapi import _migrate_imports as migration  # lazy: it is called once, if ever

    if write and (diff or check):
        _fail("--write: can't be used together with --diff or --check", EXIT_USAGE)
    raise typer.Exit(migration.run(paths or [Path()], write=write, diff=diff, check=check))


@app.command(cls=Command)
def status(
    address: Annotated[
        str | None,
        typer.Argument(
            metavar="[ADDRESS]",
            envvar=ENV_PREFIX + "METRICS",
            help="What the server has for --metrics: HOST:PORT or unix:PATH.",
            show_default=False,
        ),
    ] = None,
    watch: Annotated[
        float | None,
        typer.Option(
            "--watch", "-w", metavar="SECONDS", min=0.1, help="Again and again, with rates."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As the page gets it.")] = False,
) -> None:
    """Show what a running server does: workers, routes, requests in flight."""
    import json  # lazy: few ask

    from turboapi.cli import _status  # lazy: the same

    if address is None:
        _fail("status: needs the address that the server has for --metrics", EXIT_USAGE)
    try:
        if as_json:
            typer.echo(json.dumps(_status.ask(address), indent=2))
        else:
            _status.show(Console(), address, watch=watch)
    except _status.StatusError as error:
        no_address = isinstance(error, _status.AddressError)
        _fail(f"status: {error}", EXIT_USAGE if no_address else 1)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _development_certificate(values: dict[str, Any]) -> dict[str, Any]:
    from turboapi.cli import _cert  # lazy: few make one

    if values.get("ssl_certfile"):
        _fail("--https: can't be used together with --ssl-certfile", EXIT_USAGE)
    try:
        files = _cert.for_development()
    except ConfigError as error:
        _fail(f"--https: {error.reason}", EXIT_USAGE)
    except OSError as error:
        _fail(f"--https: {error.filename}: {error.strerror}", 1)
    typer.echo(f"Browsers trust this server once they trust {files.authority}", err=True)
    return {"ssl_certfile": [str(files.certificate)], "ssl_keyfile": [str(files.key)]}


def _serve(
    name: str | None,
    attribute: str | None,
    entrypoint: str | None,
    values: dict[str, Any],
    defaults: dict[str, Any],
    verbose: bool,
) -> None:
    if verbose:
        defaults = {**defaults, "log_level": "debug", "announce": True}
    config = _loaded_config(name, attribute, entrypoint, values, defaults)
    if verbose:
        _tell_settings(config, defaults)
    try:
        code = serve_config(config)
    except ConfigError as error:
        _fail(str(error.named(lambda name: _as_written(name, values))), EXIT_USAGE)
    except (AppError, BindError) as error:
        _fail(str(error), 1)
    sys.exit(code)


def _tell_settings(config: Config, defaults: dict[str, Any]) -> None:
    from turboapi.cli import _doctor  # lazy: few ask

    typer.echo("Settings that differ from the defaults:", err=True)
    for option, value in _doctor.changed(config, defaults).items():
        typer.echo(f"  {option} {_doctor.shown(value)}", err=True)


def _loaded_config(
    name: str | None,
    attribute: str | None,
    entrypoint: str | None,
    values: dict[str, Any],
    defaults: dict[str, Any],
    code: int = 1,
) -> Config:
    """Return the settings; `code` is that of the exit when no application is to be found."""
    try:
        env_file = values.get("env_file") or os.environ.get(ENV_PREFIX + "ENV_FILE")
        if env_file:
            load_env_file(env_file)
        for each, why in other_names.NEEDLESS.items():
            if each in values:
                typer.echo(f"{option_name(each)} has no effect: {why}", err=True)
        return other_names.load({**values, "app": _named(name, attribute, entrypoint)}, defaults)
    except ConfigError as error:
        _fail(str(error.named(lambda name: _as_written(name, values))), EXIT_USAGE)
    except AppError as error:
        _fail(str(error), code)


def _named(name: str | None, attribute: str | None, entrypoint: str | None) -> str | None:
    if entrypoint is not None:
        if name is not None or attribute is not None:
            raise ConfigError("--entrypoint", "can't be used together with APP or --app")
        return entrypoint
    if attribute is None:
        return name
    if name is not None and ":" in name:
        raise ConfigError("--app", f"{name} names an attribute already")
    if name is None:
        found = locate(None)
        return f"{found.folder / found.module.replace('.', os.sep)}.py:{attribute}"
    return f"{name}:{attribute}"


def _as_written(setting: str, values: dict[str, Any]) -> str:
    """Return the name of a setting where the user gave it: the option, or the variable."""
    if setting in values:
        return option_name(setting)
    one = settings().get(setting)
    if one is None:
        return setting
    variables = (ENV_PREFIX + setting.upper(), *one.also_env)
    return next((name for name in variables if os.environ.get(name)), option_name(setting))


def _fail(message: str, code: int) -> NoReturn:
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(f"[bold red]Error:[/] {escape(message)}")
    raise typer.Exit(code)
