"""Draws every parameter and every running statistic of a network anew, so that each of them matters to a gradient.

A network as its library initializes it is no test of a gradient: layer scales are zero or 1e-6 (whole branches vanish),
biases and position tables are zero, BatchNorm does nothing, and linear layers of standard deviation 0.02 leave every softmax
uniform and every activation near its origin. Here matrices and kernels get the scale that keeps a signal's size, scales are
drawn from [0.5, 1.5], offsets are small but not zero, and BatchNorm's statistics are those of random inputs, then perturbed.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

SCALES = (0.5, 1.5)
OFFSET_STD = 0.1
TABLE_STD = 0.5
VARIANCE_FLOOR = 0.05
WEIGHTED = ("Linear", "Conv", "LSTM", "GRU", "RNN", "Attention")
NORMALIZING = ("Norm", "Affine", "GRN", "Rms")
BATCH_NORMS = nn.modules.batchnorm._BatchNorm


def randomize(network: nn.Module, run: Callable[[], Any], seed: int) -> None:
    """Draws parameters and statistics in place.

    Args:
        network: The network.
        run: Runs it once on random inputs; BatchNorm's statistics are taken from this run.
        seed: Seeds all draws.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        drawn: set[int] = set()
        for module in network.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if id(parameter) not in drawn:  # Tied weights are drawn once.
                    drawn.add(id(parameter))
                    draw(module, name, parameter, generator)
        calibrate(network, run, generator)


def draw(module: nn.Module, name: str, parameter: Tensor, generator: torch.Generator) -> None:
    """Draws one parameter by what it is: scale, offset, weight of a linear map, or table (embedding, position, token)."""
    kind = type(module).__name__
    normal = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    uniform = torch.empty_like(parameter).uniform_(*SCALES, generator=generator)
    if "bias" in name and parameter.dim() == 1:
        parameter.copy_(OFFSET_STD * normal)
    elif "original0" in name:  # The norms of a weight-normalized kernel.
        parameter.mul_(uniform)
    elif is_linear_map(module, name, parameter):
        gain = 2.0 if "Conv" in kind and parameter.dim() == 4 else 1.0  # Most 2-D convolutions feed a ReLU-like one.
        parameter.copy_(math.sqrt(gain / parameter[0].numel()) * normal)
    elif is_constant(parameter) and (parameter.flatten()[0] != 0 or is_scale(module, name)):
        # Ones, or a published start (a temperature of 10): perturbed. Zeros and 1e-6 of a layer scale: drawn.
        value = parameter.flatten()[0].abs().item()
        parameter.copy_(uniform * (value if value > 0.01 else 1.0))
    else:
        parameter.copy_(TABLE_STD * normal)


def is_linear_map(module: nn.Module, name: str, parameter: Tensor) -> bool:
    """Says whether a parameter is a matrix or kernel [outputs, inputs, ...] that is applied to a signal."""
    if parameter.dim() < 2:
        return False
    kind = type(module).__name__
    return (("weight" in name or "kernel" in name) and any(word in kind for word in WEIGHTED)) or "original1" in name


def is_scale(module: nn.Module, name: str) -> bool:
    """Says whether a parameter that starts at zero multiplies (a layer scale) rather than adds."""
    words = ("gamma", "scale", "lambda", "alpha", "temperature")
    normalizes = any(word in type(module).__name__ for word in NORMALIZING)
    return any(word in name for word in words) or (name == "weight" and normalizes)


def is_constant(parameter: Tensor) -> bool:
    """Says whether all elements are equal."""
    return bool((parameter == parameter.flatten()[0]).all())


def calibrate(network: nn.Module, run: Callable[[], Any], generator: torch.Generator) -> None:
    """Sets BatchNorm's statistics, in one run, to those of what each of them is given, perturbed.

    Each is set before it works, so what comes after it is measured on its perturbed output: nothing drifts with depth.
    """

    def set_statistics(norm: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        values = arguments[0].transpose(0, 1).flatten(1)
        variance = values.var(1, unbiased=False)
        variance = variance + VARIANCE_FLOOR * variance.mean()  # A channel that was silent may speak with other inputs.
        offset = torch.randn(variance.shape, generator=generator)
        norm.running_mean.copy_(values.mean(1) + OFFSET_STD * variance.sqrt() * offset)
        norm.running_var.copy_(variance * torch.empty_like(variance).uniform_(*SCALES, generator=generator))

    norms = [module for module in network.modules() if isinstance(module, BATCH_NORMS) and module.running_var is not None]
    hooks = [norm.register_forward_pre_hook(set_statistics) for norm in norms]
    if norms:
        run()
    for hook in hooks:
        hook.remove()
