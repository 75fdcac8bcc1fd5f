"""CUDA graphs: when a shape is recorded, and what happens where that fails."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from restore_cli.inference import graphs as module
from restore_cli.inference.graphs import MAX_GRAPHS, MAX_PIXELS, SEEN_BEFORE_RECORDING, Graphs


class There(torch.Tensor):
    """A tensor that says it is on CUDA."""

    device = torch.device("cuda:0")


def there(*shape):
    return torch.rand(*shape).as_subclass(There)


def negative(x, again):
    return -x


class Recorder:
    """Counts records and replays."""

    def __init__(self, factor=1.0, error=None):
        self.factor, self.error, self.recorded, self.replayed = factor, error, 0, 0

    def __call__(self, network, sample):
        if self.error:
            raise self.error
        self.recorded += 1

        def replay(x):
            self.replayed += 1
            return self.factor * network(x, True)

        return replay


@pytest.fixture(autouse=True)
def default_stream(monkeypatch):
    class Stream:
        cuda_stream = 0

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())


def run(recorder, shapes, monkeypatch):
    monkeypatch.setattr(module, "record", recorder)
    graphs = Graphs()
    for shape in shapes:
        x = there(*shape)
        assert_close(graphs.run(negative, x, "fp32"), -x)
    return graphs


def test_a_shape_that_comes_again_is_recorded_once_and_replayed(monkeypatch):
    recorder = Recorder()
    run(recorder, [(1, 3, 8, 8)] * (SEEN_BEFORE_RECORDING + 4), monkeypatch)
    assert recorder.recorded == 1
    assert recorder.replayed == 1 + 3  # the first compares


def test_shapes_that_do_not_come_again_are_not_recorded(monkeypatch):
    recorder = Recorder()
    run(recorder, [(1, 3, 8, side) for side in range(8, 20)], monkeypatch)
    assert recorder.recorded == 0


def test_large_inputs_are_not_recorded(monkeypatch):
    recorder = Recorder()
    run(recorder, [(1, 1, 1, MAX_PIXELS + 1)] * (SEEN_BEFORE_RECORDING + 2), monkeypatch)
    assert recorder.recorded == 0


def test_few_shapes_are_recorded_at_once(monkeypatch):
    recorder = Recorder()
    run(
        recorder,
        [(1, 1, 4, side) for side in range(4, 14)] * (SEEN_BEFORE_RECORDING + 1),
        monkeypatch,
    )
    assert recorder.recorded == MAX_GRAPHS


def test_a_network_is_told_that_a_shape_comes_again(monkeypatch):
    told = []
    graphs = Graphs()
    for side in (8, 8, 9, 8):
        x = there(1, 1, side, MAX_PIXELS)
        graphs.run(lambda x, again: told.append(again), x, "bf16")
    assert told == [False, True, False, True]


@pytest.mark.parametrize(
    ("recorder", "reason"),
    [
        (Recorder(error=RuntimeError("not permitted\nCompile with ...")), "not permitted"),
        (Recorder(factor=1.1), "the replay differs from the network"),
    ],
    ids=["cannot be recorded", "differs"],
)
def test_a_failed_record_is_one_line_of_the_log(recorder, reason, monkeypatch, caplog):
    run(recorder, [(1, 3, 8, 8)] * (SEEN_BEFORE_RECORDING + 4), monkeypatch)
    assert caplog.messages == [f"no CUDA graph, which is slower for small images: {reason}"]


def test_cleared_graphs_are_not_recorded_again(monkeypatch):
    recorder = Recorder()
    graphs = run(recorder, [(1, 3, 8, 8)] * (SEEN_BEFORE_RECORDING + 1), monkeypatch)
    graphs.clear()
    x = there(1, 3, 8, 8)
    assert_close(graphs.run(negative, x, "fp32"), -x)
    assert (recorder.recorded, recorder.replayed) == (1, 1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_real_graph_gives_what_the_network_gives(monkeypatch):
    monkeypatch.undo()
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 3)).cuda()
    graphs = Graphs()
    with torch.inference_mode():
        for _ in range(SEEN_BEFORE_RECORDING + 3):
            x = torch.rand(1, 3, 32, 32, device="cuda")
            assert_close(
                graphs.run(lambda x, _: network(x), x, "fp32"), network(x), atol=1e-5, rtol=0
            )
    assert len(graphs._recorded) == 1
