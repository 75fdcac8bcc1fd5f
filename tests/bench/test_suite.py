from pathlib import Path

import pytest

from restore_cli import registry
from restore_cli.bench.suite import PUBLISHED, candidates
from restore_cli.checkpoints import manifest
from restore_cli.checkpoints.save import save
from restore_cli.data.public_sets import SETS
from restore_cli.data.sets import Pair, PairSet
from restore_cli.errors import UsageError, WeightsMissing

ONE_PAIR = (Pair(Path("a"), Path("b")),)


def test_without_names_all_weights_on_this_machine_are_candidates():
    assert {"dpenet.default", "espcn.x2"} <= {each.weights for each in candidates([])}


def test_the_name_of_a_network_stands_for_all_its_weights():
    found = candidates(["espcn"])
    assert [each.weights for each in found] == ["espcn.x2", "espcn.x3", "espcn.x4"]


def test_the_same_weights_count_once():
    assert len(candidates(["espcn.x2", "espcn", "espcn.x2"])) == 3


def test_a_file_is_called_by_its_name(random_weights):
    (found,) = candidates([str(random_weights)])
    assert (found.name, found.spec.arch) == ("random", "dpenet")


def test_a_network_without_weights_says_how_to_get_them(monkeypatch):
    monkeypatch.setattr(manifest, "bundled_entries", dict)
    with pytest.raises(WeightsMissing, match="no weights are bundled for dpenet"):
        candidates(["dpenet"])


def test_a_generator_has_nothing_to_restore(tmp_path):
    path = tmp_path / "fit.safetensors"
    config = {"hidden_size": 32, "depth": 1, "num_heads": 2, "num_classes": 2}
    save(registry.build("fitv1", **config), path, arch="fitv1", config=config, record={})
    with pytest.raises(UsageError, match="does not take images"):
        candidates([str(path)])


@pytest.mark.parametrize(
    ("task", "scale", "supports"),
    [("upscale", 2, True), ("upscale", 3, False), ("denoise", 1, False)],
    ids=str,
)
def test_weights_are_measured_on_what_they_are_for(task, scale, supports):
    (candidate,) = candidates(["espcn.x2"])
    assert candidate.supports(PairSet("set", task, ONE_PAIR, scale)) is supports


@pytest.mark.parametrize(("arch", "name", "scale"), PUBLISHED, ids=str)
def test_published_figures_are_of_known_networks_and_sets(arch, name, scale):
    assert SETS[name].task in registry.MODELS[arch].tasks
