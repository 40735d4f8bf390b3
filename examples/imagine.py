"""What does each class look like to a network, and does anybody else agree?

    python examples/imagine.py [--output docs/images]

For every class of the digits and of the shapes, two pictures by gradient ascent: a *free* one, pixel by pixel and without
bounds, and a *robust* one within the colours of a picture, whose spectrum changes while it is moved, turned and scaled in
each step. The table says how soon the free one reaches a probability of 0.9999, and what is left of the probability when a
picture is saved in 8 bits, moved by three pixels, turned by ten degrees, or shown to a judge: a network that was trained
independently (`train_shapes.py`). Needs the `demo` extra.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

import gradserve
from gradserve import Adam, Noise, images
from gradserve import objectives as O
from gradserve import transforms as T
from gradserve.numbers import Linear, Uniform
from gradserve.parameterizations import Fourier
from gradserve_server import Engine

ROOT = Path(__file__).resolve().parents[1]
SURE = 0.9999
STEPS = 512
SHIFT, TURN = 3, 10.0
"""Pixels, each way along both axes; degrees, both ways."""

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Study:
    """A network, who judges its pictures, and how much to move them while they are made."""

    name: str
    repository: Path
    judge: str
    jitter: int
    zoom: int


STUDIES = (
    Study("digits", ROOT / "models", "digits_judge", jitter=3, zoom=5),
    Study("shapes", ROOT / "examples/models", "shapes_judge", jitter=5, zoom=3),
)
JUDGES = ROOT / "examples/models"


class Network:
    """A model that tells probabilities of pixels in [0, 1]."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine, self.name = engine, name
        tensor = engine.inspect(name).input("image")
        assert tensor.image is not None
        self.description, self.shape = tensor.image, tuple(int(size) for size in tensor.shape[1:] if size is not None)
        self.labels = engine.inspect(name).outputs[0].labels

    def probabilities(self, pixels: Pixels) -> NDArray[np.float64]:
        """[N, classes]."""
        logits = self.engine.infer(self.name, {"image": self.description.normalize(pixels)})["logits"].astype(np.float64)
        powers = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(powers / powers.sum(1, keepdims=True))


def free(network: Network, label: int) -> tuple[Pixels, int]:
    """A picture made pixel by pixel, and the step at which it was as good as certain."""
    settings = gradserve.AscentSettings(
        steps=STEPS, start=Noise(0.05), optimizer=Adam(0.05), bounds=(-np.inf, np.inf), seed=label, image_every=1
    )
    sure = STEPS + 1
    for step in network.engine.ascend(network.name, O.unit("logits", label), **settings):
        assert step.image is not None
        if network.probabilities(step.image)[0, label] >= SURE:
            sure = min(sure, step.index)
        pixels = step.image
    return pixels, sure


def robust(network: Network, label: int, jitter: int) -> Pixels:
    """A picture whose spectrum changes while it is moved, turned and scaled."""
    channels, height, width = network.shape
    settings = gradserve.AscentSettings(
        steps=STEPS,
        seed=label,
        parameterization=Fourier() if channels == 3 else Fourier(colours=()),
        start=Noise(0.02),
        transforms=(
            T.Pad(jitter),
            T.Jitter(2 * jitter),
            T.Scale(Uniform(0.9, 1.1)),
            T.Rotate(Uniform(-TURN, TURN)),
            T.Crop(height, width),
            T.Noisy(0.05),
        ),
        optimizer=Adam(Linear(0.05, 0.005)),
    )
    *_, last = network.engine.ascend(network.name, O.unit("logits", label), **settings)
    assert last.image is not None
    return last.image


def moved(pixels: Pixels) -> Pixels:
    """The picture moved each way by `SHIFT`, its edge repeated. [8, C, H, W]."""
    padded = np.pad(pixels, ((0, 0), (0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)), mode="edge")
    height, width = pixels.shape[2:]
    offsets = [(y, x) for y in (0, SHIFT, 2 * SHIFT) for x in (0, SHIFT, 2 * SHIFT) if (y, x) != (SHIFT, SHIFT)]
    return np.concatenate([padded[:, :, y : y + height, x : x + width] for y, x in offsets])


def turned(pixels: Pixels) -> Pixels:
    """The picture turned both ways by `TURN`, by Pillow; its corners are filled with the mean of its edge. [2, C, H, W]."""
    edge = np.concatenate([pixels[0, :, 0], pixels[0, :, -1], pixels[0, :, :, 0], pixels[0, :, :, -1]], axis=1).mean(1)

    def turn(plane: Pixels, fill: float, degrees: float) -> Pixels:
        return np.asarray(Image.fromarray(plane).rotate(degrees, Image.Resampling.BILINEAR, fillcolor=float(fill)))

    return np.stack(
        [np.stack([turn(plane, fill, by) for plane, fill in zip(pixels[0], edge, strict=True)]) for by in (-TURN, TURN)]
    )


def scores(network: Network, judge: Network, pixels: Pixels, label: int) -> list[float]:
    """Probabilities: as it is, saved, and that moved, turned (means), and by the judge."""
    saved = (pixels.clip(0, 1) * 255).round() / np.float32(255)
    of = [(network, pixels), (network, saved), (network, moved(saved)), (network, turned(saved)), (judge, saved)]
    return [float(who.probabilities(shown)[:, label].mean()) for who, shown in of]


def study(one: Study, output: Path, console: Console) -> None:
    """Makes the pictures of one network, and prints what they are worth."""
    with Engine(one.repository) as engine, Engine(JUDGES) as judges:
        network, judge = Network(engine, one.name), Network(judges, one.judge)
        table = Table(title=f"{one.name}: probability of the class that was asked for")
        for heading in ("class", "steps to 0.9999", *(f"{kind} {what}" for kind in ("free", "robust") for what in WHAT)):
            table.add_column(heading, justify="right" if table.columns else "left")
        tiles: dict[str, list[tuple[Image.Image, str]]] = {"free": [], "robust": []}
        rows = []
        for label, name in enumerate(track(network.labels, one.name, console=Console(stderr=True))):
            first, sure = free(network, label)
            pictures = {"free": first, "robust": robust(network, label, one.jitter)}
            told = {kind: scores(network, judge, pixels, label) for kind, pixels in pictures.items()}
            rows.append([sure, *told["free"], *told["robust"]])
            for kind, pixels in pictures.items():
                picture = images.enlarge(images.to_picture(pixels[0], network.description), one.zoom)
                tiles[kind].append((picture, f"{name}: judge {told[kind][-1]:.0%}"))
            table.add_row(name, str(sure), *(f"{share:.3f}" for share in rows[-1][1:]))
        mean, worst = np.mean(rows, axis=0), np.max([row[0] for row in rows])
        table.add_section()
        table.add_row("mean; most steps", str(worst), *(f"{share:.3f}" for share in mean[1:]))
        console.print(table)
        for kind, made in tiles.items():
            images.contact_sheet(made, columns=len(made) // 2).save(output / f"imagined_{one.name}_{kind}.png")


WHAT = ("exact", "saved", "moved", "turned", "judge")


def main() -> None:
    """Runs every study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "out", help="folder of the pictures (default: %(default)s)")
    parser.add_argument("--only", choices=[one.name for one in STUDIES], help="one network")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for one in STUDIES:
        if options.only in (None, one.name):
            study(one, options.output, Console(width=140))


if __name__ == "__main__":
    main()
