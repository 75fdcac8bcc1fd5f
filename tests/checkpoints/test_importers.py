"""Official checkpoints under our names."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from restore_cli import registry
from restore_cli.checkpoints import load, load_checkpoint
from restore_cli.checkpoints.importers import LAYOUTS, from_official, recognise
from restore_cli.checkpoints.library import import_weights
from restore_cli.checkpoints.read import read
from restore_cli.checkpoints.save import save
from restore_cli.errors import UsageError, WeightsMismatch
from restore_cli.networks.dimr.model import DiMRConfig, branches
from restore_cli.networks.mirnet.model import MIRNetConfig

GOLDEN = Path(__file__).parent.parent / "golden"
PUBLISHED = Path(__file__).parents[3] / "shared" / "weights-official"


def test_an_official_state_loads_strictly(official_state):
    ours = from_official("dpenet", official_state)
    registry.build("dpenet").load_state_dict(ours, strict=True)


@pytest.mark.parametrize(
    ("official", "ours"),
    [
        ("inconv1.0.weight", "embed_rainy.weight"),
        ("outconv1.0.weight", "streaks.weight"),
        ("inconv2.0.weight", "embed_streakless.weight"),
        ("outconv2.0.weight", "detail.weight"),
        ("ddrb1.dconv1.0.weight", "r2net.0.pairs.0.0.weight"),
        ("ddrb1.dconv1.2.weight", "r2net.0.pairs.0.2.weight"),
        ("ddrb10.dconv2.0.weight", "r2net.9.pairs.1.0.weight"),
        ("ddrb10.dconv5.2.weight", "r2net.9.pairs.2.2.weight"),
        ("erpab1.inconv1.weight", "drnet.0.scales.0.weight"),
        ("erpab3.inconv3.weight", "drnet.2.scales.2.weight"),
        ("erpab2.outconv.0.weight", "drnet.1.fuse.weight"),
        ("erpab2.outconv.0.bias", "drnet.1.fuse.bias"),
        ("erpab3.pa.0.weight", "drnet.2.attention.0.weight"),
        ("erpab3.pa.2.weight", "drnet.2.attention.2.weight"),
    ],
)
def test_each_official_tensor_goes_to_its_place(official, ours, official_state):
    assert from_official("dpenet", official_state)[ours] is official_state[official]


def test_a_missing_tensor_is_named(official_state):
    del official_state["ddrb7.dconv2.2.weight"]
    with pytest.raises(WeightsMismatch, match=r"ddrb7\.dconv2\.2\.weight is missing$"):
        from_official("dpenet", official_state)


def test_an_unknown_tensor_is_named(official_state):
    official_state["ddrb11.dconv1.0.weight"] = torch.zeros(1)
    with pytest.raises(WeightsMismatch, match=r"ddrb11\.dconv1\.0\.weight is unknown$"):
        from_official("dpenet", official_state)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(official_state):
    official_state["inconv1.0.weight"] = torch.zeros(32, 4, 1, 1)
    with pytest.raises(WeightsMismatch, match="weight is 32x4x1x1, wanted 32x3x1x1"):
        from_official("dpenet", official_state)


def test_of_many_differences_three_are_named_and_the_rest_counted():
    with pytest.raises(WeightsMismatch, match=r"; 82 more$"):
        from_official("dpenet", {})


def test_a_network_without_an_official_layout_is_refused(official_state):
    with pytest.raises(WeightsMismatch, match="'nonet'") as caught:
        from_official("nonet", official_state)
    assert caught.value.hint == f"known: {', '.join(sorted(LAYOUTS))}"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"width": 8}, "width"),
        ({"mid_channels": 16}, "at least 32"),
        ({"mid_channels": "32"}, "wanted int"),
    ],
    ids=["unknown field", "refused value", "wrong type"],
)
def test_a_config_that_the_network_refuses_is_said(config, reason, official_state):
    with pytest.raises(WeightsMismatch, match=reason):
        from_official("dpenet", official_state, **config)


@pytest.mark.parametrize("shape", [(), (3,), (0, 0, 0, 0)], ids=str)
@pytest.mark.parametrize("arch", LAYOUTS)
def test_the_names_of_a_network_with_other_shapes_are_refused(arch, shape):
    state = dict.fromkeys(LAYOUTS[arch].signature, torch.zeros(shape))
    with pytest.raises(WeightsMismatch):
        found, config = recognise(state)
        from_official(found, state, **config)


def test_an_official_state_is_recognised(official_state):
    assert recognise(official_state) == ("dpenet", {"in_channels": 3, "mid_channels": 32})


def test_the_width_of_an_official_state_is_recognised(official_state):
    official_state["inconv1.0.weight"] = torch.zeros(48, 1, 1, 1)
    assert recognise(official_state) == ("dpenet", {"in_channels": 1, "mid_channels": 48})


ESPCN_LAYOUTS = {
    "yjn870": ("first_part.0", "first_part.2", "last_part.0"),
    "Lornatang": ("feature_maps.0", "feature_maps.2", "sub_pixel.0"),
    "Nhat-Thanh": ("conv_1", "conv_2", "conv_3"),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("names", ESPCN_LAYOUTS.values(), ids=ESPCN_LAYOUTS)
def test_each_public_spelling_of_espcn_is_recognised_and_loads(names, channels):
    config = {"scale": 4, "features": 8, "mapping": 6, "in_channels": channels}
    ours = registry.build("espcn", **config)
    modules = dict(zip(("extract", "map", "subpixel"), names, strict=True))
    state = {
        f"{modules[key.split('.')[0]]}.{key.split('.')[1]}": value
        for key, value in ours.state_dict().items()
    }
    assert recognise(state) == ("espcn", config)
    assert_close(from_official("espcn", state, **config), dict(ours.state_dict()))


@pytest.mark.parametrize("state", [{}, {"conv.weight": torch.zeros(1)}], ids=["empty", "another"])
def test_a_state_of_no_known_network_is_refused(state):
    with pytest.raises(WeightsMismatch, match="no known network"):
        recognise(state)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published files are not here")
@pytest.mark.parametrize("name", ["rain100l", "rain100h", "rain800", "rain1400", "heavyrain"])
def test_the_published_files_load(name):
    path = PUBLISHED / f"dpenet-{name}.safetensors"
    network = load(path)
    official = read(path).state
    assert torch.equal(network.r2net[4].pairs[2][0].weight, official["ddrb5.dconv5.0.weight"])


# MIRNet: one file holds many copies of the shared units, and its blur kernels


@pytest.fixture
def mirnet_state(mirnet_case):
    """All that the published code would save of a small MIRNet, untrained."""
    state = {key: 0.05 * torch.randn(shape) for key, shape in mirnet_case["shapes"].items()}
    state |= {copy: state[key] for copy, key in mirnet_case["aliases"].items()}
    taps = torch.tensor([1.0, 2.0, 1.0])
    kernel = torch.outer(taps, taps) / 16
    return state | {key: kernel.expand(shape) for key, shape in mirnet_case["constants"].items()}


@pytest.fixture
def mirnet_case():
    """Three columns, two blocks in a group: no two counts are the same but heights."""
    return json.loads((GOLDEN / "mirnet-small-h2w3" / "case.json").read_text())


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "as the training script saves it"])
def test_a_whole_official_mirnet_file_loads(wrapped, mirnet_state, mirnet_case, tmp_path):
    state = {f"module.{key}": tensor for key, tensor in mirnet_state.items()}
    saved = {"epoch": 3, "state_dict": state, "optimizer": {"state": {}}} if wrapped else state
    torch.save(saved, tmp_path / "model_denoising.pth")
    network = load(tmp_path / "model_denoising.pth")
    assert network.config == MIRNetConfig(**mirnet_case["config"])
    assert torch.equal(network.prelu.weight, mirnet_state["body.0.body.1.blocks.1.2.body.1.weight"])


def test_copies_and_constants_may_be_left_out(mirnet_state, mirnet_case):
    config = mirnet_case["config"]
    bare = {key: mirnet_state[key] for key in mirnet_case["shapes"]}
    whole, sparse = (from_official("mirnet", state, **config) for state in (mirnet_state, bare))
    assert whole.keys() == sparse.keys()
    assert all(whole[key] is sparse[key] for key in whole)


@pytest.mark.parametrize(
    ("official", "ours"),
    [
        ("conv_in.weight", "embed.weight"),
        ("conv_out.weight", "output.weight"),
        ("body.0.body.2.weight", "rrgs.0.conv.weight"),
        ("body.0.body.0.blocks.0.0.body.1.weight", "prelu.weight"),
        ("body.0.body.1.conv_out.weight", "rrgs.0.mrbs.1.conv.weight"),
        ("body.0.body.1.blocks.1.0.body.2.weight", "rrgs.0.mrbs.1.daus.1.refine.weight"),
        (
            "body.0.body.0.blocks.1.0.SA.spatial.conv.weight",
            "rrgs.0.mrbs.0.daus.1.spatial.weigh.weight",
        ),
        (
            "body.0.body.0.blocks.0.0.CA.conv_du.2.weight",
            "rrgs.0.mrbs.0.daus.0.channel.excite.weight",
        ),
        ("body.0.body.1.selective_kernel.1.fcs.0.weight", "rrgs.0.mrbs.1.fuse.1.score.0.weight"),
        (
            "body.0.body.1.down.16_2.body.0.top.5.weight",
            "rrgs.0.mrbs.1.resize.0to1.0.body.5.weight",
        ),
        ("body.0.body.1.up.32_2.body.0.top.2.weight", "rrgs.0.mrbs.1.resize.1to0.0.body.2.weight"),
        (
            "body.0.body.1.last_up.1.body.0.bot.1.weight",
            "rrgs.0.mrbs.1.enlarge.1.0.shortcut.1.weight",
        ),
    ],
)
def test_each_official_mirnet_tensor_goes_to_its_place(official, ours, mirnet_state, mirnet_case):
    state = from_official("mirnet", mirnet_state, **mirnet_case["config"])
    assert state[ours] is mirnet_state[official]


@pytest.mark.parametrize(
    "name",
    [
        "body.0.body.0.blocks.1.1.conv1x1.weight",
        "body.0.body.1.blocks.0.0.body.1.weight",
        "body.0.body.1.down.16_2.body.0.bot.0.filt",
    ],
    ids=["unit", "slope", "kernel"],
)
def test_a_copy_or_constant_with_other_values_is_refused(name, mirnet_state, mirnet_case):
    mirnet_state[name] = mirnet_state[name] + 1
    with pytest.raises(WeightsMismatch, match=f"{re.escape(name)} differs from"):
        from_official("mirnet", mirnet_state, **mirnet_case["config"])


def test_a_column_that_the_config_lacks_is_unknown(mirnet_state, mirnet_case):
    config = mirnet_case["config"] | {"width": 2}
    with pytest.raises(WeightsMismatch, match=r"blocks\.0\.2\..* is unknown"):
        from_official("mirnet", mirnet_state, **config)


@pytest.mark.parametrize(
    "name", ["mirnet-small", "mirnet-small-h2w3", "mirnet-default"], ids=lambda name: name
)
def test_the_config_of_an_official_mirnet_is_recognised(name):
    case = json.loads((GOLDEN / name / "case.json").read_text())
    names = case["shapes"] | {copy: [1] for copy in case["aliases"]}
    state = {key: torch.empty(shape, device="meta") for key, shape in names.items()}
    arch, config = recognise(state)
    # All but the scale, of which the tensors tell nothing.
    assert (arch, MIRNetConfig(**config)) == ("mirnet", MIRNetConfig(**case["config"]))


# FiTv2 and FiT: published widths, one block, no values


def published_state(arch, **config):
    """The official names of a network, with tensors that have shapes only."""
    with torch.device("meta"):
        state = registry.build(arch, **config).state_dict()
    return {LAYOUTS[arch].official_name(key, config): tensor for key, tensor in state.items()}


@pytest.mark.parametrize(
    ("arch", "config"),
    [
        ("fitv2", {"depth": 1, "hidden_size": 768, "num_heads": 12, "adaln_lora_dim": 192}),
        ("fitv2", {"depth": 2, "hidden_size": 2304, "num_heads": 24, "adaln_lora_dim": 576}),
        ("fitv1", {"depth": 1, "hidden_size": 1152, "num_heads": 16}),
    ],
    ids=["v2-B", "v2-3B", "v1-XL"],
)
def test_a_published_fit_is_recognised_by_its_shapes(arch, config):
    state = published_state(arch, **config)
    assert recognise(state) == (arch, {"num_classes": 1000, **config})
    ours = from_official(arch, state, **config)
    assert ours["x_embedder.weight"] is state["x_embedder.proj.weight"]
    assert ours["y_embedder.weight"] is state["y_embedder.embedding_table.weight"]


def test_a_fit_of_an_unknown_width_is_refused():
    state = published_state("fitv2", depth=1, hidden_size=256, num_heads=4, adaln_lora_dim=64)
    with pytest.raises(WeightsMismatch, match="width 256: its tensors do not tell how many heads"):
        recognise(state)


# DiMR: published widths, few blocks, no values


def small_dimr(**first):
    """Fields of a config of published widths."""
    stages = branches((768, 384), (2, 3))
    stages = (replace(stages[0], **first), stages[1])
    return {"channels": 4, "num_classes": 1001, "stage_configs": [asdict(s) for s in stages]}


@pytest.mark.parametrize("norm_type", ["TDRMSN", "LN", "RMSN"])
def test_a_published_dimr_is_recognised_by_its_shapes(norm_type):
    config = small_dimr(num_blocks=3) | {"norm_type": norm_type}
    state = published_state("dimr", **config)
    arch, found = recognise(state)
    assert (arch, DiMRConfig(**found)) == ("dimr", DiMRConfig(**config))
    ours = from_official(arch, state, **found)
    assert ours["branches.0.patch.weight"] is state["stages.0.input_layer.1.weight"]


def test_the_published_dimr_is_recognised_with_all_its_tensors():
    recorded = json.loads((GOLDEN / "dimr-xl2r-shapes.json").read_text())
    with torch.device("meta"):
        state = {key: torch.empty(shape) for key, shape in recorded["shapes"].items()}
    arch, found = recognise(state)
    wanted = DiMRConfig(**recorded["config"]).stage_configs
    # 20 blocks are built as 21, and only they are seen.
    assert DiMRConfig(**found).stage_configs == (wanted[0], replace(wanted[1], num_blocks=21))
    assert len(from_official(arch, state, **found)) == len(state) == 1018


def test_a_published_file_of_dimr_loads_as_it_is_and_goes_back(tmp_path):
    network = registry.build("dimr", **small_dimr())
    names = {key: LAYOUTS["dimr"].official_name(key, {}) for key in network.state_dict()}
    state = {names[key]: tensor for key, tensor in network.state_dict().items()}
    torch.save(state, tmp_path / "nnet_ema.pth")
    loaded = load(tmp_path / "nnet_ema.pth")
    assert_close(loaded.state_dict(), network.state_dict(), atol=0, rtol=0)
    assert {names[key] for key in loaded.state_dict()} == {*state}


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        ("stages.0.class_embeds.weight", (11, 64), "width 64: its tensors do not tell how many"),
        ("stages.0.input_layer.3.position_embeddings.weight", (200, 768), "200 positions"),
    ],
    ids=["heads", "positions"],
)
def test_a_dimr_whose_shapes_do_not_tell_its_config_is_refused(key, shape, message):
    state = published_state("dimr", **small_dimr())
    with pytest.raises(WeightsMismatch, match=message):
        recognise(state | {key: torch.empty(shape, device="meta")})


def test_a_dimr_with_other_tensors_is_refused():
    state = published_state("dimr", **small_dimr())
    config = recognise(state)[1]
    state["stages.1.upsample.3.bias"] = state.pop("stages.1.upsample.2.bias.param1")
    with pytest.raises(WeightsMismatch, match=r"2\.bias\.param1 is missing; .*3\.bias is unknown"):
        from_official("dimr", state, **config)


def test_the_published_files_of_tml_load_as_they_are(tmp_path):
    case = json.loads((GOLDEN / "ugdc-small" / "case.json").read_text())
    state = {f"module.{key}": torch.randn(shape) for key, shape in case["shapes"].items()}
    torch.save({"state_dict": state, "epoch": 7}, tmp_path / "Pred.pth.tar")
    network = load(tmp_path / "Pred.pth.tar")
    assert tuple(network.config.nominal_size) == (80, 160)
    diff = state["module.down4.maxpool_conv.1.double_conv.0.diff"]
    assert torch.equal(network.down[3][0].position, diff)
    assert import_weights(tmp_path / "Pred.pth.tar").name == "ugdc.pred"


@pytest.fixture
def chain(tmp_path):
    """The golden chain as TML publishes it: (state of both, file of the first, of the second)."""
    case = json.loads((GOLDEN / "tml-chain" / "case.json").read_text())
    state = {key: torch.randn(shape) for key, shape in case["shapes"].items()}
    for prefix, name in (("pm.", "Pred"), ("em.", "Enhance")):
        part = {
            f"module.{key[3:]}": value for key, value in state.items() if key.startswith(prefix)
        }
        torch.save({"state_dict": part}, tmp_path / f"{name}.pth.tar")
    return state, tmp_path / "Pred.pth.tar", tmp_path / "Enhance.pth.tar"


def test_the_two_published_files_of_tml_become_one(chain):
    state, pred, enhance = chain
    entry = import_weights(pred, "tml.published", second=enhance)
    network = load("tml.published")
    assert entry.config == {"pm_stem": 16, "em_stem": 8, "nominal_size": [80, 80], "patch": 5}
    assert torch.equal(network.pm.output.weight, state["pm.outc.conv.weight"])
    assert torch.equal(network.em.output.weight, state["em.outc.conv.weight"])
    assert "Pred.pth.tar" in entry.origin and "Enhance.pth.tar" in entry.origin


def test_only_the_files_of_tml_are_joined(chain, tmp_path):
    _, pred, _ = chain
    other = tmp_path / "espcn.safetensors"
    save(registry.build("espcn"), other, arch="espcn", config={}, record={})
    with pytest.raises(UsageError, match="for ugdc and for espcn do not belong to one"):
        import_weights(pred, second=other)


def test_networks_of_tml_for_other_sizes_do_not_belong_together(chain, tmp_path):
    _, pred, _ = chain
    config = {"stem_channels": 8, "nominal_size": [80, 160]}
    other = tmp_path / "wide.safetensors"
    save(registry.build("ugdc", **config), other, arch="ugdc", config=config, record={})
    with pytest.raises(UsageError, match=r"\(80, 80\) and of \(80, 160\)"):
        import_weights(pred, second=other)


def test_both_networks_of_tml_are_recognised_in_one_file():
    case = json.loads((GOLDEN / "tml-chain" / "case.json").read_text())
    state = {key: torch.zeros(shape) for key, shape in case["shapes"].items()}
    config = {"pm_stem": 16, "em_stem": 8, "nominal_size": [80, 80], "patch": 5}
    assert recognise(state) == ("tml", config)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published files are not here")
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_public_espcn_files_load_with_their_scale(scale):
    spec = load_checkpoint(PUBLISHED / f"espcn_ycbcr_x{scale}.safetensors").spec
    assert (spec.arch, spec.facts.scale, spec.facts.channels) == ("espcn", scale, 3)
