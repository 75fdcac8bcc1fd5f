"""`restore`: the commands, and the exit codes of errors."""

from __future__ import annotations

import atexit
import errno
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, Literal

import typer
from typer.completion import install_callback, show_callback
from typer.core import TyperGroup

from restore_cli import __version__
from restore_cli.assets import let_threads_sleep
from restore_cli.cli import (
    bench,
    config,
    console,
    ledger,
    settings,
    shells,
    signals,
    weights,
)
from restore_cli.cli.compare import compare
from restore_cli.cli.denoise import denoise
from restore_cli.cli.doctor import doctor
from restore_cli.cli.enhance import enhance
from restore_cli.cli.evaluate import evaluate
from restore_cli.cli.export import export
from restore_cli.cli.generate import generate
from restore_cli.cli.panels import Command, write_commands
from restore_cli.cli.replay import replay
from restore_cli.cli.run import run
from restore_cli.cli.same_size import restore_same_size
from restore_cli.cli.samples import samples
from restore_cli.cli.settings import RestoringCommand
from restore_cli.cli.train import train
from restore_cli.cli.ui import ui
from restore_cli.cli.upscale import upscale
from restore_cli.errors import RestoreError
from restore_cli.memory import enough_memory

INTERRUPTED = 130  # 128 + SIGINT
READER_GONE = 141  # 128 + SIGPIPE
TERMINATED = 143  # 128 + SIGTERM
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # of a write to stdout
TyperUsageError: Any = typer.BadParameter.__base__  # Typer does not export its name

Shell = Literal["bash", "zsh", "fish", "powershell", "pwsh"]


class RestoreGroup(TyperGroup):
    """Commands whose RestoreError becomes a message, a hint and an exit code.

    Other exceptions are bugs and keep their traceback.
    """

    def main(self, *arguments: Any, **options: Any) -> Any:
        let_threads_sleep()
        shells.prepare()  # Typer does so only for its own completion options
        atexit.register(gc.freeze)  # otherwise Python searches all of torch for garbage at exit
        try:
            code = super().main(*arguments, **options | {"standalone_mode": False})
        except TyperUsageError as error:
            console.show_usage_error(error.format_message(), error.ctx and error.ctx.command_path)
            code = error.exit_code
        sys.exit(code)

    def __init__(self, **attributes: Any):
        super().__init__(**attributes)
        settings.name_variables(self)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        write_commands(self, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        has_settings = args[:1] != ["config"] and {*ctx.help_option_names}.isdisjoint(args)
        rest = super().parse_args(ctx, args)
        if has_settings and not ctx.resilient_parsing:
            settings.install(ctx)
        return rest

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with exit_codes():  # --help and --version write to stdout
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        console.keep_odd_file_names()
        with exit_codes(), signals.raised():
            return super().invoke(ctx)


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn errors for the user into their messages and `typer.Exit`."""
    try:
        with enough_memory():
            yield
    except RestoreError as error:
        console.show_error(error)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as interrupt:
        console.show_interrupted()
        code = TERMINATED if isinstance(interrupt, signals.Terminated) else INTERRUPTED
        raise typer.Exit(code) from interrupt
    except BrokenPipeError as gone:
        console.drop_stdout()
        raise typer.Exit(READER_GONE) from gone
    except OSError as error:
        if error.errno not in FULL:
            raise
        full = console.full_stdout(error)
        console.show_error(full)
        raise typer.Exit(full.exit_code) from error


app = typer.Typer(
    name="restore",
    cls=RestoreGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,  # Typer's own options guess the shell instead of taking its name
    rich_markup_mode=None,  # importing rich takes a third of the time of --help
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="Example: restore derain rainy.jpg -o clean.jpg",
)


def show_version(wanted: bool) -> None:
    if wanted:
        console.show_line(f"restore {__version__}")
        raise typer.Exit()


@app.callback()
def restore(
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", callback=show_version, is_eager=True, help="Show the version."
        ),
    ] = False,
    install_completion: Annotated[
        Shell | None,
        typer.Option(callback=install_callback, is_eager=True, help="Install shell completion."),
    ] = None,
    show_completion: Annotated[
        Shell | None,
        typer.Option(callback=show_callback, is_eager=True, help="Show the completion script."),
    ] = None,
) -> None:
    """Restore photographs with neural networks, offline."""


IMAGES, QUALITY, TRAINING, SETUP = "Images", "Quality", "Weights and training", "Runs and setup"
command = partial(app.command, cls=Command)
making = partial(app.command, cls=RestoringCommand, rich_help_panel=IMAGES)
making(
    "derain",
    help="Remove rain from images, folders and videos (DPENet).",
    epilog="Example: restore derain photos/ -o out/ --recursive",
)(restore_same_size)
making(epilog="Example: restore denoise photo.jpg --strength 0.7")(denoise)
making(epilog="Example: restore enhance night.jpg -o bright.jpg")(enhance)
making(epilog="Example: restore upscale photo.png --scale 3")(upscale)
making(
    "dejpeg",
    help="Remove JPEG artefacts from images, folders and videos (MIRNet).",
    epilog="Example: restore dejpeg old.jpg -o clean.png",
)(restore_same_size)
for task, purpose, model in (
    ("deblur", "Remove blur", "NAFNet-GoPro-width64.pth"),
    ("dehaze", "Remove haze", "MixDehazeNet-b.pth"),
    ("face", "Restore a face", "RestoreFormer.ckpt"),
):
    making(
        task,
        help=f"{purpose} with a community model (--weights).",
        epilog=f"Example: restore {task} photo.jpg --weights {model}",
    )(restore_same_size)
making(epilog="Example: restore run photo.jpg --steps derain,upscale:2")(run)
command(epilog="Example: restore replay photo_derained.jpg", rich_help_panel=IMAGES)(replay)
making(epilog="Example: restore generate sunflower -o out.png")(generate)
command(epilog="Example: restore ui --port 8000", rich_help_panel=IMAGES)(ui)
command("eval", epilog="Example: restore eval out/ clean/ --protocol y", rich_help_panel=QUALITY)(
    evaluate
)
command(epilog="Example: restore compare photos/ out/ -o page.html", rich_help_panel=QUALITY)(
    compare
)
app.add_typer(
    bench.app,
    name="bench",
    help="Measure quality on test sets, and speed.",
    rich_help_panel=QUALITY,
)
command(
    epilog="Example: restore train dpenet --data photos/ --out run/ --time 2h",
    rich_help_panel=TRAINING,
)(train)
app.add_typer(
    ledger.app,
    name="ledger",
    help="Show, export and merge ledgers of batch runs.",
    rich_help_panel=SETUP,
)
app.add_typer(
    weights.app,
    name="weights",
    help="List, inspect, fetch, import, verify and remove weights.",
    rich_help_panel=TRAINING,
)
app.add_typer(
    config.app,
    name="config",
    help="Show settings, and where they come from.",
    rich_help_panel=SETUP,
)
command(epilog="Example: restore export dpenet.default -o dpenet.onnx", rich_help_panel=TRAINING)(
    export
)
command(epilog="Example: restore samples images/", rich_help_panel=SETUP)(samples)
command(epilog="Example: restore doctor --json", rich_help_panel=SETUP)(doctor)
