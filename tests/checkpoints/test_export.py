"""Exported networks give the output of torch, in onnxruntime, at any size."""

import json
from dataclasses import asdict
from pathlib import Path

import onnx
import pytest
import torch

from restore_cli import registry
from restore_cli.checkpoints.export import export
from restore_cli.checkpoints.load import Checkpoint
from restore_cli.checkpoints.onnx import METADATA_KEY, open_onnx
from restore_cli.errors import WeightsCorrupt, WeightsMismatch, WeightsMissing

SUBPIXEL = {"n_feat": 8, "n_RRG": 1, "n_MSRB": 1, "height": 2, "scale": 2, "upsampler": "subpixel"}
SMALL = {
    "espcn": ("espcn", {"features": 8, "mapping": 4}),
    "espcn of three channels": ("espcn", {"features": 8, "mapping": 4, "in_channels": 3}),
    "dpenet": ("dpenet", {}),
    "cbsn": ("cbsn", {"channels": 8, "num_module": 1}),
    "mirnet": ("mirnet", {"n_feat": 8, "n_RRG": 1, "n_MSRB": 1, "height": 2}),
    "mirnet of subpixels": ("mirnet", SUBPIXEL),
    "ugdc": ("ugdc", {"stem_channels": 4, "nominal_size": [80, 160]}),
    "tml": ("tml", {"pm_stem": 4, "em_stem": 2, "nominal_size": [80, 80]}),
}


def checkpoint_of(arch, config):
    torch.manual_seed(0)
    module = registry.build(arch, **config).eval()
    spec = registry.configured(registry.find(arch), asdict(module.config))
    return Checkpoint(f"{arch}.small", Path("small"), "0" * 64, spec, module)


@pytest.fixture(scope="module", params=SMALL.values(), ids=SMALL)
def exported(request, tmp_path_factory):
    """A network and its file."""
    checkpoint = checkpoint_of(*request.param)
    path = tmp_path_factory.mktemp("onnx") / "small.onnx"
    path.write_bytes(export(checkpoint))
    return checkpoint, open_onnx(path)


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "espcn.onnx"
    path.write_bytes(export(checkpoint_of(*SMALL["espcn"])))
    return path


def test_every_restoration_network_is_tried():
    assert {arch for arch, _ in SMALL.values()} == set(registry.MODELS)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("size", [(32, 48), (72, 40)], ids=str)
def test_an_exported_network_gives_the_output_of_torch(exported, batch, size):
    checkpoint, file = exported
    facts = checkpoint.spec.facts
    x = torch.rand(batch, facts.channels, *(facts.fixed_size or size))
    with torch.inference_mode():
        output = checkpoint.module(x)
    wanted = output[-1] if isinstance(output, tuple) else output
    found = torch.from_numpy(file.run(x.numpy()))
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_a_file_describes_its_network(exported):
    checkpoint, file = exported
    assert file.spec == checkpoint.spec
    about = json.loads(file.session.get_modelmeta().custom_metadata_map[METADATA_KEY])
    facts = checkpoint.spec.facts
    assert (about["scale"], about["multiple"], about["channels"], about["receptive_radius"]) == (
        facts.scale,
        facts.multiple,
        facts.channels,
        facts.receptive_radius,
    )
    assert about["preprocessing"]["type"] == type(facts.preprocessing).__name__


def test_a_file_holds_no_path_of_the_machine(exported):
    _, file = exported
    assert b"/networks/" not in file.path.read_bytes()


def test_a_generator_is_not_exported():
    spec = registry.Configured("fitv2", ("generate",), None)
    with pytest.raises(WeightsMismatch, match=r"fitv2\.default cannot be exported"):
        export(Checkpoint("fitv2.default", Path("x"), "", spec, torch.nn.Identity()))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsMissing, match=r"no\.onnx: cannot be read"):
        open_onnx(tmp_path / "no.onnx")


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"\x08\x08\x12\x07pytorch" + bytes(99))
    with pytest.raises(WeightsCorrupt, match="damaged, or not an ONNX model"):
        open_onnx(path)


def changed(path, folder, change):
    """Return a copy of a file whose description, a dictionary, `change` has changed."""
    model = onnx.load(path)
    (entry,) = model.metadata_props
    about = json.loads(entry.value)
    change(about)
    entry.value = json.dumps(about)
    other = folder / "changed.onnx"
    onnx.save(model, other)
    return other


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.pop("arch"),
        lambda about: about.update(tasks=["cook"]),
        lambda about: about.update(config=[]),
        lambda about: about.update(config={"scale": []}),
        lambda about: about.update(arch="fitv2"),
    ],
    ids=["arch", "task", "config", "scale", "generator"],
)
def test_a_damaged_description_is_refused(small_file, tmp_path, change):
    with pytest.raises(WeightsCorrupt, match="metadata is damaged"):
        open_onnx(changed(small_file, tmp_path, change))


def test_a_model_of_another_program_is_refused(small_file, tmp_path):
    model = onnx.load(small_file)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(WeightsMismatch, match="restore export has not written"):
        open_onnx(tmp_path / "other.onnx")
