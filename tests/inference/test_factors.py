import os

import pytest

from restore_cli import registry
from restore_cli.checkpoints.library import import_weights
from restore_cli.checkpoints.save import save
from restore_cli.errors import WeightsMismatch
from restore_cli.inference import factors
from restore_cli.inference.factors import (
    factors_of,
    scale_of,
    usual_network,
    weights_by_scale,
)


@pytest.fixture
def scales(monkeypatch):
    """scales(espcn=[2, 3], mirnet=[4]): the factors that there are weights for."""

    def there_are(**known):
        tables = {arch: {s: f"{arch}.x{s}" for s in known.get(arch, ())} for arch in known}
        monkeypatch.setattr(factors, "weights_by_scale", lambda spec: tables[spec.arch])

    there_are(espcn=[2, 3, 4], mirnet=[2, 4])
    return there_are


@pytest.mark.parametrize(
    ("target", "known", "repeat", "wanted"),
    [
        (2, [2, 3, 4], False, (2,)),
        (2.5, [2, 3, 4], False, (3,)),
        (1.1, [2, 3, 4], False, (2,)),
        (4, [2, 3, 4], False, (4,)),
        (4, [2, 3], False, ()),
        (5, [2, 3, 4], False, ()),
        (4, [2, 3, 4], True, (2, 2)),
        (6, [2, 3, 4], True, (2, 3)),
        (7, [2, 3, 4], True, (2, 2, 2)),
        (9, [3], True, (3, 3)),
        (16, [2, 3, 4], True, (2, 2, 2, 2)),
        (17, [2, 3, 4], True, ()),
        (4, [2, 3, 4], "beyond", (4,)),
        (3.1, [2, 4], "beyond", (4,)),
        (8, [2, 3, 4], "beyond", (2, 4)),
        (9.5, [2, 3, 4], "beyond", (3, 4)),
        (17, [2, 3, 4], "beyond", ()),
    ],
)
def test_the_least_factor_that_reaches_is_taken(target, known, repeat, wanted):
    assert factors_of(target, known, repeat=repeat) == wanted


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
@pytest.mark.parametrize("factor", [2, 2.5, 3, 4, None], ids=str)
def test_a_gpu_enlarges_by_the_better_network(scales, device, factor):
    assert usual_network(device, factor) == "mirnet"


@pytest.mark.parametrize("factor", [2, 4, None], ids=str)
def test_a_cpu_enlarges_by_the_faster_network(scales, factor):
    assert usual_network("cpu", factor) == "espcn"


@pytest.mark.parametrize(
    ("factor", "repeat", "wanted"),
    [(2, False, "mirnet"), (3, False, "espcn"), (4, True, "mirnet"), (None, False, "espcn")],
)
def test_the_better_network_is_taken_where_its_weights_reach(scales, factor, repeat, wanted):
    scales(espcn=[2, 3, 4], mirnet=[2])
    assert usual_network("cuda", factor, repeat=repeat) == wanted


@pytest.mark.parametrize(("found", "wanted"), [("cuda", "mirnet"), ("cpu", "espcn")])
def test_auto_is_the_device_that_would_be_taken(scales, monkeypatch, found, wanted):
    import torch

    from restore_cli.inference import device

    monkeypatch.setattr(factors, "GPU_FILES", (os.devnull,))
    monkeypatch.setattr(device, "pick_device", lambda name: torch.device(found))
    assert usual_network("auto", 2) == wanted


@pytest.mark.parametrize("usual", ["espcn.x5", "espcn.sr_x5"])
def test_of_several_weights_of_one_factor_the_usual_name_is_taken(tmp_path, usual):
    path = tmp_path / "x5.safetensors"
    save(registry.build("espcn", scale=5), path, arch="espcn", config={"scale": 5}, record={})
    for name in ("espcn.another", usual, "espcn.yet-another"):
        import_weights(path, name)
    assert weights_by_scale(registry.MODELS["espcn"])[5] == usual


def test_the_factor_of_a_file_is_read_from_its_header(tmp_path):
    path = tmp_path / "x5.safetensors"
    save(registry.build("espcn", scale=5), path, arch="espcn", config={"scale": 5}, record={})
    path.write_bytes(path.read_bytes()[:-1000])  # some of the tensors are gone
    assert scale_of(str(path)) == 5


@pytest.mark.parametrize(
    ("arch", "config"),
    [("espcn", {"scale": "3"}), ("nope", {})],
    ids=["value", "network"],
)
def test_a_header_of_no_known_network_is_refused(tmp_path, arch, config):
    path = tmp_path / "x.safetensors"
    save(registry.build("espcn"), path, arch=arch, config=config, record={})
    with pytest.raises(WeightsMismatch, match=arch):
        scale_of(str(path))


@pytest.mark.parametrize(
    ("platform", "file", "possible"),
    [("linux", os.devnull, True), ("linux", "/no/such", False), ("darwin", "/no/such", True)],
)
def test_a_gpu_is_ruled_out_without_torch(monkeypatch, platform, file, possible):
    monkeypatch.setattr(factors, "GPU_FILES", (file,))
    monkeypatch.setattr(factors.sys, "platform", platform)
    assert factors.may_have_gpu() is possible
