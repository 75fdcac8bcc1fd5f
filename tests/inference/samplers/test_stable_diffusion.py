"""Stable Diffusion in a folder of the user's: a tiny random one, built here."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from restore_cli.batch.provenance import record_of
from restore_cli.cli.main import app
from restore_cli.errors import MissingExtra, UsageError, WeightsError, WeightsMissing
from restore_cli.imaging.io import read
from restore_cli.inference.generator import load_generator
from restore_cli.inference.samplers import memory, pipelines
from restore_cli.inference.samplers.memory import MemoryPlan, plan_memory
from restore_cli.inference.samplers.request import GenerateRequest
from tests.pipelines import tiny_pipeline

GB = 1 << 30
SD_MODELS = (int(1.7 * GB), int(0.25 * GB), int(0.17 * GB))  # UNet, text encoder, VAE; float16


# Memory


@pytest.mark.parametrize(
    ("free", "side", "on_gpu", "plan"),
    [
        (24, 512, True, MemoryPlan()),
        (24, 2048, True, MemoryPlan()),
        (8, 2048, True, MemoryPlan(tiles=True)),
        (2.6, 512, True, MemoryPlan("model")),
        (1, 512, True, MemoryPlan("sequential", tiles=True, slices=True)),
        (3, 2048, False, MemoryPlan(tiles=True, slices=True)),
    ],
)
def test_less_memory_means_a_slower_plan(free, side, on_gpu, plan):
    assert plan_memory(int(free * GB), SD_MODELS, (side, side), width=2, on_gpu=on_gpu) == plan


def test_a_plan_is_written_in_words():
    assert str(MemoryPlan()) == "all at once"
    assert str(MemoryPlan("model", tiles=True)) == "one model at a time on the GPU, VAE in tiles"


class Recorder:
    """Remembers which methods were called."""

    def __init__(self):
        self.called = []
        self.vae = self

    def __getattr__(self, name):
        return lambda *values, **named: self.called.append(name)


@pytest.mark.parametrize(
    ("plan", "called"),
    [
        (MemoryPlan(), ["to"]),
        (MemoryPlan("model", tiles=True), ["enable_tiling", "enable_model_cpu_offload"]),
        (
            MemoryPlan("sequential", slices=True),
            ["enable_attention_slicing", "enable_sequential_cpu_offload"],
        ),
    ],
    ids=["none", "model", "sequential"],
)
def test_a_plan_is_carried_out(plan, called):
    pipe = Recorder()
    memory.apply_plan(pipe, plan, torch.device("cpu"))
    assert pipe.called == called


# Refusals


def test_without_the_text_packages_the_command_that_gets_them_is_told(monkeypatch):
    monkeypatch.setattr(pipelines, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="transformers and accelerate") as caught:
        load_generator(base="sd")
    assert caught.value.hint == "pip install transformers accelerate"


@pytest.fixture
def packages(monkeypatch):
    """As if the text packages were there: what is refused before they are used needs none."""
    monkeypatch.setattr(pipelines, "find_spec", lambda name: name)
    monkeypatch.setattr(pipelines, "quiet_libraries", lambda: pytest.MonkeyPatch.context())
    monkeypatch.setenv("RESTORE_OFFLINE", "1")


def refused(base, error):
    with pytest.raises(error) as caught:
        pipelines.read_pipeline(str(base), torch.float32)
    return caught.value


def test_a_folder_that_is_no_pipeline_is_refused_with_the_way_to_one(packages, tmp_path):
    error = refused(tmp_path, WeightsMissing)
    assert "contains no model_index.json" in error.message
    assert error.hint.endswith(f"--local-dir {tmp_path}")


@pytest.mark.parametrize("name", ["nowhere.safetensors", "./nowhere", "nowhere", "a/b/c"])
def test_a_base_that_is_not_there_is_refused(name, packages, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(name, WeightsMissing)


# A real pipeline


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The folder of a StableDiffusionPipeline of a few thousand random weights."""
    return tiny_pipeline("sd", tmp_path_factory.mktemp("base"))


def generate(*arguments):
    words = ["generate", "a sunflower", *map(str, arguments), "--steps", "3"]
    return CliRunner().invoke(app, words)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_prompt_becomes_an_image_beyond_the_trained_size(base, tmp_path):
    target = tmp_path / "out.png"
    result = generate("--base", base, "--size", "32x24", "-o", target, "--json")
    assert result.exit_code == 0, result.stderr
    row = json.loads(result.stdout)
    assert (row["model"], row["weights"], row["width"]) == ("scalecrafter", str(base), 32)
    assert "memory: all at once" in result.stderr
    with Image.open(target) as image:
        assert image.size == (32, 24)
    record = record_of(read(target), target.read_bytes())
    assert record.settings["guidance"] == 7.5


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_each_choice_changes_what_a_prompt_becomes(base):
    generator = load_generator(base=str(base), size=(32, 32))
    changes = [
        {},
        {"direct": True},
        {"sampler": "euler"},
        {"sampler": "ddpm"},
        {"negative": "b"},
        {"guidance": 2.0},
    ]
    images = [
        generator("a sunflower", size=(32, 32), steps=3, **change).image.pixels
        for change in changes
    ]
    again = generator("a sunflower", size=(32, 32), steps=3).image.pixels
    assert torch.equal(again, images[0])  # the pipeline is as before
    for changed in images[1:]:
        assert (changed - images[0]).abs().max() > 1e-4


@pytest.mark.parametrize("part", ["text_encoder", "unet"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_missing_part_is_told_with_the_way_to_it(part, base, tmp_path):
    broken = tmp_path / "broken"
    for file in (path for path in base.rglob("*") if path.is_file()):
        if part not in file.parts:
            copy = broken / file.relative_to(base)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(Path(file).read_bytes())
    error = refused(broken, WeightsError)
    assert "not a readable pipeline" in error.message
    assert "hf download" in error.hint


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("change", "message"), [({"rope": "yarn"}, "--rope"), ({"sampler": "sde"}, "--sampler sde")]
)
def test_what_a_pipeline_has_no_use_for_is_refused(change, message, base):
    with pytest.raises(UsageError, match=message):
        load_generator(base=str(base)).resolve(GenerateRequest("a", **change))
