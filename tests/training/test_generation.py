"""Training of the generators: what they are shown, that they learn, that they go on."""

import shutil
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from typer.testing import CliRunner

from restore_cli.checkpoints import load_checkpoint
from restore_cli.cli.main import app
from restore_cli.data.classes import ClassImages
from restore_cli.errors import NothingToDo, OutputExists, UsageError, WeightsMismatch
from restore_cli.imaging.image import Image
from restore_cli.imaging.io import write
from restore_cli.networks.fit.model import PUBLISHED, FiT, Rope, unpatchify
from restore_cli.training.generation import (
    FITV2,
    UNET,
    NoiseVelocity,
    RectifiedFlow,
    at_high_resolution,
    find_generative,
    fit_classes,
    warmed_up_by,
)

CPU = torch.device("cpu")
SMALL_FIT = replace(
    FITV2,
    batch=16,
    steps=60,
    schedule=warmed_up_by(0.1),
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
    schedule=warmed_up_by(0.1),
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
each_recipe = pytest.mark.parametrize("recipe", [SMALL_FIT, SMALL_UNET], ids=["fitv2", "unet"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Red images and blue ones, lying and standing."""
    root = tmp_path_factory.mktemp("classes")
    for channel, name in ((0, "red"), (2, "blue")):
        (root / name).mkdir()
        for index in range(8):
            image = torch.zeros(3, *((8, 12) if index % 2 else (12, 8)))
            image[channel] = 1
            write(Image(image), root / name / f"{index}.png")
    return root


@pytest.fixture
def mixed():
    """A lying and a standing image of 2 x 4 and 6 x 2 pixels."""
    lying = torch.arange(24, dtype=torch.uint8).view(3, 2, 4)
    standing = torch.arange(100, 136, dtype=torch.uint8).view(3, 6, 2)
    return ClassImages(("a", "b"), (lying, standing), (0, 1))


class Recorder(nn.Module):
    """A network that answers zero and remembers what it was asked."""

    def __init__(self):
        super().__init__()
        self.asked = None

    def forward(self, x, *rest, **named):
        self.asked = (x, *rest, *named.values())
        return torch.zeros_like(x) if len(rest) > 1 else (torch.zeros_like(x),)


def ask(objective, rows, drop=0.0, seed=0):
    """What the network is asked, and the loss of the answer zero."""
    network, generator = Recorder(), torch.Generator().manual_seed(seed)
    loss = objective.loss(network, torch.tensor(rows), drop, generator)
    return network.asked, loss


# What a network is shown


def test_images_of_mixed_aspect_are_padded_at_the_end(mixed):
    (x, t, labels, grid, mask, sizes), _ = ask(RectifiedFlow(mixed, 2, CPU), [0, 2])
    assert x.shape == (2, 3, 12)
    assert mask.tolist() == [[1, 1, 0], [1, 1, 1]]
    assert sizes.tolist() == [[1, 2], [3, 1]]
    assert grid[0, 0, :2].tolist() == [0, 1]  # columns of the lying image
    assert grid[1, 1].tolist() == [0, 1, 2]  # rows of the standing one
    assert labels.tolist() == [0, 1]
    assert ((t > 0) & (t < 1)).all()


def test_a_batch_is_as_long_as_its_longest_image(mixed):
    (x, *_), _ = ask(RectifiedFlow(mixed, 2, CPU), [0, 1])
    assert x.shape == (2, 2, 12)


def test_every_second_row_is_mirrored(mixed):
    flow = RectifiedFlow(mixed, 2, CPU)
    for row, image in enumerate((mixed.images[0], mixed.images[0].flip(-1))):
        assert torch.equal(unpatchify(flow.tokens[row : row + 1, :2], (1, 2), 2)[0], image)


def test_the_loss_of_no_velocity_is_the_size_of_the_velocity(mixed):
    flow = RectifiedFlow(mixed, 2, CPU)
    (x, t, *_), loss = ask(flow, [2])
    data = flow.tokens[2:3].float() / 127.5 - 1
    noise = (x - t[:, None, None] * data) / (1 - t[:, None, None])
    assert loss.item() == pytest.approx((data - noise).square().mean().item(), rel=1e-4)


def test_padding_does_not_count_in_the_loss(mixed):
    flow = RectifiedFlow(mixed, 2, CPU)
    flow.tokens[0, 2:] = 255
    wild = ask(flow, [0, 2])[1]
    flow.tokens[0, 2:] = 0
    assert ask(flow, [0, 2])[1] == wild


def test_times_gather_in_the_middle(mixed):
    (_, t, *_), _ = ask(RectifiedFlow(mixed, 2, CPU), [0] * 4000)
    # Of sigmoid(N(0, 1)): half lies in sigmoid(+-0.6745).
    assert ((t > 0.3375) & (t < 0.6625)).float().mean().item() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("kind", ["flow", "noise"])
def test_a_share_of_the_labels_is_dropped(kind, mixed):
    square = ClassImages(mixed.names, (torch.zeros(3, 4, 4, dtype=torch.uint8),) * 2, (0, 1))
    objective = RectifiedFlow(mixed, 2, CPU) if kind == "flow" else NoiseVelocity(square, CPU)
    asked, _ = ask(objective, [0, 2] * 2000, drop=0.1)
    labels = asked[2]
    assert (labels == 2).float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert (labels[0::2] != 1).all()


def test_the_loss_of_no_velocity_to_noise_is_one(mixed):
    square = ClassImages(("a",), (torch.zeros(3, 8, 8, dtype=torch.uint8),), (0,))
    (noisy, t, *_), loss = ask(NoiseVelocity(square, CPU), [0, 1] * 50)
    assert loss.item() == pytest.approx(1, abs=0.05)
    assert noisy[t < 50].mean() < -0.8  # black is -1, and hardly noised in the first steps


# Training


@each_recipe
def test_a_generator_learns_and_its_weights_load(recipe, folder, tmp_path):
    told = []
    path = fit_classes(recipe, folder, tmp_path, device=CPU, on_progress=told.append)
    scores = [progress.validation_loss for progress in told if progress.validation_loss]
    assert len(told) == recipe.steps
    assert len(scores) == 2
    assert scores[1] < scores[0] < 1.6  # of no answer at all: 1, and 2 for velocities
    loaded = load_checkpoint(path)
    assert loaded.spec.arch == recipe.arch
    assert sum(p.numel() for p in loaded.module.parameters()) > 1000


@each_recipe
def test_a_resumed_training_is_the_uninterrupted_one(recipe, folder, tmp_path):
    short = replace(recipe, validate_every=2)
    options = {"device": CPU, "steps": 4}
    whole = fit_classes(short, folder, tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        fit_classes(short, folder, tmp_path / "halves", **options, on_progress=stop_at(3))
    halves = fit_classes(short, folder, tmp_path / "halves", **options, resume=True)
    one, other = (load_checkpoint(path).module.state_dict() for path in (whole, halves))
    assert_close(one, other, atol=0, rtol=0)


def stop_at(step):
    def stop(progress):
        if progress.step == step:
            raise KeyboardInterrupt

    return stop


def test_a_training_is_not_overwritten(folder, tmp_path):
    fit_classes(SMALL_FIT, folder, tmp_path, device=CPU, steps=1)
    with pytest.raises(OutputExists, match="holds a training already"):
        fit_classes(SMALL_FIT, folder, tmp_path, device=CPU, steps=2)


def test_a_finished_training_has_nothing_to_do(folder, tmp_path):
    fit_classes(SMALL_FIT, folder, tmp_path, device=CPU, steps=1)
    with pytest.raises(NothingToDo, match="already trained for 1 steps"):
        fit_classes(SMALL_FIT, folder, tmp_path, device=CPU, steps=1, resume=True)


def test_a_training_that_was_stopped_in_its_last_validation_is_not_finished(
    folder, tmp_path, monkeypatch
):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("restore_cli.training.generation.validate", interrupted)
        fit_classes(SMALL_FIT, folder, tmp_path, device=CPU, steps=1)
    assert fit_classes(SMALL_FIT, folder, tmp_path, device=CPU, steps=1, resume=True).exists()


def test_a_training_stops_in_time_and_keeps_its_weights(folder, tmp_path):
    path = fit_classes(SMALL_FIT, folder, tmp_path, device=CPU, time_limit=0)
    assert path.exists()
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 1


@pytest.mark.parametrize(
    ("progress", "share"), [(0, 0.01), (0.05, 1), (0.85, 1), (0.925, 0.5), (0.999, 1 / 150)]
)
def test_the_learning_rate_of_a_generator_rises_stays_and_falls_to_zero(progress, share):
    assert warmed_up_by(0.05)(progress) == pytest.approx(share)


# High resolution, as FiTv2-HR


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """Weights of a small FiTv2 of red and blue."""
    out = tmp_path_factory.mktemp("trained")
    return fit_classes(SMALL_FIT, folder, out, device=CPU, steps=2)


def learns(name):
    """The rule of the paper's authors, on names."""
    return any(part in name for part in ("x_embedder", "bias", "LN", "final_layer"))


def test_at_high_resolution_exactly_the_authors_choice_of_parameters_moves(
    trained, folder, tmp_path
):
    path = fit_classes(SMALL_HR, folder, tmp_path, init=str(trained), device=CPU)
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
    trained, folder, tmp_path
):
    path = fit_classes(SMALL_HR, folder, tmp_path, init=str(trained), device=CPU)
    network = load_checkpoint(path).module
    assert network.config.context_size == 4 * SMALL_FIT.config["context_size"]
    assert network.rope == Rope("linear", decouple=True, trained=4)


def test_high_resolution_needs_weights_to_begin_with(folder, tmp_path):
    with pytest.raises(UsageError, match="trains weights further") as caught:
        fit_classes(SMALL_HR, folder, tmp_path, device=CPU)
    assert "--init" in caught.value.hint


def test_high_resolution_of_other_classes_is_refused(trained, folder, tmp_path):
    for name in ("green", "red"):
        shutil.copytree(folder / "red", tmp_path / "classes" / name)
    with pytest.raises(WeightsMismatch, match="other layers or classes"):
        fit_classes(SMALL_HR, tmp_path / "classes", tmp_path / "out", init=str(trained), device=CPU)


def test_high_resolution_of_another_network_is_refused(trained, folder, tmp_path):
    wider = replace(SMALL_HR, config=SMALL_HR.config | {"hidden_size": 40})
    with pytest.raises(WeightsMismatch, match="other layers or classes"):
        fit_classes(wider, folder, tmp_path, init=str(trained), device=CPU)


def test_a_resumed_training_at_high_resolution_needs_them_no_more(trained, folder, tmp_path):
    fit_classes(SMALL_HR, folder, tmp_path, init=str(trained), device=CPU, steps=1)
    path = fit_classes(SMALL_HR, folder, tmp_path, device=CPU, resume=True)
    assert load_checkpoint(path).module.config.context_size == 64


def test_other_classes_may_begin_with_what_fits(trained, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "classes")
    shutil.copytree(folder / "red", tmp_path / "classes" / "green")
    path = fit_classes(
        SMALL_FIT, tmp_path / "classes", tmp_path / "out", init=str(trained), device=CPU, steps=1
    )
    began, now = (load_checkpoint(file).module.x_embedder.weight for file in (trained, path))
    assert_close(now, began, atol=0.02, rtol=0)  # a step at the learning rate of 5e-3


def test_an_unknown_preset_is_refused():
    with pytest.raises(UsageError, match="no preset of unet is called 'x'") as caught:
        find_generative("unet", "x")
    assert caught.value.hint == "one of: default, quick"


def test_the_command_trains_a_generator(folder, tmp_path):
    arguments = ["train", "fitv2", "--preset", "quick", "--steps", "1", "--quiet"]
    done = CliRunner().invoke(app, [*arguments, "--data", str(folder), "--out", str(tmp_path)])
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'fitv2.safetensors'}\n"


def test_the_command_takes_another_batch(folder, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "restore_cli.training.generation.fit_classes",
        lambda recipe, *_, **__: asked.append(recipe.batch) or tmp_path,
    )
    arguments = ["train", "fitv2", "--batch", "3", "--data", str(folder), "--out", str(tmp_path)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert asked == [3]


def test_the_command_refuses_options_that_a_generator_has_not(folder, tmp_path):
    arguments = ["train", "unet", "--loss", "l1", "--data", str(folder), "--out", str(tmp_path)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert "unet has one loss" in done.stderr
