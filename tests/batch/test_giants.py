"""Images that go from disk to disk band by band."""

import shutil
from collections import namedtuple

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from restore_cli.batch import giants
from restore_cli.batch.giants import disk_need
from restore_cli.batch.jobs import Job
from restore_cli.batch.pipeline import BatchOptions
from restore_cli.batch.provenance import CommandRecord, record_of
from restore_cli.batch.run import run
from restore_cli.errors import OutputError
from restore_cli.files import sha256_of
from restore_cli.imaging.codecs import png
from restore_cli.imaging.io import read, write
from restore_cli.inference import restorer as pipeline
from restore_cli.inference.options import RunOptions
from restore_cli.inference.restorer import load_restorer
from tests.imaging.images import camera_exif, icc_profile, image_of, noise, png_file

HEIGHT, WIDTH = 150, 23
SUFFIXES = {
    "png": "png",
    "tiff": "tif",
    "jpeg": "jpg",
    "webp": "webp",
    "avif": "avif",
    "jxl": "jxl",
}


@pytest.fixture
def restorer(tmp_path):
    from restore_cli import registry
    from restore_cli.checkpoints.save import save

    path = tmp_path / "x2.safetensors"
    save(registry.build("espcn", scale=2), path, arch="espcn", config={"scale": 2}, record={})
    options = RunOptions(weights=str(path), device="cpu", precision="fp32", tile=64)
    return load_restorer("upscale", options)


def source_of(folder, kind, channels, depth):
    """A file of noise; JPEG and its like have what they can hold of it."""
    levels = noise(HEIGHT, WIDTH, channels, depth)
    path = folder / f"source.{kind.split()[0]}"
    if kind == "png":
        path.write_bytes(png_file(levels))
    elif kind in ("png filtered", "jxl"):
        write(image_of(levels), path)
    elif kind == "png interlaced":
        path.write_bytes(png_file(levels, interlaced=True))
    elif kind in ("tif", "tif tiles", "tif planes", "tif strips"):
        options = {"photometric": "rgb" if channels > 2 else "minisblack", "metadata": None}
        options |= {"extrasamples": ["unassalpha"]} if channels in (2, 4) else {}
        options |= {"tif tiles": {"tile": (32, 16)}, "tif strips": {"rowsperstrip": 7}}.get(
            kind, {}
        )
        if kind != "tif":
            options["compression"] = "zlib"
        if kind == "tif planes" and channels > 1:
            levels, options["planarconfig"] = np.moveaxis(levels, 2, 0), "separate"
        tifffile.imwrite(path, levels if channels > 1 else levels[..., 0], **options)
    else:
        plain = noise(HEIGHT, WIDTH, 3)
        Pillow.fromarray(plain).save(path)
    return path


def restored(source, target, restorer, format, **options):
    (result,) = run([Job(source, target, format)], restorer, BatchOptions(**options))
    assert result.error is None, result.error
    return read(target)


KINDS = ["png filtered", "png interlaced", "tif", "tif tiles", "tif planes", "tif strips"]


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_from_disk_the_result_is_the_same(kind, channels, depth, restorer, tmp_path, monkeypatch):
    source = source_of(tmp_path, kind, channels, depth)
    whole = restored(source, tmp_path / "whole.png", restorer, "png")
    monkeypatch.setattr(giants, "LARGE", 0)
    monkeypatch.setattr(png, "ROWS_BYTES", 500)
    found = restored(source, tmp_path / "bands.png", restorer, "png")
    assert (found.pixels - whole.pixels).abs().max() <= 1e-6
    assert (found.alpha is None) == (whole.alpha is None)
    assert found.alpha is None or (found.alpha - whole.alpha).abs().max() <= 1e-6


@pytest.mark.parametrize("kind", ["jpg", "webp", "bmp", "gif", "ppm", "avif", "jxl"])
@pytest.mark.parametrize("format", SUFFIXES)
def test_every_format_is_read_and_written(kind, format, restorer, tmp_path, monkeypatch):
    source = source_of(tmp_path, kind, 3, 8)
    names = [tmp_path / f"{name}.{SUFFIXES[format]}" for name in ("whole", "bands")]
    whole = restored(source, names[0], restorer, format)
    monkeypatch.setattr(giants, "LARGE", 0)
    found = restored(source, names[1], restorer, format)
    assert (found.pixels - whole.pixels).abs().max() <= 1e-6


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
def test_a_giant_animation_keeps_its_first_frame_and_says_so(
    kind, restorer, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(giants, "LARGE", 0)
    frames = [Pillow.fromarray(noise(HEIGHT, WIDTH, 3)[::step]) for step in (1, -1)]
    source = tmp_path / f"source.{kind}"
    frames[0].save(source, save_all=True, append_images=frames[1:], duration=90)
    found = restored(source, tmp_path / "bands.png", restorer, "png")
    assert (found.height, found.width) == (2 * HEIGHT, 2 * WIDTH)
    assert f"{source}: read without the other frames" in caplog.messages


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_giant_is_upright(orientation, restorer, tmp_path, monkeypatch):
    source = tmp_path / "turned.png"
    exif = camera_exif(orientation)[6:]
    source.write_bytes(png_file(noise(HEIGHT, WIDTH, 3), (b"eXIf", exif)))
    whole = restored(source, tmp_path / "whole.tif", restorer, "tiff")
    monkeypatch.setattr(giants, "LARGE", 0)
    found = restored(source, tmp_path / "bands.tif", restorer, "tiff")
    assert (found.pixels - whole.pixels).abs().max() <= 1e-6


@pytest.mark.parametrize("format", SUFFIXES)
def test_record_and_metadata_go_with_a_giant(format, restorer, tmp_path, monkeypatch):
    monkeypatch.setattr(giants, "LARGE", 0)
    source, target = tmp_path / "source.tif", tmp_path / f"bands.{SUFFIXES[format]}"
    image = image_of(noise(HEIGHT, WIDTH, 3))
    described = image.metadata.__class__(icc=icc_profile(), exif=camera_exif()[6:])
    write(image.__class__(image.pixels, metadata=described), source)
    record = CommandRecord("upscale", restorer.options, "cpu")
    found = restored(source, target, restorer, format, record=record)
    made = record_of(found, target.read_bytes())
    assert made.source_sha256 == sha256_of(source)
    assert made.networks[0].height == 2 * HEIGHT
    assert found.metadata.icc == (None if format == "jxl" else described.icc)
    assert found.metadata.exif is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [source.name, target.name, "x2.safetensors"]
    )


def test_the_disk_is_checked_before_the_work(restorer, tmp_path, monkeypatch):
    monkeypatch.setattr(giants, "LARGE", 0)
    usage = namedtuple("usage", "free total", defaults=[1])
    source = source_of(tmp_path, "png", 3, 8)
    need = disk_need(source, "png", restorer)
    assert need == HEIGHT * WIDTH * 3 * (1 + 4)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(need - 1))
    monkeypatch.setattr(pipeline.Restorer, "stream", None)
    (result,) = run([Job(source, tmp_path / "out.png", "png")], restorer)
    assert isinstance(result.error, OutputError)
    assert "on disk" in result.error.message
    assert not (tmp_path / "out.png").exists()


def test_a_giant_that_is_damaged_fails_alone(restorer, tmp_path, monkeypatch):
    monkeypatch.setattr(giants, "LARGE", 0)
    sound = source_of(tmp_path, "png", 3, 8)
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(sound.read_bytes()[:3000])
    jobs = [Job(each, tmp_path / "out" / each.name, "png") for each in (damaged, sound)]
    assert [result.status for result in run(jobs, restorer)] == ["failed", "ok"]
