"""Workers of Ray do what a local run does, whatever happens to one of them."""

import json
import os
import pickle
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from restore_cli.batch.distributed import Cluster, _Worker, start
from restore_cli.batch.ledger import Ledger
from restore_cli.batch.pipeline import BatchOptions
from restore_cli.batch.plan import plan
from restore_cli.batch.provenance import CommandRecord
from restore_cli.batch.run import run, run_plan
from restore_cli.errors import DeviceError, MissingExtra, UnreadableImage, UsageError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")

ROOT = str(Path(__file__).parents[2])  # workers import from there what is tested
KILLS_ONCE, KILLS = 13, 17  # widths of images


def loader(flag):
    """A function that loads DPENet; it is sent to workers that know no tests."""

    def load():
        from restore_cli.inference.options import RunOptions
        from restore_cli.inference.restorer import load_restorer

        class Fragile:
            def __init__(self):
                self.restorer = load_restorer("derain", RunOptions(device="cpu"))

            def __getattr__(self, name):
                return getattr(self.restorer, name)

            def __call__(self, image, **options):
                if image.width == KILLS or (image.width == KILLS_ONCE and not flag.exists()):
                    flag.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                return self.restorer(image, **options)

        return Fragile()

    return load


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def draw(name, size=(9, 8)):
    Path(name).parent.mkdir(exist_ok=True)
    Image.effect_noise(size, 50).convert("RGB").save(name)


def planned(out, **options):
    return plan(["in"], out, task="derain", model="", **options)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Results by name of images in two workers, and of all but the worst one here."""
    ray = pytest.importorskip("ray")
    folder = tmp_path_factory.mktemp("ran")
    environment = pytest.MonkeyPatch()
    environment.setenv("PYTHONPATH", ROOT)
    environment.chdir(folder)
    for number in range(20):
        draw(f"in/{number}.png")
    draw("in/2_kills.png", (KILLS_ONCE, 8))
    draw("in/7_poison.png", (KILLS, 8))
    Path("in/3_broken.png").write_bytes(Path("in/0.png").read_bytes()[:60])
    pool = start(loader(folder / "killed"), Cluster(workers=2))
    options = BatchOptions(record=CommandRecord("derain", pool.options, "cpu"))
    ours = run_plan(planned("ours", ledger=Ledger(Path("run.sqlite"))), pool.run, options)
    found = {result.job.source.name: result for result in ours}
    harmless = [job for job in planned("local").jobs if job.source.name != "7_poison.png"]
    local = run(harmless, pool.load(), options)
    yield folder, found, {result.job.source.name: result for result in local}
    ray.shutdown()
    environment.undo()


def test_outputs_are_those_of_a_local_run_though_workers_are_killed(ran):
    folder, _, _ = ran
    ours, local = (
        {path.name: path.read_bytes() for path in (folder / out).iterdir() if path.suffix == ".png"}
        for out in ("ours", "local")
    )
    assert len(ours) == 21
    assert ours == local


def test_the_ledger_has_the_state_of_each_item(ran):
    folder, _, _ = ran
    assert Ledger(folder / "run.sqlite").counts() == {"ok": 21, "failed": 2}


def test_an_image_that_ends_its_worker_three_times_has_failed(ran):
    error = ran[1]["7_poison.png"].error
    assert isinstance(error, DeviceError)
    assert error.message == "in/7_poison.png: the worker ended in 3 attempts"


def test_errors_are_those_of_a_local_run(ran):
    _, found, known = ran
    error = found["3_broken.png"].error
    assert isinstance(error, UnreadableImage)
    assert error.message == known["3_broken.png"].error.message


def test_more_workers_than_cores_of_a_running_ray_are_refused(ran):
    with pytest.raises(UsageError, match="500 workers"):
        start(loader(None), Cluster(workers=500))


def test_a_bug_in_a_worker_keeps_its_traceback(here):
    draw("in/0.png")
    worker = _Worker(loader(here / "killed"), str(here), None, None)
    (row,) = worker._run(list(enumerate(planned("out").jobs)))
    assert "AttributeError: 'NoneType' object has no attribute" in pickle.loads(row)[-1]


def test_without_ray_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra) as raised:
        start(partial(loader, None), Cluster())
    assert raised.value.hint == "pip install 'restore-cli[ray]'"


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_an_interrupt_ends_the_workers_and_says_nothing_else(here, interruptible):
    pytest.importorskip("ray")
    for number in range(400):
        draw(f"in/{number}.png", (240, 240))
    command = [sys.executable, "-m", "restore_cli", "derain", "in", "-o", "out", "--json"]
    command += ["--engine", "ray", "--workers", "2"]
    environment = os.environ | {"PYTHONPATH": ROOT}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert json.loads(process.stdout.readline())["status"] == "ok"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=300)
    assert process.returncode == 130
    assert [line for line in said.splitlines() if "rain" not in line and "dpenet" not in line] == [
        "restore: interrupted"
    ]
    assert not [path for path in Path("out").iterdir() if path.name.startswith(".")]
