"""Which precision is taken, and why."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from restore_cli import registry, restore
from restore_cli.checkpoints.load import Checkpoint, load_checkpoint
from restore_cli.errors import BrokenOutput, UsageError
from restore_cli.imaging.image import Image
from restore_cli.inference import device as device_module
from restore_cli.inference import runner
from restore_cli.inference.device import DTYPES, compute_in
from restore_cli.inference.options import RunOptions
from restore_cli.inference.replayed import ReplayChain
from restore_cli.inference.restorer import Restorer, load_restorer


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
    monkeypatch.setattr(runner, "low_precisions", lambda device: ("bf16",))


@pytest.mark.usefixtures("fast_bfloat16")
@pytest.mark.parametrize(
    ("error", "taken"),
    [(0.003, "bf16"), (0.004, "fp32"), (float("nan"), "fp32")],
    ids=["50.5 dB", "48.0 dB", "not a number"],
)
def test_auto_takes_16_bit_from_50_db_on(error, taken):
    run = restorer(Coarse(error))
    assert run(Image(torch.rand(3, 8, 8))).report.precision == taken


class CoarseIfBright(nn.Module):
    """Is off by 0.1 under autocast where the image is bright."""

    def forward(self, x):
        return x + 0.1 * (x.mean() > 0.9) if torch.is_autocast_enabled("cpu") else x


@pytest.mark.usefixtures("fast_bfloat16")
def test_the_precision_does_not_depend_on_the_first_image():
    for level in (0, 1):
        run = restorer(CoarseIfBright())
        assert run(Image(torch.full((3, 8, 8), float(level)))).report.precision == "bf16"


@pytest.mark.usefixtures("fast_bfloat16")
@pytest.mark.parametrize("weights", ["cbsn.fast", "mirnet.denoise", "mirnet.jpeg", "espcn.x2"])
def test_bundled_networks_are_within_the_gate_in_bfloat16(weights):
    task = {"espcn.x2": "upscale", "mirnet.jpeg": "dejpeg"}.get(weights, "denoise")
    options = RunOptions(weights=weights, device="cpu", backend="torch")
    assert load_restorer(task, options)(Image(torch.rand(3, 8, 8))).report.precision == "bf16"


def test_auto_takes_float32_where_nothing_is_faster(monkeypatch):
    monkeypatch.setattr(runner, "low_precisions", lambda device: ())
    assert restorer(Coarse(0))(Image(torch.rand(3, 8, 8))).report.precision == "fp32"


CUDA = torch.device("cuda")


class Switched(nn.Module):
    """Is off by `low` under autocast, by `tf32` where TF32 is on, and remembers the switches."""

    def __init__(self, low: float, tf32: float):
        super().__init__()
        self.low, self.tf32, self.seen = low, tf32, []

    def forward(self, x):
        self.seen.append(switches())
        if torch.is_autocast_enabled("cpu"):
            return x + self.low
        return x + self.tf32 if torch.backends.cudnn.allow_tf32 else x


def switches():
    return torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()


@pytest.fixture
def like_cuda(monkeypatch):
    """Networks run on the CPU, with the switches and the precisions of CUDA."""

    @contextmanager
    def switched(precision, device, **options):
        with torch.autocast("cpu", DTYPES[precision], enabled=precision in ("bf16", "fp16")):
            yield from device_module.compute_in.__wrapped__(
                precision, CUDA, autocast=False, **options
            )

    monkeypatch.setattr(runner, "compute_in", switched)
    monkeypatch.setattr(runner, "low_precisions", lambda device: ("bf16", "tf32"))
    monkeypatch.setattr(device_module, "low_precisions", lambda device: ("bf16", "tf32"))


@pytest.mark.usefixtures("like_cuda")
@pytest.mark.parametrize(
    ("low", "tf32", "taken"),
    [(0.001, 0.001, "bf16"), (0.1, 0.001, "tf32"), (0.1, 0.1, "fp32")],
)
def test_auto_takes_the_lowest_precision_within_the_gate(low, tf32, taken):
    run = restorer(Switched(low, tf32))
    assert run(Image(torch.rand(3, 8, 8))).report.precision == taken


@pytest.mark.usefixtures("like_cuda")
def test_auto_takes_tf32_on_a_gpu_where_a_network_gains_nothing_by_16_bit(monkeypatch):
    run = restorer(Switched(0, 0)).runner
    run.facts = replace(run.facts, faster_in_16_bit=False)
    assert run._fastest_precision() == "bf16"  # on a CPU
    run.device = CUDA
    monkeypatch.setattr(Tensor, "to", lambda self, *_, **__: self)
    assert run._fastest_precision() == "tf32"


@pytest.mark.usefixtures("like_cuda")
@pytest.mark.parametrize(
    ("asked", "during"),
    [("fp32", (False, "highest")), ("tf32", (True, "high")), ("bf16", (True, "high"))],
)
@pytest.mark.parametrize("before", [True, False])
def test_float32_is_without_tf32_and_the_switches_return(asked, during, before, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", before)
    outside = switches()
    run = restorer(Switched(0, 0), precision=asked)
    run.run(torch.rand(3, 8, 8))
    assert run.runner.network.seen == [during]
    assert switches() == outside


def test_threads_in_float32_and_in_tf32_do_not_meet():
    def seen(precision):
        with compute_in(precision, CUDA, autocast=False):
            first = switches()
            time.sleep(0.002)
            return first, switches()

    asked = ["fp32", "tf32"] * 8
    with ThreadPoolExecutor(4) as threads:
        for precision, both in zip(asked, threads.map(seen, asked), strict=True):
            assert (
                both == ((precision == "tf32", "high" if precision == "tf32" else "highest"),) * 2
            )


def test_tf32_is_refused_where_there_is_none():
    with pytest.raises(UsageError, match="cpu has no TF32"):
        restorer(Coarse(0), precision="tf32")


def test_a_replay_of_tf32_without_tf32_is_in_float32(random_weights):
    report = restorer(Coarse(0))(Image(torch.rand(3, 8, 8))).report
    made = replace(report.steps[0], precision="tf32")
    chain = ReplayChain([(made, load_checkpoint(str(random_weights)))], RunOptions(device="cpu"))
    assert chain._stages[0].restorer.options.precision == "fp32"


@pytest.mark.usefixtures("fast_bfloat16")
def test_the_trial_is_made_once():
    run = restorer(Coarse(0))
    run.run(torch.rand(3, 8, 8))
    run.runner.network = Coarse(1)
    assert run(Image(torch.rand(3, 8, 8))).report.precision == "bf16"


@pytest.mark.parametrize(("asked", "seen"), [("fp32", False), ("bf16", True), ("fp16", True)])
def test_a_precision_that_was_asked_for_is_taken(asked, seen):
    restored = restorer(Coarse(0.5), precision=asked)(Image(torch.zeros(3, 8, 8)))
    assert bool((restored.image.pixels == 0.5).all()) == seen
    assert restored.report.precision == asked


@pytest.mark.usefixtures("fast_bfloat16")
def test_the_python_function_computes_in_float32(random_weights):
    pixels = torch.rand(3, 16, 16)
    exact = load_restorer("derain", RunOptions(weights=str(random_weights), precision="fp32"))
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
