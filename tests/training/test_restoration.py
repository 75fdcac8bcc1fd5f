import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from restore_cli import registry
from restore_cli.checkpoints import load_checkpoint
from restore_cli.checkpoints.save import save
from restore_cli.errors import NothingToDo, OutputError, OutputExists, UsageError, WeightsMismatch
from restore_cli.imaging.resize import resize_matlab
from restore_cli.metrics import psnr
from restore_cli.training import restoration as loop
from restore_cli.training.recipes import find_recipe
from restore_cli.training.restoration import batch_loss, fit, held_out_pairs, open_state
from restore_cli.training.schedule import BY_CLOCK, Budget
from restore_cli.training.trainer import begin_with, take_step, update_average

SMALL = {"batch": 2, "validation_patch": 24}
TINY = replace(find_recipe("dpenet"), patch=16, steps=6, validate_every=3, **SMALL)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Nine small images, of which the eighth is held out."""
    folder = tmp_path_factory.mktemp("photos")
    for index in range(9):
        random = np.random.default_rng(index)
        coarse = random.integers(30, 200, (3, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((40, 32)).save(folder / f"{index}.png")
    return folder


def step(state, recipe, progress, degraded, clean):
    """One step on this batch."""
    take_step(
        state,
        recipe,
        progress,
        lambda at: batch_loss(state, recipe, at, degraded, clean, bf16=False),
    )


def state_of(out):
    return torch.load(out / "state.pt", weights_only=True)


def test_training_lowers_the_loss_on_held_out_images(photos, tmp_path):
    fit(replace(TINY, steps=30, validate_every=10), photos, tmp_path, device=CPU)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30]
    assert lines[-1]["psnr"] > lines[0]["psnr"]


def test_the_same_seed_gives_the_same_weights(photos, tmp_path):
    first, second = (fit(TINY, photos, tmp_path / name, device=CPU, seed=3) for name in "ab")
    a, b = (load_checkpoint(path).module.state_dict() for path in (first, second))
    assert_close(a, b, atol=0, rtol=0)


def test_a_resumed_training_ends_as_an_uninterrupted_one(photos, tmp_path):
    fit(TINY, photos, tmp_path / "whole", device=CPU)

    def stop_at_four(progress):
        if progress.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(TINY, photos, tmp_path / "halves", device=CPU, on_progress=stop_at_four)
    assert state_of(tmp_path / "halves")["step"] == 4
    fit(TINY, photos, tmp_path / "halves", device=CPU, resume=True)
    whole, halves = state_of(tmp_path / "whole"), state_of(tmp_path / "halves")
    for part in ("network", "average", "optimizer", "step", "best"):
        assert_close(halves[part], whole[part], atol=0, rtol=0)


def test_a_training_is_not_started_over_an_older_one(photos, tmp_path):
    fit(TINY, photos, tmp_path, device=CPU, steps=1)
    with pytest.raises(OutputExists, match="holds a training already"):
        fit(TINY, photos, tmp_path, device=CPU)


def test_a_training_that_was_stopped_in_its_last_validation_is_not_finished(
    photos, tmp_path, monkeypatch
):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "validate", interrupted)
        fit(TINY, photos, tmp_path, device=CPU, steps=1)
    assert fit(TINY, photos, tmp_path, device=CPU, steps=1, resume=True).exists()


def test_a_finished_training_has_nothing_to_resume(photos, tmp_path):
    fit(TINY, photos, tmp_path, device=CPU, steps=1)
    with pytest.raises(NothingToDo, match="already trained for 1 steps"):
        fit(TINY, photos, tmp_path, device=CPU, steps=1, resume=True)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("file write failed")], ids=str
)
def test_a_full_disk_ends_the_training_in_one_line(photos, tmp_path, monkeypatch, error):
    def no_room(state, path):
        path.write_bytes(b"half of it")
        raise error

    monkeypatch.setattr(torch, "save", no_room)
    with pytest.raises(OutputError, match=r"state\.pt: cannot be written"):
        fit(TINY, photos, tmp_path, device=CPU)
    assert not list(tmp_path.glob(".restore-*"))


def test_a_state_of_another_network_is_refused(photos, tmp_path):
    torch.save({"network": {}}, tmp_path / "state.pt")
    with pytest.raises(WeightsMismatch, match=r"state\.pt"):
        fit(TINY, photos, tmp_path, device=CPU, resume=True)


def test_a_time_limit_ends_with_a_validated_state(photos, tmp_path):
    fit(TINY, photos, tmp_path, device=CPU, time_limit=0)
    assert state_of(tmp_path)["step"] == 1
    assert load_checkpoint(tmp_path / "dpenet.safetensors").spec.arch == "dpenet"


def test_bfloat16_trains_too(photos, tmp_path):
    fit(TINY, photos, tmp_path, device=CPU, steps=2, bf16=True)
    assert all(value.isfinite().all() for value in state_of(tmp_path)["network"].values())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_training_runs_on_a_gpu(photos, tmp_path):
    fit(TINY, photos, tmp_path, device=torch.device("cuda"), steps=2, bf16=True)
    assert state_of(tmp_path)["step"] == 2


def test_too_few_photographs_are_refused(tmp_path):
    with pytest.raises(NothingToDo, match="0 photographs"):
        fit(TINY, tmp_path, tmp_path / "out", device=CPU)
    assert not (tmp_path / "out").exists()


def test_a_file_where_the_folder_should_be_is_refused(photos, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match="out: "):
        fit(TINY, photos, tmp_path / "out", device=CPU)


def test_the_average_follows_fast_at_first_and_slowly_later():
    average, network = (torch.nn.Linear(1, 1, bias=False) for _ in range(2))
    for step, wanted in ((0, 0.9), (10**6, 0.001)):
        torch.nn.init.zeros_(average.weight)
        torch.nn.init.ones_(network.weight)
        update_average(average, network, 0.999, step)
        assert average.weight.item() == pytest.approx(wanted)


UPSCALING = replace(find_recipe("espcn", scale=2), patch=8, steps=4, validate_every=2, **SMALL)


@pytest.mark.parametrize("loss", ["l1", "mse", "ms_ssim", "mix"])
def test_a_network_that_enlarges_trains_by_each_loss(photos, tmp_path, loss):
    weights = fit(replace(UPSCALING, loss=loss), photos, tmp_path, device=CPU)
    assert load_checkpoint(weights).spec.scale == 2
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log[-1]["psnr"] > 0


@pytest.mark.parametrize(("loss", "sign"), [("mse", 1), ("ms_ssim", -1)])
def test_weights_are_kept_by_psnr_unless_structure_is_learnt(photos, tmp_path, loss, sign):
    fit(replace(UPSCALING, loss=loss), photos, tmp_path, device=CPU)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    judged_by = "psnr" if sign == 1 else "validation_loss"
    assert state_of(tmp_path)["best"] == max(sign * line[judged_by] for line in log)


def test_the_input_of_an_upscaling_counts_as_enlarged_by_bicubic(photos):
    network = registry.build("espcn", scale=2)
    held_out = loop.load_photos(photos, grey=True)[1]
    pairs = held_out_pairs(UPSCALING, held_out)
    of_input = loop.validate(UPSCALING, network, pairs, CPU)["input_psnr"]
    degraded, clean = pairs[0]
    bicubic = resize_matlab(degraded, *clean.shape[-2:])
    assert of_input == pytest.approx(psnr(bicubic.clamp(0, 1), clean).item())


def test_a_training_may_begin_with_weights_of_another_scale(tmp_path):
    other = registry.build("espcn", scale=3)
    save(other, tmp_path / "x3.safetensors", arch="espcn", config={"scale": 3}, record={})
    init = str(tmp_path / "x3.safetensors")
    begun = open_state(UPSCALING, tmp_path / "none", CPU, resume=False, init=init)
    assert_close(begun.network.extract.state_dict(), other.extract.state_dict())
    assert_close(begun.average.map.state_dict(), other.map.state_dict())
    assert begun.network.subpixel.weight.shape[0] == 4


def test_weights_of_which_nothing_fits_are_refused():
    with pytest.raises(WeightsMismatch, match="none of the weights"):
        begin_with(registry.build("espcn"), torch.nn.Linear(1, 1))


def test_a_recipe_that_keeps_the_size_has_no_scale():
    with pytest.raises(UsageError, match="dpenet does not change the size"):
        find_recipe("dpenet", scale=2)


def test_a_loss_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(UsageError, match="'l3'") as caught:
        find_recipe("espcn", loss="l3")
    assert "ms_ssim" in str(caught.value.hint)


def test_the_last_layer_is_solved_before_the_first_step_and_at_each_validation(
    photos, tmp_path, monkeypatch
):
    solved_at = []
    solve = loop.solve

    def watched(state, recipe, pairs):
        solved_at.append(state.step)
        solve(state, recipe, pairs)
        assert_close(state.network.state_dict(), state.average.state_dict(), atol=0, rtol=0)

    monkeypatch.setattr(loop, "solve", watched)
    monkeypatch.setattr(loop, "SOLVE_BATCHES", 3)
    fit(UPSCALING, photos, tmp_path, device=CPU)
    assert solved_at == [0, 2, 4]


def test_a_solved_training_is_resumed_as_if_it_had_not_stopped(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SOLVE_BATCHES", 3)
    fit(UPSCALING, photos, tmp_path / "whole", device=CPU, seed=2)

    def stop_at_three(progress):
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(UPSCALING, photos, tmp_path / "halves", device=CPU, seed=2, on_progress=stop_at_three)
    fit(UPSCALING, photos, tmp_path / "halves", device=CPU, seed=2, resume=True)
    whole, halves = state_of(tmp_path / "whole"), state_of(tmp_path / "halves")
    assert_close(halves["average"], whole["average"], atol=0, rtol=0)


def test_the_last_layer_learns_at_its_own_pace():
    state = open_state(UPSCALING, Path("none"), CPU, resume=False, init=None)
    low, high = torch.rand(1, 1, 8, 8), torch.rand(1, 1, 16, 16)
    step(state, UPSCALING, 0.1, low, high)
    others, last = (group["lr"] for group in state.optimizer.param_groups)
    assert last == pytest.approx(0.1 * others)
    assert state.optimizer.param_groups[1]["params"] == list(state.network.subpixel.parameters())


def test_other_losses_have_no_closed_solution(photos):
    recipe = replace(UPSCALING, loss="l1")
    state = open_state(recipe, Path("none"), CPU, resume=False, init=None)
    before = state.average.subpixel.weight.clone()
    loop.solve(
        state, recipe, loop.training_pairs(recipe, loop.load_photos(photos, grey=True)[0], 0)
    )
    assert torch.equal(state.average.subpixel.weight, before)


TML = replace(
    find_recipe("tml"),
    steps=4,
    batch=2,
    validate_every=2,
    view=(80, 80),
    is_usable=None,
    config={"pm_stem": 2, "em_stem": 2, "nominal_size": (80, 80)},
)


def test_troublemaker_learning_needs_nothing_but_photographs(photos, tmp_path):
    loaded = load_checkpoint(fit(TML, photos, tmp_path, device=CPU))
    assert (loaded.spec.arch, loaded.spec.fixed_size) == ("tml", (80, 80))
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log[-1]["input_psnr"] > 0


def test_both_models_of_tml_learn_at_once():
    state = open_state(TML, Path("none"), CPU, resume=False, init=None)
    before = {name: value.clone() for name, value in state.network.named_parameters()}
    step(state, TML, 0.1, *torch.rand(2, 2, 3, 80, 80))
    for model in ("pm", "em"):
        name = f"{model}.output.weight"
        assert not torch.equal(state.network.get_parameter(name), before[name])


def test_statistics_are_averaged_as_the_weights_they_belong_to():
    average, network = (torch.nn.BatchNorm2d(1) for _ in range(2))
    network.running_mean.fill_(1)
    network.num_batches_tracked.fill_(7)
    update_average(average, network, 0.9, 10**6)
    assert average.running_mean.item() == pytest.approx(0.1)
    assert average.num_batches_tracked.item() == 7


@pytest.mark.parametrize(("progress", "moves"), [(0.39, True), (0.4, False)])
def test_batch_norm_keeps_its_statistics_from_a_share_of_the_training_on(progress, moves):
    state = open_state(TML, Path("none"), CPU, resume=False, init=None)
    before = state.network.pm.enter[1].running_mean.clone()
    step(state, TML, progress, *torch.rand(2, 2, 3, 80, 80))
    assert torch.equal(state.network.pm.enter[1].running_mean, before) != moves


# Pairs of one's own


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Eight pairs of noisy and clean images."""
    noisy, clean = (tmp_path_factory.mktemp(name) for name in ("noisy", "clean"))
    for index in range(8):
        random = np.random.default_rng(index)
        coarse = Image.fromarray(random.integers(60, 200, (3, 4, 3), dtype=np.uint8))
        levels = np.asarray(coarse.resize((40, 32)))
        Image.fromarray(levels).save(clean / f"{index}.png")
        noise = random.integers(-40, 40, levels.shape)
        Image.fromarray((levels + noise).astype(np.uint8)).save(noisy / f"{index}.png")
    return noisy, clean


def test_a_network_learns_from_own_pairs(folders, tmp_path):
    recipe = replace(TINY, steps=40, validate_every=10)
    fit(recipe, folders, tmp_path, device=CPU)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["input_psnr"] < 25
    assert lines[-1]["psnr"] > lines[0]["psnr"]


def test_own_pairs_are_not_degraded_nor_reduced(folders):
    recipe, training, _ = loop.load_source(TINY, folders)
    assert len(training) == 7
    degraded, clean = loop.training_pairs(recipe, training, 0)[0]
    assert (degraded - clean).abs().mean().item() == pytest.approx(20 / 255, rel=0.2)


def test_a_whole_image_recipe_learns_from_own_pairs(folders, tmp_path):
    assert fit(TML, folders, tmp_path, device=CPU, steps=1).exists()


def test_a_recipe_that_knows_nothing_clean_refuses_own_pairs(folders, tmp_path):
    with pytest.raises(UsageError, match="noisy photographs alone"):
        fit(find_recipe("cbsn"), folders, tmp_path, device=CPU)


def test_own_pairs_that_are_equal_leave_nothing_to_validate(folders, tmp_path):
    with pytest.raises(NothingToDo, match="equal the clean ones"):
        fit(TINY, (folders[1], folders[1]), tmp_path, device=CPU)


# By the clock


@pytest.fixture
def ticking(monkeypatch):
    """A clock on which everything takes a second."""
    now = itertools.count().__next__
    monkeypatch.setattr(
        loop, "Budget", lambda steps, seconds, every, _: Budget(steps, seconds, every, now(), now)
    )


def rates(monkeypatch):
    """Fills with the progress and the share of the peak rate of each step."""
    seen = []
    really = loop.batch_loss

    def watched(state, recipe, progress, *batch, **options):
        seen.append((progress, state.optimizer.param_groups[0]["lr"] / recipe.learning_rate))
        return really(state, recipe, progress, *batch, **options)

    monkeypatch.setattr(loop, "batch_loss", watched)
    return seen


def test_a_time_without_steps_is_followed_by_the_learning_rate(
    photos, tmp_path, monkeypatch, ticking
):
    seen = rates(monkeypatch)
    fit(TINY, photos, tmp_path, device=CPU, time_limit=60)
    assert len(seen) > TINY.steps
    assert seen[0][0] == 0
    assert seen[-1][0] > 0.7
    assert all(rate == pytest.approx(BY_CLOCK(progress)) for progress, rate in seen)


def test_a_time_with_steps_leaves_the_learning_rate_to_the_steps(photos, tmp_path, monkeypatch):
    seen = rates(monkeypatch)
    fit(TINY, photos, tmp_path, device=CPU, steps=4, time_limit=60)
    assert [progress for progress, _ in seen] == [0, 0.25, 0.5, 0.75]


def test_a_resumed_training_has_the_time_of_its_own_call(photos, tmp_path, monkeypatch, ticking):
    fit(TINY, photos, tmp_path, device=CPU, time_limit=30)
    before = state_of(tmp_path)["step"]
    seen = rates(monkeypatch)
    fit(TINY, photos, tmp_path, device=CPU, time_limit=30, resume=True)
    assert seen[0][0] == 0
    assert state_of(tmp_path)["step"] == before + len(seen)


def test_a_training_of_soap_goes_on_from_its_state(photos, tmp_path):
    recipe = replace(TINY, optimizer=find_recipe("dpenet").optimizer)
    fit(recipe, photos, tmp_path / "whole", device=CPU)

    def stop_at_four(progress):
        if progress.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(recipe, photos, tmp_path / "halves", device=CPU, on_progress=stop_at_four)
    fit(recipe, photos, tmp_path / "halves", device=CPU, resume=True)
    whole, halves = state_of(tmp_path / "whole"), state_of(tmp_path / "halves")
    assert_close(halves["average"], whole["average"], atol=0, rtol=0)


def test_a_state_of_adam_is_no_state_for_soap(photos, tmp_path):
    adam = replace(TINY, optimizer=torch.optim.Adam)
    fit(adam, photos, tmp_path, device=CPU, steps=1)
    with pytest.raises(WeightsMismatch, match=r"state\.pt is not a state of this recipe"):
        fit(TINY, photos, tmp_path, device=CPU, resume=True)
