"""Convolutions fused with the sum and the activation that follow, for networks on a CPU.

Each activation and each sum alone reads its features from memory and writes them again. oneDNN
applies both to the output of a convolution while it is in registers.
So the network is traced once, and `conv`, `activation(conv)` and `conv + other` become one call,
with weights that are packed once. The operators are those that `torch.compile` takes.
"""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils import skip_init

from restore_cli.inference.blockwise import BlockwiseSequential, blockwise_chains
from restore_cli.networks.layers import PixelConv

logger = logging.getLogger(__name__)

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
ACTIVATIONS: Mapping[object, str] = MappingProxyType(  # of functions, methods and modules
    {
        F.relu: "relu",
        "tanh": "tanh",
        "sigmoid": "sigmoid",
        nn.ReLU: "relu",
        nn.Sigmoid: "sigmoid",
        nn.PReLU: "leaky_relu",  # with one slope
    }
)
APPLY: Mapping[str, Callable[..., Tensor]] = MappingProxyType(
    {
        "none": lambda x: x,
        "relu": torch.relu_,
        "tanh": torch.tanh_,
        "sigmoid": torch.sigmoid_,
        "leaky_relu": F.leaky_relu_,
    }
)


class Packed:
    """Weights of a convolution as oneDNN wants them, by precision."""

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d):
        self.conv = conv
        self.shape = conv.padding, conv.stride, conv.dilation, conv.groups
        self._packed: dict[torch.dtype, tuple[Tensor, Tensor | None]] = {}

    def __deepcopy__(self, memo: dict[int, object]) -> Packed:
        return self  # packed tensors have no storage to copy, and nothing changes them

    def precision(self) -> torch.dtype:
        """Return the type in which the convolution computes, as autocast has it."""
        if torch.is_autocast_enabled("cpu") and not isinstance(self.conv, PixelConv):
            return torch.get_autocast_dtype("cpu")
        return self.conv.weight.dtype

    def weights(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return weights and bias for an input; they are packed for the first of each type."""
        if x.dtype not in self._packed:
            bias = None if self.conv.bias is None else self.conv.bias.to(x.dtype)
            self._packed[x.dtype] = self._pack(self.conv.weight.to(x.dtype), x), bias
        return self._packed[x.dtype]

    def _pack(self, weight: Tensor, x: Tensor) -> Tensor:
        pack = torch.ops.mkldnn
        packed: Tensor
        if isinstance(self.conv, nn.ConvTranspose2d):
            padding, *others = self.shape
            packed = pack._reorder_convolution_transpose_weight(
                weight, padding, self.conv.output_padding, *others, list(x.shape)
            )
        else:
            packed = pack._reorder_convolution_weight(weight, *self.shape, list(x.shape))
        return packed


class FusedConv(nn.Module):
    """A convolution, the sum with other features if there are any, and an activation."""

    def __init__(self, packed: Packed, activation: str = "none", slope: float | None = None):
        super().__init__()
        self.packed, self.activation = packed, activation
        self.slope = [] if slope is None else [slope]

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        x = x.to(self.packed.precision())
        weight, bias = self.packed.weights(x)
        operators, conv = torch.ops.mkldnn, self.packed.conv
        activation = (self.activation, self.slope, "")
        result: Tensor
        if isinstance(conv, nn.ConvTranspose2d):
            padding, *others = self.packed.shape
            result = operators._convolution_transpose_pointwise(
                x, weight, bias, padding, conv.output_padding, *others, *activation
            )
        elif other is None:
            result = operators._convolution_pointwise(
                x, weight, bias, *self.packed.shape, *activation
            )
        elif other.dtype == x.dtype and other.shape == (len(x), conv.out_channels, *x.shape[-2:]):
            unary = (None, [], None) if self.activation == "none" else activation
            result = operators._convolution_pointwise.binary(
                x, other, weight, bias, *self.packed.shape, "add", None, *unary
            )
        else:
            result = operators._convolution_pointwise(
                x, weight, bias, *self.packed.shape, "none", [], ""
            )
            result = APPLY[self.activation](result.to(other.dtype) + other, *self.slope)
        return result


class _OneInput(nn.Module):
    """A network without its further arguments, which keep their defaults."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.network(x)
        return output


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        """Leave out of the trace what has no convolutions inside."""
        if isinstance(module, (*CONVOLUTIONS, BlockwiseSequential)):
            return True
        return not _has_convolutions(module)


def fused(network: nn.Module) -> nn.Module:
    """Return `network` with fused convolutions, for inference on a CPU in float32 and bfloat16.

    The weights are those of `network`. It is returned as it is if it has no convolutions or cannot
    be traced, since its control flow depends on the input. Blocks of a `BlockwiseSequential` are
    replaced in place.
    """
    for chain in blockwise_chains(network):
        for index, block in enumerate(chain.blocks):
            chain.blocks[index] = fused(block)
            chain.blocks[index].radius = block.radius
    if not _has_convolutions(network):
        return network
    root = _OneInput(network)
    try:
        graph = _Tracer().trace(root)
    except (fx.proxy.TraceError, TypeError):  # TypeError: a size is taken for a number
        return network
    return _Fusion(root, graph).run()


class _Fusion:
    """Replacement of the convolutions of one traced network."""

    def __init__(self, root: nn.Module, graph: fx.Graph):
        self.root, self.graph = root, graph
        self.modules = dict(root.named_modules())
        self.packed: dict[nn.Module, Packed] = {}  # a module may serve several places

    def run(self) -> fx.GraphModule:
        for node in list(self.graph.nodes):
            if self._is_conv(node):
                self._fuse(node)
        return fx.GraphModule(self.root, self.graph)

    def _is_conv(self, node: fx.Node) -> bool:
        module = self._module(node)
        if type(module) not in (nn.Conv2d, PixelConv, nn.ConvTranspose2d) or len(node.args) != 1:
            return False
        return module.padding_mode == "zeros" and not isinstance(module.padding, str)  # type: ignore[union-attr]

    def _fuse(self, node: fx.Node) -> None:
        conv = self._module(node)
        assert isinstance(conv, CONVOLUTIONS)
        replaced, inputs = [node], list(node.args)
        if isinstance(conv, nn.Conv2d) and (found := self._sum(node)):
            nodes, other = found
            replaced, inputs = [*replaced, *nodes], [*inputs, other]
        activation, slope = "none", None
        follower = _only(replaced[-1].users)
        if follower is not None and (applied := self._activation(follower)):
            activation, slope = applied
            replaced.append(follower)
        name = f"fused_{node.name}"
        packed = self.packed.setdefault(conv, Packed(conv))
        self.root.add_module(name, FusedConv(packed, activation, slope))
        with self.graph.inserting_before(replaced[-1]):
            replacement = self.graph.call_module(name, tuple(inputs))
        replaced[-1].replace_all_uses_with(replacement)
        for old in reversed(replaced):
            self.graph.erase_node(old)

    def _sum(self, node: fx.Node) -> tuple[list[fx.Node], fx.Node] | None:
        """Return the sum that is the only user of a convolution's output, and its other operand.

        A conversion (`type_as`) before the sum is part of it.
        """
        path, user = [node], _only(node.users)
        if user is not None and user.op == "call_method" and user.target == "type_as":
            path, user = [*path, user], _only(user.users)
        if user is None or user.target is not operator.add:
            return None
        others = [operand for operand in user.args if operand is not path[-1]]
        # A convolution that waited for its other operand would keep its input in memory.
        if len(others) != 1 or not isinstance(others[0], fx.Node) or not others[0] < node:
            return None
        return [*path[1:], user], others[0]

    def _activation(self, node: fx.Node) -> tuple[str, float | None] | None:
        module = self._module(node)
        name = ACTIVATIONS.get(node.target if module is None else type(module))
        if isinstance(module, nn.PReLU):
            slopes = module.weight
            return None if len(slopes) > 1 else ("leaky_relu", slopes.item())
        return None if name is None else (name, None)

    def _module(self, node: fx.Node) -> nn.Module | None:
        return self.modules.get(str(node.target)) if node.op == "call_module" else None


def can_fuse(precision: str) -> bool:
    """Tell whether this torch has the operators of oneDNN, and they compute a precision here.

    torch does not document them, so each is tried once, on a single pixel.
    """
    onednn = torch.backends.mkldnn
    if precision == "fp16" or not onednn.is_available():  # type: ignore[no-untyped-call]
        return False
    in_bf16 = precision == "bf16"
    x = torch.zeros(1, 1, 1, 1, dtype=torch.bfloat16 if in_bf16 else torch.float32)
    operators = torch.ops.mkldnn
    try:
        if operators._is_mkldnn_acl_supported():  # on ARM, where torch itself fuses nothing
            return False
        if in_bf16 and not operators._is_mkldnn_bf16_supported():
            return False
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=in_bf16):
            conv, transposed = (
                FusedConv(Packed(skip_init(kind, 1, 1, 1)), "relu")  # type: ignore[no-untyped-call]
                for kind in CONVOLUTIONS
            )
            transposed(conv(x, conv(x)))
    except (AttributeError, RuntimeError) as error:  # no such operator, arguments or precision
        logger.debug("convolutions are not fused: %s", error)
        return False
    return True


def _has_convolutions(module: nn.Module) -> bool:
    return any(isinstance(inner, CONVOLUTIONS) for inner in module.modules())


def _only(users: Mapping[fx.Node, None]) -> fx.Node | None:
    return next(iter(users)) if len(users) == 1 else None
