"""Rows of weights on pairs, with their baselines."""

import pytest
import torch

from restore_cli import registry
from restore_cli.bench.baselines import BASELINES
from restore_cli.bench.quality import Earlier, run_quality
from restore_cli.bench.report import quality_table
from restore_cli.bench.suite import candidates
from restore_cli.checkpoints.save import save
from restore_cli.data.public_sets import SETS
from restore_cli.data.sets import folder_pairs, load_pair, public_pairs
from restore_cli.imaging.io import read
from restore_cli.inference.options import RunOptions
from restore_cli.inference.restorer import load_restorer
from restore_cli.metrics import PROTOCOLS, measure
from restore_cli.metrics.niqe import niqe
from restore_cli.tasks import TASKS
from tests.bench.conftest import image

CPU = RunOptions(device="cpu", precision="fp32")

pytestmark = pytest.mark.usefixtures("together")


def run(sets, weights, **options):
    return list(
        run_quality(sets, candidates([str(weights)]), CPU, on_case=lambda *_: None, **options)
    )


def test_a_row_has_the_scores_of_the_restored_images(rainy, random_weights):
    (result,) = run(folder_pairs(rainy), random_weights)
    (row,) = result.rows
    restorer = load_restorer("derain", RunOptions(weights=str(random_weights), precision="fp32"))
    scores = [
        measure(
            restorer.run(read(rainy / "rainy" / name).pixels),
            read(rainy / "clean" / name).pixels,
            PROTOCOLS["y_float"],
        )
        for name in ("a.png", "b.png")
    ]
    assert row["psnr"] == pytest.approx((scores[0].psnr + scores[1].psnr) / 2, abs=1e-3)
    assert row["ssim"] == pytest.approx((scores[0].ssim + scores[1].ssim) / 2, abs=1e-5)
    assert (row["task"], row["protocol"], row["images"]) == ("derain", "y_float", 2)
    assert (row["model"], row["weights"], row["set"]) == ("dpenet", "random", "rainy-pairs")
    assert row["seconds"] > 0
    assert row["peak_memory_mb"] > 50  # torch alone takes more


def test_a_row_has_the_metrics_that_are_asked_for(tmp_path, random_weights):
    folder = tmp_path / "large"
    image(folder / "rainy" / "a.png", 192, 200, seed=1)
    image(folder / "clean" / "a.png", 192, 200, seed=2)
    (result,) = run(folder_pairs(folder), random_weights, metrics=("niqe",))
    (row,) = result.rows
    degraded = niqe(read(folder / "rainy" / "a.png").pixels)
    assert row["baseline"]["input"]["niqe"] == pytest.approx(degraded, abs=1e-4)
    assert row["niqe"] == row["per_image"][0]["niqe"] != pytest.approx(degraded, abs=1e-3)
    columns, lines = quality_table(result.rows)
    assert [line[columns.index("NIQE")] for line in lines] == [
        f"{degraded:.4f}",
        f"{row['niqe']:.4f}",
    ]
    (kept,) = run(
        folder_pairs(folder),
        random_weights,
        metrics=("niqe",),
        earlier=Earlier([row | {"mark": 1}]),
    )
    assert "mark" in kept.rows[0]
    without = {name: value for name, value in row.items() if name != "niqe"} | {"mark": 1}
    (again,) = run(
        folder_pairs(folder), random_weights, metrics=("niqe",), earlier=Earlier([without])
    )
    assert "mark" not in again.rows[0]


def test_a_row_has_the_scores_of_the_input_beside_it(rainy, random_weights):
    (result,) = run(folder_pairs(rainy), random_weights)
    scores = [
        measure(
            read(rainy / "rainy" / name).pixels,
            read(rainy / "clean" / name).pixels,
            PROTOCOLS["y_float"],
        ).psnr
        for name in ("a.png", "b.png")
    ]
    assert result.rows[0]["baseline"]["input"]["psnr"] == pytest.approx(sum(scores) / 2, abs=1e-3)


def test_another_protocol_can_be_asked_for(rainy, random_weights):
    (result,) = run(folder_pairs(rainy), random_weights, protocol="rgb")
    assert result.rows[0]["protocol"] == "rgb"


def test_each_part_of_a_set_has_a_row_and_all_of_it_too(tmp_path, random_weights):
    for seed, name in enumerate(("irr-01.png", "rain100h-001.png", "rain100h-002.png")):
        for side in ("input", "target"):
            image(tmp_path / "derain-test" / side / name, 12, 14, seed=seed)
    (result,) = run(public_pairs(SETS["derain-test"], tmp_path), random_weights)
    assert [(row["set"], row["images"]) for row in result.rows] == [
        ("derain-test/irr", 1),
        ("derain-test/rain100h", 2),
        ("derain-test", 3),
    ]


def test_a_broken_image_is_left_out_and_counted(rainy, random_weights):
    (rainy / "rainy" / "a.png").write_bytes(b"")
    (result,) = run(folder_pairs(rainy), random_weights)
    assert (result.rows[0]["images"], result.rows[0]["failed"]) == (1, 1)
    assert "a.png: the file is empty" in result.notes[0].replace(str(rainy / "rainy") + "/", "")


def test_weights_that_cannot_be_loaded_are_a_row_with_an_error(rainy, random_weights):
    chosen = candidates([str(random_weights)])
    random_weights.unlink()
    (result,) = run_quality(folder_pairs(rainy), chosen, CPU, on_case=lambda *_: None)
    assert result.error is not None
    assert (result.rows[0]["psnr"], result.rows[0]["error"]["kind"]) == (None, "WeightsMissing")


def test_only_weights_of_the_same_factor_are_measured(doubled, tmp_path):
    for scale in (2, 3):
        path = tmp_path / f"x{scale}.safetensors"
        network = registry.build("espcn", scale=scale)
        save(network, path, arch="espcn", config={"scale": scale}, record={})
    chosen = candidates([str(tmp_path / "x2.safetensors"), str(tmp_path / "x3.safetensors")])
    rows = [
        row
        for result in run_quality(folder_pairs(doubled), chosen, CPU, on_case=lambda *_: None)
        for row in result.rows
    ]
    assert [(row["weights"], row["scale"], row["protocol"]) for row in rows] == [("x2", 2, "sr_x2")]
    assert set(rows[0]["baseline"]) == {"bicubic", "lanczos"}


def test_the_figure_of_the_paper_stands_beside_its_network_and_set(tmp_path):
    image(tmp_path / "set5" / "x3" / "LR" / "img_LR.png", 8, 9, seed=1)
    image(tmp_path / "set5" / "x3" / "HR" / "img_HR.png", 24, 27, seed=2)
    (result,) = run(public_pairs(SETS["set5"], tmp_path), "espcn.x3")
    assert result.rows[0]["published"]["psnr"] == 33.13
    assert "not checked" in result.rows[0]["published"]["note"]


def test_views_show_the_worst_and_the_best_image_with_crops_of_every_method(rainy, random_weights):
    views = []
    (result,) = run(folder_pairs(rainy), random_weights, views=views)
    by_score = sorted(result.rows[0]["per_image"], key=lambda score: score["psnr"])
    assert [(view.rank, view.name) for view in views] == [
        ("worst", f"rainy-pairs, {by_score[0]['image']}"),
        ("best", f"rainy-pairs, {by_score[1]['image']}"),
    ]
    captions = [crop.caption for crop in views[0].crops]
    assert captions == ["input", f"random: {by_score[0]['psnr']:.2f} dB", "reference"]
    assert (views[0].before.caption, views[0].after.caption) == ("input", "random")


def test_views_of_many_sets_show_the_worst_image_of_each(rainy, random_weights):
    views = []
    run(folder_pairs(rainy) * 5, random_weights, views=views)
    assert [view.rank for view in views] == ["worst"] * 5


def test_a_row_has_the_scores_of_each_image(rainy, random_weights):
    (result,) = run(folder_pairs(rainy), random_weights)
    scores = result.rows[0]["per_image"]
    assert [score["image"] for score in scores] == ["a", "b"]
    assert sum(score["psnr"] for score in scores) / 2 == pytest.approx(
        result.rows[0]["psnr"], abs=2e-3
    )


@pytest.fixture
def measured(rainy, random_weights):
    """Rows of an earlier run, marked so that they are known again."""
    (result,) = run(folder_pairs(rainy), random_weights)
    return [row | {"psnr": 99.0} for row in result.rows]


def test_a_finished_row_is_kept(rainy, random_weights, measured):
    (result,) = run(folder_pairs(rainy), random_weights, earlier=Earlier(measured))
    assert result.rows == measured


@pytest.mark.parametrize(
    "change",
    [
        {"images": 1},
        {"failed": 1},
        {"protocol": "rgb"},
        {"weights_sha256": "0" * 64},
        {"error": {"kind": "OutOfMemory", "message": "", "hint": None}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_row_that_is_not_finished_is_measured_again(rainy, random_weights, measured, change):
    (result,) = run(folder_pairs(rainy), random_weights, earlier=Earlier([measured[0] | change]))
    assert result.rows[0]["psnr"] != 99.0


@pytest.mark.parametrize(
    ("task", "name"), [(task.name, name) for task in TASKS.values() for name in task.baselines]
)
def test_each_baseline_gives_an_image_of_the_right_size(task, name):
    scale = 2 if task == "upscale" else 1
    result = BASELINES[name](torch.rand(3, 40, 50), scale)
    assert result.shape == (3, 40 * scale, 50 * scale)
    assert 0 <= float(result.min()) <= float(result.max()) <= 1


def test_bilateral_takes_noise_off_flat_colours():
    noisy = (0.5 + 0.05 * torch.randn(3, 32, 32)).clamp(0, 1)
    assert BASELINES["bilateral"](noisy, 1).std() < noisy.std() / 2


def test_clahe_brightens_the_dark():
    dark = torch.rand(3, 64, 64) * 0.1
    assert BASELINES["clahe"](dark, 1).mean() > 1.5 * dark.mean()


def test_noise_of_a_clean_set_is_not_clipped(tmp_path):
    image(tmp_path / "kodak" / "kodim01.png", 20, 20, seed=0)
    (pairs,) = public_pairs(SETS["kodak"], tmp_path)
    assert pairs.name == "kodak+noise25"
    assert float(load_pair(pairs, 0)[0].max()) > 1
