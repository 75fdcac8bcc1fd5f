"""ScaleCrafter's layer lists, against the numbers of layers that the official files have."""

import pytest
import torch
from diffusers import UNet2DConditionModel, UNet2DModel

from restore_cli.errors import UsageError
from restore_cli.inference.samplers.presets import PRESETS, family_of, settings_for


def meta(kind, **config):
    """A UNet with the block structure of a published one, but thin and without values."""
    with torch.device("meta"):
        return kind(norm_num_groups=4, **config)


def stable_diffusion(context):
    return meta(
        UNet2DConditionModel,
        sample_size=64,
        block_out_channels=(8, 8, 8, 8),
        cross_attention_dim=context,
        attention_head_dim=2,
    )


@pytest.fixture(scope="module")
def unets():
    return {
        "sd1": stable_diffusion(768),
        "sd2": stable_diffusion(1024),
        "sdxl": meta(
            UNet2DConditionModel,
            sample_size=128,
            block_out_channels=(8, 8, 8),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=2048,
            attention_head_dim=2,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=32,
        ),
        "other": meta(
            UNet2DModel,
            sample_size=64,
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownBlock2D",) * 4,
            up_block_types=("UpBlock2D",) * 4,
            attention_head_dim=2,
        ),
    }


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl", "other"])
def test_a_family_is_known_by_its_structure(family, unets):
    assert family_of(unets[family].config) == family


@pytest.mark.parametrize(
    ("family", "size", "layers", "mild"),
    [
        ("sd1", (128, 128), 39, 0),
        ("sd1", (160, 160), 39, 0),
        ("sd1", (128, 256), 39, 27),
        ("sd1", (256, 256), 39, 27),
        ("sd2", (128, 128), 39, 0),
        ("sd2", (128, 256), 39, 0),
        ("sd2", (256, 256), 40, 34),
        ("sdxl", (256, 256), 11, 0),
        ("sdxl", (320, 320), 11, 0),
        ("sdxl", (256, 512), 28, 11),
        ("sdxl", (512, 512), 28, 11),
    ],
    ids=lambda value: f"{value[1]}x{value[0]}" if isinstance(value, tuple) else str(value),
)
def test_a_published_size_has_its_published_number_of_layers(family, size, layers, mild, unets):
    settings = settings_for(unets[family], size)
    assert (len(settings.factors), len(settings.mild)) == (layers, mild)


@pytest.mark.parametrize(("family", "layers"), [("sd1", 23), ("sd2", 23), ("sdxl", 15)])
def test_the_layers_to_disperse_are_those_of_the_official_files(family, layers, unets):
    trained = unets[family].config.sample_size
    settings = settings_for(unets[family], (4 * trained, 4 * trained), disperse=True)
    assert len(settings.dispersed) == layers
    assert settings.disperse_until == 0.5


@pytest.mark.parametrize(
    ("size", "factor"), [((96, 64), 1.5), ((128, 128), 2), ((64, 160), 2.5), ((192, 192), 3)]
)
def test_between_the_published_sizes_the_larger_ratio_of_sides_is_the_factor(size, factor, unets):
    settings = settings_for(unets["sd1"], size)
    assert set(settings.factors.values()) == {factor}
    assert not settings.progressive


@pytest.mark.parametrize("size", [(64, 64), (32, 64)])
def test_within_the_trained_size_there_are_no_settings(size, unets):
    assert settings_for(unets["sd1"], size) is None


def test_beyond_four_times_the_trained_side_a_size_is_refused(unets):
    with pytest.raises(UsageError, match="times the side that the UNet"):
        settings_for(unets["sd1"], (64, 264))


def test_kernels_are_dispersed_only_where_a_list_is_known(unets):
    with pytest.raises(UsageError, match="no list of layers to disperse"):
        settings_for(unets["sd1"], (128, 128), disperse=True)


@pytest.mark.parametrize("size", [(128, 128), (160, 160), (256, 256)])
def test_the_rule_for_other_unets_gives_the_lists_of_stable_diffusion(size, unets):
    other, sd1 = settings_for(unets["other"], size), settings_for(unets["sd1"], size)
    assert other == sd1


def test_a_unet_of_two_levels_has_its_inner_one_dilated():
    unet = meta(
        UNet2DModel,
        sample_size=8,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        attention_head_dim=2,
    )
    settings = settings_for(unet, (16, 16))
    assert {layer.split(".resnets")[0] for layer in settings.factors} == {
        "down_blocks.1",
        "mid_block",
        "up_blocks.0",
        "up_blocks.0.upsamplers.0.conv",
    }


def test_all_presets_have_a_row_for_each_ratio():
    assert {tuple(rows) for rows in PRESETS.values()} == {("4x", "6x", "8x", "16x")}
