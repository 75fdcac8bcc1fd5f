"""Training of the generators: their objectives, their learning, their resumption."""

import shutil
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from typer.testing import CliRunner

from restore_cli import registry
from restore_cli.checkpoints import load_checkpoint
from restore_cli.cli.main import app
from restore_cli.data.classes import ClassImages
from restore_cli.errors import UsageError, WeightsMismatch
from restore_cli.networks.fit.model import PUBLISHED, FiT, Rope, unpatchify
from restore_cli.training import generation
from restore_cli.training.generation import (
    MultiResolutionNoise,
    NoiseVelocity,
    RectifiedFlow,
    optimizer_of,
)
from restore_cli.training.recipes.dimr import DIMR, pixels
from restore_cli.training.recipes.fit import FITV2, at_high_resolution
from restore_cli.training.recipes.unet import UNET
from restore_cli.training.schedule import generative_schedule
from tests.training.runs import CPU, stop_at, train_classes

SMALL_FIT = replace(
    FITV2,
    batch=16,
    steps=60,
    schedule=generative_schedule(0.1),
    learning_rate=5e-3,
    ema=0.9,
    validate_every=30,
    config={
        "in_channels": 3,
        "patch_size": 2,
        "context_size": 16,
        "ori_max_pe_len": 4,
        "hidden_size": 32,
        "depth": 1,
        "num_heads": 2,
        "adaln_lora_dim": 8,
    },
)
SMALL_UNET = replace(
    UNET,
    batch=8,
    steps=40,
    schedule=generative_schedule(0.1),
    learning_rate=5e-3,
    ema=0.9,
    validate_every=20,
    config={
        "sample_size": 8,
        "widths": [8, 8],
        "layers": 1,
        "groups": 4,
        "head_dim": 8,
        "attention_levels": 1,
    },
)
SMALL_HR = at_high_resolution(SMALL_FIT, steps=2)
SMALL_DIMR = replace(
    DIMR,
    batch=8,
    steps=40,
    schedule=generative_schedule(0.1),
    learning_rate=5e-3,
    ema=0.9,
    validate_every=20,
    config=pixels((16, 8), (1, 1), 8, heads=2),
)
each_recipe = pytest.mark.parametrize(
    "recipe", [SMALL_FIT, SMALL_UNET, SMALL_DIMR], ids=["fitv2", "unet", "dimr"]
)


@pytest.fixture
def mixed():
    """A lying and a standing image of 2 x 4 and 6 x 2 pixels."""
    lying = torch.arange(24, dtype=torch.uint8).view(3, 2, 4)
    standing = torch.arange(100, 136, dtype=torch.uint8).view(3, 6, 2)
    return ClassImages(("a", "b"), (lying, standing), (0, 1))


class Recorder(nn.Module):
    """A network that returns zeros and remembers its inputs."""

    def __init__(self):
        super().__init__()
        self.inputs = None

    def forward(self, x, *rest, **named):
        self.inputs = (x, *rest, *named.values())
        return torch.zeros_like(x) if len(rest) > 1 else (torch.zeros_like(x),)


def run(objective, rows, drop=0.0, seed=0):
    """(inputs of the network, loss of an output of zeros)"""
    network, generator = Recorder(), torch.Generator().manual_seed(seed)
    loss = objective.loss(network, *objective.draw(torch.tensor(rows), drop, generator))
    return network.inputs, loss


# Objectives


def test_images_of_mixed_aspect_are_padded_at_the_end(mixed):
    (x, t, labels, grid, mask, sizes), _ = run(RectifiedFlow(mixed, 2, CPU), [0, 2])
    assert x.shape == (2, 3, 12)
    assert mask.tolist() == [[1, 1, 0], [1, 1, 1]]
    assert sizes.tolist() == [[1, 2], [3, 1]]
    assert grid[0, 0, :2].tolist() == [0, 1]  # columns of the lying image
    assert grid[1, 1].tolist() == [0, 1, 2]  # rows of the standing one
    assert labels.tolist() == [0, 1]
    assert ((t > 0) & (t < 1)).all()


def test_a_batch_is_as_long_as_its_longest_image(mixed):
    (x, *_), _ = run(RectifiedFlow(mixed, 2, CPU), [0, 1])
    assert x.shape == (2, 2, 12)


def test_every_second_row_is_mirrored(mixed):
    flow = RectifiedFlow(mixed, 2, CPU)
    for row, image in enumerate((mixed.images[0], mixed.images[0].flip(-1))):
        assert torch.equal(unpatchify(flow.tokens[row : row + 1, :2], (1, 2), 2)[0], image)


def test_the_loss_of_no_velocity_is_the_size_of_the_velocity(mixed):
    flow = RectifiedFlow(mixed, 2, CPU)
    (x, t, *_), loss = run(flow, [2])
    data = flow.tokens[2:3].float() / 127.5 - 1
    noise = (x - t[:, None, None] * data) / (1 - t[:, None, None])
    assert loss.item() == pytest.approx((data - noise).square().mean().item(), rel=1e-4)


def test_padding_does_not_count_in_the_loss(mixed):
    flow = RectifiedFlow(mixed, 2, CPU)
    flow.tokens[0, 2:] = 255
    wild = run(flow, [0, 2])[1]
    flow.tokens[0, 2:] = 0
    assert run(flow, [0, 2])[1] == wild


def test_times_gather_in_the_middle(mixed):
    (_, t, *_), _ = run(RectifiedFlow(mixed, 2, CPU), [0] * 4000)
    # Of sigmoid(N(0, 1)): half lies in sigmoid(+-0.6745).
    assert ((t > 0.3375) & (t < 0.6625)).float().mean().item() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("kind", ["flow", "noise"])
def test_a_share_of_the_labels_is_dropped(kind, mixed):
    square = ClassImages(mixed.names, (torch.zeros(3, 4, 4, dtype=torch.uint8),) * 2, (0, 1))
    objective = RectifiedFlow(mixed, 2, CPU) if kind == "flow" else NoiseVelocity(square, CPU)
    inputs, _ = run(objective, [0, 2] * 2000, drop=0.1)
    labels = inputs[2]
    assert (labels == 2).float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert (labels[0::2] != 1).all()


def test_the_loss_of_no_velocity_to_noise_is_one(mixed):
    square = ClassImages(("a",), (torch.zeros(3, 8, 8, dtype=torch.uint8),), (0,))
    (noisy, t, *_), loss = run(NoiseVelocity(square, CPU), [0, 1] * 50)
    assert loss.item() == pytest.approx(1, abs=0.05)
    assert noisy[t < 50].mean() < -0.8  # black is -1, and hardly noised in the first steps


class Silent(nn.Module):
    """A DiMR of three resolutions that returns zeros and remembers its inputs."""

    def forward(self, x, n, y):
        self.inputs = x, n, y
        return tuple(torch.zeros_like(x[..., ::r, ::r]) for r in (4, 2, 1))


def test_the_loss_of_no_noise_is_the_sum_of_the_weights_of_the_resolutions():
    white = ClassImages(("a", "b"), (torch.full((3, 32, 32), 255, dtype=torch.uint8),) * 2, (0, 1))
    network, rows = Silent(), torch.arange(4).repeat(100)
    objective = MultiResolutionNoise(white, CPU)
    drawn = objective.draw(rows, 0.1, torch.Generator().manual_seed(0))
    loss = objective.loss(network, *drawn)
    assert loss.item() == pytest.approx(1 + 1 / 4 + 1 / 16, abs=0.02)
    x, n, y = network.inputs
    assert (n.min() >= 1, n.max() <= 1000) == (True, True)
    assert x[n < 50].mean() > 0.8  # white is 1, and hardly noised in the first steps
    assert (y == 2).float().mean().item() == pytest.approx(0.1, abs=0.05)
    assert (y[2:4] != 0).all()


# Training


def test_the_times_of_a_dimr_are_not_decayed():
    network = registry.build("dimr", **SMALL_DIMR.config)
    decayed, free = optimizer_of(SMALL_DIMR, network).param_groups
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.03, 0.0)
    assert {names[id(one)].split(".")[-1] for one in free["params"]} == {"slope", "shift"}
    assert len(decayed["params"]) + len(free["params"]) == len(names)


@each_recipe
def test_a_resumed_training_equals_an_uninterrupted_one(recipe, class_folder, tmp_path):
    recipe = replace(recipe, steps=4, validate_every=2)
    with pytest.raises(KeyboardInterrupt):
        train_classes(recipe, class_folder, tmp_path / "two", on_progress=stop_at(3))
    paths = [
        train_classes(recipe, class_folder, tmp_path / out, resume=out == "two")
        for out in ("one", "two")
    ]
    whole, resumed = (load_checkpoint(path).module.state_dict() for path in paths)
    assert_close(resumed, whole, atol=0, rtol=0)


@each_recipe
def test_a_generator_learns_and_its_weights_load(recipe, class_folder, tmp_path):
    reports = []
    path = train_classes(recipe, class_folder, tmp_path, on_progress=reports.append)
    scores = [progress.validation_loss for progress in reports if progress.validation_loss]
    assert len(reports) == recipe.steps
    assert len(scores) == 2
    assert scores[1] < scores[0] < 1.6  # an output of zeros has 1, and 2 for velocities
    loaded = load_checkpoint(path)
    assert loaded.spec.arch == recipe.arch
    assert sum(p.numel() for p in loaded.module.parameters()) > 1000


@pytest.mark.parametrize(
    ("progress", "share"), [(0, 0.01), (0.05, 1), (0.85, 1), (0.925, 0.5), (0.999, 1 / 150)]
)
def test_the_learning_rate_of_a_generator_rises_stays_and_falls_to_zero(progress, share):
    assert generative_schedule(0.05)(progress) == pytest.approx(share)


# High resolution, as FiTv2-HR


@pytest.fixture(scope="module")
def trained(class_folder, tmp_path_factory):
    """Weights of a small FiTv2 of red and blue."""
    out = tmp_path_factory.mktemp("trained")
    return train_classes(SMALL_FIT, class_folder, out, steps=2)


def learns(name):
    """The authors' rule on the names of parameters."""
    return any(part in name for part in ("x_embedder", "bias", "LN", "final_layer"))


def test_at_high_resolution_exactly_the_authors_choice_of_parameters_moves(
    trained, class_folder, tmp_path
):
    path = train_classes(SMALL_HR, class_folder, tmp_path, init=str(trained))
    before, after = (load_checkpoint(file).module.state_dict() for file in (trained, path))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if learns(name)}


def test_that_choice_is_the_published_share_of_fitv2_xl():
    with torch.device("meta"):
        network = FiT(PUBLISHED["FiTv2-XL/2"])
    counts = {name: parameter.numel() for name, parameter in network.named_parameters()}
    chosen = sum(count for name, count in counts.items() if learns(name))
    assert chosen / sum(counts.values()) == pytest.approx(0.14151, abs=1e-5)


def test_at_high_resolution_images_are_twice_as_large_and_positions_scale(
    trained, class_folder, tmp_path
):
    path = train_classes(SMALL_HR, class_folder, tmp_path, init=str(trained))
    network = load_checkpoint(path).module
    assert network.config.context_size == 4 * SMALL_FIT.config["context_size"]
    assert network.rope == Rope("linear", decouple=True, trained=4)


def test_high_resolution_needs_weights_to_begin_with(class_folder, tmp_path):
    with pytest.raises(UsageError, match="needs initial weights") as caught:
        train_classes(SMALL_HR, class_folder, tmp_path)
    assert "--init" in caught.value.hint


def test_high_resolution_of_other_classes_is_refused(trained, class_folder, tmp_path):
    for name in ("green", "red"):
        shutil.copytree(class_folder / "red", tmp_path / "classes" / name)
    with pytest.raises(WeightsMismatch, match="other layers or classes"):
        train_classes(SMALL_HR, tmp_path / "classes", tmp_path / "out", init=str(trained))


def test_high_resolution_of_another_network_is_refused(trained, class_folder, tmp_path):
    wider = replace(SMALL_HR, config=SMALL_HR.config | {"hidden_size": 40})
    with pytest.raises(WeightsMismatch, match="other layers or classes"):
        train_classes(wider, class_folder, tmp_path, init=str(trained))


def test_a_resumed_training_at_high_resolution_needs_them_no_more(trained, class_folder, tmp_path):
    train_classes(SMALL_HR, class_folder, tmp_path, init=str(trained), steps=1)
    path = train_classes(SMALL_HR, class_folder, tmp_path, resume=True)
    assert load_checkpoint(path).module.config.context_size == 64


def test_other_classes_may_begin_with_what_fits(trained, class_folder, tmp_path):
    shutil.copytree(class_folder, tmp_path / "classes")
    shutil.copytree(class_folder / "red", tmp_path / "classes" / "green")
    path = train_classes(
        SMALL_FIT, tmp_path / "classes", tmp_path / "out", init=str(trained), steps=1
    )
    began, now = (load_checkpoint(file).module.x_embedder.weight for file in (trained, path))
    assert_close(now, began, atol=0.02, rtol=0)  # a step at the learning rate of 5e-3


@pytest.mark.parametrize(("recipe", "preset"), [("fitv2", "quick"), ("dimr", "objects")])
def test_the_command_trains_a_generator(recipe, preset, class_folder, tmp_path):
    arguments = ["train", recipe, "--preset", preset, "--steps", "1", "--quiet"]
    done = CliRunner().invoke(
        app, [*arguments, "--data", str(class_folder), "--out", str(tmp_path)]
    )
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{tmp_path / recipe}.safetensors\n"


def test_the_command_takes_another_batch(class_folder, tmp_path, monkeypatch):
    batches = []
    monkeypatch.setattr(
        generation, "train_generator", lambda recipe, *_: batches.append(recipe.batch) or tmp_path
    )
    arguments = ["train", "fitv2", "--batch", "3", "--data", str(class_folder), "--out"]
    assert CliRunner().invoke(app, [*arguments, str(tmp_path)]).exit_code == 0
    assert batches == [3]


def test_the_command_refuses_options_that_a_generator_has_not(class_folder, tmp_path):
    arguments = [
        "train",
        "unet",
        "--loss",
        "l1",
        "--data",
        str(class_folder),
        "--out",
        str(tmp_path),
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert "unet has one loss" in done.stderr
