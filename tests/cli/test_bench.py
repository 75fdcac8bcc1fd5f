import json
from functools import partial

import numpy as np
import pytest
from PIL import Image

from tests.cli.invoke import restore

bench = partial(restore, "bench")


FIELDS = {
    "cpu_seconds_per_megapixel",
    *("task", "model", "weights", "set", "protocol", "images", "psnr", "ssim", "ms_ssim"),
    *("seconds", "megapixels_per_second", "peak_memory_mb", "published", "baseline"),
}


pytestmark = pytest.mark.usefixtures("together")


@pytest.fixture
def pairs(tmp_path):
    """A folder of a pair that is to be derained."""
    folder = tmp_path / "my-rain"
    for seed, side in enumerate(("rainy", "clean")):
        (folder / side).mkdir(parents=True)
        levels = np.random.default_rng(seed).integers(0, 256, (18, 24, 3), np.uint8)
        Image.fromarray(levels).save(folder / side / "a.png")
    return folder


def test_quality_writes_the_document_and_says_where(pairs, random_weights, tmp_path):
    target = tmp_path / "report.json"
    result = bench("quality", "--set", pairs, "--model", random_weights, "--json", target)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{target}\n"
    document = json.loads(target.read_text())
    assert set(document) == {"version", "machine", "rows"}
    (row,) = document["rows"]
    assert set(row) >= FIELDS
    assert (row["set"], row["images"], row["error"]) == ("my-rain", 1, None)
    assert "my-rain" in result.stderr and "y_float" in result.stderr


def test_the_document_can_go_to_stdout(pairs, random_weights):
    result = bench("quality", "--set", pairs, "--model", random_weights, "--json", "-", "-q")
    assert result.stderr == ""
    assert len(json.loads(result.stdout)["rows"]) == 1


def test_a_page_with_crops_is_written(pairs, random_weights, tmp_path):
    target = tmp_path / "report.html"
    result = bench("quality", "--set", pairs, "--model", random_weights, "--html", target)
    assert result.stdout == f"{target}\n"
    assert target.read_text().count("<figure>") == 3  # input, output, reference


@pytest.mark.parametrize(
    ("option", "begins"),
    [
        ("--csv", "set,protocol,images,weights,PSNR"),
        ("--markdown", "| set | protocol |"),
        ("--latex", "\\begin{tabular}"),
    ],
)
def test_the_table_is_written_in_other_forms(pairs, random_weights, tmp_path, option, begins):
    target = tmp_path / "table.txt"
    result = bench("quality", "--set", pairs, "--model", random_weights, option, target)
    assert result.stdout == f"{target}\n"
    assert target.read_text().startswith(begins)
    assert "random" in target.read_text()


def test_a_broken_image_is_exit_6_and_the_rest_is_measured(pairs, random_weights, tmp_path):
    (pairs / "rainy" / "b.png").write_bytes(b"")
    Image.new("RGB", (24, 18)).save(pairs / "clean" / "b.png")
    result = bench("quality", "--set", pairs, "--model", random_weights, "--json", "-")
    assert result.exit_code == 6
    assert (json.loads(result.stdout)["rows"][0]["images"]) == 1
    assert "b.png: the file is empty" in result.stderr.replace(f"{pairs}/rainy/", "")


def test_speed_tells_how_many_times_as_fast_as_plain_pytorch(random_weights):
    result = bench("speed", "--model", random_weights, "--size", 24, "--rounds", 1, "--json", "-")
    assert result.exit_code == 0, result.stderr
    row = json.loads(result.stdout)["rows"][0]
    assert set(row) >= FIELDS
    assert row["times_plain"] > 0
    assert "times plain" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["quality", "--set", "set5", "--data", "."], 3, "set5 is not in ."),
        (["quality", "--set", "set6"], 2, "neither a folder nor a known set"),
        (["quality", "--data", "nowhere"], 3, "nowhere: no such folder"),
        (["quality", "--data", "."], 3, "has none of the sets"),
        (["quality", "--json", "no/folder/a.json"], 3, "no such folder"),
        (["quality", "--csv", "no/folder/a.csv"], 3, "no such folder"),
        (["quality", "--set", ".", "--task", "derain", "--peer", "a,b,2"], 2, "expected ncnn:"),
        (["speed", "--set", "set5", "--size", "64"], 2, "contradict each other"),
        (["speed", "--model", "dpenet.nowhere"], 4, "no weights are called 'dpenet.nowhere'"),
        (["speed", "--tile", "big"], 2, "--tile big: wanted"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_benchmark_that_cannot_run_is_one_line_and_a_hint(
    tmp_path, monkeypatch, arguments, code, said
):
    monkeypatch.chdir(tmp_path)
    result = bench(*arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr.splitlines()[0]
    assert result.stderr.count("\n") == 2


def test_weights_for_another_task_are_refused(pairs):
    result = bench("quality", "--set", pairs, "--model", "espcn.x2")
    assert result.exit_code == 3
    assert "no weights for my-rain" in result.stderr
