"""The record of generated images, as it stands in a PNG."""

import json

import pytest
import torch

from restore_cli.batch.replay import generated_in
from restore_cli.errors import InputError
from restore_cli.imaging.image import Image, Metadata
from restore_cli.imaging.io import encode

RECORD = {
    "prompts": ["a ball", "ü"],
    "seeds": [1, 2],
    "model": "fitv2",
    "weights": "fitv2.default",
    "weights_sha256": "ab" * 32,
    "width": 64,
    "height": 48,
    "device": "cpu",
    "precision": "fp32",
    "settings": {"steps": 25},
    "torch": "2.13.0",
}


def png(*texts):
    return encode(Image(torch.rand(3, 4, 4), metadata=Metadata(texts=texts)), format="png")


def test_the_record_is_found_among_other_texts():
    data = png(("Software", "restore"), ("restore", json.dumps(RECORD, ensure_ascii=False)))
    found = generated_in(data)
    assert (found.prompts, found.seeds) == (("a ball", "ü"), (1, 2))
    assert (found.weights, found.settings) == ("fitv2.default", {"steps": 25})


@pytest.mark.parametrize(
    "data",
    [png(), png(("Software", "restore")), encode(Image(torch.rand(3, 4, 4)), format="jpeg")],
    ids=["no text", "another text", "no PNG"],
)
def test_other_images_have_none(data):
    assert generated_in(data) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": [1]},
        {"prompts": [], "seeds": []},
        {"prompts": [1, 2]},
        {"precision": "fp8"},
        {"settings": 7},
        {"unheard": 1},
    ],
    ids=str,
)
def test_a_damaged_record_is_refused(changes):
    with pytest.raises(InputError, match="cannot be understood"):
        generated_in(png(("restore", json.dumps(RECORD | changes))))


def test_what_is_no_record_is_refused():
    with pytest.raises(InputError, match="cannot be understood"):
        generated_in(png(("restore", "what?")))
