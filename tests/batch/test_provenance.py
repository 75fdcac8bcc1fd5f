"""How a result was made, in the file itself."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image as Pillow

from restore_cli.batch.plan import Job
from restore_cli.batch.provenance import (
    Recipe,
    from_text,
    made,
    options_of,
    record_of,
    settings_of,
    to_text,
)
from restore_cli.batch.run import run
from restore_cli.errors import InputError
from restore_cli.imaging.codecs.xmp import EMPTY
from restore_cli.imaging.image import Image, Metadata
from restore_cli.imaging.io import read, write
from restore_cli.inference.rain import Rain
from restore_cli.inference.report import Report, Restored, StepReport
from restore_cli.inference.restorer import RunOptions

USED = StepReport("dpenet", "dpenet.default", "ab" * 32, 64, "fp32", 5, 7, 0.0)
RECIPE = Recipe("derain", {"overlap": "exact", "device": "cpu"})
XMP = EMPTY.replace(b"</rdf:RDF>", b"<rdf:Description/>" * 3_000 + b"</rdf:RDF>")


def record(**changes):
    text = to_text(made(RECIPE, "ü.png", "cd" * 32, (USED,), format="png", quality=None))
    return json.dumps(json.loads(text) | changes)


class Inverting:
    def __call__(self, image, *, on_progress=None):
        return Restored(image.with_pixels(1 - image.pixels), Report((USED,)))


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "private" / "photo.png"
    path.parent.mkdir()
    Pillow.effect_noise((7, 5), 50).convert("RGB").save(path)
    return path


def test_a_record_keeps_the_rain_that_was_found():
    used = replace(USED, rain=Rain(0.25, 0.125, None))
    text = to_text(made(RECIPE, "ü.png", "cd" * 32, (used,), format="png", quality=None))
    assert from_text(text).networks == (used,)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_every_format_keeps_the_record(photo, tmp_path, suffix):
    target = tmp_path / f"out.{suffix}"
    format = {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix)
    (result,) = run([Job(photo, target, format)], Inverting(), recipe=RECIPE)
    assert result.error is None
    found = record_of(read(target))
    assert (found.command, found.source, found.networks) == ("derain", "photo.png", (USED,))
    assert (found.settings, found.format) == (RECIPE.settings, format)


def test_no_folder_is_told(photo, tmp_path):
    target = tmp_path / "out.png"
    list(run([Job(photo, target, "png")], Inverting(), recipe=RECIPE))
    assert b"private" not in target.read_bytes()


def test_without_a_recipe_there_is_no_record(photo, tmp_path):
    list(run([Job(photo, tmp_path / "out.png", "png")], Inverting()))
    assert record_of(read(tmp_path / "out.png")) is None


def test_the_record_of_a_source_is_not_that_of_its_result(photo, tmp_path):
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    list(run([Job(photo, first, "png")], Inverting(), recipe=RECIPE))
    list(run([Job(first, second, "png")], Inverting(), recipe=replace(RECIPE, command="enhance")))
    found = record_of(read(second))
    assert (found.command, found.source) == ("enhance", "first.png")
    list(run([Job(first, tmp_path / "third.png", "png")], Inverting()))
    assert record_of(read(tmp_path / "third.png")) is None


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_the_users_own_xmp_and_exif_stay(tmp_path, suffix):
    exif = Pillow.Exif()
    exif[0x010F] = "camera"
    plain, recorded = tmp_path / f"plain.{suffix}", tmp_path / f"recorded.{suffix}"
    metadata = Metadata(xmp=XMP, exif=exif.tobytes()[6:])
    write(Image(torch.rand(3, 5, 7), metadata=metadata), plain)
    write(Image(torch.rand(3, 5, 7), metadata=replace(metadata, record=record())), recorded)
    before, after = read(plain).metadata, read(recorded).metadata
    assert after.exif == before.exif
    assert after.xmp != before.xmp
    assert after.xmp.count(b"<rdf:Description/>") == 3_000


def test_a_record_never_costs_a_jpeg_its_xmp(tmp_path, caplog):
    full = XMP + b" " * (65_500 - len(XMP))
    metadata = Metadata(xmp=full, record=record())
    write(Image(torch.rand(3, 5, 7), metadata=metadata), tmp_path / "out.jpg")
    assert read(tmp_path / "out.jpg").metadata.xmp == full
    assert caplog.text == ""


def test_options_come_back_out_of_settings():
    options = RunOptions("dpenet", "a.pth", 64, "exact", "auto", "bf16", seed=3)
    settings = json.loads(json.dumps(settings_of(options, torch.device("cuda:1"))))
    assert options_of(settings) == RunOptions(overlap="exact", device="cuda", seed=3)


def test_a_setting_of_another_version_is_refused():
    with pytest.raises(InputError, match="the setting magic"):
        options_of({"magic": 1})


@pytest.mark.parametrize(
    "changes",
    [
        {"networks": []},
        {"networks": [{"model": "dpenet"}]},
        {"networks": [{**vars(USED), "precision": "fp8"}]},
        {"networks": [{**vars(USED), "height": -1}]},
        {"networks": 7},
        {"format": "exe"},
        {"settings": None},
        {"source": 1},
        {"unheard": 1},
    ],
    ids=str,
)
def test_a_damaged_record_is_refused(changes):
    with pytest.raises(InputError, match="cannot be understood"):
        from_text(record(**changes))


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}"])
def test_what_is_no_record_is_refused(text):
    with pytest.raises(InputError, match="cannot be understood"):
        from_text(text)


def test_settings_of_before_the_noise_limit_are_known():
    settings = settings_of(RunOptions(), torch.device("cpu"))
    del settings["noise_limit"]
    assert options_of(settings).noise_limit == "auto"
