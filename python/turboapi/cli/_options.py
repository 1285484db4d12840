"""Command line options made of the settings' declarations."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from turboapi._serving import other_names
from turboapi._serving.settings import Flag, Setting, Words
from turboapi.config import ENV_PREFIX, Config, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def option_name(setting_name: str) -> str:
    """Return the option of a setting: `--reload-dir` of `reload_dir`."""
    return "--" + setting_name.replace("_", "-")


def with_settings(
    command: Callable[..., Any],
    defaults: Mapping[str, Any],
    leading: tuple[inspect.Parameter, ...] = (),
) -> Callable[..., Any]:
    """Return a function for typer with an option for every setting.

    It calls `command(*leading, values)`; values has only what was given.  Options are taken as
    text: `Config` reads and checks them, with one error message for all sources.
    """
    offered = {name: one for name, one in settings().items() if one.command_line}

    def entry(**arguments: Any) -> Any:
        first = {each.name: arguments.pop(each.name) for each in leading}
        values = {name: value for name, value in arguments.items() if value not in (None, [])}
        return command(**first, values=values)

    parameters = [*leading]
    for name, one in offered.items():
        default = defaults.get(name, _declared_default(name))
        parameters.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=_annotation(name, one, default),
            )
        )
    parameters += [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_hidden(name)
        )
        for name in _other_names()
    ]
    entry.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    entry.__annotations__ = {each.name: each.annotation for each in parameters}
    entry.__doc__ = command.__doc__
    entry.__name__ = command.__name__
    return entry


def _other_names() -> list[str]:
    """Return what other servers have as options: taken, but not shown."""
    names = {**other_names.RENAMED, **other_names.NEEDLESS, **other_names.REFUSED}
    shown = {alias for one in settings().values() for alias in one.aliases}
    return [
        name
        for name in names
        if name not in other_names.ARGUMENTS and option_name(name) not in shown
    ]


def _hidden(name: str) -> Any:
    is_flag = name in other_names.FLAGS
    info = typer.Option(option_name(name), hidden=True, show_default=False)
    renamed = settings().get(other_names.RENAMED.get(name, ""))
    if is_flag:
        return Annotated[bool | None, info]
    if renamed is not None and isinstance(renamed.kind, Words):
        return Annotated[list[str] | None, info]
    return Annotated[str | None, info]


def _annotation(name: str, one: Setting, default: Any) -> Any:
    variables = [ENV_PREFIX + name.upper(), *one.also_env]
    option = option_name(name)
    is_flag = isinstance(one.kind, Flag)
    names = [f"{option}/--no-{option[2:]}" if is_flag else option, *one.aliases]
    info = typer.Option(
        *names,
        help=f"{one.help} [dim]{_shown(default)}\\[{' '.join(variables)}][/dim]",
        rich_help_panel=one.panel,
        show_default=False,
        metavar=None if is_flag else one.kind.metavar,
    )
    if is_flag:
        return Annotated[bool | None, info]
    if isinstance(one.kind, Words):
        return Annotated[list[str] | None, info]
    return Annotated[str | None, info]


def _declared_default(name: str) -> Any:
    return Config.__dataclass_fields__[name].default


def _shown(default: Any) -> str:
    if default is None or default in ((), ""):
        return ""
    if isinstance(default, bool):
        text = "yes" if default else "no"
    elif isinstance(default, tuple):
        text = ",".join(cast("tuple[str, ...]", default))
    else:
        text = f"{default:g}" if isinstance(default, float) else str(default)
    return f"\\[default: {text}] "
