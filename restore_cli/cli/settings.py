"""Settings: values of options from the environment, from presets and from files.

An option is taken from the command line, otherwise from the environment, from the preset of
--preset, from the restore.toml of the project, from that of the user, or is the default. Values are
text as it would be typed, and Typer finds them in the `default_map` of its contexts.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Mapping
from copy import copy
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from restore_cli.assets import environment, user_settings
from restore_cli.cli.panels import Command
from restore_cli.errors import UsageError

NAME = "restore.toml"
LARGEST = 1 << 20  # bytes of a file
LARGEST_INTEGER = (1 << 63) - 1  # of TOML
ALL, USED = "restore_cli.settings", "restore_cli.settings.used"  # in the `meta` of contexts
WITHOUT_SETTINGS = "config"  # the command that shows them
COMMON, PRESETS = "common", "presets"

# Options that a project file may set: they choose how images are made. Anybody may have written
# the file, so it does not choose files, folders, weights, machines, or what is written or shown.
OF_PROJECTS = frozenset(
    (
        *("scale", "size", "repeat", "for", "strength", "noise-limit", "resize", "adapt", "time"),
        *("steps", "model", "tile", "overlap", "ensemble", "device", "precision", "seed"),
        *("format", "quality", "compress", "recursive", "protocol", "metric"),
        *("guidance", "negative", "sampler", "scheduler", "rope", "count", "direct", "freeu"),
        *("disperse", "synchronise", "enhance"),
    )
)
# Options of which one is given: a setting yields to its partner that is nearer to the user.
PARTNERS = (
    {"scale", "size"},
    {"overwrite", "skip_existing"},
    {"json", "print0"},
    {"weights", "purpose"},
    {"weights", "model"},
    {"weights", "base"},
)

Value = str | bool | list[str]
Source = Literal["environment", "preset", "project", "user"]


@dataclass(frozen=True)
class Setting:
    """A value and its place."""

    value: Value
    source: Source
    origin: str  # a file and its section, or a variable


Settings = Mapping[str, Mapping[str, Setting]]  # command -> parameter -> setting


@dataclass(frozen=True)
class AllSettings:
    """Settings of all commands in files; of two layers the first one counts."""

    layers: tuple[Settings, ...]
    presets: Mapping[str, Settings]

    def of(
        self, command: str, *, preset: str | None = None, given: Collection[str] = ()
    ) -> dict[str, Setting]:
        """Return the settings of a command by parameter.

        given: parameters that have a value already. Raises UsageError for a preset that is unknown
        or has no option of the command.
        """
        chosen = () if preset is None else (self._preset(preset, command),)
        found: dict[str, Setting] = {}
        for layer in (*chosen, *self.layers):
            settled = {*given, *found}
            for name, setting in layer.get(command, {}).items():
                if name not in settled and _partners(name).isdisjoint(settled):
                    found[name] = setting
        return found

    def _preset(self, name: str, command: str) -> Settings:
        if name not in self.presets:
            raise UsageError(f"no preset is called {name!r}", hint=_nearest(name, self.presets))
        if command not in self.presets[name]:
            raise UsageError(
                f"--preset {name} has no option of restore {command}",
                hint=f"it is for: {', '.join(self.presets[name]) or 'no command'}",
            )
        return self.presets[name]


class RestoringCommand(Command):
    """A command that makes images: with --preset and the settings of [common]."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        settings: AllSettings | None = ctx.meta.get(ALL)
        if settings is not None and not ctx.resilient_parsing:
            typed, _, _ = self.make_parser(ctx).parse_args(args=[*args])
            variables = from_variables(self, ctx)
            preset, given = typed.get("preset"), {*typed, *variables}
            if "-" in (typed.get("source") or ()):
                given.add("output")  # from stdin to stdout
            found = settings.of(str(self.name), preset=preset, given=given)
            ctx.meta[USED] = found | variables
            ctx.default_map = {name: setting.value for name, setting in found.items()}
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an error about an option that is a setting names its place."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            options = options_of(self)
            found: Mapping[str, Setting] = ctx.meta.get(USED, {})
            for flag, option in options.items():
                if option.name in found and f"--{flag}" in error.message.split():
                    note = f"--{flag} is set by {found[option.name].origin}"
                    error.hint = f"{error.hint}; {note}" if error.hint else note
            raise


def install(ctx: Any) -> None:
    """Give the settings to the commands of the root context. Raises UsageError."""
    settings = load(ctx.command)
    ctx.meta[ALL] = settings
    ctx.default_map = {}
    for command in commands_of(ctx.command):
        *groups, name = command.split()
        inner = ctx.default_map
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[name] = {name: each.value for name, each in settings.of(command).items()}


def load(root: Any) -> AllSettings:
    """Read the files for the commands of a group. Raises UsageError."""
    layers: tuple[Settings, ...] = ()
    presets: dict[str, Settings] = {}
    for source, path in reversed(paths()):
        reader = _Reader(path, source, root)
        layers = (*reader.layers, *layers)
        presets |= reader.presets
    return AllSettings(layers, presets)


def paths() -> list[tuple[Source, Path]]:
    """Return the files that are read; the first one counts. Raises UsageError."""
    only = environment().settings
    if only is not None:
        return [("user", only)]
    found: list[tuple[Source, Path]] = []
    own, project = user_settings(), _project_file()
    if project is not None and not (own.exists() and project.samefile(own)):
        found.append(("project", project))
    if os.path.lexists(own):
        found.append(("user", own))
    return found


def _project_file() -> Path | None:
    """Return the nearest file upwards, not beyond the repository or the home folder."""
    try:
        current = Path.cwd()
    except OSError:  # it was removed
        return None
    home = Path(os.path.expanduser("~"))
    for folder in (current, *current.parents):
        if os.path.exists(folder / NAME):
            return folder / NAME
        if folder == home or os.path.exists(folder / ".git"):
            return None
    return None


def commands_of(group: TyperGroup, *outer: str) -> dict[str, TyperCommand]:
    """Return the commands that have settings, by names such as "upscale" or "bench quality"."""
    found: dict[str, TyperCommand] = {}
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup) and name != WITHOUT_SETTINGS:
            found |= commands_of(command, *outer, name)
        elif isinstance(command, TyperCommand):
            found[" ".join((*outer, name))] = command
    return found


def options_of(command: TyperCommand) -> dict[str, TyperOption]:
    """Return the options of a command by their long names without dashes."""
    return {
        flag[2:]: option
        for option in command.params
        if isinstance(option, TyperOption)
        if not (isinstance(command, RestoringCommand) and option.name == "preset")
        for flag in option.opts
        if flag.startswith("--")
    }


def name_variables(root: TyperGroup) -> None:
    """Name the variables of all options, such as RESTORE_UPSCALE_SCALE.

    Options of commands that make images have another one for all of these, RESTORE_DEVICE.
    """
    for name, command in commands_of(root).items():
        for flag, option in reversed(options_of(command).items()):
            is_shared = isinstance(command, RestoringCommand) and not option.multiple
            names = (f"{name} {flag}", flag) if is_shared else (f"{name} {flag}",)
            option.envvar = [f"RESTORE_{re.sub('[ -]', '_', each).upper()}" for each in names]
            option.show_envvar = False


def from_variables(command: TyperCommand, context: Any) -> dict[str, Setting]:
    """Return the settings in the environment."""
    found = {}
    for option in options_of(command).values():
        assert not isinstance(option.envvar, str)
        for variable in option.envvar or ():
            alone = copy(option)
            alone.envvar = variable
            value: Any = alone.value_from_envvar(context)
            if value is not None:
                found[option.name] = Setting(value, "environment", variable)
                break
    return found


def is_typed(context: typer.Context, name: str) -> bool:
    """Tell whether a parameter was given on the command line, not by a setting."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


class _Reader:
    """One file: its settings by command, those of [common], and its presets."""

    def __init__(self, path: Path, source: Source, root: TyperGroup):
        self.path, self.source, self.root = path, source, root
        self.commands = commands_of(root)
        document = _parse(path)
        shared = self._table(document.pop(COMMON, {}), COMMON)
        presets = self._table(document.pop(PRESETS, {}), PRESETS)
        self.layers = (self._sections(root, document), self._shared(shared, COMMON, source))
        self.presets = {
            name: self._shared(
                self._table(table, f"{PRESETS}.{name}"), f"{PRESETS}.{name}", "preset"
            )
            for name, table in presets.items()
        }

    def _sections(
        self, group: TyperGroup, tables: Mapping[str, Any], *outer: str
    ) -> dict[str, dict[str, Setting]]:
        """Read the sections of commands, and inside them those of their commands."""
        found: dict[str, dict[str, Setting]] = {}
        for name, value in tables.items():
            section = ".".join((*outer, name))
            known = [*group.commands, *(() if outer else (COMMON, PRESETS))]
            if name not in known or name == WITHOUT_SETTINGS:
                kind = "section" if isinstance(value, dict) else "key outside a section"
                raise self._error(f"unknown {kind} {section!r}", _nearest(name, known))
            table, command = self._table(value, section), group.commands[name]
            if isinstance(command, TyperGroup):
                found |= self._sections(command, table, *outer, name)
                continue
            assert isinstance(command, TyperCommand)
            options = options_of(command)
            found[" ".join((*outer, name))] = dict(
                self._setting(flag, each, options, section, self.source)
                for flag, each in table.items()
            )
        return found

    def _shared(
        self, table: Mapping[str, Any], section: str, source: Source
    ) -> dict[str, dict[str, Setting]]:
        """Read options, each for all commands that make images and have it."""
        found: dict[str, dict[str, Setting]] = {}
        makers = {
            name: options_of(command)
            for name, command in self.commands.items()
            if isinstance(command, RestoringCommand)
        }
        known = {flag for options in makers.values() for flag in options}
        for flag, value in table.items():
            fitting = {}
            errors = []
            for command, options in makers.items():
                if flag in options:
                    try:
                        fitting[command] = self._setting(flag, value, options, section, source)
                    except UsageError as error:  # of another kind for this command
                        errors.append(error)
            if not fitting:
                raise errors[0] if errors else self._unknown(flag, known, section)
            for command, (name, setting) in fitting.items():
                found.setdefault(command, {})[name] = setting
        return found

    def _setting(
        self,
        flag: str,
        value: object,
        options: Mapping[str, TyperOption],
        section: str,
        source: Source,
    ) -> tuple[str, Setting]:
        """Return the parameter and the setting of a key. Raises UsageError."""
        if flag not in options:
            raise self._unknown(flag, options, section)
        if self.source == "project" and flag not in OF_PROJECTS:
            raise self._error(
                f"[{section}] {flag}: not accepted from the file of a project",
                f"set it in {user_settings()}, or give --{flag}",
            )
        option = options[flag]
        typed = _as_typed(value, option)
        if typed is None:
            raise self._error(f"[{section}] {flag}: wanted {_kind(option)}")
        try:
            option.process_value(typer.Context(TyperCommand(section)), typed)
        except typer.BadParameter as error:
            problem = error.message.rstrip(".").replace("Value error, ", "")
            raise self._error(f"[{section}] {flag}: {problem}") from error
        return option.name, Setting(typed, source, f"{self.path} [{section}]")

    def _unknown(self, flag: str, known: Collection[str], section: str) -> UsageError:
        return self._error(f"[{section}] {flag}: no such option", _nearest(flag, known))

    def _table(self, value: object, section: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._error(f"{section}: wanted a section", f"write [{section}]")
        return value

    def _error(self, problem: str, hint: str = "see: docs/settings.md") -> UsageError:
        return UsageError(f"{self.path}: {problem}", hint=hint)


def _parse(path: Path) -> dict[str, Any]:
    """Read a file of TOML. Raises UsageError."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    if str(path) == os.devnull:
        return {}
    if not os.path.isfile(path):
        raise UsageError(f"{path}: no settings file", hint="it is a folder, a pipe or not there")
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise UsageError(f"{path}: larger than {LARGEST} bytes", hint="is it a settings file?")
        document: dict[str, Any] = tomllib.loads(content.decode("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: {error}", hint="see: docs/settings.md") from error
    return document


def _as_typed(value: object, option: TyperOption) -> Value | None:
    """Return a value of TOML as it would be typed; None: of another kind than the option."""
    if option.is_flag:
        return value if isinstance(value, bool) else None
    if not option.multiple and option.nargs == 1:
        return _as_text(value)
    if not isinstance(value, list) or (option.nargs != 1 and len(value) != option.nargs):
        return None
    texts = [text for each in value if (text := _as_text(each)) is not None]
    return texts if len(texts) == len(value) else None


def _as_text(value: object) -> str | None:
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) > LARGEST_INTEGER):
        return None
    return str(value) if isinstance(value, str | int | float) else None


def _kind(option: TyperOption) -> str:
    if option.is_flag:
        return "true or false"
    return "a text or a number" if not option.multiple and option.nargs == 1 else "a list"


def _partners(name: str) -> set[str]:
    return {other for pair in PARTNERS if name in pair for other in pair} - {name}


def _nearest(name: str, known: Collection[str]) -> str:
    if nearest := get_close_matches(name, known, 1):
        return f"the nearest: {nearest[0]}"
    return f"one of: {', '.join(sorted(known))}" if known else "there is none in the files"
