"""What the networks of the examples are trained with, so that their gradients draw what a person can see.

They learn from adversarial examples (PGD in an L2 ball of pixel space, Madry et al. 2018) beside shifted, rotated and noisy
ones: input gradients then follow the shape of things instead of noise that a person cannot see (Tsipras et al. 2019).

Needs torch.
"""

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx_ir.passes import common as passes
from onnxscript import optimizer, rewriter
from onnxscript.rewriter.rules import common as rules
from torch import Tensor, nn
from torch.nn import functional


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut; the shortcut is projected where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != channels:
            self.shortcut.add_module("conv", nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False))
            self.shortcut.add_module("bn", nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


@dataclass(frozen=True)
class Recipe:
    """How a network is trained."""

    epochs: int
    attack_radius: float
    """L2, in pixel space; that of a sample is drawn from 0 to this."""
    attack_steps: int = 4
    batch_size: int = 64
    peak_learning_rate: float = 4e-3
    weight_decay: float = 1e-3
    max_shift: float = 2.0
    """Pixels."""
    max_rotation: float = 10.0
    """Degrees."""
    max_noise: float = 0.1
    """Standard deviation, of the pixel range."""
    outliers: int = 12
    """Images of nothing, added to each batch."""
    seed: int = 0


class Normalized(nn.Module):
    """The network behind `(pixel - mean) / std`: training and attacks think in pixels, the file does not."""

    def __init__(self, network: nn.Module, mean: float, std: float) -> None:
        super().__init__()
        self.network = network
        self.mean, self.std = mean, std

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network((pixels - self.mean) / self.std)


def augment(pixels: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Shifts, rotates and adds noise: another draw for each image."""
    n = len(pixels)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    angle = uniform(-recipe.max_rotation, recipe.max_rotation) * (math.pi / 180)
    shift = 2 * recipe.max_shift / pixels.shape[-1]  # grid_sample measures the image from -1 to 1
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = [cos, -sin, uniform(-shift, shift), sin, cos, uniform(-shift, shift)]
    grid = functional.affine_grid(torch.stack(rows, dim=1).view(n, 2, 3), list(pixels.shape), align_corners=False)
    moved = functional.grid_sample(pixels, grid, align_corners=False)
    noise = torch.randn(pixels.shape, generator=generator) * uniform(0, recipe.max_noise).view(n, 1, 1, 1)
    return (moved + noise).clamp(0, 1)


def l2_norm(x: Tensor) -> Tensor:
    """The L2 norm of each sample, shaped to divide it."""
    return x.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)


def attack(model: Normalized, pixels: Tensor, labels: Tensor, radius: Tensor, steps: int) -> Tensor:
    """Projected gradient descent in the L2 ball of each sample's `radius`; the network is used as it serves.

    That is in inference form: the attack must not move the running statistics.
    """
    model.eval()
    step_size = 2.5 / steps * radius
    adversarial = pixels
    for _ in range(steps):
        adversarial = adversarial.detach().requires_grad_()
        loss = functional.cross_entropy(model(adversarial), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, adversarial)
        with torch.no_grad():
            delta = adversarial + step_size * gradient / l2_norm(gradient) - pixels
            delta *= (radius / l2_norm(delta)).clamp_max(1)
            adversarial = (pixels + delta).clamp(0, 1)
    return adversarial.detach()


def accuracy(model: Normalized, pixels: Tensor, labels: Tensor) -> float:
    """The share of rightly classified samples, in inference form."""
    model.eval()
    with torch.no_grad():
        return (model(pixels).argmax(dim=1) == labels).double().mean().item()


def train(
    model: Normalized,
    data: tuple[NDArray[np.float32], NDArray[np.int64]],
    recipe: Recipe,
    nothing: Callable[[int, torch.Generator], Tensor],
) -> None:
    """AdamW with one learning-rate cycle.

    Args:
        model: To be trained in place.
        data: Pixels [N, C, H, W] in [0, 1], and labels [N].
        recipe: How.
        nothing: Makes so many images of no class. They are trained towards equal probabilities (outlier exposure, Hendrycks
            et al. 2019): without them an empty image is of some class, and there is nothing for an ascent to draw.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    pixels, labels = map(torch.from_numpy, data)
    classes = int(labels.max()) + 1
    batches = len(labels) // recipe.batch_size
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.peak_learning_rate, total_steps=recipe.epochs * batches, pct_start=0.2
    )
    equal = torch.full((recipe.outliers, classes), 1 / classes)
    start = time.perf_counter()
    for epoch in range(recipe.epochs):
        total_loss = 0.0
        order = torch.randperm(len(labels), generator=generator)
        for batch in order[: batches * recipe.batch_size].view(batches, recipe.batch_size):
            clean = torch.cat([augment(pixels[batch], recipe, generator), nothing(recipe.outliers, generator)])
            target = torch.cat([functional.one_hot(labels[batch], classes).float(), equal])
            radius = recipe.attack_radius * torch.rand(len(clean), 1, 1, 1, generator=generator)
            adversarial = attack(model, clean, target, radius, recipe.attack_steps)
            model.train()
            loss = functional.cross_entropy(model(adversarial), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total_loss += loss.item()
        elapsed = time.perf_counter() - start
        print(f"epoch {epoch + 1:2}/{recipe.epochs}  loss {total_loss / batches:.3f}  {elapsed:4.0f} s", flush=True)
    model.eval()


def require_moved_statistics(network: nn.Module) -> None:
    """Fails where a BatchNorm still has the statistics it was made with (mean 0, variance 1)."""
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            mean_moved = module.running_mean.abs().max().item()
            variance_moved = (module.running_var - 1).abs().max().item()
            if min(mean_moved, variance_moved) < 0.1:
                message = f"{name}: training did not move the running statistics"
                raise SystemExit(message)


def name_tensors(model: onnx_ir.Model) -> None:
    """Names the outputs of the nodes by operator and order: relu1, relu2, pool1, ...

    A tensor has the same name in both files: where BatchNorm is folded, a convolution computes `bn1`.
    """
    prefixes = {"Relu": "relu", "AveragePool": "pool", "Add": "add", "Reshape": "flatten"}
    operators = {node.op_type for node in model.graph}
    if "BatchNormalization" in operators:
        prefixes |= {"Conv": "conv", "BatchNormalization": "bn"}
    else:
        prefixes |= {"Conv": "bn"}
    counts = Counter()
    for node in model.graph:
        if prefix := prefixes.get(node.op_type):
            counts[prefix] += 1
            node.outputs[0].name = f"{prefix}{counts[prefix]}"
        node.name = node.outputs[0].name


def export(network: nn.Module, shape: tuple[int, ...], path: Path, *, keep_batchnorm: bool) -> None:
    """Writes the network as ONNX, weights inside, batch size symbolic.

    Args:
        network: The network, in inference form.
        shape: Of one image.
        path: The file to write.
        keep_batchnorm: Whether BatchNormalization nodes stay. Torch's exporter folds them into the
            convolutions when it optimizes, so then only its constants are folded.
    """
    program = torch.onnx.export(
        network,
        (torch.zeros(2, *shape),),
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        optimize=not keep_batchnorm,
        verbose=False,
    )
    model = program.model
    if keep_batchnorm:
        optimizer.fold_constants(model, onnx_shape_inference=True)
        rewriter.rewrite(model, [rules.materialize_reshape_shape_rule, rules.remove_optional_bias_from_conv_rule])
        optimizer.remove_unused_nodes(model)
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.ClearMetadataAndDocStringPass()(model)  # the exporter's stack traces: as long as the small weights
    name_tensors(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx_ir.save(model, path)
    onnx.checker.check_model(onnx.load(path), full_check=True)


def all_tensors(path: Path, image: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Runs the file in onnxruntime with the output of every node as an output."""
    model = onnx.load(path)
    known = {output.name for output in model.graph.output}
    names = [name for node in model.graph.node for name in node.output]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, {"image": image}), strict=True))


def require_agreement(network: nn.Module, folded: Path, unfolded: Path, image: Tensor) -> None:
    """Fails unless both files give torch's logits, and tensors of one name in both have one value."""
    with torch.no_grad():
        expected = network(image).numpy()
    ours, theirs = all_tensors(folded, image.numpy()), all_tensors(unfolded, image.numpy())
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-4, err_msg=name)
    for logits in (ours["logits"], theirs["logits"]):
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
