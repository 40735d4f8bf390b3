"""Trains the digit network and exports it into `models/`: once folded, once with its BatchNorm nodes left in.

    python examples/train_digits.py [--models models] [--epochs 24]

The network is a small residual CNN with BatchNorm. It is trained on adversarial examples (PGD in an L2 ball
of pixel space, Madry et al. 2018) beside shifted, rotated and noisy ones: its input gradients then follow
the shape of a digit instead of noise that a person cannot see (Tsipras et al. 2019), which is what makes
gradient ascent on its logits draw digits. Takes a few minutes on two cores; needs the `torch` and `demo`
extras.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import digits_data
import torch
from robust import Normalized, Recipe, Residual, accuracy, attack, export, require_agreement, require_moved_statistics, train
from torch import Tensor, nn
from torch.nn import functional

SEED = 0
CLASSES = 10
SHAPE = (1, digits_data.IMAGE_SIZE, digits_data.IMAGE_SIZE)

RECIPE = Recipe(
    epochs=24,
    attack_radius=3.0,  # a digit is on average 4.8 from the nearest one of another class
    seed=SEED,
)

REQUIRED_ACCURACY = 0.97


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


def blank(n: int, generator: torch.Generator) -> Tensor:
    """Grey noise on dark or grey ground: images of no digit.

    Without them an empty image is a 1, the digit with the least ink.
    """
    level = torch.rand(n, 1, 1, 1, generator=generator) ** 2
    noise = torch.randn(n, 1, digits_data.IMAGE_SIZE, digits_data.IMAGE_SIZE, generator=generator)
    return (level + RECIPE.max_noise * noise).clamp(0, 1)


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
    parser.add_argument("--epochs", type=int, default=RECIPE.epochs)
    arguments = parser.parse_args()

    torch.manual_seed(SEED)
    torch.set_num_threads(2)
    training, test = digits_data.load()
    mean, std = round(float(training.pixels.mean()), 4), round(float(training.pixels.std()), 4)
    network = DigitNetwork()
    model = Normalized(network, mean, std)
    train(model, training, replace(RECIPE, epochs=arguments.epochs), blank)

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
    export(network, SHAPE, folded, keep_batchnorm=False)
    export(network, SHAPE, unfolded, keep_batchnorm=True)
    require_agreement(network, folded, unfolded, (pixels - mean) / std)
    for path in (folded, unfolded):
        write_config(path.parents[1], mean, std)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
