"""Runs of small trainings on the CPU, and the files they leave."""

import json

import torch

from restore_cli.training.generation import train_generator
from restore_cli.training.restoration import open_restoration, train_restoration
from restore_cli.training.trainer import TrainingOptions, start_budget

CPU = torch.device("cpu")


def train(recipe, source, out, *, workers=None, **options):
    """The path of the weights."""
    options = TrainingOptions(out, CPU, **options)
    return train_restoration(recipe, source, options, workers=workers)


def train_classes(recipe, folder, out, **options):
    """The path of the weights of a generator."""
    return train_generator(recipe, folder, TrainingOptions(out, CPU, **options))


def new_state(recipe, out, device=CPU, **options):
    """The state before the first step."""
    options = TrainingOptions(out, device, **options)
    return open_restoration(recipe, options, start_budget(recipe, options))


def state_of(out):
    return torch.load(out / "state.pt", weights_only=True)


def log_of(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def stop_at(step):
    """Interrupt the training after this step."""

    def stop(progress):
        if progress.step == step:
            raise KeyboardInterrupt

    return stop
