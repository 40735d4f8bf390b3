"""Scenario E: the picture of probability 1, and what ten filters of every convolution ask for.

    python examples/scenario_e_probability_one.py [--model FOLDER] [--unit 4] [--steps 2000] [--output out]

Two commands, and what they drew as one picture. From an image of zeros, in the network's space, the logit of a unit is
maximized by Adam; then, for each convolution, the sum of squares of each of its first ten filters' maps, 300 rounds each.

By default on the shape network that was trained here, whose units mean something: half a minute. The original's network is
VGG-16; its weights cannot be fetched here, and seeded ones take hours on two cores:

    python examples/make_vgg16.py models/vgg16
    python examples/scenario_e_probability_one.py --model models/vgg16 --unit 144

Needs the `demo` extra.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

from gradserve import ImageDescription
from gradserve.cli import main as gradserve
from gradserve_server import Engine

EXAMPLES = Path(__file__).resolve().parent
GRID_STEPS = 300
LEVEL = 255
"""The rate is one level of so many, as in the original, whatever the range of pixels."""


def command(*words: str) -> None:
    """Runs it, and says what it is."""
    print("gradserve", *words)
    if status := gradserve(list(words)):
        raise SystemExit(status)


def probability(engine: Engine, model: str, path: Path, unit: int) -> float:
    """Of the unit, for the picture as its pixels are."""
    image = described(engine, model)
    name = engine.inspect(model).inputs[0].name
    outputs = engine.inspect(model).outputs
    (scores,) = engine.infer(model, {name: image.normalize(np.load(path))}, outputs=[outputs[0].name]).values()
    if outputs[0].name == "probabilities":
        return float(scores[0, unit])
    powers = np.exp(scores[0].astype(np.float64) - scores[0].max())
    return float(powers[unit] / powers.sum())


def described(engine: Engine, model: str) -> ImageDescription:
    """What the pixels of the model are."""
    image = engine.inspect(model).inputs[0].image
    assert image is not None
    return image


def draw(output: Path, title: str) -> Path:
    """Both pictures as one."""
    figure, axes = plt.subplots(1, 2, figsize=(12, 7), width_ratios=(1, 1.6), layout="constrained")
    for axis, name in zip(axes, ("unit", "filters"), strict=True):
        axis.imshow(plt.imread(output / f"scenario_e_{name}.png"))
        axis.set_axis_off()
    axes[0].set_title(title)
    axes[1].set_title("ten filters of each convolution: sum of squares")
    path = output / "scenario_e.png"
    figure.savefig(path, dpi=110)
    return path


def main() -> None:
    """Both commands, the probability, the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(EXAMPLES / "models" / "shapes"), help="(default: %(default)s)")
    parser.add_argument("--unit", type=int, default=4, help="0-based (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=2000, help="of the unit (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("out"), help="folder of the pictures (default: %(default)s)")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    unit, filters = (str(options.output / f"scenario_e_{name}") for name in ("unit", "filters"))
    with Engine(options.model) as engine:
        model = engine.models()[0].name
        image = described(engine, model)
        steps = ("--start", "mean", "--optimizer", "adam", "--learning-rate", str((image.high - image.low) / LEVEL))
        command(
            "ascend", options.model, "--objective", f"logits:{options.unit}", "--steps", str(options.steps), *steps,
            "-o", f"{unit}.png", f"{unit}.npy",
        )  # fmt: skip
        reached = probability(engine, model, Path(f"{unit}.npy"), options.unit)
    print(f"probability of unit {options.unit}: {reached:.6f}")
    command(
        "grid",
        options.model,
        "--objective-kind",
        "channel_energy",
        "--steps",
        str(GRID_STEPS),
        *steps,
        "-o",
        f"{filters}.png",
    )
    print(draw(options.output, f"unit {options.unit}: probability {reached:.4f}"))


if __name__ == "__main__":
    main()
