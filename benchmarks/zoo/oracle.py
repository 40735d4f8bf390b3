"""What a gradient must be: float64 autograd in torch, for two targets of a probed network.

A network of ReLUs and max-pools is piecewise smooth. Where a sample lies within float32's rounding of a kink, float32 lands
on either side of it, and the right gradient in float32 is not the right one in float64 (by up to 1e-2, in PyTorch as in
anything else). So the reference is made for those of a few candidates that are least sensitive to it, and says how much.
"""

import copy
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .probe import Probed

NOISE = 1e-6


@dataclass(frozen=True)
class Target:
    """One scalar per sample and its gradient.

    Attributes:
        output: The output of the network that it is made of: "logits" or "middle".
        value: [N], float64.
        gradient: The gradient of value[n] in row n, float64, in the shape of what was differentiated.
    """

    output: str
    value: NDArray[np.float64]
    gradient: NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """The truth about one network on one batch.

    Attributes:
        wrt: The input, or "embedding", that the gradients are with respect to.
        inputs: What went in, as drawn in float32 (or int64): the same numbers that the exported file gets.
        outputs: logits, middle (and embedding), float64.
        index: The unit of `logits`, without its batch axis.
        cotangent: Like `middle`, float32.
        unit: logits[n][index].
        product: The sum over a sample of middle * cotangent.
        sensitivity: The greatest relative L2 change of a sample's gradient when torch computes it in float32, and when the
            inputs move by 1e-6: what even a right float32 gradient may differ by.
    """

    wrt: str
    inputs: dict[str, NDArray[np.generic]]
    outputs: dict[str, NDArray[np.float64]]
    index: tuple[int, ...]
    cotangent: NDArray[np.float32]
    unit: Target
    product: Target
    sensitivity: float


@dataclass(frozen=True)
class _Run:
    outputs: dict[str, Tensor]
    values: dict[str, Tensor]
    gradients: dict[str, Tensor]


def reference(
    module: Probed, candidates: dict[str, Tensor], wrt: str = "image", *, keep: int = 2, seed: int = 0
) -> Reference:
    """Computes value and gradient of a random unit of the logits and of a random cotangent's product with the middle layer.

    Args:
        module: The network in float32; it stays as it is.
        candidates: Inputs, float32 or int64, of at least `keep` samples.
        wrt: The input to differentiate with respect to, or "embedding".
        keep: How many samples to keep: those with the least sensitivity.
        seed: Seeds the choice of unit and cotangent.

    Raises:
        ValueError: The network's value or gradient is no use as a reference: zero, or not finite.
    """
    with torch.no_grad():
        shapes = {name: output.shape for name, output in zip(module.output_names, module(*candidates.values()), strict=True)}
    generator = torch.Generator().manual_seed(zlib.crc32(f"{tuple(shapes['logits'][1:])}/{seed}".encode()))
    index = tuple(int(torch.randint(size, (), generator=generator)) for size in shapes["logits"][1:])
    cotangent = torch.randn(shapes["middle"], generator=generator)
    noise = {
        name: value + NOISE * torch.randn(value.shape, generator=generator, dtype=torch.float64)
        for name, value in candidates.items()
        if value.is_floating_point()
    }
    twin = copy.deepcopy(module).requires_grad_(requires_grad=False)
    float32 = _run(twin, candidates, wrt, index, cotangent)
    twin.double()
    exact = {name: value.double() if value.is_floating_point() else value for name, value in candidates.items()}
    truth = _run(twin, exact, wrt, index, cotangent)
    moved = _run(twin, {**exact, **noise}, wrt, index, cotangent) if noise else truth

    changes = torch.stack([_change(truth, other) for other in (float32, moved)]).amax(0)
    kept = changes.argsort(stable=True)[:keep].sort().values
    targets = {
        name: Target(name, truth.values[name][kept].numpy(), truth.gradients[name][kept].numpy()) for name in truth.values
    }
    return Reference(
        wrt=wrt,
        inputs={name: value[kept].numpy() for name, value in candidates.items()},
        outputs={name: value[kept].numpy() for name, value in truth.outputs.items()},
        index=index,
        cotangent=cotangent[kept].numpy(),
        unit=targets["logits"],
        product=targets["middle"],
        sensitivity=float(changes[kept].max()),
    )


def _run(module: Probed, inputs: dict[str, Tensor], wrt: str, index: tuple[int, ...], cotangent: Tensor) -> _Run:
    arguments = {name: value.clone() for name, value in inputs.items()}
    if wrt == "embedding":  # Its table makes the embedding's output part of autograd's graph.
        module.network.get_submodule(module.embedding_path or "").requires_grad_()
    else:
        arguments[wrt].requires_grad_()
    outputs = dict(zip(module.output_names, module(*arguments.values()), strict=True))
    source = outputs["embedding"] if wrt == "embedding" else arguments[wrt]
    values = {
        "logits": outputs["logits"][(slice(None), *index)],
        "middle": (outputs["middle"] * cotangent).flatten(1).sum(1),
    }
    # Samples do not see one another, so the gradient of the sum holds every sample's own.
    gradients = {name: torch.autograd.grad(value.sum(), source, retain_graph=True)[0] for name, value in values.items()}
    for name, value in values.items():
        norms = gradients[name].flatten(1).norm(dim=1)
        if not (torch.isfinite(value).all() and torch.isfinite(norms).all() and (norms > 0).all()):
            message = f"{name}: values {value.tolist()}, norms of the gradient {norms.tolist()}"
            raise ValueError(message)
    return _Run(
        {name: output.detach() for name, output in outputs.items()},
        {name: value.detach() for name, value in values.items()},
        gradients,
    )


def _change(truth: _Run, other: _Run) -> Tensor:
    """Returns every sample's greatest relative L2 change of a gradient."""
    return torch.stack(
        [
            (other.gradients[name].double() - gradient).flatten(1).norm(dim=1) / gradient.flatten(1).norm(dim=1)
            for name, gradient in truth.gradients.items()
        ]
    ).amax(0)
