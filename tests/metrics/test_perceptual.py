import json

import numpy as np
import pytest
import torch
from PIL import Image

from restore_cli.errors import FetchError, InputError, MissingExtra, UsageError
from restore_cli.metrics.perceptual import (
    PERCEPTUAL,
    Perceptual,
    find_metrics,
    load_metric,
    mean_scores,
    measure_perceptual,
)
from tests.cli.invoke import restore


def raising(error):
    def build():
        raise error

    return build


def metric(build, file=None):
    return Perceptual("lpips", 2, 31, file, 1, build)


def test_names_are_read_in_their_order_and_once():
    assert [each.name for each in find_metrics("vif, lpips,vif")] == ["vif", "lpips"]


@pytest.mark.parametrize("names", ["brisque", "lpips,", ""])
def test_an_unknown_name_lists_the_known_ones(names):
    with pytest.raises(UsageError) as caught:
        find_metrics(names)
    assert caught.value.hint == "known: lpips, dists, vif, niqe"


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (ModuleNotFoundError("", name="torchmetrics"), MissingExtra, "needs torchmetrics"),
        (ModuleNotFoundError("torchvision is not installed"), MissingExtra, "needs torchvision"),
        (RuntimeError("operator torchvision::nms does not exist"), MissingExtra, "does not load"),
        (OSError("no route to host"), FetchError, "no route to host"),
    ],
    ids=["no extra", "no torchvision", "another torchvision", "no network"],
)
def test_a_metric_that_cannot_be_had_says_why_and_what_to_do(error, kind, said):
    with pytest.raises(kind, match=said) as caught:
        load_metric(metric(raising(error)))
    assert caught.value.hint


def test_offline_nothing_is_fetched_and_the_file_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("RESTORE_OFFLINE", "1")
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    asked = metric(raising(AssertionError("it was built")), file="alex.pth")
    with pytest.raises(FetchError, match="network is disabled") as caught:
        load_metric(asked)
    assert str(tmp_path / "checkpoints" / "alex.pth") in caught.value.hint
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "alex.pth").write_bytes(b"")
    with pytest.raises(AssertionError, match="it was built"):
        load_metric(asked)


def largest(x, y):
    return (x - y).abs().max()


def test_an_image_that_is_too_small_has_no_score():
    images = torch.zeros(3, 40, 60), torch.ones(3, 40, 60)
    found = measure_perceptual(*images, {"lpips": largest, "vif": largest})
    assert found == {"lpips": 1.0, "vif": None}


def test_a_grey_image_is_measured_as_three_equal_channels():
    shapes = []

    def shape(x, y):
        shapes.extend((x.shape, y.shape))
        return torch.tensor(0.0)

    measure_perceptual(torch.zeros(1, 40, 60), torch.zeros(3, 40, 60), {"lpips": shape})
    assert shapes == [(1, 3, 40, 60)] * 2


def test_images_of_two_sizes_are_refused():
    with pytest.raises(InputError):
        measure_perceptual(torch.zeros(3, 40, 60), torch.zeros(3, 41, 60), {})


def test_means_leave_out_images_without_a_score():
    scores = [
        {"vif": 0.5, "lpips": None},
        {"vif": None, "lpips": None},
        {"vif": 1.0, "lpips": None},
    ]
    assert mean_scores(scores) == {"vif": 0.75, "lpips": None}


@pytest.fixture
def pair(tmp_path):
    """Paths of two images of 64 x 48 px."""
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for seed, path in enumerate(paths):
        levels = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8)
        Image.fromarray(levels).save(path)
    return paths


def test_the_command_adds_the_metric_to_lines_and_means(pair, monkeypatch):
    known = {"lpips": metric(lambda: largest)}
    monkeypatch.setattr("restore_cli.metrics.perceptual.PERCEPTUAL", known)
    result = restore("eval", *pair, "--metric", "lpips", "--json")
    assert result.exit_code == 0, result.stderr
    one, means = [json.loads(line) for line in result.stdout.splitlines()]
    assert one["lpips"] == means["lpips"] > 0.9
    assert "  LPIPS " in restore("eval", *pair, "--metric", "lpips").stdout


def test_without_the_option_nothing_is_added(pair):
    result = restore("eval", *pair, "--json")
    assert not {*PERCEPTUAL} & set(json.loads(result.stdout.splitlines()[0]))


def test_vif_of_equal_images_is_one():
    pytest.importorskip("torchmetrics", reason="VIF needs the extra: metrics")
    image = torch.rand(3, 48, 64)
    vif = {"vif": load_metric(PERCEPTUAL["vif"])}
    assert measure_perceptual(image, image, vif)["vif"] == pytest.approx(1, abs=1e-3)
