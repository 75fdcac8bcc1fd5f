"""One restorer serves several threads: each call gets its own result and its own report."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from restore_cli.imaging.image import Image
from restore_cli.inference import runner as module
from restore_cli.inference.options import RunOptions
from restore_cli.inference.restorer import load_restorer
from restore_cli.inference.upscaler import Target, load_upscaler

CPU = RunOptions(device="cpu", precision="fp32", tile=64)
SIZES = [(70, 90), (40, 130), (96, 33), (150, 65)]


def images():
    return [Image(torch.rand(3, height, width)) for height, width in SIZES]


def denoiser():
    return load_restorer("denoise", RunOptions(model="cbsn", device="cpu", precision="fp32"))


def tiles_that_share_means():
    options = RunOptions(
        model="mirnet", device="cpu", precision="fp32", tile=64, exact=True, noise_limit="off"
    )
    return load_restorer("denoise", options)


@pytest.mark.parametrize(
    "load",
    [
        denoiser,
        tiles_that_share_means,
        lambda: load_restorer("derain", CPU),
        lambda: load_upscaler(RunOptions(model="espcn", device="cpu"), Target(scale=2.5)),
    ],
    ids=["cbsn", "mirnet exact", "dpenet", "upscaler"],
)
def test_four_threads_restore_as_one_would(load):
    given = images()
    restorer = load()
    alone = [restorer(image) for image in given]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(restorer, given))
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.image.pixels, other.image.pixels)
        assert [step.noise_sigma for step in one.report.steps] == [
            step.noise_sigma for step in other.report.steps
        ]
        assert (one.report.height, one.report.tile) == (other.report.height, other.report.tile)


def test_progress_goes_to_the_call_that_asked_for_it():
    restorer = load_restorer("derain", CPU)
    given = images()
    seen = [[] for _ in given]

    def restore(number):
        restorer(given[number], on_progress=lambda *progress: seen[number].append(progress))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(restore, range(len(given))))
    for told in seen:
        done, totals = zip(*told, strict=True)
        assert list(done) == sorted(done)
        assert {*totals} == {done[-1]}


def test_threads_settle_the_precision_once(monkeypatch):
    trials = []

    def trial(device):
        trials.append(device)
        return ()

    monkeypatch.setattr(module, "low_precisions", trial)
    restorer = load_restorer("derain", RunOptions(device="cpu"))
    with ThreadPoolExecutor(4) as threads:
        reports = [restored.report for restored in threads.map(restorer, images())]
    assert [report.precision for report in reports] == ["fp32"] * 4
    assert len(trials) == 1
