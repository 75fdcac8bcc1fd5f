"""Outputs recorded from the official implementations, with weights made by fill.py.

Cases lie in tests/golden and, if it is set, in the folder that RESTORE_GOLDEN names. A new network
adds one function to CHECKS.
"""

import json
import os
import re
import runpy
from functools import partial
from itertools import product
from pathlib import Path
from typing import get_args

import diffusers
import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from restore_cli import metrics, registry
from restore_cli.checkpoints.importers import LAYOUTS, from_official, recognise
from restore_cli.data.downsample import batch_to_space, space_to_batch, subsample
from restore_cli.imaging.io import read
from restore_cli.inference.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from restore_cli.inference.samplers import ode as flow
from restore_cli.inference.samplers.dpm_solver import dpm_solver
from restore_cli.networks.dimr import model as dimr
from restore_cli.networks.dimr.official import official_name as dimr_name
from restore_cli.networks.fit.model import Rope, RopeMode, grid_of, rope_frequencies, unpatchify
from restore_cli.networks.scalecrafter.model import (
    Dispersion,
    Settings,
    decode_with_shared_statistics,
    dilatable,
    disperse,
    dispersion_matrix,
    redilated,
    scalecrafter,
)
from restore_cli.networks.tml.model import GDC, grid
from restore_cli.training.generation import multi_resolution_terms
from restore_cli.training.losses import BlindSpotWeights, blind_spot

HERE = Path(__file__).parent / "golden"
GIVEN = os.environ.get("RESTORE_GOLDEN")
FOLDERS = [HERE, Path(GIVEN)] if GIVEN else [HERE]
CASES = [path.parent for folder in FOLDERS for path in sorted(folder.glob("*/case.json"))]
# The images whose metrics were recorded lie beside a checkout of ours, never inside it.
BESIDE = Path(__file__).parents[2] / "shared" / "golden"
METRICS = [
    (path.parent, pair)
    for path in {folder.resolve() / "metrics" / "expected.json" for folder in [*FOLDERS, BESIDE]}
    if path.is_file()
    for pair in json.loads(path.read_text(encoding="utf-8"))["cases"]
]

fill = runpy.run_path(str(HERE / "fill.py"))["fill"]


def official_state(case):
    """The state dict under its official names.

    `gain` scales all but vectors; `add` is added to the keys that end so.
    """
    gain = np.float32(case.get("gain", 1.0))
    state = {
        key: torch.from_numpy(values * gain if values.ndim >= 2 else values)
        for key, values in fill(case["shapes"]).items()
    }
    for ending, value in case.get("add", {}).items():
        state |= {key: tensor + value for key, tensor in state.items() if key.endswith(ending)}
    return state | {copy: state[key] for copy, key in case.get("aliases", {}).items()}


def check_dpenet(case, recorded):
    network = registry.build("dpenet", **case["config"])
    network.load_state_dict(from_official("dpenet", official_state(case), **case["config"]))
    outputs = {}

    def record(name):
        return lambda module, inputs, output: outputs.update({name: output})

    network.r2net[0].register_forward_hook(record("after_ddrb1"))
    network.drnet[0].register_forward_hook(record("after_erpab1"))
    with torch.inference_mode():
        outputs["output_mid"], outputs["output"] = network(torch.from_numpy(recorded["input"]))
    wanted = {name: torch.from_numpy(values) for name, values in recorded.items()}
    del wanted["input"]
    # Values up to 2.3, float32 sums in another order: 8.3e-7 at most with one thread or two.
    assert_close({name: outputs[name] for name in wanted}, wanted, atol=1e-5, rtol=0)


def check_espcn(case, recorded):
    state = official_state(case)
    config = {**recognise(state)[1], **case["config"]}
    network = registry.build("espcn", **config)
    network.load_state_dict(from_official("espcn", state, **config))
    with torch.inference_mode():
        output = network(torch.from_numpy(recorded["input"]))
    # Values up to 2, float32 sums of 288 products in another order.
    assert_close(output, torch.from_numpy(recorded["output"]), atol=1e-5, rtol=0)


def check_mirnet(case, recorded):
    network = registry.build("mirnet", **case["config"])
    assert sum(parameter.numel() for parameter in network.parameters()) == case["params"]
    network.load_state_dict(from_official("mirnet", official_state(case), **case["config"]))
    with torch.inference_mode():
        output = network(torch.from_numpy(recorded["input"]))
    # Values up to 3.6, float32 sums in another order.
    assert_close(output, torch.from_numpy(recorded["output"]), atol=1e-5, rtol=0)


def cbsn(case):
    """The network of a case, and {official name: parameter} of it."""
    config = {field: case["config"][field] for field in CBSN_FIELDS}
    network = registry.build("cbsn", **config)
    network.load_state_dict(from_official("cbsn", official_state(case), **config))
    name = LAYOUTS["cbsn"].official_name
    return network, {name(key, config): parameter for key, parameter in network.named_parameters()}


def check_cbsn(case, recorded):
    network, _ = cbsn(case)
    noisy = torch.from_numpy(recorded["input"])
    with torch.inference_mode():
        outputs = {"output_blind": network(noisy, blind=True), "output_full": network(noisy)}
    wanted = {name: torch.from_numpy(recorded[name]) for name in outputs}
    assert_close(outputs, wanted, atol=1e-5, rtol=0)  # float32 sum order: 1e-6 was seen


def check_cbsn_downsample(case, recorded):
    noisy, choice = (torch.from_numpy(recorded[name]) for name in ("input", "input_choice"))
    within, between = case["config"]["stride_i"], case["config"]["stride_b"]
    phases = space_to_batch(noisy, between)
    assert torch.equal(
        subsample(noisy, choice, within), torch.from_numpy(recorded["output_subsample"])
    )
    assert torch.equal(phases, torch.from_numpy(recorded["output_s2b"]))
    assert torch.equal(batch_to_space(phases, between), noisy)
    # The official mosaic is the same images side by side, as phases down and across.
    mosaic = torch.from_numpy(recorded["output_pd"])
    tiles = mosaic.unflatten(3, (within, -1)).unflatten(2, (within, -1)).permute(2, 4, 0, 1, 3, 5)
    assert torch.equal(space_to_batch(noisy, within), tiles.flatten(0, 2))


def check_cbsn_loss(case, recorded):
    network, parameters = cbsn(case)
    config = case["config"]
    terms = blind_spot(
        network,
        torch.from_numpy(recorded["input"]),
        torch.from_numpy(recorded["input_choice"]),
        min(config["step"] / config["ramp_steps"], 1),
        BlindSpotWeights(config["stride_b"], config["stride_i"], config["lambda_inv"]),
    )
    terms.total.backward()
    found = {
        "loss_blind": terms.blind,
        "loss_self": terms.self_,
        "loss_inv": terms.inv,
        "loss_total": terms.total,
    } | {f"grad_{name}": parameter.grad for name, parameter in parameters.items()}
    wanted = {name: values for name, values in recorded.items() if not name.startswith("input")}
    for name, values in wanted.items():
        # Where a ReLU stands at its corner, a gradient of 3e-3 differs by 1e-5.
        atol = 3e-5 if name.startswith("grad") else 1e-6
        assert_close(found[name], torch.from_numpy(values), atol=atol, rtol=0, msg=name)


def check_ugdc(case, recorded):
    network = registry.build("ugdc", **case["config"]).eval()
    network.load_state_dict(from_official("ugdc", official_state(case), **case["config"]))
    with torch.inference_mode():
        output = network(torch.from_numpy(recorded["input"]))
    # Float32 sum order, one matrix instead of K kernels: 1.4e-5 was seen.
    assert_close(output, torch.from_numpy(recorded["output"]), atol=3e-5, rtol=0)


def check_ugdc_block(case, recorded):
    config = case["config"]
    block = GDC(
        config["channels"], grid(config["nominal_size"], 0, config["patch"]), config["patch"]
    )
    state = official_state(case)
    ours = {"diff": "position", "lnnorm": "norm", "convk": "look", "conv1": "mix"}
    named = {".".join(ours.get(part, part) for part in key.split(".")): key for key in state}
    block.load_state_dict({key: state[name] for key, name in named.items() if key[:3] != "ln."})
    with torch.inference_mode():
        output = block.eval()(torch.from_numpy(recorded["input"]))
    assert_close(output, torch.from_numpy(recorded["output"]), atol=3e-5, rtol=0)


def check_tml_chain(case, recorded):
    network = registry.build("tml", **case["config"]).eval()
    network.load_state_dict(from_official("tml", official_state(case), **case["config"]))
    low = (torch.from_numpy(recorded["input"]) - IMAGENET_MEAN) / IMAGENET_STD
    with torch.inference_mode():
        coarse, enhanced = network(low)
    found = {"output_coarse": coarse, "output_residual": coarse - enhanced}
    wanted = {name: torch.from_numpy(recorded[name]) for name in found}
    assert_close(found, wanted, atol=3e-5, rtol=0)
    image = enhanced * IMAGENET_STD + IMAGENET_MEAN
    assert_close(image, torch.from_numpy(recorded["output"]), atol=5e-6, rtol=0)


CBSN_FIELDS = ("channels", "num_module", "in_channels", "out_channels")
NOT_OF_THE_NETWORK = ("variants", "cfg_scale", "euler_steps")  # in the config of a FiT case


def fit_network(arch, case, **changes):
    config = {k: v for k, v in case["config"].items() if k not in NOT_OF_THE_NETWORK} | changes
    network = registry.build(arch, **config).eval()
    network.load_state_dict(from_official(arch, official_state(case), **config))
    return network


def fit_forward(network, recorded, t="input_t"):
    x, t, y, grid, mask, size = (
        torch.from_numpy(recorded[name])
        for name in ("input_x", t, "input_y", "input_grid", "input_mask", "input_size")
    )
    with torch.inference_mode():
        return network(x, t, y, grid, mask, size[:, 0])


def check_fitv1(case, recorded):
    network = fit_network("fitv1", case)
    found = {"output": fit_forward(network, recorded)}
    if "input_t_ddpm" in recorded:
        found["output_ddpm"] = fit_forward(network, recorded, "input_t_ddpm")
    compare_outputs(found, recorded, atol=2e-5)


def check_fitv2(case, recorded):
    if "input_noise" in recorded:
        found = fit_samples(case, recorded)
    elif "variants" in case["config"]:
        found = {
            name: fit_forward(fit_network("fitv2", case, **changes), recorded)
            for name, changes in case["config"]["variants"].items()
        }
    elif "sizes" in case["config"]:
        found = fit_frequencies(case["config"])
    else:
        found = {"output": fit_forward(fit_network("fitv2", case), recorded)}
    if "output_latent" in recorded:
        height, width = (side // 2 for side in recorded["output_latent"].shape[-2:])
        found["output_latent"] = unpatchify(found["output"], (height, width), 2)
    compare_outputs(found, recorded, atol=2e-5)


def fit_frequencies(config):
    """Row frequencies, column frequencies and the multiplier, by size and mode."""
    found = {}
    for (height, width), mode, decouple in product(
        config["sizes"], get_args(RopeMode), (True, False)
    ):
        rope = Rope(mode, decouple, config["ori_max_pe_len"])
        size = torch.tensor([[height, width]], dtype=torch.float32)
        frequencies, multiplier = rope_frequencies(rope, size, config["head_dim"])
        name = f"output_{height}x{width}_{mode.replace('-', '_')}"
        axes = "" if mode == "normal" else "_decoupled" if decouple else "_coupled"
        found[name + axes] = torch.cat([frequencies.flatten(), multiplier])
    return found


def fit_samples(case, recorded):
    """Guided velocities, and samples by Euler's rule and the midpoint rule."""
    network, config = fit_network("fitv2", case), case["config"]
    noise, y, size = (
        torch.from_numpy(recorded[name]) for name in ("input_noise", "input_y", "input_size")
    )
    grid, sizes = (
        part.expand(len(y), *part.shape) for part in (grid_of(*size.int().tolist()), size)
    )

    def velocity(x, t, power=0.0):
        times = torch.full((len(x),), float(t))
        return network.guided(x, times, y, grid, sizes, scale=config["cfg_scale"], power=power)

    steps, once = config["euler_steps"], recorded["input_t_single"].item()
    powers = {
        name: float(name.removeprefix("output_cfg_single_pow"))
        for name in recorded
        if name.startswith("output_cfg_single_pow")
    }
    with torch.inference_mode():
        return {name: velocity(noise, once, power) for name, power in powers.items()} | {
            "output_cfg_single": velocity(noise, once),
            "output_after_1_step": noise + velocity(noise, 0) / steps,
            "output": flow.euler(velocity, noise, steps),
            "output_midpoint": flow.midpoint(velocity, noise, steps),
        }


def dimr_network(case):
    fields = ("channels", "num_classes", "block_grad_to_lowres", "norm_type", "stage_configs")
    config = {field: case["config"][field] for field in fields if field in case["config"]}
    config.setdefault("norm_type", "LN")  # the default of the official code
    network = registry.build("dimr", **config).eval()
    network.load_state_dict(from_official("dimr", official_state(case), **config))
    return network


def check_dimr(case, recorded):
    """Each input_x with its times and classes; without times of its own, those of the first."""
    network, found = dimr_network(case), {}
    for name in (name for name in recorded if re.fullmatch("input_n(_.+)?", name)):
        ending = name.removeprefix("input_n")
        x, n, y = (
            torch.from_numpy(recorded.get(f"input_{part}{ending}", recorded[f"input_{part}"]))
            for part in "xny"
        )
        with torch.inference_mode():
            outputs = network(x, n.expand(len(x)), y)
        found |= {f"output{ending}_{index}": output for index, output in enumerate(outputs)}
    compare_outputs(found, recorded, atol=2e-5)


def check_dimr_norm(case, recorded):
    """Single modules, each with its own weights."""
    config = case["config"]
    enlarge = recorded["output_shuffle"].shape[1] // recorded["input_map"].shape[1]
    shapes = {name: config[name] for name in ("dim", "hidden_dim", "num_attention_heads")}
    branch = dimr.BranchConfig(
        "TransformerBlock",
        **shapes,
        kernel_size=config["kernel_size"],
        num_blocks=1,
        max_height=1,
        max_width=1,
        input_feature_ratio=1,
    )
    modules = nn.ModuleDict(
        {
            "layer_norm": dimr.TDLayerNorm(config["dim"]),
            "rms_norm": dimr.TDRMSNorm(config["dim"]),
            "transformer": dimr.TransformerBlock(branch, dimr.TDRMSNorm),
            "convnext": dimr.ConvNeXtBlock(branch, dimr.TDRMSNorm),
            "shuffle_": dimr.LinearShuffle(config["dim"], config["shuffle_out"], enlarge),
        }
    )
    state = {key.replace("shuffle.", "shuffle_."): v for key, v in official_state(case).items()}
    modules.load_state_dict({key: state[dimr_name(key)] for key in modules.state_dict()})
    tokens, maps, n = (torch.from_numpy(recorded[f"input_{k}"]) for k in ("tokens", "map", "n"))
    tau = 2 * n / 1000 - 1
    with torch.inference_mode():
        found = {
            "output_layer_norm_weight": modules["layer_norm"].weight(tau, 2),
            "output_layer_norm_bias": modules["layer_norm"].bias(tau, 2),
            "output_layer_norm_map": modules["layer_norm"](maps, tau),
            "output_rms_norm_map": modules["rms_norm"](maps, tau),
            "output_shuffle": modules["shuffle_"](maps),
            "output_convnext": modules["convnext"](maps, tau),
        } | {
            f"output_{name}": modules[name](tokens, tau)
            for name in ("layer_norm", "rms_norm", "transformer")
        }
    compare_outputs(found, recorded, atol=2e-5)


def check_dimr_sampling(case, recorded):
    """Guided noise, and samples of the published solver with the times that it asked for."""
    network, config = dimr_network(case), case["config"]
    z, y, single = (torch.from_numpy(recorded[f"input_{k}"]) for k in ("z", "y", "n_single"))
    constant = {"scale": 1 + config["scale"]}
    cosine = {"scale": config["power_scale"], "power": config["power"]}
    times = []

    def guided(x, n, **guidance):
        times.append(n / 1000)
        return network.guided(x, torch.full((len(x),), float(n)), y, **guidance)

    found = {}
    with torch.inference_mode():
        found["output_guided"] = guided(z, single, **constant)
        found["output_guided_power"] = guided(z, single, **cosine)
        for steps in config["steps"]:
            times.clear()
            found[f"output_{steps}"] = dpm_solver(partial(guided, **constant), z, steps)
            found[f"output_{steps}_times"] = torch.tensor(times)
        steps = config["power_steps"]
        found[f"output_power_{steps}"] = dpm_solver(partial(guided, **cosine), z, steps)
    # The samples end at a std of 20, float32 sums in another order.
    compare_outputs(found, recorded, atol=5e-4)


def check_dimr_loss(case, recorded):
    network = dimr_network(case)
    x0, n, noise, y = (
        torch.from_numpy(recorded[f"input_{name}"]) for name in ("x0", "n", "noise", "y")
    )
    xn = dimr.noised(x0, n, noise)
    assert_close(xn, torch.from_numpy(recorded["input_xn"]), atol=1e-6, rtol=0)
    terms = multi_resolution_terms(network(xn, n, y), noise)
    loss = terms @ torch.tensor(case["config"]["loss_coeffs"], dtype=torch.float32)
    loss.mean().backward()
    found = {"output_terms": terms.detach(), "output_loss": loss.detach()}
    found |= {
        f"output_target_{index}": dimr.noise_target(noise, stride)
        for index, stride in enumerate(network.strides)
    }
    gradients = {dimr_name(key): value.grad for key, value in network.named_parameters()}
    found |= {f"output_grad_{name}": gradient for name, gradient in gradients.items()}
    compare_outputs(found, recorded, atol=2e-6, rtol=1e-5)


def compare_outputs(found, recorded, atol, rtol=0.0):
    """Every recorded output; float32 sums in another order are what `atol` allows."""
    wanted = {k: torch.from_numpy(v) for k, v in recorded.items() if k.startswith("output")}
    assert_close({name: found[name] for name in wanted}, wanted, atol=atol, rtol=rtol)


def check_scalecrafter(case, recorded):
    config = case["config"]
    kind = "loop" if config["kind"].startswith("loop") else config["kind"]
    with torch.inference_mode():
        found = SCALECRAFTER[kind](case, recorded)
    # The loops end at a standard deviation of 9, so they get a relative share.
    wanted = {k: torch.from_numpy(v) for k, v in recorded.items() if k in found}
    assert {k for k in recorded if k.startswith("output")} - set(found) <= NOT_OURS
    tolerance = 1e-3 if kind == "loop" else 1e-5
    assert_close(found, wanted, atol=tolerance, rtol=tolerance, check_dtype=False)


NOT_OURS = {"output_plain_decode", "output_unsynced_tiled"}  # recorded for comparison only


def scalecrafter_convolutions(case, recorded):
    state = official_state(case)
    return {
        f"output_{layer['name']}": redilated(
            torch.from_numpy(recorded[f"input_{layer['name']}"]),
            state[f"{layer['name']}.weight"],
            state[f"{layer['name']}.bias"],
            factor=layer["factor"],
            stride=layer["stride"],
        )
        for layer in case["config"]["layers"]
    }


def scalecrafter_dispersion(case, recorded):
    kernels, found = official_state(case)["k.weight"], {}
    for index, transform in enumerate(case["config"]["transforms"]):
        matrix = dispersion_matrix(Dispersion(**transform))
        found[f"output_transform_{index}"] = matrix
        found[f"output_kernel_{index}"] = disperse(kernels, matrix)
    return found


@torch.inference_mode()
def scalecrafter_loop(case, recorded):
    """A plain loop of DDIM and guidance around the rescaled UNet, of SDXL too."""
    config, steps = case["config"], case["config"]["num_inference_steps"]
    unet = getattr(diffusers, config["unet_class"])(**config["unet"]).eval()
    unet.load_state_dict(official_state(case))
    scheduler = getattr(diffusers, config["scheduler_class"])(**config["scheduler"])
    scheduler.set_timesteps(steps)
    given = {name.removeprefix("input_"): torch.from_numpy(v) for name, v in recorded.items()}
    names = set(dilatable(unet))  # the official lists name layers that SDXL lacks
    factors, mild = (
        {layer: factor for layer, factor in config[which].items() if layer in names}
        for which in ("dilate_settings", "ndcfg_dilate_settings")
    )
    settings = Settings(
        factors,
        config["dilate_tau"] / steps,
        mild,
        config["ndcfg_tau"] / steps,
        names & frozenset(config["inflate_settings"]),
        config["inflate_tau"] / steps,
        config["progressive"],
        Dispersion(**config.get("transform", {})),
    )
    embeds = torch.cat([given["negative_prompt_embeds"], given["prompt_embeds"]])
    conditions = {"encoder_hidden_states": embeds}
    if config["kind"] == "loop_xl":
        pooled = torch.cat([given["negative_pooled_prompt_embeds"], given["pooled_prompt_embeds"]])
        ids = torch.atleast_2d(time_ids(config, given).to(pooled.dtype))
        ids = ids.repeat(len(pooled) // len(ids), 1)  # of one image, of a prompt, or of all
        conditions["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": ids}
    latents, reached, strong = given["latents"] * scheduler.init_noise_sigma, [], []
    # Before the hooks of ScaleCrafter: the output of the strong pass.
    unet.register_forward_hook(lambda module, inputs, output: strong.append(output.sample))
    with scalecrafter(unet, settings, steps=steps) as rescaling:
        for rescaling.step, t in enumerate(scheduler.timesteps):
            noise = unet(torch.cat([latents, latents]), t, **conditions).sample
            away, toward = noise.chunk(2)
            noise = away + config["guidance_scale"] * (toward - away)
            toward = strong.pop().chunk(2)[1]
            noise = with_std_of(toward, noise, config.get("guidance_rescale", 0.0))
            drawn = given["variance_noise"][rescaling.step] if config["eta"] else None
            latents = scheduler.step(
                noise, t, latents, eta=config["eta"], variance_noise=drawn
            ).prev_sample
            reached.append(latents)
    return {"output": latents, "output_steps": torch.stack(reached)}


def with_std_of(toward, noise, share):
    """Guided noise, by a share with the std of the conditional noise (guidance_rescale)."""
    std, wanted = (part.std((1, 2, 3), keepdim=True) for part in (noise, toward))
    return torch.lerp(noise, noise * (wanted / std), share)


def time_ids(config, given):
    """Original size, crop and target size that SDXL is conditioned on."""
    for name in ("time_ids", "add_time_ids"):
        if name in given or name in config:
            return torch.as_tensor(given.get(name, config.get(name)))
    sizes = (config["original_size"], config.get("crops_coords_top_left", (0, 0)))
    return torch.tensor([*sizes[0], *sizes[1], *config["target_size"]])


def scalecrafter_decode(case, recorded):
    config = case["config"]
    vae = getattr(diffusers, config["vae_class"])(**config["vae"]).eval()
    vae.load_state_dict(official_state(case))
    latents = torch.from_numpy(recorded["input_latents"])
    tile, overlap = config["tile_latent_min_size"], config["tile_overlap_factor"]
    return {"output": decode_with_shared_statistics(vae, latents, tile=tile, overlap=overlap)}


SCALECRAFTER = {
    "conv": scalecrafter_convolutions,
    "disperse": scalecrafter_dispersion,
    "loop": scalecrafter_loop,
    "sync_tiled_decode": scalecrafter_decode,
}

CHECKS = {
    "espcn": check_espcn,
    "dpenet": check_dpenet,
    "mirnet": check_mirnet,
    "cbsn": check_cbsn,
    "cbsn.downsample": check_cbsn_downsample,
    "cbsn.loss": check_cbsn_loss,
    "fitv1": check_fitv1,
    "fitv2": check_fitv2,
    "dimr": check_dimr,
    "dimr.norm": check_dimr_norm,
    "dimr.sampling": check_dimr_sampling,
    "dimr.loss": check_dimr_loss,
    "scalecrafter": check_scalecrafter,
    "ugdc": check_ugdc,
    "ugdc.block": check_ugdc_block,
    "tml.chain": check_tml_chain,
}


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_the_network_gives_what_the_official_code_gave(folder):
    case = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    model = case["model"].lower()
    assert model in CHECKS, f"no check for model {case['model']}"
    with np.load(folder / "io.npz") as recorded:
        CHECKS[model](case, dict(recorded))


def promised(pair):
    """What our protocols must give for a pair: the recorded values of those who agree with them."""
    recorded = pair["metrics"]
    wanted = {
        "psnr rgb": recorded["psnr_rgb"]["numpy"],
        "ssim rgb": recorded["ssim_rgb_gaussian11"]["skimage"],
        "psnr y": recorded["psnr_y_bt601_uint8"]["numpy"],
        "ssim y": recorded["ssim_y_gaussian11"]["numpy_matlab_order"],
        "ms_ssim rgb": None,
        "ms_ssim y": None,
    }
    if "ms_ssim_y" in recorded:  # absent where a side is shorter than 161
        wanted["ms_ssim y"] = recorded["ms_ssim_y"]["numpy_wang2003_symmetric_pool"]
        wanted["ms_ssim rgb"] = recorded["ms_ssim_rgb"]["pytorch_msssim"]
    if any(side % 16 for side in pair["size_hw"]):
        del wanted["ms_ssim rgb"]  # pytorch-msssim counts the zeros that it pads with
    return wanted


@pytest.mark.parametrize(("folder", "pair"), METRICS, ids=[pair["test"] for _, pair in METRICS])
def test_the_metrics_give_what_other_libraries_gave(folder, pair):
    test, reference = read(folder / pair["test"]).pixels, read(folder / pair["ref"]).pixels
    scores = {
        space: metrics.measure(test, reference, metrics.PROTOCOLS[space]) for space in ("rgb", "y")
    }
    wanted = promised(pair)
    metric_and_space = {name: name.split() for name in wanted}
    found = {name: getattr(scores[space], at) for name, (at, space) in metric_and_space.items()}
    assert found == pytest.approx(wanted, abs=1e-3)


SDXL = {
    "sample_size": 8,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "cross_attention_dim": 8,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 2,
    "projection_class_embeddings_input_dim": 6 * 2 + 5,
}
TIME_IDS = [8.0, 4.0, 0.0, 2.0, 8.0, 8.0]


@pytest.mark.parametrize("ids", [TIME_IDS, [TIME_IDS], [TIME_IDS] * 2, [TIME_IDS] * 4], ids=len)
def test_a_loop_of_sdxl_gets_the_pooled_texts_and_sizes_in_both_passes(ids):
    unet = diffusers.UNet2DConditionModel(**SDXL).eval()
    layer = "mid_block.resnets.0.conv1"
    case = {
        "shapes": {key: list(tensor.shape) for key, tensor in unet.state_dict().items()},
        "config": {
            "kind": "loop_xl",
            "unet_class": "UNet2DConditionModel",
            "unet": SDXL,
            "scheduler_class": "DDIMScheduler",
            "scheduler": {"clip_sample": False},
            "num_inference_steps": 1,
            "guidance_scale": 5.0,
            "eta": 0.0,
            "dilate_settings": {layer: 2.0},
            "dilate_tau": 1,
            "ndcfg_dilate_settings": {},
            "ndcfg_tau": 1,
            "inflate_settings": [],
            "inflate_tau": 0,
            "progressive": False,
            "time_ids": ids,
        },
    }
    given = {
        "latents": torch.randn(2, 4, 8, 8),
        **{f"{part}prompt_embeds": torch.randn(2, 3, 8) for part in ("", "negative_")},
        **{f"{part}pooled_prompt_embeds": torch.randn(2, 5) for part in ("", "negative_")},
    }
    found = scalecrafter_loop(case, {f"input_{name}": v.numpy() for name, v in given.items()})

    # The same from passes of one text each, without hooks of the guidance.
    unet.load_state_dict(official_state(case))
    times = torch.tensor([TIME_IDS] * 2)

    def noise(sign):
        added = {"text_embeds": given[f"{sign}pooled_prompt_embeds"], "time_ids": times}
        embeds = given[f"{sign}prompt_embeds"]
        with torch.inference_mode():
            return unet(
                given["latents"], t, encoder_hidden_states=embeds, added_cond_kwargs=added
            ).sample

    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(1)
    (t,) = scheduler.timesteps
    mild = noise("negative_")
    with scalecrafter(unet, Settings({layer: 2.0}, 1.0), steps=1, guided=False):
        toward, away = noise(""), noise("negative_")
    guided = mild + 5 * (toward - away)
    wanted = scheduler.step(guided, t, given["latents"]).prev_sample
    assert (toward - away).abs().max() > 0.01
    assert_close(found["output"], wanted, atol=1e-4, rtol=1e-4)
