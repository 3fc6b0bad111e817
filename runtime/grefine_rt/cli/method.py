"""Options of the method on the command line: parameters of commands, made from the fields of options classes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any

import typer

from grefine_rt.cli.config import Defaults
from grefine_rt.cli.output import console
from grefine_rt.options import Option, build, is_range, options_of, parse_option, parse_reading

Command = Callable[..., None]

_READING, _HELP_ALL, _CONTEXT = "reading", "help_all", "typer_context"


def takes(cls: type, panels: Collection[str] | None = None) -> Callable[[Command], Command]:
    """A decorator for a command with a parameter `options`, an instance of the options class `cls`.

    In place of `options` the command line gets a flag for every option that has one, `--reading NAME=VALUE` for the
    others, and `--help-all`; of `panels` alone where they are given. The decorated command raises OptionError.
    """
    known = [each for each in options_of(cls) if panels is None or each.panel in panels]
    readings = [each for each in known if each.reading]
    flags = {each.name: each for each in known if each.flag is not None}

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def run(**given: Any) -> None:
            given.pop(_HELP_ALL)
            defaults = given.pop(_CONTEXT).obj or Defaults()
            texts = [f"{name}={text}" for name, text in defaults.readings.items()] + (
                given.pop(_READING) or []
            )
            chosen = dict(parse_reading(readings, text) for text in texts)
            chosen |= _values(flags, {name: given.pop(name) for name in flags})
            command(**given, options=build(cls, chosen))

        own = inspect.signature(command, eval_str=True).parameters.values()
        parameters = [
            *(parameter for parameter in own if parameter.name != "options"),
            *map(_parameter, flags.values()),
            *_common(readings),
            _keyword(_CONTEXT, typer.Context),
        ]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.method_options = {each.name: each for each in known}  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def _values(flags: Mapping[str, Option], given: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the flags that were given, from their texts."""
    values = {}
    for name, value in given.items():
        if value is not None:
            text = ",".join(value) if isinstance(value, tuple) else value
            values[name] = (
                text if isinstance(text, bool) else parse_option(flags[name], text, flags[name].flag or "")
            )
    return values


def _parameter(option: Option) -> inspect.Parameter:
    """The parameter of one flag. Texts are read by `parse`, so that every refusal is the same sentence."""
    flag = option.flag or ""
    kind: Any = tuple[str, str] | None if is_range(option.kind) else str | None
    if option.kind is bool:
        kind, flag = bool | None, f"{flag}/--no-{flag[2:]}" if option.default else flag
    declared = typer.Option(
        flag,
        metavar=None if option.kind is bool else option.values,
        help=help_of(option),
        rich_help_panel=option.panel,
        hidden=option.advanced,
        show_default=False,
    )
    return _keyword(option.name, Annotated[kind, declared])


def _common(readings: Sequence[Option]) -> list[inspect.Parameter]:
    def show_all(context: typer.Context, wanted: bool) -> None:
        if wanted:
            for parameter in context.command.params:
                parameter.hidden = False  # type: ignore[attr-defined]
            typer.echo(context.get_help(), nl=False)
            _print_readings(readings)
            raise typer.Exit

    such = f"{readings[0].name}={readings[0].values.partition('|')[0]}"
    reading = typer.Option(
        "--reading",
        metavar="NAME=VALUE",
        help=f"A reading of the papers, such as {such}; give it once for each. --help-all lists them.",
        show_default=False,
    )
    every = typer.Option(
        "--help-all", is_eager=True, callback=show_all, help="Show every option and reading."
    )
    return [
        _keyword(_READING, Annotated[list[str] | None, reading]),
        _keyword(_HELP_ALL, Annotated[bool, every], False),
    ]


def _keyword(name: str, annotation: Any, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def help_of(option: Option) -> str:
    """The meaning, unit and default of an option, in sentences."""
    default = "" if isinstance(option.default, bool) and not option.reading else option.shown_default
    more = (("Unit", option.unit), ("Default", default))
    return " ".join([option.help, *(f"{name}: {text}." for name, text in more if text)])


def _print_readings(readings: Sequence[Option]) -> None:
    from rich.panel import Panel
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold cyan", no_wrap=True)
    table.add_column()
    for each in readings:
        table.add_row(f"{each.name}={each.values}", help_of(each))
    title = "Readings of the papers: --reading NAME=VALUE (default: the bundle's own)"
    console().print(Panel(table, title=title, title_align="left", border_style="dim"))
