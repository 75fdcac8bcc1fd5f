"""Which weights know which classes."""

import pytest

from restore_cli import registry
from restore_cli.checkpoints.classes import (
    ClassWeights,
    choose,
    class_number,
    class_weights,
    number_of,
)
from restore_cli.checkpoints.save import save
from restore_cli.errors import UsageError, WeightsCorrupt, WeightsMissing

PLANTS = ClassWeights("fitv2.plants", "fitv2", ("grand_piano", "sunflower"))
THINGS = ClassWeights("scalecrafter.things", "scalecrafter", ("ball", "sunflower"))
BOTH = (PLANTS, THINGS)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "fit.safetensors"
    config = {"hidden_size": 16, "depth": 1, "num_heads": 2, "num_classes": 2}
    network = registry.build("fitv2", **config)
    save(network, path, arch="fitv2", config=config, record={"classes": ["a", "b"]})
    return path


def test_a_file_tells_its_classes(file):
    known = class_weights(str(file))
    assert (known.arch, known.classes) == ("fitv2", ("a", "b"))


def test_a_file_in_an_official_layout_tells_none(tmp_path):
    path = tmp_path / "model_ema.bin"
    path.write_bytes(b"PK\x03\x04")
    assert class_weights(str(path)) == ClassWeights(str(path), None, ())


@pytest.mark.parametrize("classes", [3, "ball", [1], {"ball": 1}], ids=str)
def test_classes_of_another_kind_are_refused(classes, tmp_path):
    path = tmp_path / "x.safetensors"
    save(registry.build("espcn"), path, arch="espcn", config={}, record={"classes": classes})
    with pytest.raises(WeightsCorrupt, match="names of its classes"):
        class_weights(str(path))


def test_a_broken_header_is_told(file):
    data = file.read_bytes()
    file.write_bytes(data[:8] + data[8:40].replace(b'"', b"'") + data[40:])
    with pytest.raises(WeightsCorrupt, match="broken safetensors"):
        class_weights(str(file))


@pytest.mark.parametrize("name", ["no-such.safetensors", "fitv2.nope"])
def test_weights_that_are_not_there_are_told(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsMissing):
        class_weights(name)


@pytest.mark.parametrize(
    ("prompt", "number"),
    [("sunflower", 1), ("Grand Piano", 0), ("grand-piano", 0), ("1", 1), ("2", None), ("x", None)],
)
def test_a_class_goes_by_its_name_or_its_number(prompt, number):
    assert number_of(prompt, PLANTS.classes) == number


def test_without_names_any_number_may_be_a_class():
    assert number_of("207", ()) == 207
    assert number_of("goldfish", ()) is None


@pytest.mark.parametrize(
    ("prompts", "chosen"), [(["sunflower"], PLANTS), (["ball"], THINGS), (["ball", "1"], THINGS)]
)
def test_the_first_weights_that_know_all_classes_are_chosen(prompts, chosen):
    assert choose(prompts, BOTH) == chosen


@pytest.mark.parametrize(
    ("prompts", "message", "hint"),
    [
        (["sunflour"], "no class is called 'sunflour'", "the nearest: sunflower; all"),
        (["xyz"], "no class is called 'xyz'", "all classes: restore generate --list-classes"),
        (["ball", "grand_piano"], "no weights know all of ball, grand_piano", "one by one"),
    ],
    ids=["near", "far", "apart"],
)
def test_an_unknown_class_is_refused_with_the_nearest(prompts, message, hint):
    with pytest.raises(UsageError, match=message) as caught:
        choose(prompts, BOTH)
    assert hint in caught.value.hint


def test_a_word_is_no_class_of_weights_without_names():
    with pytest.raises(UsageError) as caught:
        choose(["goldfish"], [ClassWeights("official", None, ())])
    assert caught.value.hint == "these weights name no classes: give a number"


@pytest.mark.parametrize(
    ("prompt", "message", "hint"),
    [
        ("sunflour", "no class is called 'sunflour'", "the nearest: sunflower"),
        ("1", "there is no class 1", "0 to 0"),
    ],
    ids=["name", "number"],
)
def test_a_class_that_the_network_lacks_is_refused(prompt, message, hint):
    with pytest.raises(UsageError, match=message) as caught:
        class_number(prompt, THINGS.classes, count=1)
    assert hint in caught.value.hint
