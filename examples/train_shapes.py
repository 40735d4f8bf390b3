"""Trains the shape network, and two judges: networks that were trained independently of those whose pictures they judge.

    python examples/train_shapes.py [--models examples/models] [shapes shapes_judge digits_judge]

The shape network is a small ResNet in colour (`shapes_data.py`), the judges have other seeds, other widths and, for the
shapes, other pictures. All are trained as the digits are (`robust.py`). Takes half an hour on two cores; needs the `torch`
and `demo` extras.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import digits_data
import numpy as np
import shapes_data
import torch
import train_digits
from numpy.typing import NDArray
from robust import Normalized, Recipe, Residual, accuracy, attack, export, require_moved_statistics, train
from torch import Tensor, nn
from torch.nn import functional

REQUIRED_ACCURACY = 0.95


class ShapeNetwork(nn.Module):
    """A normalized image [N, 3, 48, 48] to logits [N, 12]: a ResNet of three stages.

    It pools by averaging, and reads the last stage position by position: a ring is where its parts are.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 5, stride=2, padding=2, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.block1 = Residual(width, width)
        self.block2 = Residual(width, 2 * width, stride=2)
        self.block3 = Residual(2 * width, 4 * width, stride=2)
        self.head = nn.Linear(4 * width * 3 * 3, len(shapes_data.LABELS))

    def forward(self, image: Tensor) -> Tensor:
        x = functional.relu(self.bn(self.conv(image)))
        x = self.block3(self.block2(self.block1(x)))
        return self.head(functional.avg_pool2d(x, 2).flatten(1))


def plain(count: int, generator: torch.Generator) -> Tensor:
    """One colour, with more or less noise: pictures of no shape."""
    size = shapes_data.IMAGE_SIZE
    ground = torch.rand(count, 3, 1, 1, generator=generator)
    deviation = 0.2 * torch.rand(count, 1, 1, 1, generator=generator)
    return (ground + deviation * torch.randn(count, 3, size, size, generator=generator)).clamp(0, 1)


@dataclass(frozen=True)
class Training:
    """One network."""

    network: Callable[[], nn.Module]
    data: Callable[[], Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]]]
    """The training and the test set."""
    labels: Sequence[str]
    recipe: Recipe
    nothing: Callable[[int, torch.Generator], Tensor]


TRAININGS = {
    "shapes": Training(
        lambda: ShapeNetwork(20),
        shapes_data.load,
        shapes_data.LABELS,
        Recipe(epochs=10, attack_radius=2.5, attack_steps=3),
        plain,
    ),
    "shapes_judge": Training(
        lambda: ShapeNetwork(16),
        lambda: shapes_data.load(1),
        shapes_data.LABELS,
        Recipe(epochs=8, attack_radius=2.0, attack_steps=2, seed=1),
        plain,
    ),
    "digits_judge": Training(
        lambda: train_digits.DigitNetwork(20),
        digits_data.load,
        [str(digit) for digit in range(10)],
        Recipe(epochs=14, attack_radius=2.5, attack_steps=3, seed=1),
        train_digits.blank,
    ),
}


def make(name: str, models: Path) -> None:
    """Trains one network, checks it, and writes its entry into a model repository."""
    training = TRAININGS[name]
    torch.manual_seed(training.recipe.seed)
    data, test = training.data()
    mean, std = (
        np.asarray(moment(data[0], axis=(0, 2, 3), dtype=np.float64)).round(4).tolist() for moment in (np.mean, np.std)
    )
    network = training.network()
    model = Normalized(network, *(torch.tensor(each, dtype=torch.float32).view(-1, 1, 1) for each in (mean, std)))
    train(model, tuple(data), training.recipe, training.nothing)
    pixels, labels = map(torch.from_numpy, test)
    clean = accuracy(model, pixels, labels)
    attacked = attack(model, pixels, labels, torch.full((len(labels), 1, 1, 1), 1.0), steps=20)
    print(f"{name}: test accuracy {clean:.2%}, {accuracy(model, attacked, labels):.2%} within L2 distance 1")
    if clean < REQUIRED_ACCURACY:
        message = f"{name}: test accuracy {clean:.2%} is below {REQUIRED_ACCURACY:.0%}"
        raise SystemExit(message)
    require_moved_statistics(network)
    folder = models / name
    shape = tuple(data[0].shape[1:])
    export(network, shape, folder / "1" / "model.onnx", keep_batchnorm=False)
    parameters = {
        "layout": "NCHW",
        "channels": "GREY" if shape[0] == 1 else "RGB",
        "range": "0 1",
        "mean": " ".join(map(str, mean)),
        "std": " ".join(map(str, std)),
    }
    classes = len(training.labels)
    lines = [
        f'name: "{name}"',
        'platform: "onnxruntime_onnx"',
        "max_batch_size: 64",
        f'input [ {{ name: "image" data_type: TYPE_FP32 dims: {list(shape)} }} ]',
        f'output [ {{ name: "logits" data_type: TYPE_FP32 dims: [ {classes} ] label_filename: "labels.txt" }} ]',
        "# Model input = (pixel - mean) / std, with pixels in range.",
        *(
            f'parameters {{ key: "gradserve.input.image.{key}" value: {{ string_value: "{value}" }} }}'
            for key, value in parameters.items()
        ),
    ]
    (folder / "config.pbtxt").write_text("\n".join(lines) + "\n")
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in training.labels))


def main() -> None:
    """Trains what is named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parent / "models"
    parser.add_argument("names", nargs="*", choices=[*TRAININGS, []], default=[], metavar="NAME")
    parser.add_argument("--models", type=Path, default=default, help="model repository to write into")
    options = parser.parse_args()
    torch.set_num_threads(2)
    for name in options.names or TRAININGS:
        make(name, options.models)


if __name__ == "__main__":
    main()
