"""Reading weight files that somebody else made, some of them to do harm."""

import hashlib
import json
import os
import pickle
from argparse import Namespace
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save as safetensors_bytes
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from restore_cli.checkpoints.read import WRAPPINGS, read, read_about
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
        {f"net.model._orig_mod.module.{key}": value for key, value in STATE.items()},
        {"model": OTHER, "ema": {"decay": 0.999, "shadow": STATE}},
        {"ema": {"decay": 0.999}, "params": STATE},
        {"model": {"ema": {"module": {"state_dict": STATE}}}},
        {"generator": STATE, "discriminator": OTHER},
        {"net": STATE, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}},
    ],
    ids=[
        "state_dict", "module", "both", "tutorial", "averaged first", "nested", "prefixes",
        "prefixes turned", "averaged within", "no tensors in the average", "four deep", "generator",
        "optimizer",
    ],
)  # fmt: skip
def test_wrappings_of_a_training_are_removed(wrapped, tmp_path):
    torch.save(wrapped, tmp_path / "x.pth")
    assert_close(read(tmp_path / "x.pth").state, STATE, atol=0, rtol=0)


def test_the_wrappings_of_a_file_are_named(tmp_path):
    wrapped = {"params": {f"module.net.{key}": value for key, value in STATE.items()}}
    torch.save(wrapped, tmp_path / "x.pth")
    file = read(tmp_path / "x.pth")
    assert (file.wrapping, file.prefixes) == (("params",), ("module.", "net."))


def test_prefixes_are_removed_from_safetensors_too(tmp_path):
    save_file({f"net.module.{key}": value for key, value in STATE.items()}, tmp_path / "x")
    assert_close(read(tmp_path / "x").state, STATE, atol=0, rtol=0)


@pytest.mark.parametrize("write", [torch.save, save_legacy])
@pytest.mark.parametrize(
    "value",
    [np.float64(31.2), np.arange(3.0), np.bool_(True), Namespace(lr=1e-4, out=Path("x"))],
    ids=["a number", "an array", "a flag", "arguments"],
)
def test_facts_of_a_training_beside_the_weights_are_ignored(write, value, tmp_path):
    write({"state_dict": STATE, "best": value}, tmp_path / "x.pth")
    assert_close(read(tmp_path / "x.pth").state, STATE, atol=0, rtol=0)


def test_a_numpy_array_is_no_weight(tmp_path):
    torch.save({"a.weight": np.zeros(3)}, tmp_path / "x.pth")
    with pytest.raises(WeightsCorrupt, match="is a PythonObject, wanted a tensor"):
        read(tmp_path / "x.pth")


@pytest.mark.parametrize("keys", [["model"], WRAPPINGS], ids=["once", "many times"])
def test_a_checkpoint_that_contains_itself_is_refused(keys, tmp_path):
    endless = {}
    endless.update(dict.fromkeys(keys, endless))
    torch.save(endless, tmp_path / "x.pth")
    with pytest.raises(WeightsCorrupt, match="wanted a tensor"):
        read(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.eye(3).to_sparse(), "is sparse"),
        (torch.empty(3, device="meta"), "is without values"),
        (torch.zeros(1).expand(10**6, 10**6), r"is \(1000000, 1000000\), larger than the file"),
    ],
    ids=["sparse", "meta", "a view of one number"],
)
def test_a_tensor_without_all_its_values_is_refused(tensor, reason, tmp_path):
    torch.save({"a.weight": tensor}, tmp_path / "x.pth")
    with pytest.raises(WeightsCorrupt, match=f"'a.weight' {reason}"):
        read(tmp_path / "x.pth")


def test_another_pickle_protocol_is_told_apart_from_damage(tmp_path):
    torch.save(STATE, tmp_path / "x.pth", pickle_protocol=4)
    with pytest.raises(WeightsCorrupt) as caught:
        read(tmp_path / "x.pth")
    assert "without pickle_protocol" in caught.value.hint


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
    ("contents", "kind", "hint"),
    [
        (b"", ": empty", "download it again"),
        (b"PK", "", "readable are"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "", "readable are"),
        (b"\n<!DOCTYPE html><title>404</title>", " but a web page", "not the page"),
        (b"\xef\xbb\xbf<HTML>", " but a web page", "not the page"),
        (b"Entry not found", " but a text", "download it again"),
        (b"version https://git-lfs.github.com/spec/v1\n", " but a pointer of Git LFS", "lfs pull"),
        (b"\x08\x08\x12\x07pytorch" + bytes(99), " but an ONNX model", "state dict"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), " but an HDF5 file", "state dict"),
        (b"\x08\x01\x12\x99" + bytes(99), " but a SavedModel", ".index"),
        (b"\x1c\0\0\0TFL3" + bytes(99), " but a model of TensorFlow Lite", "state dict"),
        (b"\x1f\x8b\x08" + bytes(99), " but an archive", "unpack it"),
    ],
    ids=[
        "empty", "two bytes", "an image", "a web page", "a web page with a mark", "a text",
        "git-lfs", "ONNX", "Keras", "SavedModel", "Lite", "gzip",
    ],
)  # fmt: skip
def test_what_is_no_weight_file_is_told_by_its_kind(contents, kind, hint, tmp_path):
    (tmp_path / "x.pth").write_bytes(contents)
    with pytest.raises(WeightsCorrupt, match=rf"^x\.pth: not a weight file{kind}") as caught:
        read(tmp_path / "x.pth")
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        (["x/data.pkl", "x/constants.pkl", "x/code/__torch__.py"], "a TorchScript program"),
        (["x/data.pkl", "x/archive_format"], "a program of torch.export"),
        (["config.json", "model.weights.h5"], "a model of Keras"),
        (["a.npy"], "arrays of NumPy"),
        (["folder/model.pth"], "a zip archive"),
    ],
    ids=["TorchScript", "export", "Keras", "NumPy", "a zip"],
)
def test_a_zip_that_is_no_checkpoint_is_told_by_its_kind(members, kind, tmp_path):
    with ZipFile(tmp_path / "x.pth", "w") as file:
        for member in members:
            file.writestr(member, b"any")
    with pytest.raises(WeightsCorrupt, match=f"not a weight file but {kind}"):
        read(tmp_path / "x.pth")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_is_refused_without_a_warning(tmp_path):
    torch.jit.save(torch.jit.script(nn.Conv2d(1, 1, 1)), tmp_path / "x.pt")
    with pytest.raises(WeightsCorrupt, match="TorchScript") as caught:
        read(tmp_path / "x.pt")
    assert "torch.jit.load" in caught.value.hint


def test_a_zip_that_inflates_is_refused(tmp_path):
    with ZipFile(tmp_path / "x.pth", "w", ZIP_DEFLATED) as file:
        file.writestr("x/data.pkl", bytes(10**7))
    with pytest.raises(WeightsCorrupt, match="larger than the file"):
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
    [
        "{",
        "[]",
        '"dpenet"',
        json.dumps({"arch": "dpenet"}),
        json.dumps({"config": 1, "arch": ""}),
        json.dumps({"arch": ["dpenet"], "config": {}, "record": {}}),
        '{"arch": "dpenet", "config": ' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
    ids=["cut", "a list", "a word", "fields missing", "config a number", "arch a list", "deep"],
)
def test_a_damaged_description_is_refused(text, tmp_path):
    (tmp_path / "x").write_bytes(safetensors_bytes(STATE, metadata={"restore": text}))
    with pytest.raises(WeightsCorrupt, match="metadata is damaged"):
        read(tmp_path / "x")


def test_an_absent_file_is_missing(tmp_path):
    with pytest.raises(WeightsMissing, match=r"there is no weight file .*x\.pth"):
        read(tmp_path / "x.pth")


@pytest.mark.parametrize("read", [read, read_about])
def test_only_regular_files_are_read(read, tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    os.mkfifo(tmp_path / "pipe.index")
    (tmp_path / "loop.pth").symlink_to("loop.pth")
    for path in (tmp_path / "pipe.pth", tmp_path / "pipe.index", Path("/dev/zero"), tmp_path):
        with pytest.raises(WeightsMissing, match="cannot be read: not a regular file"):
            read(path)
    for path in (tmp_path / "loop.pth", tmp_path / ("x" * 300)):
        with pytest.raises(WeightsMissing, match="cannot be read"):
            read(path)


def test_a_file_larger_than_any_weights_is_not_read(tmp_path):
    with (tmp_path / "x.pth").open("wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(1 << 40)  # sparse
    with pytest.raises(WeightsMissing, match="the limit is"):
        read(tmp_path / "x.pth")


def with_header(change, body=bytes(16)):
    """A safetensors file of one header; change: of that of two tensors."""
    header = {
        "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]},
    }
    text = json.dumps(change(header)).encode()
    return len(text).to_bytes(8, "little") + text + body


@pytest.mark.parametrize(
    "data",
    [
        with_header(lambda header: {**header, "b": header["a"]}),
        with_header(lambda header: {"a": header["a"]}),
        with_header(lambda header: header, bytes(12)),
        with_header(lambda header: {**header, "__metadata__": {"restore": None}}),
        with_header(lambda header: {**header, "a": {**header["a"], "shape": [2**62, 8]}}),
        (1 << 62).to_bytes(8, "little") + b"{}",
    ],
    ids=["overlapping", "uncovered", "short", "metadata", "overflow", "huge header"],
)
def test_safetensors_of_wrong_ranges_are_refused(data, tmp_path):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(WeightsCorrupt, match="broken safetensors"):
        read(tmp_path / "x")


def test_safetensors_without_tensors_are_empty(tmp_path):
    save_file({}, tmp_path / "x")
    assert read(tmp_path / "x").state == {}


def test_null_metadata_are_none(tmp_path):
    data = with_header(lambda header: {**header, "__metadata__": None})
    (tmp_path / "x").write_bytes(data)
    assert read(tmp_path / "x").about is None
    assert read_about(tmp_path / "x") is None
