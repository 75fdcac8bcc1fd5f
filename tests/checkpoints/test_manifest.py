"""The table of weight files is read strictly: a typing error must not become a default."""

import json

import pytest

from restore_cli import assets
from restore_cli.checkpoints import load_checkpoint, manifest
from restore_cli.checkpoints.importers import LAYOUTS
from restore_cli.checkpoints.read import read
from restore_cli.errors import WeightsCorrupt, WeightsMissing


@pytest.fixture
def row(row_of, tmp_path):
    (tmp_path / "file.safetensors").write_bytes(b"not read by the table")
    return row_of(tmp_path / "file.safetensors")


@pytest.fixture
def listed(bundle, row):
    """dpenet.default is bundled, as far as the table says."""
    bundle(row)


def test_an_entry_is_read_as_it_is_written(row):
    entry = manifest.parse(row | {"tasks": ["derain"]}, "manifest.json")
    assert entry.name == "dpenet.default"
    assert entry.tasks == ("derain",)
    assert entry.scores == {"rain100l": {"psnr_y": 35.25}}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"nam": "x"}, "unknown field nam"),
        ({"name": "mirnet.default"}, r"name is 'mirnet\.default', wanted dpenet\.tag"),
        ({"name": "dpenet.Rain"}, "small letters"),
        ({"name": "dpenet"}, "small letters"),
        ({"name": None}, "name is None, wanted str"),
        ({"file": "../../secret"}, "without a folder"),
        ({"file": "/etc/passwd"}, "without a folder"),
        ({"file": ".."}, "without a folder"),
        ({"card": "a/b.md"}, "without a folder"),
        ({"sha256": "abc"}, "64 hexadecimal digits"),
        ({"size": "2 MB"}, "size is '2 MB', wanted int"),
        ({"config": None}, "config is None, wanted dict"),
        ({"tasks": ["dance"]}, "wanted some of denoise, derain"),
        ({"url": 3}, "url is 3, wanted str"),
        ({"scores": {"rain100l": 35.25}}, "wanted {metric: number}"),
        ({"scores": {"rain100l": {"psnr_y": "35"}}}, "wanted {metric: number}"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_wrong_field_is_named(change, reason, row):
    with pytest.raises(WeightsCorrupt, match=reason):
        manifest.parse(row | change, "manifest.json")


def test_a_missing_field_is_named(row):
    del row["licence"]
    with pytest.raises(WeightsCorrupt, match=r"entry dpenet\.default: no field licence"):
        manifest.parse(row, "manifest.json")


@pytest.mark.parametrize("contents", ["{", '{"name": "x"}', '["x"]'])
def test_a_manifest_of_another_form_is_refused(contents, bundle):
    (bundle() / "manifest.json").write_text(contents)
    with pytest.raises(WeightsCorrupt, match=r"manifest\.json: "):
        manifest.bundled_entries()


def test_a_package_without_its_manifest_is_incomplete(bundle):
    (bundle() / "manifest.json").unlink()
    with pytest.raises(WeightsCorrupt, match=r"manifest\.json: No such file") as caught:
        manifest.entries()
    assert "install restore again" in caught.value.hint


def test_two_entries_of_one_name_are_refused(bundle, row):
    bundle(row, row)
    with pytest.raises(WeightsCorrupt, match="same name"):
        manifest.entries()


def test_an_imported_entry_is_found_beside_the_bundled_ones(listed, row):
    manifest.write_cached(manifest.parse(row | {"name": "dpenet.mine"}, "x"))
    assert list(manifest.entries()) == ["dpenet.default", "dpenet.mine"]
    assert manifest.find("dpenet.mine").name == "dpenet.mine"


def test_an_imported_entry_comes_back_as_it_went(bundle, row):
    entry = manifest.parse(row | {"tasks": ["derain"], "origin": "Größe"}, "x")
    manifest.write_cached(entry)
    assert manifest.find(entry.name) == entry


def test_an_imported_entry_does_not_hide_a_bundled_one(listed, row):
    manifest.write_cached(manifest.parse(row | {"origin": "somewhere else"}, "x"))
    assert manifest.find("dpenet.default").origin == row["origin"]
    assert manifest.entries()["dpenet.default"].origin == row["origin"]


def test_a_broken_entry_in_the_cache_stops_no_bundled_one(listed):
    manifest.weights_cache().mkdir(parents=True)
    (manifest.weights_cache() / "dpenet.mine.json").write_text("{")
    assert manifest.find("dpenet.default").name == "dpenet.default"
    with pytest.raises(WeightsCorrupt, match="not JSON") as caught:
        manifest.find("dpenet.mine")
    assert "import it again" in caught.value.hint


def test_an_entry_nested_deeply_is_broken(bundle):
    manifest.weights_cache().mkdir(parents=True)
    (manifest.weights_cache() / "dpenet.mine.json").write_text("[" * 100_000)
    with pytest.raises(WeightsCorrupt, match="not JSON"):
        manifest.find("dpenet.mine")


def test_a_cache_whose_name_is_too_long_is_as_none(listed, monkeypatch):
    monkeypatch.setenv("RESTORE_CACHE", "/tmp/" + "a" * 300)
    assert list(manifest.entries()) == ["dpenet.default"]
    assert manifest.locate(manifest.find("dpenet.default"))[0] == "missing"


def test_an_unknown_name_is_answered_with_the_known_ones(listed, row):
    manifest.write_cached(manifest.parse(row | {"name": "dpenet.mine"}, "x"))
    with pytest.raises(WeightsMissing, match=r"'dpenet\.other'") as caught:
        manifest.find("dpenet.other")
    assert caught.value.hint == "there are: dpenet.default, dpenet.mine"


@pytest.mark.parametrize("name", ["", ".", "../manifest", "dpenet/../x", "dpenet.default\n"])
def test_a_name_cannot_point_out_of_the_cache(name, listed):
    with pytest.raises(WeightsMissing):
        manifest.find(name)


# The real manifest


def bundled_names():
    rows = json.loads((assets.weights_dir() / "manifest.json").read_text())
    return [row["name"] for row in rows]


@pytest.mark.parametrize("name", bundled_names())
def test_a_bundled_file_is_what_its_entry_says(name):
    entry = manifest.find(name)
    path = assets.weights_dir() / entry.file
    file = read(path)
    assert (file.sha256, path.stat().st_size) == (entry.sha256, entry.size)
    assert (file.about.arch, file.about.config) == (entry.arch, entry.config)
    assert entry.card is None or (assets.weights_dir() / entry.card).is_file()
    assert load_checkpoint(name).name == name


def test_each_bundled_entry_names_a_known_layout_or_none():
    entries = manifest.bundled_entries().values()
    assert {entry.importer for entry in entries} <= {None, *LAYOUTS}


def test_no_weight_file_lies_there_without_an_entry():
    files = {path.name for path in assets.weights_dir().glob("*.safetensors")}
    assert files <= {entry.file for entry in manifest.bundled_entries().values()}


def test_a_network_that_comes_without_weights_says_how_to_get_some(bundle):
    with pytest.raises(WeightsMissing, match="no weights are bundled for dpenet") as caught:
        manifest.find("dpenet.default")
    assert caught.value.exit_code == 4
    assert caught.value.hint == (
        "train them: restore train --list; or import your own: "
        "restore weights import FILE --as dpenet.default"
    )
