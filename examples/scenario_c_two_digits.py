"""Scenario C: what does a network that tells 1 from 7 really look for?

    python examples/scenario_c_two_digits.py [--output out]

Trains the network (convolutions of 20 and 50 channels, two dense layers, softmax; Adadelta, 8 epochs) on the ones and
sevens of scikit-learn's digits, exports it, and asks it by gradserve alone: about strokes drawn here, about a one on its way
through the picture, about the image that each class wants, and which pixels of a stroke it goes by. Needs the `demo` and
`torch` extras; a minute.
"""

import argparse
import tempfile
from pathlib import Path

import digits_data
import numpy as np
import torch
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import nn

import gradserve
from gradserve import objectives as O
from gradserve import transforms as T
from gradserve.numbers import Uniform
from gradserve_server import Engine

SIZE = digits_data.IMAGE_SIZE
CLASSES = (1, 7)
MODEL = "one_or_seven"
SHIFTS = range(-6, 7)
"""Pixels, each way."""
COPIES = 20
"""Copies of each digit that the network learns from, moved by a pixel at most."""

Pixels = NDArray[np.float32]


def train() -> nn.Module:
    """The network of the scenario, and how many of the test digits it knows."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    (pixels, labels), (test, truth) = (
        (digits.pixels[chosen], (digits.labels[chosen] == CLASSES[1]).astype(np.int64))
        for digits in digits_data.load()
        for chosen in [np.isin(digits.labels, CLASSES)]
    )
    shifts = random.integers(-1, 2, (COPIES, len(pixels), 2))
    images = np.concatenate([[np.roll(x, shift, (1, 2)) for x, shift in zip(pixels, row, strict=True)] for row in shifts])
    x, y = torch.from_numpy(images), torch.from_numpy(np.tile(labels, COPIES))
    network = nn.Sequential(
        *(nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(800, 256), nn.ReLU(), nn.Linear(256, 2)),
    )
    optimizer = torch.optim.Adadelta(network.parameters())
    for _ in range(8):
        for batch in torch.randperm(len(x)).split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
    network.eval()
    with torch.no_grad():
        right = (network(torch.from_numpy(test)).argmax(1).numpy() == truth).mean()
    print(f"the network tells {right:.2%} of {len(test)} ones and sevens that it has not seen")
    return network


def export(network: nn.Module, folder: Path) -> None:
    """A model repository with the network in it: logits, and the softmax behind them."""
    (folder / MODEL / "1").mkdir(parents=True)

    class Both(nn.Module):
        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            logits = network(image)
            return logits, logits.softmax(1)

    torch.onnx.export(
        Both().eval(),
        (torch.zeros(2, 1, SIZE, SIZE),),
        str(folder / MODEL / "1/model.onnx"),
        input_names=["image"],
        output_names=["logits", "probabilities"],
        dynamic_shapes=({0: torch.export.Dim("N")},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    keys = {"layout": "NCHW", "channels": "GREY", "range": "0 1"}
    lines = [
        f'parameters {{ key: "gradserve.input.image.{key}" value: {{ string_value: "{value}" }} }}'
        for key, value in keys.items()
    ]
    (folder / MODEL / "config.pbtxt").write_text("\n".join(lines) + "\n")


def strokes() -> dict[str, Pixels]:
    """What a person draws to find out."""
    lines = {
        "a one": [((14, 5), (14, 23)), ((10, 9), (14, 5))],
        "a seven": [((8, 6), (20, 6)), ((20, 6), (12, 23))],
        "a bar": [((8, 6), (20, 6))],
        "an upright": [((14, 5), (14, 23))],
        "a slant": [((20, 6), (12, 23))],
        "a one on a base": [((14, 5), (14, 23)), ((10, 9), (14, 5)), ((9, 23), (19, 23))],
        "nothing": [],
    }
    drawn = {}
    for name, segments in lines.items():
        canvas = Image.new("L", (SIZE * 8, SIZE * 8))
        pen = ImageDraw.Draw(canvas)
        for start, end in segments:
            pen.line([(8 * start[0], 8 * start[1]), (8 * end[0], 8 * end[1])], fill=255, width=22, joint="curve")
        small = canvas.resize((SIZE, SIZE), Image.Resampling.BOX)
        drawn[name] = np.asarray(small, np.float32)[None] / 255
    return drawn


def sweep(engine: Engine, stroke: Pixels) -> NDArray[np.float32]:
    """The probability of a seven for a stroke at each place, [shifts down, shifts right]."""
    moved = np.stack([np.roll(stroke, (down, right), (1, 2)) for down in SHIFTS for right in SHIFTS])
    return engine.infer(MODEL, {"image": moved})["probabilities"][:, 1].reshape(len(SHIFTS), len(SHIFTS))


def imagined(engine: Engine, index: int, *, robust: bool) -> Pixels:
    """The picture that a class asks for: alone, or wherever it is moved a little."""
    transforms = (T.Pad(3), T.Jitter(6), T.Scale(Uniform(0.9, 1.1)), T.Rotate(Uniform(-8, 8)), T.Crop(SIZE, SIZE))
    # Both classes at once: what speaks for one and not for the other.
    objective = O.unit("logits", index) - O.unit("logits", 1 - index)
    settings = gradserve.AscentSettings(
        steps=256,
        start=0.0,
        optimizer=gradserve.Adam(0.02),
        transforms=transforms if robust else (),
        weight_decay=0.02 if robust else 0.0,
    )
    *_, last = engine.ascend(MODEL, objective, **settings)
    assert last.image is not None
    return last.image[0]


def main() -> None:
    """Trains, asks, prints and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("out"), help="folder of the picture (default: %(default)s)")
    output: Path = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        export(train(), Path(folder))
        with Engine(folder) as engine:
            draw(engine, output / "scenario_c.png")
    print(f"{output / 'scenario_c.png'}")


def draw(engine: Engine, path: Path) -> None:
    """Everything in one picture: strokes, their gradients, the sweeps, the imagined digits."""
    drawn = strokes()
    x = np.stack(list(drawn.values()))
    probabilities = engine.infer(MODEL, {"image": x})["probabilities"]
    seven_not_one = O.unit("logits", 1) - O.unit("logits", 0)
    gradients = engine.gradient(MODEL, {"image": x}, seven_not_one).gradients["image"]
    figure, axes = plt.subplots(3, len(drawn), figsize=(2 * len(drawn), 6.6), layout="constrained")
    for axis in axes.flat:
        axis.set_axis_off()
    for column, (name, (one, seven)) in enumerate(zip(drawn, probabilities, strict=True)):
        print(f"{name:16} one {one:.5f}  seven {seven:.5f}")
        axes[0, column].imshow(x[column, 0], cmap="gray")
        axes[0, column].set_title(f"{name}\n1: {one:.3f}   7: {seven:.3f}", fontsize=9)
        most = np.abs(gradients[column, 0]).max() or 1
        axes[1, column].imshow(gradients[column, 0], cmap="coolwarm", vmin=-most, vmax=most)
        axes[1, column].set_title("red: more ink, more 7", fontsize=8)
    for column, name in enumerate(("a one", "a one on a base", "a bar")):
        axes[2, column].imshow(sweep(engine, drawn[name]), cmap="coolwarm", vmin=0, vmax=1, extent=[-6.5, 6.5, 6.5, -6.5])
        axes[2, column].set_title(f"{name}, moved:\nprobability of a 7", fontsize=9)
        axes[2, column].set_axis_on()
    for column, (index, robust) in enumerate(((0, False), (1, False), (0, True), (1, True)), start=3):
        picture = imagined(engine, index, robust=robust)
        shown = engine.infer(MODEL, {"image": picture[None]})["probabilities"][0, index]
        kind = "wherever it is" if robust else "as it likes"
        print(f"imagined {CLASSES[index]}, {kind}: {shown:.5f}")
        axes[2, column].imshow(picture[0], cmap="gray", vmin=0, vmax=1)
        axes[2, column].set_title(f"imagined {CLASSES[index]},\n{kind}: {shown:.3f}", fontsize=9)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
