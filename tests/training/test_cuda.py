"""CUDA graphs: conditions and failures of the recording."""

import logging
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from restore_cli.training import restoration
from restore_cli.training.cuda import cudnn_benchmark, has_fixed_graph, record_graph
from restore_cli.training.processes import ALONE
from restore_cli.training.recipes import find_recipe
from restore_cli.training.restoration import loss_of, record_steps, worker_count
from restore_cli.training.trainer import take_step
from tests.training.runs import CPU, new_state

CUDA = torch.device("cuda")
PLAIN = nn.Conv2d(3, 3, 1)
WITH_STATISTICS = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))


@pytest.mark.parametrize(
    ("network", "device", "fixed"),
    [(PLAIN, CUDA, True), (PLAIN, CPU, False), (WITH_STATISTICS, CUDA, False)],
    ids=["cuda", "cpu", "batch norm"],
)
def test_a_graph_needs_cuda_and_no_statistics(network, device, fixed):
    assert has_fixed_graph(network, device) == fixed


def test_a_graph_that_cannot_be_recorded_is_one_line_of_the_log(caplog):
    def fails(network, samples, **_):
        raise RuntimeError("operation not permitted\nCUDA kernel errors might be ...")

    with caplog.at_level(logging.WARNING, "restore_cli"):
        assert not record_graph(PLAIN, torch.rand(1, 3, 4, 4), bf16=False, capture=fails)
    assert caplog.messages == [
        "training without a CUDA graph, which is slower: operation not permitted"
    ]


def test_a_graph_is_recorded_in_the_precision_of_the_training():
    seen = []

    def capture(network, samples, *, allow_unused_input):
        seen.append((network(*samples).dtype, torch.is_autocast_cache_enabled()))

    sample = torch.rand(1, 3, 4, 4)
    assert record_graph(PLAIN, sample, bf16=True, capture=capture)
    assert record_graph(PLAIN, sample, bf16=False, capture=capture)
    assert seen == [(torch.bfloat16, False), (torch.float32, False)]


@pytest.mark.parametrize(
    ("name", "preset", "shape"),
    [
        ("dpenet", "default", (16, 3, 128, 128)),
        ("mirnet", "sr_x4_small", (16, 3, 128, 128)),
        ("espcn", "default", (16, 1, 48, 48)),
        ("cbsn", "fast", None),  # also trained on every second or fifth pixel
        ("cbsn", "default", None),
        ("tml", "default", None),
    ],
)
def test_recipes_with_inputs_of_one_shape_are_recorded(name, preset, shape, tmp_path, monkeypatch):
    recipe = find_recipe(name, preset=preset)
    recorded = []

    def record(network, sample, *, bf16):
        recorded.append(tuple(sample.shape))
        return True

    monkeypatch.setattr(
        restoration, "has_fixed_graph", lambda network, _: has_fixed_graph(network, CUDA)
    )
    monkeypatch.setattr(restoration, "record_graph", record)
    state = new_state(recipe, tmp_path)
    assert record_steps(recipe, state, ALONE.share(recipe.batch), bf16=True) == (shape is not None)
    assert recorded == ([] if shape is None else [shape])


def test_convolutions_are_timed_on_cuda_alone():
    with cudnn_benchmark(CUDA):
        assert torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.benchmark
    with cudnn_benchmark(CPU):
        assert not torch.backends.cudnn.benchmark


@pytest.mark.parametrize(
    ("device", "cores", "workers"),
    [(CPU, 16, 0), (CUDA, 16, 5), (CUDA, 4, 3), (CUDA, 1, 0)],
)
def test_workers_follow_device_and_cores(device, cores, workers, monkeypatch):
    monkeypatch.setattr(
        restoration.os, "sched_getaffinity", lambda _: set(range(cores)), raising=False
    )
    assert worker_count(device) == workers


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_recorded_training_is_the_eager_one(tmp_path):
    recipe = replace(find_recipe("mirnet", preset="denoise_small"), batch=2, patch=32)
    batches = [torch.rand(2, 2, 3, 32, 32) for _ in range(5)]
    ends = [after(recipe, batches, tmp_path, recorded=recorded) for recorded in (False, True)]
    assert_close(*ends, atol=1e-4, rtol=1e-3)  # TF32, and sums in another order


def after(recipe, batches, tmp_path, *, recorded):
    """The averaged weights after a step on each batch."""
    torch.manual_seed(0)
    state, share = new_state(recipe, tmp_path, CUDA), ALONE.share(recipe.batch)
    assert not recorded or record_steps(recipe, state, share, bf16=False)
    rest = iter(batches)
    for _ in batches:
        take_step(
            state, recipe, 0.1, lambda at: loss_of(state, recipe, at, next(rest), share, bf16=False)
        )
    return state.average.state_dict()
