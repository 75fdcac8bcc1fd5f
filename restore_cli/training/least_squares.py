"""Closed-form solution of a network's last layer.

A network that ends in a convolution and a pixel shuffle is linear in the weights of that
convolution, so the weights of least mean squared error solve a system of linear equations.
Gradient descent converges slowly there: neighbouring features are nearly equal, which makes the
system ill-conditioned.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RIDGE = 1e-7  # times the number of samples; features lie in [-1, 1]


@torch.no_grad()
def solve_last_layer(
    network: nn.Module, layer: nn.Conv2d, pairs: Iterable[tuple[Tensor, Tensor]]
) -> None:
    """Set weights and bias of `layer` to the least-squares solution over `pairs`.

    Only a pixel shuffle follows `layer` in `network`. pairs: batches of (input, target).
    """
    features: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    unknowns = layer.weight[0].numel() + 1
    gram = torch.zeros(unknowns, unknowns, dtype=torch.float64)
    moments = torch.zeros(unknowns, layer.out_channels, dtype=torch.float64)
    device = layer.weight.device
    try:
        for degraded, clean in pairs:
            network(degraded.to(device))
            rows = _neighbourhoods(features.pop(), layer)
            scale = clean.shape[-1] // degraded.shape[-1]
            target = F.pixel_unshuffle(clean.to(device), scale).movedim(1, -1).flatten(0, -2)
            gram += (rows.T @ rows).double().cpu()
            moments += (rows.T @ target).double().cpu()
    finally:
        hook.remove()
    ridge = RIDGE * gram[-1, -1] * torch.eye(unknowns, dtype=torch.float64)
    solution = torch.linalg.solve(gram + ridge, moments)  # (unknowns, out)
    layer.weight.copy_(solution[:-1].T.reshape(layer.weight.shape))
    if layer.bias is not None:
        layer.bias.copy_(solution[-1])


def _neighbourhoods(features: Tensor, layer: nn.Conv2d) -> Tensor:
    """Return the inputs at each pixel and a 1 for the bias, (samples, unknowns)."""
    size, padding = layer.kernel_size, layer.padding
    assert isinstance(padding, tuple)  # not a word such as "same"
    columns = F.unfold(features.float(), size, padding=padding)  # (B, unknowns - 1, H * W)
    rows = columns.transpose(1, 2).flatten(0, 1)
    return torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)
