import json
from functools import partial

import numpy as np
import pytest
from PIL import Image

from tests.cli.invoke import restore
from tests.report.pages import Elements

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
    assert set(document) == {"version", "machine", "options", "rows"}
    (row,) = document["rows"]
    assert set(row) >= FIELDS
    assert (row["set"], row["images"], row["error"]) == ("my-rain", 1, None)
    assert "my-rain" in result.stderr and "y_float" in result.stderr


def test_the_document_can_go_to_stdout(pairs, random_weights):
    result = bench("quality", "--set", pairs, "--model", random_weights, "--json", "-", "-q")
    assert result.stderr == ""
    assert len(json.loads(result.stdout)["rows"]) == 1


def test_a_page_with_images_is_written(pairs, random_weights, tmp_path):
    target = tmp_path / "report.html"
    result = bench("quality", "--set", pairs, "--model", random_weights, "--html", target)
    assert result.stdout == f"{target}\n"
    elements = Elements(target.read_bytes())
    crops = [image["alt"] for image in elements.all("img") if image["alt"].startswith("Crop")]
    assert [crop.split(":")[1].strip() for crop in crops] == ["input", "random", "reference"]


def test_resume_measures_what_is_not_in_the_document(pairs, random_weights, tmp_path):
    target = tmp_path / "report.json"
    arguments = ["quality", "--set", pairs, "--model", random_weights, "--json", target]
    assert bench(*arguments, "--resume").exit_code == 0  # no file yet
    document = json.loads(target.read_text())
    (row,) = document["rows"]
    kept = [row | {"psnr": 99.0}, row | {"set": "another"}]
    target.write_text(json.dumps(document | {"rows": kept}))
    assert bench(*arguments, "--resume").exit_code == 0
    assert json.loads(target.read_text())["rows"] == kept
    assert bench(*arguments).exit_code == 0
    assert json.loads(target.read_text())["rows"][0]["psnr"] == row["psnr"]


def test_resume_refuses_figures_that_were_measured_otherwise(pairs, random_weights, tmp_path):
    target = tmp_path / "report.json"
    arguments = ["quality", "--set", pairs, "--model", random_weights, "--json", target]
    bench(*arguments)
    other = bench(*arguments, "--resume", "--tile", 16)
    assert other.exit_code == 2
    assert "was measured with another option" in other.stderr


@pytest.mark.parametrize(
    ("lost", "arguments", "code"),
    [(0.0, [], 0), (0.2, [], 7), (0.2, ["--psnr", "0.5"], 0)],
    ids=["equal", "worse", "tolerated"],
)
def test_diff_exits_with_7_on_a_regression(pairs, random_weights, tmp_path, lost, arguments, code):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    bench("quality", "--set", pairs, "--model", random_weights, "--json", old)
    document = json.loads(old.read_text())
    document["rows"][0]["psnr"] -= lost
    new.write_text(json.dumps(document))
    result = bench("diff", old, new, *arguments)
    assert result.exit_code == code
    assert ("regression: random on my-rain (y_float): psnr" in result.stdout) == (code == 7)


@pytest.mark.parametrize("text", ["{", "[]", '{"rows": [{}]}', '{"rows": 3}'])
def test_diff_refuses_what_is_no_document(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    result = bench("diff", tmp_path / "a.json", tmp_path / "a.json")
    assert result.exit_code == 3
    assert "a.json: no document of restore bench" in result.stderr


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
        (["quality", "--set", "set5", "--resume"], 2, "--resume continues a JSON file"),
        (["diff", "no.json", "no.json"], 3, "no.json: No such file"),
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
