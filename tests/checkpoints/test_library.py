"""Fetching, importing and verifying weight files."""

import pytest
import torch
from torch.testing import assert_close

from restore_cli import registry
from restore_cli.checkpoints import load, load_checkpoint, manifest
from restore_cli.checkpoints.importers import from_official
from restore_cli.checkpoints.library import fetch_weights, import_weights, verify
from restore_cli.checkpoints.read import read
from restore_cli.checkpoints.save import save
from restore_cli.errors import (
    FetchError,
    OutputExists,
    UsageError,
    WeightsCorrupt,
    WeightsError,
    WeightsMismatch,
    WeightsMissing,
)


@pytest.fixture
def fetchable(bundle, row_of, official_file):
    """An entry for an official file that is published, but not on this machine."""
    bundle(row_of(official_file, importer="dpenet", url=official_file.as_uri()))
    return manifest.find("dpenet.default")


def test_an_official_file_is_imported_under_a_name(bundle, official_file, official_state):
    entry = import_weights(official_file, "dpenet.mine")
    checkpoint = load_checkpoint("dpenet.mine")
    assert checkpoint.sha256 == entry.sha256
    expected = from_official("dpenet", official_state)
    assert_close(checkpoint.module.state_dict(), expected, atol=0, rtol=0)


def test_an_imported_file_says_where_it_came_from(bundle, official_file):
    entry = import_weights(official_file, "dpenet.mine")
    origin = f"imported from Rain100H.pth, sha256 {read(official_file).sha256}"
    assert entry.origin == origin
    assert read(manifest.locate(entry)[1]).about.record == {
        "origin": origin,
        "layout": "official",
    }


def test_an_imported_file_names_the_wrappings_that_were_removed(bundle, official_state, tmp_path):
    torch.save({"params": official_state, "params_ema": official_state}, tmp_path / "x.pth")
    assert import_weights(tmp_path / "x.pth").origin.startswith("imported from x.pth (params_ema),")


def test_a_download_longer_than_its_entry_is_given_up(bundle, row_of, official_file):
    bundle(row_of(official_file, url=official_file.as_uri(), size=100))
    entry = manifest.find("dpenet.default")
    official_file.write_bytes(bytes(10 << 20))
    seen = []
    with pytest.raises(WeightsCorrupt):
        fetch_weights(entry, on_progress=lambda done, total: seen.append(done))
    assert max(seen) < 1 << 20


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("Rain100H.pth", "dpenet.rain100h"),
        ("dpenet-rain100l.safetensors", "dpenet.rain100l"),
        ("DPENet heavy rain (2).pth", "dpenet.heavy-rain-2"),
        ("DPENet.pth", "dpenet.imported"),
        ("größe.pth", "dpenet.gr-e"),
    ],
)
def test_without_a_name_the_file_gives_it(file, name, bundle, official_file):
    source = official_file.rename(official_file.with_name(file))
    assert import_weights(source).name == name
    assert load_checkpoint(name).name == name


def test_a_file_of_ours_keeps_its_record_and_precision(bundle, tmp_path):
    source = tmp_path / "mine.safetensors"
    network = registry.build("dpenet")
    save(network, source, arch="dpenet", config={}, record={"steps": 9}, half=True)
    imported = read(manifest.locate(import_weights(source))[1])
    assert imported.about.record["steps"] == 9
    assert imported.state["detail.weight"].dtype == torch.float16


@pytest.mark.parametrize(
    "name", ["mine", "mirnet.mine", "dpenet.Mine", "dpenet.", "dpenet.a/b", "dpenet.../x"]
)
def test_a_name_that_does_not_fit_is_refused(name, bundle, official_file):
    with pytest.raises(UsageError, match="they are for dpenet") as caught:
        import_weights(official_file, name)
    assert "--as dpenet.TAG" in caught.value.hint


@pytest.fixture
def mirnet_file(tmp_path):
    """A small MIRNet that does not say by what it enlarges."""
    config = {"n_feat": 16, "n_RRG": 1, "n_MSRB": 1}
    path = tmp_path / "mirnet.safetensors"
    save(registry.build("mirnet", **config), path, arch="mirnet", config=config, record={})
    return path


def test_a_file_that_does_not_tell_its_scale_is_given_one(bundle, mirnet_file):
    import_weights(mirnet_file, "mirnet.sr_x3", scale=3)
    spec = load_checkpoint("mirnet.sr_x3").spec
    assert (spec.facts.scale, spec.tasks) == (3, ("upscale",))


def test_a_scale_that_does_not_fit_is_refused(bundle, official_file, tmp_path):
    with pytest.raises(UsageError, match="dpenet, which does not enlarge"):
        import_weights(official_file, scale=2)
    path = tmp_path / "espcn.safetensors"
    save(registry.build("espcn", scale=2), path, arch="espcn", config={"scale": 2}, record={})
    with pytest.raises(UsageError, match="enlarge x2, not x3"):
        import_weights(path, scale=3)


def test_the_name_of_a_bundled_file_is_taken(bundled, official_file):
    with pytest.raises(UsageError, match="is the name of bundled weights"):
        import_weights(official_file, "dpenet.default", overwrite=True)


def test_an_imported_file_is_not_replaced_unasked(bundle, official_file, random_weights):
    first = import_weights(official_file, "dpenet.mine")
    with pytest.raises(OutputExists):
        import_weights(random_weights, "dpenet.mine")
    assert manifest.find("dpenet.mine") == first


def test_an_imported_file_is_replaced_if_asked(bundle, official_file, random_weights):
    import_weights(official_file, "dpenet.mine")
    import_weights(random_weights, "dpenet.mine", overwrite=True)
    assert_close(load("dpenet.mine").state_dict(), load(random_weights).state_dict())


def test_a_file_that_fits_no_network_leaves_nothing(bundle, tmp_path):
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(WeightsMismatch):
        import_weights(tmp_path / "x.pth")
    assert not manifest.weights_cache().exists()


def test_broken_values_are_not_imported(bundle, official_state, tmp_path):
    official_state["inconv1.0.weight"][0] = torch.nan
    torch.save(official_state, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="not finite"):
        import_weights(tmp_path / "x.pth", "dpenet.x")
    assert not manifest.is_cached("dpenet.x")


def test_a_published_file_is_fetched_and_loads(fetchable, official_state):
    fetch_weights(fetchable)
    expected = from_official("dpenet", official_state)
    assert_close(load("dpenet.default").state_dict(), expected, atol=0, rtol=0)


def test_a_damaged_file_in_the_cache_is_fetched_anew(fetchable):
    path = fetch_weights(fetchable)
    path.write_bytes(b"damaged")
    fetch_weights(fetchable)
    assert verify(fetchable).status == "ok"


def test_offline_nothing_is_fetched(fetchable):
    with pytest.raises(FetchError, match="network is disabled"):
        fetch_weights(fetchable, offline=True)


def test_a_source_that_changed_is_refused(fetchable, official_file):
    official_file.write_bytes(b"another file")
    with pytest.raises(WeightsCorrupt):
        fetch_weights(fetchable)
    assert verify(fetchable).status == "not fetched"


def test_a_bundled_file_needs_no_fetching(bundled):
    path = fetch_weights(manifest.find("dpenet.default"), offline=True)
    assert path.name == bundled["file"]


def test_an_imported_file_needs_no_fetching(bundle, official_file):
    entry = import_weights(official_file)
    assert fetch_weights(entry, offline=True) == manifest.weights_cache() / entry.file


def test_a_file_that_is_published_nowhere_cannot_be_fetched(bundle, official_file):
    entry = import_weights(official_file)
    (manifest.weights_cache() / entry.file).unlink()
    with pytest.raises(WeightsMissing, match="no download address"):
        fetch_weights(entry)


def test_a_sound_file_is_ok(bundled):
    assert verify(manifest.find("dpenet.default")).status == "ok"


def test_a_changed_file_is_corrupt_and_its_checksum_said(bundle, official_file):
    entry = import_weights(official_file)
    path = manifest.weights_cache() / entry.file
    path.write_bytes(b"")
    verified = verify(entry)
    assert (verified.status, verified.path) == ("corrupt", path)
    assert verified.sha256.startswith("e3b0c44298fc")  # of no bytes at all


def test_a_bundled_file_that_is_gone_is_missing(bundle, row_of, random_weights):
    bundle(row_of(random_weights))
    assert verify(manifest.find("dpenet.default")).status == "missing"


def test_a_published_file_that_nobody_fetched_is_no_fault(fetchable):
    assert verify(fetchable).status == "not fetched"
