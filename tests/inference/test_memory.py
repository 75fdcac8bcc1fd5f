"""Memory that runs out: injected, so that each test knows when."""

import logging

import pytest
import torch
from torch import nn

from restore_cli.errors import OutOfMemory
from restore_cli.imaging.image import Image
from restore_cli.inference import runner
from tests.toys import restorer_of, toy_facts

WORDS = {
    "torch": torch.OutOfMemoryError("injected"),
    "python": MemoryError(),
    "linux": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    "windows": RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory"),
    "onednn": RuntimeError("could not create a memory object"),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
}


class SmallMemory(nn.Module):
    """Holds images of at most `side` pixels on a side; changes nothing."""

    def __init__(self, side: int, error: BaseException = WORDS["torch"]):
        super().__init__()
        self.side = side
        self.error = error
        self.seen: list[int] = []

    def forward(self, x):
        self.seen.append(max(x.shape[-2:]))
        if self.seen[-1] > self.side:
            raise self.error
        return x


def restorer(network, *, tiling="exact", **options):
    return restorer_of(network, toy_facts(0, tiling=tiling), **options)


@pytest.mark.parametrize("error", WORDS.values(), ids=WORDS.keys())
def test_out_of_memory_halves_the_tile_and_goes_on(error):
    small = restorer(SmallMemory(64, error), tile=128)
    pixels = torch.rand(3, 16, 128)
    restored = small(Image(pixels))
    torch.testing.assert_close(restored.image.pixels, pixels)
    assert restored.report.tile == 64


@pytest.mark.parametrize("tile", ["off", "auto", 512, 4096])
def test_whatever_tile_was_asked_for_is_halved_with_one_warning(tile, caplog):
    small = restorer(SmallMemory(70), tile=tile)
    with caplog.at_level(logging.WARNING):
        restored = small(Image(torch.rand(3, 16, 500)))
    assert restored.report.tile == 64
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "out of memory on cpu" in caplog.text


def test_the_images_that_follow_begin_with_what_fitted(caplog):
    network = SmallMemory(100)
    small = restorer(network, tile="off")
    small.run(torch.rand(3, 16, 200))
    network.seen.clear()
    caplog.clear()
    small.run(torch.rand(3, 16, 200))
    assert max(network.seen) <= 100
    assert caplog.records == []


def test_a_small_image_still_goes_whole_after_a_large_one_did_not():
    small = restorer(SmallMemory(100), tile="off")
    small.run(torch.rand(3, 16, 200))
    assert small(Image(torch.rand(3, 16, 90))).report.tile is None


def test_the_trial_of_low_precision_may_run_out_of_memory_too(monkeypatch, caplog):
    monkeypatch.setattr(runner, "low_precisions", lambda device: ("bf16",))
    small = restorer(SmallMemory(100), precision="auto", tile=256)
    with caplog.at_level(logging.WARNING):
        report = small(Image(torch.rand(3, 16, 256))).report
    assert (report.tile, report.precision) == (64, "bf16")
    assert len(caplog.records) == 1


def test_out_of_memory_at_the_smallest_tile_is_an_error():
    with pytest.raises(OutOfMemory, match="64 px"):
        restorer(SmallMemory(0), tile=64).run(torch.rand(3, 16, 70))


def test_a_network_that_is_never_tiled_cannot_be_halved():
    with pytest.raises(OutOfMemory, match="needs the whole image at once"):
        restorer(SmallMemory(0), tiling="never").run(torch.rand(3, 16, 500))


def test_an_error_that_is_not_about_memory_stays_what_it_is():
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        restorer(SmallMemory(0, RuntimeError("mat1 and mat2"))).run(torch.rand(3, 8, 8))


@pytest.mark.parametrize(("tiling", "tile"), [("exact", 320), ("approximate", 512)])
def test_tiles_on_a_cpu_are_smaller_where_their_size_does_not_change_the_result(tiling, tile):
    plain = restorer(nn.Identity(), tiling=tiling)
    assert plain(Image(torch.rand(3, 16, 600))).report.tile == tile
