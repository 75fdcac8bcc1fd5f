"""Images, masks, LoRA and ControlNets for tiny random pipelines of diffusers, with ScaleCrafter."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch.testing import assert_close

from restore_cli.errors import MissingExtra, UsageError, WeightsError, WeightsMismatch
from restore_cli.imaging.image import Image
from restore_cli.imaging.io import write
from restore_cli.inference.generator import load_generator
from restore_cli.inference.samplers import pipelines
from restore_cli.inference.samplers.request import InputImage, Lora
from restore_cli.inference.samplers.stable_diffusion import crafted, fitted
from tests.pipelines import UNET, tiny_controlnet, tiny_lora, tiny_pipeline

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of diffusers and transformers
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
TRAINED, LARGER = (16, 16), (32, 24)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    return {kind: tiny_pipeline(kind, folder) for kind in ("sd", "xl", "lcm", "inpaint")}


@pytest.fixture(scope="module")
def generators(bases):
    return {kind: load_generator(base=str(base), device="cpu") for kind, base in bases.items()}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    torch.manual_seed(1)
    half = torch.zeros(1, *LARGER)
    half[..., : LARGER[1] // 2] = 1
    images = {"photo": torch.rand(3, *LARGER), "edges": torch.rand(1, *LARGER), "half": half}
    for name, pixels in images.items():
        write(Image(pixels), folder / f"{name}.png")
    return {name: folder / f"{name}.png" for name in images}


@pytest.fixture(scope="module")
def controlled(bases, tmp_path_factory):
    folder = tiny_controlnet(tmp_path_factory.mktemp("control") / "net")
    return load_generator(base=str(bases["sd"]), controlnet=folder, device="cpu")


def pixels(generator, **options):
    return generator("a fox", **{"steps": 4} | options).image.pixels


IMAGE = {"init_image": "photo"}
MASK = {"init_image": "photo", "mask": "half"}


def named(options, files):
    return {key: files.get(value, value) for key, value in options.items()}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("sd", {}),
        ("sd", IMAGE),
        ("sd", MASK),
        ("xl", {}),
        ("xl", IMAGE),
        ("xl", MASK),
        ("lcm", {}),
        ("lcm", IMAGE),
        ("inpaint", MASK),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value) or "text",
)
def test_scalecrafter_acts_in_each_kind_of_pipeline(kind, options, generators, files):
    options = {"size": LARGER, "guidance": 3.0} | named(options, files)
    found = pixels(generators[kind], **options)
    direct = pixels(generators[kind], **options, direct=True)
    assert found.shape == (3, *LARGER)
    assert (found - direct).abs().max() > 1e-4
    assert torch.equal(pixels(generators[kind], **options), found)


@pytest.mark.parametrize("options", [{}, IMAGE, MASK], ids=["text", "image", "mask"])
def test_scalecrafter_acts_beside_a_controlnet(options, controlled, files):
    options = named(options, files) | {"control_image": files["edges"]}
    found = pixels(controlled, **options)
    assert found.shape == (3, *LARGER)
    assert not torch.equal(pixels(controlled, **options, direct=True), found)


def test_a_control_image_decides(controlled, generators, files):
    found = pixels(controlled, control_image=files["edges"])
    assert not torch.equal(found, pixels(controlled, control_image=files["photo"]))
    assert not torch.equal(found, pixels(generators["sd"], size=LARGER))


def test_without_a_size_the_image_decides(generators, files):
    assert pixels(generators["sd"], init_image=files["photo"]).shape == (3, *LARGER)


def test_the_strength_decides_how_much_of_the_image_is_left(generators, files):
    weak, strong = (
        generators["sd"].resolve(
            request_for(files["photo"], init_strength=strength, steps=4),
        )
        for strength in (0.25, 1.0)
    )
    steps = []
    for request in (weak, strong):
        told = []
        generators["sd"].sample(request, 0, on_progress=lambda *now, told=told: told.append(now))
        steps.append(told[-1])
    assert steps == [(1, 1), (4, 4)]


def request_for(photo, **options):
    from restore_cli.inference.generator import read_input
    from restore_cli.inference.samplers.request import GenerateRequest

    return GenerateRequest("a fox", init_image=read_input(photo), **options)


@pytest.mark.parametrize("kind", ["sd", "inpaint"])
def test_outside_the_mask_the_image_is_kept_exactly(kind, generators, files):
    from restore_cli.imaging.io import read

    photo = read(files["photo"]).pixels
    found = pixels(generators[kind], init_image=files["photo"], mask=files["half"])
    middle = LARGER[1] // 2
    assert torch.equal(found[..., middle:], photo[..., middle:])
    assert not torch.equal(found[..., :middle], photo[..., :middle])


def test_an_image_of_another_shape_is_cropped_in_its_middle():
    columns = torch.arange(12.0).expand(3, 4, 12) / 12
    found = fitted(InputImage("a.png", "", columns), (4, 4))
    assert torch.equal(found[0], columns[..., 4:8])


@pytest.mark.parametrize(
    ("kind", "sampler"),
    [("sd", name) for name in ("euler_a", "heun", "lcm", "pndm", "unipc")] + [("xl", "euler")],
)
def test_scalecrafter_follows_each_scheduler(kind, sampler, generators, files):
    options = {"size": LARGER, "sampler": sampler, "init_image": files["photo"]}
    found = pixels(generators[kind], **options)
    assert not torch.equal(found, pixels(generators[kind], **options, direct=True))


@pytest.mark.parametrize(
    ("kind", "defaults"),
    [("sd", (50, 7.5)), ("xl", (50, 5.0)), ("lcm", (4, 8.5))],
)
def test_steps_and_guidance_default_to_those_of_the_pipeline(kind, defaults, generators):
    from restore_cli.inference.samplers.request import GenerateRequest

    request = generators[kind].resolve(GenerateRequest("a fox"))
    assert (request.steps, request.guidance) == defaults


# Refusals


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("lcm", {"negative": "b"}, "--negative has no effect on LatentConsistencyModelPipeline"),
        ("lcm", {"sampler": "dpm"}, "--sampler has no effect on LatentConsistencyModelPipeline"),
        ("lcm", MASK, "--mask has no effect on LatentConsistencyModelPipeline"),
        ("lcm", {"steps": 60}, "--steps 60: this scheduler supports at most 50"),
        ("lcm", IMAGE | {"init_strength": 0.01}, "leaves none of 4 steps"),
        ("sd", {"steps": 60, "sampler": "lcm"}, "--steps 60: this scheduler supports at most 50"),
        ("sd", {"mask": "half"}, "--mask has no effect without --init-image"),
        ("sd", {"init_strength": 0.5}, "--init-strength has no effect without --init-image"),
        ("sd", {"control_image": "edges"}, "--control-image has no effect on Stable"),
        ("sd", IMAGE | {"init_strength": 0.1}, "--init-strength 0.1 leaves none of 4 steps"),
        ("sd", IMAGE | {"init_strength": 1.5}, "--init-strength 1.5"),
        ("inpaint", {}, "StableDiffusionInpaintPipeline changes images"),
        ("inpaint", IMAGE, "StableDiffusionInpaintPipeline changes images"),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value) or "text",
)
def test_an_option_that_a_pipeline_does_not_take_is_refused(
    kind, options, message, generators, files
):
    with pytest.raises(UsageError, match=message):
        pixels(generators[kind], **named(options, files))


def test_a_mask_of_another_size_is_refused(generators, files, tmp_path):
    write(Image(torch.ones(1, 8, 8)), tmp_path / "mask.png")
    with pytest.raises(UsageError, match=r"mask\.png is 8x8, but photo\.png 24x32"):
        pixels(generators["sd"], init_image=files["photo"], mask=tmp_path / "mask.png")


def test_a_controlnet_without_its_image_is_refused(controlled):
    with pytest.raises(UsageError, match="a ControlNet has no image"):
        pixels(controlled)


def test_a_controlnet_of_another_base_is_refused(bases, tmp_path):
    folder = tiny_controlnet(tmp_path / "net", cross_attention_dim=4)
    with pytest.raises(WeightsMismatch, match="has cross_attention_dim 4, the base 8"):
        load_generator(base=str(bases["sd"]), controlnet=folder)


def test_a_folder_without_a_controlnet_is_refused(bases, tmp_path):
    with pytest.raises(WeightsError, match="contains no readable ControlNet"):
        load_generator(base=str(bases["sd"]), controlnet=tmp_path)


def test_a_pipeline_of_another_kind_is_refused(bases, tmp_path):
    import json
    import shutil

    shutil.copytree(bases["sd"], tmp_path / "other")
    index = tmp_path / "other" / "model_index.json"
    names = json.loads(index.read_text())
    index.write_text(json.dumps(names | {"_class_name": "StableDiffusionInstructPix2PixPipeline"}))
    with pytest.raises(UsageError, match="InstructPix2PixPipeline is not supported"):
        load_generator(base=str(tmp_path / "other"))


@pytest.mark.parametrize("options", [{"loras": [Lora(Path("x"))]}, {"controlnet": "x"}])
def test_additions_need_a_base(options):
    with pytest.raises(UsageError, match="has no effect without --base"):
        load_generator(**options)


# LoRA


def query(pipe):
    block = pipe.unet.down_blocks[0].attentions[0].transformer_blocks[0]
    return block.attn1.to_q


def test_a_lora_is_added_to_the_weights_by_its_scale(bases, tmp_path):
    pytest.importorskip("peft")
    from safetensors.torch import load_file

    file = tiny_lora(tmp_path / "style.safetensors")
    down, up = load_file(file).values()
    generator = load_generator(base=str(bases["sd"]), loras=[Lora(file, 0.5), Lora(file, 0.25)])
    plain = load_generator(base=str(bases["sd"]))
    before, after = (query(one.sampler.pipe) for one in (plain, generator))
    assert type(after) is torch.nn.Linear  # as before: hooks and offloading see no LoRA
    assert_close(after.weight, before.weight + 0.75 * up @ down)
    assert generator.sha256 == plain.sha256  # of the base alone
    assert [one.scale for one in generator.added] == [0.5, 0.25]
    assert not torch.equal(pixels(generator, size=LARGER), pixels(plain, size=LARGER))


@pytest.mark.parametrize(
    "changes",
    [{"features": 4}, {"layers": ("attn9.to_q",)}],
    ids=["size", "layers"],
)
def test_a_lora_of_another_base_is_refused(changes, bases, tmp_path):
    pytest.importorskip("peft")
    file = tiny_lora(tmp_path / "other.safetensors", **changes)
    with pytest.raises(WeightsError) as caught:
        load_generator(base=str(bases["sd"]), loras=[Lora(file)])
    assert caught.value.hint == "take a LoRA that was trained for this base"


def test_layers_of_a_lora_that_the_base_lacks_are_named(bases, tmp_path, caplog):
    pytest.importorskip("peft")
    file = tiny_lora(tmp_path / "more.safetensors", layers=("attn1.to_q", "attn9.to_q"))
    load_generator(base=str(bases["sd"]), loras=[Lora(file)])
    assert "more.safetensors: applied without 1 of its 2 layers" in caplog.text


def test_a_file_that_is_no_lora_is_refused(bases, tmp_path):
    pytest.importorskip("peft")
    (tmp_path / "x.safetensors").write_bytes(b"no tensors")
    with pytest.raises(WeightsError, match=r"x\.safetensors: not a LoRA"):
        load_generator(base=str(bases["sd"]), loras=[Lora(tmp_path / "x.safetensors")])


def test_without_peft_the_command_that_gets_it_is_told(bases, monkeypatch):
    find = pipelines.find_spec
    monkeypatch.setattr(pipelines, "find_spec", lambda name: None if name == "peft" else find(name))
    with pytest.raises(MissingExtra, match="LoRA files need peft"):
        load_generator(base=str(bases["sd"]), loras=[Lora(Path("x.safetensors"))])


# The context


@pytest.mark.parametrize("kind", ["sd", "xl"])
def test_the_context_holds_while_models_are_offloaded(kind, bases):
    pipe = pipelines.read_pipeline(str(bases[kind]), torch.float32)
    pipe.set_progress_bar_config(disable=True)

    def run():
        return pipe(
            "a fox",
            height=LARGER[0],
            width=LARGER[1],
            num_inference_steps=3,
            generator=torch.Generator().manual_seed(0),
            output_type="pt",
        ).images

    plain = run()
    with crafted(pipe, LARGER):
        wanted = run()
    assert not torch.equal(wanted, plain)
    pipe.enable_model_cpu_offload(device="cpu")
    with crafted(pipe, LARGER):  # applied after, and called twice
        assert torch.equal(run(), wanted)
        assert torch.equal(run(), wanted)
    with crafted(pipe, LARGER):
        pipe.enable_model_cpu_offload(device="cpu")  # applied within
        assert torch.equal(run(), wanted)
    assert torch.equal(run(), plain)


def test_a_checksum_is_of_all_weights_and_settings(bases):
    read = [pipelines.read_pipeline(str(bases["sd"]), torch.float32) for _ in range(3)]
    with torch.no_grad():
        read[1].vae.decoder.conv_out.bias += 1e-3
    read[2].scheduler = type(read[2].scheduler).from_config(
        read[2].scheduler.config, beta_schedule="linear"
    )
    checksums = [pipelines.weights_sha256(pipe) for pipe in read]
    again = pipelines.weights_sha256(pipelines.read_pipeline(str(bases["sd"]), torch.float32))
    assert checksums[0] == again
    assert len(set(checksums)) == 3


def test_the_unets_of_these_tests_have_the_layers_of_scalecrafter():
    names = [name for name, _ in UNet2DConditionModel(**UNET).named_modules()]
    assert "mid_block.resnets.0.conv1" in names
