"""Reading weight files that somebody else made, some of them to do harm."""

import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save as safetensors_bytes
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from restore_cli.checkpoints.read import read
from restore_cli.errors import WeightsCorrupt, WeightsMissing

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.count": torch.tensor(7)}
OTHER = {key: value + 1 for key, value in STATE.items()}


def save_legacy(state, path):
    torch.save(state, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("write", [save_file, torch.save, save_legacy])
@pytest.mark.parametrize("name", ["x.safetensors", "x.pth", "größe ü"])
def test_what_a_file_is_its_contents_tell(write, name, tmp_path):
    write(STATE, tmp_path / name)
    file = read(tmp_path / name)
    assert_close(file.state, STATE, atol=0, rtol=0)
    assert file.sha256 == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "wrapped",
    [
        {"state_dict": STATE, "epoch": 3},
        {f"module.{key}": value for key, value in STATE.items()},
        {"state_dict": {f"module.{key}": value for key, value in STATE.items()}},
        {"model_state_dict": STATE, "epoch": 3},
        {"params": OTHER, "params_ema": STATE},
        {"model": {"state_dict": STATE}, "optimizer": {}},
        {f"module._orig_mod.net.{key}": value for key, value in STATE.items()},
    ],
    ids=["state_dict", "module", "both", "tutorial", "averaged first", "nested", "prefixes"],
)
def test_wrappings_of_a_training_are_removed(wrapped, tmp_path):
    torch.save(wrapped, tmp_path / "x.pth")
    assert_close(read(tmp_path / "x.pth").state, STATE, atol=0, rtol=0)


def test_a_checkpoint_that_contains_itself_is_refused(tmp_path):
    endless = {}
    endless["model"] = endless
    torch.save(endless, tmp_path / "x.pth")
    with pytest.raises(WeightsCorrupt, match="wanted a tensor"):
        read(tmp_path / "x.pth")


class Harmful:
    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return Path.touch, (self.victim,)


def test_code_in_a_pickle_is_refused_and_does_not_run(tmp_path):
    torch.save({"a": Harmful(tmp_path / "victim")}, tmp_path / "x.pth")
    with pytest.raises(WeightsCorrupt, match="refused, it holds Python code"):
        read(tmp_path / "x.pth")
    assert not (tmp_path / "victim").exists()


def test_code_in_a_bare_pickle_does_not_run_either(tmp_path):
    (tmp_path / "x.pth").write_bytes(pickle.dumps(Harmful(tmp_path / "victim"), protocol=2))
    with pytest.raises(WeightsCorrupt):
        read(tmp_path / "x.pth")
    assert not (tmp_path / "victim").exists()


def test_a_whole_pickled_network_is_refused_as_code(tmp_path):
    torch.save(nn.Conv2d(1, 1, 1), tmp_path / "x.pth")
    with pytest.raises(WeightsCorrupt, match="refused, it holds Python code") as caught:
        read(tmp_path / "x.pth")
    assert "bare state dict" in caught.value.hint


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"epoch": 3}, "'epoch' is a int, wanted a tensor"),
        ({3: torch.zeros(1)}, "3 is a Tensor"),
        ({}, "holds no table of tensors"),
        ([torch.zeros(1)], "holds no table of tensors"),
        ({"state_dict": [1]}, "is a list, wanted a tensor"),
    ],
    ids=["a number", "a number as key", "empty", "a list", "a list within"],
)
def test_a_pickle_of_something_else_is_refused(value, reason, tmp_path):
    torch.save(value, tmp_path / "x.pth")
    with pytest.raises(WeightsCorrupt, match=reason):
        read(tmp_path / "x.pth")


@pytest.mark.parametrize(
    "contents",
    [b"", b"PK", b"<!DOCTYPE html><title>404</title>", b"\x89PNG\r\n\x1a\n" + bytes(99)],
    ids=["empty", "two bytes", "a web page", "an image"],
)
def test_what_is_no_weight_file_is_said_to_be_none(contents, tmp_path):
    (tmp_path / "x.pth").write_bytes(contents)
    with pytest.raises(WeightsCorrupt, match=r"^x\.pth: is not a weight file$"):
        read(tmp_path / "x.pth")


@pytest.mark.parametrize("write", [save_file, torch.save, save_legacy])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_refused(write, share, tmp_path):
    write({"a": torch.zeros(40)}, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    (tmp_path / "cut").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(WeightsCorrupt):
        read(tmp_path / "cut")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(magic=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"{}{}{}{}{"]), rest=st.binary())
def test_noise_is_refused(magic, rest, tmp_path):
    (tmp_path / "noise").write_bytes(magic + rest)
    with pytest.raises(WeightsCorrupt):
        read(tmp_path / "noise")


def test_a_file_of_ours_says_what_it_is(random_weights):
    about = read(random_weights).about
    assert (about.arch, about.config, about.record) == ("dpenet", {}, {})


def test_a_file_of_others_says_nothing(tmp_path):
    save_file(STATE, tmp_path / "x.safetensors", metadata={"format": "pt"})
    assert read(tmp_path / "x.safetensors").about is None


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '"dpenet"', json.dumps({"arch": "dpenet"}), json.dumps({"config": 1, "arch": ""})],
    ids=["cut", "a list", "a word", "fields missing", "config a number"],
)
def test_a_damaged_description_is_refused(text, tmp_path):
    (tmp_path / "x").write_bytes(safetensors_bytes(STATE, metadata={"restore": text}))
    with pytest.raises(WeightsCorrupt, match="description of itself is damaged"):
        read(tmp_path / "x")


def test_an_absent_file_is_missing(tmp_path):
    with pytest.raises(WeightsMissing, match=r"there is no weight file .*x\.pth"):
        read(tmp_path / "x.pth")


def test_a_folder_cannot_be_read(tmp_path):
    with pytest.raises(WeightsMissing, match="cannot be read"):
        read(tmp_path)
