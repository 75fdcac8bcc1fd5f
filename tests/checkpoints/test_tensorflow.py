"""A TensorFlow checkpoint, read without TensorFlow.

tensorflow/tiny.ckpt was written by tf.compat.v1.train.Saver of TensorFlow 2.21: the variables of a
C-BSN with 2 channels and 1 module, filled in the order of its layers by one RandomState(0).
"""

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from restore_cli.checkpoints import load
from restore_cli.checkpoints.library import import_weights
from restore_cli.checkpoints.read import read
from restore_cli.checkpoints.tensorflow import DATA_SUFFIX, FOOTER, MAGIC, parse
from restore_cli.errors import WeightsCorrupt, WeightsMismatch, WeightsMissing

TINY = Path(__file__).parent / "tensorflow" / "tiny.ckpt"
INDEX = TINY.with_name("tiny.ckpt.index")


@pytest.fixture
def copy(tmp_path):
    """The index of a copy of the checkpoint, to be damaged."""
    for path in TINY.parent.iterdir():
        shutil.copy(path, tmp_path)
    return tmp_path / INDEX.name


def test_each_variable_is_read_in_its_shape():
    state = read(INDEX).state
    draws = np.random.RandomState(0)
    kernel = draws.standard_normal((1, 1, 3, 2)).astype("float32")
    bias = draws.standard_normal(2).astype("float32")
    masked = draws.standard_normal((3, 3, 2, 2)).astype("float32")
    assert len(state) == 2 * 17
    np.testing.assert_array_equal(state["DBSN/conv0/kernel"], kernel)
    np.testing.assert_array_equal(state["DBSN/conv0/bias"], bias)
    np.testing.assert_array_equal(state["DBSN/B1/conv1/W1"], masked)


@pytest.mark.parametrize("path", [INDEX, TINY, str(INDEX)], ids=["index", "prefix", "text"])
def test_it_loads_as_the_network_that_it_is(path):
    network = load(path)
    assert (network.config.channels, network.config.num_module) == (2, 1)
    official = read(INDEX).state
    masked, spread = official["DBSN/B2/conv1/W1"], official["DBSN/B1/DCM0/conv1/kernel"]
    assert torch.equal(network.branches[1].look.weight, masked.permute(3, 2, 0, 1))
    assert torch.equal(network.branches[0].dcm[0].spread.weight[1, 0], spread[:, :, 0, 1])
    assert torch.equal(network.branches[1].look.bias, official["DBSN/B2/conv1/b1"])


def test_it_is_imported_under_its_own_name():
    assert import_weights(INDEX).name == "cbsn.tiny"
    assert load("cbsn.tiny").config.channels == 2


def test_without_its_data_file_both_are_named(copy):
    copy.with_name(TINY.name + DATA_SUFFIX).unlink()
    with pytest.raises(WeightsMissing, match=r"tiny\.ckpt\.data-00000-of-00001") as caught:
        read(copy)
    assert "two files, .index and .data" in caught.value.hint


def test_a_data_file_cut_short_is_damaged(copy):
    data = copy.with_name(TINY.name + DATA_SUFFIX)
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(WeightsCorrupt, match=r"^tiny\.ckpt\.index: damaged"):
        read(copy)


def varint(number):
    *low, high = [number >> shift & 0x7F for shift in range(0, max(1, number.bit_length()), 7)]
    return bytes([*(digit | 0x80 for digit in low), high])


def block(entries):
    """A block of a LevelDB table; entries: (bytes shared with the key before, rest, value)."""
    rows = (varint(s) + varint(len(k)) + varint(len(v)) + k + v for s, k, v in entries)
    return b"".join(rows) + bytes(4) + b"\1\0\0\0"


def table(index, blocks=b""):
    footer = bytes(2) + varint(len(blocks)) + varint(len(index))
    return blocks + index + footer.ljust(FOOTER - len(MAGIC), b"\0") + MAGIC


KEYS = block([(at, b"a", b"") for at in range(5_000)])
NUMBERS = block([(0, b"%d" % at, b"") for at in range(5_000)])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (table(b"\xff" * 10**6 + bytes(4)), "a number without an end"),
        (table(block([(0, b"a", varint(0) + varint(len(KEYS)))]), KEYS), "a name without an end"),
        (
            table(block([(0, b"a", varint(0) + varint(len(NUMBERS)))] * 5_000), NUMBERS),
            "blocks overlap",
        ),
    ],
    ids=["number", "name", "blocks"],
)
def test_an_index_that_would_never_end_is_damaged(data, reason):
    with pytest.raises(WeightsCorrupt, match="damaged") as caught:
        parse(data, b"", "x.index")
    assert str(caught.value.__cause__) == reason


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(at=1131, byte=0)  # the name of a tensor that the config is read from
@given(at=st.integers(0, INDEX.stat().st_size - 1), byte=st.integers(0, 255))
def test_a_damaged_index_gives_an_error_or_other_tensors_never_a_crash(at, byte, copy):
    index = bytearray(INDEX.read_bytes())
    index[at] = byte
    copy.write_bytes(index)
    with contextlib.suppress(WeightsCorrupt, WeightsMismatch):
        load(copy)
