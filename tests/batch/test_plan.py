"""From sources to jobs: names alone, without reading an image."""

import os
import re
import shlex
import sys
from pathlib import Path

import pytest
from PIL import Image

from restore_cli.batch.jobs import Standard
from restore_cli.batch.naming import template_fields
from restore_cli.batch.plan import Enlargement, contains_videos, plan
from restore_cli.batch.sources import describe_passed_over
from restore_cli.errors import (
    NothingToDo,
    OutputCollision,
    OutputError,
    OutputExists,
    UnreadableImage,
    UsageError,
)
from restore_cli.imaging.formats import readable_suffixes
from restore_cli.inference.options import ImageSize
from tests.imaging.images import noise, png_file

posix_only = pytest.mark.skipif(os.name != "posix", reason="POSIX file names")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder, so that plans are short to write."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names):
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def planned(*sources, output=None, **options):
    return plan(sources, output, task="derain", model="dpenet", **options)


def moves(*sources, **options):
    """{source: target} with / between folders."""
    jobs = planned(*sources, **options).jobs
    return {Path(job.source).as_posix(): Path(job.target).as_posix() for job in jobs}


def test_a_file_lands_beside_its_source(here):
    touch("in/a.png")
    assert moves("in/a.png") == {"in/a.png": "in/a_derained.png"}


def test_a_template_names_outputs_beside_their_sources_which_are_no_sources_later(here):
    touch("in/a.png", "in/a_x4.png", "in/a_x2.5.png", "in/a_x1920x.jpg", "in/b_xy.png", "in/a.v1")
    wanted = {"in/a.png": "in/a_x2.png", "in/b_xy.png": "in/b_xy_x2.png"}
    output = "{folder}/{stem}_x{scale}{ext}"
    assert moves("in", output=output, scale=Enlargement(2)) == wanted
    assert moves("in/*.png", output=output, scale=Enlargement(2)) == wanted


def test_a_template_without_a_mark_of_its_own_takes_all_sources(here):
    touch("in/a.png", "in/b.png")
    output = "{folder}/{stem}.jpg"
    assert moves("in", output=output) == {"in/a.png": "in/a.jpg", "in/b.png": "in/b.jpg"}


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("a.JPG", "out/a.JPG"),
        ("a.jpeg", "out/a.jpeg"),
        ("a.tif", "out/a.tif"),
        ("a.webp", "out/a.webp"),
        ("a.gif", "out/a.png"),
        ("a.bmp", "out/a.png"),
        ("a.ppm", "out/a.png"),
        ("a.b.png", "out/a.b.png"),
        ("ü [x] {y}.png", "out/ü [x] {y}.png"),
    ],
)
def test_the_format_is_kept_where_it_can_be_written(here, source, target):
    touch(source)
    assert moves(source, output="out/") == {source: target}


@pytest.mark.parametrize(
    ("source", "format", "target"),
    [("a.png", "jpeg", "a.jpg"), ("a.jpeg", "jpeg", "a.jpeg"), ("a.tiff", "tiff", "a.tiff")],
)
def test_format_chooses_the_suffix_unless_it_says_so_already(here, source, format, target):
    touch(source)
    assert moves(source, output="out/", format=format) == {source: f"out/{target}"}


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("a.mp4", "out/a.mp4"),
        ("a.MOV", "out/a.MOV"),
        ("a.mkv", "out/a.mkv"),
        ("a.webm", "out/a.webm"),
        ("a.avi", "out/a.mkv"),
        ("a.ts", "out/a.mkv"),
    ],
)
def test_a_video_keeps_its_container_where_it_can_be_written(here, source, target):
    touch(source)
    assert moves(source, output="out/") == {source: target}
    assert moves(source, output="out/", format="png") == {source: target}


def test_a_video_lands_beside_its_source_or_where_a_template_says(here):
    touch("in/a.mp4", "in/b.avi")
    assert moves("in/a.mp4") == {"in/a.mp4": "in/a_derained.mp4"}
    assert moves("in", output="{rel}/{stem}-dry{ext}") == {
        "in/a.mp4": "a-dry.mp4",
        "in/b.avi": "b-dry.mkv",
    }


def test_a_folder_gives_videos_but_no_programs(here):
    touch("in/a.png", "in/b.mp4", "in/program.ts", "in/.hidden.mp4", "in/b_derained.mp4")
    results = {"in/a.png": "in/a_derained.png", "in/b.mp4": "in/b_derained.mp4"}
    assert moves("in", existing="overwrite") == results
    assert moves("in/*", existing="overwrite") == results


def test_a_video_becomes_no_image(here):
    touch("a.mp4")
    with pytest.raises(UsageError, match=r"out\.png: a video cannot become \.png"):
        planned("a.mp4", output="out.png")
    with pytest.raises(UsageError, match="cannot go to stdout"):
        planned("a.mp4", output="-")


def test_videos_that_would_become_one_file_are_refused(here):
    touch("a.avi", "a.mkv")
    with pytest.raises(OutputCollision):
        planned("a.avi", "a.mkv", output="out/")


def test_a_folder_gives_its_own_visible_images(here):
    touch("in/b.png", "in/a.jpg", "in/.hidden.png", "in/notes.txt", "in/deeper/c.png")
    assert moves("in", output="out") == {"in/a.jpg": "out/a.jpg", "in/b.png": "out/b.png"}


def test_recursive_mirrors_the_tree(here):
    touch("in/a.png", "in/x/b.png", "in/x/y/c.png", "in/.git/d.png")
    assert moves("in", output="out", recursive=True) == {
        "in/a.png": "out/a.png",
        "in/x/b.png": "out/x/b.png",
        "in/x/y/c.png": "out/x/y/c.png",
    }


def test_links_to_folders_are_not_followed(here):
    touch("in/a.png")
    (here / "in" / "again").symlink_to(here / "in", target_is_directory=True)
    assert moves("in", output="out", recursive=True) == {"in/a.png": "out/a.png"}


def test_an_output_folder_inside_the_source_is_no_source(here):
    touch("in/a.png", "in/out/a.png")
    sources = moves("in", output="in/out", recursive=True, existing="overwrite")
    assert sources == {"in/a.png": "in/out/a.png"}


def test_results_beside_their_sources_are_no_sources(here):
    touch("in/a.png", "in/a_derained.png")
    assert moves("in", existing="overwrite") == {"in/a.png": "in/a_derained.png"}


@pytest.mark.parametrize(
    ("pattern", "targets"),
    [
        ("in/*.png", ["out/a.png", "out/b.png"]),
        ("in/[ab].*", ["out/a.png", "out/b.png"]),
        ("in/**/*.png", ["out/a.png", "out/b.png", "out/x/c.png"]),
        ("i?/x/*", ["out/in/x/c.png"]),
    ],
)
def test_a_glob_is_mirrored_below_its_plain_part(here, pattern, targets):
    touch("in/a.png", "in/b.png", "in/x/c.png", "in/notes.txt")
    assert sorted(moves(pattern, output="out").values()) == targets


def test_a_name_with_brackets_is_a_file_before_it_is_a_glob(here):
    touch("[a].png", "a.png")
    assert moves("[a].png") == {"[a].png": "[a]_derained.png"}


@pytest.mark.parametrize(
    ("template", "target"),
    [
        ("{stem}-{task}{ext}", "a-derained.jpg"),
        ("out/{rel}/{stem}_{model}_x{scale}.png", "out/x/a_dpenet_x1.png"),
        ("{stem}.webp", "a.webp"),
        ("{parent}_{stem}_{suffix}{ext}", "x_a_jpg.jpg"),
    ],
)
def test_a_template_names_the_target(here, template, target):
    touch("in/x/a.jpg")
    assert moves("in", output=template, recursive=True) == {"in/x/a.jpg": target}


def test_a_folder_with_braces_is_a_folder(here):
    touch("a.png")
    Path("{x}").mkdir()
    assert moves("a.png", output="{x}") == {"a.png": "{x}/a.png"}


@pytest.mark.parametrize(
    ("sources", "output", "targets"),
    [
        (["a.png"], "x.jpg", ["x.jpg"]),
        (["a.png"], "x", ["x/a.png"]),
        (["a.png"], "run.2/", ["run.2/a.png"]),
        (["a.png", "b.png"], "run.2", ["run.2/a.png", "run.2/b.png"]),
    ],
    ids=["file", "folder", "slash", "dot in a folder of many"],
)
def test_output_is_a_file_for_one_image_else_a_folder(here, sources, output, targets):
    touch(*sources)
    assert sorted(moves(*sources, output=output).values()) == targets


def test_stdin_goes_to_stdout(here):
    (job,) = planned("-", format="jpeg").jobs
    assert (job.source, job.target, job.format) == (Standard.INPUT, Standard.OUTPUT, "jpeg")


def test_a_file_can_go_to_stdout_in_its_own_format(here):
    touch("a.TIF")
    (job,) = planned("a.TIF", output="-").jobs
    assert (job.target, job.format) == (Standard.OUTPUT, "tiff")


def test_the_same_file_twice_is_one_job(here):
    touch("in/a.png", "in/b.png")
    assert len(planned("in", "in/a.png", "./in/a.png", output="out")) == 2


def test_a_missing_source_does_not_stop_the_rest(here):
    touch("a.png")
    found = planned("a.png", "b.png", "*.jpg")
    assert [job.source for job in found.jobs] == [Path("a.png")]
    assert [type(item.error) for item in found.unreadable] == [UnreadableImage, NothingToDo]
    assert len(found) == 3


def test_a_broken_link_is_reported(here):
    Path("in").mkdir()
    Path("in/a.png").symlink_to("nowhere.png")
    assert "broken link" in planned("in").unreadable[0].error.message


@pytest.mark.parametrize(
    ("existing", "jobs", "skipped"),
    [("overwrite", ["a.png", "b.png"], []), ("skip", ["b.png"], ["a.png"])],
)
def test_existing_targets_are_replaced_or_skipped_as_asked(here, existing, jobs, skipped):
    touch("in/a.png", "in/b.png", "out/a.png")
    found = planned("in", output="out", existing=existing)
    assert [job.source.name for job in found.jobs] == jobs
    assert [job.source.name for job in found.skipped] == skipped


def test_existing_targets_are_refused_and_named(here):
    names = [f"{letter}.png" for letter in "abcde"]
    touch(*(f"in/{name}" for name in names), *(f"out/{name}" for name in names))
    with pytest.raises(OutputExists, match=r"a\.png, .*b\.png, .*c\.png and 2 more"):
        planned("in", output="out")


@pytest.mark.parametrize(
    ("sources", "output"),
    [
        (["x/a.png", "y/a.png"], "out/"),
        (["x/a.png", "x/a.gif"], "out/"),
        (["x/a.png", "y/A.png"], "out/"),
        (["x/a\u0301.png", "y/\u00e1.png"], "out/"),
    ],
    ids=["same name", "same stem", "case", "accents"],
)
def test_two_results_in_one_file_are_refused(here, sources, output):
    touch(*sources)
    with pytest.raises(OutputCollision, match="would both become"):
        planned(*sources, output=output)


ALIKE = {
    "same stem": (["x/a.png", "x/a.gif"], "out/"),
    "same name": (["x/a.png", "y/a.png"], "out/"),
    "three of one stem": (["x/a.png", "x/a.gif", "x/a.bmp"], "out/"),
    "same name and same stem": (["x/a.png", "x/a.gif", "y/a.png", "y/a.gif"], "out/"),
    "same name in folders of one name": (["v/x/a.png", "w/x/a.png"], "out/"),
    "case": (["x/a.png", "x/A.png"], "out/"),
    "case of the suffix": (["x/a.png", "x/a.PNG", "x/a.gif"], "out/"),
    "accents": (["x/a\u0301.png", "x/\u00e1.png"], "out/"),
    "beside the sources": (["x/a.png", "x/a.gif"], None),
    "beside sources in two folders": (["x/a.png", "x/a.gif", "y/b.png"], None),
    "a template": (["x/a.png", "x/a.gif"], "out/{stem}-dry.png"),
    "a template of one name": (["x/a.png", "x/b.png"], "out/x{ext}"),
    "a folder with braces and a quote": (["x/a.png", "x/a.gif"], "it's {1}/"),
    "videos": (["x/a.avi", "x/a.mkv"], "out/"),
}


@pytest.mark.parametrize(("sources", "output"), ALIKE.values(), ids=ALIKE)
def test_the_hint_of_a_collision_keeps_the_results_apart(here, sources, output):
    touch(*sources)
    if output and "{1}" in output:
        Path(output).mkdir()
    with pytest.raises(OutputCollision, match="would both become") as caught:
        planned(*sources, output=output)
    hint, option, template = shlex.split(caught.value.hint.replace("keep them apart:", "hint"))
    assert (hint, option) == ("hint", "-o")
    assert len(set(moves(*sources, output=template).values())) == len(sources)


def test_the_hint_for_a_tree_mirrors_it(here):
    touch("in/a.png", "in/a.gif", "in/deep/a.png")
    with pytest.raises(OutputCollision) as caught:
        planned("in", output="out", recursive=True)
    assert caught.value.hint == "keep them apart: -o 'out/{rel}/{stem}_{suffix}{ext}'"


@pytest.mark.parametrize("link", [False, True], ids=["itself", "through a link"])
def test_a_source_is_never_the_target(here, link):
    touch("in/a.png")
    if link:
        Path("out").symlink_to("in", target_is_directory=True)
    with pytest.raises(OutputCollision, match="is a source"):
        planned("in/a.png", output="out/" if link else "in/", existing="overwrite")


@pytest.mark.parametrize(
    ("sources", "output", "options", "said"),
    [
        (["a.png", "b.png"], "x.png", {}, "one file, but there are several"),
        (["a.png", "b.png"], "-", {}, "takes one image"),
        (["-", "a.png"], None, {"format": "png"}, "cannot be mixed"),
        (["-"], None, {}, "must be given"),
        (["a.png"], "x.jpg", {"format": "png"}, "--format says png"),
        (["a.png"], "x.bmp", {}, "cannot write .bmp"),
        (["a.png"], "{name}.png", {}, "unknown field 'name'"),
        (["a.png"], "{stem", {}, "expected '}'"),
        (["a.png"], "{stem.__class__}.png", {}, "unknown field"),
        (["a.png"], "", {}, "-o is empty"),
        (["a.png", ""], None, {}, "a source is empty"),
    ],
)
def test_contradictions_are_refused_with_a_hint(here, sources, output, options, said):
    touch("a.png", "b.png")
    with pytest.raises(UsageError, match=said) as caught:
        planned(*sources, output=output, **options)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("output", "said"),
    [("folder.png", "is a folder"), ("notes.txt/x.png", "is not a folder")],
)
def test_a_place_that_cannot_be_written_is_refused_before_work(here, output, said):
    touch("in/a.png", "notes.txt")
    Path("folder.png/a.png").mkdir(parents=True)
    with pytest.raises(OutputError, match=said):
        planned("in/a.png", output=output)


def test_an_empty_folder_is_nothing_to_do(here):
    touch("in/x/a.png")
    with pytest.raises(NothingToDo) as caught:
        planned("in")
    assert "--recursive" in caught.value.hint


@posix_only
def test_names_that_no_file_can_have_are_reported_not_raised(here):
    touch("a.png")
    endless = "a" * 300
    assert "too long" in planned("a.png", f"{endless}.png").unreadable[0].error.message


@posix_only
@pytest.mark.parametrize(
    "output", ["a" * 300 + ".png", "b" * 300 + "/", "x/" * 2500, "é" * 140 + "/"]
)
def test_an_output_whose_name_is_too_long_fails_alone(here, output):
    touch("a.png")
    found = planned("a.png", output=output)
    assert (len(found.jobs), len(found.unreadable)) == (0, 1)
    assert re.search("a.png: .*too long; the limit is", found.unreadable[0].error.message)


@posix_only
def test_a_home_that_nobody_has_is_a_plain_name(here):
    touch("~nobody-at-all/a.png")
    assert list(moves("~nobody-at-all/a.png")) == ["~nobody-at-all/a.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_not_text_is_planned(here):
    name = os.fsdecode(b"\xff.png")
    touch(f"in/{name}")
    assert moves("in", output="out") == {f"in/{name}": f"out/{name}"}


@pytest.mark.parametrize(
    ("sources", "recursive", "wanted"),
    [
        (["a.png"], False, False),
        (["a.png", "b.mp4"], False, True),
        (["in"], False, False),
        (["in"], True, True),
        (["in/*/*"], False, True),
        (["-"], False, False),
        (["missing.mp4"], False, False),
    ],
)
def test_videos_among_the_sources_are_known_before_a_plan(here, sources, recursive, wanted):
    touch("a.png", "b.mp4", "in/a.jpg", "in/deep/c.mkv")
    assert contains_videos(sources, None, task="upscale", recursive=recursive) == wanted


@pytest.mark.parametrize(
    ("output", "fields"),
    [
        ("out/{stem}_{model}{ext}", {"stem", "model", "ext"}),
        ("out/{{model}}", set()),
        ("{model", set()),
        (None, set()),
    ],
)
def test_the_fields_of_a_template_are_known_before_a_plan(output, fields):
    assert template_fields(output) == fields


def image(name, width=9, height=7, **options):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height)).save(path, **options)


def refusals(*sources, **options):
    """{source: message} of what is refused by its header or its name."""
    found = planned(*sources, **options)
    return {item.source: item.error.message for item in found.unreadable}


@pytest.mark.parametrize(
    ("width", "format", "factor", "limit"),
    [(22_000, "jpeg", 3, "65,500"), (8000, "webp", 2.5, "16,383"), (20_000, "webp", 1, "16,383")],
)
def test_a_result_beyond_its_format_is_refused_in_the_plan(here, width, format, factor, limit):
    image("a.png", width, 3)
    image("b.png")
    found = planned("a.png", "b.png", output="out", format=format, scale=Enlargement(factor))
    assert [job.source.name for job in found.jobs] == ["b.png"]
    (item,) = found.unreadable
    assert re.search(f"^a.png: .* {format} supports at most {limit} per side", item.error.message)
    assert "--format png" in item.error.hint
    assert len(planned("a.png", output="out", scale=Enlargement(factor)).jobs) == 1


def test_a_chosen_size_beyond_the_format_is_refused_in_the_plan(here):
    image("a.jpg")
    scale = Enlargement(size=ImageSize(70_000, 10))
    assert "70000 x 10 pixels" in refusals("a.jpg", scale=scale)["a.jpg"]


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_in_a_format_that_cannot_state_it_is_refused_in_the_plan(here, transfer, name):
    chunk = (b"cICP", bytes([9, transfer, 0, 1]))
    Path("a.png").write_bytes(png_file(noise(5, 7, 3), chunk))
    image("b.png")
    found = planned("a.png", "b.png", output="out", format="jpeg")
    (item,) = found.unreadable
    assert item.error.message == f"a.png has HDR colours ({name}), which JPEG cannot store"
    assert "--format png" in item.error.hint
    assert not planned("a.png", output="out").unreadable


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.heic", "a.mp4"])
def test_a_kind_that_is_not_read_is_refused_in_the_plan(here, name):
    Path(name).write_bytes(b"\0\0\0\x18ftypavci\0\0\0\0mif1heic" + bytes(100))
    assert refusals(name) == {name: f"{name}: a HEIF image in H.264, which restore cannot read"}


@posix_only
@pytest.mark.parametrize("source", ["pipe.png", "in", "in/*"])
def test_a_pipe_is_refused_in_the_plan(here, source):
    touch("in/a.png")
    for name in ("pipe.png", "in/pipe.png"):
        os.mkfifo(name)
    (message,) = refusals(source).values()
    assert "pipe.png: a pipe or a device, not a file" in message


@posix_only
def test_a_link_to_a_device_is_refused_in_the_plan(here):
    Path("zero.png").symlink_to("/dev/zero")
    assert "a pipe or a device" in refusals("zero.png")["zero.png"]


@pytest.mark.parametrize(
    ("output", "error"),
    [("loop.png", OutputExists), ("loop/out.png", OutputError), ("loop", OutputError)],
)
def test_a_link_to_itself_is_no_output(here, output, error):
    image("a.png")
    for name in ("loop.png", "loop"):
        Path(name).symlink_to(name)
    with pytest.raises(error):
        planned("a.png", output=output)


def test_a_folder_counts_what_it_passes_over(here):
    touch("in/a.png", "in/b.psd", "in/C.PSD", "in/notes.txt", "in/README", "in/.hidden")
    found = planned("in", output="out")
    assert found.passed_over == {".psd": 2, ".txt": 1, "no suffix": 1}
    assert planned("in/*", output="out").passed_over == found.passed_over
    assert len(found) == 1


def test_a_folder_passes_over_formats_whose_extra_is_missing(here, monkeypatch):
    monkeypatch.setattr("restore_cli.imaging.formats.find_spec", lambda name: None)
    monkeypatch.setattr("restore_cli.batch.sources.READABLE_SUFFIXES", readable_suffixes())
    touch("in/a.png", "in/b.heic", "in/c.dng", "in/D.DNG")
    found = planned("in", output="out")
    assert found.passed_over == {".heic": 1, ".dng": 2}
    assert (len(found), found.unreadable) == (1, ())


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ({".psd": 1}, "1 file of another kind (.psd) was ignored"),
        ({".psd": 3}, "3 files of other kinds (.psd) were ignored"),
        ({".a": 1, ".b": 2}, "3 files of other kinds (.b 2, .a 1) were ignored"),
    ],
)
def test_what_is_passed_over_is_one_line(counts, text):
    assert describe_passed_over(counts) == text


@pytest.mark.parametrize("source", ["in", "in/*.psd"])
def test_nothing_but_other_kinds_is_said_so(here, source):
    touch("in/a.psd")
    with pytest.raises(NothingToDo, match="no image or video") as caught:
        (item,) = planned(source).unreadable
        raise item.error
    assert "1 file of another kind (.psd)" in caught.value.hint


@pytest.mark.parametrize(
    "pattern",
    ["trip [2020]/*.jpg", "trip [[]2020]/*.jpg", "trip [2020]/[a].*", "*/deep [1]/*.jpg"],
)
def test_a_folder_with_brackets_is_meant_by_its_name(here, pattern):
    touch("trip [2020]/a.jpg", "trip [2020]/[a].jpg", "trip [2020]/deep [1]/a.jpg")
    assert moves(pattern, output="out")


def test_a_folder_of_that_very_name_goes_before_a_match(here):
    touch("t[12]/a.jpg", "t1/b.jpg")
    assert moves("t[12]/*.jpg", output="out") == {"t[12]/a.jpg": "out/a.jpg"}


@pytest.mark.parametrize(
    ("pattern", "hint"), [("x[1]/*.jpg", "[[]"), ("in/*.jpg", "check"), ("in [1]/x.jpg", "[[]")]
)
def test_a_glob_without_a_match_has_a_hint(here, pattern, hint):
    touch("in [1]/a.png", "in/a.png")
    (item,) = planned(pattern).unreadable
    assert hint in item.error.hint


@pytest.mark.parametrize(
    ("free", "scale", "is_refused"),
    [(0, 1, True), (500, 1, True), (1 << 20, 1, False), (20_000, 16, True), (None, 16, False)],
)
def test_a_disk_without_room_is_refused_in_the_plan(here, monkeypatch, free, scale, is_refused):
    for name in "ab":
        Image.effect_noise((64, 64), 80).save(f"{name}.png")
    monkeypatch.setattr("restore_cli.batch.targets.free_space", lambda folder: free)
    if not is_refused:
        assert len(planned("a.png", "b.png", output="out", scale=Enlargement(scale)).jobs) == 2
        return
    with pytest.raises(OutputError, match=f"out: {free:,} bytes are free, but .* at least"):
        planned("a.png", "b.png", output="out", scale=Enlargement(scale))


def test_a_replaced_file_gives_its_space_back(here, monkeypatch):
    Image.effect_noise((64, 64), 80).save("a.png")
    monkeypatch.setattr("restore_cli.batch.targets.free_space", lambda folder: 100)
    touch("out/a.png")
    Path("out/a.png").write_bytes(bytes(5000))
    assert len(planned("a.png", output="out", existing="overwrite").jobs) == 1
