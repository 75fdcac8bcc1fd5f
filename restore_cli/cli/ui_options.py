"""Options on the page of `restore ui`: those of the commands, with their settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from restore_cli.cli import settings
from restore_cli.cli.options import COMPUTING, FILES
from restore_cli.cli.settings import Setting, commands_of, options_of
from restore_cli.errors import UsageError
from restore_cli.tasks import TASKS

PANELS = (None, COMPUTING, FILES)  # of the options that are shown
# Of these panels: what the page does in its own way, and what writes other files.
NOT_SHOWN = {"output", "save", "recursive", "overwrite", "skip_existing"}
NO_WORD = "\0"  # that no closed choice has

Kind = Literal["flag", "switch", "slider", "number", "choice", "text"]


@dataclass(frozen=True)
class ShownOption:
    """An option as it is shown, for all tasks whose commands have the same one."""

    option: TyperOption
    tasks: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.option.name

    @property
    def label(self) -> str:
        return max(self.option.opts, key=len)[2:].replace("-", " ").capitalize()

    @property
    def is_simple(self) -> bool:
        """Return True if the option is of the task itself, not of computation or files."""
        return self.option.rich_help_panel is None

    @cached_property
    def _help(self) -> tuple[str, str]:
        """Return the help text and the default that it names."""
        text = self.option.help or ""
        named = re.search(r"\s*\[default: (.*)\]$", text)
        return (text[: named.start()], named[1]) if named else (text, "")

    @property
    def help(self) -> str:
        return self._help[0]

    @property
    def usual(self) -> str:
        """The default in words, of an option whose default is no value."""
        return self._help[1]

    @property
    def kind(self) -> Kind:
        option = self.option
        if option.is_flag:
            return "flag" if isinstance(option.default, bool) else "switch"
        is_number = option.min is not None or isinstance(option.default, int | float)
        if is_number:
            whole_range = None not in (option.min, option.max, option.default)
            return "slider" if whole_range else "number"
        try:
            option.process_value(typer.Context(TyperCommand(option.name)), NO_WORD)
        except typer.BadParameter:
            return "choice"
        return "text"


@dataclass(frozen=True)
class Line:
    """A command with its arguments and the settings that it takes."""

    command: TyperCommand
    arguments: list[str]
    settings: dict[str, Any]


class Options:
    """Options of the commands of all tasks.

    Values are shown as text, numbers and booleans; an empty one is the default. RESTORE_DEVICE and
    other variables are read once.
    """

    def __init__(self, root: TyperGroup, *, is_local: bool):
        commands = commands_of(root)
        self.is_local = is_local
        self.commands: dict[str, TyperCommand] = {
            task: commands[task]
            for task, row in TASKS.items()
            if is_local or row.network  # the weights of the others are files
        }
        self._settings = settings.load(root)
        self._variables: dict[str, dict[str, Setting]] = {}
        owners: dict[tuple[str, str | None], list[str]] = {}
        first: dict[tuple[str, str | None], TyperOption] = {}
        for task, command in self.commands.items():
            self._variables[task] = settings.from_variables(command, typer.Context(command))
            for option in dict.fromkeys(options_of(command).values()):
                option.envvar = None  # the page shows what the variable says
                if option.rich_help_panel in PANELS and option.name not in NOT_SHOWN:
                    key = option.name, option.help
                    first.setdefault(key, option)
                    owners.setdefault(key, []).append(task)
        self.shown = [ShownOption(option, tuple(owners[key])) for key, option in first.items()]

    def of(self, task: str) -> list[ShownOption]:
        """Return what is shown for a task."""
        return [shown for shown in self.shown if task in shown.tasks]

    @property
    def presets(self) -> list[str]:
        return [*self._settings.presets]

    def values(self, task: str, preset: str | None = None) -> dict[str, Any]:
        """Return the values that a command has without a word.

        Raises UsageError for a preset without an option of the command.
        """
        found = self._found(task, preset)
        return {
            shown.name: found[shown.name].value if shown.name in found else shown.option.default
            for shown in self.of(task)
        }

    def words(self, shown: ShownOption, task: str) -> list[str]:
        """Return the values that a shell would complete."""
        context = typer.Context(self.commands[task], info_name=task)
        return [item.value for item in shown.option.shell_complete(context, "")]

    def line(
        self,
        task: str,
        values: Mapping[str, Any],
        arguments: list[str],
        *,
        preset: str | None = None,
    ) -> Line:
        """Return the command as if it was typed; values as they are are settings, others options.

        Raises UsageError.
        """
        usual = self.values(task, preset)
        changed = {
            shown: values[shown.name]
            for shown in self.of(task)
            if shown.name in values and _text(values[shown.name]) != _text(usual[shown.name])
        }
        words = list(arguments)
        for shown, value in changed.items():
            if shown.name == "weights" and not self.is_local and _text(value):
                self._refuse_file(shown, task, str(value))
            words += _words(shown.option, value)
        given = {shown.name for shown in changed}
        found = self._found(task, preset, *given)
        names = {shown.name for shown in self.of(task)}
        kept = {name: setting.value for name, setting in found.items() if name in names}
        return Line(self.commands[task], words, kept)

    def _found(self, task: str, preset: str | None, *given: str) -> dict[str, Setting]:
        variables = {
            name: setting for name, setting in self._variables[task].items() if name not in given
        }
        return variables | self._settings.of(task, preset=preset, given={*given, *variables})

    def _refuse_file(self, shown: ShownOption, task: str, value: str) -> None:
        """Refuse what a shell would not complete. Raises UsageError."""
        if value not in self.words(shown, task):
            raise UsageError(f"no weights are called {value!r}", hint="choose from the list")


def _text(value: object) -> str:
    """Return one text for a value of a control, of a setting and of a default."""
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else str(value)


def _words(option: TyperOption, value: object) -> list[str]:
    """Return an option and its value as they are typed; nothing for an empty value."""
    flag = max(option.opts, key=len)
    if isinstance(value, bool):
        return [flag] if value else option.secondary_opts[:1]
    return [f"{flag}={_text(value)}"] if _text(value) else []
