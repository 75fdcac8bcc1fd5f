"""Plans of the files that prompts become."""

from pathlib import Path

import pytest

from restore_cli.batch.grids import file_name, plan_grids
from restore_cli.batch.jobs import Standard
from restore_cli.errors import OutputCollision, OutputError, OutputExists, UsageError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(prompts, output, count=1, seed=0, **options):
    """{target: (images, columns)}"""
    plan = plan_grids(prompts, output, count=count, seed=seed, model="fitv2", **options)
    return {str(grid.target): (grid.images, grid.columns) for grid in plan.grids}


@pytest.mark.parametrize(
    ("prompts", "output", "count", "wanted"),
    [
        (["a"], None, 1, {"a.png": ((("a", 5),), 1)}),
        (["a", "b c"], None, 1, {"a.png": ((("a", 5),), 1), "b-c.png": ((("b c", 5),), 1)}),
        (["a"], None, 3, {"a.png": ((("a", 5), ("a", 6), ("a", 7)), 2)}),
        (["a"], "x.jpg", 2, {"x.jpg": ((("a", 5), ("a", 6)), 2)}),
        (["a", "b"], "x.png", 1, {"x.png": ((("a", 5), ("b", 5)), 2)}),
        (["a"], "o/", 2, {"o/a_5.png": ((("a", 5),), 1), "o/a_6.png": ((("a", 6),), 1)}),
        (["a"], "{seed}.png", 2, {"5.png": ((("a", 5),), 1), "6.png": ((("a", 6),), 1)}),
        (["a"], "{index:02}.png", 2, {"00.png": ((("a", 5),), 1), "01.png": ((("a", 6),), 1)}),
        (["a"], "{model}-{prompt}.png", 2, {"fitv2-a.png": ((("a", 5), ("a", 6)), 2)}),
        (["a"], "-", 1, {"-": ((("a", 5),), 1)}),
    ],
    ids=["one", "each", "grid", "file", "all", "folder", "seed", "index", "template", "stdout"],
)
def test_images_go_where_the_output_says(prompts, output, count, wanted):
    assert planned(prompts, output, count, seed=5) == wanted


def test_several_of_several_prompts_in_one_file_are_a_row_for_each():
    ((images, columns),) = planned(["a", "b"], "x.png", count=3).values()
    assert columns == 3
    assert [prompt for prompt, _ in images] == ["a"] * 3 + ["b"] * 3


def test_a_folder_that_exists_is_one_without_a_slash(here):
    (here / "run.2").mkdir()
    assert [*planned(["a"], "run.2")] == ["run.2/a_0.png"]


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("A cat, on a mat!", "A-cat-on-a-mat"),
        ("../../etc", "etc"),
        ("?", "image"),
        ("日本", "日本"),
    ],
)
def test_a_prompt_becomes_a_name_that_every_system_takes(prompt, name):
    assert file_name(prompt) == name
    assert len(file_name("word " * 100)) <= 60


@pytest.mark.parametrize(
    ("prompts", "output", "error"),
    [
        ([""], None, UsageError),
        (["a"], "", UsageError),
        (["a"], "x.gif", UsageError),
        (["a"], "{nope}.png", UsageError),
        (["a"], "{seed.png", UsageError),
        (["a", "a"], None, OutputCollision),
        (["a", "A"], "o/", OutputCollision),
        (["a"], "file/x.png", OutputError),
    ],
)
def test_what_cannot_be_written_is_refused_before_any_work(prompts, output, error, here):
    (here / "file").touch()
    with pytest.raises(error):
        planned(prompts, output)


def test_what_exists_is_refused_skipped_or_replaced(here):
    (here / "a.png").touch()
    with pytest.raises(OutputExists, match=r"a\.png"):
        planned(["a"], None)
    assert [*planned(["a", "b"], None, existing="skip")] == ["b.png"]
    assert [*planned(["a"], None, existing="overwrite")] == ["a.png"]


def test_a_folder_in_the_place_of_a_file_is_refused(here):
    Path("a.png").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        planned(["a"], None, existing="overwrite")


def test_stdout_is_a_png():
    (grid,) = plan_grids(["a"], "-", count=1, seed=0, model="fitv2").grids
    assert (grid.target, grid.format) == (Standard.OUTPUT, "png")
