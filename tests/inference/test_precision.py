"""Which precision is taken, and why."""

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from restore_cli import registry, restore
from restore_cli.checkpoints.load import Checkpoint
from restore_cli.errors import BrokenOutput
from restore_cli.imaging.image import Image
from restore_cli.inference import restorer as pipeline
from restore_cli.inference.options import RunOptions
from restore_cli.inference.restorer import Restorer


class Coarse(nn.Module):
    """Changes nothing in float32; is off by `error` everywhere under autocast."""

    def __init__(self, error: float):
        super().__init__()
        self.error = error

    def forward(self, x):
        return x + self.error if torch.is_autocast_enabled("cpu") else x


def restorer(network, **options):
    spec = registry.configured(registry.MODELS["dpenet"], {})
    checkpoint = Checkpoint("tiny", Path("tiny"), "", spec, network)
    return Restorer(checkpoint, RunOptions(device="cpu", **options))


@pytest.fixture
def fast_bfloat16(monkeypatch):
    monkeypatch.setattr(pipeline, "fastest_low_precision", lambda device: torch.bfloat16)


@pytest.mark.usefixtures("fast_bfloat16")
@pytest.mark.parametrize(
    ("error", "taken"),
    [(0.003, "bf16"), (0.004, "fp32"), (float("nan"), "fp32")],
    ids=["50.5 dB", "48.0 dB", "not a number"],
)
def test_auto_takes_16_bit_from_50_db_on(error, taken, caplog):
    run = restorer(Coarse(error))
    with caplog.at_level(logging.INFO):
        report = run(Image(torch.rand(3, 8, 8))).report
    assert report.precision == taken
    assert f"taking {taken}" in caplog.text


def test_auto_takes_float32_where_nothing_is_faster(monkeypatch):
    monkeypatch.setattr(pipeline, "fastest_low_precision", lambda device: None)
    assert restorer(Coarse(0))(Image(torch.rand(3, 8, 8))).report.precision == "fp32"


@pytest.mark.usefixtures("fast_bfloat16")
def test_the_trial_is_made_once():
    run = restorer(Coarse(0))
    run.run(torch.rand(3, 8, 8))
    run.network = Coarse(1)
    assert run(Image(torch.rand(3, 8, 8))).report.precision == "bf16"


@pytest.mark.parametrize(("asked", "seen"), [("fp32", False), ("bf16", True), ("fp16", True)])
def test_a_precision_that_was_asked_for_is_taken(asked, seen):
    restored = restorer(Coarse(0.5), precision=asked)(Image(torch.zeros(3, 8, 8)))
    assert bool((restored.image.pixels == 0.5).all()) == seen
    assert restored.report.precision == asked


@pytest.mark.usefixtures("fast_bfloat16")
def test_the_python_function_computes_in_float32(random_weights):
    pixels = torch.rand(3, 16, 16)
    exact = pipeline.load_restorer(
        "derain", RunOptions(weights=str(random_weights), precision="fp32")
    )
    assert torch.equal(restore("derain", pixels, weights=str(random_weights)), exact.run(pixels))


class Overflowing(nn.Module):
    """Changes nothing in float32; makes bright pixels infinite under autocast."""

    def forward(self, x):
        low = torch.is_autocast_enabled("cpu")
        return torch.where(x > 0.9, torch.inf, x) if low else x


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_tile_that_overflows_in_low_precision_is_computed_in_float32(precision, caplog):
    pixels = torch.rand(3, 40, 300) * 0.8
    pixels[..., ::100] = 0.95
    run = restorer(Overflowing(), precision=precision, tile=64)
    for _ in range(2):
        torch.testing.assert_close(run.run(pixels), pixels, atol=1e-6, rtol=0)
    assert caplog.messages == [f"NaN or infinity in {precision}: such tiles use float32"]


def test_what_is_infinite_in_float32_too_is_an_error():
    with pytest.raises(BrokenOutput, match="in float32"):
        restorer(Coarse(0), precision="bf16").run(torch.full((3, 8, 8), torch.inf))
