"""A name or a path in, a network ready to run out."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from restore_cli import checkpoints, registry
from restore_cli.checkpoints import load, load_checkpoint, manifest
from restore_cli.checkpoints.importers import from_official
from restore_cli.checkpoints.read import read
from restore_cli.checkpoints.save import save
from restore_cli.checkpoints.shapes import empty_network
from restore_cli.errors import WeightsCorrupt, WeightsMismatch, WeightsMissing
from restore_cli.registry import MODELS, Configured


def test_a_bundled_name_loads(bundled):
    checkpoint = load_checkpoint("dpenet.default")
    assert checkpoint.name == "dpenet.default"
    assert checkpoint.sha256 == bundled["sha256"]
    assert checkpoint.spec == Configured("dpenet", ("derain",), MODELS["dpenet"].facts())
    assert checkpoint.path.name == bundled["file"]


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_loads(kind, random_weights):
    checkpoint = load_checkpoint(kind(random_weights))
    assert checkpoint.name == "random"
    assert checkpoint.path == random_weights
    assert_close(checkpoint.module.state_dict(), read(random_weights).state, atol=0, rtol=0)


def test_a_file_name_in_the_working_folder_loads(random_weights, monkeypatch):
    monkeypatch.chdir(random_weights.parent)
    assert load_checkpoint("random.safetensors").name == "random"


def test_an_official_path_is_imported_on_the_fly(official_file, official_state):
    network = load(official_file)
    assert_close(network.state_dict(), from_official("dpenet", official_state), atol=0, rtol=0)


def test_a_loaded_network_is_ready_to_run(random_weights):
    network = load(random_weights)
    assert not network.training
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert {parameter.device.type for parameter in network.parameters()} == {"cpu"}


def test_the_config_in_the_file_builds_the_network(tmp_path):
    config = {"out_activation": "relu", "mid_channels": 33}
    network = registry.build("dpenet", **config)
    save(network, tmp_path / "x.safetensors", arch="dpenet", config=config, record={})
    assert load(tmp_path / "x.safetensors").config == network.config


def test_loading_draws_no_random_numbers(random_weights):
    torch.manual_seed(7)
    expected = torch.rand(4)
    torch.manual_seed(7)
    load(random_weights)
    assert torch.equal(torch.rand(4), expected)


def test_an_entry_narrows_the_tasks_of_its_network(bundle, row_of, random_weights):
    random_weights.rename(bundle(row_of(random_weights, tasks=["denoise"])) / "random.safetensors")
    assert load_checkpoint("dpenet.default").spec.tasks == ("denoise",)


def test_an_entry_may_name_a_file_in_an_official_layout(bundle, row_of, official_file):
    row = row_of(official_file, importer="dpenet", url=official_file.as_uri())
    bundle(row)
    manifest.weights_cache().mkdir(parents=True)
    official_file.rename(manifest.weights_cache() / official_file.name)
    assert load_checkpoint("dpenet.default").sha256 == row["sha256"]


def test_a_changed_file_is_refused(bundle, row_of, random_weights):
    row = row_of(random_weights, url="https://example.invalid/random.safetensors")
    contents = bytearray(random_weights.read_bytes())
    contents[-1] ^= 1
    (bundle(row) / "random.safetensors").write_bytes(contents)
    with pytest.raises(WeightsCorrupt, match=f"differs from {row['sha256'][:12]}") as caught:
        load("dpenet.default")
    assert caught.value.hint == "run: restore weights fetch dpenet.default"


def test_a_name_not_yet_fetched_says_how_to_fetch_it(bundle, row_of, random_weights):
    bundle(row_of(random_weights, url="https://example.invalid/random.safetensors"))
    with pytest.raises(WeightsMissing, match="not on this machine") as caught:
        load("dpenet.default")
    assert caught.value.hint == "run: restore weights fetch dpenet.default"


def test_a_name_whose_file_is_gone_is_missing(bundle, row_of, random_weights):
    bundle(row_of(random_weights))
    with pytest.raises(WeightsMissing, match="is gone"):
        load("dpenet.default")


def test_an_unknown_name_lists_the_known_ones(bundled):
    with pytest.raises(WeightsMissing) as caught:
        load("dpenet.other")
    assert caught.value.hint == "there are: dpenet.default"


@pytest.mark.parametrize("path", ["absent.safetensors", "absent.pth", "folder/dpenet.default"])
def test_an_absent_path_is_missing(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsMissing, match="there is no weight file"):
        load(path)


def test_an_entry_that_does_not_fit_its_file_is_refused(bundle, row_of, random_weights):
    row = row_of(random_weights, config={"mid_channels": 48})
    random_weights.rename(bundle(row) / random_weights.name)
    with pytest.raises(WeightsMismatch, match="is 32x3x1x1, wanted 48x3x1x1"):
        load("dpenet.default")


@pytest.mark.parametrize(
    ("arch", "config", "reason"),
    [
        ("nonet", {}, "'nonet'"),
        ("dpenet", {"width": 8}, "width"),
        ("dpenet", {"mid_channels": 16}, "at least 32"),
        ("dpenet", {"mid_channels": 10**6}, "mid_channels is 1000000, wanted int"),
    ],
)
def test_a_file_that_describes_another_network_is_refused(
    arch, config, reason, random_weights, tmp_path
):
    about = json.dumps({"arch": arch, "config": config, "record": {}})
    save_file(read(random_weights).state, tmp_path / "x.pt", metadata={"restore": about})
    with pytest.raises(WeightsMismatch, match=reason):
        load(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("arch", "config"),
    [
        ("fitv2", {"depth": 10**8}),
        ("fitv2", {"depth": 60_000}),
        ("fitv2", {"hidden_size": 60_000, "num_heads": 1}),
        ("fitv2", {"num_heads": 0}),
        ("fitv2", {"mlp_ratio": float("nan")}),
        ("fitv2", {"ori_max_pe_len": 10**5}),
        ("cbsn", {"num_module": 60_000}),
        ("mirnet", {"height": 60_000}),
        ("mirnet", {"width": 60_000}),
        ("mirnet", {"scale": 60_000}),
        ("ugdc", {"nominal_size": [10**5, 10**5]}),
        ("ugdc", {"nominal_size": [[80]] * 2}),
        ("ugdc", {"nominal_size": 80}),
        ("espcn", {"scale": "2"}),
        ("espcn", {"scale": True}),
        ("espcn", {"scale": 1 << 200}),
        ("dpenet", {"out_activation": ["relu"]}),
    ],
    ids=str,
)
def test_no_configuration_is_endless(arch, config, random_weights, tmp_path):
    about = json.dumps({"arch": arch, "config": config, "record": {}})
    save_file(read(random_weights).state, tmp_path / "x.pt", metadata={"restore": about})
    with pytest.raises(WeightsMismatch):
        load(tmp_path / "x.pt")


@pytest.mark.parametrize("arch", registry.NETWORKS)
def test_the_limits_of_a_network_are_of_numbers_in_its_configuration(arch):
    spec = registry.find(arch)
    config = getattr(import_module(spec.model.split(":")[0]), spec.config)()
    assert all((getattr(config, name) or 0) <= limit for name, limit in spec.limits.items())


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_weights_that_are_not_finite_are_refused(value, dtype, official_state, tmp_path):
    state = {key: tensor.to(dtype) for key, tensor in official_state.items()}
    state["inconv1.0.weight"].view(-1)[5] = value
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(WeightsCorrupt, match="holds NaN or infinity"):
        load(tmp_path / "x.pth")


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64], ids=str)
def test_weights_of_other_kinds_of_numbers_are_refused(dtype, official_state, tmp_path):
    torch.save({key: value.to(dtype) for key, value in official_state.items()}, tmp_path / "x.pth")
    with pytest.raises(WeightsMismatch, match="wanted float32"):
        load(tmp_path / "x.pth")


def test_an_official_file_that_does_not_fit_is_named(official_state, tmp_path):
    torch.save({**official_state, "extra.weight": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(
        WeightsMismatch, match=r"^x\.pth: does not fit .*: extra\.weight is unknown"
    ):
        load(tmp_path / "x.pth")


def test_a_file_of_another_network_is_refused(tmp_path):
    save_file({"conv.weight": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsMismatch, match="no known network"):
        load(tmp_path / "x.safetensors")


def test_what_is_no_weight_file_is_refused(tmp_path):
    (tmp_path / "x.pth").write_text("hello")
    with pytest.raises(WeightsCorrupt, match="not a weight file"):
        load(tmp_path / "x.pth")


def test_the_package_has_load_as_a_function():
    assert checkpoints.load is load


def test_looking_at_the_table_of_weights_needs_no_torch():
    code = "import sys; from restore_cli.checkpoints import manifest; manifest.entries(); "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_network_without_initial_values_draws_no_random_numbers_again():
    # Uninitialised memory beyond the bounds would make trunc_normal_ draw for ever.
    network = empty_network("cbsn", {"channels": 8, "num_module": 1}, {})
    assert not network.embed.weight.any()
