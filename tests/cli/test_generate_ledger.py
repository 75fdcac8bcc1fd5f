"""`restore generate --ledger`: the same rows, shards and retries as for restored files."""

import os
from functools import partial

import pytest
import torch
from PIL import Image

from restore_cli.batch.ledger import Ledger
from restore_cli.errors import BrokenOutput
from restore_cli.inference.generator import Generator
from tests.cli.invoke import restore, rows
from tests.cli.test_generate import FIT, weights_file
from tests.test_startup import HEAVY, loaded_by

THREE = ("ball", "--count", 3, "-o", "out/", "--steps", 2, "--ledger", "run.sqlite")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    return weights_file(tmp_path_factory.mktemp("weights") / "fit.safetensors", "fitv2", FIT)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def generate(weights):
    return partial(restore, "generate", "--weights", weights)


@pytest.fixture
def failing(monkeypatch):
    """Return a function: the image of this seed fails with this error, once."""
    actual = Generator.sample

    def fail(seed, error):
        def sample(self, request, one, **options):
            if one == seed:
                monkeypatch.setattr(Generator, "sample", actual)
                raise error
            return actual(self, request, one, **options)

        monkeypatch.setattr(Generator, "sample", sample)

    return fail


def statuses():
    return [item.status for item in Ledger(os.path.abspath("run.sqlite")).items()]


def planned(result):
    """Names of the files that a dry run would write."""
    return [line.rpartition("/")[2] for line in result.stdout.splitlines()]


def test_a_second_run_generates_nothing_and_loads_no_torch(generate, weights, here, monkeypatch):
    names = [f"out/ball_{seed}.png" for seed in range(3)]
    assert generate(*THREE).stdout.split() == names
    monkeypatch.undo()  # the other process imports the package from here
    places = ("-o", f"{here}/out/", "--ledger", here / "run.sqlite", "--weights", weights)
    again = [*map(str, ("generate", *THREE, *places))]
    code = (
        "from restore_cli.cli.main import app\n"
        f"try:\n    app({again!r})\n"
        "except SystemExit as end:\n    assert not end.code"
    )
    assert not HEAVY & loaded_by(code)


def test_a_row_names_the_images_and_the_weights(generate):
    generate("ball", "sunflower", "--count", 2, "-o", "grid.png", "--ledger", "run.sqlite")
    (item,) = rows(restore("ledger", "export", "run.sqlite"))
    assert item["source"] == "seeds 0 to 1: ball sunflower"
    assert item["target"] == os.path.abspath("grid.png")
    assert (item["status"], item["weights"], item["size"]) == ("ok", "fit", 4)
    assert len(item["output_sha256"]) == 64


def test_an_interrupted_run_goes_on_where_it_ended(generate, failing):
    failing(1, KeyboardInterrupt())
    assert generate(*THREE).exit_code == 130
    assert statuses() == ["ok", "started"]
    assert generate(*THREE).stdout.split() == ["out/ball_1.png", "out/ball_2.png"]
    assert statuses() == ["ok"] * 3


def test_an_image_that_was_in_work_is_replaced(generate, failing):
    failing(1, KeyboardInterrupt())
    generate(*THREE)
    Image.new("RGB", (1, 1)).save("out/ball_1.png")  # written, but not its row
    assert generate(*THREE).exit_code == 0
    with Image.open("out/ball_1.png") as image:
        assert image.size == (8, 8)


def test_one_that_fails_does_not_stop_the_others_and_is_repeated_when_asked(generate, failing):
    failing(1, BrokenOutput("the network produced NaN or infinity"))
    first = generate(*THREE, "--json")
    assert [row["status"] for row in rows(first)] == ["ok", "failed", "ok"]
    assert first.exit_code == 6
    again = generate(*THREE, "--json")
    assert sorted(row["status"] for row in rows(again)) == ["failed", "skipped", "skipped"]
    assert "seed 1: ball: the network produced NaN" in again.stderr
    assert again.exit_code == 6
    assert generate(*THREE, "--retry-failed").stdout == "out/ball_1.png\n"


def test_the_only_image_that_fails_ends_with_its_own_code(generate, failing):
    failing(0, BrokenOutput("the network produced NaN or infinity"))
    result = generate("ball", "--steps", 2)
    assert (result.exit_code, result.stdout) == (BrokenOutput.exit_code, "")


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (["--count", 4], ["ball_3.png"]),
        (["sunflower"], [f"sunflower_{seed}.png" for seed in range(3)]),
        (["--size", "16x16"], [f"ball_{seed}.png" for seed in range(3)]),
        (["--guidance", 3], [f"ball_{seed}.png" for seed in range(3)]),
        (["--device", "cpu", "--quiet"], []),
    ],
    ids=["count", "class", "size", "guidance", "no effect"],
)
def test_only_what_the_request_changes_is_generated(generate, change, names):
    generate(*THREE)
    assert planned(generate(*THREE, *change, "--dry-run")) == names


def test_other_prompts_in_one_grid_are_another_item(generate):
    grid = ("-o", "grid.png", "--steps", 2, "--ledger", "run.sqlite")
    generate("ball", "ball", "sunflower", *grid)
    assert planned(generate("ball", "sunflower", "sunflower", *grid, "--dry-run"))
    assert not planned(generate("ball", "ball", "sunflower", *grid, "--dry-run"))


def test_other_weights_under_the_same_name_generate_everything_again(generate, here, weights):
    own = here / "own.safetensors"
    own.write_bytes(weights.read_bytes())
    restore("generate", *THREE, "--weights", own)
    torch.manual_seed(1)
    weights_file(own, "fitv2", FIT)
    assert len(planned(restore("generate", *THREE, "--weights", own, "--dry-run"))) == 3


def test_a_lost_file_is_generated_again(generate, here):
    generate(*THREE)
    (here / "out/ball_1.png").unlink()
    assert planned(generate(*THREE, "--dry-run")) == ["ball_1.png"]


def test_a_file_that_is_not_of_the_ledger_is_refused_or_skipped(generate, here):
    (here / "out").mkdir()
    (here / "out/ball_1.png").write_bytes(b"precious")
    assert generate(*THREE).exit_code == 3
    assert generate(*THREE, "--skip-existing").stdout.split() == [
        "out/ball_0.png",
        "out/ball_2.png",
    ]
    assert (here / "out/ball_1.png").read_bytes() == b"precious"


def test_shards_share_the_images_and_their_ledgers_merge(generate, here):
    for part in (1, 2, 3):
        book = ("--ledger", f"{part}.sqlite", "--shard", f"{part}/3")
        assert generate("ball", "--count", 6, "-o", "out/", "--steps", 2, *book).exit_code == 0
    assert len(list((here / "out").iterdir())) == 6
    restore("ledger", "merge", "run.sqlite", "1.sqlite", "2.sqlite", "3.sqlite")
    assert statuses() == ["ok"] * 6
    assert not planned(generate(*THREE, "--count", 6, "--dry-run"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--retry-failed"], "--retry-failed needs a ledger"),
        (["-o", "-", "--ledger", "run.sqlite"], "--ledger and - contradict each other"),
        (["--shard", "3/2"], "wanted I/N"),
        (["--ledger", "s3://bucket/run.sqlite"], "a ledger takes a local path"),
    ],
    ids=["retry", "stdout", "shard", "URL"],
)
def test_what_fits_no_ledger_is_refused(generate, options, message):
    result = generate("ball", *options)
    assert result.exit_code == 2
    assert message in result.stderr
