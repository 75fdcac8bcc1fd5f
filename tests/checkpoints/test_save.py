"""Weight files of ours: complete, reproducible, whole or not there."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from restore_cli import registry
from restore_cli.checkpoints import load
from restore_cli.checkpoints.read import read
from restore_cli.checkpoints.save import save
from restore_cli.errors import OutputError, WeightsError


def save_dpenet(network, path, **options):
    save(network, path, arch="dpenet", config={}, record={}, **options)


def with_value(value):
    """A network in which one weight has this value."""
    network = registry.build("dpenet")
    nn.init.constant_(network.detail.weight[:1, :1], value)
    return network


def test_how_the_weights_came_to_be_is_in_the_file(tmp_path):
    record = {"steps": 1000, "data": ["a", "ü"], "psnr": 35.25, "ema": None}
    config = {"out_activation": "relu"}
    network = registry.build("dpenet", **config)
    save(network, tmp_path / "x", arch="dpenet", config=config, record=record)
    about = read(tmp_path / "x").about
    assert (about.arch, about.config, about.record) == ("dpenet", config, record)


def test_the_same_network_makes_the_same_file(tmp_path):
    network = registry.build("dpenet")
    save_dpenet(network, tmp_path / "a")
    save_dpenet(network, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_half_precision_file_has_half_the_size(tmp_path):
    network = registry.build("dpenet")
    save_dpenet(network, tmp_path / "single")
    save_dpenet(network, tmp_path / "half", half=True)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    saved = (tmp_path / "single").stat().st_size - (tmp_path / "half").stat().st_size
    assert saved == pytest.approx(2 * parameters, abs=200)  # the headers are padded


def test_a_half_precision_file_loads_as_single_precision(tmp_path):
    network = registry.build("dpenet")
    save_dpenet(network, tmp_path / "half.safetensors", half=True)
    rounded = {key: value.half().float() for key, value in network.state_dict().items()}
    loaded = load(tmp_path / "half.safetensors").state_dict()
    assert_close(loaded, rounded, atol=0, rtol=0)


def test_saving_leaves_the_network_as_it_was(tmp_path):
    network = registry.build("dpenet")
    save_dpenet(network, tmp_path / "half", half=True)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_weights_are_not_saved(value, tmp_path):
    with pytest.raises(WeightsError, match=r"detail\.weight is not finite$"):
        save_dpenet(with_value(value), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_weights_that_half_precision_cannot_hold_are_not_saved(tmp_path):
    with pytest.raises(WeightsError, match="beyond the 65504 of float16"):
        save_dpenet(with_value(70_000.0), tmp_path / "x", half=True)


def test_another_memory_order_makes_no_difference(tmp_path):
    network = registry.build("dpenet")
    save_dpenet(network, tmp_path / "a")
    save_dpenet(network.to(memory_format=torch.channels_last), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tied_weights_are_saved_twice(tmp_path):
    network = registry.build("dpenet")
    network.embed_streakless.weight = network.embed_rainy.weight
    save_dpenet(network, tmp_path / "x")
    state = read(tmp_path / "x").state
    assert torch.equal(state["embed_streakless.weight"], state["embed_rainy.weight"])


def test_an_earlier_file_is_replaced_and_no_other_left(tmp_path):
    (tmp_path / "x").write_bytes(b"earlier")
    save_dpenet(registry.build("dpenet"), tmp_path / "x")
    assert read(tmp_path / "x").about.arch == "dpenet"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_new_folder_is_made(tmp_path):
    save_dpenet(registry.build("dpenet"), tmp_path / "new" / "x")
    assert (tmp_path / "new" / "x").is_file()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written"):
        save_dpenet(registry.build("dpenet"), tmp_path / "file" / "x")


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    (tmp_path / "x").mkdir()  # a file cannot be renamed onto a folder
    with pytest.raises(OutputError, match="cannot be written"):
        save_dpenet(registry.build("dpenet"), tmp_path / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_statistics_of_batch_norms_stay_in_single_precision(tmp_path):
    network = registry.build("ugdc", stem_channels=2, nominal_size=(80, 80))
    network.enter[1].running_var.fill_(1e6)  # more than float16 holds
    config = {"stem_channels": 2, "nominal_size": (80, 80)}
    path = tmp_path / "half.safetensors"
    save(network, path, arch="ugdc", config=config, record={}, half=True)
    assert load(path).enter[1].running_var[0] == 1e6
