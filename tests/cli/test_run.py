from functools import partial

import pytest

from tests.cli.invoke import restore, rows, size_of

run = partial(restore, "run")


@pytest.fixture
def weights(x2, random_weights):
    """Options that name untrained weights for derain and upscale."""
    return "--weights", f"derain={random_weights}", "--weights", f"upscale={x2}"


def test_steps_follow_each_other(photo, weights):
    result = run(photo, "--steps", "derain,upscale:2", *weights)
    assert result.exit_code == 0, result.stderr
    target = photo.with_name("photo_restored.png")
    assert result.stdout == f"{target}\n"
    assert size_of(target) == (24, 18)


def test_a_factor_between_those_of_the_weights_is_made_smaller(photo, weights):
    result = run(photo, "--steps", "upscale:1.5", *weights[2:])
    assert result.exit_code == 0, result.stderr
    assert size_of(photo.with_name("photo_restored.png")) == (18, 14)


def test_the_hint_for_a_factor_out_of_reach_works(photo):
    result = run(photo, "--steps", "upscale:9")
    assert result.exit_code == 2
    steps = result.stderr.split("run --steps ")[1].strip()
    assert run(photo, "--steps", steps, "--dry-run").exit_code == 0


def test_json_names_each_network(photo, weights):
    result = run(photo, "--steps", "derain, upscale", "--json", *weights)
    (row,) = rows(result)
    assert (row["model"], row["weights"]) == ("dpenet+espcn", "random+x2")
    assert [len(digest) for digest in row["weights_sha256"].split("+")] == [64, 64]
    assert (row["width"], row["height"], row["tile"]) == (24, 18, None)


def test_a_template_knows_networks_and_factor(photo, weights, tmp_path):
    steps = ("--steps", "derain,upscale:2")
    template = tmp_path / "{stem}-{task}-{model}-x{scale}{ext}"
    result = run(photo, *steps, "-o", template, "--dry-run")
    assert result.stdout.endswith("photo-restored-dpenet+espcn-x2.png\n")


def test_one_bad_file_does_not_stop_the_rest(photo, weights):
    (photo.parent / "bad.png").write_bytes(b"")
    result = run(photo.parent, "--steps", "derain", *weights[:2])
    assert result.exit_code == 6
    assert photo.with_name("photo_restored.png").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--steps", "derain,sharpen"], "no step is called 'sharpen'"),
        (["--steps", ""], "no step is called ''"),
        (["--steps", "derain:2"], "derain takes no number"),
        (["--steps", "upscale:1"], "--steps upscale:1: wanted a factor above 1"),
        (["--steps", "derain", "--weights", "dpenet.default"], "wanted STEP=NAME"),
        (["--steps", "derain", "--weights", "upscale=espcn.x2"], "wanted STEP=NAME"),
        (["--steps", "derain", "--model", "derain=espcn"], "'espcn' does not derain"),
        (
            ["--steps", "derain", "--model", "derain=dpenet", "--model", "derain=dpenet"],
            "derain has been given already",
        ),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else "",
)
def test_steps_that_make_no_sense_are_one_line_a_hint_and_exit_2(photo, options, said):
    result = run(photo, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr.splitlines()[0]
    assert result.stderr.count("\n") == 2


def test_steps_must_be_named(photo):
    result = run(photo)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--steps" in result.stderr
