"""The public Python interface: what goes in comes back, restored and of the same kind."""

import inspect
import math
import pydoc
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import PIL.Image
import pytest
import torch

import restore_cli as rc
from restore_cli.checkpoints.save import save
from restore_cli.errors import OutputExists, UnreadableImage, UsageError
from restore_cli.inference.options import RunOptions
from restore_cli.inference.restorer import load_restorer
from tests.pipelines import tiny_controlnet, tiny_lora, tiny_pipeline

HEIGHT, WIDTH = 11, 14
DOCUMENT = Path(__file__).parents[1] / "docs" / "python.md"


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A weight file of a DPENet that was never trained."""
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    torch.manual_seed(0)
    save(rc.build_network("dpenet"), path, arch="dpenet", config={}, record={})
    return path


@pytest.fixture
def derain(weights):
    """Options that keep the tests fast."""
    return {"weights": weights, "device": "cpu"}


@pytest.fixture
def rainy() -> torch.Tensor:
    return torch.rand(3, HEIGHT, WIDTH)


@pytest.fixture
def expected(rainy, weights) -> torch.Tensor:
    """The output of the network itself, float32."""
    options = RunOptions(weights=str(weights), device="cpu", precision="fp32")
    return load_restorer("derain", options).run(rainy)


def hwc(tensor: torch.Tensor) -> np.ndarray:
    return tensor.permute(1, 2, 0).numpy()


def assert_close(restored: np.ndarray, expected: torch.Tensor, atol: float) -> None:
    np.testing.assert_allclose(restored.astype(float), hwc(expected), rtol=0, atol=atol)


def test_a_tensor_comes_back_bit_for_bit_as_the_network_restores_it(rainy, expected, derain):
    restored = rc.restore("derain", rainy, **derain)
    assert restored.dtype == torch.float32
    assert torch.equal(restored, expected)


def test_a_restored_tensor_can_be_changed_in_place(rainy, derain):
    restored = rc.restore("derain", rainy, **derain)
    before = restored.clone()
    assert torch.equal(restored.mul_(0.5), before * 0.5)


def test_strength_0_returns_a_copy_of_the_tensor(rainy, derain):
    restored = rc.restore("derain", rainy, strength=0.0, **derain)
    assert torch.equal(restored, rainy)
    assert restored.data_ptr() != rainy.data_ptr()


def test_a_batch_of_tensors_is_restored_image_by_image(rainy, expected, derain):
    restored = rc.restore("derain", torch.stack([rainy, rainy.flip(2), rainy]), **derain)
    assert restored.shape == (3, 3, HEIGHT, WIDTH)
    assert torch.equal(restored[0], expected)
    assert torch.equal(restored[0], restored[2])
    assert not torch.equal(restored[0], restored[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_tensor_of_other_floats_keeps_its_type(dtype, rainy, derain):
    assert rc.restore("derain", rainy.to(dtype), **derain).dtype == dtype


@pytest.mark.parametrize(("dtype", "largest"), [(torch.uint8, 255), (torch.uint16, 65535)])
def test_an_integer_tensor_is_scaled_by_its_type(dtype, largest, derain):
    levels = torch.randint(0, largest + 1, (3, HEIGHT, WIDTH), dtype=torch.int32)
    restored = rc.restore("derain", levels.to(dtype), **derain)
    expected = rc.restore("derain", levels / largest, **derain)
    assert restored.dtype == dtype
    assert torch.equal(restored.to(torch.int32), (expected * largest).round().to(torch.int32))


@pytest.mark.parametrize(("dtype", "largest"), [("uint8", 255), ("uint16", 65535), (">u2", 65535)])
def test_an_integer_array_is_scaled_by_its_type(dtype, largest, rainy, derain):
    levels = (hwc(rainy) * largest).round().astype(dtype)
    exact = torch.from_numpy(levels.astype(np.float32)).permute(2, 0, 1) / largest
    restored = rc.restore("derain", levels, **derain)
    assert (restored.dtype, restored.shape) == (np.dtype(dtype), (HEIGHT, WIDTH, 3))
    expected = rc.restore("derain", exact, **derain)
    assert_close(restored / largest, expected, 0.51 / largest)  # half a level


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble"])
def test_a_float_array_keeps_its_type(dtype, rainy, derain):
    array = hwc(rainy).astype(dtype)
    restored = rc.restore("derain", array, **derain)
    exact = torch.from_numpy(array.astype(np.float32)).permute(2, 0, 1)
    assert restored.dtype == dtype
    assert_close(restored, rc.restore("derain", exact, **derain), 1e-3 if dtype == "float16" else 0)


@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (HEIGHT, WIDTH, 1), (HEIGHT, WIDTH, 4)])
def test_a_grey_array_or_one_with_alpha_keeps_its_shape(shape, derain):
    levels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert rc.restore("derain", levels, **derain).shape == shape


def test_alpha_is_not_restored(derain):
    levels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)
    restored = rc.restore("derain", levels, **derain)
    assert np.array_equal(restored[..., 3], levels[..., 3])


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_a_pil_image_keeps_its_mode_and_its_info(mode, derain):
    levels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)
    if mode == "I;16":
        image = PIL.Image.fromarray(levels[..., 0].astype(np.uint16) * 257)
    else:
        image = PIL.Image.fromarray(levels).convert(mode)
    image.info["icc_profile"] = b"profile"
    restored = rc.restore("derain", image, **derain)
    assert (restored.mode, restored.size) == (mode, (WIDTH, HEIGHT))
    assert restored.info["icc_profile"] == b"profile"
    assert restored.tobytes() != image.tobytes()


def with_transparent_colour() -> PIL.Image.Image:
    image = PIL.Image.new("RGB", (5, 5))
    image.info["transparency"] = (0, 0, 0)
    return image


@pytest.mark.parametrize(
    ("mode", "similar"), [("CMYK", "RGB"), ("PA", "RGBA"), ("I", "I;16"), ("I;16B", "I;16")]
)
def test_the_hint_for_a_pil_image_keeps_alpha_and_16_bits(mode, similar, derain):
    image = PIL.Image.new("LA", (5, 5)).convert(mode) if mode == "PA" else None
    with pytest.raises(UsageError) as refused:
        rc.restore("derain", image or PIL.Image.new(mode, (5, 5)), **derain)
    assert refused.value.hint == f'convert it: image.convert("{similar}")'


def test_a_truncated_file_opened_by_pil_is_unreadable(tmp_path, derain):
    levels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    PIL.Image.fromarray(levels).save(tmp_path / "half.png")
    data = (tmp_path / "half.png").read_bytes()
    (tmp_path / "half.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(UnreadableImage), PIL.Image.open(tmp_path / "half.png") as image:
        rc.restore("derain", image, **derain)


def test_a_matrix_of_numpy_is_an_array(derain):
    levels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH), np.uint8)
    restored = rc.restore("derain", levels.view(np.matrix), **derain)
    assert np.array_equal(restored, rc.restore("derain", levels, **derain))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("tile", 0),
        ("tile", "large"),
        ("tile", 64.5),
        ("overlap", -1),
        ("overlap", "off"),
        *(("strength", strength) for strength in (None, "0.5", math.nan, 1.5)),
        *(("noise_limit", limit) for limit in (None, "of", 256)),
        *(("precision", precision) for precision in (None, "fp8")),
        *(("scale", scale) for scale in (0, 1, -2, math.nan, math.inf, "2")),
    ],
)
def test_a_value_that_an_option_cannot_have_is_refused(option, value, rainy):
    with pytest.raises(UsageError, match=rf"{option} is {value!r}, wanted"):
        rc.restore("upscale", rainy, device="cpu", **{option: value})


def test_an_image_is_read_restored_and_written(tmp_path, derain):
    levels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    PIL.Image.fromarray(levels).save(tmp_path / "rainy.png", dpi=(300, 300))
    restored = rc.restore("derain", tmp_path / "rainy.png", **derain)
    rc.write_image(restored, tmp_path / "new" / "clean.png")
    with PIL.Image.open(tmp_path / "new" / "clean.png") as clean:
        assert np.array_equal(np.asarray(clean), rc.restore("derain", levels, **derain))
        assert clean.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_a_path_may_be_text_and_gives_an_image(tmp_path, derain):
    PIL.Image.new("RGB", (WIDTH, HEIGHT), "red").save(tmp_path / "red.png")
    assert isinstance(rc.restore("derain", str(tmp_path / "red.png"), **derain), rc.Image)


def test_an_image_comes_back_as_an_image(rainy, expected, derain):
    assert torch.equal(rc.restore("derain", rc.Image(rainy), **derain).pixels, expected)


@pytest.mark.parametrize("quality", [0, 101])
def test_a_quality_beyond_1_to_100_is_not_written(quality, tmp_path, rainy):
    with pytest.raises(UsageError, match=f"quality is {quality}"):
        rc.write_image(rc.Image(rainy), tmp_path / "x.jpg", quality=quality)
    assert list(tmp_path.iterdir()) == []


def test_an_array_is_not_written_as_an_image(tmp_path, rainy):
    with pytest.raises(UsageError, match="wanted an Image, not ndarray"):
        rc.write_image(hwc(rainy), tmp_path / "x.png")


def test_a_folder_is_not_read_as_an_image(tmp_path):
    with pytest.raises(UnreadableImage, match="a folder, not a file"):
        rc.read_image(tmp_path)


def test_nothing_is_overwritten_unasked(tmp_path, rainy):
    rc.write_image(rc.Image(rainy), tmp_path / "x.png")
    with pytest.raises(OutputExists):
        rc.write_image(rc.Image(rainy), str(tmp_path / "x.png"))
    rc.write_image(rc.Image(rainy), str(tmp_path / "x.png"), overwrite=True)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.full((3, 5, 5), 128.0), "values from 128 to 128"),
        (torch.full((3, 5, 5), -0.1), "values from -0.1 to -0.1"),
        (torch.full((3, 5, 5), torch.nan), "NaN or infinite values"),
        (np.full((5, 5, 3), 255.0), "values from 255 to 255"),
        (torch.zeros(3, 5, 5, dtype=torch.int64), "type int64"),
        (torch.zeros(3, 5, 5, dtype=torch.bool), "type bool"),
        (np.zeros((5, 5, 3), np.int32), "type int32"),
        (np.zeros((5, 5, 3), bool), "type bool"),
        (torch.zeros(4, 5, 5), "shape (4, 5, 5)"),
        (torch.zeros(3, 0, 5), "shape (3, 0, 5)"),
        (torch.zeros(0, 3, 5, 5), "shape (0, 3, 5, 5)"),
        (np.zeros((3, 5, 5), np.uint8), "shape (3, 5, 5)"),
        (PIL.Image.new("CMYK", (5, 5)), "mode CMYK"),
        (17, "not an image: int"),
        (torch.full((3, 5, 5), torch.inf), "NaN or infinite values"),
        (torch.zeros(3, 5, 5).to(torch.float8_e4m3fn), "type float8_e4m3fn"),
        (torch.zeros(3, 5, 5).to_sparse(), "sparse"),
        (torch.zeros(3, 5, 5, device="meta"), "meta"),
        (with_transparent_colour(), "mode RGB and a transparent colour"),
    ],
)
def test_what_cannot_be_an_image_is_refused_with_the_reason(image, message, derain):
    with pytest.raises(UsageError, match=re.escape(message)):
        rc.restore("derain", image, **derain)


def test_values_that_rounding_put_out_of_range_are_clamped(rainy, derain):
    near = rainy.clone()
    near[0, 0, :2] = torch.tensor([1 + 5e-4, -5e-4])
    assert torch.equal(
        rc.restore("derain", near, **derain), rc.restore("derain", near.clamp(0, 1), **derain)
    )


def test_a_misspelt_task_names_the_nearest_one(rainy):
    with pytest.raises(UsageError, match="no task is called 'derian'") as refused:
        rc.restore("derian", rainy)
    assert refused.value.hint == "the nearest: derain"


def test_a_misspelt_keyword_is_an_error_of_type(rainy):
    with pytest.raises(TypeError, match="noise_limt"):
        rc.restore("denoise", rainy, noise_limt=3)


def test_upscale_reaches_any_factor(rainy):
    assert rc.restore("upscale", rainy, scale=2.5, device="cpu").shape == (3, 28, 35)


def test_upscale_without_a_factor_takes_that_of_the_weights(rainy):
    assert rc.restore("upscale", rainy, weights="espcn.x3", device="cpu").shape == (3, 33, 42)


def test_a_task_that_keeps_the_size_takes_no_scale(rainy):
    with pytest.raises(UsageError, match="derain keeps the size"):
        rc.restore("derain", rainy, scale=2)


@pytest.mark.parametrize("noise_limit", [3, "off"])
def test_a_noise_limit_is_refused_where_no_noise_is_estimated(noise_limit, rainy, derain):
    with pytest.raises(UsageError, match="derain estimates no noise"):
        rc.restore("derain", rainy, noise_limit=noise_limit, **derain)


def test_a_tensor_with_channels_last_is_refused_with_their_place(derain):
    with pytest.raises(UsageError) as refused:
        rc.restore("derain", torch.rand(HEIGHT, WIDTH, 3), **derain)
    assert "channels come first in a tensor" in refused.value.hint


def test_a_restorer_returns_the_image_and_its_report(rainy, expected, derain):
    restorer = rc.load_restorer("derain", precision="fp32", **derain)
    result = restorer(rc.Image(rainy))
    assert isinstance(result, rc.Restored)
    assert torch.equal(result.image.pixels, expected)
    (step,) = result.report.steps
    assert (step.network, step.precision, step.height, step.width) == (
        "dpenet",
        "fp32",
        HEIGHT,
        WIDTH,
    )


def test_threads_share_one_restorer(derain):
    restorer = rc.load_restorer("derain", precision="fp32", tile=8, overlap=2, **derain)
    images = [rc.Image(torch.rand(3, 9 + n, 12)) for n in range(6)]
    alone = [restorer(image) for image in images]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(restorer, images))
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.image.pixels, other.image.pixels)
        assert one.report.height == other.report.height


def test_a_batch_keeps_kinds_and_order(tmp_path, rainy, derain):
    PIL.Image.new("RGB", (WIDTH, HEIGHT), "red").save(tmp_path / "red.png")
    images = [rainy, tmp_path / "red.png", hwc(rainy), rainy.flip(1), rainy]
    restored = list(rc.restore_batch(images, "derain", **derain))
    single = [rc.restore("derain", image, **derain) for image in images]
    assert [type(each) for each in restored] == [type(each) for each in single]
    for index in (0, 3, 4):
        assert torch.equal(restored[index], single[index])


def test_a_batch_is_read_as_it_is_used(rainy, derain):
    taken = []

    def endless() -> Iterator[torch.Tensor]:
        while True:
            taken.append(1)
            yield rainy

    restored = rc.restore_batch(endless(), "derain", **derain)
    next(restored)
    restored.close()
    assert len(taken) <= 4


def test_a_batch_restores_ahead_while_the_caller_works(rainy, derain):
    second_is_asked_for = Event()

    def two() -> Iterator[torch.Tensor]:
        yield rainy
        second_is_asked_for.set()
        yield rainy

    restored = rc.restore_batch(two(), "derain", **derain)
    next(restored)
    assert second_is_asked_for.is_set()
    assert len(list(restored)) == 1


def test_a_broken_file_of_a_batch_raises_in_its_turn(tmp_path, rainy, derain):
    (tmp_path / "broken.png").write_bytes(b"no image")
    restored = rc.restore_batch([rainy, tmp_path / "broken.png", rainy], "derain", **derain)
    next(restored)
    with pytest.raises(UnreadableImage, match=r"broken\.png"):
        next(restored)


def test_a_batch_of_one_path_is_refused_at_once(derain):
    with pytest.raises(UsageError, match=r"one path, 'photo\.png'"):
        rc.restore_batch("photo.png", "derain", **derain)


def test_a_batch_refuses_a_misspelt_task_at_once(rainy):
    with pytest.raises(UsageError, match="no task is called"):
        rc.restore_batch([rainy], "derian")


@pytest.mark.parametrize(
    ("network", "config"), [("mirnet", {"n_feat": 7}), ("espcn", {"scale": 1}), ("espcn", {"x": 1})]
)
def test_a_configuration_that_does_not_exist_is_a_usage_error(network, config):
    with pytest.raises(UsageError, match=f"{network}: "):
        rc.build_network(network, **config)


def test_a_network_that_generates_nothing_is_no_generator():
    with pytest.raises(UsageError, match="'espcn' is not a generator") as refused:
        rc.load_generator("espcn")
    assert refused.value.hint == "one of: fitv2, fitv1, scalecrafter, dimr"


def test_build_network_gives_a_module_with_random_weights():
    network = rc.build_network("espcn", scale=3)
    assert isinstance(network, torch.nn.Module)
    assert network(torch.rand(1, 1, 5, 6)).shape == (1, 1, 15, 18)


@pytest.mark.parametrize("name", rc.__all__)
def test_each_public_name_is_there_and_has_a_docstring(name):
    value = getattr(rc, name)
    assert name in dir(rc)
    if inspect.isroutine(value) or inspect.isclass(value):
        assert inspect.getdoc(value)


def test_help_shows_the_public_functions():
    text = pydoc.plain(pydoc.render_doc(rc))
    for name in ("restore(", "restore_batch(", "load_restorer(", "read_image(", "class Image"):
        assert name in text


def test_an_unknown_name_is_an_error_of_attribute():
    with pytest.raises(AttributeError, match="no attribute 'restoer'"):
        rc.restoer  # noqa: B018


def test_models_is_the_table_of_networks_before_and_after_an_import():
    before = rc.models
    import restore_cli.networks.espcn.model  # noqa: F401

    assert rc.models is before
    assert "dpenet" in before


@pytest.mark.slow
def test_a_users_script_is_checked_by_mypy(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "import numpy as np\n"
        "import PIL.Image\n"
        "import torch\n"
        "import restore_cli as rc\n"
        "reveal_type(rc.restore('derain', 'a.png', device='cpu', tile=64))\n"
        "reveal_type(rc.restore('derain', Path('a.png')))\n"
        "reveal_type(rc.restore('derain', torch.zeros(3, 4, 4)))\n"
        "reveal_type(rc.restore('derain', np.zeros((4, 4, 3), np.uint8)))\n"
        "reveal_type(rc.restore('derain', PIL.Image.new('RGB', (4, 4))))\n"
        "reveal_type(rc.load_restorer('upscale', scale=2)(rc.read_image('a.png')))\n"
        "for clean in rc.restore_batch([Path('a.png')], 'denoise', noise_limit=3):\n"
        "    rc.write_image(clean, 'b.png')\n"
        "reveal_type(rc.build_network('espcn', scale=3))\n"
        "rc.restore('derain', 'a.png', scael=2)\n"
        "rc.restoer\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(script)]
    checkout = DOCUMENT.parents[1]
    done = subprocess.run(command, capture_output=True, text=True, cwd=checkout)
    lines = [line for line in done.stdout.splitlines() if "script.py" in line]
    revealed = [line.split('"')[1] for line in lines if "Revealed" in line]
    image, restored = "restore_cli.imaging.image.Image", "restore_cli.inference.report.Restored"
    assert [re.sub(r"\[.*", "", each) for each in revealed] == [
        image,
        image,
        "torch._tensor.Tensor",
        "numpy.ndarray",
        "PIL.Image.Image",
        restored,
        "torch.nn.modules.module.Module",
    ]
    errors = [line for line in lines if " error: " in line]
    assert set(re.findall(r"script\.py:(\d+): error", done.stdout)) == {"15", "16"}
    assert 'did you mean "scale"' in errors[0] and "restoer" in errors[-1], done.stdout


def blocks(*, diffusers: bool) -> list[str]:
    """The code about pipelines of diffusers, which needs more packages, or all other."""
    text = DOCUMENT.read_text(encoding="utf-8")
    return [
        block
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        if ("stable-diffusion" in block) == diffusers
    ]


def test_the_code_of_the_document_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    (tmp_path / "photos").mkdir()
    for name in ("photo.png", "photos/a.png", "photos/b.png"):
        PIL.Image.fromarray(photo).save(tmp_path / name)
    names: dict[str, object] = {}
    for block in blocks(diffusers=False):
        exec(compile(block, str(DOCUMENT), "exec"), names)
    assert {path.name for path in tmp_path.iterdir()} >= {"clean.png", "large.png", "flower.png"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_code_about_pipelines_runs(tmp_path, monkeypatch):
    pytest.importorskip("peft")
    monkeypatch.chdir(tmp_path)
    tiny_pipeline("sd", tmp_path).rename("stable-diffusion-v1-5")
    tiny_controlnet(tmp_path / "control_v11p_sd15_canny")
    tiny_lora(tmp_path / "style.safetensors")
    for name in ("photo.png", "edges.png"):
        PIL.Image.effect_noise((32, 32), 50).save(name)
    names: dict[str, object] = {"rc": rc}
    for block in blocks(diffusers=True):
        exec(compile(block.replace("1024", "32"), str(DOCUMENT), "exec"), names)
    for name in ("painted", "fox", "painting", "house"):
        with PIL.Image.open(f"{name}.png") as image:
            assert image.size == (32, 32)
