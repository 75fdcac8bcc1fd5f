import os
import shutil
import signal
import sys
from enum import Enum
from types import ModuleType

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile("busy", deadline=None)  # the machine may have others to serve
hypothesis.settings.register_profile("fuzz", deadline=None, max_examples=20_000)
hypothesis.settings.load_profile("busy")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def own_cache_and_no_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RESTORE_CONFIG", os.devnull)


@pytest.fixture(scope="module")
def browser():
    """Chromium: Debian's package, driven by Playwright."""
    reason = "pages are driven by Playwright"
    playwright = pytest.importorskip("playwright.sync_api", reason=reason)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as driver:
        options = ["--no-sandbox", "--disable-gpu"]
        opened = driver.chromium.launch(executable_path=chromium, args=options)
        yield opened
        opened.close()


@pytest.fixture
def random_weights(tmp_path):
    """A weight file of a DPENet that was never trained."""
    from restore_cli import registry
    from restore_cli.checkpoints.save import save

    path = tmp_path / "random.safetensors"
    save(registry.build("dpenet"), path, arch="dpenet", config={}, record={})
    return path


@pytest.fixture
def interruptible():
    """Where the tests run in the background, SIGINT is ignored, and so by all that they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def together(monkeypatch):
    """Measure rows in this process: starting one takes longer than all the rest."""

    def in_this_process(work, *arguments, on_progress):
        return work(*arguments, on_progress)

    monkeypatch.setattr("restore_cli.bench.quality.run_in_subprocess", in_this_process)
    monkeypatch.setattr("restore_cli.bench.speed.run_in_subprocess", in_this_process)


@pytest.fixture(scope="session")
def spandrel():
    """spandrel on a stand-in for the two functions of torchvision that it imports.

    A torchvision of another build than torch does not load. The stand-in goes after the import.
    """
    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setitem(sys.modules, name, ModuleType(name))
        functional = sys.modules[names[-1]]
        functional.InterpolationMode = Enum("InterpolationMode", ("BILINEAR", "NEAREST"))
        functional.rotate = None  # of a layer that no published model has
        functional.normalize = _normalize
        return pytest.importorskip("spandrel", reason="community models need the extra: spandrel")


def _normalize(image, mean, std):
    return (image - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
