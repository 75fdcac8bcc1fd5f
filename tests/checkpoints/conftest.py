"""A folder of bundled weights to fill, and an official checkpoint that nobody trained."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

from restore_cli import assets

CASE = Path(__file__).parent.parent / "golden" / "dpenet-default" / "case.json"


@pytest.fixture(autouse=True)
def online(monkeypatch):
    monkeypatch.delenv("RESTORE_OFFLINE", raising=False)


@pytest.fixture
def official_state():
    """Small random values under the keys and shapes of the published DPENet files."""
    shapes = json.loads(CASE.read_text())["shapes"]
    return {key: 0.05 * torch.randn(shape) for key, shape in shapes.items()}


@pytest.fixture
def official_file(official_state, tmp_path):
    path = tmp_path / "Rain100H.pth"
    torch.save(official_state, path)
    return path


@pytest.fixture
def row_of():
    """row_of(file, **changes): a manifest entry for a file, as JSON."""
    return _row


def _row(file, **changes):
    row = {
        "name": "dpenet.default",
        "file": file.name,
        "arch": "dpenet",
        "tasks": None,
        "config": {},
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "size": file.stat().st_size,
        "url": None,
        "importer": None,
        "origin": "trained by this project",
        "licence": "Apache-2.0",
        "trained_on": "photographs with made rain",
        "scores": {"rain100l": {"psnr_y": 35.25}},
        "card": None,
    }
    return row | changes


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """bundle(*rows): make these the bundled entries; the folder is returned. At first, none."""
    folder = tmp_path / "bundled"
    folder.mkdir()
    monkeypatch.setattr(assets, "weights_dir", lambda: folder)

    def write(*rows):
        (folder / "manifest.json").write_text(json.dumps(rows))
        return folder

    write()
    return write


@pytest.fixture
def bundled(bundle, random_weights):
    """The entry, as JSON, of an untrained DPENet that is bundled as dpenet.default."""
    row = _row(random_weights)
    shutil.copy(random_weights, bundle(row))
    return row
