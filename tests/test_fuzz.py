"""Files, names, records and weights of any content end in a result or a RestoreError.

Longer than in the suite: make fuzz.
"""

import copy
import json
import os
import pickle
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_cli import registry
from restore_cli.batch.plan import plan
from restore_cli.batch.provenance import (
    as_json,
    from_text,
    grid_of,
    options_of,
    request_of,
    steps_of,
)
from restore_cli.checkpoints.load import load_checkpoint
from restore_cli.checkpoints.save import encoded
from restore_cli.errors import RestoreError
from restore_cli.imaging.io import decode
from tests.batch.test_provenance import GENERATED_ROW, ROW
from tests.imaging.test_io import WHOLE

many = settings(max_examples=max(300, settings.default.max_examples))

# Most of what can go wrong is decided by the first bytes, hence the cube.
PLACES = st.floats(0, 1).map(lambda place: place**3)
NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
INSERTS = st.one_of(
    st.binary(max_size=12),
    st.builds(
        lambda number, size, order: (number % 256**size).to_bytes(size, order),
        st.sampled_from(NUMBERS),
        st.sampled_from([1, 2, 4, 8]),
        st.sampled_from(["little", "big"]),
    ),
)
EDITS = st.lists(
    st.tuples(st.sampled_from(["put", "insert", "delete", "repeat", "cut"]), PLACES, INSERTS),
    min_size=1,
    max_size=6,
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)
NAMES = st.one_of(  # of files on POSIX: any bytes
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30),
    st.binary(max_size=30).map(lambda name: os.fsdecode(name.replace(b"\0", b"{"))),
)
OUTPUTS = (
    st.none() | NAMES | st.sampled_from(["{name", "{name.__class__}/", "{}{0}", "out/{scale}"])
)


def edited(data, edits):
    data = bytearray(data)
    for kind, place, part in edits:
        at = int(place * len(data))
        stop = at + len(part)
        if kind == "cut":
            del data[max(1, at) :]
        else:
            data[at : at if kind == "insert" else stop] = {
                "put": part,
                "insert": part,
                "delete": b"",
                "repeat": data[at:stop] * 3,
            }[kind]
    return bytes(data)


def weight_files():
    network = registry.build("espcn", scale=2)
    own = encoded(network.state_dict(), "own", arch="espcn", config={"scale": 2}, record={})
    return {"safetensors": own, "pickle": pickle.dumps({"weight": [1.0, 2]})}


@many
@given(kind=st.sampled_from(sorted(WHOLE)), edits=EDITS)
def test_any_image_is_read_or_refused(kind, edits):
    with suppress(RestoreError):
        pixels = decode(edited(WHOLE[kind], edits), name="photo").pixels
        assert bool(((pixels >= 0) & (pixels <= 1)).all())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz")
    for name in ("a.png", "b [1].jpg", "c.mp4", "sub/d.tif"):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(b"")
    return path


@many
@given(names=st.lists(NAMES, min_size=1, max_size=3), output=OUTPUTS, recursive=st.booleans())
def test_any_names_are_planned_or_refused(folder, names, output, recursive):
    sources = [str(folder), *(f"{folder}/{name}" for name in names)]
    target = None if output is None else f"{folder}/out/{output}"
    with suppress(RestoreError):
        plan(sources, target, task="derain", model="dpenet", recursive=recursive)


def places_in(row):
    """Yield each container of a JSON value with each of its keys."""
    for key in [*row] if isinstance(row, dict) else range(len(row)):
        yield row, key
        if isinstance(row[key], dict | list):
            yield from places_in(row[key])


@many
@given(generated=st.booleans(), place=st.integers(0, 999), value=ANYTHING)
def test_any_record_is_understood_or_refused(generated, place, value):
    row = copy.deepcopy(GENERATED_ROW if generated else ROW)
    places = list(places_in(row))
    container, key = places[place % len(places)]
    container[key] = value
    with suppress(RestoreError):
        record = from_text(json.dumps(row))
        as_json(record)
        steps_of(record)
        if record.prompts:
            request_of(record)
            grid_of(record, Path("out.png"))
        else:
            options_of(record)


@many
@given(edits=EDITS)
def test_any_text_is_a_record_or_refused(edits):
    with suppress(RestoreError):
        from_text(edited(json.dumps(ROW).encode(), edits).decode("utf-8", "replace"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights")
    torch.save({"state_dict": registry.build("espcn", scale=2).state_dict()}, path / "torch.pth")
    files = {"torch": (path / "torch.pth").read_bytes(), **weight_files()}
    return path / "edited.bin", files


@many
@given(kind=st.sampled_from(["torch", "safetensors", "pickle"]), edits=EDITS)
def test_any_weights_are_loaded_or_refused(weights, kind, edits):
    path, files = weights
    path.write_bytes(edited(files[kind], edits))
    with suppress(RestoreError), warnings.catch_warnings():
        load_checkpoint(path)
