"""Speed of the restorer and of plain PyTorch."""

from multiprocessing.reduction import ForkingPickler

import pytest
import torch

from restore_cli import registry
from restore_cli.bench.speed import Degraded, Square, count_flop, run_speed
from restore_cli.bench.suite import Candidate, candidates
from restore_cli.checkpoints.save import save
from restore_cli.data.sets import folder_pairs
from restore_cli.errors import OutOfMemory
from restore_cli.inference.options import RunOptions

CPU = RunOptions(device="cpu", precision="fp32")
COSTS = ("seconds", "cpu_seconds", "megapixels_per_second", "peak_memory_mb")


def run(work, options=CPU, rounds=2):
    return list(run_speed(work, options, rounds, lambda *_: None))


@pytest.mark.usefixtures("together")
def test_a_row_has_our_time_and_that_of_plain_pytorch(random_weights):
    (candidate,) = candidates([str(random_weights)])
    (((row,), error),) = run([(candidate, Square(24))])
    assert error is None
    assert (row["set"], row["protocol"], row["precision"]) == ("24x24", "speed", "fp32")
    assert all(row[cost] > 0 and row["baseline"]["plain"][cost] > 0 for cost in COSTS)
    ratio = row["baseline"]["plain"]["seconds"] / row["seconds"]
    assert row["times_plain"] == pytest.approx(ratio, rel=0.05)  # seconds are rounded
    assert row["difference_from_plain"] < 1e-5  # float32 sum order


@pytest.mark.usefixtures("together")
def test_a_set_can_be_timed(rainy, random_weights):
    (candidate,) = candidates([str(random_weights)])
    (pairs,) = folder_pairs(rainy)
    (((row,), _),) = run([(candidate, Degraded(pairs))], rounds=1)
    assert (row["set"], row["images"]) == ("rainy-pairs", 2)


@pytest.mark.usefixtures("together")
def test_plain_out_of_memory_ends_its_row_only(random_weights, monkeypatch):
    (candidate,) = candidates([str(random_weights)])

    def forward(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("restore_cli.networks.layers.PixelConv.forward", forward)  # not fused
    (((row,), error),) = run([(candidate, Square(24))])
    assert isinstance(error, OutOfMemory)
    assert (row["seconds"], row["error"]["kind"]) == (None, "OutOfMemory")


SMALL = {
    "dpenet": {},
    "cbsn": {},
    "espcn": {"scale": 2},
    "mirnet": {"n_feat": 16, "n_RRG": 1, "n_MSRB": 1},
    "tml": {"nominal_size": (80, 80)},
    "ugdc": {"nominal_size": (80, 80)},
}


@pytest.mark.parametrize("arch", registry.MODELS)
def test_the_work_of_each_network_can_be_counted(arch, tmp_path):
    path = tmp_path / "weights.safetensors"
    save(registry.build(arch, **SMALL[arch]), path, arch=arch, config=SMALL[arch], record={})
    spec = registry.configured(registry.MODELS[arch], SMALL[arch])
    assert count_flop(Candidate(str(path), spec, "restore"), torch.rand(3, 32, 48)) > 0


def test_work_is_multiplications_and_additions_of_each_pixel(tmp_path):
    # The preprocessing pads luma by 4 px on each side: 10 x 14 become 18 x 22.
    path = tmp_path / "x2.safetensors"
    network = registry.build("espcn", scale=2)
    save(network, path, arch="espcn", config={"scale": 2}, record={})
    spec = registry.configured(registry.MODELS["espcn"], {"scale": 2})
    weights = sum(p.numel() for p in network.parameters() if p.dim() == 4)
    assert (
        count_flop(Candidate(str(path), spec, "restore"), torch.rand(3, 10, 14))
        == 2 * 18 * 22 * weights
    )


def test_memory_is_measured_in_a_process_for_each_variant(random_weights, monkeypatch):
    (candidate,) = candidates([str(random_weights)])
    measured = []

    def in_this_process(work, *arguments, on_progress):
        assert ForkingPickler.dumps(
            (work, arguments)
        )  # it must be possible to send it to another process
        measured.append((work.__name__, arguments[-1]))
        return work(*arguments, on_progress)

    monkeypatch.setattr("restore_cli.bench.speed.run_in_subprocess", in_this_process)
    run([(candidate, Square(16))], rounds=1)
    assert measured[1:] == [("measure_memory", "plain"), ("measure_memory", "fp32")]
