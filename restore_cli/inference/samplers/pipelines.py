"""Diffusion pipelines of the user, read from a folder, a single file or a hub.

Their text encoders need transformers, an optional package, which is checked for first.
"""

from __future__ import annotations

import json
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from hashlib import sha256
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from restore_cli.assets import environment
from restore_cli.errors import (
    FetchError,
    MissingExtra,
    UsageError,
    WeightsError,
    WeightsMismatch,
    WeightsMissing,
)
from restore_cli.inference.samplers.request import Lora

logger = logging.getLogger(__name__)

TEXT_PACKAGES = ("transformers", "accelerate")
DOWN = re.compile(r"(lora_A|lora_down|lora\.down|lora_linear_layer\.down)\b")  # one a layer
SIZES = re.compile(r"size mismatch for (\S+): .*?\(\[(.*?)\]\).*?\(\[(.*?)\]\)")
SINGLE_FILES = (".safetensors", ".ckpt")

Kind = Literal["text", "image", "inpaint"]  # of a request: with an image, or with a mask, too


def read_pipeline(base: str, dtype: torch.dtype) -> Any:
    """Read a text-to-image pipeline with a UNet. Raises MissingExtra, WeightsError, FetchError."""
    _require(*TEXT_PACKAGES, purpose="text models need")
    path = Path(os.path.expanduser(base))
    try:
        with quiet_libraries():
            pipe = _open(base, path, dtype)
    # diffusers and transformers raise any of these for a part that is missing or does not fit.
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
        raise _unreadable(base, path, error) from error
    return _with_unet(base, pipe)


def _unreadable(base: str, path: Path, error: Exception) -> WeightsError:
    return WeightsError(
        f"{base}: not a readable pipeline: {_first_line(error)}",
        hint=f"it needs all parts, with the text encoders: {_download(base, path)}",
    )


def _with_unet(base: str, pipe: Any) -> Any:
    """Return the pipeline. Raises UsageError for one without a UNet."""
    if not hasattr(getattr(pipe, "unet", None), "config") or not hasattr(pipe, "vae"):
        raise UsageError(
            f"{base}: {type(pipe).__name__} has no UNet",
            hint="ScaleCrafter works on Stable Diffusion 1.5, 2.1 and XL",
        )
    return pipe


def pipelines(pipe: Any, controlnet: Any = None) -> Mapping[Kind, Any]:
    """Return the pipelines that diffusers builds of the parts of one, by the kind of request.

    Raises UsageError for a pipeline that generates no image of a text, such as InstructPix2Pix.
    """
    import diffusers

    builders: dict[Kind, Any] = {
        "text": diffusers.AutoPipelineForText2Image,
        "image": diffusers.AutoPipelineForImage2Image,
        "inpaint": diffusers.AutoPipelineForInpainting,
    }
    if pipe.unet.config.in_channels != pipe.vae.config.latent_channels:  # it sees a mask, too
        builders = {"inpaint": builders["inpaint"]}
    elif pipe.config.get("requires_aesthetics_score"):  # the refiner of SDXL
        builders = {"image": builders["image"]}
    parts = {} if controlnet is None else {"controlnet": controlnet}
    found: dict[Kind, Any] = {}
    for kind, builder in builders.items():
        # diffusers raises ValueError where it has no such pipeline, for example LCM with a mask.
        with quiet_libraries(), suppress(ValueError):
            found[kind] = builder.from_pipe(pipe, **parts)
    if not found:
        with_controlnet = "" if controlnet is None else " with a ControlNet"
        raise UsageError(
            f"{type(pipe).__name__}{with_controlnet} is not supported",
            hint="Stable Diffusion 1.5, 2.1 and XL, their Turbo, LCM and inpainting models are",
        )
    for one in found.values():
        one.set_progress_bar_config(disable=True)
    return MappingProxyType(found)


def outline(base: str, *, text_encoders: bool = False) -> Any:
    """Return the pipeline in a folder without its weights, to see what requests it takes.

    text_encoders: whether it has them. None for a file or a name on a hub.
    Raises MissingExtra, WeightsError.
    """
    import diffusers

    _require(*TEXT_PACKAGES, purpose="text models need")
    path = Path(os.path.expanduser(base))
    if not path.is_dir():
        _refuse_other_base(base, path)
        return None
    _refuse_no_pipeline(base, path)
    try:
        index = json.loads((path / "model_index.json").read_text(encoding="utf-8"))
        with quiet_libraries():
            kind = getattr(diffusers, index["_class_name"])
            parts = {  # models, and settings
                name: _outline_of(path / name, *index[name], text_encoders=text_encoders)
                if isinstance(index[name], list)
                else index[name]
                for name in signature(kind).parameters
                if name in index
            }
            return _with_unet(base, kind(**parts))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise _unreadable(base, path, error) from error


def _outline_of(
    folder: Path, library: str | None, name: str, *, text_encoders: bool = False
) -> Any:
    """Return a model or a scheduler without its weights; None for a part of another library.

    text_encoders: also a text encoder.
    """
    import diffusers

    if library is None:  # an optional part
        return None
    if not any(folder.iterdir()):
        raise OSError(f"{folder.name}/ is empty")
    if library == "transformers" and text_encoders and name.startswith("CLIPText"):
        return _outline_of_text_encoder(folder, name)
    if library != "diffusers":
        return None
    kind = getattr(diffusers, name)
    config = kind.load_config(folder, local_files_only=True)
    if not issubclass(kind, torch.nn.Module):
        return kind.from_config(config)
    if not any(file.suffix in (".safetensors", ".bin") for file in folder.iterdir()):
        raise OSError(f"{folder.name}/ contains no weights")
    with torch.device("meta"):
        return kind.from_config(config)


def _outline_of_text_encoder(folder: Path, name: str) -> Any:
    import transformers

    kind = getattr(transformers, name)
    config = kind.config_class.from_pretrained(folder, local_files_only=True)
    with torch.device("meta"):
        return kind(config)


def outline_controlnet(folder: Path, unet: Any) -> Any:
    """Return the ControlNet in a folder without its weights.

    Raises WeightsMissing, WeightsMismatch.
    """
    missing = _missing_controlnet(folder)
    _refuse_no_controlnet(folder)
    try:
        net = _outline_of(folder, "diffusers", "ControlNetModel")
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise missing from error
    _refuse_other_controlnet(folder, net, unet)
    return net


def read_controlnet(folder: Path, unet: Any, dtype: torch.dtype) -> Any:
    """Read the ControlNet in a folder. Raises WeightsMissing, WeightsMismatch."""
    from diffusers import ControlNetModel

    missing = _missing_controlnet(folder)
    _refuse_no_controlnet(folder)  # diffusers would take the folder for a name on the hub
    try:
        with quiet_libraries():
            net = ControlNetModel.from_pretrained(folder, torch_dtype=dtype, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise missing from error
    _refuse_other_controlnet(folder, net, unet)
    return net


def _missing_controlnet(folder: Path) -> WeightsMissing:
    return WeightsMissing(
        f"{folder} contains no readable ControlNet",
        hint="it needs config.json and diffusion_pytorch_model.safetensors: "
        f"hf download lllyasviel/control_v11p_sd15_canny --local-dir {folder}",
    )


def _refuse_no_controlnet(folder: Path) -> None:
    """Raise WeightsMissing for a folder without configuration, or with that of another model."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = config.get("_class_name", "ControlNetModel")
    except (OSError, ValueError, AttributeError) as error:
        raise _missing_controlnet(folder) from error
    if kind != "ControlNetModel":
        raise WeightsMismatch(
            f"{folder} holds a {kind}, not a ControlNet", hint="name the folder of a ControlNet"
        )


def _refuse_other_controlnet(folder: Path, net: Any, unet: Any) -> None:
    """Raise WeightsMismatch for a ControlNet of another UNet."""
    shared = ("cross_attention_dim", "block_out_channels")
    facts = [(name, unet.config[name], net.config[name]) for name in shared]
    facts.append(("in_channels", unet.config.out_channels, net.config.in_channels))  # of latents
    for name, *values in facts:
        wanted, given = (tuple(np.atleast_1d(value)) for value in values)
        if wanted != given:
            raise WeightsMismatch(
                f"the ControlNet in {folder} has {name} {_plain(given)}, the base {_plain(wanted)}",
                hint="take the ControlNet that was trained for this base",
            )
    if net.config.conditioning_channels != 3:
        raise WeightsMismatch(
            f"the ControlNet in {folder} takes {net.config.conditioning_channels} channels, "
            "an image has 3",
            hint="take a ControlNet of RGB images",
        )


def lora_shapes(lora: Lora) -> dict[str, Tensor]:
    """Return the tensors of a LoRA without their values, but for its scalars.

    Raises MissingExtra, WeightsError.
    """
    _require("peft", purpose="LoRA files need")
    from safetensors import SafetensorError, safe_open

    file = Path(os.path.expanduser(lora.file))
    if not file.is_file():
        raise WeightsMissing(f"{file}: no such file", hint="--lora FILE or FILE:SCALE")
    try:
        with safe_open(file, framework="pt") as opened:
            shapes = {key: opened.get_slice(key).get_shape() for key in opened.keys()}  # noqa: SIM118
            found = {
                key: torch.empty(shape, device="meta") if shape else opened.get_tensor(key)
                for key, shape in shapes.items()
            }
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{file}: not a LoRA: {_first_line(error)}", hint="take a LoRA in safetensors"
        ) from error
    if not any("lora" in key.lower() for key in found):
        raise WeightsMismatch(
            f"{file}: not a LoRA: no name of its tensors has lora in it",
            hint="take a LoRA that was trained for this base",
        )
    return found


def outline_lora(pipe: Any, lora: Lora) -> None:
    """Refuse a LoRA that does not fit a pipeline without weights. Raises as `fuse_lora`."""
    shapes = lora_shapes(lora)
    _load_lora(pipe, lora, shapes, {"pretrained_model_name_or_path_or_dict": shapes})
    with quiet_libraries():
        pipe.unload_lora_weights()


def fuse_lora(pipe: Any, lora: Lora) -> None:
    """Add a LoRA to the weights of a pipeline, whose layers stay as they are.

    Raises MissingExtra, WeightsMissing, WeightsMismatch, WeightsError.
    """
    file = Path(os.path.expanduser(lora.file))
    place = {"weight_name": file.name, "local_files_only": True}
    place["pretrained_model_name_or_path_or_dict"] = file.parent
    _load_lora(pipe, lora, lora_shapes(lora), place)
    with quiet_libraries():
        pipe.fuse_lora(lora_scale=lora.scale)
        pipe.unload_lora_weights()


def _load_lora(
    pipe: Any, lora: Lora, shapes: Mapping[str, Tensor], arguments: Mapping[str, Any]
) -> None:
    """Put the layers of a LoRA beside those of a pipeline."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    file = Path(os.path.expanduser(lora.file))
    try:
        with quiet_libraries():
            pipe.load_lora_weights(**arguments)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise WeightsError(
            f"{file}: not a LoRA for {type(pipe).__name__}: "
            f"{_mismatch(error) or _text_mismatch(pipe, shapes) or _first_line(error)}",
            hint="take a LoRA that was trained for this base",
        ) from error
    models = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    added = sum(isinstance(layer, BaseTunerLayer) for one in models for layer in one.modules())
    if not added:
        raise WeightsMismatch(
            f"{file} contains no LoRA for a layer of this base",
            hint="take a LoRA that was trained for this base",
        )
    listed = sum(DOWN.search(key) is not None for key in shapes)
    if added < listed:
        missing = f"{listed - added} of its {listed} layers, which the base lacks"
        logger.warning("%s: applied without %s", file.name, missing)


def _mismatch(error: Exception) -> str | None:
    """Return the first layer of another shape, of an error of torch."""
    found = SIZES.search(str(error))
    if found is None:
        return None
    key, given, wanted = (part.replace(", ", "x") for part in found.groups())
    return f"{key} is {given}, in this base {wanted}"


def _text_mismatch(pipe: Any, shapes: Mapping[str, Tensor]) -> str | None:
    """Return the first layer of a text encoder that has another shape; transformers names none."""
    from diffusers.utils import convert_state_dict_to_diffusers, convert_state_dict_to_peft

    with suppress(ValueError):  # no layers of a text encoder
        state = pipe.lora_state_dict(dict(shapes), unet_config=pipe.unet.config)[0]
        for name in ("text_encoder", "text_encoder_2"):
            own = {key: tensor for key, tensor in state.items() if key.startswith(f"{name}.")}
            if not own:
                continue
            layers = convert_state_dict_to_peft(convert_state_dict_to_diffusers(own))
            modules = {  # some versions of transformers have this level, others not
                layer.replace("text_model.", ""): getattr(module, "base_layer", module)
                for layer, module in getattr(pipe, name).named_modules(prefix=name)
            }
            for key, tensor in layers.items():
                layer, _, side = key.removesuffix(".weight").rpartition(".lora_")
                axis = 1 if side == "A" else 0
                base = modules.get(layer.replace("text_model.", ""))
                if base is not None and base.weight.shape[axis] != tensor.shape[axis]:
                    wanted = base.weight.shape[axis]
                    return f"{key} has {tensor.shape[axis]} features, in this base {wanted}"
    return None


def weights_sha256(*parts: Any) -> str:
    """Return a checksum of pipelines or models: their tensors and the configurations of both."""
    digest = sha256()
    for part in parts:
        models = getattr(part, "components", {"": part})
        for name, model in sorted(models.items()):
            config = getattr(model, "config", None)
            if isinstance(config, Mapping):  # of diffusers; others name versions and paths
                plain = {key: config[key] for key in sorted(config) if not key.startswith("_")}
                digest.update(f"{name}{plain}".encode())
            if isinstance(model, torch.nn.Module):
                with ThreadPoolExecutor() as pool:  # hashing frees the interpreter lock
                    state = sorted(model.state_dict().items())
                    for key, checksum in pool.map(_tensor_sha256, state):
                        digest.update(key.encode() + checksum)
    return digest.hexdigest()


def _tensor_sha256(item: tuple[str, Tensor]) -> tuple[str, bytes]:
    name, tensor = item
    data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
    return name, sha256(data.numpy().data).digest()


def _plain(values: tuple[Any, ...]) -> str:
    return ", ".join(map(str, values))


def _require(*packages: str, purpose: str) -> None:
    """Raise MissingExtra for packages that are not installed."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise MissingExtra(
            f"{purpose} {' and '.join(missing)}", hint=f"pip install {' '.join(missing)}"
        )


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence the messages of diffusers and transformers about files and deprecations."""
    import transformers.utils.logging as transformers_logging
    from diffusers.utils import logging as diffusers_logging

    for library in (transformers_logging, diffusers_logging):
        library.set_verbosity(logging.CRITICAL)  # errors are raised as well
        library.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _open(base: str, path: Path, dtype: torch.dtype) -> Any:
    from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline

    if path.is_dir():
        _refuse_no_pipeline(base, path)
        return DiffusionPipeline.from_pretrained(path, torch_dtype=dtype, local_files_only=True)
    _refuse_other_base(base, path)
    if path.suffix.lower() in SINGLE_FILES:
        kind = StableDiffusionXLPipeline if _is_xl(path) else StableDiffusionPipeline
        return kind.from_single_file(
            str(path), torch_dtype=dtype, local_files_only=environment().offline
        )
    offline = environment().offline
    try:
        return DiffusionPipeline.from_pretrained(base, torch_dtype=dtype, local_files_only=offline)
    except OSError as error:
        reason = "not in the cache, and RESTORE_OFFLINE is set" if offline else _first_line(error)
        raise FetchError(
            f"{base}: {reason}", hint=f"to download it yourself: {_download(base, path)}"
        ) from error


def _refuse_no_pipeline(base: str, folder: Path) -> None:
    if not (folder / "model_index.json").is_file():
        raise WeightsMissing(
            f"{base} contains no model_index.json, so it is not a pipeline",
            hint=f"to get one: {_download(base, folder)}",
        )


def _refuse_other_base(base: str, path: Path) -> None:
    """Raise WeightsMissing for what is neither a file nor a name on a hub."""
    if path.suffix.lower() in SINGLE_FILES:
        if not path.is_file():
            raise WeightsMissing(f"{base}: no such file", hint="check the name")
    elif base.count("/") != 1 or base.startswith((".", "/", "~")):
        raise WeightsMissing(
            f"{base} is not a folder, a file or a name on a hub",
            hint=f"to get a folder: {_download(base, path)}",
        )


def _is_xl(path: Path) -> bool:
    """Tell whether a single file contains the second text encoder of SDXL."""
    if path.suffix.lower() != ".safetensors":
        return "xl" in path.stem.lower()
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return any(key.startswith("conditioner.embedders.1.") for key in file.keys())  # noqa: SIM118


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _download(base: str, path: Path) -> str:
    """Return the command that downloads a pipeline to where it was expected."""
    if base.count("/") == 1 and not path.exists() and not base.startswith((".", "/", "~")):
        return f"hf download {base} --local-dir {path.name}"
    folder = path if not path.suffix else path.with_suffix("")
    return f"hf download stable-diffusion-v1-5/stable-diffusion-v1-5 --local-dir {folder}"
