import pytest
from PIL import Image

from restore_cli import registry
from restore_cli.checkpoints.save import save


@pytest.fixture
def photo(tmp_path):
    """A small noisy image, alone in its folder."""
    path = tmp_path / "photo.png"
    Image.effect_noise((12, 9), 50).convert("RGB").save(path)
    return path


@pytest.fixture
def untrained(tmp_path):
    """Return a function that saves a network with random weights as NAME.safetensors."""

    def save_untrained(name, arch, **config):
        path = tmp_path / f"{name}.safetensors"
        save(registry.build(arch, **config), path, arch=arch, config=config, record={})
        return path

    return save_untrained


@pytest.fixture
def x2(untrained):
    return untrained("x2", "espcn", scale=2)


@pytest.fixture
def x3(untrained):
    return untrained("x3", "espcn", scale=3)
