"""Provenance records in the files themselves."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image as Pillow

from restore_cli.batch.grids import Grid
from restore_cli.batch.jobs import Job
from restore_cli.batch.pipeline import BatchOptions
from restore_cli.batch.provenance import (
    CommandRecord,
    from_text,
    generated_record,
    grid_of,
    options_of,
    record_of,
    request_of,
    restored_record,
    steps_of,
    to_text,
)
from restore_cli.batch.run import run
from restore_cli.errors import InputError
from restore_cli.imaging.codecs.xmp import EMPTY
from restore_cli.imaging.image import Image, Metadata, Text
from restore_cli.imaging.io import encode, read, write
from restore_cli.inference.generator import Generator
from restore_cli.inference.options import RunOptions
from restore_cli.inference.rain import Rain
from restore_cli.inference.report import Report, Restored, StepReport
from restore_cli.inference.samplers.request import GenerateRequest

STEP = StepReport("dpenet", "dpenet.default", "ab" * 32, 64, "fp32", 5, 7, 0.0)
OPTIONS = RunOptions("dpenet", "a.pth", 64, "exact", "auto", "bf16", seed=3)
SHARED = CommandRecord("derain", OPTIONS, "cuda")
XMP = EMPTY.replace(b"</rdf:RDF>", b"<rdf:Description/>" * 3_000 + b"</rdf:RDF>")
REQUEST = GenerateRequest("ü", size=(6, 4), steps=2, guidance=3.0, sampler="ddim", negative="1")


def restored(*steps):
    return restored_record(SHARED, "ü.png", "cd" * 32, steps or (STEP,), format="png", quality=None)


def generated(target=Path("x.jpg")):
    generator = Generator(None, "fitv2", "fitv2.tiny", "ef" * 32, torch.device("cpu"), "fp32")
    grid = Grid((("ü", 1), ("<a&b>", 2)), 2, target)
    return generated_record(grid, REQUEST, generator, 80)


ROW, GENERATED_ROW = json.loads(to_text(restored())), json.loads(to_text(generated()))
(NETWORK,), (GENERATED_NETWORK,) = ROW["networks"], GENERATED_ROW["networks"]
WIDE = {**GENERATED_NETWORK, "width": 512, "height": 512}


def changed(row, changes):
    return json.dumps(row | changes)


def of_file(path):
    return record_of(read(path), path.read_bytes())


class Inverting:
    device = torch.device("cpu")

    def size_after(self, height, width):
        return height, width

    def __call__(self, image, *, on_progress=None):
        return Restored(image.with_pixels(1 - image.pixels), Report((STEP,)))


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "private" / "photo.png"
    path.parent.mkdir()
    Pillow.effect_noise((7, 5), 50).convert("RGB").save(path)
    return path


def test_a_record_keeps_the_reports_of_the_networks():
    step = replace(STEP, noise_sigma=0.1, brightness=0.5, grain=0.2, rain=Rain(0.25, 0.125, None))
    assert steps_of(from_text(to_text(restored(STEP, step)))) == (STEP, step)


def test_a_record_keeps_the_options_that_do_not_stand_with_a_network():
    assert options_of(from_text(to_text(restored()))) == RunOptions(
        overlap="exact", device="cuda", seed=3
    )


def test_a_record_keeps_the_request_and_the_grid_of_generated_images():
    record = from_text(to_text(generated()))
    assert request_of(record) == REQUEST
    assert grid_of(record, Path("y.jpg")) == Grid((("ü", 1), ("<a&b>", 2)), 2, Path("y.jpg"))
    assert (record.format, record.quality) == ("jpeg", 80)


def test_a_record_names_its_own_fields():
    """Renaming a field of the options, of a request or of a report changes no record."""
    row = json.loads(to_text(restored()))
    assert sorted(row) == [
        "command", "device", "format", "networks", "quality", "record", "restore", "settings",
        "source", "source_sha256", "torch",
    ]  # fmt: skip
    assert sorted(row["settings"]) == [
        "ensemble", "exact", "noise_limit", "overlap", "resize", "seed", "strength",
    ]  # fmt: skip
    assert sorted(row["networks"][0]) == [
        "backend", "brightness", "grain", "height", "network", "noise_sigma", "precision", "rain",
        "sha256", "tile", "weights", "width",
    ]  # fmt: skip
    row = json.loads(to_text(generated()))
    assert sorted(row) == [
        "columns", "command", "device", "format", "inputs", "networks", "prompts", "quality",
        "record", "restore", "seeds", "settings", "torch", "vae_sha256",
    ]  # fmt: skip
    assert sorted(row["settings"]) == [
        "direct", "disperse", "freeu", "guidance", "guidance_power", "init_strength",
        "negative", "rope", "sampler", "steps", "synchronise",
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "avif", "jxl"])
def test_every_format_keeps_the_record(photo, tmp_path, suffix):
    target = tmp_path / f"out.{suffix}"
    format = {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix)
    (result,) = run([Job(photo, target, format)], Inverting(), BatchOptions(record=SHARED))
    assert result.error is None
    found = of_file(target)
    assert (found.command, found.source, steps_of(found)) == ("derain", "photo.png", (STEP,))
    assert found.format == format


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "avif", "jxl"])
def test_every_format_keeps_the_record_of_generated_images(tmp_path, suffix):
    metadata = Metadata(record=to_text(generated()))
    write(Image(torch.rand(3, 5, 7), metadata=metadata), tmp_path / f"out.{suffix}")
    assert of_file(tmp_path / f"out.{suffix}") == generated()


def test_no_folder_is_recorded(photo, tmp_path):
    target = tmp_path / "out.png"
    list(run([Job(photo, target, "png")], Inverting(), BatchOptions(record=SHARED)))
    assert b"private" not in target.read_bytes()


def test_nothing_is_recorded_unasked(photo, tmp_path):
    list(run([Job(photo, tmp_path / "out.png", "png")], Inverting()))
    assert of_file(tmp_path / "out.png") is None


def test_the_record_of_a_source_is_not_that_of_its_result(photo, tmp_path):
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    list(run([Job(photo, first, "png")], Inverting(), BatchOptions(record=SHARED)))
    enhance = BatchOptions(record=replace(SHARED, command="enhance"))
    list(run([Job(first, second, "png")], Inverting(), enhance))
    found = of_file(second)
    assert (found.command, found.source) == ("enhance", "first.png")
    list(run([Job(first, tmp_path / "third.png", "png")], Inverting()))
    assert of_file(tmp_path / "third.png") is None


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "avif", "jxl"])
def test_the_users_own_xmp_and_exif_stay(tmp_path, suffix):
    exif = Pillow.Exif()
    exif[0x010F] = "camera"
    plain, recorded = tmp_path / f"plain.{suffix}", tmp_path / f"recorded.{suffix}"
    metadata = Metadata(xmp=XMP, exif=exif.tobytes()[6:])
    write(Image(torch.rand(3, 5, 7), metadata=metadata), plain)
    write(
        Image(torch.rand(3, 5, 7), metadata=replace(metadata, record=to_text(restored()))), recorded
    )
    before, after = read(plain).metadata, read(recorded).metadata
    assert after.exif == before.exif
    assert after.xmp != before.xmp
    assert after.xmp.count(b"<rdf:Description/>") == 3_000


def test_a_record_never_costs_a_jpeg_its_xmp(tmp_path, caplog):
    full = XMP + b" " * (65_500 - len(XMP))
    metadata = Metadata(xmp=full, record=to_text(restored()))
    write(Image(torch.rand(3, 5, 7), metadata=metadata), tmp_path / "out.jpg")
    assert read(tmp_path / "out.jpg").metadata.xmp == full
    assert caplog.text == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"networks": []},
        {"networks": 7},
        {"networks": [{"network": "dpenet"}]},
        {"networks": [{**NETWORK, "precision": "fp8"}]},
        {"networks": [{**NETWORK, "height": -1}]},
        {"networks": [{**NETWORK, "width": True}]},
        {"networks": [{**NETWORK, "sha256": "../x"}]},
        {"networks": [NETWORK] * 21},
        {"format": "exe"},
        {"device": "tpu"},
        {"settings": None},
        {"settings": {**ROW["settings"], "magic": 1}},
        {"settings": {**ROW["settings"], "strength": 2}},
        {"settings": {**ROW["settings"], "strength": 10**400}},
        {"source": 1},
        {"source": "x" * 5_000},
        {"source": "/etc/passwd"},
        {"source": "../photo.png"},
        {"source": "folder/photo.png"},
        {"source": "folder/"},
        {"source": ".."},
        {"source": "."},
        {"source": ""},
        {"source": "photo\0.png"},
        {"networks": [{**NETWORK, "tile": 1}]},
        {"networks": [{**NETWORK, "tile": 15}]},
        {"networks": [{**NETWORK, "height": 1 << 20, "width": 1 << 20}]},
        {"networks": [{**NETWORK, "noise_sigma": 1e400}]},
        {"settings": {**ROW["settings"], "overlap": 1_025}},
        {"settings": {**ROW["settings"], "overlap": -1}},
        {"settings": {**ROW["settings"], "overlap": "x"}},
        {"settings": {**ROW["settings"], "overlap": None}},
        {"settings": {**ROW["settings"], "overlap": True}},
        {"settings": {**ROW["settings"], "seed": 1 << 200}},
        {"quality": 1.5},
        {"command": ["derain"]},
        {"unheard": 1},
        {"record": 3},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_a_damaged_record_is_refused(changes):
    with pytest.raises(InputError, match="record cannot be read"):
        from_text(changed(ROW, changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": [1]},
        {"seeds": [1, -1]},
        {"prompts": [1, 2]},
        {"prompts": ["x" * 10_001, "y"]},
        {"prompts": ["x"] * 100_001, "seeds": [1] * 100_001},
        {"settings": 7},
        {"settings": {**GENERATED_ROW["settings"], "steps": 10**9}},
        {"settings": {**GENERATED_ROW["settings"], "guidance": "3"}},
        {"networks": [{**GENERATED_NETWORK, "width": 10**6}]},
        {"networks": [GENERATED_NETWORK] * 21},
        {"columns": 0},
        {"columns": 3},
        {"prompts": ["x"] * 100_000, "seeds": [1] * 100_000, "networks": [WIDE]},
        {"prompts": {"x": 1}},
        {"unheard": 1},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_a_damaged_record_of_generated_images_is_refused(changes):
    with pytest.raises(InputError, match="record cannot be read"):
        from_text(changed(GENERATED_ROW, changes))


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", "[]", "{}", "[" * 100_000, '{"prompts": NaN}', " " * (4 << 20) + "{}"],
    ids=["empty", "words", "list", "object", "deep", "NaN", "long"],
)
def test_what_is_no_record_is_refused(text):
    with pytest.raises(InputError, match="record cannot be read"):
        from_text(text)


# Records of b689b0b

OLD_GENERATED = {
    "prompts": ["a ball", "ü"],
    "seeds": [1, 2],
    "model": "fitv2",
    "weights": "fitv2.default",
    "weights_sha256": "ab" * 32,
    "width": 64,
    "height": 48,
    "device": "cpu",
    "precision": "fp32",
    "settings": {
        "steps": 25,
        "rule": "heun",
        "guidance": 1.5,
        "guidance_power": 0.0,
        "negative": 4,
        "rope": "auto",
    },
    "torch": "2.13.0",
}


def old_png(**changes):
    row = json.dumps(OLD_GENERATED | changes, ensure_ascii=False)
    texts = (Text("Software", "restore"), Text("restore", row))
    return encode(Image(torch.rand(3, 4, 4), metadata=Metadata(texts=texts)), format="png")


def test_an_old_record_is_found_among_the_texts_of_a_png():
    record = record_of(Image(torch.rand(3, 4, 4)), old_png())
    assert record.seeds == (1, 2)
    assert request_of(record) == GenerateRequest(
        "a ball",
        size=(48, 64),
        steps=25,
        guidance=1.5,
        guidance_power=0.0,
        negative="4",
        sampler="heun",
        rope="auto",
    )


@pytest.mark.parametrize(("eta", "sampler"), [(0.0, "ddim"), (1.0, "ddpm")])
def test_the_noise_of_an_old_unet_is_its_sampler(eta, sampler):
    settings = {"steps": 25, "guidance": 3.0, "negative": None, "eta": eta, "direct": True}
    data = old_png(model="scalecrafter", settings=settings)
    request = request_of(record_of(Image(torch.rand(3, 4, 4)), data))
    assert (request.sampler, request.direct) == (sampler, True)


@pytest.mark.parametrize(
    "changes",
    [{"prompts": [], "seeds": []}, {"precision": "fp8"}, {"settings": 7}, {"unheard": 1}],
    ids=str,
)
def test_a_damaged_old_record_is_refused(changes):
    with pytest.raises(InputError, match="record cannot be read"):
        record_of(Image(torch.rand(3, 4, 4)), old_png(**changes))


@pytest.mark.parametrize("format", ["png", "jpeg"])
def test_other_images_have_no_record(format):
    image = Image(torch.rand(3, 4, 4))
    assert record_of(image, encode(image, format=format)) is None
