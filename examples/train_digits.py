"""Trains the digit network and exports it into `models/`: once folded, once with its BatchNorm nodes left in.

    python examples/train_digits.py [--models models] [--epochs 24]

The network is a small residual CNN with BatchNorm. It is trained on adversarial examples (PGD in an L2 ball
of pixel space, Madry et al. 2018) beside shifted, rotated and noisy ones: its input gradients then follow
the shape of a digit instead of noise that a person cannot see (Tsipras et al. 2019), which is what makes
gradient ascent on its logits draw digits. Takes a few minutes on two cores; needs the `torch` and `demo`
extras.
"""

import argparse
import math
import time
from collections import Counter
from pathlib import Path

import digits_data
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

SEED = 0
CLASSES = 10
EPOCHS = 24
BATCH_SIZE = 64
PEAK_LEARNING_RATE = 4e-3
WEIGHT_DECAY = 1e-3

ATTACK_RADIUS = 3.0  # L2, in pixel space, where a digit is on average 4.8 from the nearest one of another class
ATTACK_STEPS = 4

MAX_SHIFT = 2.0  # pixels
MAX_ROTATION = 10.0  # degrees
MAX_NOISE = 0.1  # standard deviation, of the pixel range

OUTLIERS = 12  # blank images added to each batch

REQUIRED_ACCURACY = 0.97


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


class Stem(nn.Module):
    """The first convolution, on the full 28x28 image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, channels, 5, padding=2, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))


class DigitNetwork(nn.Module):
    """A normalized image [N, 1, 28, 28] to logits [N, 10]; 109,000 parameters.

    It pools by averaging: on the black ground of a digit every window of a max-pool would be a tie, and the
    gradient would depend on rounding.
    """

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.stem = Stem(width)
        self.block1 = Residual(width, width)
        self.block2 = Residual(width, 2 * width, stride=2)
        self.block3 = Residual(2 * width, 2 * width)
        self.head = nn.Linear(2 * width * 7 * 7, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        x = functional.avg_pool2d(self.stem(image), 2)
        x = self.block3(self.block2(self.block1(x)))
        return self.head(x.flatten(1))


class Normalized(nn.Module):
    """The network behind `(pixel - mean) / std`: training and attacks think in pixels, the file does not."""

    def __init__(self, network: DigitNetwork, mean: float, std: float) -> None:
        super().__init__()
        self.network = network
        self.mean, self.std = mean, std

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network((pixels - self.mean) / self.std)


def augment(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Shifts, rotates and adds noise: another draw for each image."""
    n = len(pixels)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    angle = uniform(-MAX_ROTATION, MAX_ROTATION) * (math.pi / 180)
    shift = 2 * MAX_SHIFT / pixels.shape[-1]  # grid_sample measures the image from -1 to 1
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = [cos, -sin, uniform(-shift, shift), sin, cos, uniform(-shift, shift)]
    grid = functional.affine_grid(torch.stack(rows, dim=1).view(n, 2, 3), list(pixels.shape), align_corners=False)
    moved = functional.grid_sample(pixels, grid, align_corners=False)
    noise = torch.randn(pixels.shape, generator=generator) * uniform(0, MAX_NOISE).view(n, 1, 1, 1)
    return (moved + noise).clamp(0, 1)


def blank(n: int, generator: torch.Generator) -> Tensor:
    """Grey noise on dark or grey ground: images of no digit.

    Trained towards equal probabilities (outlier exposure, Hendrycks et al. 2019). Without them an empty image
    is a 1, the digit with the least ink, and there is nothing for an ascent towards 1 to draw.
    """
    level = torch.rand(n, 1, 1, 1, generator=generator) ** 2
    noise = torch.randn(n, 1, digits_data.IMAGE_SIZE, digits_data.IMAGE_SIZE, generator=generator)
    return (level + MAX_NOISE * noise).clamp(0, 1)


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


def train(model: Normalized, data: digits_data.Digits, epochs: int) -> None:
    """AdamW with one learning-rate cycle; a sample's attack radius is uniform in [0, ATTACK_RADIUS]."""
    generator = torch.Generator().manual_seed(SEED)
    pixels, labels = torch.from_numpy(data.pixels), torch.from_numpy(data.labels)
    batches = len(labels) // BATCH_SIZE
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_LEARNING_RATE, total_steps=epochs * batches, pct_start=0.2
    )
    equal = torch.full((OUTLIERS, CLASSES), 1 / CLASSES)
    start = time.perf_counter()
    for epoch in range(epochs):
        total_loss = 0.0
        order = torch.randperm(len(labels), generator=generator)
        for batch in order[: batches * BATCH_SIZE].view(batches, BATCH_SIZE):
            clean = torch.cat([augment(pixels[batch], generator), blank(OUTLIERS, generator)])
            target = torch.cat([functional.one_hot(labels[batch], CLASSES).float(), equal])
            radius = ATTACK_RADIUS * torch.rand(len(clean), 1, 1, 1, generator=generator)
            adversarial = attack(model, clean, target, radius, ATTACK_STEPS)
            model.train()
            loss = functional.cross_entropy(model(adversarial), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total_loss += loss.item()
        elapsed = time.perf_counter() - start
        print(f"epoch {epoch + 1:2}/{epochs}  loss {total_loss / batches:.3f}  {elapsed:4.0f} s", flush=True)


def require_moved_statistics(network: DigitNetwork) -> None:
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


def export(network: DigitNetwork, path: Path, *, keep_batchnorm: bool) -> None:
    """Writes the network as ONNX, weights inside, batch size symbolic.

    Args:
        network: The network, in inference form.
        path: The file to write.
        keep_batchnorm: Whether BatchNormalization nodes stay. Torch's exporter folds them into the
            convolutions when it optimizes, so then only its constants are folded.
    """
    program = torch.onnx.export(
        network,
        (torch.zeros(2, 1, digits_data.IMAGE_SIZE, digits_data.IMAGE_SIZE),),
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


def require_agreement(network: DigitNetwork, folded: Path, unfolded: Path, image: Tensor) -> None:
    """Fails unless both files give torch's logits, and tensors of one name in both have one value."""
    with torch.no_grad():
        expected = network(image).numpy()
    ours, theirs = all_tensors(folded, image.numpy()), all_tensors(unfolded, image.numpy())
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-4, err_msg=name)
    for logits in (ours["logits"], theirs["logits"]):
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def write_config(folder: Path, mean: float, std: float) -> None:
    """Writes Triton's model configuration, with gradserve's description of the pixels, and the labels."""
    parameters = {
        "gradserve.input.image.layout": "NCHW",
        "gradserve.input.image.channels": "GREY",
        "gradserve.input.image.range": "0 1",
        "gradserve.input.image.mean": f"{mean}",
        "gradserve.input.image.std": f"{std}",
    }
    lines = [
        f'name: "{folder.name}"',
        'platform: "onnxruntime_onnx"',
        "max_batch_size: 64",
        'input [ { name: "image" data_type: TYPE_FP32 dims: [ 1, 28, 28 ] } ]',
        'output [ { name: "logits" data_type: TYPE_FP32 dims: [ 10 ] label_filename: "labels.txt" } ]',
        "# Model input = (pixel - mean) / std, with pixels in range.",
        *(f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}' for key, value in parameters.items()),
    ]
    (folder / "config.pbtxt").write_text("\n".join(lines) + "\n")
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in range(CLASSES)))


def main() -> None:
    """Trains, checks, exports twice and describes the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parents[1]
    parser.add_argument("--models", type=Path, default=root / "models", help="model repository to write into")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    arguments = parser.parse_args()

    torch.manual_seed(SEED)
    torch.set_num_threads(2)
    training, test = digits_data.load()
    mean, std = round(float(training.pixels.mean()), 4), round(float(training.pixels.std()), 4)
    network = DigitNetwork()
    model = Normalized(network, mean, std)
    train(model, training, arguments.epochs)

    pixels, labels = torch.from_numpy(test.pixels), torch.from_numpy(test.labels)
    clean = accuracy(model, pixels, labels)
    print(f"test accuracy {clean:.2%} on {len(labels)} digits")
    for radius in (1.0, 2.0):
        attacked = attack(model, pixels, labels, torch.full((len(labels), 1, 1, 1), radius), steps=20)
        print(f"test accuracy {accuracy(model, attacked, labels):.2%} within L2 distance {radius}")
    if clean < REQUIRED_ACCURACY:
        message = f"test accuracy {clean:.2%} is below {REQUIRED_ACCURACY:.0%}"
        raise SystemExit(message)
    require_moved_statistics(network)

    model.eval()
    folded = arguments.models / "digits" / "1" / "model.onnx"
    unfolded = arguments.models / "digits_batchnorm" / "1" / "model.onnx"
    export(network, folded, keep_batchnorm=False)
    export(network, unfolded, keep_batchnorm=True)
    require_agreement(network, folded, unfolded, (pixels - mean) / std)
    for path in (folded, unfolded):
        write_config(path.parents[1], mean, std)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
