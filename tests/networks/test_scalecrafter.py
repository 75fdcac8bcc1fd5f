"""ScaleCrafter beyond the golden cases: the UNet comes back exactly, and nothing is guessed."""

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DModel
from torch import nn
from torch.testing import assert_close

from restore_cli.networks.scalecrafter.model import (
    Dispersion,
    Settings,
    decode_with_shared_statistics,
    dilatable,
    disperse,
    dispersion_matrix,
    factor_at,
    redilated,
    scalecrafter,
    shared_group_norm,
)
from tests.unets import text_unet

MIDDLE = [f"mid_block.resnets.{r}.conv{c}" for r in (0, 1) for c in (1, 2)]
WIDE = Settings(dict.fromkeys(MIDDLE, 2.0), dilate_until=1.0)
DAMPED = Settings(WIDE.factors, 1.0, mild={MIDDLE[0]: 3.0}, mild_until=0.5)
DISPERSED = Settings(WIDE.factors, 1.0, dispersed=frozenset(MIDDLE), disperse_until=0.5)


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return text_unet().eval()


@pytest.fixture
def inputs():
    return {
        "sample": torch.randn(2, 4, 16, 16),
        "timestep": torch.tensor(500),
        "encoder_hidden_states": torch.randn(2, 3, 8),
    }


@torch.inference_mode()
def output_of(unet, inputs):
    return unet(**inputs).sample


# The convolution


@pytest.mark.parametrize("factor", [1.0, 2.0, 3.0], ids=str)
def test_an_integer_factor_is_a_dilation(factor):
    x, conv = torch.randn(1, 3, 12, 14), nn.Conv2d(3, 5, 3)
    dilation = int(factor)
    wanted = nn.functional.conv2d(x, conv.weight, conv.bias, padding=dilation, dilation=dilation)
    assert_close(redilated(x, conv.weight, conv.bias, factor=factor), wanted, atol=0, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 13), (8, 8)])
@pytest.mark.parametrize("factor", [1.5, 2.5])
def test_a_fractional_factor_keeps_the_size(factor, height, width):
    x, weight = torch.randn(1, 3, height, width), torch.randn(5, 3, 3, 3)
    assert redilated(x, weight, None, factor=factor).shape == (1, 5, height, width)


@pytest.mark.parametrize(
    ("step", "progressive", "factor"),
    [(0, False, 4.0), (6, False, 4.0), (7, False, None), (0, True, 4), (2, True, 3), (6, True, 2)],
)
def test_a_factor_falls_to_two_if_progressive_and_then_ends(step, progressive, factor):
    assert factor_at(4.0, step, 7, progressive=progressive) == factor


# The dispersed kernel


def test_the_matrix_of_the_paper_has_its_published_values():
    matrix = dispersion_matrix(Dispersion())
    first = [0.64879, -0.00286, -0.02628, -0.00286, 0, -0.0003, -0.02628, -0.0003, 0.00141]
    assert_close(matrix[0], torch.tensor(first, dtype=torch.float64), atol=1e-5, rtol=0)
    centre = torch.zeros(25, dtype=torch.float64)
    centre[12] = 1
    assert_close(matrix[:, 4], centre, atol=1e-9, rtol=0)


def test_a_dispersed_kernel_acts_on_an_enlarged_input_as_the_kernel_on_the_input():
    x, kernel = torch.randn(1, 1, 3, 3), torch.randn(1, 1, 3, 3)

    def enlarge(image):
        return nn.functional.interpolate(image, (5, 5), mode="bilinear", align_corners=True)

    wanted = enlarge(nn.functional.conv2d(x, kernel, padding=1))
    dispersed = disperse(kernel, dispersion_matrix(Dispersion()))
    error = nn.functional.conv2d(enlarge(x), dispersed, padding=2) - wanted
    plain = nn.functional.conv2d(enlarge(x), kernel, padding=1) - wanted
    assert error.square().mean() < 0.1 * plain.square().mean()


def test_a_dispersed_kernel_keeps_its_precision():
    assert disperse(torch.randn(2, 3, 3, 3).half(), dispersion_matrix(Dispersion())).dtype == (
        torch.float16
    )


# The context


@pytest.mark.parametrize("settings", [WIDE, DAMPED, DISPERSED], ids=["wide", "damped", "dispersed"])
def test_the_unet_changes_inside_the_context_and_is_itself_after_it(settings, unet, inputs):
    weights = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    attributes = {name: set(vars(module)) for name, module in unet.named_modules()}
    before = output_of(unet, inputs)
    with scalecrafter(unet, settings, steps=4):
        assert (output_of(unet, inputs) - before).abs().max() > 1e-3
    assert torch.equal(output_of(unet, inputs), before)
    assert all(torch.equal(unet.state_dict()[name], tensor) for name, tensor in weights.items())
    assert {name: set(vars(module)) for name, module in unet.named_modules()} == attributes
    assert not unet._forward_hooks


def test_the_unet_is_itself_after_an_error_too(unet, inputs):
    before = output_of(unet, inputs)
    with pytest.raises(ZeroDivisionError), scalecrafter(unet, WIDE, steps=4):
        1 / 0  # noqa: B018
    assert torch.equal(output_of(unet, inputs), before)


def test_after_its_last_step_the_unet_is_plain(unet, inputs):
    before = output_of(unet, inputs)
    settings = Settings(WIDE.factors, dilate_until=0.6, dispersed=frozenset(MIDDLE))
    with scalecrafter(unet, settings, steps=5) as rescaling:
        rescaling.step = 3
        assert torch.equal(output_of(unet, inputs), before)


def test_the_damped_base_is_that_of_the_mild_pass(unet, inputs):
    mild = Settings(DAMPED.mild, dilate_until=0.5)
    with scalecrafter(unet, mild, steps=4):
        base, _ = output_of(unet, inputs).chunk(2)
    with scalecrafter(unet, WIDE, steps=4):
        away, toward = output_of(unet, inputs).chunk(2)
    with scalecrafter(unet, DAMPED, steps=4):
        damped = output_of(unet, inputs)
    assert_close(damped, torch.cat([base, base + toward - away]), atol=1e-5, rtol=1e-5)


def test_the_mild_pass_takes_the_first_blocks_from_the_strong_one(unet, inputs):
    evaluated = []
    hooks = [
        block.resnets[0].register_forward_hook(
            lambda _, inputs, __: evaluated.append(len(inputs[0]))
        )
        for block in (unet.down_blocks[0], unet.up_blocks[-1])
    ]
    with scalecrafter(unet, DAMPED, steps=4) as rescaling:
        for rescaling.step in (0, 3):  # damped, and not
            output_of(unet, inputs)
    for hook in hooks:
        hook.remove()
    assert evaluated == [2, 2, 1, 2, 2]  # images of the first and the last block


def test_blocks_with_hooks_of_their_own_are_as_before(unet, inputs):
    block = unet.down_blocks[0]
    own = block.forward
    vars(block)["forward"] = own  # as a hook that offloads it
    with scalecrafter(unet, DAMPED, steps=4):
        output_of(unet, inputs)
    assert vars(block).pop("forward") is own


@pytest.mark.parametrize("as_tuple", [True, False], ids=["tuple", "record"])
def test_the_damped_output_has_the_requested_form(as_tuple, unet, inputs):
    with torch.inference_mode(), scalecrafter(unet, DAMPED, steps=4):
        output = unet(**inputs, return_dict=not as_tuple)
        assert isinstance(output, tuple) == as_tuple
        assert torch.equal(output[0], output_of(unet, inputs))


def test_without_guidance_nothing_is_damped(unet, inputs):
    with scalecrafter(unet, WIDE, steps=4):
        wide = output_of(unet, inputs)
    with scalecrafter(unet, DAMPED, steps=4, guided=False):
        assert torch.equal(output_of(unet, inputs), wide)


def test_a_layer_dispersed_but_not_dilated_in_the_mild_pass_keeps_its_kernel(unet, inputs):
    settings = Settings(
        WIDE.factors,
        1.0,
        mild={MIDDLE[0]: 3.0},
        mild_until=1.0,
        dispersed=frozenset(MIDDLE),
        disperse_until=1.0,
    )
    with scalecrafter(unet, settings, steps=4):
        assert output_of(unet, inputs).isfinite().all()


def test_dispersed_kernels_are_computed_once_and_kept_while_they_are_used(
    unet, inputs, monkeypatch
):
    computed = []

    def counted(weight, matrix):
        computed.append(weight.shape)
        return disperse(weight, matrix)

    monkeypatch.setattr("restore_cli.networks.scalecrafter.model.disperse", counted)
    with scalecrafter(unet, DISPERSED, steps=4) as rescaling:
        kept = []
        for rescaling.step in range(4):
            output_of(unet, inputs)
            kept.append(len(rescaling._kernels))
    assert len(computed) == len(MIDDLE)
    assert kept == [4, 4, 0, 0]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("down_blocks.7.resnets.0.conv1", "has no layer 'down_blocks.7"),
        ("mid_block.resnets.0.conv3", "has no layer"),
        ("mid_block.attentions.0.proj_in", "is not a 3x3 convolution"),
    ],
)
def test_a_layer_that_cannot_be_dilated_is_refused(layer, message, unet):
    settings = Settings({layer: 2.0}, 1.0)
    with pytest.raises(ValueError, match=message), scalecrafter(unet, settings, steps=4):
        pass


def test_a_unet_is_rescaled_once_at_a_time(unet):
    with (
        scalecrafter(unet, WIDE, steps=4),
        pytest.raises(ValueError, match="rescaled already"),
        scalecrafter(unet, WIDE, steps=4),
    ):
        pass


def test_a_wrapped_forward_is_left_as_it_is(unet, inputs):
    """Offloading wraps the forward of each module; it may do so before or inside the context."""
    conv = unet.get_submodule(MIDDLE[0])
    calls = []

    def wrapped(x):
        calls.append(x)
        return type(conv).forward(conv, x)

    with scalecrafter(unet, WIDE, steps=4):
        wanted = output_of(unet, inputs)
        conv.forward = wrapped
        assert torch.equal(output_of(unet, inputs), wanted)
    assert vars(conv).pop("forward") is wrapped
    assert len(calls) == 1


class Fused(nn.Module):
    """As PEFT wraps a layer that has a LoRA."""

    def __init__(self, base_layer, merged):
        super().__init__()
        self.base_layer, self.merged = base_layer, merged

    def forward(self, x):
        return self.base_layer(x)


@pytest.fixture
def lora(unet):
    def wrap(merged):
        unet.mid_block.resnets[0].conv1 = Fused(original, merged)

    original = unet.mid_block.resnets[0].conv1
    yield wrap
    unet.mid_block.resnets[0].conv1 = original


def test_a_fused_lora_is_dilated_with_its_layer(lora, unet, inputs):
    with scalecrafter(unet, WIDE, steps=4):
        wanted = output_of(unet, inputs)
    lora(merged=True)
    with scalecrafter(unet, WIDE, steps=4):
        assert torch.equal(output_of(unet, inputs), wanted)


def test_a_lora_that_is_not_fused_is_refused(lora, unet):
    lora(merged=False)
    with pytest.raises(ValueError, match="fuse it first"), scalecrafter(unet, WIDE, steps=4):
        pass


def test_the_layers_of_a_class_conditional_unet_have_the_names_of_stable_diffusion():
    small = UNet2DModel(
        sample_size=8,
        block_out_channels=(4, 4, 4, 4),
        layers_per_block=2,
        down_block_types=("DownBlock2D",) * 4,
        up_block_types=("UpBlock2D",) * 4,
        norm_num_groups=2,
        attention_head_dim=2,
        num_class_embeds=3,
    )
    assert len(dilatable(small)) == 50
    assert "up_blocks.2.upsamplers.0.conv" in dilatable(small)


# Tiles in step


def test_one_tile_is_normalised_as_group_norm_does_it():
    norm, x = nn.GroupNorm(2, 6), torch.randn(2, 6, 32, 32)
    nn.init.normal_(norm.weight)
    # The variance has n / (n - 1) too much, n = 3072.
    assert_close(shared_group_norm(norm, [x])[0], norm(x), atol=1e-3, rtol=1e-3)


def test_tiles_are_normalised_as_the_whole_that_they_cut():
    norm, x = nn.GroupNorm(2, 6), torch.randn(1, 6, 32, 64) + torch.arange(64) / 10
    halves = shared_group_norm(norm, [x[..., :32], x[..., 32:]])
    assert_close(torch.cat(halves, 3), norm(x), atol=1e-3, rtol=1e-3)


@pytest.fixture(scope="module")
def vae():
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 4),
        norm_num_groups=2,
    ).eval()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (8, 8), (20, 9)])
def test_an_image_in_tiles_has_the_size_of_the_latents(height, width, vae):
    with torch.inference_mode():
        image = decode_with_shared_statistics(vae, torch.randn(1, 4, height, width), tile=8)
    assert image.shape == (1, 3, 2 * height, 2 * width)
    assert image.isfinite().all()


def test_an_image_of_one_tile_is_decoded_as_it_is_at_once(vae):
    latents = torch.randn(1, 4, 6, 5)
    with torch.inference_mode():
        whole = vae.decode(latents).sample
        # The variance of each group has n / (n - 1) too much, n = 60 at least.
        assert_close(
            decode_with_shared_statistics(vae, latents, tile=8), whole, atol=2e-2, rtol=2e-2
        )
