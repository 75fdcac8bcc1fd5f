import itertools
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

from restore_cli.checkpoints import manifest
from restore_cli.training import adapt
from tests.cli.invoke import restore, rows

denoise = partial(restore, "denoise")


@pytest.fixture
def tiny_cbsn(untrained):
    return untrained("tiny", "cbsn", channels=8, num_module=1)


def test_a_photo_is_denoised_beside_itself(photo, tiny_cbsn):
    result = denoise(photo, "--weights", tiny_cbsn)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{photo.with_name('photo_denoised.png')}\n"


def test_strength_0_writes_the_image_as_it_is(photo, tiny_cbsn, tmp_path):
    result = denoise(photo, "-o", tmp_path / "out.png", "--weights", tiny_cbsn, "--strength", "0")
    assert result.exit_code == 0, result.stderr
    with Image.open(photo) as before, Image.open(tmp_path / "out.png") as after:
        assert after.tobytes() == before.tobytes()


@pytest.mark.parametrize(("options", "model"), [([], "mirnet"), (["--adapt"], "cbsn")])
def test_the_network_that_can_adapt_is_taken_for_that_alone(photo, tmp_path, options, model):
    template = tmp_path / "{stem}_{model}{ext}"
    result = denoise(photo, "-o", template, "--dry-run", *options)
    assert f"photo_{model}.png" in result.stdout + result.stderr


@pytest.mark.parametrize("strength", ["-0.1", "1.5", "nan", "much"])
def test_a_strength_beyond_its_range_is_exit_2(photo, tiny_cbsn, strength):
    result = denoise(photo, "--weights", tiny_cbsn, "--strength", strength)
    assert result.exit_code == 2
    assert "--strength" in result.stderr


def test_a_network_without_weights_says_how_to_get_them(photo, monkeypatch):
    monkeypatch.setattr(manifest, "bundled_entries", dict)
    result = denoise(photo, "--model", "mirnet")
    assert result.exit_code == 4
    assert "restore weights import FILE --as mirnet.denoise" in result.stderr


@pytest.fixture
def large_photo(tmp_path, monkeypatch):
    """One that is large enough to learn from, in some steps on small crops."""
    ticking = partial(adapt.adapt, now=itertools.count().__next__)  # a second for everything
    monkeypatch.setattr(adapt, "adapt", ticking)
    monkeypatch.setattr(adapt, "ADAPT", replace(adapt.ADAPT, patch=20, learning_rate=3e-3))
    path = tmp_path / "large.png"
    Image.effect_noise((60, 40), 50).convert("RGB").save(path)
    return path


def test_adapting_saves_weights_that_denoise_the_same_later(large_photo, tiny_cbsn, tmp_path):
    camera, out = tmp_path / "camera.safetensors", tmp_path / "again.png"
    first = denoise(large_photo, "--adapt", "--save", camera, "--weights", tiny_cbsn)
    assert first.exit_code == 0, first.stderr
    assert re.search(r"adapted in \d\d steps: held-out loss", first.stderr)
    second = denoise(large_photo, "-o", out, "--weights", camera)
    assert second.exit_code == 0, second.stderr
    assert out.read_bytes() == large_photo.with_name("large_denoised.png").read_bytes()


def test_adapting_that_does_not_help_is_reported_and_changes_nothing(
    large_photo, tiny_cbsn, tmp_path, monkeypatch
):
    losses = iter([1.0, *[2.0] * 20])
    monkeypatch.setattr(adapt, "mean_scores", lambda *_: {"validation_loss": next(losses)})
    camera, plain = tmp_path / "camera.safetensors", tmp_path / "plain.png"
    result = denoise(large_photo, "--adapt", "--save", camera, "--weights", tiny_cbsn, "-q")
    assert result.exit_code == 0, result.stderr
    assert "adapting did not help" in result.stderr
    assert not camera.exists()
    denoise(large_photo, "-o", plain, "--weights", tiny_cbsn)
    assert plain.read_bytes() == large_photo.with_name("large_denoised.png").read_bytes()


def test_an_interruption_saves_the_best_and_writes_no_image(
    large_photo, tiny_cbsn, tmp_path, monkeypatch
):
    def stopped(*arguments, on_progress, **options):
        result = really(*arguments, **options)
        return replace(result, interrupt=KeyboardInterrupt())

    really = adapt.adapt
    monkeypatch.setattr(adapt, "adapt", stopped)
    camera = tmp_path / "camera.safetensors"
    result = denoise(large_photo, "--adapt", "--save", camera, "--weights", tiny_cbsn)
    assert result.exit_code == 130
    assert camera.exists()
    assert not large_photo.with_name("large_denoised.png").exists()


@pytest.mark.parametrize("option", ["--time=10s", "--save=camera.safetensors"])
def test_options_of_adapting_need_it(photo, option):
    result = denoise(photo, option)
    assert result.exit_code == 2
    assert "--adapt" in result.stderr


def test_a_network_without_a_blind_mode_cannot_adapt(photo):
    assert denoise(photo, "--adapt", "--model", "mirnet").exit_code == 2


def test_an_image_from_a_pipe_cannot_be_adapted_to(tiny_cbsn):
    result = denoise("-", "--format", "png", "--adapt", "--weights", tiny_cbsn)
    assert result.exit_code == 2
    assert "twice" in result.stderr


def test_saved_weights_are_not_overwritten_without_overwrite(photo, tiny_cbsn):
    result = denoise(photo, "--adapt", "--save", tiny_cbsn, "--weights", tiny_cbsn)
    assert result.exit_code == 3
    assert "--overwrite" in result.stderr


def test_the_estimated_noise_is_reported(photo, tiny_cbsn, tmp_path):
    clean = tmp_path / "clean.png"
    Image.new("RGB", (64, 64), (90, 120, 60)).save(clean)
    result = denoise(clean, "--weights", tiny_cbsn)
    assert "estimated noise sigma 0.0 (of 255): nearly unchanged" in result.stderr


def test_the_estimate_stands_in_the_json(large_photo, tiny_cbsn):
    result = denoise(large_photo, "--weights", tiny_cbsn, "--json")
    (row,) = rows(result)
    said = result.stderr.split("estimated noise sigma ")[1].split(" (of 255)")[0]
    assert row["noise_sigma"] == pytest.approx(float(said), abs=0.06)


def test_a_limit_of_0_writes_the_image_as_it_is(photo, tiny_cbsn, tmp_path):
    target = tmp_path / "out.png"
    result = denoise(photo, "-o", target, "--weights", tiny_cbsn, "--noise-limit", "0")
    assert result.exit_code == 0, result.stderr
    with Image.open(photo) as before, Image.open(target) as after:
        assert after.tobytes() == before.tobytes()


@pytest.mark.parametrize("limit", ["off", "3"])
def test_a_replay_has_the_limit_of_the_record(photo, tiny_cbsn, tmp_path, limit):
    target = tmp_path / "out.png"
    denoise(photo, "-o", target, "--weights", tiny_cbsn, "--noise-limit", limit)
    result = restore("replay", target, "--source", photo, "--weights", tiny_cbsn, "--json")
    (row,) = rows(result)
    assert row["record"]["settings"]["noise_limit"] == (limit if limit == "off" else 3.0)
    assert row["identical"]


@pytest.mark.parametrize("limit", ["-1", "256", "nan", "much"])
def test_a_noise_limit_beyond_its_range_is_exit_2(photo, tiny_cbsn, limit):
    result = denoise(photo, "--weights", tiny_cbsn, f"--noise-limit={limit}")
    assert result.exit_code == 2
    assert "--noise-limit" in result.stderr


def test_the_default_network_is_named(photo, tiny_cbsn):
    default = denoise(photo).stderr
    assert "using mirnet (default: removes more noise than cbsn)" in default
    assert "using" not in denoise(photo, "--weights", tiny_cbsn, "--overwrite").stderr


def test_artefacts_of_jpeg_are_removed_by_their_weights(tmp_path):
    source, clean = tmp_path / "scan.jpg", ramp()
    Image.fromarray(clean).save(source, quality=10)
    for command in (["dejpeg"], ["denoise", "--for", "jpeg"]):
        result = restore(*command, source, "-o", tmp_path / "out.png", "--overwrite", "--json")
        (row,) = rows(result)
        assert (row["model"], row["weights"]) == ("mirnet", "mirnet.jpeg")
        before, after = (error(path, clean) for path in (source, tmp_path / "out.png"))
        assert after < 0.8 * before


@pytest.mark.parametrize(
    "others", [["--weights", "mirnet.denoise"], ["--model", "cbsn"], ["--adapt"]]
)
def test_weights_against_jpeg_exclude_others(photo, others):
    result = restore("denoise", photo, "--for", "jpeg", *others)
    assert result.exit_code == 2
    assert f"--for jpeg and {others[0]} contradict each other" in result.stderr


def ramp():
    """Return edges and gradients, (96, 96, 3) uint8."""
    rows_, columns = np.mgrid[:96, :96]
    shape = (rows_ - 40) ** 2 + (columns - 50) ** 2 < 30**2
    return np.stack([80 + columns, 60 + 100 * shape, 200 - rows_], axis=-1).astype(np.uint8)


def error(path, clean):
    with Image.open(path) as image:
        return np.square(np.asarray(image.convert("RGB"), float) - clean).mean()
