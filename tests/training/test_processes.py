"""Training by several processes equals the training by one."""

import os
import subprocess
import sys

import pytest
import torch
from torch.testing import assert_close

from restore_cli.assets import Launch, launch
from restore_cli.errors import UsageError
from restore_cli.training.processes import ALONE, Processes, join_processes
from tests.training.runs import log_of, state_of, stop_at, train
from tests.training.two_processes import GENERATION, INTERRUPTED_AT, RESTORATION, train_all

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
LAUNCHED = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}
MASTER = {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
# float32 in another order. SOAP divides rounding errors by rounding errors along the directions
# that have no gradient yet.
TOLERANCES = dict.fromkeys([*RESTORATION, *GENERATION], 1e-4) | {"espcn": 0.05, "cbsn_fast": 0.01}


@pytest.fixture(scope="module")
def alone(photos, class_folder, tmp_path_factory):
    """The folder of the trainings by one process."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("restore_cli.training.restoration.SOLVE_BATCHES", 3)
        train_all(folder, photos, class_folder, ALONE)
    return folder


@pytest.fixture(scope="module")
def together(photos, class_folder, tmp_path_factory):
    """The folder of the trainings by two processes, which torchrun has started."""
    folder = tmp_path_factory.mktemp("together")
    script = ("-m", "tests.training.two_processes", folder, photos, class_folder)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*TORCHRUN, *script], check=True, env=environment)
    return folder


@pytest.mark.parametrize(("name", "tolerance"), TOLERANCES.items())
def test_two_processes_train_as_one(name, tolerance, alone, together):
    logs = [log_of(folder / name) for folder in (alone, together)]
    for line in (*logs[0], *logs[1]):
        del line["seconds"]
    assert [line["step"] for line in logs[1]] == [2, 4]
    assert_close(*logs, rtol=tolerance, atol=1e-6)


def test_two_processes_agree_on_the_end_by_the_clock(together):
    state = state_of(together / "clock")
    assert state["step"] == state["judged"] >= 1


def test_a_signal_to_one_process_ends_all_of_them_with_a_state(together):
    ends = (together / "ends.txt").read_text().splitlines()
    assert [line.split()[0] for line in ends] == ["True", "True"]
    assert state_of(together / "interrupted")["step"] == INTERRUPTED_AT


def test_an_error_of_the_first_process_ends_all_of_them(together):
    ends = (together / "ends.txt").read_text().splitlines()
    assert [line.split()[1] for line in ends] == ["True", "True"]


def test_a_training_by_two_processes_is_continued_by_one(photos, alone, together):
    out = together / "interrupted"
    train(RESTORATION["dpenet"], photos, out, resume=True)
    whole, halves = state_of(alone / "dpenet"), state_of(out)
    assert halves["step"] == whole["step"]
    assert_close(halves["average"], whole["average"], rtol=1e-3, atol=1e-5)


def test_only_the_first_process_writes(together):
    written = {path.name for path in (together / "dpenet").iterdir()}
    assert written == {"dpenet.safetensors", "log.jsonl", "state.pt"}
    assert len(log_of(together / "dpenet")) == 2


@pytest.mark.parametrize(
    ("batch", "unit", "sizes"),
    [(8, 1, [2, 2, 2, 2]), (6, 1, [1, 2, 1, 2]), (12, 3, [3, 3, 3, 3]), (11, 3, [3, 3, 3, 2])],
)
def test_the_shares_of_a_batch_are_disjoint_and_whole(batch, unit, sizes):
    shares = [Processes(rank, 4).share(batch, unit) for rank in range(4)]
    assert [share.size for share in shares] == sizes
    assert [i for share in shares for i in range(batch)[share.rows]] == [*range(batch)]
    assert sum(share.weight for share in shares) == pytest.approx(1)
    assert all(share.rows.start % unit == 0 for share in shares)


@pytest.mark.parametrize(
    ("batch", "unit", "message"),
    [(3, 1, "a batch of 3 images is"), (6, 3, "a batch of 6 images in groups of 3 is")],
)
def test_a_batch_that_is_too_small_is_refused(batch, unit, message):
    with pytest.raises(UsageError, match=f"{message} too small for 4 processes"):
        Processes(0, 4).share(batch, unit)


def test_the_place_of_a_process_comes_from_the_environment(monkeypatch):
    assert launch() is None
    for name, value in (LAUNCHED | MASTER).items():
        monkeypatch.setenv(name, value)
    assert launch() == Launch(rank=1, count=2, local_rank=1)


def test_an_incomplete_environment_is_refused(monkeypatch):
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="MASTER_ADDR, MASTER_PORT is not set"):
        launch()


def test_one_gpu_for_several_processes_is_refused(monkeypatch):
    for name, value in (LAUNCHED | MASTER).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match="cannot share --device cuda:0"), join_processes("cuda:0"):
        pass


def test_a_resumed_training_draws_the_same_dropped_paths(photos, tmp_path):
    train(RESTORATION["tml"], photos, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(RESTORATION["tml"], photos, tmp_path / "halves", on_progress=stop_at(1))
    train(RESTORATION["tml"], photos, tmp_path / "halves", resume=True)
    whole, halves = (state_of(tmp_path / name)["network"] for name in ("whole", "halves"))
    assert_close(halves, whole, rtol=0, atol=0)
