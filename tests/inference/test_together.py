"""Calls at the same time, whose network inputs of one shape run as a batch."""

import _thread
import time

import pytest
import torch
from torch.testing import assert_close

from restore_cli.imaging.image import Image
from restore_cli.inference.chain import Step, load_chain
from restore_cli.inference.options import RunOptions
from restore_cli.inference.restorer import load_restorer
from restore_cli.inference.runner import NetworkRunner
from restore_cli.inference.together import run_batched, together
from restore_cli.inference.upscaler import Target, load_upscaler

FP32 = RunOptions(device="cpu", backend="torch", precision="fp32")


class Doubling:
    """A network that remembers the shapes of its inputs."""

    def __init__(self, error=lambda x: None):
        self.shapes = []
        self.error = error

    def __call__(self, x):
        self.shapes.append(tuple(x.shape))
        if (error := self.error(x)) is not None:
            raise error
        return 2 * x


def through(network, *inputs, key="network"):
    """Run each input through the network in a call of its own."""
    return together([lambda x=x: run_batched(key, network, x) for x in inputs])


def test_inputs_of_one_shape_run_as_one_batch():
    network, inputs = Doubling(), [torch.full((1, 3, 4, 5), float(value)) for value in range(4)]
    results = [pending.result() for pending in through(network, *inputs)]
    assert network.shapes == [(4, 3, 4, 5)]
    for x, result in zip(inputs, results, strict=True):
        assert torch.equal(result, 2 * x)


def test_inputs_may_be_batches_themselves():
    network = Doubling()
    results = through(network, torch.ones(3, 1, 2, 2), torch.zeros(3, 1, 2, 2))
    assert network.shapes == [(6, 1, 2, 2)]
    assert [pending.result().mean().item() for pending in results] == [2, 0]
    assert all(len(pending.peek()) == 3 for pending in through(network, *torch.ones(2, 3, 1, 2, 2)))


def test_inputs_of_other_shapes_run_apart():
    network = Doubling()
    sides = (4, 6, 4)
    results = through(network, *(torch.ones(1, 1, side, side) for side in sides))
    assert [pending.result().shape[-1] for pending in results] == list(sides)
    assert sorted(network.shapes) == [(1, 1, 6, 6), (2, 1, 4, 4)]


def test_inputs_of_other_networks_run_apart():
    networks = [Doubling(), Doubling()]
    calls = [lambda n=n: run_batched(id(n), n, torch.ones(1, 1, 2, 2)) for n in networks]
    assert len(together(calls)) == 2
    assert [network.shapes for network in networks] == 2 * [[(1, 1, 2, 2)]]


def test_a_network_outside_runs_at_once():
    assert torch.equal(
        run_batched("", Doubling(), torch.ones(1, 1, 2, 2)), torch.full((1, 1, 2, 2), 2.0)
    )


def test_the_others_do_not_wait_for_a_call_that_ended():
    network = Doubling()
    x = torch.ones(1, 1, 2, 2)

    def twice():
        return run_batched("", network, run_batched("", network, x))

    def broken():
        raise ValueError("no image")

    calls = [twice, broken, twice, lambda: run_batched("", network, x), lambda: x]
    results = together(calls)
    assert [results[place].result()[0, 0, 0, 0].item() for place in (0, 2, 3, 4)] == [4, 4, 2, 1]
    with pytest.raises(ValueError, match="no image"):
        results[1].result()
    assert network.shapes == [(3, 1, 2, 2), (2, 1, 2, 2)]


def test_an_error_of_the_network_ends_each_call():
    network = Doubling(lambda x: ZeroDivisionError("wrong"))
    for pending in through(network, *torch.ones(3, 1, 1, 2, 2)):
        with pytest.raises(ZeroDivisionError, match="wrong"):
            pending.result()
    assert network.shapes == [(3, 1, 2, 2)]


def test_a_batch_beyond_the_memory_runs_one_by_one():
    full = torch.OutOfMemoryError("CUDA out of memory")
    network = Doubling(lambda x: full if len(x) > 1 or x[0, 0, 0, 0] == 2 else None)
    results = through(network, *torch.arange(4.0).reshape(4, 1, 1, 1, 1))
    assert [results[place].result().item() for place in (0, 1, 3)] == [0, 2, 6]
    with pytest.raises(torch.OutOfMemoryError):
        results[2].result()


def test_an_interrupt_leaves_no_thread_behind():
    before = _thread._count()
    interrupting = Doubling(lambda x: KeyboardInterrupt())

    def again():  # and again: no further network runs
        run_batched("", interrupting, run_batched("", interrupting, torch.ones(1, 1, 2, 2)))

    with pytest.raises(KeyboardInterrupt):
        together([again, again, lambda: run_batched("other", Doubling(), torch.ones(1, 1, 2, 2))])
    deadline = time.monotonic() + 10
    while _thread._count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _thread._count() == before


@pytest.mark.parametrize(
    "load",
    [
        lambda: load_restorer("denoise", FP32),
        lambda: load_restorer("derain", FP32),
        lambda: load_restorer("enhance", FP32),
        lambda: load_upscaler(
            RunOptions(device="cpu", backend="torch", model="espcn"), Target(2.5)
        ),
        lambda: load_chain([Step("derain"), Step("upscale", 2, "espcn")], FP32),
    ],
    ids=["denoise", "derain", "enhance", "x2.5", "chain"],
)
def test_images_are_restored_as_alone(load, monkeypatch):
    generator = torch.Generator().manual_seed(1)
    images = [Image(torch.rand(3, 33, 40, generator=generator) * 0.3) for _ in range(3)]
    images.append(Image(torch.rand(3, 20, 24, generator=generator), torch.rand(1, 20, 24)))
    restorer = load()
    alone = [restorer(image) for image in images]
    run, batches = NetworkRunner._computed, []

    def counted(self, inputs, precision):
        batches.append(len(inputs))
        return run(self, inputs, precision)

    monkeypatch.setattr(NetworkRunner, "_computed", counted)
    results = together([lambda image=image: restorer(image) for image in images])
    for pending, wanted in zip(results, alone, strict=True):
        restored = pending.result()
        assert_close(restored.image.pixels, wanted.image.pixels, atol=1e-5, rtol=0)
        assert (restored.image.alpha is None) == (wanted.image.alpha is None)
        assert restored.report.precision == wanted.report.precision
    assert max(batches) >= 3


def test_the_precision_is_settled_by_several_images_at_once():
    restorer = load_restorer("denoise", RunOptions(device="cpu", model="cbsn", backend="torch"))
    calls = [lambda: restorer(Image(torch.rand(3, 24, 24))).report.precision] * 3
    assert len({pending.result() for pending in together(calls)}) == 1
