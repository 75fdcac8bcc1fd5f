from restore_cli import registry
from restore_cli.checkpoints import manifest
from restore_cli.checkpoints.library import import_weights
from restore_cli.checkpoints.origin import origin_of
from restore_cli.checkpoints.save import save


def test_bundled_weights_are_those_of_restore():
    assert origin_of("espcn.x2") == "restore"


def test_a_file_of_a_training_names_the_training(tmp_path):
    path = tmp_path / "x.safetensors"
    save(registry.build("espcn"), path, arch="espcn", config={}, record={"steps": 10})
    assert origin_of(str(path)) == "restore train"
    assert origin_of(import_weights(path, "espcn.mine").name) == "restore train"


def test_a_file_that_names_no_training_is_imported(random_weights):
    assert origin_of(str(random_weights)) == "imported"


def test_an_official_file_stays_one_when_it_is_imported(official_file):
    assert origin_of(str(official_file)) == "official layout"
    assert origin_of(import_weights(official_file, "dpenet.paper").name) == "official layout"


def test_an_entry_in_an_official_layout_is_named_as_such(bundle, row_of, official_file):
    bundle(row_of(official_file, importer="dpenet", url=official_file.as_uri()))
    manifest.weights_cache().mkdir(parents=True)
    official_file.rename(manifest.weights_cache() / official_file.name)
    assert origin_of("dpenet.default") == "official layout"


def test_a_community_model_is_named_as_such(bundle, row_of, official_file):
    bundle(row_of(official_file, importer="spandrel"))
    assert origin_of("dpenet.default") == "community"
