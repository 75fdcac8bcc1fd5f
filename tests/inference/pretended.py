"""A CUDA device that is none: tensors say that they are there, and are computed on the CPU.

An operation on tensors of two devices fails, as it would. Copies between both, and operations for
which the CPU would wait, are counted.
"""

from collections import Counter
from contextlib import contextmanager, nullcontext

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from restore_cli.imaging import transfer
from restore_cli.inference import device as device_module
from restore_cli.inference import graphs, runner
from restore_cli.inference import restorer as restorer_module

CUDA = torch.device("cuda:0")
WAITING = {  # whose result the CPU needs
    "aten._local_scalar_dense.default",
    "aten.nonzero.default",
    "aten.masked_select.default",
    "aten.bincount.default",
    "aten.equal.default",
    "aten.is_nonzero.default",
}


class OnDevice(torch.Tensor):
    """A tensor that says it is on CUDA."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device="meta",  # to PyTorch, which has no CUDA here
        )

    def __init__(self, inner):
        self.inner = inner

    @property
    def device(self):
        return CUDA

    @property
    def is_meta(self):
        return False

    def __repr__(self):
        return f"OnDevice({tuple(self.shape)})"

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        raise AssertionError(f"{operation} outside of the pretended device")


class Pretended(TorchDispatchMode):
    """Runs operations of the pretended device, and counts what waits for it."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = [each for each in tree_flatten((args, kwargs))[0] if torch.is_tensor(each)]
        here = [each for each in tensors if isinstance(each, OnDevice)]
        asked = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, torch.device)]
        goes = CUDA in asked
        args, kwargs = tree_map(_on_cpu, (args, kwargs))
        if not here and not goes:
            return operation(*args, **kwargs)
        name = str(operation)
        if here and name.startswith("aten.index.") and args[1][-1].dtype == torch.bool:
            self.counts["wait"] += 1
        if name == "aten.copy_.default":
            operation(*tree_map(_inner, args), **kwargs)
            self._count(args[1], args[0])
            return args[0]
        strangers = [t.shape for t in tensors if not isinstance(t, OnDevice) and t.dim()]
        assert not (here and strangers), f"{name} on two devices: {strangers}"
        self.counts["wait"] += name in WAITING
        result = operation(*tree_map(_inner, args), **tree_map(_inner, kwargs))
        if operation._schema.name.endswith("_") or "out" in kwargs:
            return kwargs.get("out", args[0])
        result = tree_map(_outer, result) if goes or not asked else result
        if asked and tensors:
            self._count(tensors[0], result)
        return result

    def _count(self, source, target):
        there = isinstance(target, OnDevice)
        if isinstance(source, OnDevice) != there and (there or not target.is_meta):
            direction = "up" if there else "down"
            self.counts[direction] += 1
            self.counts[direction + " bytes"] += target.nbytes


def _on_cpu(value):
    return torch.device("cpu") if value == CUDA and isinstance(value, torch.device) else value


def _inner(value):
    return value.inner if isinstance(value, OnDevice) else value


def _outer(value):
    if not isinstance(value, torch.Tensor):
        return value
    with torch.inference_mode(False):  # a view of another tensor shares its version
        return OnDevice(value)


def _moved(module, *args, **kwargs):
    """Module.to, which keeps the class of its parameters."""
    if not args or args[0] != CUDA:
        return module
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for name, tensor in tensors.items():
                if tensor is not None and not isinstance(tensor, OnDevice):
                    tensors[name] = OnDevice(tensor.detach().clone())
    return module


def _recorded(tensor, stream):
    """Tensor.record_stream, which keeps the memory until the stream has come so far."""


def _picked(name):
    return CUDA if name == "cuda" else torch.device("cpu")


@contextmanager
def pretended_cuda(monkeypatch):
    """Yield the counts of a device `cuda` within this block."""

    class Stream:
        cuda_stream = 0

        def synchronize(self):
            mode.counts["end"] += 1

    for module in (device_module, restorer_module):
        monkeypatch.setattr(
            module, "pick_device", lambda name: torch.device(CUDA if name == "cuda" else "cpu")
        )
    for module in (device_module, restorer_module, runner):
        monkeypatch.setattr(module, "free_memory", lambda device: 1 << 34)
    for module in (device_module, runner):
        monkeypatch.setattr(module, "low_precisions", lambda device: ())
    monkeypatch.setattr(transfer, "free_cuda_memory", lambda device: 1 << 34)
    monkeypatch.setattr(transfer, "_stream", lambda device, name: Stream())
    monkeypatch.setattr(
        transfer, "_page_locked", lambda shape, dtype: torch.empty(shape, dtype=dtype)
    )
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())
    monkeypatch.setattr(OnDevice, "record_stream", _recorded)
    monkeypatch.setattr(torch.nn.Module, "to", _moved)
    monkeypatch.setattr(graphs, "SEEN_BEFORE_RECORDING", 1 << 30)  # no graph is recorded
    with Pretended() as mode:
        yield mode.counts
