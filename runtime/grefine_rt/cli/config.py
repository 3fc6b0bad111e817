"""Defaults of the command line from a file: `grefine.toml`, or `[tool.grefine]` of a pyproject.toml.

Keys are the options' names: at the top for every command that has them, in a table named like a command for it alone.
The command line wins. docs/configuration.md says where the file is looked for.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from grefine_rt.errors import OptionError, shown
from grefine_rt.options import Option, is_range, parse_option, to_text

NAME, PROJECT = "grefine.toml", "pyproject.toml"
COMMANDS = ("refine", "assess", "batch", "evaluate", "bench", "serve")
"""The commands that take defaults from a file."""
_NEVER = {"help", "help_all", "reading"}
_GIVEN = {
    *("output", "overwrite", "force", "report", "maps", "mask", "protect", "save_mask", "csv"),
    *("host", "token_file"),
}
"""Options of the command line alone: a file that came with a folder of pictures must decide neither on files that are
written or replaced nor on access to the service."""


@dataclass(frozen=True)
class Defaults:
    """The defaults that a file has for one command. flags: values by parameter, as the command line would have them.
    readings: texts by name. path: the file; None without one."""

    path: Path | None = None
    flags: dict[str, Any] = field(default_factory=dict)
    readings: dict[str, str] = field(default_factory=dict)


def apply(context: typer.Context) -> None:
    """Gives the command that was called the defaults of the file that is found. Raises OptionError."""
    called = context.invoked_subcommand
    if called not in COMMANDS:
        return
    defaults = defaults_of({name: context.command.commands[name] for name in COMMANDS}, called)  # type: ignore[attr-defined]
    context.obj = defaults
    context.default_map = {called: defaults.flags}


def defaults_of(commands: Mapping[str, Any], called: str, start: Path | None = None) -> Defaults:
    """The defaults of the nearest file for the command `called`; `start` is the folder to look from, the current one
    when None. Every key of the file is checked. Raises OptionError, one sentence."""
    path, values = read(start)
    if path is None:
        return Defaults()
    tables = {name: value for name, value in values.items() if isinstance(value, dict)}
    common = {name: value for name, value in values.items() if name not in tables}
    known = {name: _known(command) for name, command in commands.items()}
    for table, own in tables.items():
        if table not in known:
            raise _unknown(path, table, [*known, *(key for keys in known.values() for key in keys)])
        for key in own:
            if _plain(key) not in known[table]:
                raise _unknown(path, f"{table}.{key}", known[table])
    everywhere = {key for keys in known.values() for key in keys}
    for key in common:
        if _plain(key) not in everywhere:
            raise _unknown(path, key, everywhere)
    wanted = {_plain(key): value for key, value in (common | tables.get(called, {})).items()}
    found = Defaults(path)
    for key, value in wanted.items():
        if key in known[called]:
            parameter, option = known[called][key]
            if option is not None and option.reading:
                found.readings[key] = _text(path, key, value)
            else:
                found.flags[parameter] = _given(path, key, value, option)
    return found


def read(start: Path | None = None) -> tuple[Path | None, dict[str, Any]]:
    """The file with the defaults and its contents; None and nothing without one. Raises OptionError."""
    chosen = os.environ.get("GREFINE_CONFIG")
    if chosen is not None:
        if not chosen:
            return None, {}
        return Path(chosen), _of(Path(chosen), _parsed(Path(chosen))) or {}
    for path in _places(start):
        if path.is_file():
            own = _of(path, _parsed(path))
            if own is not None:
                return path, own
    return None, {}


def _places(start: Path | None) -> Iterator[Path]:
    try:
        here = (start or Path.cwd()).resolve()
    except OSError:  # the current folder was deleted
        return
    for folder in (here, *here.parents):
        yield folder / NAME
        yield folder / PROJECT
    home = os.environ.get("XDG_CONFIG_HOME") or (os.environ.get("APPDATA") if os.name == "nt" else None)
    yield (Path(home) if home else Path("~/.config").expanduser()) / "grefine-rt" / NAME


def _parsed(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionError(f"The configuration '{path}' cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise OptionError(f"The configuration '{path}' is no TOML file: {str(error)[:200]}.") from None


def _of(path: Path, whole: dict[str, Any]) -> dict[str, Any] | None:
    """The part of a file that is about grefine; None for a pyproject.toml without one."""
    if path.name != PROJECT:
        return whole
    tools = whole.get("tool")
    own = tools.get("grefine") if isinstance(tools, dict) else None
    if own is not None and not isinstance(own, dict):
        raise OptionError(f"In '{path}' tool.grefine must be a table, not {shown(own)}.")
    return own


def _known(command: Any) -> dict[str, tuple[str, Option | None]]:
    """Keys that a command takes: the parameter each is for, and the option of the method that it is, if any."""
    known: dict[str, tuple[str, Option | None]] = {}
    method: Mapping[str, Option] = getattr(command.callback, "method_options", {})
    for parameter in command.params:
        for flag in parameter.opts:
            key = _plain(flag.removeprefix("--"))
            if flag.startswith("--") and key not in _NEVER | _GIVEN:
                known[key] = parameter.name, method.get(parameter.name)
    return known | {
        name: (name, each) for name, each in method.items() if each.flag is not None or each.reading
    }


def _plain(key: str) -> str:
    return key.replace("-", "_")


def _unknown(path: Path, key: str, known: Any) -> OptionError:
    if _plain(key.rpartition(".")[2]) in _GIVEN:
        return OptionError(
            f"The configuration '{path}' has the key '{key}', which is for the command line alone."
        )
    near = difflib.get_close_matches(_plain(key.rpartition(".")[2]), sorted(set(known)), 1)
    hint = f"did you mean '{near[0]}'?" if near else "'grefine-rt refine --help-all' lists the options."
    return OptionError(f"The configuration '{path}' has an unknown key '{key[:60]}': {hint}")


def _given(path: Path, key: str, value: Any, option: Option | None) -> Any:
    """A value as the command line would give it to the parameter."""
    if option is None:
        if isinstance(value, bool):
            return value
        return (
            [_text(path, key, each) for each in value] if isinstance(value, list) else _text(path, key, value)
        )
    if option.kind is bool and isinstance(value, bool):
        return value
    if is_range(option.kind) and (not isinstance(value, list) or len(value) != 2):
        raise OptionError(f"In the configuration '{path}' the key '{key}' must be a list of two numbers.")
    text = _text(path, key, value)
    parse_option(
        option, text, f"In the configuration '{path}' the key '{key}'"
    )  # which the command line would not name
    return tuple(text.split(",")) if is_range(option.kind) else text


def _text(path: Path, key: str, value: Any) -> str:
    if isinstance(value, list):
        return ",".join(_text(path, key, each) for each in value)
    if isinstance(value, str | int | float):
        return to_text(value)
    raise OptionError(
        f"In the configuration '{path}' the key '{key}' must be a text, a number, true, false or a list, "
        f"not {shown(value)}."
    )
