"""Page of `restore ui`: its controls, and what they do."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import typer

from restore_cli.cli.ui_options import Line, Options, ShownOption
from restore_cli.cli.ui_work import STATES, Outcome, Work, describe, pack, previews
from restore_cli.errors import RestoreError, UsageError
from restore_cli.memory import enough_memory

MOST_UPLOADS = 50  # files of one run
LARGEST_UPLOAD = 500 << 20  # bytes of a file
MOST_ROWS = 500  # of a table
MOST_RADIOS = 4  # choices that are shown side by side
WIDTH = 280  # pixels of an option at least
BY_TASK = ("model", "weights")  # options whose choices are those of the task
ONE_AT_A_TIME: dict[str, Any] = {"concurrency_id": "computation", "concurrency_limit": 1}

# Checkboxes take no width of their own, and the texts below labels are too pale.
CSS = f"""
.option {{ min-width: min({WIDTH}px, 100%) !important }}
.outcome {{ overflow-wrap: anywhere }}
.outcome .state {{ white-space: nowrap }}
:root {{ --block-info-text-color: var(--neutral-600) }}
.dark {{ --block-info-text-color: var(--neutral-400) }}
"""

Values = Mapping[Any, Any]  # of components


def build(work: Work, folder: Path, options: Options) -> gr.Blocks:
    """Return the page; folder: for the results. Only a local page reads and writes folders."""
    with gr.Blocks(title="restore", analytics_enabled=False) as page:
        controls = Controls(options)
        with gr.Tabs():
            with gr.Tab("Images"):
                _images(controls, work, folder)
            if options.is_local:
                with gr.Tab("Folder"):
                    _folder(controls, work)
    page.queue(api_open=False)
    return page


class Controls:
    """The task, a preset, and the options of all tasks, of which those of one are visible."""

    def __init__(self, options: Options):
        self.options = options
        first = next(iter(options.commands))
        values = options.values(first)
        purpose = self._purpose(first)
        self.task = gr.Radio([*options.commands], value=first, label="Task", info=purpose)
        self.preset = gr.Dropdown(
            [("none", ""), *((name, name) for name in options.presets)],
            value="",
            label="Preset",
            info="Options in section [presets.NAME] of restore.toml.",
            visible=bool(options.presets),
        )
        self.of: dict[ShownOption, Any] = {}
        with gr.Row():
            self._add(first, values, is_simple=True)
        with gr.Accordion("More options", open=False), gr.Row():
            self._add(first, values, is_simple=False)
        before = gr.State((first, ""))
        inputs = [self.task, self.preset, before]
        outputs = [self.task, *self.of.values(), before]
        for control in (self.task, self.preset):
            control.input(self._fit, inputs, outputs, queue=False, show_progress="hidden")

    def inputs(self) -> set[Any]:
        return {self.task, self.preset, *self.of.values()}

    def line(self, values: Values, arguments: list[str]) -> Line:
        """Return the command that the page stands for. Raises UsageError."""
        task = values[self.task]
        given = {shown.name: values[self.of[shown]] for shown in self.options.of(task)}
        return self.options.line(task, given, arguments, preset=values[self.preset] or None)

    def _add(self, task: str, values: Mapping[str, Any], *, is_simple: bool) -> None:
        for shown in self.options.shown:
            if shown.is_simple == is_simple:
                visible = task in shown.tasks
                words = self.options.words(shown, task if visible else shown.tasks[0])
                value = values[shown.name] if visible else shown.option.default
                is_local = self.options.is_local
                self.of[shown] = _control(shown, words, value, is_local, visible=visible)

    def _fit(self, task: str, preset: str, before: tuple[str, str]) -> list[Any]:
        """Show the options of a task, with the values that its settings or a preset change."""
        with _errors_shown():
            values = self.options.values(task, preset or None)
            old = self.options.values(before[0], before[1] or None)
            updates = [gr.update(info=self._purpose(task))]
            for shown in self.of:
                if task not in shown.tasks:
                    updates.append(gr.update(visible=False))
                    continue
                change: dict[str, Any] = {"visible": True}
                if shown.name in BY_TASK and task != before[0]:
                    change["choices"] = _choices(shown, self.options.words(shown, task))
                if shown.name in BY_TASK or old.get(shown.name) != values[shown.name]:
                    change["value"] = _shown_value(shown, values[shown.name])
                updates.append(gr.update(**change))
            return [*updates, (task, preset)]

    def _purpose(self, task: str) -> str:
        return str(self.options.commands[task].help).splitlines()[0]


def _control(
    shown: ShownOption, words: list[str], value: Any, is_local: bool, *, visible: bool
) -> Any:
    """Return the control of an option."""
    usual: dict[str, Any] = {
        "label": shown.label,
        "info": shown.help,
        "value": _shown_value(shown, value),
        "visible": visible,
        "scale": 1,
        "min_width": WIDTH,
        "elem_classes": ["option"],
    }
    option = shown.option
    if shown.kind == "flag":
        return gr.Checkbox(**usual)
    if shown.kind == "slider":
        step = 0.05 if isinstance(option.default, float) else 1
        return gr.Slider(option.min, option.max, step=step, **usual)
    if shown.kind == "number" and option.default is not None:
        return gr.Number(precision=None if isinstance(option.default, float) else 0, **usual)
    if shown.kind == "switch":
        return gr.Radio([("auto", ""), ("yes", True), ("no", False)], **usual)
    if shown.kind == "number" or (shown.kind == "text" and not words):
        return gr.Textbox(placeholder=shown.usual or option.metavar, **usual)
    is_free = shown.kind == "text" and (is_local or shown.name != "weights")
    choices = _choices(shown, words)
    if is_free or len(choices) > MOST_RADIOS:
        return gr.Dropdown(choices, allow_custom_value=is_free, **usual)
    return gr.Radio(choices, **usual)


def _choices(shown: ShownOption, words: list[str]) -> list[tuple[str, str]]:
    """Return the labels and values of a list; an option without a value has its default first."""
    usual = [(f"default: {shown.usual}" if shown.usual else "default", "")]
    return [*(usual if shown.option.default is None else []), *((word, word) for word in words)]


def _shown_value(shown: ShownOption, value: Any) -> Any:
    """Return a value of an option as its control has it: of a setting, a text."""
    if isinstance(shown.option.default, int | float) and isinstance(value, str):
        return float(value)
    return "" if value is None else value


def _images(controls: Controls, work: Work, folder: Path) -> None:
    """Add the tab of uploaded images."""
    limits = f"up to {MOST_UPLOADS} files of up to {LARGEST_UPLOAD >> 20} MB"
    files = gr.File(label=f"Images, {limits}", file_count="multiple", height=160)
    with gr.Row():
        start, stop = gr.Button("Restore", variant="primary", scale=3), gr.Button("Stop", scale=1)
    table, results_state = gr.HTML(), gr.State([])
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
            place = tempfile.mkdtemp(dir=folder)
            output = f"{place}/{{hash}}/{{stem}}_{{task}}{{ext}}"
            line = controls.line(values, [*uploads, f"--output={output}"])
            done = work.run(line, lambda share, text: progress(share, desc=text))
            names = [Path(source).name for source, _ in done.results]
            paths = [target for _, target in done.results]
            several = len(paths) > 1
            packed = pack(paths, Path(place, "restored.zip")) if several else None
            return {
                table: table_of(done, folder),
                results_state: done.results,
                chosen: gr.update(
                    choices=names, value=names[0] if names else None, visible=several
                ),
                slider: show(0, done.results),
                results: gr.update(value=paths, visible=bool(paths)),
                archive: gr.update(value=packed, visible=several),
            }

    def show(index: int, pairs: list[tuple[str, str]]) -> Any:
        with _errors_shown(folder):
            value = previews(*pairs[index]) if pairs else None
            return gr.update(value=value, visible=value is not None)

    inputs = {files, *controls.inputs()}
    start.click(
        restore, inputs, [table, results_state, chosen, slider, results, archive], **ONE_AT_A_TIME
    )
    stop.click(work.stop, queue=False)
    chosen.input(show, [chosen, results_state], slider, show_progress="hidden")


def _folder(controls: Controls, work: Work) -> None:
    """Add the tab of folders on this machine."""
    with gr.Row():
        source = gr.Textbox(label="Source folder", placeholder="photos")
        output = gr.Textbox(label="Output folder", placeholder="beside each source")
    with gr.Row():
        recursive = gr.Checkbox(label="Include subfolders")
        existing = gr.Radio(
            [("refuse", ""), ("skip", "--skip-existing"), ("overwrite", "--overwrite")],
            value="",
            label="Existing outputs",
        )
    with gr.Row():
        preview = gr.Button("Show the plan")
        start, stop = gr.Button("Restore the folder", variant="primary"), gr.Button("Stop")
    table = gr.HTML()

    def line(values: Values) -> Line:
        if not values[source]:
            raise UsageError("no source folder", hint="for example /home/me/photos")
        words = [_absolute(values[source])]
        if values[output]:
            words.append(f"--output={os.path.join(_absolute(values[output]), '')}")
        words += ["--recursive"] if values[recursive] else []
        return controls.line(values, words + ([values[existing]] if values[existing] else []))

    def show_plan(values: Values) -> str:
        with _errors_shown():
            return table_of(work.plan(line(values)))

    def restore(values: Values, progress: gr.Progress = gr.Progress()) -> str:
        with _errors_shown():
            done = work.run(line(values), lambda share, text: progress(share, desc=text))
            return table_of(done)

    inputs = {source, output, recursive, existing, *controls.inputs()}
    preview.click(show_plan, inputs, table)
    start.click(restore, inputs, table, **ONE_AT_A_TIME)
    stop.click(work.stop, queue=False)


@contextmanager
def _errors_shown(folder: Path | None = None) -> Iterator[None]:
    """Show errors for the user in the page, with their hints."""
    try:
        with enough_memory():
            yield
    except (RestoreError, typer.BadParameter) as error:
        message = describe(error) if isinstance(error, RestoreError) else error.message
        text = escape(_without_folder(message, folder))
        raise gr.Error(text, duration=None, print_exception=False) from error


def refuse_uploads(paths: Sequence[str]) -> None:
    """Refuse no upload, and more than are taken at once. Raises UsageError."""
    if not paths:
        raise UsageError("no image", hint="drop some, or click to choose")
    if len(paths) > MOST_UPLOADS:
        raise UsageError(
            f"{len(paths)} files, at most {MOST_UPLOADS} are taken at once",
            hint="restore a folder: by its tab, or by the command line",
        )


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def summary_of(done: Outcome) -> str:
    """Return the numbers of sources by what became of them."""
    states = [state for _, state, _ in done.rows]
    words = {"ok": "restored", "skipped": "skipped", "failed": "failed", "planned": "planned"}
    counts = [f"{states.count(state)} {word}" for state, word in words.items() if state in states]
    return ", ".join((["stopped"] if done.is_stopped else []) + counts)


def table_of(done: Outcome, folder: Path | None = None) -> str:
    """Return an outcome as HTML, failures first; paths below `folder` are shown as names."""

    def shown(text: str) -> str:
        return escape(_without_folder(text, folder))

    rows = sorted(done.rows, key=lambda row: STATES.index(row[1]))
    lines = [
        f"<td>{shown(source)}</td><td class=state>{state}</td><td>{shown(text)}</td>"
        for source, state, text in rows[:MOST_ROWS]
    ]
    table = f"<table><tr>{'</tr><tr>'.join(lines)}</tr></table>" if lines else ""
    more = f"<p>and {len(rows) - MOST_ROWS} more</p>" if len(rows) > MOST_ROWS else ""
    summary = summary_of(done)
    messages = (text for text in done.messages if not text.startswith(summary))
    notes = "".join(f"<p>{shown(text)}</p>" for text in messages)
    return f"<div class=outcome><p><b>{summary}</b></p>{table}{more}{notes}</div>"


def _without_folder(text: str, folder: Path | None) -> str:
    return text if folder is None else re.sub(rf"{re.escape(str(folder))}\S*[\\/]", "", text)
