"""`restore train`: its arguments and its output."""

import json
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from restore_cli.cli.console import Reporter
from restore_cli.cli.main import app
from restore_cli.cli.train import TrainingLog
from restore_cli.training.processes import Processes
from restore_cli.training.recipes import RECIPES
from restore_cli.training.trainer import Progress


def train(*arguments):
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """The arguments of each training, which does not run."""
    made = []

    def train_restoration(recipe, source, options, *, workers):
        made.append((source, options, workers))
        return options.out / "weights"

    monkeypatch.setattr("restore_cli.training.restoration.train_restoration", train_restoration)
    return made


def test_the_list_has_a_line_for_each_preset():
    result = train("--list")
    assert result.exit_code == 0
    words = [tuple(line.split()[:2]) for line in result.stdout.splitlines()]
    assert words == [(name, preset) for name, entry in RECIPES.items() for preset in entry.presets]
    assert result.stderr == ""


def test_the_list_of_one_recipe_in_json():
    lines = [json.loads(line) for line in train("unet", "--list", "--json").stdout.splitlines()]
    assert [(line["recipe"], line["preset"]) for line in lines] == [
        ("unet", "default"),
        ("unet", "quick"),
        ("unet", "objects64"),
    ]
    assert all(line["description"] for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ([], "no recipe is named", "restore train --list"),
        (["nope"], "no recipe is called 'nope'", "tml, fitv2, unet"),
        (["unet", "--preset", "x"], "no preset of unet is called 'x'", "default, quick"),
        (["dpenet", "--data", "p"], "no output folder is named", "--out"),
        (["dpenet", "--out", "o"], "one of --data and --data-pairs", "--data-pairs DEGRADED"),
        (
            ["dpenet", "--out", "o", "--data", "p", "--data-pairs", "a", "b"],
            "one of --data and --data-pairs",
            "--data-pairs DEGRADED",
        ),
        (
            ["fitv2", "--out", "o", "--data-pairs", "a", "b"],
            "needs no pairs",
            "leave --loss, --scale, --data-pairs",
        ),
        (
            ["dpenet", "--out", "o", "--data", "p", "--workers", "many"],
            "--workers 'many' is not a number",
            "write auto",
        ),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(value) or "nothing",
)
def test_missing_and_contradicting_arguments_are_refused(arguments, message, hint):
    result = train(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert hint in result.stderr


@pytest.mark.parametrize(("workers", "processes"), [("auto", None), ("0", 0), ("3", 3)])
def test_workers_are_a_number_or_left_to_the_device(calls, tmp_path, workers, processes):
    result = train("dpenet", "--data", tmp_path, "--out", tmp_path, "--workers", workers)
    assert result.exit_code == 0, result.stderr
    assert calls[0][2] == processes


def test_a_time_leaves_the_steps_to_the_clock(calls, tmp_path):
    train("dpenet", "--data", tmp_path, "--out", tmp_path, "--time", "9m")
    options = calls[0][1]
    assert (options.steps, options.time_limit) == (None, 540)


def test_own_pairs_reach_the_training(calls, tmp_path):
    result = train("dpenet", "--data-pairs", tmp_path / "a", tmp_path / "b", "--out", tmp_path)
    assert result.stdout == f"{tmp_path / 'weights'}\n"
    assert calls[0][0] == (tmp_path / "a", tmp_path / "b")


def test_a_pair_without_its_counterpart_ends_in_one_line(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "a").mkdir()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a" / "one.png")
    result = train(
        "dpenet", "--data-pairs", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "o"
    )
    assert result.exit_code == 3
    assert "no counterpart for one.png" in result.stderr


def lines_of(capsys, steps, limit, reports, *, quiet=False):
    """The log of a training of so many (step, seconds)."""
    with Reporter("train", quiet=quiet) as report:
        log = TrainingLog(report, steps, limit, 30)
        for step, seconds in reports:
            log(Progress(step, steps, 0.5, seconds))
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_off_a_terminal_a_line_is_written_every_30_seconds(capsys):
    reports = [(step, 10.0 + step / 2) for step in range(1, 131)]
    assert lines_of(capsys, 1000, None, reports) == [
        "step 61, loss 0.5000, 2.00 steps/s, 7m50s left",
        "step 121, loss 0.5000, 2.00 steps/s, 7m20s left",
    ]


@pytest.mark.parametrize(
    ("steps", "limit", "left"),
    [(None, 100.0, "1m00s"), (None, 7300.0, "2h01m"), (50, 100.0, "0m20s"), (None, 35.0, "0m00s")],
)
def test_the_time_left_is_that_of_steps_or_clock(capsys, steps, limit, left):
    lines = lines_of(capsys, steps, limit, [(0, 10.0), (30, 40.0)])
    assert lines == [f"step 30, loss 0.5000, 1.00 steps/s, {left} left"]


def test_the_rate_is_that_of_steps_without_validations(capsys):
    with Reporter("train") as report:
        log = TrainingLog(report, 1000, None, 30)
        log(Progress(1, 1000, 0.5, 10.0))
        log(Progress(20, 1000, 0.5, 90.0, psnr=30.0, input_psnr=25.0))
        log(Progress(50, 1000, 0.5, 120.0))
    assert capsys.readouterr().err.splitlines() == [
        "step 20: loss 0.5000, validation 30.00 dB from 25.00 dB",
        "step 50, loss 0.5000, 1.00 steps/s, 15m50s left",
    ]


def test_quiet_has_no_lines(capsys):
    assert lines_of(capsys, 10, None, [(1, 0.0), (9, 90.0)], quiet=True) == []


def test_only_the_first_of_several_processes_prints(calls, tmp_path, monkeypatch):
    @contextmanager
    def join(device):
        yield Processes(rank=1, count=2), torch.device(device)

    monkeypatch.setattr("restore_cli.training.processes.join_processes", join)
    result = train("dpenet", "--data", tmp_path, "--out", tmp_path, "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert (result.stdout, result.stderr) == ("", "")
    assert calls[0][1].processes.count == 2
