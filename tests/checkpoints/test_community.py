"""Networks of spandrel through our pipeline, against spandrel's own forward pass."""

import pickle
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from restore_cli.checkpoints import community
from restore_cli.checkpoints.load import load_checkpoint
from restore_cli.checkpoints.read import WeightFile
from restore_cli.errors import InputError, UsageError, WeightsCorrupt, WeightsMismatch
from restore_cli.inference.options import RunOptions
from restore_cli.inference.restorer import Restorer, load_restorer
from tests.community import FOLDERS, SMALL, save_model, state_of

# Small sizes leave some branches without channels, and warnings of other projects stay theirs.
pytestmark = pytest.mark.filterwarnings("ignore")

SIZES = {"RestoreFormer": (32, 64)}  # of faces
EXACT = 1e-5  # float32 sum order


def file_of(state, name="model"):
    path = Path(f"{name}.pth")
    return WeightFile(path, "", state, None)


def restorer_of(path, task="denoise", **chosen):
    kept = {"device": "cpu", "precision": "fp32", "tile": "off", "weights": str(path)}
    return load_restorer(task, RunOptions(**kept | chosen))


def of_spandrel(spandrel, path, pixels):
    """The output of spandrel's own descriptor, with the noise of seed 0."""
    descriptor = spandrel.ModelLoader().load_from_file(path).eval()
    torch.manual_seed(0)
    return descriptor(pixels.clone()[None])[0]


@pytest.mark.parametrize("name", SMALL)
def test_the_result_is_that_of_spandrel(spandrel, tmp_path, name):
    path = save_model(tmp_path, name)
    pixels = torch.rand(3, *SIZES.get(name, (45, 67)))
    checkpoint = load_checkpoint(path)
    restored = Restorer(checkpoint, RunOptions(device="cpu", precision="fp32", tile="off"))
    assert_close(restored.run(pixels), of_spandrel(spandrel, path, pixels), atol=EXACT, rtol=0)
    assert checkpoint.spec.arch == FOLDERS.get(name, name).lower()


@pytest.mark.parametrize("name", ["Compact", "ESRGAN", "DnCNN", "SAFMNBCIE", "SwiftSRGAN"])
def test_tiles_give_the_result_of_the_whole_image(spandrel, tmp_path, name):
    path = save_model(tmp_path, name)
    pixels = torch.rand(3, 96, 141)
    task = load_checkpoint(path).spec.tasks[0]
    tiled = restorer_of(path, task, tile=64, noise_limit="off").run(pixels)
    # The overlap covers what these few layers see; SAFMN averages over the image.
    close = 0.02 if name == "SAFMNBCIE" else EXACT
    assert_close(tiled, of_spandrel(spandrel, path, pixels), atol=close, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (7, 13), (40, 9)], ids=str)
@pytest.mark.parametrize("name", ["SwinIR", "Uformer", "CRAFT"])  # minimum, square, multiple
def test_any_size_is_padded_as_spandrel_does(spandrel, tmp_path, name, size):
    path = save_model(tmp_path, name)
    pixels = torch.rand(3, *size)
    restored = Restorer(
        load_checkpoint(path), RunOptions(device="cpu", precision="fp32", tile="off")
    )
    assert_close(restored.run(pixels), of_spandrel(spandrel, path, pixels), atol=EXACT, rtol=0)


def test_a_grey_model_restores_each_channel_of_a_colour_image(spandrel, tmp_path):
    path = save_model(tmp_path, "DnCNN", in_nc=1, out_nc=1)
    restorer = restorer_of(path)
    colours = torch.rand(3, 21, 34)
    each = torch.cat([of_spandrel(spandrel, path, grey[None]) for grey in colours])
    assert_close(restorer.run(colours), each, atol=EXACT, rtol=0)
    assert_close(restorer.run(colours[:1]), each[:1], atol=EXACT, rtol=0)


def test_a_grey_model_with_a_map_of_the_noise_does_too(spandrel, tmp_path):
    path = save_model(tmp_path, "DRUNet", in_nc=2, out_nc=1)
    colours = torch.rand(3, 16, 24)
    each = torch.cat([of_spandrel(spandrel, path, grey[None]) for grey in colours])
    assert_close(restorer_of(path).run(colours), each, atol=EXACT, rtol=0)


def test_an_rgb_model_keeps_grey_images_grey(spandrel, tmp_path):
    path = save_model(tmp_path, "NAFNet")
    grey = torch.rand(1, 21, 34)
    mean = of_spandrel(spandrel, path, grey.expand(3, -1, -1)).mean(0, keepdim=True)
    assert_close(restorer_of(path).run(grey), mean, atol=EXACT, rtol=0)


def test_a_network_that_overwrites_its_input_leaves_the_image(spandrel, tmp_path):
    path = save_model(tmp_path, "RCAN", n_colors=1, norm=False)
    pixels = torch.rand(1, 24, 24)
    before = pixels.clone()
    restorer_of(path, "upscale").run(pixels)
    assert torch.equal(pixels, before)


def test_noise_that_a_network_draws_follows_the_seed(spandrel, tmp_path):
    path = save_model(tmp_path, "AuraSR")
    pixels = torch.rand(3, 32, 32)
    first, again, other = (
        restorer_of(path, "upscale", seed=seed).run(pixels) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_random_numbers_of_the_caller_go_on(spandrel, tmp_path):
    restorer = restorer_of(save_model(tmp_path, "AuraSR"), "upscale")
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    restorer.run(torch.zeros(3, 16, 16))
    assert torch.equal(torch.rand(2), expected)


def test_the_facts_are_those_of_the_descriptor(spandrel, tmp_path):
    facts = load_checkpoint(save_model(tmp_path, "Uformer")).spec.facts
    assert (facts.scale, facts.channels, facts.multiple) == (1, 3, 128)
    assert (facts.tiling, facts.precisions) == ("approximate", ("fp32", "tf32", "bf16"))


def test_tiling_that_is_discouraged_waits_for_the_memory_to_run_out(
    spandrel, tmp_path, monkeypatch
):
    path = save_model(tmp_path, "RetinexFormer")
    restorer = restorer_of(path, "enhance", tile="auto")
    free = "restore_cli.inference.runner.free_memory"
    monkeypatch.setattr(free, lambda device: 2**40)
    assert restorer.runner._first_tile(3000, 2000) is None
    monkeypatch.setattr(free, lambda device: 2**32)
    assert restorer.runner._first_tile(3000, 2000) == 288


def test_names_that_begin_with_model_are_found_below_the_prefixes_of_trainings(spandrel, tmp_path):
    plain = save_model(tmp_path, "DnCNN")
    wrapped = tmp_path / "wrapped.pth"
    state = {f"module.{key}": value for key, value in torch.load(plain).items()}
    torch.save({"state_dict": state, "epoch": 3}, wrapped)
    pixels = torch.rand(3, 20, 20)
    assert torch.equal(restorer_of(wrapped).run(pixels), restorer_of(plain).run(pixels))


def test_a_training_may_have_put_model_before_other_names(spandrel, tmp_path):
    path = tmp_path / "lightning.ckpt"
    torch.save({f"model.{key}": value for key, value in state_of("Compact").items()}, path)
    assert load_checkpoint(path).spec.arch == "compact"


def test_half_precision_weights_become_float32(spandrel, tmp_path):
    path = tmp_path / "half.pth"
    torch.save({key: value.half() for key, value in state_of("Compact").items()}, path)
    assert {each.dtype for each in load_checkpoint(path).module.parameters()} == {torch.float32}


def test_a_model_that_keeps_the_size_does_what_the_command_says(spandrel, tmp_path):
    path = save_model(tmp_path, "NAFNet")
    tasks = load_checkpoint(path).spec.tasks
    assert "upscale" not in tasks
    assert restorer_of(path, "dehaze").checkpoint.spec.tasks == ("dehaze",)


def test_a_denoiser_is_limited_only_by_a_sigma_that_is_given(spandrel, tmp_path):
    path = save_model(tmp_path, "KBNet_s")
    pixels = torch.rand(3, 48, 48)
    whole = of_spandrel(spandrel, path, pixels)
    assert_close(restorer_of(path).run(pixels), whole, atol=EXACT, rtol=0)
    limited = restorer_of(path, noise_limit=1.0).run(pixels)
    assert (limited - pixels).abs().mean() < 2 / 255


def test_exact_tiles_are_refused(spandrel, tmp_path):
    for name in ("NAFNet", "SCUNet"):  # tiles are supported, and discouraged
        with pytest.raises(UsageError, match="may have global operations"):
            restorer_of(save_model(tmp_path, name), exact=True, tile="auto")


def test_a_precision_that_a_model_does_not_support_is_refused(spandrel, tmp_path):
    with pytest.raises(UsageError, match="NAFNet does not work in fp16") as refused:
        restorer_of(save_model(tmp_path, "NAFNet"), precision="fp16")
    assert refused.value.hint == "use --precision fp32 or tf32 or bf16"


def test_a_face_has_the_size_of_its_network(spandrel):
    model = community.load(file_of(state_of("GFPGAN"), "GFPGAN"))
    assert model.likely == ("face",)
    assert model.spec.facts.tiling == "never"
    with pytest.raises(InputError, match="takes a face of 512x512 px, the image is 60x40"):
        model.module(torch.rand(1, 3, 40, 60))


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("Compact", {"num_in_ch": 4, "num_out_ch": 4}, "makes 4 channels of 4"),
        ("Compact", {"num_in_ch": 2, "num_out_ch": 2}, "makes 2 channels of 2"),
        ("DITN", {"inp_channels": 1}, "makes 3 channels of 1"),
        ("LaMa", {}, "LaMa fills masked areas"),
    ],
    ids=["alpha", "two channels", "other channels", "inpainting"],
)
def test_models_of_other_inputs_are_refused(spandrel, name, changes, reason):
    with pytest.raises(WeightsMismatch, match=reason):
        community.load(file_of(state_of(name, **changes)))


@pytest.mark.parametrize("names", community.DISCRIMINATORS.values(), ids=community.DISCRIMINATORS)
def test_discriminators_are_refused_by_name(names):
    with pytest.raises(WeightsMismatch, match=r"is the .*discriminator.* does not restore images"):
        community.load(file_of(dict.fromkeys(names, torch.zeros(1))))


def test_tensors_of_no_known_network_are_refused(spandrel, tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"body.w": torch.zeros(3), "head.w": torch.zeros(2)}, path)
    with pytest.raises(
        WeightsMismatch, match=r"no known network of restore or spandrel .*\(body.w, head.w"
    ):
        load_checkpoint(path)


def test_names_without_the_shapes_of_their_network_are_refused(spandrel, tmp_path):
    path = tmp_path / "broken.pth"
    state = state_of("NAFNet")
    torch.save({key: value[:1] for key, value in state.items()}, path)
    with pytest.raises(WeightsMismatch, match=r"broken.pth: does not fit NAFNet"):
        load_checkpoint(path)


def test_a_pickle_with_code_is_refused_before_spandrel_sees_it(tmp_path):
    path = tmp_path / "code.pth"
    path.write_bytes(pickle.dumps({"params": print}, protocol=2))
    with pytest.raises(WeightsCorrupt):
        load_checkpoint(path)


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    path = tmp_path / "RealESRGAN_x4plus.pth"
    torch.save({"conv_first.weight": torch.zeros(1)}, path)
    with pytest.raises(WeightsMismatch) as refused:
        load_checkpoint(path)
    assert refused.value.message.endswith("needs the extra: pip install 'restore-cli[models]'")


def test_a_torchvision_that_does_not_load_is_named(tmp_path, monkeypatch):
    package = tmp_path / "spandrel"
    package.mkdir()
    text = "raise RuntimeError('operator torchvision::nms does not exist')"
    (package / "__init__.py").write_text(text)
    for name in [name for name in sys.modules if name.partition(".")[0] == "spandrel"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WeightsMismatch, match="the installed one does not load") as refused:
        community.load(file_of({"conv_first.weight": torch.zeros(1)}))
    assert f"made for torch {torch.__version__}" in refused.value.message


def test_a_model_with_infinity_is_refused(spandrel, tmp_path):
    state = state_of("Compact")
    next(iter(state.values())).view(-1)[3] = torch.inf
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(WeightsCorrupt, match="holds NaN or infinity"):
        load_checkpoint(tmp_path / "x.pth")
