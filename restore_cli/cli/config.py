"""`restore config`: the settings, and the places that they come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import typer
from typer.core import TyperGroup, TyperOption

from restore_cli.assets import user_settings
from restore_cli.cli import settings
from restore_cli.cli.console import reporter
from restore_cli.cli.options import Json, Preset
from restore_cli.cli.panels import Command
from restore_cli.cli.settings import AllSettings, Value, commands_of, from_variables, options_of
from restore_cli.errors import HIDDEN, UsageError, without_secrets

app = typer.Typer(no_args_is_help=True)
command = partial(app.command, cls=Command)


def complete_command(context: typer.Context, incomplete: str) -> list[str]:
    """Return the commands that complete a word in a shell."""
    typed = " ".join((*(context.params.get("command") or ()), incomplete))
    names = [name for name in commands_of(_group(context)) if name.startswith(typed)]
    return [*dict.fromkeys(name.split()[typed.count(" ")] for name in names)]


@command(epilog="Example: restore config show upscale")
def show(
    context: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND",
            help="Command whose options are shown. [default: all options that are set]",
            autocompletion=complete_command,
        ),
    ] = None,
    preset: Preset = None,
    json: Json = False,
) -> None:
    """Show the value of each option and where it comes from."""
    wanted = " ".join(command or ())
    if preset and not wanted:
        raise UsageError("--preset needs a command", hint="restore config show COMMAND --preset")
    found = settings.load(_group(context))
    names = [
        name
        for name in commands_of(_group(context))
        if f"{name} ".startswith(f"{wanted} ".lstrip())
    ]
    if not names:
        raise UsageError(f"no command is called {wanted!r}", hint="see: restore --help")
    rows = [row for name in names for row in _rows(name, context.find_root(), found, preset)]
    if not wanted:
        rows = [row for row in rows if row["source"] != "default"]
    with reporter("config", json=json) as report:
        if json:
            for row in rows:
                report.data(row)
        elif rows:
            report.columns([_cells(row) for row in rows])
        else:
            report.say("no option is set")


@command(epilog="Example: restore config path")
def path() -> None:
    """List the settings files that are read, in order of precedence."""
    with reporter("config") as report:
        found = settings.paths()
        for _, file in found:
            report.data(str(file))
        if not found:
            report.say(f"no {settings.NAME}: neither {user_settings()} nor of a project")


def _group(context: typer.Context) -> TyperGroup:
    group = context.find_root().command
    assert isinstance(group, TyperGroup)
    return group


def _rows(
    name: str, root: Any, found: AllSettings, preset: str | None
) -> Iterator[dict[str, object]]:
    """Yield the options of a command; preset: as with --preset. Raises UsageError."""
    context = root
    for word in name.split():
        context = typer.Context(context.command.commands[word], info_name=word, parent=context)
    variables = from_variables(context.command, context)
    own = variables | found.of(name, preset=preset, given=variables)
    options = {option: flag for flag, option in reversed(options_of(context.command).items())}
    for option, flag in reversed(options.items()):
        row = {"command": name, "option": flag}
        if setting := own.get(option.name):
            yield row | asdict(setting) | {"value": _shown(setting.value, option)}
        else:
            yield row | {"value": option.default, "source": "default", "origin": None}


def _shown(value: Value, option: TyperOption) -> Value:
    """Return a value without secrets."""
    if option.hide_input:
        return HIDDEN
    if isinstance(value, list):
        return [without_secrets(each) for each in value]
    return without_secrets(value) if isinstance(value, str) else value


def _cells(row: dict[str, object]) -> tuple[str, ...]:
    value = row["value"]
    text = "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return f"{row['command']} --{row['option']}", text, str(row["origin"] or row["source"])
