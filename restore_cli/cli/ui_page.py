"""Page of `restore ui`: its controls, and what they do."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import gradio as gr

from restore_cli import registry
from restore_cli.batch.plan import Plan
from restore_cli.checkpoints import manifest
from restore_cli.cli.options import DEVICES
from restore_cli.cli.ui_work import (
    STATES,
    Choices,
    Done,
    Purpose,
    Row,
    Work,
    describe,
    failed_or_skipped,
    pack,
    plan_of,
    previews,
)
from restore_cli.errors import RestoreError, UsageError
from restore_cli.imaging.formats import Format
from restore_cli.inference.options import Precision, Resize
from restore_cli.memory import enough_memory
from restore_cli.tasks import TASKS

MOST_UPLOADS = 50  # files of one run
MOST_ROWS = 500  # of a table
ONE_AT_A_TIME: dict[str, Any] = {"concurrency_id": "computation", "concurrency_limit": 1}

Values = Mapping[Any, Any]  # of components


def build(work: Work, folder: Path, *, is_local: bool) -> gr.Blocks:
    """Return the page; folder: for the results. Only a local page reads and writes folders."""
    with gr.Blocks(title="restore", analytics_enabled=False) as page:
        controls = _controls(is_local)
        with gr.Tabs():
            with gr.Tab("Images"):
                _images(controls, work, folder)
            if is_local:
                with gr.Tab("Folder"):
                    _folder(controls, work)
    page.queue(api_open=False)
    return page


def _controls(is_local: bool) -> dict[str, Any]:
    """Add the options, by the fields of Choices."""
    usual = Choices()
    tasks = [name for name in TASKS if is_local or len(_weights_of(name)) > 1]
    of_tasks = {"scale": "upscale", "purpose": "upscale", "noise_limit": "denoise"}
    of_tasks["resize"] = "enhance"
    controls: dict[str, Any] = {"task": gr.Radio(tasks, value=usual.task, label="Task")}
    with gr.Row():
        controls |= {
            "scale": gr.Textbox(
                usual.scale, label="Scale", placeholder="2, or that of the weights", visible=False
            ),
            "purpose": gr.Radio(
                [*get_args(Purpose)], value=usual.purpose, label="For", visible=False
            ),
            "noise_limit": gr.Textbox(
                usual.noise_limit, label="Noise limit: auto, off, or sigma", visible=False
            ),
            "resize": gr.Radio(
                [*get_args(Resize)], value=usual.resize, label="Resize", visible=False
            ),
            "strength": gr.Slider(0, 1, value=usual.strength, step=0.05, label="Strength"),
        }
    with gr.Accordion("More options", open=False):
        controls |= _more_options(usual, is_local)

    def fit(task: str) -> list[Any]:
        shown = [gr.update(visible=task == owner) for owner in of_tasks.values()]
        weights = gr.update(choices=_weights_of(task), value=usual.weights)
        return [*shown, gr.update(visible=task != "upscale"), weights]

    changed = [controls[name] for name in (*of_tasks, "strength", "weights")]
    controls["task"].change(fit, controls["task"], changed, queue=False, show_progress="hidden")
    return controls


def _more_options(usual: Choices, is_local: bool) -> dict[str, Any]:
    with gr.Row():
        network = {
            "weights": gr.Dropdown(
                _weights_of(usual.task),
                value=usual.weights,
                label="Weights: a name or a file" if is_local else "Weights",
                allow_custom_value=is_local,
            ),
            "tile": gr.Textbox(usual.tile, label="Tile: auto, off, exact, or pixels"),
            "device": gr.Dropdown(
                [*DEVICES], value=usual.device, label="Device", allow_custom_value=True
            ),
            "precision": gr.Dropdown(
                [*get_args(Precision)], value=usual.precision, label="Precision"
            ),
        }
    with gr.Row():
        return network | {
            "format": gr.Dropdown(
                [("that of the source", ""), *((name, name) for name in get_args(Format))],
                value=usual.format,
                label="Format",
            ),
            "quality": gr.Textbox(
                label="Quality, 1 to 100", placeholder="JPEG 95, WebP lossless, video 90"
            ),
        }


def _weights_of(task: str) -> list[tuple[str, str]]:
    """Return the labels and names of the weights of a task, the default first."""
    names = [
        name
        for name, entry in manifest.entries().items()
        if task in (entry.tasks or registry.find(entry.arch).tasks)
    ]
    return [("default", ""), *((name, name) for name in names)]


def choices_of(values: Values, controls: Mapping[str, Any]) -> Choices:
    """Read the controls; one that was emptied leaves the default of the command.

    Raises UsageError.
    """
    given = {name: values[control] for name, control in controls.items()}
    given = {name: value for name, value in given.items() if value not in (None, "")}
    if quality := given.pop("quality", ""):
        if not (quality.isdecimal() and 1 <= int(quality) <= 100):
            raise UsageError(f"quality {quality}: wanted a number from 1 to 100")
        given["quality"] = int(quality)
    return Choices(**given)


def _images(controls: dict[str, Any], work: Work, folder: Path) -> None:
    """Add the tab of uploaded images."""
    files = gr.File(label="Images", file_count="multiple", height=160)
    with gr.Row():
        start, stop = gr.Button("Restore", variant="primary"), gr.Button("Stop")
    table, made = gr.HTML(), gr.State([])
    chosen = gr.Dropdown(label="Image", type="index", visible=False)
    slider = gr.ImageSlider(
        label="Before and after", visible=False, buttons=["fullscreen"], elem_id="slider"
    )
    results = gr.File(label="Results", visible=False, interactive=False, elem_id="results")
    archive = gr.DownloadButton("Download all (zip)", visible=False)

    def restore(values: Values, progress: gr.Progress = gr.Progress()) -> dict[Any, Any]:
        with _errors_shown(folder):
            uploads = values[files] or []
            refuse_uploads(uploads)
            choices, place = choices_of(values, controls), tempfile.mkdtemp(dir=folder)
            planned = plan_of(choices, uploads, f"{place}/{{hash}}/{{stem}}_{{task}}{{ext}}")
            done = work.run(choices, planned, lambda share, text: progress(share, desc=text))
            names = [Path(source).name for source, _ in done.made]
            paths = [target for _, target in done.made]
            several = len(paths) > 1
            packed = pack(paths, Path(place, "restored.zip")) if several else None
            return {
                table: table_of(done.rows, summary_of(done), folder),
                made: done.made,
                chosen: gr.update(
                    choices=names, value=names[0] if names else None, visible=several
                ),
                slider: show(0, done.made),
                results: gr.update(value=paths, visible=bool(paths)),
                archive: gr.update(value=packed, visible=several),
            }

    def show(index: int, made: list[tuple[str, str]]) -> Any:
        with _errors_shown(folder):
            value = previews(*made[index]) if made else None
            return gr.update(value=value, visible=value is not None)

    inputs = {files, *controls.values()}
    start.click(restore, inputs, [table, made, chosen, slider, results, archive], **ONE_AT_A_TIME)
    stop.click(work.stop, queue=False)
    chosen.input(show, [chosen, made], slider, show_progress="hidden")


def _folder(controls: dict[str, Any], work: Work) -> None:
    """Add the tab of folders on this machine."""
    with gr.Row():
        source = gr.Textbox(label="Source folder", placeholder="photos")
        output = gr.Textbox(label="Output folder", placeholder="beside each source")
    with gr.Row():
        recursive = gr.Checkbox(label="Include subfolders")
        existing = gr.Radio(
            [("refuse", "error"), "skip", "overwrite"], value="error", label="Existing outputs"
        )
    with gr.Row():
        preview = gr.Button("Show the plan")
        start, stop = gr.Button("Restore the folder", variant="primary"), gr.Button("Stop")
    table = gr.HTML()

    def plan(values: Values) -> Plan:
        if not values[source]:
            raise UsageError("no source folder", hint="for example /home/me/photos")
        place = values[output] and os.path.join(_absolute(values[output]), "")
        return plan_of(
            choices_of(values, controls),
            [_absolute(values[source])],
            place or None,
            recursive=values[recursive],
            existing=values[existing],
        )

    def show_plan(values: Values) -> str:
        with _errors_shown():
            planned = plan(values)
            jobs = islice(planned.jobs, MOST_ROWS)
            rows = [(str(job.source), "planned", str(job.target)) for job in jobs]
            summary = f"{len(planned.jobs)} planned, nothing done"
            return table_of(failed_or_skipped(planned) + rows, summary)

    def restore(values: Values, progress: gr.Progress = gr.Progress()) -> str:
        with _errors_shown():
            planned, choices = plan(values), choices_of(values, controls)
            done = work.run(choices, planned, lambda share, text: progress(share, desc=text))
            return table_of(done.rows, summary_of(done))

    inputs = {source, output, recursive, existing, *controls.values()}
    preview.click(show_plan, inputs, table)
    start.click(restore, inputs, table, **ONE_AT_A_TIME)
    stop.click(work.stop, queue=False)


@contextmanager
def _errors_shown(folder: Path | None = None) -> Iterator[None]:
    """Show errors for the user in the page, with their hints."""
    try:
        with enough_memory():
            yield
    except RestoreError as error:
        text = escape(_without_folder(describe(error), folder))
        raise gr.Error(text, duration=None, print_exception=False) from error


def refuse_uploads(paths: Sequence[str]) -> None:
    """Raises UsageError for none, and for more than are taken at once."""
    if not paths:
        raise UsageError("no image", hint="drop some, or click to choose")
    if len(paths) > MOST_UPLOADS:
        raise UsageError(
            f"{len(paths)} files, at most {MOST_UPLOADS} are taken at once",
            hint="restore a folder: by its tab, or by the command line",
        )


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def summary_of(done: Done) -> str:
    """Return the numbers of sources by what became of them."""
    states = [state for _, state, _ in done.rows]
    words = {"ok": "restored", "skipped": "skipped", "failed": "failed"}
    said = [f"{states.count(state)} {word}" for state, word in words.items() if state in states]
    return ", ".join((["stopped"] if done.is_stopped else []) + said)


def table_of(rows: Sequence[Row], summary: str, folder: Path | None = None) -> str:
    """Return a table as HTML, failures first; paths below `folder` are shown as names."""
    lines = [
        "".join(f"<td>{escape(_without_folder(cell, folder))}</td>" for cell in row)
        for row in sorted(rows, key=lambda row: STATES.index(row[1]))[:MOST_ROWS]
    ]
    more = f"<p>and {len(rows) - MOST_ROWS} more</p>" if len(rows) > MOST_ROWS else ""
    table = f"<table><tr>{'</tr><tr>'.join(lines)}</tr></table>" if lines else ""
    return f'<div style="overflow-wrap: anywhere"><p>{escape(summary)}</p>{table}{more}</div>'


def _without_folder(text: str, folder: Path | None) -> str:
    return text if folder is None else re.sub(rf"{re.escape(str(folder))}\S*[\\/]", "", text)
