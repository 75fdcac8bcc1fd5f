"""Networks without initial values, for weights that are loaded right after."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

DRAWN: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.rand: torch.empty,
    torch.randn: torch.empty,
}
# Zeros, since torch.nn.init.trunc_normal_ draws again until no value is beyond its bounds.
FILLED: set[Callable[..., Any]] = {torch.Tensor.normal_, torch.Tensor.uniform_}


class _NoInitialValues(TorchFunctionMode):
    """Leave out the functions of torch.nn.init, and random numbers, in this thread.

    They cost time, and touch memory that is overwritten right after.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in FILLED:
            return args[0].zero_()
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return DRAWN.get(func, func)(*args, **kwargs or {})


@contextmanager
def no_initial_values() -> Iterator[None]:
    """Build networks with uninitialised weights in this thread; other buffers as they should be."""
    with _NoInitialValues():
        yield
